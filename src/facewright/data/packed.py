"""Images packed into larger files: runs of bytes in a .tar or a .rec, and what is common to all such files.

Nothing is extracted to a place where a name in an archive could matter. A .tar.gz cannot be read from the middle: it is
unpacked once, within the limits, into a file of the cache folder that all processes read until the archive changes;
`facewright cache clear` removes it. What is packed inside tables goes into a file without a name.
"""

from __future__ import annotations

import gzip
import tempfile
import threading
import weakref
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from filelock import FileLock

from facewright import images
from facewright.data.archives import ArchiveLimits
from facewright.data.pixel_sources import ContentSource, HasPath, digest, reason_of, stamp_of
from facewright.data.record_table import PackedText
from facewright.errors import BadArchive, BadImage, FacewrightError
from facewright.files import cache_folder, replacing
from facewright.platforms import read_at

LIMITS = ArchiveLimits(entries=10_000_000, bytes=2**42)  # of all files of a set together
DAMAGE = (OSError, ValueError, EOFError, zlib.error)
_BLOCK = 2**20


class PackedSource(ContentSource):
    """Images that are runs of bytes in larger files. Safe to share between threads, to fork and to pickle."""

    def __init__(self, files: Sequence[str], runs: Mapping[str, tuple[int, ...]], joint: bytes = b"") -> None:
        """
        Args:
            files: paths of the larger files.
            runs: name of each image → number of its file, then start and length of each piece (mostly one).
            joint: what stood between two pieces.
        """
        names = sorted(runs)
        self.files, self.names, self.joint = tuple(files), PackedText(names), joint
        self.places = np.array([runs[name][:3] for name in names], np.int64).reshape(-1, 3)
        self.pieces = {row: runs[name] for row, name in enumerate(names) if len(runs[name]) > 3}
        self._lock = threading.Lock()
        self._open: dict[int, IO[bytes]] = {}

    def stamp(self, record: HasPath) -> str:
        """As `PixelSource.stamp`, of the larger file and the place in it."""
        number, start, _ = self.places[self._row(record.path)].tolist()
        return f"{stamp_of(Path(self.files[number]), record.path)}:{start}"

    def content(self, name: str) -> bytes:
        """Return the bytes of the image called `name`. Raises BadImage."""
        row = self._row(name)
        number, *runs = self.pieces.get(row) or self.places[row].tolist()
        pairs = list(zip(runs[::2], runs[1::2], strict=True))
        length, limit = sum(size for _, size in pairs), images.Limits().bytes
        if length > limit:
            raise BadImage(name, f"has {length:,} bytes; the limit is {limit:,}")
        try:
            parts = [read_at(self._file(number).fileno(), size, start, self._lock) for start, size in pairs]
        except (BadArchive, *DAMAGE) as error:
            raise BadImage(name, f"cannot be read ({reason_of(error)})") from error
        if sum(map(len, parts)) != length:
            raise BadImage(name, f"is cut short: {self.files[number]} changed while it was read")
        return self.joint.join(parts)

    def _row(self, name: str) -> int:
        try:
            return self.names.place(name)
        except KeyError:
            raise BadImage(name, "is not in the archive") from None

    def _file(self, number: int) -> IO[bytes]:
        with self._lock:
            if number not in self._open:
                self._open[number] = opened(Path(self.files[number]))
                weakref.finalize(self, self._open[number].close)
            return self._open[number]

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key not in ("_lock", "_open")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._lock, self._open = threading.Lock(), {}


def opened(path: Path, limits: ArchiveLimits = LIMITS) -> IO[bytes]:
    """Open a file, a .gz as what is packed in it. Raises BadArchive: it cannot, or unpacks to more than the limits."""
    try:
        if not path.name.lower().endswith((".gz", ".tgz")):
            return path.open("rb")
        size = path.stat().st_size
        most = min(limits.bytes, max(limits.ratio_from, int(limits.ratio * size)))
        with gzip.open(path) as packed:
            return _shared_copy(_limited(path, packed.read, most), path)
    except DAMAGE as error:
        raise BadArchive(f"{path}: cannot be opened ({reason_of(error)})") from error


def _limited(path: Path, read: Callable[[int], bytes], most: int) -> Iterable[bytes]:
    total = 0
    while block := read(_BLOCK):
        total += len(block)
        if total > most:
            raise BadArchive(f"{path}: unpacks to more than {most:,} bytes, as a zip bomb does; refused")
        yield block


def _shared_copy(blocks: Iterable[bytes], path: Path) -> IO[bytes]:
    """Open the unpacked bytes of an archive; the first process to come writes them, others wait for it."""
    folder = cache_folder() / "unpacked"
    name = digest(f"{path.resolve()}\0{stamp_of(path, str(path))}".encode(errors="surrogateescape"))
    copy = folder / f"{name}.bin"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with FileLock(copy.with_suffix(".lock"), mode=0o600):
            if not copy.is_file():
                with replacing(copy, mode=0o600) as file:
                    for block in blocks:
                        file.write(block)
        return copy.open("rb")
    except OSError as error:
        raise _no_room(str(path), folder, error) from error


def unpacked_copy(blocks: Iterable[bytes], path: str) -> IO[bytes]:
    """Write blocks of bytes, unpacked of `path`, to a file without a name in the cache folder; the caller closes it."""
    folder = cache_folder()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        copy = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - the caller's to close
    except OSError as error:
        raise _no_room(path, folder, error) from error
    try:
        for block in blocks:
            try:
                copy.write(block)
            except OSError as error:
                raise _no_room(path, folder, error) from error
        copy.flush()
    except BaseException:
        copy.close()
        raise
    return copy


def _no_room(path: str, folder: Path, error: OSError) -> FacewrightError:
    return FacewrightError(
        f"{path}: cannot be unpacked into {folder} ({error.strerror or error}); free some space, set FACEWRIGHT_CACHE "
        "to a larger disk, or save the file unpacked"
    )
