"""A data set: its classes, one record per image, the source of the pixels, and the broken files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from facewright.data.image_records import (
    FileSource,
    MemorySource,
    PixelSource,
    RecordTable,
    checked_pixels,
    packed,
    path_below,
    unusable,
)
from facewright.data.image_records import Record as Record
from facewright.errors import DataError, EmptyClass, UnknownName, UsageError
from facewright.names import checked_name, lookalikes

if TYPE_CHECKING:
    import pandas as pd

    from facewright.specs import TaskSpec

SPLITS = ("train", "validation", "test")

# What people call the three parts, folded to lower case.
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "publictest"), "validation"),
    **dict.fromkeys(("test", "testing", "tst", "privatetest"), "test"),
}


@dataclass(frozen=True)
class Broken:
    """A file that was left out, and why in words."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Labelled:
    """An image as a label file, a folder or a file name describes it; "" is unknown."""

    path: str
    label: str
    identity: str = ""
    split: str = ""
    values: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dataset:
    """Classes, records and the source of their pixels; listing only, nothing is decoded here.

    Classes are in order of their names, or as `with_classes_first` puts them, and belong to the data set: a class that
    is absent from one part (a split folder, a subset) never shifts another one's label. Records of an opened data set
    are sorted by path.

    where: the address that opens it again. layout: how it was read. notes: what a person should know about that.
    columns: names of `Record.values`. label_column: the name of the column that is the label, if there is one.
    task: targets in place of classes, of columns; `classes` are then its scores.
    """

    name: str
    where: str
    classes: tuple[str, ...]
    records: Sequence[Record]
    source: PixelSource
    broken: tuple[Broken, ...] = ()
    columns: tuple[str, ...] = ()
    label_column: str = ""
    layout: str = ""
    notes: tuple[str, ...] = ()
    task: TaskSpec | None = None

    def __post_init__(self) -> None:
        if isinstance(self.records, RecordTable):  # made of records that were checked
            return
        if len({record.path for record in self.records}) < len(self.records):
            paths = sorted(record.path for record in self.records)
            twice = next(path for path, after in pairwise(paths) if path == after)
            raise ValueError(f"data set {self.name!r}: two records have the path {twice!r}")
        for label in {record.label for record in self.records} - {None}:
            if label is not None and not 0 <= label < len(self.classes):
                raise ValueError(f"data set {self.name!r}: label {label} is outside the {len(self.classes)} classes")

    def __len__(self) -> int:
        return len(self.records)

    def with_classes_first(self, first: Sequence[str]) -> Dataset:
        """Return the data set with these classes first, in this order; those it lacks are left out."""
        classes = (*(name for name in first if name in self.classes), *sorted(set(self.classes) - set(first)))
        if classes == self.classes:
            return self
        number = {old: classes.index(name) for old, name in enumerate(self.classes)}
        records = (replace(one, label=None if one.label is None else number[one.label]) for one in self.records)
        return replace(self, classes=classes, records=packed(records, len(self)))

    def with_task(self, task: TaskSpec) -> Dataset:
        """Return the data set with these targets in place of classes.

        Raises:
            DataError: a value of a target's column cannot be read. UnknownName: no such column.
        """
        wanted = {self.label_column, "label"} if self.classes and self.task is None else set()
        kept = sorted(name for name in wanted & set(task.columns) if name and name not in self.columns)
        names = self.column("label") if kept else [""] * len(self)  # the class, as a column
        records = (
            replace(one, label=None, values=(*one.values, *[name] * len(kept)))
            for one, name in zip(self.records, names, strict=True)
        )
        columns = (*self.columns, *kept)
        table = packed(records, len(self))
        result = replace(self, classes=task.scores, records=table, columns=columns, task=task)
        result.truth  # noqa: B018 - read now, so that a wrong value is named here
        return result

    @classmethod
    def of(cls, name: str, where: str, rows: Sequence[Labelled], source: PixelSource, **facts: Any) -> Dataset:
        """Build a data set of labelled images: classes sorted by name, names in Unicode's form NFC.

        Args:
            rows: the images; a label "" is unknown.
            facts: `broken`, `columns`, `layout`, `notes`.
        Raises:
            DataError: the name of a class or a person holds what cannot be seen, or an image is listed twice.
        """
        labels = _one_form(where, {row.label for row in rows} - {""}, "a class name")
        people = _one_form(where, {row.identity for row in rows} - {""}, "a person's name")
        classes = tuple(sorted(set(labels.values())))
        number = {label: k for k, label in enumerate(classes)}
        rows = sorted(rows, key=lambda row: row.path)
        twice = next((row.path for row, after in pairwise(rows) if row.path == after.path), None)
        if twice is not None:
            raise DataError(f"{where}: {twice} is listed twice; keep one row an image")
        records = (
            Record(
                row.path,
                number[labels[row.label]] if row.label else None,
                people.get(row.identity),
                row.split or None,
                row.values,
            )
            for row in rows
        )
        notes = (*facts.pop("notes", ()), *_about_names(labels, classes))
        return cls(name, where, classes, packed(records, len(rows)), source, notes=notes, **facts)

    @classmethod
    def from_arrays(
        cls,
        images: Sequence[NDArray[np.uint8]] | NDArray[np.uint8],
        labels: Sequence[Any],
        identities: Sequence[Any] | None = None,
        *,
        name: str = "arrays",
    ) -> Dataset:
        """Build a data set of images in memory.

        Args:
            images: (N, H, W, 3) or (N, H, W) uint8, or N images of such a shape of their own; RGB or grey.
            labels: (N,) the class of each, as text or whole numbers.
            identities: (N,) who is shown, where that is not the class.
            name: of the data set.
        Raises:
            UsageError: pixels of another kind (scale floating-point ones to 0..255 first), or lengths that differ.

        >>> data = Dataset.from_arrays(np.zeros((2, 8, 8, 3), np.uint8), ["ann", "bob"])
        >>> data.classes, len(data)
        (('ann', 'bob'), 2)
        """
        pixels = tuple(checked_pixels(number, image) for number, image in enumerate(images))
        people = [""] * len(pixels) if identities is None else [_text(value) for value in identities]
        if not len(pixels) == len(labels) == len(people):
            raise UsageError(f"expected labels of {len(pixels)} images, got {len(labels)} ({len(people)} people)")
        width = max(5, len(str(len(pixels) - 1)))
        rows = [
            Labelled(f"{number:0{width}d}", _text(label), person)
            for number, (label, person) in enumerate(zip(labels, people, strict=True))
        ]
        return cls.of(name, f"{name} in memory", rows, MemorySource(pixels), layout="arrays")

    @classmethod
    def from_frame(
        cls,
        frame: pd.DataFrame,
        image: str = "path",
        label: str = "label",
        *,
        identity: str | None = None,
        split: str | None = None,
        root: str | Path = ".",
    ) -> Dataset:
        """Build a data set of a table in memory; its other columns become `Dataset.columns`.

        Args:
            frame: a pandas DataFrame (or anything with columns by name).
            image: the column of paths below `root`.
            label: that of classes.
            identity: that of people.
            split: that of parts.
        Raises:
            UsageError: a column is not there. DataError: a path outside `root`, a split of another name.
        """
        for column in (image, label, identity, split):
            if column is not None and column not in frame:
                raise UsageError(f"expected the column {column!r}; the table has {', '.join(map(str, frame))}")
        folder = Path(root).resolve()
        others = tuple(column for column in frame if column not in (image, label, identity, split))
        columns = {name: [_text(value) for value in frame[name]] for name in frame}
        rows = [
            Labelled(
                path_below(folder, columns[image][number]),
                columns[label][number],
                columns[identity][number] if identity else "",
                split_of(columns[split][number], str(folder)) if split else "",
                tuple(columns[name][number] for name in others),
            )
            for number in range(len(frame))
        ]
        broken = [Broken(row.path, reason) for row in rows if (reason := unusable(folder, row.path)) is not None]
        names = tuple(map(str, others))
        data = cls.of(folder.name, f"{folder} by a table", rows, FileSource(str(folder)), columns=names, layout="frame")
        return replace(data, label_column=label).without(broken)

    @property
    def labels(self) -> NDArray[np.int64]:
        """(N,) int64 indices into `classes`, in the order of `records`; -1 where a record has no label."""
        if isinstance(self.records, RecordTable):
            return self.records.labels.astype(np.int64)
        return np.array([-1 if r.label is None else r.label for r in self.records], dtype=np.int64)

    @property
    def truth(self) -> NDArray[np.int64] | NDArray[np.float32]:
        """The truth of each image: (N,) `labels`; of a task (N, T) `targets`."""
        return self.labels if self.task is None else self.targets

    @cached_property
    def targets(self) -> NDArray[np.float32]:
        """(N, T) targets of the task, NaN where one is unknown. Raises UsageError: there is no task."""
        if self.task is None:
            raise UsageError(f"{self.where}: has classes, and no targets; see `with_task`")
        from facewright.data.targets import read_targets  # few commands read targets

        return read_targets(self.task, self.column, self.where)

    @property
    def people(self) -> tuple[str | None, ...]:
        """(N,) who each image shows: the identity where it is known, else the class, else None."""
        return tuple(r.identity or (None if r.label is None else self.classes[r.label]) for r in self.records)

    @property
    def all_columns(self) -> tuple[str, ...]:
        """The columns that may be targets: `columns`, and that of the label where it has a name of its own."""
        named = self.label_column not in ("", "label", "identity", *self.columns) and self.task is None
        return (self.label_column, *self.columns) if named and self.classes else self.columns

    def column(self, name: str) -> tuple[str, ...]:
        """Return (N,) values of one of `all_columns`, or of "label" or "identity", as text; "" where unknown.

        Raises:
            UnknownName: no such column.
        """
        if name not in self.columns and name in ("label", self.label_column) and self.classes and self.task is None:
            return tuple("" if record.label is None else self.classes[record.label] for record in self.records)
        if name not in self.columns and name == "identity":
            return tuple(record.identity or "" for record in self.records)
        if name not in self.columns:
            raise UnknownName(f"column of {self.where}", name, (*self.all_columns, "label", "identity"))
        place = self.columns.index(name)
        return tuple(record.values[place] for record in self.records)

    def counts(self) -> dict[str, int]:
        """Return the number of records of each class, in class order; a class without records counts 0."""
        labels = self.labels
        totals = np.bincount(labels[labels >= 0], minlength=len(self.classes))
        return dict(zip(self.classes, totals.tolist(), strict=True))

    def without(self, broken: Sequence[Broken]) -> Dataset:
        """Return this data set less the files in `broken`, which move to `.broken`.

        Raises:
            EmptyClass: a class that had records has none left.
        """
        dropped = {item.path for item in broken}
        kept = packed((r for r in self.records if r.path not in dropped), len(self))
        result = replace(self, records=kept, broken=merge_broken(self.broken, broken))
        before, after = self.counts(), result.counts()
        emptied = [name for name in self.classes if before[name] > 0 and after[name] == 0]
        if emptied:
            members = {r.path for r in self.records if r.label is not None and self.classes[r.label] == emptied[0]}
            first = next(item for item in broken if item.path in members)
            raise EmptyClass(
                f"{self.where}: expected at least one readable image in each class; none is left in "
                f"{', '.join(emptied)} ({first.path}: {first.reason}); repair the files or remove the class"
            )
        return result

    def subset(self, indices: Iterable[int] | NDArray[np.int64]) -> Dataset:
        """Return the records at `indices`, in that order, with the same classes (some may be left without records)."""
        chosen = [int(i) for i in indices]
        return replace(self, records=packed((self.records[i] for i in chosen), len(chosen)))

    def fingerprint(self, digests: Sequence[str]) -> str:
        """Return 32 hex characters that stand for classes, paths, labels or targets, and pixels.

        Args:
            digests: (N,) one pixel digest a record, in the order of `records`.
        """
        if len(digests) != len(self.records):
            raise ValueError(f"expected one digest a record ({len(self.records)}), got {len(digests)}")
        state = hashlib.blake2b(json.dumps(self.classes).encode(), digest_size=16)
        for record, digest in zip(self.records, digests, strict=True):
            state.update(b"\n" + json.dumps([record.path, record.label, digest]).encode())
        if self.task is not None:
            state.update(b"\n" + self.task.model_dump_json().encode() + np.ascontiguousarray(self.truth).tobytes())
        return state.hexdigest()


def merge_broken(first: Iterable[Broken], second: Iterable[Broken]) -> tuple[Broken, ...]:
    """Return both lists as one, sorted by path; the first reason given for a path stays."""
    reasons: dict[str, str] = {}
    for item in (*first, *second):
        reasons.setdefault(item.path, item.reason)
    return tuple(Broken(path, reasons[path]) for path in sorted(reasons))


def split_of(text: str, called: str) -> str:
    """Return train, validation or test for what people write; "" for nothing. Raises DataError, called `called`."""
    split = SPLIT_NAMES.get(text.casefold().replace(" ", ""), "")
    if text and not split:
        raise DataError(f"{called}: expected the split {', '.join(SPLITS)} or nothing, got {text!r}")
    return split


def _one_form(where: str, names: set[str], what: str) -> dict[str, str]:
    """Each name as it is written → in the form that is kept."""
    try:
        return {name: checked_name(name, what) for name in names}
    except UsageError as error:
        raise DataError(f"{where}: {error}") from error


def _about_names(written: dict[str, str], classes: tuple[str, ...]) -> list[str]:
    notes = []
    if len(written) > len(classes):
        twice = sorted({kept for kept in classes if list(written.values()).count(kept) > 1})
        notes.append(f"written in two Unicode forms and taken as one class: {', '.join(twice)}")
    notes += [
        f"classes that differ only in case or form: {', '.join(group)}; is that one class?"
        for group in lookalikes(classes)
    ]
    return notes


def _text(value: Any) -> str:
    """A cell as text; what pandas holds for nothing is ""."""
    if value is None or value != value:
        return ""
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        value = int(value)
    return str(value).strip()
