"""Connections that trickle or stall are cut, and there are never more of them than the process can hold.

uvicorn closes connections that are idle between two requests, and `guard` limits the time of a body. Here a head that
does not come, and an answer that is not read, end their connection. Where all places are taken, a new connection takes
the place of one whose client keeps the server waiting.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import time
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from facewright.errors import UsageError
from facewright.platforms import descriptors
from facewright.serve.settings import Limits

LOG = logging.getLogger("facewright.serve")
PATIENCE = 1.0  # s that a client may keep a connection waiting before a new one may take its place
SPARE = 16  # file descriptors kept for the gallery's files and the like
BACKLOG = 1024
SILENCE = 60.0  # s between two log lines about the same trouble


class LimitedProtocol(H11Protocol):
    """uvicorn's protocol with deadlines for heads and for reading answers, and a limit of connections."""

    limits = Limits()
    last_line = -SILENCE  # when the last line about connections was logged

    def __init__(self, *args: Any, **more: Any) -> None:  # as uvicorn calls it
        super().__init__(*args, **more)
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._since = 0.0  # when the client began to keep the server waiting

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._since = self.loop.time()
        self._expect_head()
        if len(self.connections) > self.limits.connections:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._head_timer, self._write_timer):
            if timer is not None:
                timer.cancel()
        self._head_timer = self._write_timer = None
        super().connection_lost(exc)

    def handle_events(self) -> None:
        before = self.conn.their_state
        super().handle_events()
        if self.conn.their_state is not before:
            self._since = self.loop.time()
        if self.conn.their_state is h11.IDLE:
            if self._head_timer is None and self.conn.trailing_data[0]:  # the next request has begun
                self._expect_head()
        elif self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def on_response_complete(self) -> None:
        self._since = self.loop.time()
        super().on_response_complete()
        self._expect_reading()

    def pause_writing(self) -> None:
        """The client does not read as fast as the answer is written."""
        self._since = self.loop.time()
        super().pause_writing()
        self._expect_reading()

    def _expect_head(self) -> None:
        self._head_timer = self.loop.call_later(self.limits.head_seconds, self._cut)

    def _expect_reading(self) -> None:
        if self._write_timer is None and self._unread():
            self._write_timer = self.loop.call_later(self.limits.write_seconds, self._cut_if_unread)

    def _cut_if_unread(self) -> None:
        self._write_timer = None
        if self._unread():
            self._cut()

    def _unread(self) -> bool:
        return self.transport is not None and self.transport.get_write_buffer_size() > 0

    def _cut(self) -> None:
        self._head_timer = None
        self.transport.abort()

    def _make_room(self) -> None:
        """Cut the connection that has kept the server waiting longest; where there is none, this one."""
        now = self.loop.time()
        waiting = [one for one in self.connections if isinstance(one, LimitedProtocol) and one._waits(now)]
        victim = min(waiting, key=lambda one: one._since, default=self)
        if now - type(self).last_line >= SILENCE:
            type(self).last_line = now
            LOG.warning("all %d connections are taken; those that wait longest are closed", self.limits.connections)
        victim._cut()

    def _waits(self, now: float) -> bool:
        """Return whether the server waits for the client: idle, or longer than allowed."""
        if self.transport.is_closing() and not self._unread():
            return False
        idle = self.conn.their_state is h11.IDLE and self.cycle is not None
        late = now - self._since > PATIENCE
        return (idle and not self._unread()) or (
            late and (self._unread() or self.conn.their_state in (h11.IDLE, h11.SEND_BODY))
        )


def protocol_of(limits: Limits) -> type[LimitedProtocol]:
    """Return the protocol with these limits."""
    return type("LimitedProtocol", (LimitedProtocol,), {"limits": limits})


def capacity(wanted: int) -> tuple[int, int]:
    """Return how many connections may be open, and how many may be accepted at a time.

    asyncio accepts up to `backlog` connections before it handles the first of them.

    Raises:
        UsageError: the system allows too few file descriptors.
    """
    limit = descriptors()
    if limit is None:
        return wanted, BACKLOG
    most, used = limit
    free = most - used - SPARE
    if free < 8:
        raise UsageError(f"the system allows {most} file descriptors and {used} are in use; raise it: ulimit -n 1024")
    backlog = min(BACKLOG, free // 4)
    return min(wanted, free - backlog), backlog


class OncePerMinute(logging.Filter):
    """Lets a message pass once in a minute, however often it comes; that no descriptor is free is told in a line."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is logged."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            record.msg, record.args, record.exc_info = "no file descriptor is free; new connections wait", (), None
        now, text = time.monotonic(), record.getMessage()[:100]
        if now - self._last.get(text, -SILENCE) < SILENCE:
            return False
        if len(self._last) > 100:
            self._last.clear()
        self._last[text] = now
        return True
