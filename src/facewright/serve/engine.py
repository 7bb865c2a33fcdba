"""One thread that passes pictures through networks, those of requests that came together as one batch.

Nothing waits for a batch to fill: while one batch is computed the next ones gather, so that a single request is as fast
as it can be and many are batched by themselves.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Kind:
    """What is done with the items of jobs of one kind."""

    work: Callable[[Sequence[Any]], Sequence[Any]]  # a result for each item, in order
    most: int = 1  # items at once


@dataclass(frozen=True)
class _Job:
    kind: str
    item: Any
    future: Future[Any]


class Engine:
    """A queue of jobs and the thread that does them.

    Args:
        kinds: what can be asked for. observe: told the kind and size of each batch.
    """

    def __init__(self, kinds: Mapping[str, Kind], observe: Callable[[str, int], None] | None = None) -> None:
        self._kinds = dict(kinds)
        self._observe = observe
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="facewright-engine", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Jobs that are not begun."""
        return len(self._jobs)

    def submit(self, kind: str, item: Any) -> Future[Any]:
        """Have one item worked on; a job that is cancelled before it is begun is passed over.

        Raises:
            KeyError: no such kind. RuntimeError: the engine is closed.
        """
        job = _Job(kind, item, Future())
        self._kinds[kind]
        with self._changed:
            if self._closed:
                raise RuntimeError("the engine is closed")
            self._jobs.append(job)
            self._changed.notify()
        return job.future

    def close(self) -> None:
        """Do what waits, then stop."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while batch := self._next():
            kind = self._kinds[batch[0].kind]
            if self._observe is not None:
                self._observe(batch[0].kind, len(batch))
            _do(kind.work, batch)

    def _next(self) -> list[_Job]:
        """The oldest job and those of its kind behind it, as many as go together; nothing once all is done."""
        with self._changed:
            while True:
                while not self._jobs and not self._closed:
                    self._changed.wait()
                if not self._jobs:
                    return []
                kind = self._jobs[0].kind
                batch, rest = list[_Job](), deque[_Job]()
                for job in self._jobs:
                    together = job.kind == kind and len(batch) < self._kinds[kind].most
                    (batch if together else rest).append(job)
                self._jobs = rest
                wanted = [job for job in batch if job.future.set_running_or_notify_cancel()]
                if wanted:
                    return wanted


def _do(work: Callable[[Sequence[Any]], Sequence[Any]], batch: list[_Job]) -> None:
    """Give each job its result; where a batch fails each is tried alone, so that one picture spoils no other."""
    try:
        results = work([job.item for job in batch])
    except BaseException as error:
        if len(batch) == 1:
            batch[0].future.set_exception(error)
        else:
            for job in batch:
                _do(work, [job])
        return
    for job, result in zip(batch, results, strict=True):
        job.future.set_result(result)
