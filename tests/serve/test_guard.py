"""Which requests are let in, and how much of them (faults 22 to 24)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from starlette.responses import Response

from facewright.serve import guard
from facewright.serve.guard import COOKIE, Guard
from facewright.serve.responses import ApiError
from facewright.serve.settings import Limits, Settings

TOKEN = "secret-token-of-a-test"
SMALL = Limits(bytes=1_000, memory=1_500, body_seconds=600)
PLACES = ["/", "/healthz", "/metrics", "/openapi.json", "/v1/about", "/v1/verify", "/static/app.js", "/nowhere"]


def application() -> FastAPI:
    app = FastAPI(openapi_url=None)

    @app.exception_handler(ApiError)
    async def refused(_: Request, error: ApiError) -> Response:
        return error.response()

    @app.api_route("/{place:path}", methods=["GET", "POST", "OPTIONS"])
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


def test_a_browser_signs_in_by_the_address_and_leaves_no_token_in_it() -> None:
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


# pairs of headers of one request -> its status
RAW = [
    ([("host", "127.0.0.1:8000"), ("host", "evil.example")], 400),
    ([("host", "evil.example"), ("host", "127.0.0.1:8000")], 400),
    ([("host", "127.0.0.1:8000"), ("host", "127.0.0.1:8000")], 400),
    ([], 400),
    ([("host", "")], 403),
    ([("host", "127.0.0.1:8000, evil.example")], 403),
    ([("host", "127.0.0.1:8000"), ("origin", "http://127.0.0.1:8000"), ("origin", "http://evil.example")], 403),
    ([("host", "127.0.0.1:8000"), ("content-length", "3"), ("transfer-encoding", "chunked")], 400),
    ([("host", "127.0.0.1:8000"), ("transfer-encoding", "chunked"), ("content-length", "0")], 400),
]


@pytest.mark.parametrize(("headers", "status"), RAW)
def test_doubtful_heads_are_refused(headers: list[tuple[str, str]], status: int) -> None:
    sent: list[Any] = []

    async def call() -> None:
        async def send(message: Any) -> None:
            sent.append(message)

        async def receive() -> Any:
            return {"type": "http.request", "body": b"abc", "more_body": False}

        scope = {
            "type": "http", "method": "POST", "path": "/", "raw_path": b"/", "query_string": b"", "scheme": "http",
            "headers": [(name.encode(), value.encode()) for name, value in headers], "client": ("127.0.0.1", 1),
            "root_path": "", "server": ("127.0.0.1", 8000), "http_version": "1.1",
        }  # fmt: skip
        await Guard(application(), Settings())(scope, receive, send)

    asyncio.run(call())
    assert sent[0]["status"] == status
    if status == 400:
        assert (b"connection", b"close") in sent[0]["headers"]


# Cookies as other applications on the same host leave them -> ours is found among them.
@pytest.mark.parametrize(
    "others",
    [
        "a=1; {}", "{}; a=1", 'json={{"a": 1, "b": [2]}}; {}', "a=b c; {}", "é=ü; {}", "a; {}", "=x; {}", ";;{}",
        "a=1,{}; {}", 'q="x; {}', "a[b]=c; {}", "x@y=1; {}", "path=/; {}", "{};expires=Thu, 01 Jan 2026",
        "facewright_token=old; {}",
    ],
)  # fmt: skip
def test_the_token_cookie_is_found_beside_others(others: str) -> None:
    cookie = others.format(*[f"{COOKIE}={TOKEN}"] * 2).encode()
    assert ask(Settings(token=TOKEN), "GET", "/v1/about", headers={"cookie": cookie}).status_code == 200
    wrong = others.format(*[f"{COOKIE}=wrong"] * 2).encode()
    assert ask(Settings(token=TOKEN), "GET", "/v1/about", headers={"cookie": wrong}).status_code == 401


@pytest.mark.parametrize("place", ["/", "/healthz", "/static/app.js"])
def test_head_answers_as_get_without_a_body(place: str) -> None:
    found = ask(Settings(), "HEAD", place)
    assert found.status_code == 200 and int(found.headers["content-length"]) > 0
    assert ask(Settings(token=TOKEN), "HEAD", place).status_code == 401


APP = "https://app.example"


def test_only_allowed_sites_may_call_the_api() -> None:
    settings = Settings(token=TOKEN, origins=frozenset({APP}))
    headers = {"origin": APP, "sec-fetch-site": "cross-site", "authorization": f"Bearer {TOKEN}"}
    assert ask(settings, "POST", "/v1/verify", headers=headers).headers["access-control-allow-origin"] == APP
    asked = {"origin": APP, "access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    preflight = ask(settings, "OPTIONS", "/v1/verify", headers=asked)
    assert preflight.status_code == 204 and "authorization" in preflight.headers["access-control-allow-headers"]
    without = ask(settings, "POST", "/v1/verify", headers={"origin": APP})
    assert without.status_code == 401 and without.headers["access-control-allow-origin"] == APP
    for other in (
        "https://evil.example",
        "http://app.example",
        "https://app.example:444",
        "null",
        f"{APP}.evil.example",
    ):
        refused = ask(settings, "OPTIONS", "/v1/verify", headers=asked | {"origin": other})
        assert refused.status_code == 403 and "access-control-allow-origin" not in refused.headers


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


async def pieces(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b"x" * 100


async def until(event: asyncio.Event) -> AsyncIterator[bytes]:
    yield b"x" * 900
    await event.wait()


# a body without a length, in pieces of 100 bytes -> the status
@pytest.mark.parametrize(
    ("body", "status"),
    [
        (lambda: pieces(10), 200),
        (lambda: pieces(11), 413),
        (lambda: pieces(10_000), 413),
    ],
)
def test_bodies_in_pieces(body: Callable[[], AsyncIterator[bytes]], status: int) -> None:
    assert ask(Settings(limits=SMALL), "POST", "/", content=body()).status_code == status


def test_a_body_that_does_not_come_is_answered_408(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "DRAIN_SECONDS", 0.05)

    async def once() -> int:
        async with asking(Settings(limits=replace(SMALL, body_seconds=0.05))) as client:
            return (await client.post("/", content=until(asyncio.Event()))).status_code

    assert asyncio.run(once()) == 408


def test_bodies_together_take_no_more_memory_than_allowed() -> None:
    async def together() -> list[int]:
        async with asking(Settings(limits=SMALL)) as client:
            complete = asyncio.Event()
            first = asyncio.ensure_future(client.post("/", content=until(complete)))
            await asyncio.sleep(0)
            while not first.done() and (second := (await client.post("/", content=pieces(9))).status_code) == 200:
                await asyncio.sleep(0)  # the first has not sent its piece yet
            complete.set()
            return [(await first).status_code, second, (await client.post("/", content=pieces(9))).status_code]

    assert asyncio.run(together()) == [200, 503, 200]


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
