"""The frames of a film, a network stream or a camera, decoded by PyAV (FFmpeg); and a film written frame by frame.

Only container formats that hold their own data are opened, and a film opens no other file and no address: a playlist
could name any. Of a camera or a stream a frame that comes while another one is waiting takes its place.
"""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from facewright.errors import DataError, UsageError, require_extra
from facewright.files import replacing
from facewright.images import Limits, Pixels, is_image

if TYPE_CHECKING:
    import av

FILMS = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".3gp", ".flv", ".wmv", ".ogv", ".gif"),
)
FORMATS = "mov,matroska,avi,mpeg,mpegts,3gp,flv,asf,ogg,gif"
STREAMS = ("rtsp", "rtsps", "tcp", "http", "https")
STREAM_FORMATS = "mpegts,mpjpeg"  # of tcp and http
STREAM_PROTOCOLS = "rtsp,rtsps,rtp,udp,tcp,tls,http,https,crypto"
SOURCES = "a film, camera, camera:N, rtsp://..., or tcp://... or http(s)://... of MPEG-TS or MJPEG"
PATIENCE = 10.0  # seconds until a stream that sends nothing is taken for broken
THUMBNAIL = (32, 18)  # px
CUT = 20.0  # mean difference of two thumbnails, of 255: in a film of four shots 27 to 30 at a cut, else up to 13
DAMAGED_IN_A_ROW = 100  # packets without a frame in between, after which a film is given up


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame."""

    number: int  # from 0, of all decoded ones
    seconds: float  # since the first frame
    pixels: Pixels  # (H, W, 3) uint8 RGB, upright
    cut: bool  # another shot has begun since the last frame that was given


@dataclass
class Reading:
    """The state of a source while it is read."""

    decoded: int = 0
    dropped: int = 0  # that came faster than they were taken, of a live source
    reconnects: int = 0
    damaged: int = 0  # packets that could not be decoded
    broken: str | None = None  # why the source ended early
    rate: float | None = None  # frames a second, as the source declares
    frames: int = 0  # as the source declares; 0: not known


Open = Callable[[], "av.container.InputContainer"]


def is_film(path: str | Path) -> bool:
    """Tell if a name is a film's."""
    return Path(path).suffix.lower() in FILMS


def is_live(source: str | Path) -> bool:
    """Tell if a source is a camera or a network stream, which does not wait for its reader."""
    return isinstance(source, str) and bool(re.fullmatch(rf"camera(:\d{{1,2}})?|({'|'.join(STREAMS)})://.+", source))


def opener(source: str | Path) -> Open:
    """Return what opens a film, rtsp(s)://…, tcp://…, http(s)://…, "camera" or "camera:N".

    Raises:
        UsageError: none of these, or PyAV is not installed. DataError: there is no such film.
    """
    require_extra("video", "a film or a camera")
    import av

    name = str(source)
    if not is_live(source):
        if "://" in name or name.startswith("camera:"):
            raise UsageError(f"{shown(name)}: expected {SOURCES}")
        if not Path(source).is_file():
            raise DataError(f"{name}: there is no such film")
        options = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
        return lambda: av.open(f"file:{Path(source).resolve()}", container_options=options)
    if name.startswith("camera"):
        device, kind = _camera(int(name.partition(":")[2] or 0))
        return lambda: av.open(device, format=kind)
    stream = {"protocol_whitelist": STREAM_PROTOCOLS, "format_whitelist": STREAM_FORMATS}
    if name.startswith("rtsp"):
        stream |= {"rtsp_transport": "tcp", "format_whitelist": "rtsp"}
    return lambda: av.open(name, container_options=stream, timeout=(PATIENCE, PATIENCE))


def _camera(number: int) -> tuple[str, str]:
    if sys.platform == "darwin":
        return str(number), "avfoundation"
    if sys.platform == "win32":
        return f"video={number}", "dshow"
    return f"/dev/video{number}", "v4l2"


def shown(source: str | Path) -> str:
    """Return a source without the password of its address.

    >>> shown("rtsp://me:secret@door/1")
    'rtsp://me:***@door/1'
    """
    return re.sub(r"(://[^:/@]*):[^/]*@", r"\1:***@", str(source))


def read(source: str | Path, reading: Reading, *, every: int = 1, open_: Open | None = None) -> Generator[Frame]:
    """Decode a source of `opener` once, frame by frame, of which every N-th is given; `reading` is filled meanwhile.

    Raises:
        DataError: it cannot be opened, or holds no frame. A source that breaks later ends; `reading.broken` says why.
    """
    import av

    name, before = shown(source), reading.decoded
    try:
        container = (open_ or opener(source))()
    except (av.error.FFmpegError, OSError) as error:
        hint = "; for an image: facewright gallery identify" if is_image(name) else ""
        raise DataError(f"{name}: cannot be opened: {_reason(error)}{hint}") from None
    with closing(container):
        if not container.streams.video:
            raise DataError(f"{name}: has no video stream")
        stream = container.streams.video[0]
        reading.rate = None if stream.average_rate is None else float(stream.average_rate)
        reading.frames = stream.frames
        _check_size(name, stream.codec_context.width, stream.codec_context.height)
        yield from _sampled(name, _decoded(container, stream, reading), reading, every)
    if reading.decoded == before:
        why = "" if reading.broken is None else f" ({reading.broken})"
        raise DataError(f"{name}: holds no frame that can be decoded{why}")


def _decoded(
    container: av.container.InputContainer, stream: av.VideoStream, reading: Reading
) -> Iterator[av.VideoFrame]:
    import av

    in_a_row, packets = 0, container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except (av.error.FFmpegError, OSError) as error:
            reading.broken = _reason(error)
            return
        if packet is None:
            return
        try:
            frames = packet.decode()
        except av.error.EOFError:
            return
        except av.error.FFmpegError as error:
            reading.damaged, in_a_row = reading.damaged + 1, in_a_row + 1
            if in_a_row >= DAMAGED_IN_A_ROW:
                reading.broken = _reason(error)
                return
            continue
        in_a_row = 0 if frames else in_a_row
        yield from frames


def _sampled(name: str, frames: Iterator[av.VideoFrame], reading: Reading, every: int) -> Iterator[Frame]:
    first: float | None = None
    last: NDArray[np.int16] | None = None
    cut = False
    for place, frame in enumerate(frames):
        number, reading.decoded = reading.decoded, reading.decoded + 1
        width, height = THUMBNAIL
        thumbnail = frame.reformat(width=width, height=height, format="gray").to_ndarray().astype(np.int16)
        cut |= last is not None and float(np.abs(thumbnail - last).mean()) > CUT
        last = thumbnail
        time = frame.time if frame.time is not None else place / (reading.rate or 25)
        first = time if first is None else first
        if place % every == 0:
            _check_size(name, frame.width, frame.height)
            pixels = upright(np.asarray(frame.to_ndarray(format="rgb24"), np.uint8), frame.rotation)
            yield Frame(number, max(0.0, time - first), pixels, cut)
            cut = False


def upright(pixels: Pixels, degrees: float) -> Pixels:
    """Turn a frame counterclockwise, by the next multiple of 90 degrees, as its film says."""
    return np.ascontiguousarray(np.rot90(pixels, round(degrees / 90)))


def _check_size(name: str, width: int, height: int) -> None:
    limit = Limits().pixels
    if width * height > limit:
        raise DataError(f"{name}: its frames of {width} x {height} px are larger than the limit of {limit:,} px")


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)


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


FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds before a new connection; doubled each time that it fails
GONE = 3600.0  # seconds of such pauses in a row after which a source is given up
END_PATIENCE = 2.0  # seconds to wait for the thread

Connect = Callable[[], Iterable[Frame]]


class Live:
    """The frames of a source that does not wait for its reader.

    Args:
        connect: returns the frames of a new connection. reading: filled. say: takes a line about a broken connection.
        duration: seconds after which the frames end. wait: a pause of so many seconds, True if `close` ended it.
        clock: seconds; the times of the frames are those of their arrival.
    """

    def __init__(
        self,
        connect: Connect,
        reading: Reading,
        say: Callable[[str], None],
        *,
        duration: float | None = None,
        wait: Callable[[float], bool] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connect, self._reading, self._say, self._clock = connect, reading, say, clock
        self._duration, self._begun = duration, clock()
        self._closed = threading.Event()
        self._wait = self._closed.wait if wait is None else wait
        self._changed = threading.Condition()
        self._waiting: Frame | None = None
        self._error: Exception | None = None
        self._done = False
        self._thread = threading.Thread(target=self._work, name="facewright-live", daemon=True)

    def frames(self) -> Generator[Frame]:
        """Yield the newest frame, again and again, until the time is over or the source is given up (`reading.broken`).

        Raises:
            DataError: the first connection failed.
        """
        self._begun = self._clock()
        self._thread.start()
        try:
            while True:
                with self._changed:
                    left = None if self._duration is None else self._duration - (self._clock() - self._begun)
                    self._changed.wait_for(lambda: self._waiting is not None or self._done, left)
                    frame, self._waiting = self._waiting, None
                if frame is not None:
                    yield frame
                elif self._error is not None:
                    raise self._error
                else:
                    return
        finally:
            self._closed.set()
            self._thread.join(END_PATIENCE)

    def _work(self) -> None:
        try:
            self._keep_connected()
        except Exception as error:  # raised again where the frames are read
            self._error = error
        with self._changed:
            self._done = True
            self._changed.notify()

    def _keep_connected(self) -> None:
        pause, lost, reason = FIRST_PAUSE, 0.0, ""
        while not self._closed.is_set():
            new = True
            try:
                for frame in self._connect():
                    self._offer(replace(frame, seconds=self._clock() - self._begun, cut=frame.cut or new))
                    pause, lost, new = FIRST_PAUSE, 0.0, False
                    if self._closed.is_set():
                        return
                reason, self._reading.broken = self._reading.broken or "the stream has ended", None
            except DataError as error:
                if self._reading.decoded == 0:
                    raise
                reason = str(error)
            if lost >= GONE:
                self._reading.broken = f"no connection for {lost:,.0f} s: {reason}"
                return
            self._reading.reconnects += 1
            self._say(f"connection lost: {reason}; connecting again in {pause:g} s")
            if self._wait(pause):
                return
            lost += pause
            pause = min(2 * pause, LONGEST_PAUSE)

    def _offer(self, frame: Frame) -> None:
        with self._changed:
            if self._waiting is not None:
                self._reading.dropped += 1
                frame = replace(frame, cut=frame.cut or self._waiting.cut)
            self._waiting = frame
            self._changed.notify()
