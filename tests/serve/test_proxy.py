"""Behind a reverse proxy with TLS, under another host, port and path (fault 37); and headers that nobody may send."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request

from facewright.serve.app import create_app
from facewright.serve.guard import COOKIE, Guard
from facewright.serve.server import load
from facewright.serve.settings import Settings, networks_of
from fixtures.browsing import browser, portrait, tab
from fixtures.faces import saved
from fixtures.photos import jpeg
from fixtures.tls_proxy import tls_proxy

TOKEN = "token-of-this-test-0123456789"
LOCAL = networks_of(["127.0.0.1", "::1"])


@pytest.fixture(scope="module")
def models(tmp_path_factory: Any) -> Any:
    return load(str(saved(tmp_path_factory.mktemp("model"))))


@contextmanager
def proxied(
    serving: Any, models: Any, folder: Path, *, prefix: str = "", keep_prefix: bool = False, **more: Any
) -> Iterator[tuple[str, Path]]:
    """The address that clients use, and the certificate."""
    settings = Settings(port=0, **more)
    with (
        serving(create_app(models, settings), settings) as port,
        tls_proxy(folder, port, prefix, keep_prefix) as (outer, cert),
    ):
        yield f"https://localhost:{outer}{prefix}/", cert


# How the proxy and the server are set up together.
WAYS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "at the root": ({}, {}),
    "a prefix that the proxy removes and names": ({"prefix": "/faces"}, {}),
    "a prefix that the proxy leaves": ({"prefix": "/faces", "keep_prefix": True}, {"root_path": "/faces"}),
    "a long prefix": ({"prefix": "/a/b-c/d_e"}, {}),
    "the prefix in both places": ({"prefix": "/faces"}, {"root_path": "/faces"}),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_page_signs_in_and_answers_behind_tls(way: str, serving: Any, models: Any, tmp_path: Path) -> None:
    proxy, server = WAYS[way]
    with proxied(serving, models, tmp_path, **proxy, token=TOKEN, proxies=LOCAL, **server) as (address, cert):
        origin = address.split("/", 3)
        own = {"origin": f"https://{origin[2]}", "sec-fetch-site": "same-origin"}
        context = ssl.create_default_context(cafile=str(cert))
        with httpx.Client(base_url=address, verify=context, timeout=None) as client:
            assert client.get("").status_code == 401
            assert client.post("v1/predict", headers=own, files={"photo": jpeg(0)}).status_code == 401
            signed_in = client.get("", params={"token": TOKEN})
            assert signed_in.status_code == 303 and signed_in.headers["location"] == "/" + origin[3]
            cookie = signed_in.headers["set-cookie"]
            assert "Secure" in cookie and f"Path=/{origin[3]};" in cookie
            assert client.get("").status_code == 200 and client.get("static/app.js").status_code == 200
            found = client.post("v1/predict", headers=own, files={"photo": jpeg(0)})
            assert found.status_code == 200 and len(found.json()["top"]) == 3
            evil = client.post("v1/predict", headers={"origin": "https://evil.example"}, files={"photo": jpeg(0)})
            assert evil.status_code == 403
            plain = client.post("v1/predict", headers={"origin": f"http://{origin[2]}"}, files={"photo": jpeg(0)})
            assert plain.status_code == 403  # the same host without TLS is another origin


def test_without_the_option_the_proxy_is_nobody(serving: Any, models: Any, tmp_path: Path) -> None:
    with proxied(serving, models, tmp_path) as (address, cert):
        context = ssl.create_default_context(cafile=str(cert))
        own = {"origin": address.rstrip("/")}
        found = httpx.post(f"{address}v1/predict", headers=own, files={"photo": jpeg(0)}, verify=context, timeout=None)
        assert found.status_code == 403


def test_a_browser_signs_in_and_looks_under_a_prefix_with_tls(serving: Any, models: Any, tmp_path: Path) -> None:
    with proxied(serving, models, tmp_path, prefix="/faces", token=TOKEN, proxies=LOCAL) as (address, _):  # noqa: SIM117
        with browser() as chromium, tab(chromium, address, path=f"?token={TOKEN}") as shown:
            assert shown.page.url == f"{address}#look"
            shown.look(portrait(0))
            shown.compare(portrait(0), portrait(1))


def asked(settings: Settings, path: str, headers: dict[str, str], client: str = "127.0.0.1") -> httpx.Response:
    """An application that answers with what it is told of the request."""
    app = FastAPI(openapi_url=None)

    @app.get("/{place:path}")
    async def answer(request: Request, place: str) -> dict[str, str]:
        return {"url": str(request.url), "place": place, "root": request.scope["root_path"]}

    async def once() -> httpx.Response:
        transport = httpx.ASGITransport(Guard(app, settings), client=(client, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as session:
            return await session.get(path, headers=headers)

    return asyncio.run(once())


FORWARDED = {"x-forwarded-proto": "https", "x-forwarded-host": "faces.example", "x-forwarded-prefix": "/faces"}
KNOWN = frozenset({"faces.example"})


@pytest.mark.parametrize(
    ("client", "proxies", "believed"),
    [
        ("127.0.0.1", ["127.0.0.1"], True),
        ("10.1.2.3", ["10.0.0.0/8"], True),
        ("::ffff:10.1.2.3", ["10.0.0.0/8"], True),
        ("fd00::7", ["fd00::/8"], True),
        ("127.0.0.1", [], False),
        ("10.1.2.3", ["127.0.0.1"], False),
        ("11.0.0.1", ["10.0.0.0/8", "fd00::/8"], False),
        ("testclient", ["0.0.0.0/0"], False),
    ],
)
def test_only_listed_proxies_are_believed(client: str, proxies: list[str], believed: bool) -> None:
    settings = Settings(names=KNOWN, proxies=networks_of(proxies))
    found = asked(settings, "/v1/about", FORWARDED, client).json()
    expected = "https://faces.example/faces/v1/about" if believed else "http://127.0.0.1:8000/v1/about"
    assert found == {"url": expected, "place": "v1/about", "root": "/faces" if believed else ""}


# what a proxy passes on that a client made up -> the status
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"x-forwarded-host": "evil.example"}, 403),
        ({"x-forwarded-host": "faces.example, evil.example"}, 403),  # the nearest proxy's is the last
        ({"x-forwarded-host": "evil.example, faces.example"}, 200),
        ({"x-forwarded-host": "faces.example@evil.example"}, 400),
        ({"x-forwarded-host": "faces.example/.evil.example"}, 400),
        ({"x-forwarded-host": ""}, 400),
        ({"x-forwarded-proto": "javascript"}, 400),
        ({"x-forwarded-proto": "http, HTTPS"}, 200),
        ({"x-forwarded-prefix": "//evil.example"}, 400),
        ({"x-forwarded-prefix": "/a/../b"}, 400),
        ({"x-forwarded-prefix": "/a\"onload='x'"}, 400),
        ({"x-forwarded-prefix": "faces"}, 400),
        ({"x-forwarded-prefix": "/" + "a" * 300}, 400),
        ({"x-forwarded-prefix": "/faces/"}, 200),
        ({"x-forwarded-prefix": "/"}, 200),
    ],
)
def test_malformed_headers_of_a_proxy_are_refused(headers: dict[str, str], status: int) -> None:
    settings = Settings(names=KNOWN, proxies=LOCAL)
    assert asked(settings, "/v1/about", headers).status_code == status


def test_the_cookie_of_a_prefix_is_asked_for_there_alone() -> None:
    settings = Settings(token=TOKEN, root_path="/faces")
    for path in ("/faces/", "/"):
        found = asked(settings, f"{path}?token={TOKEN}", {})
        assert found.status_code == 303 and found.headers["location"] == "/faces/"
        assert (
            found.headers["set-cookie"].startswith(f"{COOKIE}={TOKEN}")
            and "Path=/faces/" in found.headers["set-cookie"]
        )
    assert asked(settings, "/faces", {}).headers["location"] == "/faces/"  # the form's addresses are relative
    assert asked(settings, "/facesother/", {}).status_code == 401
