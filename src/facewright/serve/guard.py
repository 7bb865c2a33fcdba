"""What every request passes before it is read: the server's name, the page it comes from, the token, size and time.

A page of another site can make a visitor's browser send requests to this machine: by its own name, rebound to this
address (then `Host` is that name), or across sites (then `Origin`, or `Sec-Fetch-Site`, says so). Neither is answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import time
from collections.abc import Callable, Mapping
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from facewright.serve.pages import page_file
from facewright.serve.refusals import Refusal
from facewright.serve.settings import Limits, Settings

COOKIE = "facewright_token"
READING = frozenset({"GET", "HEAD", "OPTIONS"})
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "media-src 'self' blob:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cache-control": "no-store",
}
DRAIN_SECONDS = 2.0  # what is still sent of a refused request is let in and dropped for so long
ENTRANCE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Facewright</title><link rel="stylesheet" href="/static/entrance.css"><main><h1>Facewright</h1>
<form action="/" method="get"><label for="token">Token</label>
<input id="token" name="token" type="password" autocomplete="off" required autofocus>
<button>Enter</button></form><p>The token was printed where the server was started.</p></main></html>"""


class Guard:
    """The outermost part of the application.

    Args:
        app: what answers. settings: of the server.
        told: told of each answer: method, path template or "", status, seconds.
    """

    def __init__(
        self, app: ASGIApp, settings: Settings, told: Callable[[str, str, int, float], None] | None = None
    ) -> None:
        self._app = app
        self._settings = settings
        self._told = told
        self._held = 0  # bytes of bodies that are being read or answered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = _Body(receive, self._settings.limits, self)
        sender = _Sender(send, body)
        start = time.perf_counter()
        try:
            await self._answer(scope, body, sender)
        finally:
            if self._told is not None:
                route = getattr(scope.get("route"), "path", "")
                self._told(scope["method"], route, sender.status, time.perf_counter() - start)

    async def _answer(self, scope: Scope, body: _Body, send: _Sender) -> None:
        headers = Headers(scope=scope)
        answer: ASGIApp
        try:
            self._check_names(scope, headers)
            answer = self._check_token(scope, headers) or self._app
            body.expect(headers)
        except Refusal as refused:
            answer = refused.response()
        try:
            await answer(scope, body, send)
        finally:
            body.let_go()

    def hold(self, size: int) -> None:
        """Make room for more bytes of a body.

        Raises:
            Refusal: all bodies together would take too much memory.
        """
        if self._held + size > self._settings.limits.memory:
            raise Refusal(503, "too many photos are being sent at once; try again", headers={"retry-after": "1"})
        self._held += size

    def release(self, size: int) -> None:
        """What was held is of no use any more."""
        self._held -= size

    def _check_names(self, scope: Scope, headers: Headers) -> None:
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._settings.knows(hosts[0]):
            raise Refusal(403, f"this server is not called {', '.join(hosts)[:100]!r}; see --allow-host")
        origins = headers.getlist("origin")
        if any(not _same(origin, hosts[0], scope["scheme"]) for origin in origins):
            raise Refusal(403, "pages of other sites are not answered")
        site = headers.get("sec-fetch-site", "none")
        arriving = scope["method"] in READING and scope["path"] == "/"  # a link to the page is no request of another's
        if site not in ("none", "same-origin") and not arriving:
            raise Refusal(403, "pages of other sites are not answered")

    def _check_token(self, scope: Scope, headers: Headers) -> Response | None:
        """Nothing where the request carries the token; the way in where somebody brings it to the page.

        Raises:
            Refusal: it does not carry the token.
        """
        wanted = self._settings.token
        if wanted is None:
            return None
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and _equal(given.strip(), wanted):
            return None
        if _equal(_cookies(headers).get(COOKIE, ""), wanted):
            return None
        if scope["path"] in ("/", "/static/entrance.css") and scope["method"] == "GET":
            return self._entrance(scope, wanted)
        raise Refusal(401, "a token is needed: Authorization: Bearer TOKEN", headers={"www-authenticate": "Bearer"})

    def _entrance(self, scope: Scope, wanted: str) -> Response:
        if scope["path"] != "/":
            return page_file("entrance.css")
        brought = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if not _equal(brought, wanted):
            return HTMLResponse(ENTRANCE, 401, {"www-authenticate": "Bearer"})
        way_in = RedirectResponse("/", 303)
        way_in.set_cookie(COOKIE, wanted, httponly=True, samesite="strict", secure=scope["scheme"] == "https")
        return way_in


class _Body:
    """The body of a request: as much as may be, as long as it may take."""

    def __init__(self, receive: Receive, limits: Limits, guard: Guard) -> None:
        self._receive = receive
        self._limits = limits
        self._guard = guard
        self._end = time.monotonic() + limits.body_seconds
        self.size = 0
        self.complete = False

    def expect(self, headers: Headers) -> None:
        """Refuse by its head what says itself that it is too large."""
        length = headers.get("content-length")
        self.complete = length in (None, "0") and "transfer-encoding" not in headers
        if length is not None and int(length) > self._limits.bytes:  # that it is a number the protocol has seen to
            raise self._too_large()

    async def __call__(self) -> Message:
        if self.complete:
            return await self._receive()  # waits for the end of the connection
        try:
            async with asyncio.timeout(self._end - time.monotonic()):
                message = await self._receive()
        except TimeoutError:
            raise Refusal(408, f"the request was not there within {self._limits.body_seconds:g} s") from None
        if message["type"] == "http.request":
            size = len(message.get("body", b""))
            if self.size + size > self._limits.bytes:
                raise self._too_large()
            self._guard.hold(size)
            self.size += size
            self.complete = not message.get("more_body", False)
        return message

    async def drain(self) -> None:
        """Let in and drop for a moment what is still sent: who is hung up on while sending cannot read why."""
        if not self.complete:
            self.let_go()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                while not self.complete:
                    message = await self._receive()
                    self.complete = message["type"] != "http.request" or not message.get("more_body", False)

    def let_go(self) -> None:
        """Of the memory that it was held in."""
        self._guard.release(self.size)
        self.size = 0

    def _too_large(self) -> Refusal:
        return Refusal(413, f"the request is larger than {self._limits.bytes:,} bytes; send smaller photos, or fewer")


class _Sender:
    """Adds the headers of every answer, and remembers its status.

    Before an answer the rest of the body is let in, as far as it comes soon; if it does not, the answer is the
    connection's last.
    """

    def __init__(self, send: Send, body: _Body) -> None:
        self._send = send
        self._body = body
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._body.drain()
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            if not self._body.complete:
                headers["connection"] = "close"
        await self._send(message)


def _same(origin: str, host: str, scheme: str) -> bool:
    """Whether a page's origin is this server as the request named it."""
    ports = {"http": 80, "https": 443}
    try:
        page, here = urlsplit(origin), urlsplit(f"{scheme}://{host}")
        if page.scheme not in ports or page.hostname is None:
            return False
        return (page.hostname, page.port or ports[page.scheme]) == (here.hostname, here.port or ports[scheme])
    except ValueError:  # no port, or no address
        return False


def _equal(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode(), wanted.encode())


def _cookies(headers: Headers) -> Mapping[str, str]:
    try:
        return {name: morsel.value for name, morsel in SimpleCookie(headers.get("cookie", "")).items()}
    except CookieError:
        return {}
