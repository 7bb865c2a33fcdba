"""The result of comparing two photos."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from facewright.faces.selection import Picked
from facewright.metrics.intervals import Rate
from facewright.metrics.thresholds import Threshold
from facewright.records import notebook_display


@dataclass(frozen=True)
class Matched:
    """The comparison of two photos: match or no match; None where a photo shows no face, or no threshold is known."""

    score: float | None  # cosine
    threshold: float | None
    same: bool | None  # score >= threshold
    far: Rate | None  # on the pairs that the threshold was chosen on
    far_by_identity: Rate | None  # the same with its interval over resampled people
    far_target: float | None
    probability: float | None  # that it is one person, among pairs mixed as those
    data: str | None  # the pairs of the threshold
    sides: tuple[Picked, Picked]
    model: str
    detector: str
    fingerprint: str
    decided_with: str | None = None  # the detector that the model's threshold is for, where that is another one

    @property
    def doubtful(self) -> bool:
        """True where the decision and the match probability point to different answers."""
        return self.same is not None and self.probability is not None and self.same != (self.probability >= 0.5)

    @property
    def verdict(self) -> str | None:
        """The decision in words that agree with the match probability; None where there is no decision."""
        if self.same is None:
            return None
        if not self.doubtful:
            return "match" if self.same else "no match"
        return "not sure: accepted, but likelier no match" if self.same else "not sure: rejected, but likelier a match"

    def to_dict(self) -> dict[str, Any]:
        """As `verify --json` prints it."""
        rates = {"far": self.far, "far_by_identity": self.far_by_identity}
        return {
            "task": "verify",
            "score": self.score,
            "threshold": self.threshold,
            "same": self.same,
            "verdict": self.verdict,
            **{name: None if rate is None else rate.to_dict() for name, rate in rates.items()},
            "far_target": self.far_target,
            "probability": self.probability,
            "data": self.data,
            "model": self.model,
            "detector": self.detector,
            "fingerprint": self.fingerprint,
            "decided_with": self.decided_with,
            "a": self.sides[0].to_dict(),
            "b": self.sides[1].to_dict(),
        }

    _repr_html_ = notebook_display


@dataclass(frozen=True)
class Stack:
    """Model, detector and fingerprint: the names that results carry."""

    model: str
    detector: str
    fingerprint: str


def matched(
    score: float | None,
    threshold: Threshold | None,
    sides: tuple[Picked, Picked],
    stack: Stack,
    decided_with: str | None,
) -> Matched:
    """Decide on a score with a threshold.

    Args:
        score: cosine; None where a side has no face. threshold: None where there is none.
        decided_with: the detector of a threshold that is of no use here.
    """
    calibration = None if threshold is None else threshold.calibration
    return Matched(
        score=score,
        threshold=None if threshold is None else threshold.value,
        same=None if threshold is None or score is None else score >= threshold.value,
        far=None if threshold is None else threshold.far,
        far_by_identity=None if threshold is None else threshold.far_by_identity,
        far_target=None if threshold is None else threshold.far_target,
        probability=None if calibration is None or score is None else calibration.probability(score),
        data=None if threshold is None else threshold.data,
        sides=sides,
        model=stack.model,
        detector=stack.detector,
        fingerprint=stack.fingerprint,
        decided_with=decided_with,
    )
