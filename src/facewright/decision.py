"""Thresholds that are kept in a model file: what they decide, what they were chosen on, with which weights and input.

kind "verification"  score: the cosine of two pictures' embeddings; accepted: the same person
kind "unknown"       score: how much a picture is like its nearest class (`inference.Classifier.likeness`); accepted: a
                     person of the model's classes, else a stranger

Other kinds may lie beside them (`metrics.binary_threshold`); they are left alone. No time and no path is kept: equal
data and equal weights give equal files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from facewright.bundle import Bundle
from facewright.errors import BundleError, DataError, Undefined
from facewright.metrics.histograms import Histograms
from facewright.metrics.intervals import Rate
from facewright.metrics.score_calibration import ScoreCalibration
from facewright.metrics.thresholds import Threshold

VERIFICATION, UNKNOWN = "verification", "unknown"
KINDS = (VERIFICATION, UNKNOWN)
ADDED: Mapping[str, Any] = {"detector": "none", "histograms": None}  # what files of before say nothing of


@dataclass(frozen=True)
class Decision:
    """A threshold with its provenance."""

    kind: str  # one of KINDS
    threshold: Threshold
    calibration: ScoreCalibration | None  # from a score to a probability; None: undefined on these data
    far_by_identity: Rate | None  # the FAR with its interval over resampled people, n is theirs; None: people not known
    people: int | None  # in the data
    failures: int  # pairs, or pictures, without a score
    digest: str  # of the data: pixels and truth
    fingerprint: str  # of the network and its input, without which the threshold means nothing
    crop: float  # of that input
    flip: bool
    detector: str = "none"  # what found the faces; "none": the photos were taken as they are
    histograms: Histograms | None = None  # of the scores it was chosen on; None: not kept

    def to_dict(self) -> dict[str, Any]:
        """As it stands in a model file."""
        calibration = None if self.calibration is None else self.calibration.to_dict()
        histograms = None if self.histograms is None else self.histograms.to_dict()
        parts = {"threshold": self.threshold.to_dict(), "calibration": calibration, "histograms": histograms}
        return asdict(self) | parts

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> Decision:
        """The inverse of `to_dict`.

        Raises:
            DataError: the facts lack a field, have one too many, or hold what no stored threshold can.
        """
        names = [field.name for field in fields(cls)]
        given = {**ADDED, **facts}
        if sorted(given) != sorted(names) or given["kind"] not in KINDS:
            raise DataError(f"no stored threshold: expected {', '.join(names)}, got {', '.join(map(str, facts))[:200]}")
        try:
            people, by_identity, calibration = facts["people"], facts["far_by_identity"], facts["calibration"]
            histograms = given["histograms"]
            return cls(
                kind=str(facts["kind"]),
                threshold=Threshold.from_dict(facts["threshold"]),
                calibration=None if calibration is None else ScoreCalibration.from_dict(calibration),
                far_by_identity=None if by_identity is None else Rate.from_dict(by_identity),
                people=None if people is None else int(people),
                failures=int(facts["failures"]),
                digest=str(facts["digest"]),
                fingerprint=str(facts["fingerprint"]),
                crop=float(facts["crop"]),
                flip=bool(facts["flip"]),
                detector=str(given["detector"]),
                histograms=None if histograms is None else Histograms.from_dict(histograms),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"no stored threshold: {type(error).__name__} {error}") from None


def stored(bundle: Bundle, kind: str, fingerprint: str) -> tuple[Decision, ...]:
    """The thresholds of a kind that a model file holds, in the order in which they were stored.

    Args:
        fingerprint: of the network and input in use; thresholds for another one are passed over.
    Raises:
        BundleError: what the file holds is no threshold.
    """
    return tuple(one for one in held(bundle, kind) if one.fingerprint == fingerprint)


def held(bundle: Bundle, kind: str) -> tuple[Decision, ...]:
    """`stored`, for whatever network, input and detector they are."""
    try:
        return tuple(Decision.from_dict(facts) for facts in bundle.thresholds if facts.get("kind") == kind)
    except DataError as error:
        raise BundleError(f"the model file's thresholds cannot be trusted: {error}") from None


def pick(decisions: tuple[Decision, ...], far: float | None) -> Decision | None:
    """The threshold for a false-accept rate; the one stored last where none is named; None where there is none at all.

    Raises:
        Undefined: there are thresholds, but none for that rate; names them.
    """
    if far is None or not decisions:
        return decisions[-1] if decisions else None
    for one in decisions:
        if one.threshold.far_target == far:
            return one
    known = ", ".join(f"{one.threshold.far_target:g}" for one in decisions)
    raise Undefined(f"the model file has no threshold for a false-accept rate of {far:g}; it has one for {known}")


def with_decision(bundle: Bundle, decision: Decision) -> Bundle:
    """The bundle with one more threshold, which comes last and takes the place of one of its kind and target.

    Thresholds of its kind and detector that were chosen with another network or input are dropped: they mean nothing
    any more. Those of another detector stay beside it.
    """

    def stays(facts: Mapping[str, Any]) -> bool:
        given = {**ADDED, **facts}
        if (given.get("kind"), given["detector"]) != (decision.kind, decision.detector):
            return True
        target = (facts.get("threshold") or {}).get("far_target")
        return facts.get("fingerprint") == decision.fingerprint and target != decision.threshold.far_target

    kept = [facts for facts in bundle.thresholds if stays(facts)]
    return replace(bundle, thresholds=(*kept, decision.to_dict()))
