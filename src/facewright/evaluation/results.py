"""What an evaluation says: frozen facts with `to_dict`, which is what `--json` prints and `evaluation.json` holds.

`to_dict` yields plain Python values only (dicts, lists, strings, numbers, None): what is undefined is None, never NaN,
and `json.loads(json.dumps(facts))` is equal to `facts`. `from_dict` takes it back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facewright.errors import UsageError
from facewright.evaluation.binary import BinaryResult
from facewright.events import EpochRow
from facewright.metrics.intervals import Rate


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

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> ClassRow:
        """The inverse of `to_dict`."""
        return cls(**{**facts, "precision": _rate(facts["precision"]), "recall": _rate(facts["recall"])})


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
    binary: BinaryResult | None = None  # of two classes, where the validation part and this one have both

    def to_dict(self) -> dict[str, Any]:
        facts = {"task": "classification"} | asdict(self)
        facts["classes"] = list(self.classes)
        facts["confusion"] = [list(row) for row in self.confusion]
        facts["per_class"] = [row.to_dict() for row in self.per_class]
        facts["binary"] = None if self.binary is None else self.binary.to_dict()
        return facts

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> ClassificationResult:
        """The inverse of `to_dict`; raises UsageError where the facts are of another task or incomplete."""
        if facts.get("task") != "classification":
            raise UsageError(f"expected the facts of a classification, got task {facts.get('task')!r}")
        names = [field.name for field in fields(cls) if field.name != "binary"]  # which older files lack
        missing = [name for name in names if name not in facts]
        if missing:
            raise UsageError(f"the facts of a classification lack {', '.join(missing)}: evaluate the run again")
        values = {name: facts[name] for name in names}
        for name in ("accuracy", "top5", "macro_precision", "macro_recall", "macro_f1"):
            values[name] = _rate(values[name])
        values["classes"] = tuple(values["classes"])
        values["confusion"] = tuple(tuple(row) for row in values["confusion"])
        values["per_class"] = tuple(ClassRow.from_dict(row) for row in values["per_class"])
        values["binary"] = BinaryResult.from_dict(facts["binary"]) if facts.get("binary") is not None else None
        return cls(**values)


@dataclass(frozen=True)
class Latency:
    """Of one image (batch of one, warmed up, preprocessed) and of a batch."""

    median_ms: float
    p95_ms: float
    images_per_second: float
    batch: int
    threads: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> Latency:
        """The inverse of `to_dict`."""
        return cls(**{field.name: facts[field.name] for field in fields(cls)})


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

    def to_dict(self) -> dict[str, Any]:
        """The facts of the model; its predictions and epochs stand in the run's predictions.csv and metrics.csv."""
        return {
            "name": self.name,
            "run": self.run,
            "model": self.model,
            "recipe": self.recipe,
            "image_size": self.image_size,
            "parameters": self.parameters,
            "flops": self.flops,
            "images_seen": self.images_seen,
            "epochs": self.epochs,
            "train_seconds": self.train_seconds,
            "peak_memory_bytes": self.peak_memory_bytes,
            "file_bytes": self.file_bytes,
            "latency_ms": self.latency.median_ms,
            "latency": self.latency.to_dict(),
            "test": self.test.to_dict(),
        }


@dataclass(frozen=True)
class Pair:
    """Two models on the same images."""

    a: str
    b: str
    p_value: float  # exact McNemar test of the two accuracies
    accuracy_difference: float  # a - b
    macro_f1_difference: Rate  # a - b; paired bootstrap over images
    within_noise: bool  # holm_p_value >= 0.05
    holm_p_value: float | None = None  # p_value corrected for the number of pairs; None: not compared as a family

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


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

    def to_dict(self) -> dict[str, Any]:
        return {
            "dataset": self.dataset,
            "fingerprint": self.fingerprint,
            "classes": list(self.classes),
            "counts": dict(self.counts),
            "models": [entry.to_dict() for entry in self.entries],
            "pairs": [pair.to_dict() for pair in self.pairs],
            "advice": list(self.advice),
        }


def _rate(facts: Mapping[str, float | int] | None) -> Rate | None:
    return None if facts is None else Rate.from_dict(facts)
