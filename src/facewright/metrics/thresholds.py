"""A decision threshold with everything it was chosen on: the one record that model files, galleries and answers hold.

purpose "verification"  score: the cosine of two embeddings; accepted: a match
purpose "unknown"       score: similarity to the nearest class (`inference.Classifier`); accepted: one of the classes
purpose "binary"        score: the probability of the class `accepted`; else the class `rejected`
purpose "attribute"     score: the probability of yes; accepted: the attribute's name
purpose "gallery"       score: the cosine with the nearest person of a gallery; accepted: that person; `far` is the FPIR

No time and no path is kept: equal data and equal weights give equal files.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field, computed_field, model_validator

from facewright.errors import DataError, Undefined, UsageError
from facewright.metrics.calibration import ScoreCalibration
from facewright.metrics.impostor_tail import Histograms
from facewright.metrics.intervals import Rate, beta_quantile, complement
from facewright.metrics.verification import OperatingPoint, allowed_impostors, roc, tar_at_far
from facewright.records import Count, Number, Record

Purpose = Literal["verification", "unknown", "binary", "attribute", "gallery"]
VERIFICATION: Purpose = "verification"
UNKNOWN: Purpose = "unknown"
BINARY: Purpose = "binary"
ATTRIBUTE: Purpose = "attribute"
GALLERY: Purpose = "gallery"
METHOD = "most impostors accepted within the target, no interpolation, ties together"


class SimilarPeople(Record):
    """Two people whose photos are so similar that they may be one person."""

    a: str
    b: str
    score: float


class Threshold(Record):
    """Accept iff score >= value; the rates are those of the data the threshold was chosen on."""

    value: Number
    purpose: Purpose = "verification"
    score: str = "cosine"  # what is compared with the value
    direction: Literal["accept iff score >= value"] = "accept iff score >= value"
    rule: str  # how the value was chosen
    far_target: float | None = Field(default=None, gt=0, le=1)  # what was asked for; None: another rule
    confidence: float | None = Field(default=None, gt=0, lt=1)  # see `bound`; None: the rate itself meets the target
    far: Rate  # achieved: impostors accepted; of a gallery the FPIR
    tar: Rate | None = None  # genuine scores accepted
    hter: Rate | None = None  # of two classes
    impostors: Count
    genuine: Count = 0
    data: str  # what it was chosen on
    digest: str = ""  # of the data: pixels and truth
    people: Count | None = None  # in the data
    entries: Count | None = None  # of the gallery
    failures: Count = 0  # pairs or images without a score
    far_by_identity: Rate | None = None  # with the interval over resampled people, n is theirs; None: not known
    calibration: ScoreCalibration | None = None  # from a score to a match probability; None: undefined on these data
    histograms: Histograms | None = None  # of the scores; None: not kept
    poor_value: Number | None = None  # of a gallery: in place of `value` for faces of low quality; None: not counted
    poor_searches: Count | None = None  # that it was counted on
    similar_people: tuple[SimilarPeople, ...] = ()  # of the gallery, the most similar two first, each two once
    accepted: str | None = None  # of two classes: the one of scores at or above the value
    rejected: str | None = None
    fingerprint: str = ""  # of detector, template, network and input, without which the value means nothing
    detector: str = "none"  # "none": images are taken whole
    crop: float = 1.0  # of the input
    flip: bool = False

    @computed_field  # type: ignore[prop-decorator]
    @property
    def prior(self) -> float | None:
        """The share of genuine pairs in the data, at which a match probability holds."""
        return self.genuine / (self.genuine + self.impostors) if self.calibration is not None else None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def bound(self) -> float:
        """The upper bound of the FAR: one-sided at the confidence that was asked for, else of the 95 % interval."""
        return self.far.high if self.confidence is None else upper_bound(self.far, self.confidence)

    @property
    def few_people(self) -> bool:
        """Tell whether one person alone is more than the share asked for: images of one are not independent."""
        return self.people is not None and self.far_target is not None and self.people * self.far_target < 1

    def decide(self, score: float) -> str:
        """Return the class that a score means, of a threshold between two classes."""
        return str(self.accepted if score >= self.value else self.rejected)

    @model_validator(mode="before")
    @classmethod
    def _accept_old(cls, facts: Any) -> Any:
        """Turn what earlier versions wrote (four kinds of dictionaries) into this record."""
        if not isinstance(facts, dict):
            return facts
        facts = {name: value for name, value in facts.items() if name not in ("prior", "bound")}
        if isinstance(facts.get("threshold"), dict):  # a threshold inside its provenance
            facts = {**facts.pop("threshold"), **facts}
        if "fpir_by_people" in facts:
            facts |= {"purpose": GALLERY, "far_by_identity": facts.pop("fpir_by_people")}
            facts["similar_people"] = facts.pop("alike", ())
        for old, new in (("kind", "purpose"), ("method", "rule")):
            if old in facts:
                facts[new] = facts.pop(old)
        return _with_counts(facts) if "frr" in facts else facts

    @model_validator(mode="after")
    def _consistent(self) -> Threshold:
        for name, rate, n in (("far", self.far, self.impostors), ("tar", self.tar, self.genuine)):
            if rate is not None and not (0 <= rate.low <= rate.value <= rate.high <= 1 and rate.n == n):
                raise ValueError(f"{name} is no rate over {n} scores: {rate}")
        if self.purpose == BINARY and (self.accepted is None or self.rejected is None):
            raise ValueError("expected the classes accepted and rejected")
        return self


def choose_threshold(
    genuine: ArrayLike, impostor: ArrayLike, far: float, data: str, confidence: float | None = None
) -> Threshold:
    """Choose the threshold that accepts as many impostors as the target allows, midway to the next lower score.

    Midway, because the same image in a batch of another size may score 5e-7 lower.

    Args:
        genuine: (P,) scores of pairs of one person. impostor: (Q,) scores of pairs of two.
        far: the target in (0, 1]. data: what the pairs are, for the record.
        confidence: in (0, 1): the one-sided Clopper-Pearson upper bound of the FAR meets the target; None: the share
            of these pairs does.
    Raises:
        Undefined: the impostors are too few to resolve the target (says how many it takes), or too many of them tie.
        EmptyScores: either side is empty. DataError: a score that is not finite. UsageError: far is no rate.
    Source: docs/protocols.md, "Verification".
    >>> choose_threshold([0.9, 0.5], [0.4, 0.3, 0.2, 0.1], far=0.25, data="a doctest").value
    0.35
    """
    curve = roc(genuine, impostor)
    point = tar_at_far(curve, far, allowed_at(far, curve.impostors, confidence))
    refuse_accepting_none(point)
    lower = curve.thresholds[curve.thresholds < point.threshold]
    return Threshold(
        value=float((point.threshold + lower.max()) / 2) if lower.size else point.threshold,
        rule=rule_of(METHOD, confidence),
        far_target=point.target,
        confidence=confidence,
        far=point.far,
        tar=point.tar,
        impostors=curve.impostors,
        genuine=curve.genuine,
        data=data,
    )


def allowed_at(far: float, impostors: int, confidence: float | None) -> int:
    """Return how many of so many impostors may be accepted: by their share, or by the upper bound of the rate.

    Raises:
        Undefined: not even one by the share, or none at all by the bound; says how many it would take.
        UsageError: far or confidence is no rate.
    >>> allowed_at(0.01, 1_000, None), allowed_at(0.01, 1_000, 0.95)
    (10, 4)
    """
    if confidence is None:
        return allowed_impostors(far, impostors)
    if not 0 < far <= 1 or not 0 < confidence < 1:
        raise UsageError(f"expected a rate in (0, 1] and a confidence in (0, 1), got {far} and {confidence}")
    none = Rate(value=0, low=0, high=1, n=impostors)
    if far < 1 and upper_bound(none, confidence) > far:
        needed = math.ceil(round(math.log1p(-confidence) / math.log1p(-far), 6)) if far > 1e-15 else math.inf
        raise Undefined(
            f"{impostors} impostor scores cannot show a false-accept rate of {far:g} at {100 * confidence:g} % "
            f"confidence: it takes at least {needed:,.0f} with no false accept; give more, or a higher rate"
        )
    low, high = 0, impostors  # the largest count whose bound meets the target
    while low < high:
        middle = (low + high + 1) // 2
        rate = Rate(value=middle / impostors, low=0, high=1, n=impostors)
        low, high = (middle, high) if upper_bound(rate, confidence) <= far else (low, middle - 1)
    return low


def upper_bound(rate: Rate, confidence: float) -> float:
    """The one-sided upper bound of Clopper and Pearson of an observed rate.

    >>> round(upper_bound(Rate(value=0, low=0, high=1, n=1100), 0.95), 5)
    0.00272
    """
    k = round(rate.value * rate.n)
    return 1.0 if k == rate.n else beta_quantile(k + 1, rate.n - k, confidence)


def rule_of(method: str, confidence: float | None) -> str:
    """Name the rule that a threshold was chosen by: by the share of the data, or by the upper bound."""
    by = "the share" if confidence is None else f"the one-sided {100 * confidence:g} % Clopper-Pearson upper bound"
    return f"{method}; by {by}; midway to the next lower score"


def accepting_at_most(impostor: ArrayLike, allowed: int) -> float:
    """The lowest threshold that accepts at most so many of (Q,) impostors, midway to the next score; Q >= 1.

    >>> accepting_at_most([0.1, 0.5, 0.3, 0.5], allowed=2), accepting_at_most([0.1, 0.5, 0.3, 0.5], allowed=4)
    (0.4, 0.1)
    """
    falling = np.sort(np.asarray(impostor, dtype=np.float64))[::-1]
    if allowed >= falling.size:
        return float(falling[-1])
    refused = float(falling[allowed])
    accepted = falling[falling > refused]
    between = (float(accepted[-1]) + refused) / 2 if accepted.size else refused
    return between if between > refused else math.nextafter(refused, math.inf)


def refuse_accepting_none(point: OperatingPoint) -> None:
    """Raise Undefined where the target can only be met by accepting nothing at all."""
    if math.isinf(point.threshold):
        raise Undefined(
            f"no threshold meets a false-accept rate of {point.target:g}: more impostors than that share the highest "
            f"score of all {point.far.n}; the model does not tell people apart, or the pairs hold duplicates"
        )


def thresholds_for(
    thresholds: Iterable[Threshold], purpose: Purpose, fingerprint: str | None = None
) -> tuple[Threshold, ...]:
    """Select the thresholds for a purpose and, unless None, for the network and input in use; order stays."""
    return tuple(t for t in thresholds if t.purpose == purpose and fingerprint in (None, t.fingerprint))


def class_threshold(thresholds: Iterable[Threshold], classes: Sequence[str]) -> Threshold | None:
    """The threshold between a model's two classes; None where there is none.

    Raises:
        DataError: it is between other classes.
    """
    for threshold in thresholds_for(thresholds, BINARY):
        names = [threshold.rejected, threshold.accepted]
        if sorted(map(str, names)) != sorted(classes):
            raise DataError(f"expected a threshold between {' and '.join(classes)}, got one between {names}")
        return threshold
    return None


def pick(thresholds: Sequence[Threshold], far: float | None) -> Threshold | None:
    """The threshold for a false-accept rate; the last one where none is named; None where there is none at all.

    Raises:
        Undefined: there are thresholds, but none for that rate; names them.
    """
    if far is None or not thresholds:
        return thresholds[-1] if thresholds else None
    for threshold in thresholds:
        if threshold.far_target == far:
            return threshold
    known = ", ".join(f"{threshold.far_target:g}" for threshold in thresholds)
    raise Undefined(f"the model has no threshold for a false-accept rate of {far:g}; it has one for {known}")


def with_threshold(thresholds: Iterable[Threshold], new: Threshold) -> tuple[Threshold, ...]:
    """Add a threshold, which comes last and replaces one of its purpose, detector and target.

    Those of its purpose and detector that were chosen with another network or input mean nothing any more: dropped.
    """

    def stays(old: Threshold) -> bool:
        if (old.purpose, old.detector) != (new.purpose, new.detector):
            return True
        return old.fingerprint == new.fingerprint and old.far_target != new.far_target

    return (*(old for old in thresholds if stays(old)), new)


def _with_counts(facts: dict[str, Any]) -> dict[str, Any]:
    """The record of a threshold between two classes as earlier versions wrote it, with the false-reject rate."""
    frr, far = facts["frr"], facts.get("far")
    if not isinstance(frr, dict) or not isinstance(far, dict):
        return facts  # refused as it stands
    tar = complement(Rate.model_validate(frr))
    others = {name: value for name, value in facts.items() if name != "frr"}
    return others | {"tar": tar, "impostors": far.get("n"), "genuine": tar.n}
