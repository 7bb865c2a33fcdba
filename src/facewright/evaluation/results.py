"""What an evaluation says: frozen facts with `to_dict`, which is what `--json` prints and `evaluation.json` holds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facewright.metrics.intervals import Rate
from facewright.training.history import EpochRow


@dataclass(frozen=True)
class Predictions:
    """What a model said of each image of one part; row i of every field is one image."""

    paths: tuple[str, ...]  # as in the dataset, relative to its root
    labels: NDArray[np.int64]  # (N,) class numbers
    probabilities: NDArray[np.float64]  # (N, C), rows sum to one


@dataclass(frozen=True)
class ClassRow:
    """One class against the rest. None: undefined (no such image, or none predicted)."""

    name: str
    n: int
    precision: Rate | None
    recall: Rate | None
    f1: float | None
    auc: float | None
    average_precision: float | None


@dataclass(frozen=True)
class ClassificationResult:
    """Closed-set classification of one part of a dataset."""

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
    confusion: tuple[tuple[int, ...], ...]  # [true][predicted] counts
    per_class: tuple[ClassRow, ...]


@dataclass(frozen=True)
class Latency:
    """Of one image (batch of one, warmed up, preprocessed) and of a batch."""

    median_ms: float
    p95_ms: float
    images_per_second: float
    batch: int
    threads: int


@dataclass(frozen=True)
class Entry:
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
    file_bytes: int
    latency: Latency
    test: ClassificationResult
    predictions: Predictions
    history: tuple[EpochRow, ...]


@dataclass(frozen=True)
class Pair:
    """Two models on the same images."""

    a: str
    b: str
    p_value: float  # exact McNemar test of the two accuracies
    accuracy_difference: float  # a - b
    macro_f1_difference: Rate  # a - b; paired bootstrap over images
    within_noise: bool


@dataclass(frozen=True)
class Comparison:
    """Models trained and tested on the same split, side by side."""

    dataset: str
    fingerprint: str
    classes: tuple[str, ...]
    counts: dict[str, int]  # images in train, validation, test
    entries: tuple[Entry, ...]
    pairs: tuple[Pair, ...]
    advice: tuple[str, ...]  # sentences: which to take for accuracy, for speed, for size; and what is noise
