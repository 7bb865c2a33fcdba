"""The results of an evaluation and of a comparison: what `--json` prints and `evaluation.json` holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, SkipValidation, computed_field

from facewright.evaluation.subgroups import Subgroups
from facewright.events import EpochRow
from facewright.metrics import classification as metrics
from facewright.metrics.binary import Epc
from facewright.metrics.intervals import Rate
from facewright.records import Record

TOP = 5  # classes of an image that are kept where there are too many for all
SCORES = 20_000_000  # probabilities of a part that are kept: 160 MB
FEW = 20  # classes, of which all are kept of any number of images
MATRIX = 1_000  # classes: of more, the confusion matrix is a list of mistakes
ROWS = 10_000  # rows of the table of classes


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


_where_many = Field(default=None, exclude_if=lambda value: value is None)


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


class Latency(Record):
    """Of one image (batch of one, warmed up, preprocessed) and of a batch."""

    median_ms: float
    p95_ms: float
    images_per_second: float
    batch: int
    threads: int


class Entry(Record):
    """One model of a comparison."""

    name: str
    run: str
    model: str
    recipe: str
    image_size: int
    parameters: int
    flops: int  # of one image, one multiply-add counted as two
    images_seen: int
    epochs: int
    train_seconds: float
    peak_memory_bytes: int | None
    device_peak_memory_bytes: int | None = None
    file_bytes: int
    latency: Latency
    test: ClassificationResult
    predictions: Annotated[Predictions, SkipValidation, Field(exclude=True, repr=False)]  # in the run's predictions.csv
    history: Annotated[tuple[EpochRow, ...], SkipValidation, Field(exclude=True, repr=False)]  # in its metrics.csv

    @computed_field  # type: ignore[prop-decorator]
    @property
    def latency_ms(self) -> float:
        """The median time of one image."""
        return self.latency.median_ms


class Pair(Record):
    """Two models on the same images."""

    a: str
    b: str
    p_value: float  # exact McNemar test of the two accuracies
    accuracy_difference: float  # a - b
    macro_f1_difference: Rate  # a - b; paired bootstrap over images
    within_noise: bool  # holm_p_value >= 0.05
    holm_p_value: float | None = None  # p_value corrected for the number of pairs; None: not compared as a family


class Comparison(Record):
    """Models trained and tested on the same split, side by side."""

    frame_rows: ClassVar[str | None] = "models"
    dataset: str
    fingerprint: str
    classes: tuple[str, ...]
    counts: dict[str, int]  # images in train, validation, test
    entries: tuple[Entry, ...] = Field(serialization_alias="models")
    pairs: tuple[Pair, ...]
    baseline: float  # accuracy of always naming the class with the most test images
    not_converged: tuple[str, ...]  # their validation loss still fell, or one epoch: no part in the advice
    advice: tuple[str, ...]  # sentences: which to take for accuracy, for speed, for size; and what is noise
