"""Warnings about a split: classes made of copies, classes that a part lacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from facewright.data.records import SPLITS as PARTS
from facewright.data.records import Dataset
from facewright.data.splits import Split, largest_unit
from facewright.data.units import units_by_class
from facewright.errors import DataError

NAMED = 5  # classes that a note names


def explained(split: Split, dataset: Dataset, groups: Sequence[str], test: float) -> Split:
    """Return a split whose notes say which classes are absent from which part, and what that means for its numbers.

    Args:
        groups: (N,) unit names (`groups_of`). test: the share that was asked for the test part of each class.
    Raises:
        DataError: fewer than two classes have test images, because the others are made of copies.
    """
    counts = {name: _class_counts(dataset, getattr(split, name)) for name in PARTS}
    copies = _made_of_copies(dataset, groups, test)
    tested = int((counts["test"] > 0).sum())
    untested = [name for number, name in enumerate(dataset.classes) if name in copies and not counts["test"][number]]
    if untested and tested < 2:
        raise DataError(
            f"{dataset.where}: no honest test is possible: of {_listed(untested)} all images are copies or near copies "
            "of one another, which stay in the training part; add other photos, or a test part of your own"
        )
    notes = [
        f"class {name!r}: {large} of {total} images are copies or near copies of one another and stay in training; "
        + (
            f"its test rests on {counts['test'][dataset.classes.index(name)]} of the others"
            if name not in untested
            else "it is not tested, so no number says how well it is recognized"
        )
        for name, (large, total) in list(copies.items())[:NAMED]
    ]
    if len(copies) > NAMED:
        notes.append(f"and {len(copies) - NAMED} more classes hold many copies")
    return replace(split, notes=(*split.notes, *notes, *_about_absent(dataset.classes, counts)))


def _made_of_copies(dataset: Dataset, groups: Sequence[str], test: float) -> dict[str, tuple[int, int]]:
    """Class → size of its largest unit and of the class, where that is larger than a test share."""
    found = {}
    for label, units in units_by_class(dataset.labels, groups).items():
        total, largest = sum(map(len, units.values())), max(map(len, units.values()))
        if label >= 0 and largest > largest_unit(total, 0.0, test) and largest > 2:
            found[dataset.classes[label]] = (largest, total)
    return found


def about_given_parts(dataset: Dataset) -> list[str]:
    """Return which classes are absent from the parts that the data prescribe; nothing where they prescribe none."""
    parts = {name: [i for i, record in enumerate(dataset.records) if record.split == name] for name in PARTS}
    counts = {name: _class_counts(dataset, np.asarray(rows, np.int64)) for name, rows in parts.items()}
    return _about_absent(dataset.classes, counts) if parts["train"] else []


def _class_counts(dataset: Dataset, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    labels = dataset.labels[rows]
    return np.bincount(labels[labels >= 0], minlength=len(dataset.classes))


def _about_absent(classes: Sequence[str], counts: Mapping[str, NDArray[np.int64]]) -> list[str]:
    """Notes on classes without an image in a part, and what its numbers then mean."""
    notes = []
    never = np.flatnonzero((counts["train"] == 0) & (counts["validation"] + counts["test"] > 0))
    if never.size:
        names = _listed([classes[int(k)] for k in never])
        notes.append(
            f"no training image shows {len(never)} of {len(classes)} classes ({names}); "
            f"the model cannot answer these, so their {counts['test'][never].sum()} test images count as errors"
        )
    for part in ("validation", "test"):
        absent = np.flatnonzero(counts[part] == 0)
        if absent.size and counts[part].any():
            names = _listed([classes[int(k)] for k in absent])
            notes.append(
                f"the {part} part lacks {len(absent)} of {len(classes)} classes ({names}); "
                f"its numbers rest on {counts[part].sum()} images of the other {len(classes) - len(absent)} and say "
                "nothing about the classes it lacks"
            )
    return notes


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{', '.join(names[:NAMED])}{more}"
