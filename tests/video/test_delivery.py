"""Webhook and MQTT: what is sent, what is tried again, what is given up; the watcher never waits."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from facewright.errors import UsageError
from facewright.video import delivery
from facewright.video.delivery import Delivery, mqtt, webhook


class Hook(BaseHTTPRequestHandler):
    """Answers with the next status."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.bodies.append((self.path, self.headers["Content-Type"], body))  # type: ignore[attr-defined]
        self.send_response(self.server.statuses.pop(0))  # type: ignore[attr-defined]
        self.send_header("Location", "http://127.0.0.1:9/")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hook() -> Iterator[HTTPServer]:
    server = HTTPServer(("127.0.0.1", 0), Hook)
    server.bodies, server.statuses = [], []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_webhook_is_tried_again_and_given_up(hook: HTTPServer) -> None:
    lines, pauses = list[str](), list[float]()
    hook.statuses += [503, 200, 302, 302, 302, 302, 500, 500, 500, 500, 200]  # type: ignore[attr-defined]
    sender = Delivery("hook", webhook(f"http://127.0.0.1:{hook.server_port}/a"), lines.append, wait=pauses.append)
    for number in range(4):
        sender.put(b'{"n":%d}' % number)
    sender.close()
    assert [body[-2:-1] for _, _, body in hook.bodies] == [b"0"] * 2 + [b"1"] * 4 + [b"2"] * 4 + [b"3"]  # type: ignore[attr-defined]
    assert hook.bodies[0][:2] == ("/a", "application/json")  # type: ignore[attr-defined]
    assert sender.lost == 2 and len(lines) == 1 and "302" in lines[0]  # a redirect is not followed; said once
    assert pauses == [1, 1, 2, 4, 1, 2, 4]


def test_what_cannot_wait_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "WAITING", 2)
    going, free = threading.Event(), threading.Event()

    def send(message: bytes) -> None:
        going.set()
        assert free.wait(30)

    lines: list[str] = []
    sender = Delivery("slow", send, lines.append)
    sender.put(b"0")
    assert going.wait(30)
    for _ in range(5):  # 2 wait, 3 are lost; none of these calls blocks
        sender.put(b"1")
    assert sender.lost == 3 and len(lines) == 1
    free.set()
    sender.close()
    assert sender.lost == 3


def test_nobody_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        for send in (
            webhook(f"http://127.0.0.1:{taken.getsockname()[1]}/"),
            mqtt(f"mqtt://127.0.0.1:{taken.getsockname()[1]}/a"),
        ):
            lines: list[str] = []
            sender = Delivery("door", send, lines.append, wait=lambda pause: None)
            sender.put(b"{}")
            sender.close()
            assert sender.lost == 1 and "refused" in lines[0]


def broker(listening: socket.socket, got: list[tuple[str, bytes]]) -> None:
    """A broker for one client: it acknowledges the connection and one message (MQTT 3.1.1)."""
    connection, _ = listening.accept()
    with connection, connection.makefile("rb") as packets:

        def packet() -> tuple[int, bytes]:
            kind, length, shift = packets.read(1)[0], 0, 0
            while True:
                (byte,) = packets.read(1)
                length, shift = length | (byte & 127) << shift, shift + 7
                if byte < 128:
                    return kind, packets.read(length)

        kind, body = packet()
        assert kind == 0x10 and b"me" in body and b"secret" in body
        connection.sendall(b"\x20\x02\x00\x00")
        kind, body = packet()
        end = 2 + int.from_bytes(body[:2], "big")
        assert kind == 0x32  # a message, at least once
        got.append((body[2:end].decode(), body[end + 2 :]))
        connection.sendall(b"\x40\x02" + body[end : end + 2])


def test_mqtt() -> None:
    pytest.importorskip("paho.mqtt")
    got: list[tuple[str, bytes]] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=broker, args=(listening, got))
        thread.start()
        sender = Delivery("broker", mqtt(f"mqtt://me:secret@127.0.0.1:{listening.getsockname()[1]}/home/door"), print)
        sender.put(b'{"person": "Ann"}')
        sender.close()
        thread.join()
    assert got == [("home/door", b'{"person": "Ann"}')] and sender.lost == 0


@pytest.mark.parametrize(
    ("make", "url"),
    [
        (webhook, "ftp://a/b"),
        (webhook, "http:///b"),
        (webhook, "http://me:secret@a/b"),
        (mqtt, "mqtt://a"),
        (mqtt, "mqtt://a/b/#"),
        (mqtt, "http://a/b"),
        (mqtt, "mqtt://me:secret@a:99999/b"),
    ],
)
def test_what_is_no_address_is_refused(make: object, url: str) -> None:
    with pytest.raises(UsageError) as refused:
        make(url)  # type: ignore[operator]
    assert "secret" not in str(refused.value)
