"""The error-versus-reject curve: what a quality measure is worth.

Pairs whose poorer image has the lowest quality are rejected first. A quality that predicts errors lowers the false
non-match rate (FNMR) with every rejected pair; one that says nothing leaves it as it is.

Source: P. Grother and E. Tabassi, "Performance of biometric quality measures", IEEE TPAMI 29 (2007), section 4; T.
Schlett et al., "Face image quality assessment: a literature survey", ACM Computing Surveys 54 (2022), for the partial
area.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from facewright.errors import EmptyScores, UsageError
from facewright.metrics.intervals import Rate, clopper_pearson
from facewright.records import Record

UP_TO = 0.3  # share rejected at the end of the curve
STEPS = 30


class RejectPoint(Record):
    """The error of the pairs that are kept."""

    rejected: float  # share of genuine pairs
    quality: float  # the lowest one kept
    fnmr: Rate  # of the pairs kept


class ErrorVersusReject(Record):
    """FNMR at one threshold against the share of genuine pairs rejected."""

    frame_rows: ClassVar[str | None] = "points"
    threshold: float
    threshold_of: str  # how it was chosen
    genuine: int
    points: tuple[RejectPoint, ...]
    area: float | None  # mean FNMR along the curve over that without rejection: 1 says nothing; None: no error at all


def error_versus_reject(
    scores: ArrayLike,
    quality: ArrayLike,
    threshold: float,
    *,
    chosen: str = "given",
    up_to: float = UP_TO,
    steps: int = STEPS,
) -> ErrorVersusReject:
    """Compute the curve; pairs of one quality are kept or rejected together.

    Args:
        scores: (P,) of genuine pairs. quality: (P, 2) of their images, higher is better; the lower one counts.
        threshold: a pair is accepted from this score on. chosen: how it was, in words.
        up_to: share rejected at the end, in (0, 1). steps: points after the first.
    Raises:
        EmptyScores: no pair. UsageError: shapes differ, a number is not finite, or `up_to` is not in (0, 1).
    """
    values, lowest = np.asarray(scores, np.float64), np.asarray(quality, np.float64)
    if lowest.shape != (*values.shape, 2) or values.ndim != 1:
        raise UsageError(
            f"expected scores (P,) and a quality for both images (P, 2), got {values.shape}, {lowest.shape}"
        )
    if not values.size:
        raise EmptyScores("expected genuine pairs for an error-versus-reject curve, got none")
    if not (np.isfinite(values).all() and np.isfinite(lowest).all()):
        raise UsageError("expected finite scores and qualities")
    if not 0 < up_to < 1:
        raise UsageError(f"expected a share to reject in (0, 1), got {up_to}")
    lowest = lowest.min(axis=1)
    order = np.sort(lowest)
    points = list[RejectPoint]()
    for step in range(steps + 1):
        limit = float(order[int(up_to * step / steps * values.size)])
        kept = lowest >= limit
        if not points or limit > points[-1].quality:
            fnmr = clopper_pearson(int((values[kept] < threshold).sum()), int(kept.sum()))
            points.append(RejectPoint(rejected=1 - float(kept.mean()), quality=limit, fnmr=fnmr))
    return ErrorVersusReject(
        threshold=threshold, threshold_of=chosen, genuine=values.size, points=tuple(points), area=_area(points)
    )


def _area(points: list[RejectPoint]) -> float | None:
    start, rejected = points[0].fnmr.value, np.array([point.rejected for point in points])
    if start == 0:
        return None
    if rejected[-1] == rejected[0]:
        return 1.0
    fnmr = np.array([point.fnmr.value for point in points])
    under = float(((fnmr[1:] + fnmr[:-1]) / 2 * np.diff(rejected)).sum())
    return under / float(rejected[-1] - rejected[0]) / start
