"""Two photos: the same person or not, and how sure that is."""

from __future__ import annotations

from pathlib import Path

from facewright.recognition import Matched, Policy, Recognizer


def verify(
    model: str | Path | None,
    a: Path,
    b: Path,
    *,
    far: float | None = None,
    detector: str | None = None,
    policy: Policy | None = None,
) -> Matched:
    """Compare two photos and decide by the threshold that is stored with the model.

    Args:
        model: a run directory, a bundle file, or architecture@weights (which holds no threshold); None or "built-in":
            the built-in networks and the shipped threshold.
        far: which of several thresholds; the last one where left out.
        detector, policy: what finds the faces, and which of several is taken; as `Recognizer`. A threshold is for the
            detector that it was chosen with.
    Raises:
        BadImage: a photo cannot be read. Undefined: there are thresholds, but none for that rate. UsageError: a policy
        where photos are taken whole.
    """
    recognizer = Recognizer.load(model, detector=detector)
    return recognizer.verify(a, b, policy=recognizer.policy(policy), far=far)
