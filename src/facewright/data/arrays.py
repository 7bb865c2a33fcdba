"""Images in arrays: an .npz with the images as `input` or `X` and their classes as `target` or `y`.

    input   N×H×W×3 in RGB, or in BGR where that is said (faces.npz?colour-order=bgr); N×H×W×1 and N×H×W are grey
            uint8, or floating point where the range is said: ?range=unit is 0 to 1, ?range=byte is 0 to 255
    target  N or N×1: whole numbers (also as floating point), or text; the classes are the distinct ones as text, sorted
    classes optional, C names: a target k is then the class names[k]

Else as scikit-learn calls them: `images`, `target`, `target_names`. Images are read one by one, so the arrays may be
larger than memory. Nothing is unpickled: the zip is checked as every archive is, and a header must declare exactly the
bytes that its entry has. Source: NEP 1.
"""

from __future__ import annotations

import io
import math
import struct
import threading
import weakref
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, Literal, get_args

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from facewright.data.addresses import join_address
from facewright.data.archives import ArchiveLimits, checked_entries
from facewright.data.image_records import Record, stamp_of
from facewright.data.packed import unpacked_copy
from facewright.data.records import Dataset, Labelled
from facewright.errors import BadArchive, BadImage, DataError, UnknownName, UsageError
from facewright.images import Limits, pixel_digest
from facewright.input_spec import ColourOrder
from facewright.platforms import read_at

Range = Literal["unit", "byte"]

_OPTIONS: dict[str, tuple[str, ...]] = {"colour-order": get_args(ColourOrder), "range": get_args(Range)}
_MOST_ROWS = 1_000_000  # as many as an archive may have entries
_INPUTS, _TARGETS, _CLASSES = ("input", "X"), ("target", "y"), ("classes", "target_names")
# Labels and synthetic images pack far better than photos, so what counts here is what would be filled, not the ratio.
_LIMITS = ArchiveLimits(entries=1_000, directory=2**20, bytes=64 * 2**30, ratio=200.0, ratio_from=64 * 2**20)
_MOST_LOADED = 256 * 2**20  # bytes of an array that is read into memory whole
_MOST_HEADER = 2**14  # bytes; the parser would read as many as the header itself declares
_READERS: dict[tuple[int, int], Callable[[IO[bytes]], tuple[Any, ...]]] = {
    (1, 0): npy.read_array_header_1_0,
    (2, 0): npy.read_array_header_2_0,
}


def open_arrays(path: Path, options: Mapping[str, str] = MappingProxyType({})) -> Dataset:
    """List the images of an .npz; `options` are "colour-order" and "range", either or none.

    Raises UnknownName, UsageError: an option. BadArchive, DataError: the file; see py and the top of this file.
    """
    for key, value in options.items():
        if value not in _OPTIONS[key]:
            raise UnknownName(key, value, _OPTIONS[key])
    found = stored_arrays(path)
    images = _one_of(path, found, _INPUTS, ("images",))
    _check_images(path, images, options.get("range"))
    labels = _labels(path, _one_of(path, found, _TARGETS), next((found[n] for n in _CLASSES if n in found), None))
    count = images.shape[0]
    if len(labels) != count:
        raise DataError(f"{path}: expected a target for each of the {count:,} images, got {len(labels):,}")
    width = max(5, len(str(count - 1)))
    rows = [Labelled(f"{row:0{width}d}", name) for row, name in enumerate(labels)]
    source = ArraySource(images, options.get("colour-order", "rgb"), options.get("range", "byte"))
    where = join_address(str(path), {key: value for key, value in options.items() if value != "rgb"})
    return Dataset.of(path.stem, where, rows, source, layout="npz")


class ArraySource:
    """Pixels of the rows of an array. Safe to share between threads, to fork and to pickle.

    Args:
        array: (N, H, W), (N, H, W, 1) or (N, H, W, 3), uint8 or floating point.
        scale: what floating point means: "unit" is 0 to 1, "byte" is 0 to 255.
    """

    def __init__(self, array: StoredArray, colour_order: str, scale: str) -> None:
        self.array = array
        self.colour_order = colour_order
        self.scale = scale
        self._lock = threading.Lock()
        self._file: IO[bytes] | None = None
        self._start = 0
        self._failure: str | None = None

    def read(self, record: Record, at_least: int | None) -> NDArray[np.uint8]:
        """As `PixelSource.read`; `at_least` makes nothing cheaper here."""
        shape = (*self.array.shape[1:3], -1)
        values = np.frombuffer(self._row(record), self.array.dtype).reshape(shape)  # (H, W, 1 or 3)
        if values.dtype != np.uint8:
            values = self._bytes(record, values)
        if values.shape[2] == 1:
            return np.repeat(values, 3, axis=2)
        return np.ascontiguousarray(values[..., ::-1] if self.colour_order == "bgr" else values)

    def content_key(self, record: Record) -> str:
        """As `PixelSource.content_key`: a digest of the pixels."""
        return pixel_digest(self.read(record, None))

    def stamp(self, record: Record) -> str:
        """As `PixelSource.stamp`: size, time of change and inode of the .npz, and how it is read."""
        return f"{stamp_of(Path(self.array.path), record.path)}:{self.colour_order}:{self.scale}"

    def _bytes(self, record: Record, values: NDArray[Any]) -> NDArray[np.uint8]:
        """Floating point to 0..255, rounded to nearest."""
        most = 1.0 if self.scale == "unit" else 255.0
        low, high = float(values.min()), float(values.max())
        if not 0.0 <= low <= high <= most:  # also where one is NaN
            raise BadImage(record.path, f"has values from {low:g} to {high:g}; range={self.scale} is 0 to {most:g}")
        return np.rint(values.astype(np.float64) * (255.0 / most)).astype(np.uint8)

    def _row(self, record: Record) -> bytes:
        file, start = self._open(record)
        size = self.array.row_bytes
        try:
            content = read_at(file.fileno(), size, start + int(record.path) * size, self._lock)
        except OSError as error:
            raise BadImage(record.path, f"cannot be read ({error.strerror})") from error
        if len(content) != size:
            raise BadImage(record.path, "is cut short: the .npz changed while it was read")
        return content

    def _open(self, record: Record) -> tuple[IO[bytes], int]:
        with self._lock:
            if self._failure is not None:
                raise BadImage(record.path, self._failure)
            if self._file is None:
                try:
                    self._file, self._start = self.array.spread()
                except (DataError, OSError) as error:
                    self._failure = str(error)
                    raise BadImage(record.path, self._failure) from error
                weakref.finalize(self, self._file.close)
            return self._file, self._start

    def __getstate__(self) -> dict[str, Any]:
        return {"array": self.array, "colour_order": self.colour_order, "scale": self.scale}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


def _one_of(path: Path, found: Mapping[str, StoredArray], *names: tuple[str, ...]) -> StoredArray:
    """The one array with a name of the first group of which there is any."""
    group: tuple[str, ...] = next((one for one in names if set(one) & set(found)), sum(names, ()))
    there = [name for name in group if name in found]
    if len(there) != 1:
        *most, last = group
        listed = ", ".join(sorted(found)) or "nothing"
        raise DataError(f"{path}: expected one array called {', '.join(most)} or {last}; it holds {listed}")
    return found[there[0]]


def _check_images(path: Path, array: StoredArray, scale: str | None) -> None:
    shape, dtype = array.shape, array.dtype
    if not (len(shape) == 3 or (len(shape) == 4 and shape[3] in (1, 3))) or 0 in shape:
        hint = "; its channels come first: move them to the end" if len(shape) == 4 and shape[1] in (1, 3) else ""
        raise DataError(f"{path}: expected {array.name} as N×H×W×3 (or ×1, or N×H×W: grey), got {_by(shape)}{hint}")
    if shape[0] > _MOST_ROWS:
        raise DataError(f"{path}: has {shape[0]:,} images; the limit is {_MOST_ROWS:,}")
    if shape[1] * shape[2] > Limits().pixels:
        raise DataError(f"{path}: its images have {_by(shape[1:3])} pixels; the limit is {Limits().pixels:,}")
    if dtype == np.uint8:
        if scale == "unit":
            raise UsageError(f"{path}: {array.name} is uint8, which is 0 to 255; leave out range=unit")
    elif dtype.kind != "f" or dtype.itemsize > 8:
        raise DataError(f"{path}: expected {array.name} as uint8 or floating point, got {dtype}; convert it to uint8")
    elif scale is None:
        raise UsageError(
            f"{path}: {array.name} is {dtype}; say what its values mean: {path.name}?range=unit where they go from 0 "
            f"to 1, {path.name}?range=byte where they go from 0 to 255"
        )


def _labels(path: Path, array: StoredArray, classes: StoredArray | None) -> list[str]:
    if array.shape[1:] not in ((), (1,)) or not array.shape or array.shape[0] > _MOST_ROWS:
        hint = "; of one-hot rows take numpy.argmax(…, axis=1)" if len(array.shape) == 2 else ""
        raise DataError(f"{path}: expected {array.name} as N or N×1, got {_by(array.shape)}{hint}")
    values = array.load().reshape(-1)
    if values.dtype.kind == "U":
        names = [str(value).strip() for value in values]
        if "" in names:
            raise DataError(f"{path}: {array.name} is empty at row {names.index('')}")
    else:
        numbers = _whole(path, array.name, values)
        names = [str(number) for number in numbers]
        if classes is not None:
            known = _names(path, classes)
            wrong = next((row for row, number in enumerate(numbers) if not 0 <= number < len(known)), None)
            if wrong is not None:
                what = f"{array.name} is {numbers[wrong]} at row {wrong}"
                raise DataError(f"{path}: {what}, and {classes.name} has {len(known)} names")
            names = [known[number] for number in numbers]
    return names


def _whole(path: Path, name: str, values: NDArray[Any]) -> list[int]:
    if values.dtype.kind not in "iufb" or values.dtype.itemsize > 8:
        raise DataError(f"{path}: expected {name} as whole numbers or text, got {values.dtype}")
    if values.dtype.kind == "f":
        odd = np.flatnonzero(~np.isfinite(values) | (values != np.rint(values)))
        if odd.size:
            raise DataError(f"{path}: expected {name} as numbers of classes, got {values[odd[0]]:g} at row {odd[0]}")
    return [int(value) for value in values]


def _names(path: Path, classes: StoredArray) -> list[str]:
    values = classes.load() if len(classes.shape) == 1 and classes.dtype.kind == "U" else np.empty(0, "U1")
    names = [str(value).strip() for value in values]
    if not names or "" in names or len(set(names)) != len(names):
        raise DataError(f"{path}: expected {classes.name} as the names of the classes, each once")
    return names


def _by(shape: tuple[int, ...]) -> str:
    return "×".join(str(side) for side in shape)


@dataclass(frozen=True)
class StoredArray:
    """One array of an .npz: where it lies and what it holds."""

    path: str  # of the .npz
    entry: str  # "input.npy"
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    header: int  # bytes before the values

    @property
    def name(self) -> str:
        return self.entry.removesuffix(".npy")

    @property
    def row_bytes(self) -> int:
        """Bytes of the values at one place of the first axis."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    def load(self) -> NDArray[Any]:
        """All values, in memory. Raises DataError: too large for that, or damaged."""
        size = math.prod(self.shape) * self.dtype.itemsize
        if size > _MOST_LOADED:
            raise DataError(f"{self.path}: {self.name} has {size:,} bytes; the limit for it is {_MOST_LOADED:,}")
        try:
            with zipfile.ZipFile(self.path) as archive:
                content = archive.read(self.entry)
        except (OSError, KeyError, *_DAMAGE) as error:
            raise DataError(f"{self.path}: {self.name} is damaged ({error})") from error
        return np.frombuffer(content, self.dtype, offset=self.header).reshape(self.shape)

    def spread(self) -> tuple[IO[bytes], int]:
        """A file in which the values lie packed no more, and the position of the first one; its checksum is right.

        Where they are stored as they are, that is the .npz itself; else an unpacked copy without a name in the cache
        folder, which is gone when the file is closed. Raises DataError: damaged, or gone. FacewrightError: no room.
        """
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(self.entry) as packed:
                info = archive.getinfo(self.entry)
                if info.compress_type != zipfile.ZIP_STORED:
                    return unpacked_copy(iter(lambda: packed.read(2**20), b""), self.path), self.header
                while packed.read(2**20):  # only to compare the checksum
                    pass
        except (OSError, KeyError, *_DAMAGE) as error:
            raise DataError(f"{self.path}: {self.name} is damaged ({error})") from error
        file = Path(self.path).open("rb")  # noqa: SIM115 - the caller's to close
        file.seek(info.header_offset + 26)
        name, extra = struct.unpack("<HH", file.read(4))  # their lengths; APPNOTE 6.3.10, 4.3.7
        return file, info.header_offset + 30 + name + extra + self.header


_DAMAGE = (ValueError, RuntimeError, EOFError, struct.error, zlib.error, zipfile.BadZipFile)


def stored_arrays(path: Path) -> dict[str, StoredArray]:
    """The arrays of an .npz by name; only headers are read.

    Raises BadArchive: the zip is dangerous or none. DataError: an entry is no array, or other than its header declares.
    """
    entries = [entry for entry in checked_entries(path, _LIMITS).values() if not entry.is_dir()]
    try:
        with zipfile.ZipFile(path) as archive:
            found = [_stored_array(archive, path, entry) for entry in entries]
    except (OSError, *_DAMAGE) as error:
        raise BadArchive(f"{path}: expected an .npz; it is damaged ({error})") from error
    return {array.name: array for array in found}


def _stored_array(archive: zipfile.ZipFile, path: Path, entry: zipfile.ZipInfo) -> StoredArray:
    called = f"{path}: {entry.filename[:80]!r}"
    with archive.open(entry) as file:
        start = io.BytesIO(file.read(_MOST_HEADER))
    try:
        shape, columns_first, dtype = _READERS[npy.read_magic(start)](start)
    except Exception as error:  # parsing a hostile literal fails in many ways; each means that this is no header
        raise DataError(f"{called}: expected an array (.npy 1.0 or 2.0); its header cannot be read") from error
    header = start.tell()
    if dtype.hasobject:
        raise DataError(f"{called} holds Python objects, which are never unpickled; save it as numbers or text")
    if dtype.fields is not None or dtype.subdtype is not None or dtype.itemsize == 0:
        raise DataError(f"{called}: expected an array of plain numbers or text, got {dtype}")
    if columns_first and len(shape) > 1:
        raise DataError(f"{called} is stored column by column; save numpy.ascontiguousarray of it")
    declared = header + math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or declared != entry.file_size:
        raise DataError(f"{called}: header declares {declared:,} bytes ({shape} {dtype}); it has {entry.file_size:,}")
    return StoredArray(str(path), entry.filename, dtype, tuple(int(side) for side in shape), header)
