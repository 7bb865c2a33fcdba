"""Quality of predicted targets: attributes, yes or no and some unknown; and classes whose labels are votes.

An accuracy over attributes says little by itself: always giving the more frequent answer is right in most images. So
each attribute and each mean stands beside that majority baseline.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facewright.errors import DataError, Undefined, UsageError
from facewright.evaluation.number_metrics import mean_with_interval
from facewright.metrics.binary import DEFAULT_THRESHOLD, binary_errors
from facewright.metrics.classification import average_precision_rate, defined_mean, roc_auc_rate
from facewright.metrics.intervals import Rate, complement, normal_quantile, not_a_point, wilson
from facewright.records import Record

Floats = NDArray[np.float64]


class AttributeRow(Record):
    """One attribute, of the images where it is known. None: undefined, one answer is missing among them."""

    name: str
    n: int  # images where it is known
    unknown: int
    prevalence: Rate  # share of yes
    baseline: Rate  # accuracy of always giving the more frequent answer
    threshold: float  # yes from this probability on; chosen on other data
    accuracy: Rate
    accuracy_at_half: Rate  # at 0.5
    balanced_accuracy: Rate | None
    auc: Rate | None
    average_precision: Rate | None  # n counts the images with yes


class AttributesResult(Record):
    """Several attributes of one part of a data set; means are over the attributes that are known anywhere."""

    frame_rows: ClassVar[str | None] = "attributes"
    task: Literal["attributes"] = "attributes"
    split: str
    n: int  # images
    mean_accuracy: Rate  # the interval is over images, whose answers go together
    mean_baseline: Rate  # of the majority baselines
    mean_gain: float  # mean accuracy - mean baseline; below 0: worse than no classifier
    mean_balanced_accuracy: float | None
    mean_auc: float | None
    mean_average_precision: float | None
    attributes: tuple[AttributeRow, ...]
    undefined: tuple[str, ...]  # attributes that are known of no image; they are in no row


def measure_attributes(
    scores: ArrayLike, targets: ArrayLike, thresholds: ArrayLike, names: Sequence[str], split: str = "test"
) -> AttributesResult:
    """Measure a classifier of attributes.

    Args:
        scores: (N, A) probabilities of yes, finite.
        targets: (N, A) 1 for yes, 0 for no, NaN for unknown.
        thresholds: (A,) chosen on other data, see `targets.attribute_thresholds`; yes iff score >= threshold.
        names: of the A attributes.
    Raises:
        UsageError: shapes or names that do not fit, or a target that is neither. DataError: a score that is not finite.
        Undefined: nothing is known of any image.
    Source: the interval of a mean over attributes from the linearized variance of a sum of ratios, images as the
    sampling units: Cochran, "Sampling Techniques", 1977, chapter 6.
    >>> measure_attributes([[0.9], [0.2], [0.6]], [[1], [0], [float("nan")]], [0.5], ["hat"]).attributes[0].n
    2
    """
    values, truth = checked_attributes(scores, targets)
    limits = np.asarray(thresholds, np.float64)
    if limits.shape != (values.shape[1],) or len(names) != len(limits) or not np.isfinite(limits).all():
        raise UsageError(
            f"expected a threshold and a name for each of {values.shape[1]} attributes, got {limits.shape} and "
            f"{len(names)} names"
        )
    known = ~np.isnan(truth)
    used = np.flatnonzero(known.any(axis=0)).tolist()
    if not used:
        raise Undefined("no attribute is known of any image: nothing to measure")
    rows = tuple(_row(names[k], values[known[:, k], k], truth[known[:, k], k], limits[k], len(truth)) for k in used)
    right, shown = (values >= limits) == (truth == 1), known[:, used]
    frequent = np.array([row.prevalence.value >= 0.5 for row in rows])
    accuracy = _mean_over_attributes(right[:, used], shown)
    baseline = _mean_over_attributes((truth[:, used] == 1) == frequent, shown)
    return AttributesResult(
        split=split,
        n=len(truth),
        mean_accuracy=accuracy,
        mean_baseline=baseline,
        mean_gain=accuracy.value - baseline.value,
        mean_balanced_accuracy=_mean([row.balanced_accuracy for row in rows]),
        mean_auc=_mean([row.auc for row in rows]),
        mean_average_precision=_mean([row.average_precision for row in rows]),
        attributes=rows,
        undefined=tuple(name for k, name in enumerate(names) if k not in used),
    )


def checked_attributes(scores: ArrayLike, targets: ArrayLike) -> tuple[Floats, Floats]:
    """Return scores and targets as (N, A) floats.

    Raises:
        UsageError: shapes that differ, or a target that is not 1, 0 or NaN. DataError: a score that is not finite.
    """
    values, truth = np.asarray(scores, np.float64), np.asarray(targets, np.float64)
    if values.ndim != 2 or values.shape != truth.shape:
        raise UsageError(f"expected scores and targets (images, attributes), got {values.shape} and {truth.shape}")
    if not np.isfinite(values).all():
        raise DataError("expected finite scores: the model's output is broken")
    if not (np.isnan(truth) | (truth == 0) | (truth == 1)).all():
        raise UsageError("expected targets 1 for yes, 0 for no, NaN for unknown")
    return values, truth


def _row(name: str, scores: Floats, truth: Floats, threshold: float, images: int) -> AttributeRow:
    """Measure one attribute on the images where it is known; `images` of the part in all."""
    yes, n = truth == 1, len(truth)
    count = int(yes.sum())
    both = 0 < count < n
    errors = binary_errors(scores[yes], scores[~yes], float(threshold)).hter if both else None
    return AttributeRow(
        name=name,
        n=n,
        unknown=images - n,
        prevalence=wilson(count, n),
        baseline=wilson(max(count, n - count), n),
        threshold=float(threshold),
        accuracy=wilson(int(((scores >= threshold) == yes).sum()), n),
        accuracy_at_half=wilson(int(((scores >= DEFAULT_THRESHOLD) == yes).sum()), n),
        balanced_accuracy=errors and complement(errors).replace(n=n),
        auc=roc_auc_rate(yes, scores) if both else None,
        average_precision=average_precision_rate(yes, scores) if both else None,
    )


def _mean_over_attributes(right: NDArray[np.bool_], known: NDArray[np.bool_]) -> Rate:
    """The mean over attributes of their accuracies (N, A), each over its known images; n counts the images."""
    images, counts = int(known.any(axis=1).sum()), known.sum(axis=0)
    shares = (right & known).sum(axis=0) / counts
    value = float(shares.mean())
    influence = (np.where(known, right - shares, 0.0) / counts).mean(axis=1)  # of each image on the mean
    variance = float((influence**2).sum()) * images / max(1, images - 1)
    half = -normal_quantile(0.025) * variance**0.5
    return not_a_point(Rate(value=value, low=max(0.0, value - half), high=min(1.0, value + half), n=images))


def _mean(rates: Sequence[Rate | None]) -> float | None:
    return defined_mean([None if rate is None else rate.value for rate in rates])


class VotedClass(Record):
    """One class: the images of which it is the majority."""

    name: str
    n: int
    recall: Rate | None  # share of them that is predicted as it; None: there is none


class VotesResult(Record):
    """Predictions of one part of a data set whose labels are votes.

    Two annotators who are drawn for an image name the same class with the chance `annotators_agree`; the model and one
    annotator with the chance `model_agrees`. A model that always names the majority reaches `majority_agrees`.
    """

    frame_rows: ClassVar[str | None] = "per_class"
    task: Literal["votes"] = "votes"
    split: str
    n: int  # images with votes
    unknown: int  # images without any
    tied: int  # images with votes whose majority is of two classes; they are in no accuracy
    accuracy: Rate | None  # against the majority; None: all are tied
    annotators_agree: Rate | None  # of the images with two votes or more; None: there is none
    model_agrees: Rate
    majority_agrees: Rate
    cross_entropy: float  # of the shares of votes, in nats
    entropy: float  # of the shares themselves: no model has a lower cross-entropy
    per_class: tuple[VotedClass, ...]


def measure_votes(probabilities: ArrayLike, votes: ArrayLike, names: Sequence[str], split: str = "test") -> VotesResult:
    """Measure predictions against votes.

    Args:
        probabilities: (N, C), rows sum to one.
        votes: (N, C) counts, whole numbers >= 0; a row of zeros or NaN is unknown.
        names: of the C classes.
    Raises:
        UsageError: shapes that differ, or votes that are no counts. DataError: a probability is not finite.
        Undefined: no image has a vote.
    Source: agreement of two annotators: J. L. Fleiss, "Measuring nominal scale agreement among many raters",
    Psychological Bulletin 76 (1971), the P_i.
    >>> result = measure_votes([[0.9, 0.1], [0.2, 0.8]], [[8, 2], [1, 9]], ["happy", "sad"])
    >>> result.accuracy.value, round(result.annotators_agree.value, 4), round(result.model_agrees.value, 4)
    (1.0, 0.7222, 0.85)
    """
    scores, counts, unknown = _checked(probabilities, votes, names)
    totals, guessed = counts.sum(axis=1), scores.argmax(axis=1)
    shares = counts / totals[:, None]
    clear = (counts == counts.max(axis=1, keepdims=True)).sum(axis=1) == 1
    truth, several = counts.argmax(axis=1), totals > 1
    agreement = (counts * (counts - 1)).sum(axis=1)[several] / (totals * (totals - 1))[several]
    log_p = np.log(np.clip(scores, np.finfo(float).eps, 1))
    return VotesResult(
        split=split,
        n=len(counts),
        unknown=unknown,
        tied=int((~clear).sum()),
        accuracy=wilson(int((guessed == truth)[clear].sum()), int(clear.sum())) if clear.any() else None,
        annotators_agree=mean_with_interval(agreement) if several.any() else None,
        model_agrees=mean_with_interval(shares[np.arange(len(shares)), guessed]),
        majority_agrees=mean_with_interval(shares.max(axis=1)),
        cross_entropy=float(-(shares * log_p).sum(axis=1).mean()),
        entropy=float(-(shares * np.log(np.where(shares > 0, shares, 1))).sum(axis=1).mean()),
        per_class=tuple(
            VotedClass(
                name=name,
                n=int((mine := clear & (truth == k)).sum()),
                recall=wilson(int((guessed[mine] == k).sum()), int(mine.sum())) if mine.any() else None,
            )
            for k, name in enumerate(names)
        ),
    )


def _checked(probabilities: ArrayLike, votes: ArrayLike, names: Sequence[str]) -> tuple[Floats, Floats, int]:
    """Return probabilities and votes of the images with votes, and the number of the others."""
    scores, counts = np.asarray(probabilities, np.float64), np.asarray(votes, np.float64)
    if scores.ndim != 2 or scores.shape != counts.shape or scores.shape[1] != len(names):
        raise UsageError(f"expected (images, classes), got {scores.shape}, {counts.shape} and {len(names)} names")
    if not np.isfinite(scores).all():
        raise DataError("expected finite probabilities: the model's output is broken")
    known = counts.sum(axis=1) > 0  # NaN is above nothing
    scores, counts = scores[known], counts[known]
    if (counts < 0).any() or (counts != counts.round()).any():
        raise UsageError("expected votes as whole numbers of at least 0")
    if not len(counts):
        raise Undefined("no image has a vote: nothing to measure")
    return scores, counts, int((~known).sum())
