"""Records of images: one by one, or as columns that make each record when it is asked for.

A `Record` with its path takes some 350 bytes. Of millions, a table keeps the paths in one run of bytes, and numbers for
everything else: the length of the path and 21 bytes an image, and 4 for each further column.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import overload

import numpy as np
from numpy.typing import NDArray

LAZY = 100_000  # records from which on a data set keeps a table
_BLOCK = 4096


@dataclass(frozen=True)
class Record:
    """One image: where it lies and what is known about it.

    path: posix, relative to the data set's root ("ann/03.jpg"); of synthetic data a name such as "identity_03/00012".
    label: index into `Dataset.classes`; None where the class is unknown.
    identity: who is shown, where that is known and is not the class.
    split: "train", "validation" or "test" where the data set prescribes it.
    values: what else is known, as text in the order of `Dataset.columns`; "" where one is unknown.
    """

    path: str
    label: int | None
    identity: str | None = None
    split: str | None = None
    values: tuple[str, ...] = ()


class PackedText(Sequence[str]):
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

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> list[str]: ...
    def __getitem__(self, row: int | slice) -> str | list[str]:
        if isinstance(row, slice):
            return [self[number] for number in range(*row.indices(len(self)))]
        row = range(len(self))[row]
        return self._bytes[self._ends[row] : self._ends[row + 1]].decode("utf-8", "surrogateescape")

    @property
    def nbytes(self) -> int:
        """Bytes that the texts and their ends take."""
        return len(self._bytes) + self._ends.nbytes

    def place(self, text: str) -> int:
        """Return the row of a text, of sorted ones. Raises KeyError."""
        row = bisect_left(self, text)
        if row == len(self) or self[row] != text:
            raise KeyError(text)
        return row


class RecordTable(Sequence[Record]):
    """A sequence of records, held as columns."""

    def __init__(self, paths: PackedText, labels: NDArray[np.int64], columns: Sequence[_Column]) -> None:
        self._paths = paths
        self.labels = labels.astype(np.int32)  # (N,) -1 where the class is unknown
        self._identity, self._split, *self._values = columns

    @classmethod
    def of(cls, records: Iterable[Record]) -> RecordTable:
        """Take records one after the other, keeping none of them."""
        labels, columns = [np.zeros(0, np.int64)], list[_Builder]()

        def paths() -> Iterator[str]:
            remaining = iter(records)
            while block := list(islice(remaining, _BLOCK)):
                labels.append(np.array([-1 if record.label is None else record.label for record in block], np.int64))
                columns.extend(_Builder() for _ in range(0 if columns else 2 + len(block[0].values)))
                texts_of = zip(*((one.identity, one.split, *one.values) for one in block), strict=True)
                for column, texts in zip(columns, texts_of, strict=True):
                    column.add(texts)
                yield from (record.path for record in block)

        packed_paths = PackedText(paths())
        built = [column.build() for column in columns or (_Builder(), _Builder())]
        return cls(packed_paths, np.concatenate(labels), built)

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
        return self._paths.nbytes + self.labels.nbytes + sum(one.numbers.nbytes for one in columns)


def packed(records: Iterable[Record], count: int) -> Sequence[Record]:
    """Return so many records as a tuple, or as a table where they are many."""
    return tuple(records) if count < LAZY else RecordTable.of(records)


@dataclass(frozen=True)
class _Column:
    """One text a record, or None: numbers of distinct texts."""

    distinct: tuple[str | None, ...]
    numbers: NDArray[np.int32]

    def text(self, number: int) -> str | None:
        return self.distinct[int(self.numbers[number])]


class _Builder:
    def __init__(self) -> None:
        self._number: dict[str | None, int] = {}
        self._blocks: list[NDArray[np.int32]] = []

    def add(self, texts: Sequence[str | None]) -> None:
        numbers = [self._number.setdefault(text, len(self._number)) for text in texts]
        self._blocks.append(np.array(numbers, np.int32))

    def build(self) -> _Column:
        return _Column(tuple(self._number), np.concatenate([np.zeros(0, np.int32), *self._blocks]))
