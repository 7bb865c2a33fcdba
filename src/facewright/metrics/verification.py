"""Same person or not: the exact ROC of scored pairs and what is read from it.

A score is a similarity: higher is more alike, a pair is accepted iff `score >= threshold`, and equal scores move
together. Genuine pairs are of one person, impostor pairs of two. FAR is the share of impostors accepted, TAR the share
of genuine pairs accepted, FRR = 1 - TAR. Counts are whole numbers throughout, so ties and rounding decide nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facewright.errors import DataError, EmptyScores, Undefined, UsageError
from facewright.metrics.intervals import Rate, clopper_pearson, normal_quantile

FARS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)  # what is reported, as far down as the impostors resolve it


@dataclass(frozen=True, eq=False)
class Roc:
    """Numbers of accepted pairs at each threshold, from accepting none to accepting all.

    The first threshold is inf (nothing is accepted), then every distinct score, falling.
    """

    thresholds: NDArray[np.float64]  # (T,)
    false_accepts: NDArray[np.int64]  # (T,) impostors with a score at or above the threshold
    true_accepts: NDArray[np.int64]  # (T,) genuine pairs likewise
    impostors: int
    genuine: int

    @property
    def far(self) -> NDArray[np.float64]:
        """The share of impostors accepted, (T,) in [0, 1]."""
        return self.false_accepts / self.impostors

    @property
    def tar(self) -> NDArray[np.float64]:
        """The share of genuine pairs accepted, (T,) in [0, 1]."""
        return self.true_accepts / self.genuine

    @property
    def frr(self) -> NDArray[np.float64]:
        """The share of genuine pairs rejected, (T,) in [0, 1]."""
        return (self.genuine - self.true_accepts) / self.genuine


@dataclass(frozen=True)
class ErrorRates:
    """Both errors at one threshold, each over its own class, with their 95 % intervals."""

    far: Rate  # of the impostors
    frr: Rate  # of the genuine pairs


@dataclass(frozen=True)
class Eer:
    """The equal error rate: the mean of FAR and FRR where they come closest, and the two themselves."""

    value: float
    low: float  # the lesser of FAR and FRR there
    high: float  # the greater
    threshold: float  # midway between two neighbouring scores


@dataclass(frozen=True)
class OperatingPoint:
    """The rates on these pairs at a target for the FAR."""

    target: float
    threshold: float  # a score that occurred: the lowest that is accepted
    far: Rate  # achieved, at most the target; n is the number of impostors
    tar: Rate


def roc(genuine: ArrayLike, impostor: ArrayLike) -> Roc:
    """The exact ROC with every threshold kept, as scikit-learn's `roc_curve(drop_intermediate=False)`.

    Args:
        genuine: (P,) scores of pairs of one person. impostor: (Q,) scores of pairs of two.
    Raises:
        EmptyScores: either side is empty. DataError: a score that is not finite.
    >>> curve = roc([0.9, 0.5], [0.5, 0.1])
    >>> curve.thresholds.tolist(), curve.far.tolist(), curve.tar.tolist()
    ([inf, 0.9, 0.5, 0.1], [0.0, 0.0, 0.5, 1.0], [0.0, 0.5, 1.0, 1.0])
    """
    positive, negative = two_sides(genuine, impostor)
    scores, false_accepts, true_accepts = levels(np.sort(positive), negative)
    return Roc(
        thresholds=np.concatenate([[np.inf], scores]),
        false_accepts=np.concatenate([[0], false_accepts]),
        true_accepts=np.concatenate([[0], true_accepts]),
        impostors=negative.size,
        genuine=positive.size,
    )


def levels(
    genuine: NDArray[np.floating], impostor: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """The distinct scores, falling, with the impostors and the genuine pairs at or above each.

    Args:
        genuine: (P,) rising. impostor: (Q,) in any order; either may be empty.
    """
    scores = np.concatenate([impostor, genuine])
    scores.sort()
    starts = np.flatnonzero(np.append(True, scores[1:] != scores[:-1]))[::-1] if scores.size else np.zeros(0, int)
    distinct = scores[starts]
    true_accepts = genuine.size - np.searchsorted(genuine, distinct, side="left")
    accepted = scores.size - starts
    return distinct.astype(np.float64) + 0.0, accepted - true_accepts, true_accepts  # + 0.0: no negative zero


def error_rates(
    genuine: ArrayLike, impostor: ArrayLike, threshold: float, interval: Callable[[int, int], Rate] = clopper_pearson
) -> ErrorRates:
    """The false-accept and the false-reject rate at a threshold (chosen on other data), each over its own class.

    Args, Raises: as `roc`; UsageError: a threshold that is not a number.
    >>> rates = error_rates([0.9, 0.2], [0.1, 0.3, 0.5, 0.7], threshold=0.5)
    >>> rates.far.value, rates.frr.value
    (0.5, 0.5)
    """
    positive, negative = two_sides(genuine, impostor)
    if math.isnan(threshold):
        raise UsageError("expected a number as threshold, got nan")
    return ErrorRates(
        far=interval(int((negative >= threshold).sum()), negative.size),
        frr=interval(int((positive < threshold).sum()), positive.size),
    )


def auc(curve: Roc) -> float:
    """The chance that a genuine pair scores above an impostor, ties counting half, in [0, 1].

    Source: H. B. Mann and D. R. Whitney, Annals of Mathematical Statistics 18 (1947); whole numbers up to the one
    division.
    >>> auc(roc([0.9, 0.5], [0.5, 0.1]))
    0.875
    """
    return doubled_area(curve.false_accepts, curve.true_accepts) / (2 * curve.genuine * curve.impostors)


def doubled_area(false_accepts: NDArray[np.int64], true_accepts: NDArray[np.int64]) -> int:
    """Twice the area under a stretch of the curve, in pairs times pairs; exact below 9.2e18."""
    return int((np.diff(false_accepts) * (true_accepts[1:] + true_accepts[:-1])).sum())


def eer(curve: Roc) -> Eer:
    """The equal error rate at the midpoint between scores where FAR and FRR come closest.

    Of two that are equally close the one with the higher threshold is taken. Where all scores are equal it is 0.5.

    Source: ISO/IEC 19795-1; docs/protocols.md for the reading on finite data.
    >>> eer(roc([0.9, 0.8, 0.4], [0.5, 0.2, 0.1])).value.__round__(4)
    0.3333
    """
    i = int(gaps(curve).argmin())
    below = curve.thresholds[i + 1] if i + 1 < curve.thresholds.size else None
    return eer_at(curve, i, None if below is None else float(below))


def gaps(curve: Roc) -> NDArray[np.int64]:
    """|FAR - FRR| at each threshold times the number of genuine pairs times that of impostors, (T,)."""
    missed = curve.genuine - curve.true_accepts
    return np.asarray(np.abs(curve.false_accepts * curve.genuine - missed * curve.impostors), dtype=np.int64)


def eer_at(curve: Roc, i: int, below: float | None) -> Eer:
    """The equal error rate from row i of a curve; below: the next lower score, None where there is none."""
    far = int(curve.false_accepts[i]) / curve.impostors
    frr = (curve.genuine - int(curve.true_accepts[i])) / curve.genuine
    above = float(curve.thresholds[i])
    if below is not None:  # above is infinite only where all scores are equal: then that score is as good as any
        above = below if math.isinf(above) else (above + below) / 2
    return Eer(value=(far + frr) / 2, low=min(far, frr), high=max(far, frr), threshold=above)


def allowed_impostors(far: float, impostors: int) -> int:
    """Return how many impostors may be accepted for the share to be at most `far`: floor(far * impostors), in decimal.

    Raises:
        UsageError: far is not in (0, 1]. Undefined: not even one; says how many pairs it would take.
    >>> allowed_impostors(0.29, 100)  # 0.29 * 100 is 28.999999999999996 in floating point
    29
    """
    if not 0 < far <= 1:
        raise UsageError(f"expected a false-accept rate in (0, 1], got {far}")
    target = Fraction(repr(float(far)))
    allowed = math.floor(target * impostors)
    if allowed < 1:
        raise Undefined(
            f"{impostors} impostor pairs cannot resolve a false-accept rate of {far:g}: "
            f"it takes at least {math.ceil(1 / target)}; give more pairs or a higher rate"
        )
    return allowed


def tar_at_far(curve: Roc, far: float, allowed: int | None = None) -> OperatingPoint:
    """The true-accept rate at the largest set of accepted impostors whose share is at most the target.

    Nothing is interpolated, and equal scores move together; so the FAR achieved may lie below the target, down to 0.

    Args:
        curve: of `roc`. far: the target in (0, 1]. allowed: how many impostors may be accepted; None: that share.
    Raises:
        Undefined: the impostors are too few to resolve the target. UsageError: no rate.
    Source: docs/protocols.md, "Verification".
    >>> point = tar_at_far(roc([0.9, 0.8, 0.4], [0.5, 0.2, 0.2, 0.1]), far=0.5)
    >>> point.far.value, round(point.tar.value, 4), point.threshold  # the two at 0.2 would be three accepted
    (0.25, 1.0, 0.4)
    """
    allowed = allowed_impostors(far, curve.impostors) if allowed is None else allowed
    i = int(np.searchsorted(curve.false_accepts, allowed, side="right")) - 1
    return OperatingPoint(
        target=float(far),
        threshold=float(curve.thresholds[i]),
        far=clopper_pearson(int(curve.false_accepts[i]), curve.impostors),
        tar=clopper_pearson(int(curve.true_accepts[i]), curve.genuine),
    )


def operating_points(curve: Roc, fars: tuple[float, ...] = FARS) -> tuple[OperatingPoint, ...]:
    """`tar_at_far` for those of the targets that the number of impostors resolves."""
    return tuple(tar_at_far(curve, far) for far in resolvable(fars, curve.impostors))


def resolvable(fars: tuple[float, ...], impostors: int) -> tuple[float, ...]:
    """Those of the targets that allow at least one of so many impostors.

    >>> resolvable((0.1, 0.01), 50)
    (0.1,)
    """
    return tuple(far for far in fars if Fraction(repr(float(far))) * impostors >= 1)


def probit(rates: ArrayLike) -> NDArray[np.float64]:
    """The axis of a DET plot: the standard normal quantile of each rate; -inf at 0, inf at 1.

    Source: A. Martin et al., "The DET curve in assessment of detection task performance", Eurospeech 1997.
    >>> probit([0.5]).tolist()
    [0.0]
    """
    quantiles = np.vectorize(normal_quantile, otypes=[np.float64])(np.asarray(rates, dtype=np.float64))
    return np.asarray(quantiles, np.float64)


def best_threshold(curve: Roc) -> float:
    """The threshold of the best accuracy: of all midpoints between distinct scores, rising, the first best.

    Raises:
        Undefined: all scores are equal.
    Source: docs/protocols.md, "LFW View 2".
    >>> best_threshold(roc([0.75, 0.5], [0.25, 0.0]))
    0.375
    """
    if curve.thresholds.size < 3:
        raise Undefined(f"all scores are {curve.thresholds[-1]:g}: no threshold lies between two of them")
    cost = (curve.false_accepts - curve.true_accepts)[1:-1][::-1]  # rising thresholds, without accepting none or all
    i = curve.thresholds.size - 2 - int(cost.argmin())
    return float((curve.thresholds[i] + curve.thresholds[i + 1]) / 2)


def two_sides(genuine: ArrayLike, impostor: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both sides as float64 (P,) and (Q,); raises as `roc`."""
    return _side(genuine, "genuine"), _side(impostor, "impostor")


def _side(scores: ArrayLike, name: str) -> NDArray[np.float64]:
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1:
        raise UsageError(f"expected {name} scores (P,), got {values.shape}")
    if values.size == 0:
        raise EmptyScores(f"there are no {name} scores: the pairs need both kinds")
    if not np.isfinite(values).all():
        i = int(np.argmin(np.isfinite(values)))
        raise DataError(f"expected finite scores, got {values[i]} as {name} score {i}: the model's output is broken")
    return values
