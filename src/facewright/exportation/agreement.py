"""The comparison of an exported model with the original: no decision changed in float32, the cost of int8 measured.

The tolerance applies to what decides: probabilities, unit vectors, cosines, and the norms of embeddings, relative to
PyTorch's, which are part of the quality of faces; raw scores have no unit and no limit. A score nearer to a threshold
than 1e-6 (or two classes nearer to each other) is a tie: there, PyTorch's own decision varies with the batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field

from facewright.bundle import Bundle, Precision
from facewright.data.store import PixelStore
from facewright.embedding import Embedder
from facewright.errors import DataError
from facewright.inference import Classifier
from facewright.input_spec import InputSpec
from facewright.metrics.calibration import softmax, target_values
from facewright.metrics.intervals import Rate, mcnemar_exact, wilson
from facewright.metrics.streaming import all_pairs
from facewright.metrics.thresholds import UNKNOWN, VERIFICATION, thresholds_for
from facewright.records import Record
from facewright.specs import TaskSpec

TOLERANCE = 1e-5
TIE = 1e-6
BLOCK = 256  # images at once
NEIGHBOURS = 1_000  # every pair among so many images that follow each other is compared
SEARCHED = 1_024  # images whose nearest neighbours are searched at once
FEW = 1e-3  # share of the pairs above the threshold that is used if the model holds none

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ModelOutputs:
    """The outputs of one model for N images."""

    vectors: NDArray[np.float32]  # (N, D) of length 1
    norms: Floats  # (N,) of the embeddings before; NaN: the model does not give them
    logits: Floats | None  # (N, C); None: it has no classes
    probabilities: Floats | None  # (N, C)
    similarities: Floats | None  # (N,) of `Classifier.similarity`

    def first(self, count: int) -> ModelOutputs:
        """Return the outputs for the first `count` images."""
        scores = (self.logits, self.probabilities, self.similarities)
        return ModelOutputs(
            self.vectors[:count], self.norms[:count], *(None if part is None else part[:count] for part in scores)
        )


@dataclass(frozen=True, eq=False)
class ImageSubset:
    """A subset of the images of a store."""

    store: PixelStore
    rows: NDArray[np.int64]


@dataclass(frozen=True)
class StoredThresholds:
    """The thresholds that a model decides by."""

    binary: tuple[int, float] | None = None  # column of the accepted class, and from which probability on
    unknown: tuple[float, ...] = ()  # of similarity
    verification: tuple[float, ...] = ()  # of cosines
    targets: tuple[tuple[slice, float | None], ...] | None = None
    """Of a task the columns of each target that is decided, and from which probability on it is yes; None: classes."""

    @classmethod
    def of(cls, bundle: Bundle) -> StoredThresholds:
        """Return the thresholds that a model file holds for its present input."""
        unknown: tuple[float, ...] = ()
        binary = targets = None
        if bundle.task is not None:
            limits = Classifier(bundle).limits
            targets = tuple(  # of classes and votes the most probable is the answer
                (part.values, limits.get(part.target.name)) for part in bundle.task.parts if part.target.number is None
            )
        elif bundle.classes:
            classifier = Classifier(bundle)
            unknown = tuple(one.value for one in thresholds_for(bundle.thresholds, UNKNOWN, classifier.fingerprint))
            line = classifier.threshold
            binary = None if line is None else (bundle.classes.index(line.accepted), line.value)
        held = thresholds_for(bundle.thresholds, VERIFICATION, Embedder(bundle).fingerprint)
        return cls(binary, unknown, tuple(one.value for one in held), targets)


class Agreement(Record):
    """The largest differences between two models over the same images, and the decisions that differ."""

    model_config = ConfigDict(allow_inf_nan=True)  # a graph may answer NaN: that is a problem, see below

    pictures: int
    pairs: int
    logits: float | None  # None: no classes
    probabilities: float | None
    vectors: float
    cosines: float
    norms: float | None = None  # relative; None: of an older version, which did not compare them
    decisions: int  # that were compared
    changed: int
    ties: int  # of the decisions, too near to call
    tolerance: float = TOLERANCE
    tie: float = TIE

    @property
    def problem(self) -> str | None:
        """The reason why the exported model is not good enough; None if it is."""
        parts = {"probabilities": self.probabilities, "vectors": self.vectors, "cosines": self.cosines}
        parts["norms"] = self.norms
        worst = {name: value for name, value in parts.items() if value is not None and not value <= TOLERANCE}
        if not worst and not self.changed:
            return None
        found = [f"{name} by up to {value:.2g}" for name, value in worst.items()]
        message = f"differs in {', '.join(found)} (at most {TOLERANCE:g} is allowed)" if found else "is near enough"
        return f"{message}, and {self.changed:,} of {self.decisions:,} decisions change, over {self.pictures:,} images"


def compute_outputs(bundle: Bundle, parts: Sequence[ImageSubset], device: str | None = "cpu") -> ModelOutputs:
    """Compute a model's outputs, in batches of several sizes: one image, three, then many."""
    embedder = Embedder(bundle, device=device)
    classifier = Classifier(bundle, device) if bundle.classes else None
    vectors, norms, logits = [], [], []
    for part in parts:
        for rows in np.split(part.rows, [1, 4, *range(BLOCK, part.rows.size, BLOCK)]):
            pixels = part.store.batch(rows)
            found = embedder.embed_with_norms(pixels)
            vectors.append(found[0])
            norms.append(found[1])
            if classifier is not None:
                logits.append(classifier.logits(pixels))
    every, lengths = np.concatenate(vectors), np.concatenate(norms)
    if classifier is None:
        return ModelOutputs(every, lengths, None, None, None)
    scores = np.concatenate(logits)
    return ModelOutputs(every, lengths, scores, _probabilities(scores, bundle.task), classifier.similarity(scores))


def _probabilities(scores: Floats, task: TaskSpec | None) -> Floats:
    """Return (N, C) probabilities; of a task (N, V) values, a number as a share of its range."""
    if task is None:
        return softmax(scores)
    values = target_values(scores, task)
    for part in task.of_kind("number"):
        low, high = part.target.number.ends  # type: ignore[union-attr]
        values[:, part.values] = (values[:, part.values] - low) / (high - low)
    return values


def compare_outputs(ours: ModelOutputs, theirs: ModelOutputs, lines: StoredThresholds) -> Agreement:
    """Compare two models' answers to the same images.

    Args:
        ours: PyTorch's, which decide what is a tie. lines: the thresholds of the model; if it has none for pairs, one
            is used that a thousandth of these pairs reaches.
    """
    counts = _DecisionCounts()
    counts.scores(ours, theirs, lines)
    cosines, pairs = 0.0, 0
    for one, other in _cosines(ours.vectors, theirs.vectors):
        cosines, pairs = float(np.fmax(cosines, _furthest(one, other))), pairs + one.size
        for line in lines.verification or (float(np.quantile(one, 1 - FEW)),):
            counts.line(one, other, line)
    return Agreement(
        pictures=len(ours.vectors),
        pairs=pairs,
        logits=None if ours.logits is None else _furthest(ours.logits, theirs.logits),
        probabilities=None if ours.probabilities is None else _furthest(ours.probabilities, theirs.probabilities),
        vectors=_furthest(ours.vectors, theirs.vectors),
        cosines=cosines,
        norms=_furthest(1, theirs.norms / ours.norms),
        decisions=counts.decisions,
        changed=counts.changed,
        ties=counts.ties,
    )


class _DecisionCounts:
    """Counts of compared decisions, changed decisions and ties."""

    def __init__(self) -> None:
        self.decisions = self.changed = self.ties = 0

    def scores(self, ours: ModelOutputs, theirs: ModelOutputs, lines: StoredThresholds) -> None:
        """Count the decisions of a model with classes or targets."""
        if ours.probabilities is None or theirs.probabilities is None:
            return
        for columns, line in lines.targets or ():
            one, other = ours.probabilities[:, columns], theirs.probabilities[:, columns]
            self.classes(one, other) if line is None else self.line(one[:, 0], other[:, 0], line)
        if lines.targets is None:
            self.classes(ours.probabilities, theirs.probabilities)
        if lines.binary is not None:
            column, line = lines.binary
            self.line(ours.probabilities[:, column], theirs.probabilities[:, column], line)
        for line in lines.unknown:
            self.line(ours.similarities, theirs.similarities, line)

    def line(self, ours: Any, theirs: Any, line: float) -> None:
        """Count the decisions of scores (N,) by a threshold."""
        self._count(np.abs(ours - line) <= TIE, (ours >= line) != (theirs >= line))

    def classes(self, ours: Floats, theirs: Floats) -> None:
        """Count the decisions for the most probable class, (N, C)."""
        if ours.shape[1] < 2:
            return
        second, first = np.partition(ours, -2, axis=1)[:, -2:].T
        self._count(first - second <= TIE, ours.argmax(1) != theirs.argmax(1))

    def _count(self, tie: NDArray[np.bool_], other: NDArray[np.bool_]) -> None:
        self.decisions += tie.size
        self.ties += int(tie.sum())
        self.changed += int((other & ~tie).sum())


def _furthest(ours: Any, theirs: Any) -> float:
    """The largest absolute difference; NaN if one is NaN, which is within no tolerance."""
    return float(np.abs(np.asarray(ours, np.float64) - np.asarray(theirs, np.float64)).max(initial=0.0))


def _cosines(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> Iterator[tuple[Floats, Floats]]:
    """Yield the cosines of pairs of images under both models, a thousand images at a time: two arrays (P,)."""
    for start in range(0, len(ours), NEIGHBOURS):
        parts = [vectors[start : start + NEIGHBOURS].astype(np.float64) for vectors in (ours, theirs)]
        upper = np.triu_indices(len(parts[0]), k=1)
        if upper[0].size:
            one, other = (np.clip(part @ part.T, -1.0, 1.0)[upper] for part in parts)
            yield one, other


class Int8Cost(Record):
    """Correct answers in float32 and in int8, on the same images."""

    data: str
    question: Literal[
        "class", "nearest"
    ]  # "class": is the class right; "nearest": does the nearest match show the same person
    float32: Rate  # Wilson
    int8: Rate
    lost: int  # images that only the float32 model got right
    won: int  # images that only the int8 model got right
    p_value: float  # McNemar, exact
    auc_float32: float  # over every pair of the images
    auc_int8: float
    eer_float32: float
    eer_int8: float


class TargetCost(Record):
    """One target of the same images in float32 and in int8, at the same threshold."""

    name: str
    measure: Literal["accuracy", "mean absolute error"]  # the latter in the units of a number
    float32: Rate | None  # None: the target is known of no image
    int8: Rate | None
    changed: Rate | None  # answers that differ, Wilson; None: a number
    furthest: float  # the largest difference of a probability, or of a number in its units


def measure_int8_cost(
    before: ModelOutputs, after: ModelOutputs, people: NDArray[np.str_], classes: tuple[str, ...], data: str
) -> Int8Cost:
    """Measure both models on labelled images.

    If every person is one of the model's classes, an answer is correct if the class is; otherwise, if the nearest match
    shows the same person. The latter counts only images of people with at least two.

    Args:
        before, after: N images answered in float32 and int8. people: (N,) the person in each. classes: of the model.
        data: what the images are, for the record.
    Raises:
        EmptyScores: no two images of one person, or one person only. DataError: no person has two images.
    """
    by_class = bool(classes) and set(people.tolist()) <= set(classes)
    if by_class:
        names = np.array(classes)
        right = [names[answers.probabilities.argmax(1)] == people for answers in (before, after)]  # type: ignore[union-attr]
    else:
        values, counts = np.unique(people, return_counts=True)
        usable = np.isin(people, values[counts > 1])
        if not usable.any():
            raise DataError(f"{data}: expected a person with at least two images; add images or choose other data")
        right = [(people[nearest(answers.vectors)] == people)[usable] for answers in (before, after)]
    first, second = right
    curves = [all_pairs(answers.vectors, people) for answers in (before, after)]
    return Int8Cost(
        data=data,
        question="class" if by_class else "nearest",
        float32=wilson(int(first.sum()), first.size),
        int8=wilson(int(second.sum()), second.size),
        lost=int((first & ~second).sum()),
        won=int((second & ~first).sum()),
        p_value=mcnemar_exact(first, second),
        auc_float32=curves[0].auc,
        auc_int8=curves[1].auc,
        eer_float32=curves[0].eer.value,
        eer_int8=curves[1].eer.value,
    )


def nearest(vectors: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return for each row the other row with the largest cosine; the first of equal ones.

    >>> nearest(np.float32([[1, 0], [0, 1], [0.8, 0.6]]))
    array([2, 2, 0])
    """
    found = np.empty(len(vectors), np.int64)
    for start in range(0, len(vectors), SEARCHED):
        part = vectors[start : start + SEARCHED] @ vectors.T
        part[np.arange(len(part)), np.arange(start, start + len(part))] = -np.inf
        found[start : start + len(part)] = part.argmax(1)
    return found


class Int8Report(Record):
    """The calibration of the int8 file, and its cost."""

    calibration: str  # the data set
    pictures: int  # calibration images used
    float32_bytes: int  # size of the float32 file
    cost: Int8Cost | None  # None: the model has targets in place of classes
    targets: tuple[TargetCost, ...] = ()


class Export(Record):
    """A model that was written as ONNX."""

    task: Literal["export"] = "export"
    model: str
    path: str
    size: int  # bytes
    architecture: str
    spec: InputSpec = Field(serialization_alias="input")
    outputs: Mapping[str, int]  # name -> numbers per image
    precision: Precision
    fingerprints: Mapping[str, str]
    data: str  # what the float32 graph was compared with PyTorch on
    agreement: Agreement  # of the float32 graph, also where the file is int8
    thresholds: int  # in the file
    dropped: int  # thresholds of the model that do not hold for it
    quantised: Int8Report | None = None  # None: float32
