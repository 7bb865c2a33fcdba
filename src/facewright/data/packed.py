"""Images packed into larger files: runs of bytes in a .tar, a .rec or a .bin; read where they are, never extracted.

A tar is refused whole for what a zip is refused for. A .tar.gz is unpacked once, within the limits, into a file of the
cache folder. InsightFace's verification sets (`lfw.bin` …) are pickles of (images, truths), pair k of images 2k and
2k + 1; never unpickled: their operations are walked, and only those that build lists and tuples of bytes and booleans
are known. Sources: POSIX.1-2017, pax, "ustar Interchange Format"; Python's `pickletools`;
https://github.com/deepinsight/insightface, recognition/arcface_torch/eval/verification.py.
"""

from __future__ import annotations

import gzip
import mmap
import os
import pickletools
import re
import tarfile
import tempfile
import threading
import weakref
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import numpy as np
from filelock import FileLock

from facewright.data.archives import ArchiveLimits, danger_of_name, open_zip, plain_path, tree_of
from facewright.data.image_records import ContentSource, PackedText, Record, digest, reason_of, stamp_of, within_limit
from facewright.data.trees import Tree
from facewright.errors import BadArchive, BadImage, DataError, FacewrightError
from facewright.files import cache_folder, replacing
from facewright.platforms import read_at

LIMITS = ArchiveLimits(entries=10_000_000, bytes=2**42)  # of all files of a set together
DAMAGE = (OSError, ValueError, EOFError, zlib.error)
_BLOCK = 2**20
_MOST_OPERATIONS = 8_000_000  # operations: two million images take three each, at most
_IGNORED = ("PROTO", "FRAME", "STOP")
# Operation → bytes before the content: its own code and the length.
_BYTES = {"SHORT_BINBYTES": 2, "BINBYTES": 5, "BINBYTES8": 9, "SHORT_BINSTRING": 2, "BINSTRING": 5}
_MARK = object()
Run = tuple[int, int]  # start and length in the file
TAR = (".tar", ".tar.gz", ".tgz")
_MOST_HEADER = 2**20  # bytes of one extended header


class PackedSource(ContentSource):
    """Images that are runs of bytes in larger files. Safe to share between threads, to fork and to pickle.

    Args:
        runs: name of each image → number of its file, then start and length of each piece (mostly one).
        joint: what stood between two pieces.
    """

    def __init__(self, files: Sequence[str], runs: Mapping[str, tuple[int, ...]], joint: bytes = b"") -> None:
        names = sorted(runs)
        self.files, self.names, self.joint = tuple(files), PackedText(names), joint
        self.places = np.array([runs[name][:3] for name in names], np.int64).reshape(-1, 3)
        self.pieces = {row: runs[name] for row, name in enumerate(names) if len(runs[name]) > 3}
        self._lock = threading.Lock()
        self._open: dict[int, IO[bytes]] = {}

    def stamp(self, record: Record) -> str:
        """As `PixelSource.stamp`, of the larger file and the place in it."""
        number, start, _ = self.places[self.names.place(record.path)].tolist()
        return f"{stamp_of(Path(self.files[number]), record.path)}:{start}"

    def content(self, name: str) -> bytes:
        """Return the bytes of the image called `name`. Raises BadImage."""
        row = self.names.place(name)
        number, *runs = self.pieces.get(row) or self.places[row].tolist()
        pairs = list(zip(runs[::2], runs[1::2], strict=True))
        length = sum(size for _, size in pairs)
        within_limit(name, length)
        try:
            parts = [read_at(self._file(number).fileno(), size, start, self._lock) for start, size in pairs]
        except (BadArchive, *DAMAGE) as error:
            raise BadImage(name, f"cannot be read ({reason_of(error)})") from error
        if sum(map(len, parts)) != length:
            raise BadImage(name, f"is cut short: {self.files[number]} changed while it was read")
        return self.joint.join(parts)

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
        raise no_room(str(path), folder, error) from error


def unpacked_copy(blocks: Iterable[bytes], path: str) -> IO[bytes]:
    """Write blocks of bytes, unpacked of `path`, to a file without a name in the cache folder; the caller closes it."""
    folder = cache_folder()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with ExitStack() as unless_whole:
            copy = unless_whole.enter_context(tempfile.TemporaryFile(dir=folder))
            for block in blocks:
                copy.write(block)
            copy.flush()
            unless_whole.pop_all()
            return copy
    except OSError as error:
        raise no_room(path, folder, error) from error


def no_room(path: str, folder: Path, error: OSError) -> FacewrightError:
    """Return the error that the cache folder takes no more of `path`."""
    return FacewrightError(
        f"{path}: cannot be unpacked into {folder} ({error.strerror or error}); free some space, set FACEWRIGHT_CACHE "
        "to a larger disk, or save the file unpacked"
    )


def is_archive(path: Path) -> bool:
    """Tell whether a file is a zip or a tar by its name."""
    return path.name.lower().endswith((".zip", *TAR))


def open_archive(path: Path) -> Tree:
    """Return the tree in a zip or a tar. Raises BadArchive."""
    return open_zip(path) if path.name.lower().endswith(".zip") else open_tars([path])


def open_tars(paths: Sequence[Path], root: Path | None = None, limits: ArchiveLimits = LIMITS) -> Tree:
    """Return the tree in one tar, or in several in `root`, the images of each below its name without suffix.

    Raises BadArchive: see the top of this file; names the entry and says why.
    """
    names: dict[str, bool] = {}
    runs: dict[str, tuple[int, ...]] = {}
    size = 0
    for number, path in enumerate(paths):
        below = "" if root is None else re.sub(r"(?i)\.(tar|tar\.gz|tgz)$", "", path.relative_to(root).as_posix())
        if below:
            names[below] = True
        for name, start, length in _members(path, limits):
            full = f"{below}/{name}" if below else name
            if full in names:
                raise _refused(path, name, "comes twice")
            names[full] = start == 0
            size += length
            if start:
                runs[full] = (number, start, length)
            if len(names) > limits.entries or size > limits.bytes:
                raise BadArchive(
                    f"{path}: {len(names):,} entries of {size:,} bytes; the limits are {limits.entries:,} and "
                    f"{limits.bytes:,}"
                )
    inside, tree = tree_of(root or paths[0], names)
    kept = {name.removeprefix(inside): run for name, run in runs.items() if name.startswith(inside)}
    tree.source = PackedSource([str(path) for path in paths], kept)
    return tree


def _members(path: Path, limits: ArchiveLimits) -> Iterator[tuple[str, int, int]]:
    """Path, start (0: a folder) and bytes of each entry, each found harmless."""
    with opened(path, limits) as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(0)
        headers: Any = _Headers(file)
        try:
            with tarfile.TarFile(fileobj=headers, encoding="utf-8", errors="surrogateescape") as archive:
                while (entry := archive.next()) is not None:
                    archive.members = []  # type: ignore[attr-defined]  # a tarfile keeps a kilobyte an entry otherwise
                    if reason := _danger(entry, end):
                        raise _refused(path, entry.name, reason)
                    if name := plain_path(entry.name):
                        yield name, 0 if entry.isdir() else entry.offset_data, entry.size
                last = archive.offset
            file.seek(last)  # tarfile takes a damaged header for the end
            if file.read(512) != b"\0" * 512:
                raise BadArchive(f"{path}: is cut short or damaged at byte {last:,}; expected an entry or the end")
        except (tarfile.TarError, OverflowError, *DAMAGE) as error:
            raise BadArchive(f"{path}: expected a tar; it cannot be read ({error})") from error


def _danger(entry: tarfile.TarInfo, end: int) -> str | None:
    try:
        entry.name.encode()
    except UnicodeEncodeError:
        return "has a name that is not UTF-8"
    if reason := danger_of_name(entry.name):
        return reason
    if entry.issym() or entry.islnk():
        return "is a link"
    if entry.type not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE) or entry.sparse is not None:
        return "is neither a file nor a folder"
    if entry.size < 0 or entry.offset_data + entry.size > end:
        return f"declares {entry.size:,} bytes; the file ends before them"
    return None


def _refused(path: Path, name: str, reason: str) -> BadArchive:
    return BadArchive(f"{path}: entry {name[:200]!r} {reason}; the archive is refused whole")


class _Headers:
    """A file of which only headers are read: one that declares a gigabyte is refused before it is read."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.name, self.mode = file, "", "rb"

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MOST_HEADER:
            raise tarfile.ReadError(f"a header of {size:,} bytes; the limit is {_MOST_HEADER:,}")
        return self.file.read(size)

    def seek(self, place: int, whence: int = 0) -> int:
        return self.file.seek(place, whence)

    def tell(self) -> int:
        return self.file.tell()


def read_verification_set(path: Path) -> tuple[PackedSource, list[bool]]:
    """Read a .bin file: the source of its images, called 0000000, 0000001 …, and whether each pair shows one person.

    Raises DataError: damaged, cut short, or holding anything but lists of bytes and booleans.
    """
    images, truths = _lists(path)
    if len(images) != 2 * len(truths):
        raise DataError(f"{path}: expected two images a pair, got {len(images):,} images and {len(truths):,} pairs")
    return PackedSource([str(path)], {f"{number:07d}": (0, *run) for number, run in enumerate(images)}), truths


def _lists(path: Path) -> tuple[list[Run], list[bool]]:
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            value = _built(path, pickletools.genops(mapped))  # type: ignore[arg-type]
    except (OSError, ValueError, LookupError) as error:  # an empty file cannot be mapped
        raise DataError(
            f"{path}: expected a verification set (.bin); it cannot be read ({reason_of(error)})"
        ) from error
    both = value if isinstance(value, (list, tuple)) else ()
    if len(both) == 2 and all(isinstance(part, list) and part for part in both):
        images, truths = both
        if all(type(run) is tuple and len(run) == 2 for run in images) and all(type(one) is bool for one in truths):
            return images, truths
    raise DataError(f"{path}: expected a list of encoded images and a list of booleans, each with an entry")


def _built(path: Path, operations: Iterator[tuple[Any, Any, int | None]]) -> Any:
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    for number, (operation, argument, place) in enumerate(operations):
        name = operation.name
        if number == _MOST_OPERATIONS:
            raise DataError(f"{path}: has more than {_MOST_OPERATIONS:,} operations, which is the limit")
        if name in _BYTES:
            stack.append((int(place or 0) + _BYTES[name], len(argument)))
        elif name in ("NEWTRUE", "NEWFALSE") or (name == "INT" and isinstance(argument, bool)):
            stack.append(argument if name == "INT" else name == "NEWTRUE")
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if name == "MEMOIZE" else argument] = stack[-1]
        elif name not in _IGNORED:
            _collect(path, name, stack, place)
    if len(stack) != 1:
        raise DataError(f"{path}: expected one value, got {len(stack):,}")
    return stack[0]


def _collect(path: Path, name: str, stack: list[Any], place: int | None) -> None:
    if name == "MARK":
        stack.append(_MARK)
    elif name == "EMPTY_LIST":
        stack.append([])
    elif name in ("APPEND", "TUPLE2"):
        last = stack.pop()
        if name == "TUPLE2":
            stack[-1] = [stack[-1], last]
        else:
            _list(path, stack[-1]).append(last)
    elif name in ("APPENDS", "LIST", "TUPLE"):
        start = next((place for place in reversed(range(len(stack))) if stack[place] is _MARK), None)
        if start is None:
            raise ValueError("values without a mark")
        values = stack[start + 1 :]
        del stack[start:]
        if name == "APPENDS":
            _list(path, stack[-1]).extend(values)
        else:
            stack.append(values)
    else:
        raise DataError(
            f"{path}: byte {place}: expected lists of bytes and booleans only, got the operation {name}, which could "
            "run code; nothing was run"
        )


def _list(path: Path, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise DataError(f"{path}: expected a list to append to")
    return value
