"""Records of images, one by one or as columns that make each when it is asked for; and the sources of their pixels.

A `Record` with its path takes some 350 bytes. Of millions, a table keeps the paths in one run of bytes, and numbers for
everything else: the length of the path and 21 bytes an image, and 4 for each further column. Symbolic links are never
followed. A source can be pickled, so that worker processes can read too.
"""

from __future__ import annotations

import hashlib
import os
import stat
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, overload

import numpy as np
from numpy.typing import NDArray

from facewright import images
from facewright.errors import BadImage, DataError, UsageError

LAZY = 100_000  # records from which on a data set keeps a table
LINK = "is a symbolic link, which is not followed; put the file itself there"


@dataclass(frozen=True)
class Record:
    """One image: where it lies and what is known about it."""

    path: str  # posix, relative to the data set's root ("ann/03.jpg"); of images in memory the row
    label: int | None  # index into `Dataset.classes`; None where the class is unknown
    identity: str | None = None  # who is shown, where that is known and is not the class
    split: str | None = None  # "train", "validation" or "test" where the data set prescribes it
    values: tuple[str, ...] = ()  # what else is known, in the order of `Dataset.columns`; "" where one is unknown


class PackedText:
    """Many short texts in one block of bytes: no object a text. Sorted ones are found by bisection."""

    def __init__(self, texts: Iterable[str]) -> None:
        encoded = bytearray()
        ends = [0]
        for text in texts:
            encoded += text.encode("utf-8", "surrogateescape")
            ends.append(len(encoded))
        self._bytes, self._ends = bytes(encoded), np.array(ends, np.int64)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, row: int) -> str:
        row = range(len(self))[row]
        return self._bytes[self._ends[row] : self._ends[row + 1]].decode("utf-8", "surrogateescape")

    def __iter__(self) -> Iterator[str]:
        return (self[row] for row in range(len(self)))

    @property
    def nbytes(self) -> int:
        """Bytes that the texts and their ends take."""
        return len(self._bytes) + self._ends.nbytes

    def place(self, name: str) -> int:
        """Return the row of a text, of sorted ones that name images. Raises BadImage."""
        row = bisect_left(self, name)
        if row == len(self) or self[row] != name:
            raise BadImage(name, "no such file")
        return row


class RecordTable(Sequence[Record]):
    """A sequence of records, held as columns."""

    def __init__(self, paths: PackedText, labels: Sequence[int], columns: Sequence[_Column]) -> None:
        self._paths = paths
        self.labels = np.array(labels, np.int32)  # (N,) -1 where the class is unknown
        self._identity, self._split, *self._values = columns

    @classmethod
    def of(cls, records: Iterable[Record]) -> RecordTable:
        """Take records one after the other, keeping none of them."""
        labels, columns = array("i"), list[_Column]()

        def paths() -> Iterator[str]:
            for record in records:
                labels.append(-1 if record.label is None else record.label)
                texts = (record.identity, record.split, *record.values)
                columns.extend(_Column() for _ in range(0 if columns else len(texts)))
                for column, text in zip(columns, texts, strict=True):
                    column.add(text)
                yield record.path

        packed_paths = PackedText(paths())
        return cls(packed_paths, labels, columns or (_Column(), _Column()))

    def __len__(self) -> int:
        return len(self._paths)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Record, ...]: ...
    def __getitem__(self, index: int | slice) -> Record | tuple[Record, ...]:
        if isinstance(index, slice):
            return tuple(self[number] for number in range(*index.indices(len(self))))
        number = range(len(self))[index]
        label = int(self.labels[number])
        values = tuple(column.text(number) or "" for column in self._values)
        who, split = self._identity.text(number), self._split.text(number)
        return Record(self._paths[number], None if label < 0 else label, who, split, values)

    def __iter__(self) -> Iterator[Record]:
        return (self[number] for number in range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(one == its for one, its in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    @property
    def nbytes(self) -> int:
        """Bytes that the columns take, the distinct texts aside."""
        columns = (self._identity, self._split, *self._values)
        return self._paths.nbytes + self.labels.nbytes + sum(one.numbers.itemsize * len(self) for one in columns)


def packed(records: Iterable[Record], count: int) -> Sequence[Record]:
    """Return so many records as a tuple, or as a table where they are many."""
    return tuple(records) if count < LAZY else RecordTable.of(records)


class _Column:
    """One text a record, or None: numbers of distinct texts."""

    def __init__(self) -> None:
        self.numbers = array("i")
        self._number: dict[str | None, int] = {}
        self._distinct: list[str | None] = []

    def add(self, text: str | None) -> None:
        if text not in self._number:
            self._number[text] = len(self._distinct)
            self._distinct.append(text)
        self.numbers.append(self._number[text])

    def text(self, number: int) -> str | None:
        return self._distinct[self.numbers[number]]


class PixelSource(Protocol):
    """A source of pixels."""

    def read(self, record: Record, at_least: int | None) -> NDArray[np.uint8]:
        """Return the image, (H, W, 3) uint8 RGB, upright; `at_least` as in `images.read`. Raises BadImage."""

    def content_key(self, record: Record) -> str:
        """Return a digest that changes when the image's content changes. Raises BadImage where it cannot be read."""

    def stamp(self, record: Record) -> str:
        """Return a cheap sign of change (size, times): while it stays, so does the content key. Raises BadImage."""


class ContentSource(PixelSource, Protocol):
    """A source whose images are files, or lie in some as files do."""

    def content(self, name: str) -> bytes:
        """Return the bytes of the image called `name`. Raises BadImage."""

    def read(self, record: Record, at_least: int | None) -> NDArray[np.uint8]:
        """As `PixelSource.read`."""
        return images.read(self.content(record.path), name=record.path, at_least=at_least)

    def content_key(self, record: Record) -> str:
        """As `PixelSource.content_key`: a digest of the image's bytes."""
        return digest(self.content(record.path))


@dataclass(frozen=True)
class FileSource(ContentSource):
    """Pixels of files below one folder. Links are refused, also when they appeared after the listing."""

    root: str

    def stamp(self, record: Record) -> str:
        """As `PixelSource.stamp`."""
        return stamp_of(Path(self.root, record.path), record.path)

    def content(self, name: str) -> bytes:
        """Return the bytes of the file called `name`. Raises BadImage."""
        path = Path(self.root, name)
        if os.path.realpath(path) != str(path):
            raise BadImage(name, LINK)
        return images.read_bytes(path, images.Limits(), name)


@dataclass(frozen=True)
class MemorySource:
    """Pixels of an array in memory: (N, H, W, 3) or a sequence of (H, W, 3), uint8 RGB; a record's path is its row."""

    arrays: tuple[NDArray[np.uint8], ...]

    def read(self, record: Record, at_least: int | None) -> NDArray[np.uint8]:
        """As `PixelSource.read`; `at_least` makes nothing cheaper here."""
        return self.arrays[int(record.path)]

    def content_key(self, record: Record) -> str:
        """As `PixelSource.content_key`: a digest of the pixels."""
        return images.pixel_digest(self.arrays[int(record.path)])

    def stamp(self, record: Record) -> str:
        """As `PixelSource.stamp`: the pixels' digest, since nothing cheaper tells that memory has changed."""
        return self.content_key(record)


def within_limit(name: str, size: int) -> int:
    """Return how many bytes an image may have. Raises BadImage, called `name`: `size` is more."""
    limit = images.Limits().bytes
    if size > limit:
        raise BadImage(name, f"has {size:,} bytes; the limit is {limit:,}")
    return limit


def digest(content: bytes | bytearray) -> str:
    """Return 32 hex characters that stand for some bytes."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def stamp_of(path: Path, name: str) -> str:
    """Return size, times of change and inode of a file. Raises BadImage, called `name`.

    The time of the last status change (ctime) cannot be set back, as the time of modification can.
    """
    try:
        status = path.lstat()
    except (OSError, ValueError) as error:
        raise BadImage(name, f"cannot be read ({reason_of(error)})") from error
    return f"{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}:{status.st_ino}"


def unusable(root: Path, name: str) -> str | None:
    """Return why the file called `name` cannot be used, or None."""
    path = root / name
    try:
        status = path.lstat()
    except (OSError, ValueError) as error:
        return "no such file" if isinstance(error, FileNotFoundError) else f"cannot be read ({reason_of(error)})"
    if os.path.realpath(path) != str(path):
        return LINK
    return None if stat.S_ISREG(status.st_mode) else "is not a regular file"


def reason_of(error: Exception) -> str:
    """Return what went wrong without number and path, which stand beside it."""
    if isinstance(error, BadImage):
        return error.reason
    return (isinstance(error, OSError) and error.strerror) or str(error)


def checked_pixels(number: int, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an image in memory as (H, W, 3) uint8. Raises UsageError."""
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8:
        raise UsageError(
            f"image {number}: expected uint8 pixels from 0 to 255, got {pixels.dtype}; scale floating-point ones: "
            "(255 * images).round().astype('uint8')"
        )
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or 0 in pixels.shape:
        hint = "; move its channels to the end" if pixels.ndim == 3 and pixels.shape[0] in (1, 3) else ""
        raise UsageError(f"image {number}: expected H×W×3 or H×W, got {pixels.shape}{hint}")
    return np.ascontiguousarray(np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels)


def path_below(folder: Path, path: str) -> str:
    """Return a path relative to a folder that it is in. Raises DataError."""
    try:
        relative = (folder / path).relative_to(folder)
    except ValueError:
        raise DataError(f"{path}: expected a path below {folder}; give root=") from None
    if not path or ".." in relative.parts or "\0" in path:
        raise DataError(f"{path!r}: expected a path below {folder}; give root=")
    return relative.as_posix()
