"""Models on the same images, side by side: which differences are real, and which model to take for what.

A difference is called noise unless its exact McNemar p-value, corrected by Holm's method for the number of pairs, lies
below 0.05. The test covers the choice of test images; that another seed of training would have moved the numbers, too,
it does not see.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, SkipValidation

from facewright.errors import UsageError
from facewright.evaluation import advice
from facewright.evaluation.classification import ClassificationResult, Predictions, check
from facewright.evaluation.results import Comparison, Entry, Latency, Pair
from facewright.evaluation.target_metrics import checked_attributes
from facewright.evaluation.targets import TargetPredictions, TaskResult
from facewright.events import EpochRow
from facewright.metrics import classification as metrics
from facewright.metrics.intervals import mcnemar_exact, paired_bootstrap
from facewright.records import Record
from facewright.specs import TaskSpec

SIGNIFICANT = 0.05


def compare(
    entries: Sequence[Entry], dataset: str, fingerprint: str, classes: tuple[str, ...], counts: Mapping[str, int]
) -> Comparison:
    """Compare models that were tested on the same images.

    Args:
        entries: at least one; names are distinct. counts: images in train, validation, test.
    Raises:
        UsageError: no entry, a name twice, other classes, or other test images or labels (the first one is named).
    """
    _same_ground(entries, classes)
    pairs = _pairs(entries, len(classes))
    return Comparison(
        dataset=dataset,
        fingerprint=fingerprint,
        classes=tuple(classes),
        counts=dict(counts),
        entries=tuple(entries),
        pairs=pairs,
        baseline=advice.baseline(entries[0]),
        not_converged=tuple(entry.name for entry in entries if not advice.converged(entry.history)),
        advice=advice.advise(entries, pairs),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for how many they are, so that one false alarm among all stays below the level asked for.

    Source: S. Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scand. J. Statist. 6 (1979).
    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    corrected = [0.0] * len(p_values)
    least = 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[i]))
        corrected[i] = least
    return corrected


def most_confused(result: ClassificationResult, k: int) -> tuple[tuple[str, str, int], ...]:
    """The k most frequent mistakes: (true class, predicted class, images), most frequent first, then in class order."""
    if result.mistakes is not None:
        return tuple((one.true, one.predicted, one.count) for one in result.mistakes[:k])
    mistakes = [
        (result.classes[i], result.classes[j], count)
        for i, row in enumerate(result.confusion or ())
        for j, count in enumerate(row)
        if i != j and count > 0
    ]
    return tuple(sorted(mistakes, key=lambda mistake: -mistake[2])[:k])


def hardest(predictions: Predictions, k: int) -> NDArray[np.int64]:
    """Rows of the k images with the highest loss, highest first; equal losses in the order of the rows."""
    loss = metrics.losses(predictions.ranked.of_truth)
    return np.argsort(-loss, kind="stable")[:k].astype(np.int64)


def _pairs(entries: Sequence[Entry], classes: int) -> tuple[Pair, ...]:
    guessed = [entry.predictions.predicted for entry in entries]
    compared = list(combinations(range(len(entries)), 2))
    right = [guess == entry.predictions.labels for guess, entry in zip(guessed, entries, strict=True)]
    p_values = [mcnemar_exact(right[i], right[j]) for i, j in compared]
    labels = entries[0].predictions.labels
    return tuple(
        Pair(
            a=entries[i].name,
            b=entries[j].name,
            p_value=p_value,
            accuracy_difference=float(right[i].mean() - right[j].mean()),
            macro_f1_difference=paired_bootstrap(metrics.macro_f1, labels, (guessed[i], guessed[j]), classes),
            within_noise=corrected >= SIGNIFICANT,
            holm_p_value=corrected,
        )
        for (i, j), p_value, corrected in zip(compared, p_values, holm(p_values), strict=True)
    )


def _same_ground(entries: Sequence[Entry], classes: tuple[str, ...]) -> None:
    if not entries:
        raise UsageError("a comparison needs at least one model, got none")
    names = [entry.name for entry in entries]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"the models of a comparison need different names, got {', '.join(twice)} more than once")
    for entry in entries:
        if entry.test.classes != tuple(classes):
            raise UsageError(
                f"{entry.name} was tested on other classes: {_first_difference(entry.test.classes, classes)}"
            )
        check(entry.predictions, classes)
        _same_images(entries[0], entry)


def _same_images(a: Entry, b: Entry) -> None:
    remedy = "compare models that were trained with the same data, split and seed"
    if a.predictions.paths != b.predictions.paths:
        first = _first_difference(a.predictions.paths, b.predictions.paths)
        raise UsageError(f"{a.name} and {b.name} were tested on different images: {first}; {remedy}")
    if not np.array_equal(a.predictions.labels, b.predictions.labels):
        i = int(np.flatnonzero(a.predictions.labels != b.predictions.labels)[0])
        labels = [entry.test.classes[entry.predictions.labels[i]] for entry in (a, b)]
        raise UsageError(
            f"{a.name} and {b.name} were tested on different labels: {a.predictions.paths[i]} is {labels[0]!r} "
            f"for one, {labels[1]!r} for the other; {remedy}"
        )


def _first_difference(a: Sequence[str], b: Sequence[str]) -> str:
    for i, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return f"number {i} is {x!r} and {y!r}"
    return f"{len(a)} and {len(b)} of them"


class AttributePair(Record):
    """Two models on one attribute of the same images."""

    attribute: str
    a: str
    b: str
    n: int
    accuracy_difference: float  # a - b
    p_value: float  # exact McNemar test
    holm_p_value: float  # corrected for all attributes and pairs of models
    within_noise: bool  # holm_p_value >= 0.05


class TargetEntry(Record):
    """One model of a comparison."""

    name: str
    run: str
    model: str
    recipe: str
    parameters: int
    file_bytes: int
    train_seconds: float
    latency: Latency
    test: TaskResult
    predictions: Annotated[TargetPredictions, SkipValidation, Field(exclude=True, repr=False)]
    history: Annotated[tuple[EpochRow, ...], SkipValidation, Field(exclude=True, repr=False)]


class TargetComparison(Record):
    """Models trained and tested on the same split."""

    frame_rows: ClassVar[str | None] = "pairs"
    task: Literal["targets"] = "targets"
    dataset: str
    fingerprint: str
    counts: dict[str, int]  # images in train, validation, test
    targets: tuple[str, ...]
    models: tuple[TargetEntry, ...]
    pairs: tuple[AttributePair, ...]  # of each two models and each attribute


def compare_attributes(
    answers: Mapping[str, ArrayLike], targets: ArrayLike, names: Sequence[str]
) -> tuple[AttributePair, ...]:
    """Test for each attribute and each two models whether they differ by more than chance.

    Args:
        answers: model → (N, A) bool, yes or no at the model's own thresholds, of the same images in the same order.
        targets: (N, A) 1, 0 or NaN for unknown. names: of the A attributes.
    Raises:
        UsageError: shapes or names that do not fit.
    Source: the exact McNemar test, corrected by Holm's method over all attributes and pairs of models.
    >>> pair = compare_attributes({"a": [[True]] * 6, "b": [[False]] * 6}, [[1]] * 6, ["hat"])[0]
    >>> pair.p_value, pair.accuracy_difference
    (0.03125, 1.0)
    """
    models = {name: checked_attributes(given, targets) for name, given in answers.items()}
    found = []
    for (a, (first, truth)), (b, (second, _)) in combinations(models.items(), 2):
        for k, name in enumerate(names):
            yes = truth[:, k][known := ~np.isnan(truth[:, k])] == 1
            if not yes.size:
                continue
            right_a, right_b = ((given[known, k] != 0) == yes for given in (first, second))
            found.append((name, a, b, right_a, right_b))
    p_values = [mcnemar_exact(right_a, right_b) for *_, right_a, right_b in found]
    return tuple(
        AttributePair(
            attribute=name,
            a=a,
            b=b,
            n=right_a.size,
            accuracy_difference=float(right_a.mean() - right_b.mean()),
            p_value=p_value,
            holm_p_value=corrected,
            within_noise=corrected >= SIGNIFICANT,
        )
        for (name, a, b, right_a, right_b), p_value, corrected in zip(found, p_values, holm(p_values), strict=True)
    )


def compare_targets(
    entries: Sequence[TargetEntry], task: TaskSpec, dataset: str, fingerprint: str, counts: Mapping[str, int]
) -> TargetComparison:
    """Compare models of one task; raises UsageError where they were tested on different images."""
    first = entries[0].predictions
    for entry in entries[1:]:
        if entry.predictions.paths != first.paths:
            remedy = "compare models that were trained with the same data, split and seed"
            raise UsageError(f"{entries[0].name} and {entry.name} were tested on different images; {remedy}")
    parts = task.of_kind("attribute")
    pairs: tuple[AttributePair, ...] = ()
    if parts and len(entries) > 1:
        answers = {}
        for entry in entries:
            rows = entry.test.attributes.attributes if entry.test.attributes is not None else ()
            limits = {row.name: row.threshold for row in rows}
            values = entry.predictions.values[:, [part.values.start for part in parts]]
            answers[entry.name] = values >= np.array([limits.get(part.target.name, 0.5) for part in parts])
        truth = first.truth[:, [part.truth.start for part in parts]]
        pairs = compare_attributes(answers, truth, [part.target.name for part in parts])
    return TargetComparison(
        dataset=dataset,
        fingerprint=fingerprint,
        counts=dict(counts),
        targets=task.names,
        models=tuple(entries),
        pairs=pairs,
    )
