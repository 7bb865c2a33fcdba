"""Verification of every pair, and identification in a gallery, on labelled images of any people."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from facewright.data.sources import open_dataset
from facewright.evaluation.identification import IdentificationResult, identify
from facewright.evaluation.subgroups import Subgroups, rates_of_all_pairs
from facewright.evaluation.verification import VerificationResult, verify_all_pairs
from facewright.events import EventHandler, ignore_event
from facewright.input_spec import InputSpec
from facewright.recognition import Recognizer
from facewright.workflows.groups import Grouping, threshold_for_groups
from facewright.workflows.scores import Vectors, embed_all


@dataclass(frozen=True)
class Recognition:
    """The result of a verification or identification on labelled images."""

    model: str
    fingerprint: str
    spec: InputSpec
    detector: str
    data: str
    images: int  # evaluated
    left_out: int  # that could not be read, or show no face
    result: VerificationResult | IdentificationResult
    note: str | None = None  # why verification was chosen
    subgroups: Subgroups | None = None  # where groups were asked for

    def to_dict(self) -> dict[str, Any]:
        """As `evaluate --json` prints it."""
        facts = {"model": self.model, "fingerprint": self.fingerprint, "input": self.spec.to_dict()}
        data = {"detector": self.detector, "data": self.data, "images": self.images, "left_out": self.left_out}
        groups = {} if self.subgroups is None else {"subgroups": self.subgroups.to_dict()}
        return self.result.to_dict() | facts | data | groups | ({} if self.note is None else {"note": self.note})


def evaluate_verification(
    model: str | Path,
    data: str | Path,
    *,
    detector: str | None = None,
    grouping: Grouping | None = None,
    device: str | None = None,
    on_event: EventHandler = ignore_event,
) -> Recognition:
    """Evaluate verification over every pair of images, streamed; with `grouping` also the rates within each group.

    The people need not be classes of the model; an identity counts before a class. Images without a face are counted.

    Raises:
        EmptyScores: no two images of one person, or one person only. DataError: an image without an identity.
    """
    recognizer = Recognizer.load(model, detector=detector, device=device)
    embedded = embed_all(recognizer, open_dataset(data), on_event)
    result = verify_all_pairs(embedded.vectors, embedded.people)
    found = _recognition(recognizer, embedded, data, result)
    if grouping is None:
        return found
    groups = grouping.of([record.path for record in embedded.dataset.records], embedded.dataset)
    value, chosen = threshold_for_groups(result, recognizer.threshold(), grouping.column)
    rates = rates_of_all_pairs(embedded.vectors, embedded.people, groups, value, grouping.column, chosen)
    return replace(found, subgroups=rates)


def evaluate_identification(
    model: str | Path,
    data: str | Path,
    *,
    seed: int = 0,
    detector: str | None = None,
    device: str | None = None,
    on_event: EventHandler = ignore_event,
) -> Recognition:
    """Evaluate closed-set and open-set search; people are split into gallery, mated and non-mated probes.

    Raises:
        Undefined: fewer than two people, or no person has two images. DataError: as `evaluate_verification`.
    """
    recognizer = Recognizer.load(model, detector=detector, device=device)
    embedded = embed_all(recognizer, open_dataset(data), on_event)
    return _recognition(recognizer, embedded, data, identify(embedded.vectors, embedded.people, seed))


def _recognition(
    recognizer: Recognizer, embedded: Vectors, data: str | Path, result: VerificationResult | IdentificationResult
) -> Recognition:
    return Recognition(
        model=recognizer.name,
        fingerprint=recognizer.fingerprint,
        spec=recognizer.spec,
        detector=recognizer.detector_name,
        data=str(data),
        images=len(embedded.dataset),
        left_out=len(embedded.dataset.broken),
        result=result,
    )
