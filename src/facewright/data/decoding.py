"""Records → fitted pixels, on all cores, in the order of the records.

Files are decoded by threads: Pillow lets other threads run while it decodes and resamples, and so does hashing. A
source whose work is done in Python itself (the synthetic faces) gains little from threads; it says so with an attribute
`in_processes = True` and is read by worker processes instead, where there are enough records to be worth their start.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from facewright import images
from facewright.data.image_records import PixelSource, reason_of
from facewright.data.records import Record
from facewright.errors import BadImage
from facewright.images import pixel_digest
from facewright.input_spec import InputSpec

CHUNK = 8  # records a task: small enough for steady progress, large enough to hide the cost of a task
DRAFT_SIDE = 512
WORTH_PROCESSES = 200  # records; below, drawing them is about as fast as starting workers

Chunk = Sequence[Record]
Result = TypeVar("Result")
Task = Callable[[PixelSource, Chunk, InputSpec], list[Result]]


@dataclass(frozen=True)
class Decoded:
    """One record, decoded or not."""

    pixels: NDArray[np.uint8] | None  # (height, width, 3) as InputSpec.fit gives it; None: broken
    digest: str = ""  # of the image before fitting
    size: tuple[int, int] = (0, 0)  # height and width in the file
    reason: str = ""  # why it is broken; else empty


def smallest_side(spec: InputSpec) -> int:
    """To how many pixels a big JPEG's shorter side may be reduced while it is decoded.

    A JPEG decoder can give a half, a quarter or an eighth of the size for a fraction of the time. Twice the target side
    keeps the last step down to the resampling filter. At least 512, so that for all sizes up to 256 px the same image
    is seen: digests, and with them splits, must not change with the input size. Of a crop, what is kept counts.
    """
    return max(DRAFT_SIDE, math.ceil(2 * max(spec.height, spec.width) / spec.crop))


def decode(source: PixelSource, records: Chunk, spec: InputSpec) -> list[Decoded]:
    """Decode and fit some records; a broken one gives its reason."""
    results = []
    for record in records:
        try:
            image, size = _read(source, record, smallest_side(spec))
        except (BadImage, OSError) as error:
            results.append(Decoded(None, reason=reason_of(error)))
        else:
            results.append(Decoded(spec.fit(image), pixel_digest(image), size))
    return results


def _read(source: PixelSource, record: Record, at_least: int) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Return the image, and its height and width in the file, which may be larger than what is decoded of it."""
    content: Callable[[str], bytes] | None = getattr(source, "content", None)
    if content is not None:
        return images.read_sized(content(record.path), name=record.path, at_least=at_least)
    image = source.read(record, at_least)
    return image, (image.shape[0], image.shape[1])


def decode_all(
    source: PixelSource, records: Chunk, spec: InputSpec, workers: int, task: Task[Any] = decode
) -> Iterator[Any]:
    """Decode and fit every record; the results come in order, and only a few wait in memory.

    However it ends, waiting tasks are cancelled, running ones waited for, and no worker stays. Where a worker process
    dies (for want of memory, say), what it leaves is decoded here. With 1 worker all is done in the calling thread.
    """
    pool = _pool(source, len(records), workers)
    waiting: deque[tuple[Future[list[Any]] | None, Chunk]] = deque()

    def first() -> list[Any]:
        future, chunk = waiting.popleft()
        try:
            return task(source, chunk, spec) if future is None else future.result()
        except BrokenExecutor:
            return task(source, chunk, spec)

    try:
        for start in range(0, len(records), CHUNK):
            chunk = records[start : start + CHUNK]
            waiting.append((_submit(pool, task, source, chunk, spec), chunk))
            if pool is None or len(waiting) >= 3 * workers:
                yield from first()
        while waiting:
            yield from first()
    finally:
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)


def _pool(source: PixelSource, records: int, workers: int) -> Executor | None:
    if workers <= 1:
        return None
    by_processes = getattr(source, "in_processes", False) and records >= WORTH_PROCESSES
    if by_processes and type(source).__module__ != "__main__":  # which workers do not load, see _nameless_main
        try:
            context = multiprocessing.get_context("spawn")  # a fork of a process with threads may deadlock
            return ProcessPoolExecutor(workers, context, initializer=_end_with_parent)
        except (ImportError, OSError):
            pass  # a system without the semaphores that this needs; threads always work
    return ThreadPoolExecutor(workers, thread_name_prefix="facewright-decode")


def _submit(
    pool: Executor | None, task: Task[Any], source: PixelSource, chunk: Chunk, spec: InputSpec
) -> Future[list[Any]] | None:
    """The task's future; None where the caller has to do it."""
    if pool is None:
        return None
    try:
        if isinstance(pool, ThreadPoolExecutor):
            return pool.submit(task, source, chunk, spec)
        with _nameless_main():
            return pool.submit(task, source, chunk, spec)
    except BrokenExecutor:
        return None


@contextmanager
def _nameless_main() -> Iterator[None]:
    """Keep worker processes, which import their parent's main module, from running the user's script once more."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _end_with_parent() -> None:
    """In a worker: leave Ctrl-C to the parent, and end when the parent does, even when that was killed."""

    def wait() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    parent = multiprocessing.parent_process()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=wait, daemon=True).start()
