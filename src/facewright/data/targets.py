"""Targets of images from the columns of a data set: which columns, what their values mean, what is unknown."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from facewright.errors import DataError, UsageError
from facewright.specs import NumberSpec, Target, TaskSpec

YES = frozenset({"1", "+1", "true", "yes", "y", "t"})
NO = frozenset({"0", "-1", "false", "no", "n", "f"})  # -1: as CelebA writes it
UNKNOWN = frozenset({"", "nan", "na", "none", "null", "unknown", "?"})
LARGEST = 1e9  # of a number
_SHOWN = 8  # columns that an error names

Column = Callable[[str], Sequence[str]]
"""(N,) texts of a column by its name; raises UnknownName."""


def task_of(text: str, columns: Sequence[str], column: Column, where: str) -> TaskSpec:
    """Return the task that a person asks for of a data set.

    Args:
        text: "attributes:male,smiling", or "attributes" for every column of yes, no and unknown; "number:age".
        columns: those of the data.
        column: the values of one.
        where: what errors call the data.
    Raises:
        UsageError: another text. UnknownName: no such column. DataError: no column is of yes and no.
    """
    kind, mark, rest = text.partition(":")
    names = [name.strip() for name in rest.split(",")] if mark else []
    if kind not in ("attributes", "number") or "" in names or (kind == "number" and not names):
        raise UsageError(f"--task {text[:80]}: expected attributes, attributes:COLUMN,COLUMN or number:COLUMN")
    if kind == "number":
        return TaskSpec.from_dict({"targets": [{"name": name, "kind": "number", "number": {}} for name in names]})
    if not names:
        names = [name for name in columns if _is_yes_or_no(column(name))]
    if not names:
        raise DataError(
            f"{where}: expected columns of 1, 0 or nothing (yes, no, unknown) for --task {kind}; it has the columns "
            f"{', '.join(columns[:_SHOWN]) or 'none'}"
        )
    return TaskSpec.from_dict({"targets": [{"name": name, "kind": "attribute"} for name in names]})


def read_targets(task: TaskSpec, column: Column, where: str) -> NDArray[np.float32]:
    """Read the targets of every image.

    Returns:
        (N, T) float32: of an attribute 1 for yes and 0 for no; NaN where a target is unknown.
    Raises:
        DataError: a value is none of its kind. UnknownName: no such column.
    """
    readers = {"attribute": _attribute, "number": _number}
    return np.stack([readers[target.kind](target, column(target.name), where) for target in task.targets], axis=1)


def _attribute(target: Target, texts: Sequence[str], where: str) -> NDArray[np.float32]:
    value_of = {}
    for text in sorted(set(texts)):
        word = text.strip().casefold()
        if word not in YES | NO | UNKNOWN:
            raise DataError(
                f"{where}: column {target.name}: expected 1, 0 or nothing (yes, no, unknown), got {text[:40]!r}"
            )
        value_of[text] = 1.0 if word in YES else 0.0 if word in NO else np.nan
    if {"0", "-1"} <= set(texts):
        raise DataError(
            f"{where}: column {target.name} holds 1, 0 and -1: which one is unknown? Leave unknown ones empty"
        )
    return np.array([value_of[text] for text in texts], np.float32)


def _number(target: Target, texts: Sequence[str], where: str) -> NDArray[np.float32]:
    value_of = {}
    for text in sorted(set(texts)):
        try:
            value = float("nan" if text.strip().casefold() in UNKNOWN else text)
        except ValueError:
            value = np.inf
        if abs(value) > LARGEST:
            raise DataError(
                f"{where}: column {target.name}: expected a number from -1e9 to 1e9, or nothing where it is unknown, "
                f"got {text[:40]!r}"
            )
        value_of[text] = value
    return np.array([value_of[text] for text in texts], np.float32)


def with_ranges(task: TaskSpec, truth: NDArray[np.float32]) -> TaskSpec:
    """Return the task with the range and the median that its numbers have in the training part (N, T).

    A range that the recipe gives stays.
    """
    targets = []
    for target, values in zip(task.targets, truth.T, strict=True):
        if target.number is not None:
            low, high, median = (float(of(values)) for of in (np.nanmin, np.nanmax, np.nanmedian))
            given = target.number.model_dump(exclude_none=True)
            target = target.model_copy(
                update={"number": NumberSpec.from_dict({"low": low, "high": high, **given, "median": median})}
            )
        targets.append(target)
    return task.model_copy(update={"targets": tuple(targets)})


def _is_yes_or_no(texts: Sequence[str]) -> bool:
    """Tell whether a column holds yes and no, and nothing else but unknown."""
    words = {text.strip().casefold() for text in set(texts)}
    return words <= YES | NO | UNKNOWN and bool(words & YES) and bool(words & NO)


def check_targets(task: TaskSpec, truth: NDArray[np.float32], where: str) -> None:
    """Refuse targets (N, T) of a training part that nothing can be learned from.

    Raises:
        DataError: an attribute is yes, or no, of no image; a number is the same in all.
    """
    for target, values in zip(task.targets, truth.T, strict=True):
        if target.number is not None:
            if len(np.unique(values[~np.isnan(values)])) < 2:
                raise DataError(f"{where}: {target.name} is the same, or unknown, in all training images")
            continue
        for word, value in (("yes", 1.0), ("no", 0.0)):
            if not (values == value).any():
                raise DataError(
                    f"{where}: no training image has {word} for {target.name}; leave it out, or add such images"
                )
