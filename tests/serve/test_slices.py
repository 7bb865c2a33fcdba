"""One expensive request (fault 36): others are answered between its jobs, and it ends with its client."""

from __future__ import annotations

import copy
import http.client
import queue
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from facewright.gallery.gallery import Gallery
from facewright.recognition import Recognizer
from facewright.serve import server as servers
from facewright.serve.app import create_app
from facewright.serve.service import Models
from facewright.serve.settings import Limits, Settings
from fixtures.faces import saved, small_bundle
from fixtures.photos import jpeg

LONG = 600  # s: only a broken server takes this


class Gated:
    """Lets the detections of a recognizer begin one by one."""

    def __init__(self, recognizer: Recognizer) -> None:
        self.begun: queue.Queue[str] = queue.Queue()
        self.gate = threading.Semaphore(0)
        for name in ("search", "pick"):
            setattr(recognizer, name, self._gated(name, getattr(recognizer, name)))

    def _gated(self, name: str, work: Any) -> Any:
        def call(*args: Any, **more: Any) -> Any:
            self.begun.put(name)
            self.gate.acquire()
            return work(*args, **more)

        return call


@pytest.fixture(scope="module")
def recognizer(tmp_path_factory: Any) -> tuple[Recognizer, Path]:
    folder = tmp_path_factory.mktemp("model")
    return Recognizer.load(saved(folder, small_bundle(()))), folder


@pytest.fixture
def slow(serving: Any, tmp_path: Path) -> Iterator[tuple[int, Gated]]:
    """A server whose detector waits for the test, with a gallery."""
    gallery = Gallery.for_enrolling(tmp_path / "people.gallery", saved(tmp_path, small_bundle(())))
    gated = Gated(gallery.recognizer)
    settings = Settings(port=0, limits=Limits(stop_seconds=1.0))
    with serving(create_app(Models("small", gallery.recognizer, None, gallery), settings), settings) as port:
        yield port, gated
        for _ in range(1_000):
            gated.gate.release()


def enroll(port: int, seeds: range) -> httpx.Response:
    photos = [("photo", (f"{seed}.jpg", jpeg(seed))) for seed in seeds]
    address = f"http://127.0.0.1:{port}/v1/gallery/enroll"
    return httpx.post(address, files=photos, data={"person": "Ann"}, timeout=None)


def test_others_are_answered_between_the_images_of_an_enrolment(slow: tuple[int, Gated]) -> None:
    port, gated = slow
    answers: list[httpx.Response] = []
    first = threading.Thread(target=lambda: answers.append(enroll(port, range(6))))
    first.start()
    assert gated.begun.get(timeout=LONG) == "pick"
    address = f"http://127.0.0.1:{port}"
    second = threading.Thread(
        target=lambda: answers.append(httpx.post(f"{address}/v1/faces", files={"photo": jpeg(9)}, timeout=None))
    )
    second.start()
    assert httpx.get(f"{address}/healthz", timeout=None).status_code == 200
    assert httpx.get(f"{address}/v1/gallery/people", timeout=None).status_code == 200
    order = []
    while "search" not in order:  # the second request may need a moment to get there
        gated.gate.release()
        order.append(gated.begun.get(timeout=LONG))
        assert len(order) <= 5
    for _ in range(10):
        gated.gate.release()
    second.join()
    first.join()
    assert sorted(answer.status_code for answer in answers) == [200, 200]
    assert max(answer.json().get("enrolled", 0) for answer in answers) == 6


def sent(port: int, seeds: range) -> socket.socket:
    """A connection that has sent an enrolment, and does not wait for its answer."""
    request = httpx.Request(
        "POST", "http://localhost/v1/gallery/enroll", data={"person": "Ann"},
        files=[("photo", (f"{seed}.jpg", jpeg(seed))) for seed in seeds],
    )  # fmt: skip
    connection = socket.create_connection(("127.0.0.1", port), timeout=LONG)
    head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    connection.sendall(f"POST /v1/gallery/enroll HTTP/1.1\r\n{head}\r\n".encode() + request.read())
    return connection


@pytest.mark.parametrize("way", ["closed", "reset", "half"])
def test_a_request_ends_with_its_client(slow: tuple[int, Gated], way: str) -> None:
    port, gated = slow
    connection = sent(port, range(6))
    assert gated.begun.get(timeout=LONG) == "pick"
    if way == "reset":
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    if way == "half":
        connection.shutdown(socket.SHUT_WR)
    else:
        connection.close()
    address = f"http://127.0.0.1:{port}"
    text = ""
    while 'status="499"' not in text and 'route="/v1/gallery/enroll",status="0"' not in text:
        text = httpx.get(f"{address}/metrics", timeout=None).text  # until the server has noticed
    gated.gate.release()
    answers: list[httpx.Response] = []
    other = threading.Thread(
        target=lambda: answers.append(httpx.post(f"{address}/v1/faces", files={"photo": jpeg(9)}, timeout=None))
    )
    other.start()
    assert gated.begun.get(timeout=LONG) == "search"  # and no second image of the enrolment
    gated.gate.release()
    other.join()
    assert answers[0].status_code == 200
    assert httpx.get(f"{address}/v1/about", timeout=None).json()["gallery"]["entries"] <= 1
    connection.close()


def test_a_request_that_takes_too_long_is_cancelled(serving: Any, recognizer: tuple[Recognizer, Path]) -> None:
    own = copy.copy(recognizer[0])
    gated = Gated(own)
    settings = Settings(port=0, limits=Limits(answer_seconds=0.05, stop_seconds=1.0))
    with serving(create_app(Models("small", own), settings), settings) as port:
        found = httpx.post(f"http://127.0.0.1:{port}/v1/verify", files={"a": jpeg(0), "b": jpeg(1)}, timeout=None)
        assert found.status_code == 503 and found.headers["retry-after"] == "1"
        gated.gate.release()
        gated.gate.release()
        assert httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=None).status_code == 200


async def nothing(*_: Any) -> None:
    """An application that is never called."""


def test_a_server_that_is_told_to_end_ends_whatever_is_computed(monkeypatch: Any) -> None:
    ended = threading.Event()
    monkeypatch.setattr(servers.os, "_exit", lambda status: ended.set())
    settings = Settings(limits=Limits(stop_seconds=1.0))
    server = servers._Server(servers.config_of(nothing, settings))
    monkeypatch.setattr(servers, "GIVE_UP_SECONDS", 0.0)
    server.handle_exit(signal.SIGTERM, None)
    assert server.should_exit and ended.wait(LONG)


def test_the_enrolment_of_a_connection_that_stays_is_answered(slow: tuple[int, Gated]) -> None:
    port, gated = slow
    connection = sent(port, range(2))
    gated.gate.release()
    gated.gate.release()
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    assert answer.status == 200
    connection.close()
