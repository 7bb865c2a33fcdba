"""Judging a model as a recogniser, on labelled pictures of any people: every pair, and search in a gallery."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facewright.data.sources import open_dataset
from facewright.embedding import Embedder
from facewright.evaluation.identification import IdentificationResult, identify
from facewright.evaluation.verification import verify_all_pairs
from facewright.evaluation.verification_results import VerificationResult
from facewright.input_spec import InputSpec
from facewright.training.events import Listener
from facewright.workflows.material import silent
from facewright.workflows.scoring import Vectors, embed_all


@dataclass(frozen=True)
class Recognition:
    """A recogniser's numbers on labelled pictures, and what they are of."""

    model: str
    fingerprint: str
    spec: InputSpec
    data: str
    images: int
    result: VerificationResult | IdentificationResult

    def to_dict(self) -> dict[str, Any]:
        """As `evaluate --json` prints it."""
        facts = {"model": self.model, "fingerprint": self.fingerprint, "input": self.spec.to_dict()}
        return self.result.to_dict() | facts | {"data": self.data, "images": self.images}


def evaluate_verification(model: str | Path, where: str | Path, *, listen: Listener | None = None) -> Recognition:
    """Same person or not, over every pair of the pictures, streamed.

    Args:
        model: a run directory, a bundle file, or architecture@weights; the people need not be its classes.
        where: what `open_dataset` knows, with labels; an identity counts before a class.
    Raises:
        EmptyScores: no two pictures of one person, or one person only. DataError: of a picture it is not known whom it
        shows.
    """
    embedder = Embedder.load(model)
    embedded = embed_all(embedder, open_dataset(where), silent if listen is None else listen)
    return _recognition(embedder, embedded, where, verify_all_pairs(embedded.vectors, embedded.people))


def evaluate_identification(
    model: str | Path, where: str | Path, *, seed: int = 0, listen: Listener | None = None
) -> Recognition:
    """Who is it: closed-set and open-set search, the people parted into gallery, mates and strangers.

    Args:
        model, where: as `evaluate_verification`. seed: of the parting.
    Raises:
        Undefined: fewer than two people, or nobody has a picture to spare. DataError: as `evaluate_verification`.
    """
    embedder = Embedder.load(model)
    embedded = embed_all(embedder, open_dataset(where), silent if listen is None else listen)
    return _recognition(embedder, embedded, where, identify(embedded.vectors, embedded.people, seed))


def _recognition(
    embedder: Embedder, embedded: Vectors, where: str | Path, result: VerificationResult | IdentificationResult
) -> Recognition:
    count = len(embedded.store.dataset)
    return Recognition(embedder.name, embedder.fingerprint, embedder.spec, str(where), count, result)
