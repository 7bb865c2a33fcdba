"""The checks that every request passes: the server's name, its origin, the token; the size and time of its body.

A page of another site can make a visitor's browser send requests to this machine: by its own name, rebound to this
address (then `Host` is that name), or across sites (then `Origin`, or `Sec-Fetch-Site`, says so). Neither is answered.
A reverse proxy is believed only where it connects from one of `Settings.proxies`; the last value of a header counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import time
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from facewright.serve.responses import ApiError, busy, page_file
from facewright.serve.settings import Limits, Settings, host_of, is_prefix

COOKIE = "facewright_token"
READING = frozenset({"GET", "HEAD", "OPTIONS"})
PORTS = {"http": 80, "https": 443}
SIGN_IN = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Facewright</title><link rel="stylesheet" href="static/entrance.css"><main><h1>Facewright</h1>
<form action="." method="get"><label for="token">Token</label>
<input id="token" name="token" type="password" autocomplete="off" required autofocus>
<button>Sign in</button></form><p>The token was printed when the server started.</p></main></html>"""
CORS = {
    "access-control-allow-methods": "GET, POST, DELETE",
    "access-control-allow-headers": "authorization, content-type",
    "access-control-max-age": "600",
}


class Guard:
    """The outermost part of the application; `observe` gets each answer: method, path template, status, seconds."""

    def __init__(
        self, app: ASGIApp, settings: Settings, observe: Callable[[str, str, int, float], None] | None = None
    ) -> None:
        self._app = app
        self._settings = settings
        self._observe = observe
        self._memory = Memory(settings.limits.memory)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = Body(receive, self._settings.limits, self._memory)
        sender = Answer(send, body, self._cors(Headers(scope=scope)))
        start = time.perf_counter()
        route = ""
        try:
            app, scope = self._checked(scope, body)
            await app(scope, body, sender)
            route = getattr(scope.get("route"), "path", "")
        finally:
            body.release()
            if self._observe is not None:
                self._observe(scope["method"], route, sender.status, time.perf_counter() - start)

    def _checked(self, scope: Scope, body: Body) -> tuple[ASGIApp, Scope]:
        """Return the application for a request, and the request as the client made it."""
        try:
            hosts = Headers(scope=scope).getlist("host")
            if len(hosts) != 1:
                raise ApiError(400, f"expected one Host header, got {len(hosts)}", headers={"connection": "close"})
            published = as_published(scope, self._settings)
            if published["method"] == "HEAD":  # the protocol sends no body
                published["method"] = "GET"
            headers = Headers(scope=published)
            self._check_origin(published, headers)
            answer = self._preflight(published, headers) or self._check_token(published, headers)
            body.check_head(headers)
        except ApiError as error:
            return error.response(), scope
        return answer or self._app, published

    def _check_origin(self, scope: Scope, headers: Headers) -> None:
        host = headers["host"]
        if not self._settings.knows(host):
            raise ApiError(403, f"this server has no name {host[:100]!r}; start it with --allow-host to give it one")
        origins = headers.getlist("origin")
        if len(origins) == 1 and origins[0] in self._settings.origins:
            return
        if any(not _same(origin, host, scope["scheme"]) for origin in origins):
            raise ApiError(403, "pages of other sites are not answered; see --cors")
        site = headers.get("sec-fetch-site", "none")
        arriving = scope["method"] in READING and route_of(scope) in ("", "/")  # a link to the page may stand anywhere
        if site not in ("none", "same-origin") and not arriving:
            raise ApiError(403, "pages of other sites are not answered; see --cors")

    def _preflight(self, scope: Scope, headers: Headers) -> Response | None:
        """The answer to a browser that asks whether a page of an allowed site may call the API."""
        asked = scope["method"] == "OPTIONS" and "access-control-request-method" in headers
        return Response(status_code=204, headers=CORS) if asked and self._cors(headers) else None

    def _cors(self, headers: Headers) -> dict[str, str]:
        origin = headers.get("origin", "")
        return {"access-control-allow-origin": origin, "vary": "Origin"} if origin in self._settings.origins else {}

    def _check_token(self, scope: Scope, headers: Headers) -> Response | None:
        """Return None for a request with the token; the form that asks for it for a browser that opens the page."""
        token = self._settings.token
        if token is None:
            return None
        scheme, _, sent = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and _equal(sent.strip(), token):
            return None
        if any(_equal(value, token) for value in _cookies(headers)):
            return None
        route = route_of(scope)
        if route in ("", "/", "/static/entrance.css") and scope["method"] == "GET":
            return page_file("entrance.css") if route.startswith("/static") else self._sign_in(scope, token)
        raise ApiError(401, "expected a token: Authorization: Bearer TOKEN", headers={"www-authenticate": "Bearer"})

    def _sign_in(self, scope: Scope, token: str) -> Response:
        sent = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        home = f"{scope['root_path']}/"
        if not _equal(sent, token):
            if not scope["path"].endswith("/"):  # the form's addresses are relative
                return RedirectResponse(home, 307)
            return HTMLResponse(SIGN_IN, 401, {"www-authenticate": "Bearer"})
        answer = RedirectResponse(home, 303)
        secure = scope["scheme"] == "https"
        answer.set_cookie(COOKIE, token, path=home, httponly=True, samesite="strict", secure=secure)
        return answer


def _same(origin: str, host: str, scheme: str) -> bool:
    """Return whether a page's origin is this server as the request named it."""
    try:
        page, here = urlsplit(origin), urlsplit(f"{scheme}://{host}")
        if page.scheme != scheme or page.hostname is None:
            return False
        return (page.hostname, page.port or PORTS[page.scheme]) == (here.hostname, here.port or PORTS[scheme])
    except ValueError:  # no port, or no address
        return False


def _equal(sent: str, token: str) -> bool:
    return hmac.compare_digest(sent.encode(), token.encode())


def _cookies(headers: Headers) -> list[str]:
    """Every value of our cookie, whatever other cookies of the host stand beside it."""
    pairs = (pair.strip().partition("=") for header in headers.getlist("cookie") for pair in header.split(";"))
    return [value.strip('"') for name, _, value in pairs if name == COOKIE][:10]


NAMES = ("x-forwarded-proto", "x-forwarded-host", "x-forwarded-prefix")


def as_published(scope: Scope, settings: Settings) -> Scope:
    """Return the request as the client made it: scheme, `Host` and root path are those of the outermost server.

    The path of the result starts with the root path. Raises ApiError: a proxy sends a malformed header.
    """
    headers = Headers(scope=scope)
    client = scope.get("client") or ("", 0)
    trusted = settings.trusts(client[0])
    proto, host, prefix = (_last(headers, name) if trusted else None for name in NAMES)
    if proto is not None and proto not in ("http", "https"):
        raise ApiError(400, f"X-Forwarded-Proto: expected http or https, got {proto[:50]!r}")
    if host is not None and host_of(host) is None:
        raise ApiError(400, f"X-Forwarded-Host: expected a host name, got {host[:100]!r}")
    if prefix is not None and not is_prefix(prefix.rstrip("/")):
        raise ApiError(400, f"X-Forwarded-Prefix: expected a path such as /faces, got {prefix[:100]!r}")
    root = settings.root_path if prefix is None else prefix.rstrip("/")
    kept = [(name, value) for name, value in scope["headers"] if name.decode("latin-1") not in NAMES]
    if host is not None:
        kept = [(name, value) for name, value in kept if name != b"host"] + [(b"host", host.encode("latin-1"))]
    path = scope["path"]
    inside = path == root or path.startswith(f"{root}/")
    whole = path if inside else f"{root}{path}"
    return {
        **scope,
        "scheme": proto or scope["scheme"],
        "headers": kept,
        "root_path": root,
        "path": whole,
        "raw_path": whole.encode(),
    }


def route_of(scope: Scope) -> str:
    """Return the path of a published request without its root path."""
    return str(scope["path"])[len(scope["root_path"]) :]


def _last(headers: Headers, name: str) -> str | None:
    values = [part.strip() for value in headers.getlist(name) for part in value.split(",")]
    return values[-1].lower() if values and name != "x-forwarded-prefix" else values[-1] if values else None


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
DRAIN_SECONDS = 2.0  # for which the rest of a refused request is read and dropped


class Memory:
    """Bytes of the bodies that are being read or answered."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0

    def hold(self, size: int) -> None:
        """Make room for more bytes of a body. Raises ApiError: all bodies together would take too much memory."""
        if self._held + size > self._limit:
            raise busy("too many images are being sent at once; try again")
        self._held += size

    def release(self, size: int) -> None:
        """Give up bytes that were held."""
        self._held -= size


class Body:
    """The body of a request: no more than `limits.bytes`, within `limits.body_seconds`."""

    def __init__(self, receive: Receive, limits: Limits, memory: Memory) -> None:
        self._receive = receive
        self._limits = limits
        self._memory = memory
        self._end = time.monotonic() + limits.body_seconds
        self.size = 0
        self.complete = False

    def check_head(self, headers: Headers) -> None:
        """Refuse a request whose head declares too large a body, or two lengths of it. Raises ApiError."""
        length, encoding = headers.get("content-length"), headers.get("transfer-encoding")
        self.complete = length in (None, "0") and encoding is None
        if length is not None and encoding is not None:  # RFC 9112, 6.3
            raise ApiError(400, "expected one of Content-Length and Transfer-Encoding", headers={"connection": "close"})
        if length is not None and int(length) > self._limits.bytes:  # the protocol has checked that it is a number
            raise self._too_large()

    async def __call__(self) -> Message:
        if self.complete:
            return await self._receive()  # returns when the client is gone
        try:
            async with asyncio.timeout(self._end - time.monotonic()):
                message = await self._receive()
        except TimeoutError:
            seconds = f"{self._limits.body_seconds:g} s"
            raise ApiError(408, f"expected the whole request within {seconds}, got {self.size:,} bytes of it") from None
        if message["type"] == "http.request":
            size = len(message.get("body", b""))
            if self.size + size > self._limits.bytes:
                raise self._too_large()
            self._memory.hold(size)
            self.size += size
            self.complete = not message.get("more_body", False)
        return message

    async def drain(self) -> None:
        """Read and drop the rest for a moment: a client that is cut off while it sends cannot read the answer."""
        if not self.complete:
            self.release()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                while not self.complete:
                    message = await self._receive()
                    self.complete = message["type"] != "http.request" or not message.get("more_body", False)

    def release(self) -> None:
        """Give up the memory of the body."""
        self._memory.release(self.size)
        self.size = 0

    def _too_large(self) -> ApiError:
        return ApiError(413, f"the request is larger than {self._limits.bytes:,} bytes; send fewer or smaller images")


class Answer:
    """Adds the headers of every answer, and remembers its status; reads the rest of the body before it."""

    def __init__(self, send: Send, body: Body, headers: dict[str, str]) -> None:
        self._send = send
        self._body = body
        self._headers = HEADERS | headers
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._body.drain()
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in self._headers.items():
                headers.setdefault(name, value)
            if not self._body.complete:
                headers["connection"] = "close"
        await self._send(message)
