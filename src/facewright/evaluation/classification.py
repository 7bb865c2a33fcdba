"""Closed-set classification: from what a model said of each image to the result that `evaluation.json` holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from facewright.errors import DataError, EmptyScores, Undefined, UsageError
from facewright.evaluation.subgroups import Subgroups
from facewright.metrics import calibration, intervals
from facewright.metrics import classification as metrics
from facewright.metrics.binary import Epc
from facewright.metrics.intervals import Rate, Tally, wilson
from facewright.records import Record

TOP = 5  # classes of an image that are kept where there are too many for all
SCORES = 20_000_000  # probabilities of a part that are kept: 160 MB
FEW = 20  # classes, of which all are kept of any number of images
MATRIX = 1_000  # classes: of more, the confusion matrix is a list of mistakes
ROWS = 10_000  # rows of the table of classes
_where_many = Field(default=None, exclude_if=lambda value: value is None)
TOP5_FROM = 21  # classes; below, the true class among five says little
ROW_SUM_TOLERANCE = 1e-4  # float32 softmax over thousands of classes, or six written digits, stay well inside


@dataclass(frozen=True)
class Ranked:
    """The most probable classes of each image and the rank of its own, however many classes there are."""

    top: NDArray[np.int64]  # (N, min(5, C)) the most probable classes, best first; of equals the first
    probabilities: NDArray[np.float64]  # (N, min(5, C)) of these
    of_truth: NDArray[np.float64]  # (N,) the probability of the image's class
    rank: NDArray[np.int64]  # (N,) of the image's class, from 1; equals stand before it

    @classmethod
    def of(cls, labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> Ranked:
        """Rank all probabilities, (N, C), of images of classes (N,)."""
        exact = probabilities.astype(np.float64, copy=False)
        rows, top = np.arange(len(exact)), metrics.highest(exact, TOP)
        return cls(top, exact[rows[:, None], top], exact[rows, labels], metrics.ranks(labels, exact))

    @classmethod
    def joined(cls, parts: Sequence[Ranked]) -> Ranked:
        """Put parts of the images together."""
        names = ("top", "probabilities", "of_truth", "rank")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


@dataclass(frozen=True)
class Predictions:
    """The predictions for each image of one part; row i of every field is one image."""

    paths: tuple[str, ...]  # as in the dataset, relative to its root
    labels: NDArray[np.int64]  # (N,) class numbers
    probabilities: NDArray[np.float64] | None  # (N, C), rows sum to one; None: too many to keep, see `keeps_scores`
    kept: Ranked | None = None  # given where `probabilities` are not

    @cached_property
    def ranked(self) -> Ranked:
        """The most probable classes of each image, and where its own stands."""
        if self.kept is not None:
            return self.kept
        assert self.probabilities is not None
        return Ranked.of(self.labels, self.probabilities)

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The most probable class of each image, (N,)."""
        return self.ranked.top[:, 0]


def keeps_scores(images: int, classes: int) -> bool:
    """Return whether all probabilities of a part are kept, which curves need: unless they are more than 20 million."""
    return classes <= FEW or images * classes <= SCORES


class Mistake(Record):
    """Images of one class that were taken for another."""

    true: str
    predicted: str
    count: int


class ClassRow(Record):
    """One class against the rest. None: undefined (no such image, or none predicted)."""

    name: str
    n: int
    precision: Rate | None
    recall: Rate | None
    f1: float | None
    auc: float | None
    average_precision: float | None


class BinaryResult(Record):
    """A binary task. Rates are Wilson's, each over its own class; the HTER's interval is made of the two."""

    task: Literal["binary"] = "binary"
    accepted: str  # the positive class: the second in order
    rejected: str
    positives: int  # in the test part
    negatives: int
    rule: str  # how the threshold was chosen on the validation part
    threshold: float
    validation_hter: float | None  # at that threshold, on the part it was chosen on: too good; None: not at hand
    far: Rate  # negatives accepted
    frr: Rate  # positives rejected
    hter: Rate  # n is of all images of the test part
    hter_at_half: Rate  # at 0.5, what a script without a validation part would report
    far_at_half: Rate
    frr_at_half: Rate
    eer: float  # of the test part
    eer_low: float
    eer_high: float
    auc: float
    epc: Epc | None  # None: the validation part is not at hand


class ClassificationResult(Record):
    """Closed-set classification of one part of a dataset."""

    frame_rows: ClassVar[str | None] = "per_class"
    task: Literal["classification"] = "classification"
    split: str
    n: int
    classes: tuple[str, ...]
    accuracy: Rate
    top5: Rate | None  # only where there are more than 20 classes
    log_loss: float
    macro_precision: Rate
    macro_recall: Rate
    macro_f1: Rate
    weighted_precision: float
    weighted_recall: float
    weighted_f1: float
    macro_auc: float | None
    micro_auc: float | None
    macro_average_precision: float | None
    calibration_error: float  # expected calibration error, 15 equal-mass bins
    confusion: tuple[tuple[int, ...], ...] | None  # [true][predicted] counts; None: of more than 1,000 classes
    mistakes: tuple[Mistake, ...] | None = _where_many  # in place of `confusion`, most frequent first
    scores_kept: bool = Field(default=True, exclude_if=lambda value: value)  # False: too many for AUC and its like
    classes_with_images: int | None = _where_many  # where `per_class` lists not all
    per_class: tuple[ClassRow, ...]  # of more than 10,000 classes those with the most mistakes
    binary: BinaryResult | None = None  # of two classes, where the validation part and this one have both
    unknown_classes: dict[str, int] = Field(default_factory=dict)  # of the data, not of the model: images of each
    unknown_as_errors: bool = True  # in the accuracy; False: they are left out of it
    seen: dict[str, int] = Field(default_factory=dict)  # images that are also in the run's "train" and "validation"
    subgroups: Subgroups | None = Field(default=None, exclude_if=lambda value: value is None)  # where asked for

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences that a reader must know before trusting the numbers."""
        return tuple(self._notes())

    def _notes(self) -> Iterator[str]:
        absent = [row.name for row in self.per_class if row.n == 0] if self.classes_with_images is None else []
        if self.seen:
            parts = " and ".join(f"{count:,} are in its {part} part" for part, count in self.seen.items())
            yield f"Of these {self.n:,} images {parts}: the model was made with them, this is no test of it."
        if absent:
            rest = len(self.classes) - len(absent)
            yield (
                f"{len(absent)} of {len(self.classes)} classes have no image here ({_some(absent)}): accuracy and "
                f"means are over the images of the {rest} others."
            )
        if self.classes_with_images is not None:
            yield (
                f"{self.classes_with_images:,} of {len(self.classes):,} classes have an image here; the table of "
                f"classes holds the {len(self.per_class):,} with the most mistakes."
            )
        if not self.scores_kept:
            yield (
                f"AUC and average precision are not measured: {self.n:,} images x {len(self.classes):,} classes are "
                f"more than {SCORES:,} probabilities. All else is exact."
            )
        if self.unknown_classes:
            count, how = sum(self.unknown_classes.values()), "count as errors in the accuracy"
            how = how if self.unknown_as_errors else "are left out"
            yield (
                f"{count:,} images {how}, for the model does not know their classes: "
                f"{_some(list(self.unknown_classes))}."
            )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def classify(predictions: Predictions, classes: tuple[str, ...], split: str) -> ClassificationResult:
    """Measure a closed-set classifier on one part of a dataset.

    The intervals of shares are Wilson's; those of macro means are bootstraps (`intervals.bootstraps`). The predicted
    class is the first of the highest probabilities. A class without an image has no row values and no part in macro
    means; a class that is never predicted has no precision, which counts as 0 in the macro mean.

    Args:
        predictions: N images with probabilities (N, C). classes: the C names, in the order of the columns.
    Raises:
        EmptyScores: no image. DataError: a probability that is not finite or lies outside [0, 1], or a row that does
        not sum to one. UsageError: shapes or labels that do not fit.
    Source: docs/protocols.md, "Classification".
    """
    check(predictions, classes)
    labels, ranked, guessed, count = predictions.labels, predictions.ranked, predictions.predicted, len(classes)
    scores = None if predictions.probabilities is None else predictions.probabilities.astype(np.float64, copy=False)
    counts = intervals.tally(labels, guessed, count)
    rows = tuple(_class_row(classes, number, labels, scores, counts) for number in _listed(counts))
    matrix = metrics.confusion_matrix(labels, guessed, count).tolist() if count <= MATRIX else None
    means = (metrics.macro_precision, metrics.macro_recall, metrics.macro_f1)
    macro = intervals.bootstraps(means, labels, guessed, count)
    return ClassificationResult(
        split=split,
        n=labels.size,
        classes=tuple(classes),
        accuracy=metrics.accuracy(labels, guessed),
        top5=wilson(int((ranked.rank <= TOP).sum()), labels.size) if count >= TOP5_FROM else None,
        log_loss=float(metrics.losses(ranked.of_truth).mean()),
        macro_precision=macro[0],
        macro_recall=macro[1],
        macro_f1=macro[2],
        weighted_precision=metrics.weighted(metrics.precision(counts), counts),
        weighted_recall=metrics.weighted(metrics.recall(counts), counts),
        weighted_f1=metrics.weighted(metrics.f1(counts), counts),
        macro_auc=metrics.defined_mean([row.auc for row in rows]),
        micro_auc=None if scores is None else _defined(metrics.roc_auc, labels[:, None] == np.arange(count), scores),
        macro_average_precision=metrics.defined_mean([row.average_precision for row in rows]),
        calibration_error=calibration.expected_calibration_error(ranked.probabilities[:, 0], guessed == labels),
        confusion=None if matrix is None else tuple(map(tuple, matrix)),
        mistakes=_mistakes(classes, labels, guessed) if count > MATRIX else None,
        scores_kept=scores is not None,
        classes_with_images=int((counts.labelled > 0).sum()) if len(rows) < count else None,
        per_class=rows,
    )


def check(predictions: Predictions, classes: tuple[str, ...]) -> None:
    """Refuse predictions that are no probabilities over these classes; raises as `classify`."""
    labels, probabilities = predictions.labels, predictions.probabilities
    n = len(predictions.paths)
    if n == 0:
        raise EmptyScores("there is no image to evaluate on: the part is empty")
    if probabilities is None:  # a softmax of ours, or what was read back of it
        values = predictions.ranked.probabilities
        if not ((values >= 0) & (values <= 1)).all():  # false for NaN, too
            raise DataError("expected probabilities in [0, 1]")
        intervals.class_numbers(labels, len(classes), "labels")
        intervals.class_numbers(predictions.ranked.top.ravel(), len(classes), "predicted")
        return
    if labels.shape != (n,) or probabilities.shape != (n, len(classes)):
        raise UsageError(
            f"expected labels ({n},) and probabilities ({n}, {len(classes)}) for {n} images of {len(classes)} classes, "
            f"got {labels.shape} and {probabilities.shape}"
        )
    intervals.class_numbers(labels, len(classes), "labels")
    rules = {
        "finite probabilities": np.isfinite(probabilities).all(axis=1),
        "probabilities in [0, 1]": ((probabilities >= 0) & (probabilities <= 1)).all(axis=1),
        "probabilities that sum to one": np.abs(probabilities.sum(axis=1) - 1) <= ROW_SUM_TOLERANCE,
    }
    for expected, met in rules.items():
        if not met.all():
            i = int(np.argmin(met))
            row = probabilities[i]
            raise DataError(
                f"expected {expected}; {int((~met).sum())} of {met.size} images have none, the first is "
                f"{predictions.paths[i]} (from {row.min():.4g} to {row.max():.4g}, sum {row.sum():.4g})"
            )


def _listed(counts: Tally) -> NDArray[np.int64]:
    """The classes of the table, in order: all, or of very many those with the most mistakes."""
    if counts.hits.size <= ROWS:
        return np.arange(counts.hits.size)
    mistakes = counts.labelled + counts.predicted - 2 * counts.hits
    return np.sort(np.argsort(-mistakes, kind="stable")[:ROWS])


def _class_row(
    classes: tuple[str, ...], number: int, labels: NDArray[np.int64], scores: NDArray[np.float64] | None, counts: Tally
) -> ClassRow:
    hits, labelled, predicted = (int(part[number]) for part in (counts.hits, counts.labelled, counts.predicted))
    own = None if scores is None else scores[:, number]
    return ClassRow(
        name=classes[number],
        n=labelled,
        precision=_share(hits, predicted),
        recall=_share(hits, labelled),
        f1=2 * hits / (labelled + predicted) if labelled + predicted else None,
        auc=_defined(metrics.roc_auc, labels == number, own),
        average_precision=_defined(metrics.average_precision, labels == number, own),
    )


def _mistakes(classes: tuple[str, ...], labels: NDArray[np.int64], guessed: NDArray[np.int64]) -> tuple[Mistake, ...]:
    """Every pair of a class and another it was taken for, most frequent first, then in class order."""
    wrong = np.stack([labels, guessed], axis=1)[labels != guessed]
    pairs, counts = np.unique(wrong, axis=0, return_counts=True)
    return tuple(
        Mistake(true=classes[true], predicted=classes[guess], count=count)
        for (true, guess), count in (
            (pairs[row].tolist(), int(counts[row])) for row in np.argsort(-counts, kind="stable")
        )
    )


@lru_cache(maxsize=100_000)
def _share(k: int, n: int) -> Rate | None:
    return wilson(k, n) if n > 0 else None


def _defined(
    measure: Callable[[ArrayLike, ArrayLike], float], positive: NDArray[np.bool_], scores: NDArray[np.float64] | None
) -> float | None:
    """A measure of scores; None where they are not kept, or where it is undefined."""
    try:
        return None if scores is None else measure(positive.ravel(), scores.ravel())
    except Undefined:
        return None
