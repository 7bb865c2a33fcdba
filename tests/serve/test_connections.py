"""Connections that trickle (fault 25), against a real server on this machine."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest
from fastapi import FastAPI, Request
from starlette.responses import Response

from facewright.serve import guard as guards
from facewright.serve.guard import Guard
from facewright.serve.refusals import Refusal
from facewright.serve.settings import Limits, Settings

PATIENCE = Limits(head_seconds=0.5, body_seconds=0.5)
HEAD = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
WHOLE = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(scope="module")
def port(serving: Callable[..., AbstractContextManager[int]]) -> Iterator[int]:
    app = FastAPI(openapi_url=None)

    @app.get("/healthz")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/photos")
    async def photos(request: Request) -> dict[str, int]:
        return {"bytes": len(await request.body())}

    @app.exception_handler(Refusal)
    async def refused(_: Request, error: Refusal) -> Response:
        return error.response()

    settings = Settings(port=0, limits=PATIENCE)
    with serving(Guard(app, settings), settings) as port:
        yield port


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def trickle(connection: socket.socket, sent: bytes) -> bytes:
    """Send a byte at a time until the server ends it; what it said, nothing where it just hung up."""
    said = b""
    connection.settimeout(0.05)
    for byte in sent:
        try:
            connection.sendall(bytes([byte]))
            piece = connection.recv(65_536)
        except TimeoutError:
            continue
        except (ConnectionError, OSError):
            return said
        if not piece:
            return said
        said += piece
    raise AssertionError("the server was patient to the end")


def test_a_head_that_trickles_is_cut(port: int) -> None:
    with connected(port) as slow:
        assert trickle(slow, b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 500) == b""


def test_a_connection_that_says_nothing_is_cut(port: int) -> None:
    with connected(port) as silent:
        assert silent.recv(10) == b""


def test_the_second_head_on_a_connection_is_no_more_patient(port: int) -> None:
    with connected(port) as slow:
        slow.sendall(WHOLE)
        said = b""
        while not said.endswith(b"}"):
            said += slow.recv(65_536)
        assert b"200 OK" in said
        assert trickle(slow, b"GET / HTTP/1.1\r\n" + b"X: " + b"x" * 500) == b""


def test_a_body_that_trickles_is_told_and_cut(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards, "DRAIN_SECONDS", 0.1)
    with connected(port) as slow:
        slow.sendall(HEAD.replace(b"POST /", b"POST /photos"))
        said = trickle(slow, b"x" * 500)
        assert b" 408 " in said and b"connection: close" in said.lower()


def test_who_still_sends_gets_to_read_why_not(port: int) -> None:
    with connected(port) as eager:
        eager.sendall(HEAD.replace(b"POST /", b"POST /healthz") + b"x" * 500)
        time.sleep(0.05)
        eager.sendall(b"x" * 500)
        assert b" 405 " in eager.recv(65_536)


def test_while_two_hundred_trickle_the_server_answers(port: int) -> None:
    trickling = [connected(port) for _ in range(200)]
    for one in trickling:
        one.sendall(b"GET / HT")
    with connected(port) as healthy:
        healthy.sendall(WHOLE)
        assert b"200 OK" in healthy.recv(65_536)
    end = time.monotonic() + 20  # far more than their patience
    for one in trickling:
        one.settimeout(max(0.1, end - time.monotonic()))
        assert one.recv(10) == b""
        one.close()
