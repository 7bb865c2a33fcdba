"""A film that is written frame by frame."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from facewright.files import replacing
from facewright.images import Pixels

if TYPE_CHECKING:
    import av

CLOCK = 90_000  # time stamps a second
RATE = 25  # frames a second, as declared; the time stamps say when each is shown


class FilmWriter:
    """An .mp4 with H.264, in the size of its first frame (less a row or a column, if that is odd)."""

    def __init__(self, container: av.container.OutputContainer) -> None:
        import av

        self._container = container
        codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        self._stream = cast("av.VideoStream", container.add_stream(codec, rate=RATE))
        self._last = -1

    def add(self, pixels: Pixels, seconds: float) -> None:
        """Add a frame, (H, W, 3) uint8 RGB, that is shown from a time on."""
        import av

        if self._last < 0:
            height, width = pixels.shape[:2]
            self._stream.width, self._stream.height = width - width % 2, height - height % 2
            self._stream.pix_fmt = "yuv420p"
            self._stream.codec_context.time_base = Fraction(1, CLOCK)
        even = np.asarray(pixels)[: self._stream.height, : self._stream.width]
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
        frame = frame.reformat(width=self._stream.width, height=self._stream.height)
        self._last = frame.pts = max(self._last + 1, round(seconds * CLOCK))
        frame.time_base = Fraction(1, CLOCK)
        self._container.mux(self._stream.encode(frame))

    def finish(self) -> None:
        """Write what the encoder still holds."""
        if self._last >= 0:
            self._container.mux(self._stream.encode())


@contextmanager
def writing(path: Path | None) -> Iterator[FilmWriter | None]:
    """Yield a writer; the file takes its name when the block ends well. None: no film."""
    if path is None:
        yield None
        return
    import av

    with replacing(path) as file, av.open(file, "w", format="mp4") as container:
        writer = FilmWriter(container)
        yield writer
        writer.finish()
