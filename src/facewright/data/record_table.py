"""Records of images: one by one, or as columns that make each record when it is asked for.

A `Record` with its path takes some 350 bytes. Of millions, a table keeps the paths in one run of bytes, and numbers for
everything else: the length of the path and 21 bytes an image, and 4 for each further column.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, overload

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


class RecordTable(Sequence[Record]):
    """A sequence of records, held as columns."""

    def __init__(
        self, paths: bytes, ends: NDArray[np.int64], labels: NDArray[np.int64], columns: Sequence[_Column]
    ) -> None:
        self._paths, self._ends = paths, ends
        self.labels = labels.astype(np.int32)  # (N,) -1 where the class is unknown
        self._identity, self._split, *self._values = columns

    @classmethod
    def of(cls, records: Iterable[Record]) -> RecordTable:
        """Take records one after the other, keeping none of them."""
        paths, ends, labels = bytearray(), [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        remaining, columns = iter(records), list[_Builder]()
        while block := list(islice(remaining, _BLOCK)):
            encoded = [record.path.encode(errors="surrogateescape") for record in block]
            ends.append(np.cumsum([len(path) for path in encoded]) + len(paths))
            paths += b"".join(encoded)
            labels.append(np.array([-1 if record.label is None else record.label for record in block], np.int64))
            columns = columns or [_Builder() for _ in range(2 + len(block[0].values))]
            for column, texts in zip(columns, zip(*(_texts(record) for record in block), strict=True), strict=True):
                column.add(texts)
        columns = columns or [_Builder(), _Builder()]
        built = [column.build() for column in columns]
        return cls(bytes(paths), np.concatenate(ends), np.concatenate(labels), built)

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Record, ...]: ...
    def __getitem__(self, index: int | slice) -> Record | tuple[Record, ...]:
        if isinstance(index, slice):
            return tuple(self[number] for number in range(*index.indices(len(self))))
        number = range(len(self))[index]
        start = int(self._ends[number - 1]) if number else 0
        path = self._paths[start : int(self._ends[number])].decode(errors="surrogateescape")
        label = int(self.labels[number])
        values = tuple(column.text(number) or "" for column in self._values)
        return Record(path, None if label < 0 else label, self._identity.text(number), self._split.text(number), values)

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
        return len(self._paths) + self._ends.nbytes + self.labels.nbytes + sum(one.numbers.nbytes for one in columns)


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


def _texts(record: Record) -> tuple[Any, ...]:
    return (record.identity, record.split, *record.values)
