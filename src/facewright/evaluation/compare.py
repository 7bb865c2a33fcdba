"""Models on the same images, side by side: which differences are real, and which model to take for what.

A difference is called noise unless its exact McNemar p-value, corrected by Holm's method for the number of pairs, lies
below 0.05. Corrected, because a table of k models holds k (k - 1) / 2 differences and a reader looks for the ones that
stand out: uncorrected, five equal models show a "real" difference more often than one table in five. The test covers
the choice of test images; that another seed of training would have moved the numbers, too, it does not see.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from facewright.errors import UsageError
from facewright.evaluation import advice, protocols
from facewright.evaluation.results import ClassificationResult, Comparison, Entry, Pair, Predictions
from facewright.metrics import classification as metrics
from facewright.metrics.intervals import mcnemar_exact, paired_bootstrap

SIGNIFICANT = 0.05


def compare(
    entries: Sequence[Entry], dataset: str, fingerprint: str, classes: tuple[str, ...], counts: Mapping[str, int]
) -> Comparison:
    """Compare models that were tested on the same images.

    Args:
        entries: at least one; names are distinct.
        dataset, fingerprint: of the data. classes: the C names. counts: images in train, validation, test.
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
        protocols.check(entry.predictions, classes)
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
