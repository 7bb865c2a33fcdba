"""Ranking quality of one yes/no score with its 95 % interval: area under the ROC curve, average precision.

Both intervals are symmetric on the logit scale, so they stay inside [0, 1]. They hold for other images of this kind.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facewright.metrics.classification import average_precision, roc_auc
from facewright.metrics.distributions import normal_quantile
from facewright.metrics.intervals import Rate, not_a_point

_Z = -normal_quantile(0.025)


def roc_auc_rate(positive: ArrayLike, scores: ArrayLike) -> Rate:
    """Compute the area under the ROC curve with DeLong's interval; n counts both sides.

    Args:
        positive: (N,) bool. scores: (N,), finite, higher is more likely positive.
    Raises:
        Undefined: one side is empty. DataError: a score that is not finite.
    Source: DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988), the variance from structural components. Of one
    positive (or negative) alone it is A (1 - A), the largest there can be.
    >>> rate = roc_auc_rate([True, True, False, False], [0.9, 0.5, 0.5, 0.1])
    >>> rate.value, rate.n
    (0.875, 4)
    """
    area = roc_auc(positive, scores)
    truth, values = np.asarray(positive, bool), np.asarray(scores, np.float64)
    sides = values[truth], values[~truth]
    variance = sum(_component(own, other, area) / len(own) for own, other in (sides, sides[::-1]))
    return _on_logit(area, float(variance) ** 0.5, len(values), min(map(len, sides)))


def average_precision_rate(positive: ArrayLike, scores: ArrayLike) -> Rate:
    """Compute the average precision with its logit interval; n counts the positives.

    Args, Raises: as `metrics.classification.pr_curve`.
    Source: Boyd, Eng and Page, "Area under the precision-recall curve", ECML 2013: the logit interval, which takes it
    as a share of the positives.
    >>> average_precision_rate([True, False, True, False], [0.9, 0.8, 0.7, 0.1]).n
    2
    """
    value, n = average_precision(positive, scores), int(np.asarray(positive, bool).sum())
    return _on_logit(value, (value * (1 - value) / n) ** 0.5, n, n)


def _component(own: NDArray[np.float64], other: NDArray[np.float64], area: float) -> float:
    """The variance over one side of the share of the other side that each score is ordered rightly with."""
    if len(own) == 1:
        return area * (1 - area)
    ranked = np.sort(other)
    below, reached = np.searchsorted(ranked, own, "left"), np.searchsorted(ranked, own, "right")
    return float(((below + reached) / 2 / len(other)).var(ddof=1))


def _on_logit(value: float, error: float, n: int, cases: int) -> Rate:
    """`cases` are those that an interval of Clopper and Pearson is over where no error was seen."""
    value = float(np.clip(np.round(value, 12), 0, 1))  # a sum of 1 may be a rounding below it
    if value in (0.0, 1.0) or error == 0:
        return not_a_point(Rate(value=value, low=value, high=value, n=cases)).replace(n=n)
    logit, half = np.log(value / (1 - value)), min(500.0, _Z * error / (value * (1 - value)))
    low, high = 1 / (1 + np.exp(-logit + half)), 1 / (1 + np.exp(-logit - half))
    return Rate(value=value, low=float(low), high=float(high), n=n)
