"""Judging a model as a recogniser, on labelled pictures of any people: every pair, and search in a gallery."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facewright.data.sources import open_dataset
from facewright.evaluation.identification import IdentificationResult, identify
from facewright.evaluation.verification import verify_all_pairs
from facewright.evaluation.verification_results import VerificationResult
from facewright.events import EventHandler, ignore_event
from facewright.input_spec import InputSpec
from facewright.recognition import Recognizer
from facewright.workflows.scores import Vectors, embed_all


@dataclass(frozen=True)
class Recognition:
    """A recogniser's numbers on labelled pictures, and what they are of."""

    model: str
    fingerprint: str
    spec: InputSpec
    detector: str
    data: str
    images: int  # judged
    left_out: int  # that could not be read, or show no face
    result: VerificationResult | IdentificationResult

    def to_dict(self) -> dict[str, Any]:
        """As `evaluate --json` prints it."""
        facts = {"model": self.model, "fingerprint": self.fingerprint, "input": self.spec.to_dict()}
        data = {"detector": self.detector, "data": self.data, "images": self.images, "left_out": self.left_out}
        return self.result.to_dict() | facts | data


def evaluate_verification(
    model: str | Path, where: str | Path, *, detector: str | None = None, on_event: EventHandler = ignore_event
) -> Recognition:
    """Same person or not, over every pair of the pictures, streamed.

    Args:
        model: a run directory, a bundle file, or architecture@weights; the people need not be its classes; or
            "built-in".
        where: what `open_dataset` knows, with labels; an identity counts before a class.
        detector: as of `Recognizer`; pictures without a face are left out and counted.
    Raises:
        EmptyScores: no two pictures of one person, or one person only. DataError: of a picture it is not known whom it
        shows.
    """
    recognizer = Recognizer.load(model, detector=detector)
    embedded = embed_all(recognizer, open_dataset(where), on_event)
    return _recognition(recognizer, embedded, where, verify_all_pairs(embedded.vectors, embedded.people))


def evaluate_identification(
    model: str | Path,
    where: str | Path,
    *,
    seed: int = 0,
    detector: str | None = None,
    on_event: EventHandler = ignore_event,
) -> Recognition:
    """Who is it: closed-set and open-set search, the people parted into gallery, mates and strangers.

    Args:
        model, where, detector: as `evaluate_verification`. seed: of the parting.
    Raises:
        Undefined: fewer than two people, or nobody has a picture to spare. DataError: as `evaluate_verification`.
    """
    recognizer = Recognizer.load(model, detector=detector)
    embedded = embed_all(recognizer, open_dataset(where), on_event)
    return _recognition(recognizer, embedded, where, identify(embedded.vectors, embedded.people, seed))


def _recognition(
    recognizer: Recognizer, embedded: Vectors, where: str | Path, result: VerificationResult | IdentificationResult
) -> Recognition:
    return Recognition(
        model=recognizer.name,
        fingerprint=recognizer.fingerprint,
        spec=recognizer.spec,
        detector=recognizer.detector_name,
        data=str(where),
        images=len(embedded.dataset),
        left_out=len(embedded.dataset.broken),
        result=result,
    )
