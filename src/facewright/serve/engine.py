"""One thread that runs the networks; the images of requests that came together are one batch.

Nothing waits for a batch to fill: while one batch is computed the next ones gather, so that a single request is as fast
as it can be and many are batched by themselves. A request has one image, or one batch, in the queue at a time, so that
a long request does not keep others waiting, and ends between two of its jobs when it is cancelled.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from facewright import devices
from facewright.errors import DeviceFault

LOG = logging.getLogger("facewright.serve")


@dataclass(frozen=True)
class Kind:
    """The processing of one kind of job."""

    work: Callable[[Sequence[Any]], Sequence[Any]]  # a result for each item, in order
    most: int = 1  # items at once


@dataclass(frozen=True)
class _Job:
    kind: str
    item: Any
    future: Future[Any]


class Call:
    """The jobs of one request, which can be cancelled together."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._futures: list[Future[Any]] = []
        self._cancelled = False

    def watch(self, futures: list[Future[Any]]) -> None:
        """Cancel these futures when the request is cancelled. Raises CancelledError: it is already."""
        with self._lock:
            self._futures = futures
            cancelled = self._cancelled
        if cancelled:
            self.cancel()
            raise CancelledError

    def cancel(self) -> None:
        """Drop the jobs that have not started; those that come later are refused."""
        with self._lock:
            self._cancelled = True
            for future in self._futures:
                future.cancel()


CALL: ContextVar[Call | None] = ContextVar("facewright_call", default=None)


class Engine:
    """A queue of jobs and the thread that does them.

    Args:
        kinds: what can be asked for. observe: called with the kind and size of each batch.
    """

    def __init__(self, kinds: Mapping[str, Kind], observe: Callable[[str, int], None] | None = None) -> None:
        self._kinds = dict(kinds)
        self._observe = observe
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self.fault: str | None = None  # of the device, which answers nothing more
        self._thread = threading.Thread(target=self._run, name="facewright-engine", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Jobs that have not started."""
        return len(self._jobs)

    def submit(self, kind: str, item: Any) -> Future[Any]:
        """Queue one item; a job that is cancelled before it starts is skipped.

        Raises:
            KeyError: no such kind. CancelledError: the engine is closed.
        """
        job = _Job(kind, item, Future())
        self._kinds[kind]
        with self._changed:
            if self._closed:
                raise CancelledError
            self._jobs.append(job)
            self._changed.notify()
        return job.future

    def do(self, kind: str, items: Sequence[Any]) -> list[Any]:
        """Return the results of items, in order; no more are queued at once than go into a batch.

        Raises:
            CancelledError: the request that this thread works for was cancelled, or the engine is closed.
        """
        results: list[Any] = []
        call = CALL.get()
        most = self._kinds[kind].most
        for start in range(0, len(items), most):
            futures = [self.submit(kind, item) for item in items[start : start + most]]
            if call is not None:
                call.watch(futures)
            results += [future.result() for future in futures]
        return results

    def close(self, seconds: float | None = None) -> None:
        """Cancel what waits, and wait for the batch that is being computed, but no longer than `seconds`."""
        with self._changed:
            self._closed = True
            for job in self._jobs:
                job.future.cancel()
            self._changed.notify()
        self._thread.join(seconds)

    def _run(self) -> None:
        while batch := self._next():
            kind = self._kinds[batch[0].kind]
            if self._observe is not None:
                self._observe(batch[0].kind, len(batch))
            self._do(kind.work, batch)

    def _do(self, work: Callable[[Sequence[Any]], Sequence[Any]], batch: list[_Job]) -> None:
        """Give each job its result; where a batch fails each is tried alone, so that one image spoils no other."""
        try:
            results = work([job.item for job in batch])
        except BaseException as error:
            if len(batch) == 1:
                batch[0].future.set_exception(self._meaning(error))
            else:
                for job in batch:
                    self._do(work, [job])
            return
        for job, result in zip(batch, results, strict=True):
            job.future.set_result(result)

    def _meaning(self, error: BaseException) -> BaseException:
        """Return what an error of a device means to people, and note that it failed."""
        if not isinstance(error, RuntimeError) or "torch" not in sys.modules:
            return error
        told = devices.fault(error)
        if isinstance(told, DeviceFault) and not devices.is_out_of_memory(error) and self.fault is None:
            self.fault = str(told)
            LOG.error("%s; restart the server", told)
        return told

    def _next(self) -> list[_Job]:
        """The oldest job and those of its kind behind it, as many as go together; nothing once it is closed."""
        with self._changed:
            while True:
                while not self._jobs and not self._closed:
                    self._changed.wait()
                if self._closed:
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
