"""Shared by all requests of a server: decoding within a budget of memory, and one thread that runs the networks.

What an image takes is known from its header. Nothing waits for a batch to fill: while one is computed the next ones
gather. A request has one image, or one batch, in the queue at a time, so that a long request does not keep others
waiting, and ends between two of its jobs when it is cancelled.
"""

from __future__ import annotations

import asyncio
import io
import logging
import math
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facewright import devices, images
from facewright.errors import BadImage, DeviceFault
from facewright.faces.quality import Quality
from facewright.images import Pixels
from facewright.images.decoding import recognize, webp_size
from facewright.recognition import DEFAULT_SELECTION, Face, Picked, Recognizer, SelectFace
from facewright.serve.forms import Upload
from facewright.serve.responses import ApiError
from facewright.serve.settings import Limits

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
    """A queue of jobs of some kinds and the thread that does them; `observe` gets the kind and size of each batch."""

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
        """Queue one item; a job cancelled before it starts is skipped. Raises CancelledError: the engine is closed."""
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


class QueuedRecognizer:
    """A `Recognizer` whose detector and networks run in the engine, so that requests share batches and take turns."""

    def __init__(self, recognizer: Recognizer, engine: Engine) -> None:
        self._recognizer = recognizer
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._recognizer, name)

    def faces(self, photo: Pixels) -> tuple[Face, ...]:
        """Detect the faces of an image."""
        return self.search(photo)[0]

    def search(self, photo: Pixels) -> tuple[tuple[Face, ...], float | None]:
        """Detect the faces of an image, and tell from which size on they were looked for."""
        (found,) = self._engine.do("detect", [photo])
        return cast(tuple[tuple[Face, ...], float | None], found)

    def pick(self, photo: Pixels, select_face: SelectFace = DEFAULT_SELECTION) -> Picked:
        """Detect the face that is taken for the person."""
        (picked,) = self._engine.do("pick", [(photo, select_face)])
        return cast(Picked, picked)

    def embed(self, faces: Sequence[Face]) -> NDArray[np.float32]:
        """Return the unit vectors of N faces: (N, D)."""
        return self.embed_crops([face.chip for face in faces])

    def embed_crops(self, crops: Sequence[Pixels]) -> NDArray[np.float32]:
        """Return the unit vectors of N aligned face crops: (N, D)."""
        rows = self._engine.do("embed", crops)
        return np.stack(rows) if rows else np.zeros((0, self._recognizer.width), np.float32)

    def embed_with_quality(self, faces: Sequence[Face]) -> tuple[NDArray[np.float32], list[Quality]]:
        """Return the unit vectors of N faces, and measure their quality; as a gallery does."""
        if self._recognizer.typical_norm is None:
            return self.embed(faces), self._recognizer.qualities(faces)
        (both,) = self._engine.do("call", [partial(self._recognizer.embed_with_quality, faces)])
        return cast(tuple[NDArray[np.float32], list[Quality]], both)


# Images are decoded two at a time, always by the same threads: the allocator keeps what a thread has freed for that
# thread, so that thirty threads in turn would hold thirty times as much.
DECODERS = ThreadPoolExecutor(2, "facewright-decoder")
# The most bytes that a pixel takes while it is decoded: decoder, Pillow and the array together, rounded up from what
# `tests/serve/test_decoding.py` measures.
PIXEL_BYTES = {"WebP": 26, "AVIF": 26, "HEIC": 26}
OTHER_PIXEL_BYTES = 18
PROGRESSIVE_BYTES = 8  # of a pixel at full size: a progressive JPEG is held whole, however small it is decoded


@dataclass(frozen=True)
class Header:
    """The facts in the header of an image file."""

    kind: str
    width: int  # px, as stored
    height: int
    progressive: bool = False

    def reduction(self, at_least: int | None, kept: int) -> int:
        """Return how many times smaller a JPEG is decoded: 1, 2, 4 or 8.

        Args:
            at_least: px that the shorter side keeps; None: all, up to `kept` pixels in all.
        """
        if self.kind != "JPEG":
            return 1
        times = 1
        while times < 8 and self.width * self.height > kept * times * times:
            times *= 2
        by_side = min(self.width, self.height) // at_least if at_least else 1
        return max(times, *(power for power in (1, 2, 4, 8) if power <= max(1, by_side)))

    def bytes(self, at_least: int | None, kept: int) -> int:
        """Return the most bytes that decoding takes."""
        pixels = self.width * self.height
        whole = pixels * PROGRESSIVE_BYTES if self.progressive else 0
        times = self.reduction(at_least, kept)
        return whole + pixels // (times * times) * PIXEL_BYTES.get(self.kind, OTHER_PIXEL_BYTES)


def read_header(upload: Upload) -> Header | None:
    """Return what an image says of itself; None where it cannot be read: decoding will refuse it."""
    try:
        kind, reader = recognize(upload.content)
        if kind == "WebP":  # its reader makes room for the whole image when it opens
            return Header(kind, *webp_size(upload.content))
        with reader(io.BytesIO(upload.content)) as image:
            return Header(kind, *image.size, progressive=bool(image.info.get("progressive")))
    except Exception:  # Pillow raises a dozen types on damaged data
        return None


def reduction_of(upload: Upload, longest: int) -> int:
    """Return how many times an image was reduced while it was decoded to a longer side of so many px; 1: not."""
    header = read_header(upload)
    return 1 if header is None or not longest else max(1, round(max(header.width, header.height) / longest))


def bytes_to_decode(upload: Upload, at_least: int | None, limits: Limits) -> int:
    """Return the most bytes that decoding an image takes; 0 for one that will be refused. Raises BadImage."""
    header = read_header(upload)
    if header is None:
        return 0
    pixels = header.width * header.height
    if pixels > limits.pixels and header.kind != "JPEG":
        size = f"{header.width} x {header.height} = {pixels:,} pixels"
        raise BadImage(upload.name, f"declares {size}; the limit is {limits.pixels:,}. Send it smaller")
    return header.bytes(at_least, limits.kept_pixels)


def decode(upload: Upload, at_least: int | None, limits: Limits) -> Pixels:
    """Return the pixels (H, W, 3) of an image, upright; of one above `limits.kept_pixels` reduced.

    Args:
        at_least: px that the shorter side of a big JPEG keeps, as the same model reads it from a file; None: all.
    """
    return DECODERS.submit(_decode, upload, at_least, limits).result()


def _decode(upload: Upload, at_least: int | None, limits: Limits) -> Pixels:
    header = read_header(upload)
    if header is not None and (times := header.reduction(at_least, limits.kept_pixels)) > 1:
        at_least = min(header.width, header.height) // times
    within = images.Limits(pixels=limits.pixels, bytes=limits.bytes)
    pixels = images.read(upload.content, limits=within, name=upload.name, at_least=at_least)
    height, width = pixels.shape[:2]
    times = math.ceil(math.sqrt(height * width / limits.kept_pixels))
    return pixels if times < 2 else np.asarray(Image.fromarray(pixels).reduce(times))


class Budget:
    """Bytes that requests share; who asks first gets them first."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._free = total
        self._queue: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, size: int) -> None:
        """Wait until there is room. Raises ApiError: there never will be."""
        if size > self._total:
            raise ApiError(
                413, f"decoding the image takes {size:,} bytes; the limit is {self._total:,}. Send it smaller"
            )
        if not self._queue and size <= self._free:
            self._free -= size
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._free += size
            elif (size, turn) in self._queue:  # else a request that gave bytes back has passed it over
                self._queue.remove((size, turn))
            self._wake()
            raise

    def give(self, size: int) -> None:
        """Give bytes back."""
        self._free += size
        self._wake()

    def _wake(self) -> None:
        while self._queue and (self._queue[0][1].done() or self._queue[0][0] <= self._free):
            size, turn = self._queue.popleft()
            if not turn.done():
                self._free -= size
                turn.set_result(None)
