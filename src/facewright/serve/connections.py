"""Connections that trickle are cut: the head of a request must be there in time.

uvicorn ends idle connections between two requests, and `guard` bodies that do not come; a head that does not come is
ended here.
"""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


class PatientProtocol(H11Protocol):
    """uvicorn's own protocol with an end to its patience."""

    head_seconds = 10.0

    def __init__(self, *args: Any, **more: Any) -> None:  # as uvicorn calls it
        super().__init__(*args, **more)
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_a_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_nothing()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        super().handle_events()
        if self.conn.their_state is h11.IDLE:
            if self._head_timer is None and self.conn.trailing_data[0]:  # the next request has begun
                self._expect_a_head()
        else:
            self._expect_nothing()

    def _expect_a_head(self) -> None:
        self._head_timer = self.loop.call_later(self.head_seconds, self._cut)

    def _expect_nothing(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _cut(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            self.transport.abort()


def patient(head_seconds: float) -> type[PatientProtocol]:
    """The protocol that waits so long for a head."""
    return type("PatientProtocol", (PatientProtocol,), {"head_seconds": head_seconds})
