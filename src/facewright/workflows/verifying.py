"""Two photos: the same person or not, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facewright.decision import VERIFICATION, pick, stored
from facewright.embedding import Embedder, similarity
from facewright.errors import BadImage
from facewright.metrics.intervals import Rate


@dataclass(frozen=True)
class Verified:
    """What is said of two photos. None where the model file holds no threshold, or no map to probabilities."""

    score: float  # cosine
    threshold: float | None
    same: bool | None  # score >= threshold
    far: Rate | None  # on the pairs that the threshold was chosen on: what to expect of others like them
    far_by_identity: Rate | None  # the same with its interval over resampled people
    far_target: float | None
    probability: float | None  # that it is one person, among pairs mixed as those
    data: str | None  # what those pairs were
    model: str
    fingerprint: str

    def to_dict(self) -> dict[str, Any]:
        """As `verify --json` prints it."""
        rates = {"far": self.far, "far_by_identity": self.far_by_identity}
        return {
            "task": "verify",
            "score": self.score,
            "threshold": self.threshold,
            "same": self.same,
            **{name: None if rate is None else rate.to_dict() for name, rate in rates.items()},
            "far_target": self.far_target,
            "probability": self.probability,
            "data": self.data,
            "model": self.model,
            "fingerprint": self.fingerprint,
        }


def verify(model: str | Path, a: Path, b: Path, *, far: float | None = None) -> Verified:
    """Compare two photos and decide by the threshold that is stored with the model.

    Args:
        model: a run directory, a bundle file, or architecture@weights (which holds no threshold).
        far: which of several stored thresholds; the one stored last where left out.
    Raises:
        BadImage: a photo cannot be read. Undefined: there are thresholds, but none for that rate.
    """
    embedder = Embedder.load(model)
    decision = pick(stored(embedder.bundle, VERIFICATION, embedder.fingerprint), far)
    vectors = []
    for found in embedder.of_files([Path(a), Path(b)]):
        if found.vector is None:
            raise BadImage(found.path, found.error or "cannot be read")
        vectors.append(found.vector)
    score = similarity(*vectors)
    chosen = None if decision is None else decision.threshold
    calibration = None if decision is None else decision.calibration
    return Verified(
        score=score,
        threshold=None if chosen is None else chosen.value,
        same=None if chosen is None else score >= chosen.value,
        far=None if chosen is None else chosen.far,
        far_by_identity=None if decision is None else decision.far_by_identity,
        far_target=None if chosen is None else chosen.far_target,
        probability=None if calibration is None else calibration.probability(score),
        data=None if chosen is None else chosen.data,
        model=str(model),
        fingerprint=embedder.fingerprint,
    )
