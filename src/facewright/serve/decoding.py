"""Images to pixels within a budget of memory: what an image takes is known from its header, before decoding."""

from __future__ import annotations

import asyncio
import io
import math
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image

from facewright import images
from facewright.errors import BadImage
from facewright.images import Pixels
from facewright.images.decoding import recognize, webp_size
from facewright.serve.forms import Upload
from facewright.serve.http_errors import ApiError
from facewright.serve.settings import Limits

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
    """Return the pixels (H, W, 3) of an image, upright.

    Args:
        at_least: px that the shorter side of a big JPEG keeps, as the same model reads it from a file; None: all.
            An image of more than `limits.kept_pixels` is reduced.
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
