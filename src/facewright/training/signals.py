"""A request to stop, as a signal makes it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Turns the first SIGTERM or Ctrl-C into a request; the second one acts at once, as if we were not here.

    Yields:
        A function that says whether a request has come.
    """
    asked: list[int] = []
    previous: dict[int, Any] = {}

    def take(number: int, _frame: Any) -> None:
        asked.append(number)
        for taken, handler in previous.items():
            signal.signal(taken, handler)

    for signum in (signal.SIGTERM, signal.SIGINT):
        try:
            previous[signum] = signal.signal(signum, take)
        except ValueError:  # not the main thread: signals are somebody else's business
            break
    try:
        yield lambda: bool(asked)
    finally:
        for taken, handler in previous.items():
            signal.signal(taken, handler)
