"""Connections that trickle or stall (faults 25 and 35), against a real server on this machine."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack

import pytest
from fastapi import FastAPI, Request
from starlette.responses import Response

from facewright.errors import UsageError
from facewright.serve import guard, server
from facewright.serve.guard import Guard
from facewright.serve.responses import ApiError
from facewright.serve.server import OncePerMinute, capacity
from facewright.serve.settings import Limits, Settings

IMPATIENT = Limits(head_seconds=0.5, body_seconds=0.5, write_seconds=0.5, connections=300)
FEW = Limits(head_seconds=1e6, body_seconds=1e6, write_seconds=1e6, connections=20)
HEAD = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
WHOLE = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
LARGE = b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n"
NEVER = 600  # s: only a broken server takes this
Serving = Callable[..., AbstractContextManager[int]]


def application() -> FastAPI:
    app = FastAPI(openapi_url=None)

    @app.get("/healthz")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/large")
    async def large() -> Response:
        return Response(bytes(32 * 2**20))  # more than the system's buffers hold

    @app.post("/photos")
    async def photos(request: Request) -> dict[str, int]:
        return {"bytes": len(await request.body())}

    @app.exception_handler(ApiError)
    async def refused(_: Request, error: ApiError) -> Response:
        return error.response()

    return app


@pytest.fixture(scope="module")
def port(serving: Serving) -> Iterator[int]:
    settings = Settings(port=0, limits=IMPATIENT)
    with serving(Guard(application(), settings), settings) as port:
        yield port


@pytest.fixture
def few(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A server for twenty connections, which is never impatient by itself."""
    monkeypatch.setattr(server, "PATIENCE", 0.0)
    logging.getLogger("facewright.serve").filters.clear()  # of the servers of other tests
    settings = Settings(port=0, limits=FEW)
    with serving(Guard(application(), settings), settings) as port:
        yield port


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=NEVER)


def ask(port: int, request: bytes = WHOLE) -> bytes:
    """The first piece of an answer; asked again where the connection was cut, as on a slow machine."""
    while True:
        with connected(port) as client:
            try:
                client.sendall(request)
                if answer := client.recv(65_536):
                    return answer
            except ConnectionError:
                continue


def trickle(connection: socket.socket, sent: bytes) -> bytes:
    """Send a byte at a time until the server ends it; what it answered, nothing where it just closed."""
    answer = b""
    connection.settimeout(0.05)
    while True:
        try:
            connection.sendall(sent[:1])
            sent = sent[1:] or b"x"
            piece = connection.recv(65_536)
        except TimeoutError:
            continue
        except OSError:
            return answer
        if not piece:
            return answer
        answer += piece


def ends(connection: socket.socket) -> bool:
    """Whether the server ends a connection; reads nothing but the end."""
    try:
        return connection.recv(1, socket.MSG_PEEK) == b""
    except ConnectionError:
        return True


@pytest.mark.parametrize(
    "sent", [b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ", b"G", b"\r\n\r\n", b"POST /photos HTTP/1.1\r\n"]
)
def test_a_head_that_trickles_is_cut(port: int, sent: bytes) -> None:
    with connected(port) as slow:
        assert b" 200 " not in trickle(slow, sent + b"x" * 500)


def test_a_connection_that_sends_nothing_is_cut(port: int) -> None:
    with connected(port) as silent:
        assert ends(silent)


def test_the_second_head_on_a_connection_gets_no_more_time(port: int) -> None:
    answer = b""
    while b"200 OK" not in answer:
        with connected(port) as slow:
            slow.sendall(WHOLE)
            answer = trickle(slow, b"GET / HTTP/1.1\r\nX: " + b"x" * 500)
    assert answer.count(b"HTTP/1.1") == 1


def test_a_body_that_trickles_is_answered_408_and_cut(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "DRAIN_SECONDS", 0.1)
    answer = b""
    while not answer:  # the head must have come in time
        with connected(port) as slow:
            slow.sendall(HEAD.replace(b"POST /", b"POST /photos"))
            answer = trickle(slow, b"x" * 500)
    assert b" 408 " in answer and b"connection: close" in answer.lower()


def test_a_client_that_still_sends_can_read_the_refusal(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "DRAIN_SECONDS", NEVER)
    assert b" 405 " in ask(port, HEAD.replace(b"POST /", b"POST /healthz") + b"x" * 1000)


def test_while_two_hundred_trickle_the_server_answers_and_all_are_cut(port: int) -> None:
    with ExitStack() as stack:
        trickling = [stack.enter_context(connected(port)) for _ in range(200)]
        for one in trickling:
            one.sendall(b"GET / HT")
        assert b"200 OK" in ask(port)
        assert all(ends(one) for one in trickling)


# Requests whose answers are left unread.
@pytest.mark.parametrize("requests", [LARGE, LARGE * 3, LARGE + WHOLE * 50, WHOLE * 5 + LARGE])
def test_an_answer_that_is_not_read_is_cut(port: int, requests: bytes) -> None:
    while True:
        with connected(port) as lazy:
            lazy.settimeout(1.0)
            with contextlib.suppress(OSError):  # the server reads no further, or has cut it
                lazy.sendall(requests)
            lazy.settimeout(NEVER)
            read = 0
            try:
                while piece := lazy.recv(1):  # much slower than it could be
                    read += len(piece)
                    if read == 10:
                        break
            except ConnectionError:
                pass
            if read == 0:
                continue  # cut before the head was there
            assert waits_for_cut(lazy)
            return


def waits_for_cut(connection: socket.socket) -> bool:
    """Whether the system says that the server has gone, without anything being read."""
    while True:
        try:
            connection.send(b"x")
        except (BrokenPipeError, ConnectionResetError):
            return True
        except TimeoutError:
            continue


@pytest.mark.parametrize("sent", [b"", b"GET / HT", LARGE, HEAD + b"x", WHOLE])
def test_a_new_connection_takes_the_place_of_one_that_keeps_the_server_waiting(few: int, sent: bytes) -> None:
    with ExitStack() as stack:
        for _ in range(100):
            one = stack.enter_context(connected(few))
            one.sendall(sent)
        for _ in range(10):
            assert b"200 OK" in ask(few)


def test_full_is_logged_once(few: int, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(connected(few))
        assert b"200 OK" in ask(few)
    assert len([record for record in caplog.records if "20" in record.getMessage()]) == 1


def test_there_are_no_more_connections_than_descriptors() -> None:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/dev/fd"))  # noqa: PTH208
    try:
        for more in (64, 100, 500):
            resource.setrlimit(resource.RLIMIT_NOFILE, (used + more, hard))
            most, backlog = capacity(512)
            assert most > 0 and most + backlog + server.SPARE <= more + 4
        assert capacity(5)[0] == 5
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 10, hard))
        with pytest.raises(UsageError, match="ulimit"):
            capacity(512)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_same_trouble_is_logged_once_a_minute() -> None:
    allowed = OncePerMinute()
    lines = [logging.LogRecord("asyncio", 40, "", 1, text, (), None) for text in ("a", "a", "b", "a")]
    assert [allowed.filter(line) for line in lines] == [True, False, True, False]


def test_that_no_descriptor_is_free_is_one_line() -> None:
    error = OSError(errno.EMFILE, "Too many open files")
    told = logging.LogRecord("asyncio", 40, "", 1, "socket.accept()\nsocket: %s", ("x",), (OSError, error, None))
    other = logging.LogRecord("asyncio", 40, "", 1, "lost", (), (OSError, OSError(errno.EIO, "broken"), None))
    assert all(map(OncePerMinute().filter, (told, other)))
    assert "\n" not in logging.Formatter().format(told) and "broken" in logging.Formatter().format(other)
