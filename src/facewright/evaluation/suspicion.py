"""What is suspicious about a dataset's labels: frozen facts, kept in a run's suspicious.json. Nothing is ever dropped.

Three lists, for three kinds of fault: pictures a model takes for another class with confidence; pictures that are
unlike the rest of their class; classes that fall in two, as if two people had been sorted into one folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facewright.errors import Undefined, UsageError
from facewright.metrics import class_parts
from facewright.metrics.class_likeness import CHANCE, class_likeness, unlike_own_class
from facewright.metrics.intervals import Rate, wilson
from facewright.metrics.label_noise import confident_joint, estimated_errors, suspects

TASK = "suspicious labels"


@dataclass(frozen=True)
class Suspect:
    """A picture that looks mislabelled to a model that never saw it."""

    path: str
    label: str
    suggested: str  # the class the model is confident of
    probability: float  # of the label
    suggested_probability: float
    margin: float  # probability of the label less that of the most probable other class


@dataclass(frozen=True)
class Stranger:
    """A picture that is no more like its class than strangers are."""

    path: str
    label: str
    likeness: float  # median cosine to the rest of its class
    nearest: str  # the class it is most like; its own where no other is nearer
    nearest_likeness: float  # to that class; above the threshold the picture belongs there


@dataclass(frozen=True)
class PartedClass:
    """A class that falls in two. Paths: those nearest to the middle of their part first."""

    label: str
    smaller: tuple[str, ...]
    larger: tuple[str, ...]
    within: float  # median cosine of pairs inside a part
    across: float
    separation: float  # how often a pair inside is more alike than one across, in [0.5, 1]


@dataclass(frozen=True)
class Likeness:
    """What embeddings that know nothing of the labels say. `refused`: why there is no list of strangers, or None."""

    strangers: tuple[Stranger, ...]
    threshold: float | None  # likeness that strangers reach with a chance of `chance`
    chance: float
    parted: tuple[PartedClass, ...]
    refused: str | None


@dataclass(frozen=True)
class Suspicion:
    """What is suspicious about the labels of a run's dataset."""

    dataset: str
    fingerprint: str
    source: str  # what made the probabilities, in words
    n: int  # pictures judged
    folds: int
    classes: tuple[str, ...]  # judged
    accuracy: Rate  # share of labels that the out-of-fold model gives the highest probability
    estimated_errors: float  # number of wrong labels, by the calibrated joint
    suspects: tuple[Suspect, ...]
    likeness: Likeness | None  # None: no embeddings that know nothing of the labels
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As `inspect --labels --json` prints it and suspicious.json holds it."""
        facts: dict[str, Any] = {"task": TASK} | _plain(asdict(self))
        return facts

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> Suspicion:
        """The inverse of `to_dict`.

        Raises:
            UsageError: the facts are of another task or incomplete.
        """
        if facts.get("task") != TASK:
            raise UsageError(f"expected the facts of {TASK}, got task {facts.get('task')!r}")
        try:
            values = {name: value for name, value in facts.items() if name != "task"}
            values |= {name: tuple(values[name]) for name in ("classes", "notes")}
            values["accuracy"] = Rate.from_dict(values["accuracy"])
            values["suspects"] = tuple(Suspect(**row) for row in values["suspects"])
            values["likeness"] = None if values["likeness"] is None else _likeness_from(values["likeness"])
            return cls(**values)
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"the facts of {TASK} are incomplete ({error}): inspect the labels again") from None


def suspicion_of(
    paths: Sequence[str], labels: NDArray[np.int64], classes: tuple[str, ...], probabilities: NDArray[np.float64]
) -> tuple[Rate, float, tuple[Suspect, ...]]:
    """Out-of-fold accuracy, the estimated number of wrong labels, and the suspects, the clearest first.

    Args:
        paths: (N,). labels: (N,) numbers of classes.
        probabilities: (N, C) out of fold.
    Raises:
        EmptyScores, UsageError: as `confident_joint`.
    """
    joint = confident_joint(probabilities, labels)
    found = suspects(joint, probabilities, labels)
    rows = tuple(
        Suspect(
            path=paths[row],
            label=classes[labels[row]],
            suggested=classes[other],
            probability=float(probabilities[row, labels[row]]),
            suggested_probability=float(probabilities[row, other]),
            margin=float(margin),
        )
        for row, other, margin in zip(found.rows.tolist(), found.classes.tolist(), found.margins, strict=True)
    )
    right = wilson(int((probabilities.argmax(axis=1) == labels).sum()), len(labels))
    return right, estimated_errors(joint, labels), rows


def likeness_of(
    paths: Sequence[str],
    labels: NDArray[np.int64],
    classes: tuple[str, ...],
    embeddings: NDArray[np.float32],
    groups: Sequence[str],
) -> Likeness:
    """Pictures that are unlike the rest of their class, and classes that fall in two.

    Args:
        paths, groups: (N,). labels: (N,) numbers of classes.
        embeddings: (N, D) of a network that never saw these labels.
    """
    strangers: tuple[Stranger, ...] = ()
    threshold, refused = None, None
    try:
        found = unlike_own_class(class_likeness(embeddings, labels, groups, len(classes)), labels)
    except Undefined as error:
        refused = str(error)
    else:
        threshold = found.threshold
        strangers = tuple(
            Stranger(paths[row], classes[labels[row]], float(own), classes[nearest], float(alike))
            for row, own, nearest, alike in zip(
                found.rows.tolist(), found.likeness, found.nearest.tolist(), found.nearest_likeness, strict=True
            )
        )
    parted: tuple[PartedClass, ...] = ()
    if threshold is not None:  # a class that many pictures of other classes were put into is not two people
        elsewhere = {row.path for row in strangers if row.nearest_likeness > threshold}
        rows = np.array([row for row, path in enumerate(paths) if path not in elsewhere], np.int64)
        parted = _parted(paths, labels, classes, embeddings, groups, rows)
    return Likeness(strangers, threshold, CHANCE, parted, refused)


def _parted(
    paths: Sequence[str],
    labels: NDArray[np.int64],
    classes: tuple[str, ...],
    embeddings: NDArray[np.float32],
    groups: Sequence[str],
    rows: NDArray[np.int64],
) -> tuple[PartedClass, ...]:
    """The classes that fall in two, the clearest first; only `rows` are looked at."""
    found = []
    for number, name in enumerate(classes):
        parts = class_parts.parts_of(embeddings, rows[labels[rows] == number], groups)
        if parts is not None and parts.separation >= class_parts.SEPARATION:
            smaller, larger = (tuple(paths[row] for row in side.tolist()) for side in (parts.smaller, parts.larger))
            found.append(PartedClass(name, smaller, larger, parts.within, parts.across, parts.separation))
    return tuple(sorted(found, key=lambda parted: -parted.separation))


def _likeness_from(facts: Mapping[str, Any]) -> Likeness:
    strangers = tuple(Stranger(**row) for row in facts["strangers"])
    parted = tuple(
        PartedClass(**{**row, "smaller": tuple(row["smaller"]), "larger": tuple(row["larger"])})
        for row in facts["parted"]
    )
    return Likeness(**{**facts, "strangers": strangers, "parted": parted})


def _plain(value: Any) -> Any:
    """Tuples as lists, all the way down, so that what is written and read back is equal."""
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value
