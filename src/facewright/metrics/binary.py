"""Yes or no on imbalanced data: half total error rate, thresholds by name, expected performance curve.

Positives are to be accepted, negatives rejected; a sample is accepted iff `score >= threshold`. Each error is a share
*of its own class*: FAR of the negatives, FRR of the positives, never of all samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facewright.errors import UnknownName, UsageError
from facewright.metrics.intervals import Rate, complement, wilson
from facewright.metrics.thresholds import BINARY, Threshold, refuse_accepting_none
from facewright.metrics.verification import ErrorRates, Roc, eer, error_rates, roc, tar_at_far
from facewright.records import Record

DEFAULT_THRESHOLD = 0.5  # of a probability, where none was chosen
RULES = ("min-hter", "eer", "far=X")
WEIGHTS = tuple(i / 20 for i in range(21))


@dataclass(frozen=True)
class BinaryErrors(ErrorRates):
    """Both errors at one threshold (Wilson) and their mean."""

    hter: Rate  # from the two, n is of all samples


class Epc(Record):
    """The half total error rate on test data for each weight of the two errors on validation data."""

    weights: tuple[float, ...]  # of the false accepts, in [0, 1]
    thresholds: tuple[float, ...]  # least weight * FAR + (1 - weight) * FRR on the validation part
    hter: tuple[float, ...]  # on the test part


def binary_errors(genuine: ArrayLike, impostor: ArrayLike, threshold: float) -> BinaryErrors:
    """FAR, FRR and the half total error rate (HTER), the mean of the two, with their intervals.

    Args:
        genuine: (P,) scores of positives. impostor: (Q,) scores of negatives.
        threshold: accept iff score >= threshold; chosen on other data.
    Raises:
        EmptyScores: either side is empty. DataError: a score that is not finite. UsageError: no number as threshold.
    Source: ISO/IEC 19795-1; S. Bengio and J. Mariethoz, "A statistical significance test for person authentication",
    Odyssey 2004.
    >>> binary_errors([0.9, 0.2], [0.1, 0.3], threshold=0.5).hter.value
    0.25
    """
    rates = error_rates(genuine, impostor, threshold, wilson)
    return BinaryErrors(rates.far, rates.frr, mean_of(rates.far, rates.frr))


def mean_of(a: Rate, b: Rate) -> Rate:
    """Return the mean of two rates of different samples, with an interval that has a width where no error was seen.

    Source: G. Y. Zou and A. Donner, "Construction of confidence limits about effect measures: a general approach",
    Statistics in Medicine 27 (2008), for the sum of two rates.
    """
    value = (a.value + b.value) / 2
    down = math.hypot(a.value - a.low, b.value - b.low) / 2
    up = math.hypot(a.high - a.value, b.high - b.value) / 2
    return Rate(value=value, low=max(0.0, value - down), high=min(1.0, value + up), n=a.n + b.n)


def choose_binary_threshold(genuine: ArrayLike, impostor: ArrayLike, rule: str) -> float:
    """The threshold of a rule, on validation data.

    Args:
        genuine, impostor: as `binary_errors`.
        rule: "min-hter" (the first, rising, of those with the least HTER), "eer", or "far=0.01" (most negatives
            accepted within the target).
    Raises:
        UnknownName: no such rule. UsageError: X is no rate. Undefined: the negatives are too few for X, or tie.
        EmptyScores, DataError: as `binary_errors`.
    >>> choose_binary_threshold([0.75, 0.5], [0.25, 0.0], "min-hter")
    0.375
    """
    curve = roc(genuine, impostor)
    if rule == "min-hter":
        missed = curve.genuine - curve.true_accepts
        return _cheapest(curve, curve.false_accepts * curve.genuine + missed * curve.impostors)
    if rule == "eer":
        return eer(curve).threshold
    point = tar_at_far(curve, asked_far(rule))
    refuse_accepting_none(point)
    return point.threshold


def choose_class_threshold(
    genuine: ArrayLike, impostor: ArrayLike, rule: str, classes: tuple[str, str], data: str
) -> Threshold:
    """Choose the threshold between two classes by a rule, with its errors on the data it is chosen on.

    Args, Raises: as `choose_binary_threshold`, of probabilities of the accepted class; classes: the rejected and the
    accepted one; data: what the scores are of, for the record.
    >>> choose_class_threshold([0.75, 0.5], [0.25, 0.0], "min-hter", ("bare", "masked"), data="a doctest").decide(0.4)
    'masked'
    """
    value = choose_binary_threshold(genuine, impostor, rule)
    errors = binary_errors(genuine, impostor, value)
    return Threshold(
        value=value,
        purpose=BINARY,
        score="probability",
        rule=rule,
        far_target=asked_far(rule) if rule.startswith("far") else None,
        far=errors.far,
        tar=complement(errors.frr),
        hter=errors.hter,
        impostors=errors.far.n,
        genuine=errors.frr.n,
        data=data,
        accepted=classes[1],
        rejected=classes[0],
    )


def asked_far(rule: str) -> float:
    """The false-accept rate that a rule "far=X" aims at.

    Raises:
        UnknownName: the rule is no far=X. UsageError: X is no rate in (0, 1].
    >>> asked_far("far=0.01")
    0.01
    """
    name, sign, target = rule.partition("=")
    if name != "far" or not sign:
        raise UnknownName("threshold rule", rule, RULES)
    try:
        far = float(target)
    except ValueError:
        raise UsageError(f"expected a rate as in far=0.01, got {rule!r}") from None
    if not 0 < far <= 1:
        raise UsageError(f"expected a false-accept rate in (0, 1], got {rule!r}")
    return far


def expected_performance_curve(
    validation: tuple[ArrayLike, ArrayLike], test: tuple[ArrayLike, ArrayLike], weights: tuple[float, ...] = WEIGHTS
) -> Epc:
    """HTER on test data at thresholds that were chosen on validation data, for weights of the two errors.

    Args:
        validation, test: scores of the positives and of the negatives.
        weights: of the false accepts, each in [0, 1].
    Raises:
        UsageError: a weight is not in [0, 1]. EmptyScores, DataError: as `binary_errors`.
    Source: S. Bengio, J. Mariethoz and M. Keller, "The expected performance curve", ICML 2005 workshop on ROC analysis.
    """
    if not all(0 <= weight <= 1 for weight in weights):
        raise UsageError(f"expected weights in [0, 1], got {weights}")
    curve = roc(*validation)
    thresholds = tuple(_cheapest(curve, weight * curve.far + (1 - weight) * curve.frr) for weight in weights)
    return Epc(
        weights=tuple(weights),
        thresholds=thresholds,
        hter=tuple(binary_errors(*test, t).hter.value for t in thresholds),
    )


def _cheapest(curve: Roc, cost: NDArray[np.number]) -> float:
    """The first, rising, of the least cost: accept all, midpoints between neighbouring scores, accept none."""
    i = cost.size - 1 - int(cost[::-1].argmin())
    if i == cost.size - 1:
        return float(curve.thresholds[i])
    below = float(curve.thresholds[i + 1])
    return math.nextafter(below, math.inf) if i == 0 else (float(curve.thresholds[i]) + below) / 2
