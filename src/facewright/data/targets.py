"""Targets of images from the columns of a data set: which columns, what their values mean, what is unknown."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from facewright.errors import DataError, UsageError
from facewright.names import checked_name
from facewright.specs import NumberSpec, Target, TaskSpec

YES = frozenset({"1", "+1", "true", "yes", "y", "t"})
NO = frozenset({"0", "-1", "false", "no", "n", "f"})  # -1: as CelebA writes it
UNKNOWN = frozenset({"", "nan", "na", "none", "null", "unknown", "?"})
LARGEST = 1e9  # of a number
_SHOWN = 8  # columns that an error names

KINDS = ("attribute", "number", "classes")  # words of --task for one of several targets
MOST_CLASSES = 10_000
_EXPECTED = "attributes[:COLUMN,...], number:COLUMN, votes:COLUMN,... or COLUMN:KIND,... (attribute, number, classes)"

Column = Callable[[str], Sequence[str]]
"""(N,) texts of a column by its name; raises UnknownName."""


def task_of(text: str, columns: Sequence[str], column: Column, where: str) -> TaskSpec:
    """Return the task that a person asks for of a data set.

    Args:
        text: "attributes:male,smiling", or "attributes" for every column of yes, no and unknown; "number:age";
            "votes:happy,sad" for columns of counts; or several targets, "age:number,gender:classes,smiling:attribute".
        where: what errors call the data.
    Raises:
        UsageError: another text. UnknownName: no such column. DataError: values of another kind.
    """
    kind, mark, rest = text.partition(":")
    if kind == "attributes" and not mark:
        rest = ",".join(name for name in columns if _is_yes_or_no(column(name)))
        if not rest:
            raise DataError(
                f"{where}: expected columns of 1, 0 or nothing (yes, no, unknown) for --task {kind}; found the columns "
                f"{', '.join(columns[:_SHOWN]) or 'none'}"
            )
    words = [word.strip() for word in rest.split(",")]
    several = any(word.rpartition(":")[2] in KINDS for word in words)
    targets: list[dict[str, object]]
    if kind == "votes" and not several:
        targets = [{"name": kind, "kind": kind, "classes": words}]
    elif kind in ("attributes", "attribute", "number", "classes") and not several:
        targets = [_asked(word, kind.removesuffix("s") if kind == "attributes" else kind) for word in words]
    else:
        pairs = [word.strip().rpartition(":") for word in text.split(",")]
        targets = [_asked(name, word) for name, _, word in pairs]
        words = [name if word in KINDS else "" for name, _, word in pairs]
    if not all(words):
        raise UsageError(f"--task {text[:80]}: expected {_EXPECTED}")
    return complete(TaskSpec.from_dict({"targets": targets}), column, where)


def _asked(name: str, kind: str) -> dict[str, object]:
    return {
        "name": name or "?",
        "kind": kind if kind in KINDS else "attribute",
        **({"number": {}} if kind == "number" else {}),
    }


def complete(task: TaskSpec, column: Column, where: str) -> TaskSpec:
    """Fill in the names of classes where a target leaves them to the data.

    Raises DataError: one class alone, or too many. UsageError: votes for one class. UnknownName: no such column.
    """
    return TaskSpec.from_dict({"targets": [_complete(target, column, where).to_dict() for target in task.targets]})


def _complete(target: Target, column: Column, where: str) -> Target:
    if target.kind == "votes" and len(target.classes) < 2:
        raise UsageError(f"votes need the columns of two classes or more, got {', '.join(target.classes) or 'none'}")
    if target.kind != "classes" or target.classes:
        return target
    try:
        found = sorted({checked_name(text, "a class name") for text in set(column(target.name)) if text.strip()})
    except UsageError as error:
        raise DataError(f"{where}: column {target.name}: {error}") from error
    if not 2 <= len(found) <= MOST_CLASSES:
        raise DataError(f"{where}: column {target.name}: expected 2 to {MOST_CLASSES:,} classes, found {len(found):,}")
    return target.model_copy(update={"classes": tuple(found)})


def read_targets(task: TaskSpec, column: Column, where: str) -> NDArray[np.float32]:
    """Read the targets of every image, (N, T) float32: 1 for yes and 0 for no, the number of a class, counts of votes.

    NaN where a target is unknown. Raises DataError: a value is none of its kind. UnknownName: no such column.
    """
    return np.concatenate([_READERS[target.kind](target, column, where) for target in task.targets], axis=1)


def _values(
    column: Column, name: str, where: str, value_of: Callable[[str], float | None], expected: str
) -> NDArray[np.float32]:
    """(N,) the value of each text of a column. Raises DataError: a text has none."""
    texts = column(name)
    values = {text: value_of(text.strip()) for text in sorted(set(texts))}
    wrong = next((text for text, value in values.items() if value is None), None)
    if wrong is not None:
        raise DataError(f"{where}: column {name}: expected {expected}, got {wrong[:40]!r}")
    return np.array([values[text] for text in texts], np.float32)


def _attribute(target: Target, column: Column, where: str) -> NDArray[np.float32]:
    if {"0", "-1"} <= set(column(target.name)):
        raise DataError(f"{where}: column {target.name} holds 1, 0 and -1: which is unknown? Leave unknown ones empty")
    known = dict.fromkeys(YES, 1.0) | dict.fromkeys(NO, 0.0) | dict.fromkeys(UNKNOWN, np.nan)
    expected = "1, 0 or nothing (yes, no, unknown)"
    return _values(column, target.name, where, lambda text: known.get(text.casefold()), expected)[:, None]


def _number_of(text: str) -> float | None:
    try:
        value = np.nan if text.casefold() in UNKNOWN else float(text)
    except ValueError:
        return None
    return None if abs(value) > LARGEST else value


def _numbers(name: str, column: Column, where: str) -> NDArray[np.float32]:
    expected = "a number from -1e9 to 1e9, or nothing where it is unknown"
    return _values(column, name, where, _number_of, expected)[:, None]


def _classes(target: Target, column: Column, where: str) -> NDArray[np.float32]:
    known = {name: float(place) for place, name in enumerate(target.classes)} | {"": np.nan}
    expected = f"one of the classes {', '.join(target.classes[:_SHOWN])}"
    name_of = partial(unicodedata.normalize, "NFC")
    return _values(column, target.name, where, lambda text: known.get(name_of(text)), expected)[:, None]


def _votes(target: Target, column: Column, where: str) -> NDArray[np.float32]:
    counts = np.concatenate([_numbers(name, column, where) for name in target.columns], axis=1)
    counts = np.where(np.isnan(counts).all(axis=1, keepdims=True), np.nan, np.nan_to_num(counts, nan=0.0))
    if (counts < 0).any() or (np.round(counts) != counts)[~np.isnan(counts)].any():
        raise DataError(f"{where}: expected votes as whole numbers of at least 0 in {', '.join(target.classes)}")
    return counts.astype(np.float32)


_READERS: dict[str, Callable[[Target, Column, str], NDArray[np.float32]]] = {
    "attribute": _attribute,
    "number": lambda target, column, where: _numbers(target.name, column, where),
    "classes": _classes,
    "votes": _votes,
}


def with_ranges(task: TaskSpec, truth: NDArray[np.float32]) -> TaskSpec:
    """Return the task with the range and the median that its numbers have in the training part (N, T).

    A range that the recipe gives stays.
    """
    targets = []
    for target, _, place, _ in task.parts:
        values = truth[:, place]
        if target.number is not None:
            low, high, median = (float(of(values)) for of in (np.nanmin, np.nanmax, np.nanmedian))
            given = target.number.model_dump(exclude_none=True)
            number = NumberSpec.from_dict({"low": low, "high": high, **given, "median": median})
            target = target.model_copy(update={"number": number})
        targets.append(target)
    return TaskSpec(targets=tuple(targets))


def _is_yes_or_no(texts: Sequence[str]) -> bool:
    """Tell whether a column holds yes and no, and nothing else but unknown."""
    words = {text.strip().casefold() for text in set(texts)}
    return words <= YES | NO | UNKNOWN and bool(words & YES) and bool(words & NO)


def check_targets(task: TaskSpec, truth: NDArray[np.float32], where: str) -> None:
    """Refuse targets (N, T) of a training part that nothing can be learned from.

    Raises DataError: an attribute is yes, or no, of no image; a class has none; a number is the same in all; no votes.
    """
    for target, _, place, _ in task.parts:
        values = truth[:, place]
        if target.number is not None:
            if len(np.unique(values[~np.isnan(values)])) < 2:
                raise DataError(f"{where}: {target.name} is the same, or unknown, in all training images")
            continue
        answers = ("no", "yes") if target.kind == "attribute" else target.classes
        missing = next((word for number, word in enumerate(answers) if not (values == number).any()), None)
        if target.kind == "votes":
            missing = None if (values > 0).any() else "a vote"
        if missing is not None:
            raise DataError(f"{where}: no training image has {missing} for {target.name}; leave it out, or add images")
