"""What a data set is: its classes, one record a picture, where the pixels come from, and what is broken in it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from facewright.errors import EmptyClass

SPLITS = ("train", "validation", "test")

# What people call the three parts, folded to lower case.
SPLIT_NAMES = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}


@dataclass(frozen=True)
class Record:
    """One picture: where it lies and what is known about it.

    path: posix, relative to the data set's root ("ann/03.jpg"); for drawn data a name such as "identity_03/00012".
    label: index into `Dataset.classes`; None where the class is unknown.
    identity: who is shown, where that is known and is not the class.
    split: "train", "validation" or "test" where the data set prescribes it.
    """

    path: str
    label: int | None
    identity: str | None = None
    split: str | None = None


@dataclass(frozen=True)
class Broken:
    """A file that was left out, and why in words."""

    path: str
    reason: str


@dataclass
class Listing:
    """The pictures, folders and .txt files of a tree, as posix paths relative to its root, however it is stored."""

    where: str
    files: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    broken: list[Broken] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)


class PixelSource(Protocol):
    """Where the pixels of a data set come from. Can be pickled, so that worker processes can read too."""

    def read(self, record: Record, at_least: int | None) -> NDArray[np.uint8]:
        """The picture, (H, W, 3) uint8 RGB, upright; `at_least` as in `images.read`. Raises BadImage."""
        ...

    def content_key(self, record: Record) -> str:
        """A digest that changes when the picture's content changes. Raises BadImage where it cannot be read."""
        ...

    def stamp(self, record: Record) -> str:
        """A very cheap sign of change (size, time): while it stays, so does the content key. Raises BadImage."""
        ...


@dataclass(frozen=True)
class Dataset:
    """Classes, records and the source of their pixels; listing only, nothing is decoded here.

    Classes are in order of their names and belong to the data set, so a class that is absent from one part (a split
    folder, a subset) never shifts another one's label. Records of an opened data set are sorted by path.
    """

    name: str
    where: str
    classes: tuple[str, ...]
    records: tuple[Record, ...]
    source: PixelSource
    broken: tuple[Broken, ...] = ()

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for record in self.records:
            if record.path in seen:
                raise ValueError(f"data set {self.name!r}: two records have the path {record.path!r}")
            seen.add(record.path)
            if record.label is not None and not 0 <= record.label < len(self.classes):
                raise ValueError(f"{record.path}: label {record.label} is outside the {len(self.classes)} classes")

    def __len__(self) -> int:
        return len(self.records)

    @property
    def labels(self) -> NDArray[np.int64]:
        """(N,) int64 indices into `classes`, in the order of `records`; -1 where a record has no label."""
        return np.array([-1 if r.label is None else r.label for r in self.records], dtype=np.int64)

    @property
    def people(self) -> tuple[str | None, ...]:
        """(N,) who each image shows: the identity where it is known, else the class, else None."""
        return tuple(r.identity or (None if r.label is None else self.classes[r.label]) for r in self.records)

    def counts(self) -> dict[str, int]:
        """Number of records of each class, in class order; a class without records counts 0."""
        totals = [0] * len(self.classes)
        for record in self.records:
            if record.label is not None:
                totals[record.label] += 1
        return dict(zip(self.classes, totals, strict=True))

    def without(self, broken: Sequence[Broken]) -> Dataset:
        """This data set less the files in `broken`, which move to `.broken`.

        Raises:
            EmptyClass: a class that had records has none left.
        """
        dropped = {item.path for item in broken}
        kept = tuple(r for r in self.records if r.path not in dropped)
        result = replace(self, records=kept, broken=merge_broken(self.broken, broken))
        before, after = self.counts(), result.counts()
        emptied = [name for name in self.classes if before[name] > 0 and after[name] == 0]
        if emptied:
            members = {r.path for r in self.records if r.label is not None and self.classes[r.label] == emptied[0]}
            first = next(item for item in broken if item.path in members)
            raise EmptyClass(
                f"{self.where}: expected at least one readable picture in each class; none is left in "
                f"{', '.join(emptied)} ({first.path}: {first.reason}); repair the files or remove the class"
            )
        return result

    def subset(self, indices: Iterable[int] | NDArray[np.int64]) -> Dataset:
        """The records at `indices`, in that order, with the same classes (some may be left without records)."""
        return replace(self, records=tuple(self.records[int(i)] for i in indices))

    def fingerprint(self, digests: Sequence[str]) -> str:
        """32 hex characters that stand for classes, paths, labels and pixels.

        Args:
            digests: (N,) one pixel digest a record, in the order of `records`.
        """
        if len(digests) != len(self.records):
            raise ValueError(f"expected one digest a record ({len(self.records)}), got {len(digests)}")
        state = hashlib.blake2b(json.dumps(self.classes).encode(), digest_size=16)
        for record, digest in zip(self.records, digests, strict=True):
            state.update(b"\n" + json.dumps([record.path, record.label, digest]).encode())
        return state.hexdigest()


def merge_broken(first: Iterable[Broken], second: Iterable[Broken]) -> tuple[Broken, ...]:
    """Both lists as one, sorted by path; the first reason given for a path stays."""
    reasons: dict[str, str] = {}
    for item in (*first, *second):
        reasons.setdefault(item.path, item.reason)
    return tuple(Broken(path, reasons[path]) for path in sorted(reasons))
