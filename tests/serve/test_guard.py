"""Who is let in, and how much of what he sends (faults 22 to 24)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from starlette.responses import Response

from facewright.serve import guard as guards
from facewright.serve.guard import COOKIE, Guard
from facewright.serve.refusals import Refusal
from facewright.serve.settings import Limits, Settings

TOKEN = "secret-token-of-a-test"
SMALL = Limits(bytes=1_000, memory=1_500, body_seconds=0.3)
PLACES = ["/", "/healthz", "/metrics", "/openapi.json", "/v1/about", "/v1/verify", "/static/app.js", "/nowhere"]


def application() -> FastAPI:
    app = FastAPI(openapi_url=None)

    @app.exception_handler(Refusal)
    async def refused(_: Request, error: Refusal) -> Response:
        return error.response()

    @app.api_route("/{place:path}", methods=["GET", "POST"])
    async def answer(request: Request, place: str) -> dict[str, Any]:
        return {"place": place, "bytes": len(await request.body())}

    return app


def asking(settings: Settings, base: str = "http://127.0.0.1:8000") -> httpx.AsyncClient:
    transport = httpx.ASGITransport(Guard(application(), settings), client=("127.0.0.1", 1))
    return httpx.AsyncClient(transport=transport, base_url=base)


def ask(settings: Settings, method: str, where: str, **more: Any) -> httpx.Response:
    async def once() -> httpx.Response:
        async with asking(settings) as client:
            return await client.request(method, where, **more)

    return asyncio.run(once())


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("given", [None, "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x"])
def test_no_route_without_the_token(place: str, given: str | None) -> None:
    headers = {} if given is None else {"authorization": given}
    found = ask(Settings(token=TOKEN), "GET", place, headers=headers)
    assert found.status_code == 401 and TOKEN not in found.text


@pytest.mark.parametrize("place", PLACES)
def test_every_route_with_it(place: str) -> None:
    settings = Settings(host="0.0.0.0", token=TOKEN)
    assert ask(settings, "GET", place, headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert ask(settings, "GET", place, headers={"cookie": f"{COOKIE}={TOKEN}"}).status_code == 200
    assert ask(settings, "GET", place, headers={"cookie": f"{COOKIE}=wrong"}).status_code == 401


def test_a_browser_enters_by_the_address_and_leaves_no_token_in_it() -> None:
    found = ask(Settings(token=TOKEN), "GET", f"/?token={TOKEN}")
    assert found.status_code == 303 and found.headers["location"] == "/"
    cookie = found.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie
    refused = ask(Settings(token=TOKEN), "GET", "/?token=wrong")
    assert refused.status_code == 401 and "set-cookie" not in refused.headers and "<form" in refused.text


# headers of a request to 127.0.0.1:8000 -> its status
NAMES = [
    ({}, 200),
    ({"host": "localhost:8000"}, 200),
    ({"host": "evil.example:8000"}, 403),  # a name rebound to this address
    ({"host": "127.0.0.1.evil.example"}, 403),
    ({"origin": "http://127.0.0.1:8000"}, 200),
    ({"origin": "http://localhost:8000"}, 403),  # not as the request named it
    ({"origin": "http://127.0.0.1:9000"}, 403),
    ({"origin": "https://evil.example"}, 403),
    ({"origin": "null"}, 403),
    ({"origin": "http://127.0.0.1:8000.evil.example"}, 403),
    ({"origin": "http://[::1"}, 403),
    ({"sec-fetch-site": "same-origin"}, 200),
    ({"sec-fetch-site": "none"}, 200),
    ({"sec-fetch-site": "cross-site"}, 403),
    ({"sec-fetch-site": "same-site"}, 403),
]


@pytest.mark.parametrize(("headers", "status"), NAMES)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_pages_of_other_sites_are_not_answered(method: str, headers: dict[str, str], status: int) -> None:
    assert ask(Settings(), method, "/v1/verify", headers=headers).status_code == status


def test_a_link_to_the_page_may_stand_anywhere() -> None:
    assert ask(Settings(), "GET", "/", headers={"sec-fetch-site": "cross-site"}).status_code == 200
    assert ask(Settings(), "POST", "/", headers={"sec-fetch-site": "cross-site"}).status_code == 403


def test_every_answer_carries_the_policy() -> None:
    for found in (ask(Settings(), "GET", "/"), ask(Settings(), "GET", "/", headers={"host": "evil.example"})):
        assert "default-src 'none'" in found.headers["content-security-policy"]
        assert found.headers["x-content-type-options"] == "nosniff" and found.headers["cache-control"] == "no-store"


def test_a_body_as_large_as_may_be_is_taken_and_one_byte_more_is_not() -> None:
    settings = Settings(limits=SMALL)
    assert ask(settings, "POST", "/", content=b"x" * 1_000).json()["bytes"] == 1_000
    refused = ask(settings, "POST", "/", content=b"x" * 1_001)
    assert refused.status_code == 413
    assert "1,000 bytes" in refused.json()["error"]["message"]


async def pieces(count: int, wait: float = 0.0) -> AsyncIterator[bytes]:
    for _ in range(count):
        await asyncio.sleep(wait)
        yield b"x" * 100


# a body without a length, in pieces of 100 bytes -> the status
@pytest.mark.parametrize(
    ("body", "status"),
    [
        (lambda: pieces(10), 200),
        (lambda: pieces(11), 413),
        (lambda: pieces(10_000), 413),
        (lambda: pieces(9, 0.1), 408),
    ],
)
def test_bodies_in_pieces(
    body: Callable[[], AsyncIterator[bytes]], status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guards, "DRAIN_SECONDS", 0.05)
    assert ask(Settings(limits=SMALL), "POST", "/", content=body()).status_code == status


def test_bodies_together_take_no_more_memory_than_may_be() -> None:
    async def both() -> list[int]:
        async with asking(Settings(limits=SMALL)) as client:
            sent = [client.post("/", content=pieces(9, 0.01)), client.post("/", content=pieces(9, 0.01))]
            together = [found.status_code for found in await asyncio.gather(*sent)]
            return [*together, (await client.post("/", content=pieces(9))).status_code]

    assert sorted(asyncio.run(both())[:2]) == [200, 503]
    assert asyncio.run(both())[2] == 200  # what is answered is let go


def test_websockets_are_closed() -> None:
    said: list[dict[str, Any]] = []

    async def call() -> None:
        async def send(message: Any) -> None:
            said.append(message)

        async def receive() -> Any:
            return {"type": "websocket.connect"}

        await Guard(application(), Settings())({"type": "websocket"}, receive, send)

    asyncio.run(call())
    assert said == [{"type": "websocket.close", "code": 1008}]
