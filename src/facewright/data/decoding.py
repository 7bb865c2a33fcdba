"""Records → fitted pixels, on all cores, in the order of the records."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facewright.data.cache import reason_of
from facewright.data.records import PixelSource, Record
from facewright.errors import BadImage
from facewright.images import InputSpec, pixel_digest

CHUNK = 8  # records a task: small enough for steady progress, large enough to hide the cost of a task
DRAFT_SIDE = 512


@dataclass(frozen=True)
class Decoded:
    """One record, decoded or not."""

    pixels: NDArray[np.uint8] | None  # (height, width, 3) as InputSpec.fit gives it; None: broken
    digest: str  # of the picture before fitting
    size: tuple[int, int]  # height and width before fitting
    reason: str  # why it is broken; else empty


def smallest_side(spec: InputSpec) -> int:
    """To how many pixels a big JPEG's shorter side may be reduced while it is decoded.

    A JPEG decoder can give a half, a quarter or an eighth of the size for a fraction of the time. Twice the target side
    keeps the last step down to the resampling filter. At least 512, so that for all sizes up to 256 px the same picture
    is seen: digests, and with them splits, must not change with the input size.
    """
    return max(DRAFT_SIDE, 2 * max(spec.height, spec.width))


def decode_all(source: PixelSource, records: Sequence[Record], spec: InputSpec, workers: int) -> Iterator[Decoded]:
    """Decodes and fits every record; the results come in order, and only a few wait in memory.

    Args:
        source: where the pictures come from.
        records: what to decode.
        spec: the size and the rule of fitting.
        workers: threads or processes, at least 1.
    """
    chunks = [records[start : start + CHUNK] for start in range(0, len(records), CHUNK)]
    if workers <= 1:
        for chunk in chunks:
            yield from decode(source, chunk, spec)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="facewright-decode")
    yield from _in_order(pool, lambda chunk: pool.submit(decode, source, chunk, spec), chunks, 3 * workers)


def decode(source: PixelSource, records: Sequence[Record], spec: InputSpec) -> list[Decoded]:
    """Decodes and fits some records; a broken one gives its reason."""
    results = []
    for record in records:
        try:
            image = source.read(record, smallest_side(spec))
        except (BadImage, OSError) as error:
            results.append(Decoded(None, "", (0, 0), reason_of(error)))
        else:
            height, width, _ = image.shape
            results.append(Decoded(spec.fit(image), pixel_digest(image), (height, width), ""))
    return results


def default_workers() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def _in_order(
    pool: Executor,
    submit: Callable[[Sequence[Record]], Future[list[Decoded]]],
    chunks: Sequence[Sequence[Record]],
    ahead: int,
) -> Iterator[Decoded]:
    """Keeps `ahead` tasks in flight; on any exit the waiting ones are cancelled and the running ones waited for."""
    waiting: deque[Future[list[Decoded]]] = deque()
    try:
        for chunk in chunks:
            waiting.append(submit(chunk))
            if len(waiting) >= ahead:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
