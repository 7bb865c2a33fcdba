"""From the scores of pairs, or the embeddings of images, to what a verifier is worth; and a quality measure to it.

Source of the error-versus-reject curve: P. Grother and E. Tabassi, "Performance of biometric quality measures", IEEE
TPAMI 29 (2007), section 4; T. Schlett et al., "Face image quality assessment: a literature survey", ACM Computing
Surveys 54 (2022), for the partial area.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facewright.errors import DataError, EmptyScores, Undefined, UsageError
from facewright.metrics.intervals import Rate, clopper_pearson
from facewright.metrics.people import (
    FoldAccuracy,
    People,
    accuracy_over_folds,
    failure_mask,
    identity_bootstrap,
    people_halves,
    people_of,
    weighted_rates,
    weighted_share,
)
from facewright.metrics.streaming import RocSummary, all_pairs, summarise
from facewright.metrics.verification import OperatingPoint, roc
from facewright.records import Record

WORST = 12  # pairs listed of each kind of error
EDGES = np.arange(-100, 101) / 100  # of the histograms; rows at these stand exactly in a thinned curve
UP_TO = 0.3  # share rejected at the end of the curve
STEPS = 30


class TarAtFar(Record):
    """The true-accept rate at a target for the false-accept rate."""

    far: float  # the target
    achieved: float  # at most the target
    achieved_interval: Rate  # Clopper-Pearson
    tar: Rate  # Clopper-Pearson
    tar_by_identity: Rate | None  # bootstrap over people, n is theirs; None: not known who is in the pairs
    impostors: int
    threshold: float | None  # None: accept nothing, for the highest scores are too many impostors that tie


class Folds(Record):
    """Accuracy over folds; each fold at the threshold that was best on the others."""

    mean: float
    standard_error: float  # std / sqrt(folds)
    std: float  # over folds, sample
    accuracies: tuple[float, ...]
    thresholds: tuple[float, ...]


class VerificationResult(Record):
    """Same person or not. None: undefined, or not asked for."""

    frame_rows: ClassVar[str | None] = "tar_at_far"
    task: Literal["verification"] = "verification"
    genuine: int  # pairs with a score
    impostors: int
    people: int | None
    failures: int  # pairs without a score
    failed_pairs: tuple[int, ...]  # their indices
    chosen: str | None  # how the threshold of the accuracy was chosen
    accuracy: Rate | None  # Clopper-Pearson; failures count as errors unless they were left out
    accuracy_by_identity: Rate | None  # bootstrap over people, at the same thresholds
    folds: Folds | None
    eer: float  # this and what follows: over the pairs with a score
    eer_low: float  # the lesser of FAR and FRR there
    eer_high: float
    eer_threshold: float
    eer_by_identity: Rate | None
    auc: float
    tar_at_far: tuple[TarAtFar, ...]
    thresholds: tuple[float | None, ...]  # rows of the exact ROC, thinned; None: accept nothing
    far: tuple[float, ...]
    tar: tuple[float, ...]
    histogram_edges: tuple[float, ...]  # B + 1; what lies beyond is counted in the first and the last bin
    histogram_genuine: tuple[int, ...]  # B
    histogram_impostors: tuple[int, ...]
    worst_false_accepts: tuple[int, ...]  # indices of impostor pairs, the highest score first
    worst_false_rejects: tuple[int, ...]  # indices of genuine pairs, the lowest score first


def verify_pairs(
    scores: ArrayLike,
    same: ArrayLike,
    people: ArrayLike | None = None,
    folds: ArrayLike | None = None,
    failures: ArrayLike = (),
    threshold: float | None = None,
    leave_failures_out: bool = False,
) -> VerificationResult:
    """Measure a verifier on scored pairs.

    The accuracy is at a threshold chosen on other pairs: the one given; or, over folds, the best of the other folds;
    or, where only the people are known, over two halves that share no person; else there is none. A failure to acquire
    counts as an error in the accuracy alone: the rates below it are those of comparison (ISO/IEC 19795-1).

    Args:
        scores: (P,) finite cosines; at failures anything, NaN too. same: (P,) bool.
        people: (P, 2) names. folds: (P,) numbers from 0 or 1, none missing. failures: indices of pairs without a score.
        threshold: chosen on other data; not with folds. leave_failures_out: of the accuracy, too.
    Raises:
        EmptyScores: no genuine or no impostor pair has a score. UsageError: not the same pairs, or both folds and a
        threshold. DataError: a score is not finite, a fold is missing, the names contradict `same`.
    Source: docs/protocols.md, "Verification".
    """
    values, truth = np.asarray(scores, dtype=np.float64), np.asarray(same, dtype=bool)
    if values.ndim != 1 or values.shape != truth.shape:
        raise UsageError(f"expected scores and same (P,), got {values.shape} and {truth.shape}")
    if folds is not None and threshold is not None:
        raise UsageError("give folds or a threshold, not both: with folds each chooses its own")
    if threshold is not None and math.isnan(threshold):
        raise UsageError("expected a number as threshold, got nan")
    failed = failure_mask(failures, values.size)
    summary = summarise([roc(values[truth & ~failed], values[~truth & ~failed])])
    who = None if people is None else people_of(people, truth)
    part = None if folds is None else _checked(folds, values.size)
    decisions = _Decisions(values, truth, failed, np.zeros_like(failed), np.zeros_like(failed), None)
    if threshold is not None:
        correct = ~failed & ((values >= threshold) == truth)
        counted = ~failed if leave_failures_out else np.ones_like(failed)
        decisions = replace(decisions, correct=correct, counted=counted, chosen="given")
    elif part is not None:
        decisions = _over_folds(decisions, part, leave_failures_out)
    elif who is not None:
        decisions = _over_halves(decisions, who, leave_failures_out)
    fars = tuple(point.target for point in summary.points)
    return _result(summary, decisions, None if who is None else who.count, _by_identity(decisions, who, fars))


def verify_all_pairs(embeddings: ArrayLike, identities: ArrayLike) -> VerificationResult:
    """Measure a verifier on every pair of labelled images, streamed; there is no accuracy and no worst pair.

    Args:
        embeddings: (N, D) float32 unit vectors. identities: (N,) names or numbers.
    Raises:
        EmptyScores: no two images of one person, or one person only. DataError: a vector not of length one.
    Source: docs/protocols.md, "Verification".
    """
    summary = all_pairs(embeddings, identities)
    people = int(np.unique(np.asarray(identities)).size)
    return _result(summary, None, people, [None] * (2 + len(summary.points)))


@dataclass(frozen=True, eq=False)
class _Decisions:
    """The correctly decided pairs, at thresholds chosen on other pairs."""

    scores: NDArray[np.float64]  # (P,)
    same: NDArray[np.bool_]
    failed: NDArray[np.bool_]  # without a score
    correct: NDArray[np.bool_]
    counted: NDArray[np.bool_]  # in the accuracy
    chosen: str | None  # how
    folds: FoldAccuracy | None = None


def _over_folds(pairs: _Decisions, folds: NDArray[np.int64], leave_out: bool) -> _Decisions:
    """Decide each pair over the folds; -1: in no fold."""
    rows = folds >= 0
    part, failed = folds[rows], np.flatnonzero(pairs.failed[rows])
    number = int(np.ptp(part)) + 1 if part.size else 0
    over = accuracy_over_folds(pairs.scores[rows], pairs.same[rows], part, failed, number, leave_failures_out=leave_out)
    correct, counted = np.zeros_like(rows), np.zeros_like(rows)
    correct[rows], counted[rows] = over.correct, over.counted
    return replace(pairs, correct=correct, counted=counted, chosen="the best of the other folds", folds=over)


def _over_halves(pairs: _Decisions, people: People, leave_out: bool) -> _Decisions:
    """Decide over two folds that share no person; with too few people for that, decide nothing."""
    halves = people_halves(people)
    if not {0, 1} <= set(halves.tolist()):
        return pairs
    try:
        over = _over_folds(pairs, halves, leave_out)
    except (Undefined, DataError):
        return pairs
    return replace(over, chosen="the best of the other half of the people")


def _checked(folds: ArrayLike, n: int) -> NDArray[np.int64]:
    part = np.asarray(folds)
    if part.shape != (n,) or not np.issubdtype(part.dtype, np.integer) or part.min(initial=0) < 0:
        raise UsageError(f"expected a fold number from 0 up for each of {n} pairs, got {part.dtype} {part.shape}")
    return part.astype(np.int64)


def _by_identity(decisions: _Decisions, people: People | None, fars: tuple[float, ...]) -> list[Rate | None]:
    """Bootstraps over people of the accuracy, the equal error rate and the TAR at each FAR."""
    if people is None:
        return [None] * (2 + len(fars))
    share, scored = weighted_share(decisions.correct, decisions.counted), ~decisions.failed
    rates = weighted_rates(decisions.scores[scored], decisions.same[scored], fars)
    return identity_bootstrap(lambda weights: [*share(weights), *rates(weights[scored])], people)


def _result(
    summary: RocSummary, decisions: _Decisions | None, people: int | None, by_identity: list[Rate | None]
) -> VerificationResult:
    curve, folds = summary.curve, None if decisions is None else decisions.folds
    failed = np.zeros(0, dtype=np.int64) if decisions is None else np.flatnonzero(decisions.failed)
    accepts, rejects = ((), ()) if decisions is None else _worst(decisions, summary.eer.threshold)
    return VerificationResult(
        genuine=curve.genuine,
        impostors=curve.impostors,
        people=people,
        failures=failed.size,
        failed_pairs=tuple(failed.tolist()),
        chosen=None if decisions is None else decisions.chosen,
        accuracy=_accuracy(decisions),
        accuracy_by_identity=by_identity[0],
        folds=None if folds is None else _folds(folds),
        eer=summary.eer.value,
        eer_low=summary.eer.low,
        eer_high=summary.eer.high,
        eer_threshold=summary.eer.threshold,
        eer_by_identity=by_identity[1],
        auc=summary.auc,
        tar_at_far=tuple(tar_at_far_of(*row) for row in zip(summary.points, by_identity[2:], strict=True)),
        thresholds=(None, *curve.thresholds[1:].tolist()),
        far=tuple(curve.far.tolist()),
        tar=tuple(curve.tar.tolist()),
        histogram_edges=tuple(EDGES.tolist()),
        histogram_genuine=_histogram(curve.thresholds, curve.true_accepts, curve.genuine),
        histogram_impostors=_histogram(curve.thresholds, curve.false_accepts, curve.impostors),
        worst_false_accepts=accepts,
        worst_false_rejects=rejects,
    )


def _accuracy(decisions: _Decisions | None) -> Rate | None:
    if decisions is None or not decisions.counted.any():
        return None
    return clopper_pearson(int((decisions.correct & decisions.counted).sum()), int(decisions.counted.sum()))


def _folds(over: FoldAccuracy) -> Folds:
    return Folds(
        mean=over.mean,
        standard_error=over.standard_error,
        std=over.std,
        accuracies=tuple(fold.accuracy for fold in over.folds),
        thresholds=tuple(fold.threshold for fold in over.folds),
    )


def tar_at_far_of(point: OperatingPoint, by_identity: Rate | None) -> TarAtFar:
    """Return an operating point as a row of a result."""
    return TarAtFar(
        far=point.target,
        achieved=point.far.value,
        achieved_interval=point.far,
        tar=point.tar,
        tar_by_identity=by_identity,
        impostors=point.far.n,
        threshold=point.threshold if math.isfinite(point.threshold) else None,
    )


def _histogram(thresholds: NDArray[np.float64], accepted: NDArray[np.int64], total: int) -> tuple[int, ...]:
    """Return how many scores lie between neighbouring EDGES; the first and the last bin take what lies beyond."""
    rows = np.searchsorted(-thresholds, -EDGES, side="right") - 1  # the last threshold at or above each edge
    above = accepted[rows]
    above[0], above[-1] = total, 0
    return tuple((above[:-1] - above[1:]).tolist())


def _worst(decisions: _Decisions, fallback: float) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Indices of the wrongly accepted pairs, the most alike first, and of the wrongly rejected, the least alike first.

    By the decisions behind the accuracy where a pair has one, else at the fallback, the threshold of the EER.
    """
    decided = decisions.counted & ~decisions.failed
    at_fallback = (decisions.scores >= fallback) == decisions.same
    wrong = ~np.where(decided, decisions.correct, at_fallback) & ~decisions.failed
    order = np.argsort(decisions.scores, kind="stable")
    accepts = [i for i in order[::-1].tolist() if wrong[i] and not decisions.same[i]]
    rejects = [i for i in order.tolist() if wrong[i] and decisions.same[i]]
    return tuple(accepts[:WORST]), tuple(rejects[:WORST])


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
