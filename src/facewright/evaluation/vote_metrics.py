"""Quality of a classifier whose labels are votes: how often it names the majority, and how often people agree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facewright.errors import DataError, Undefined, UsageError
from facewright.metrics.intervals import Rate, wilson
from facewright.metrics.regression import mean_with_interval
from facewright.records import Record

Floats = NDArray[np.float64]


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
        names: of the C classes. split: the part of the data.
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
