"""The bodies of requests, limited in size, time and memory; and the headers of every answer."""

from __future__ import annotations

import asyncio
import contextlib
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import Message, Receive, Send

from facewright.serve.http_errors import ApiError, busy
from facewright.serve.settings import Limits

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
    """Adds the headers of every answer, and remembers its status.

    Before an answer the rest of the body is read, as far as it comes soon; if it does not, the answer is the
    connection's last.
    """

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
