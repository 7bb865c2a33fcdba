"""Arrays in an .npz (a zip of .npy), read without unpickling and without trusting what they declare.

The zip is checked as every archive is (archives.py). An array's header is parsed as a literal; what it declares must be
exactly the bytes that its entry has, so nothing is made room for that is not there. An array of Python objects could
only be unpickled, and is refused.

Source: NEP 1, "A Simple File Format for NumPy Arrays" (.npy 1.0 and 2.0).
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from facewright.data.archives import ArchiveLimits, checked_entries
from facewright.data.packed import unpacked_copy
from facewright.errors import BadArchive, DataError

# Labels and synthetic images pack far better than photos, so what counts here is what would be filled, not the ratio.
_LIMITS = ArchiveLimits(entries=1_000, directory=2**20, bytes=64 * 2**30, ratio=200.0, ratio_from=64 * 2**20)
_MOST_LOADED = 256 * 2**20  # bytes of an array that is read into memory whole
_MOST_HEADER = 2**14  # bytes; the parser would read as many as the header itself declares
_READERS: dict[tuple[int, int], Callable[[IO[bytes]], tuple[Any, ...]]] = {
    (1, 0): npy.read_array_header_1_0,
    (2, 0): npy.read_array_header_2_0,
}


@dataclass(frozen=True)
class Array:
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


def arrays(path: Path) -> dict[str, Array]:
    """The arrays of an .npz by name; only headers are read.

    Raises:
        BadArchive: the zip is dangerous or none. DataError: an entry is no array, or other than its header declares.
    """
    entries = [entry for entry in checked_entries(path, _LIMITS).values() if not entry.is_dir()]
    try:
        with zipfile.ZipFile(path) as archive:
            found = [_array(archive, path, entry) for entry in entries]
    except (OSError, *_DAMAGE) as error:
        raise BadArchive(f"{path}: expected an .npz; it is damaged ({error})") from error
    return {array.name: array for array in found}


def _array(archive: zipfile.ZipFile, path: Path, entry: zipfile.ZipInfo) -> Array:
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
        raise DataError(
            f"{called}: its header declares {declared:,} bytes ({shape} {dtype}); it has {entry.file_size:,}"
        )
    return Array(str(path), entry.filename, dtype, tuple(int(side) for side in shape), header)
