"""From labelled embeddings to identification rates: a seeded split into gallery, mates, strangers; then the search."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from facewright.errors import UsageError
from facewright.metrics.identification import (
    STRANGERS,
    OpenSetPoint,
    cmc,
    open_set_at,
    open_set_split,
    search_embeddings,
)
from facewright.metrics.intervals import Rate
from facewright.metrics.verification import resolvable
from facewright.records import Record

FPIRS = (0.3, 0.1, 0.01, 0.001)
RANKS = 20


class IdentificationResult(Record):
    """Identification rates, closed-set and open-set, in a gallery of so many identities."""

    task: Literal["identification"] = "identification"
    identities: int  # N in the gallery; the FPIR grows with it
    gallery: int  # images enrolled
    mates: int  # probes of enrolled people
    strangers: int  # probes of others
    seed: int  # of the split
    cmc: tuple[Rate, ...]  # at rank 1, 2, …; over the mates, Clopper-Pearson
    open_set: tuple[OpenSetPoint, ...]  # at the FPIRs that the strangers resolve


def identify(
    embeddings: ArrayLike,
    identities: ArrayLike,
    seed: int = 0,
    strangers: float = STRANGERS,
    enrolled: int = 1,
    fpirs: tuple[float, ...] = FPIRS,
) -> IdentificationResult:
    """Measure identification on labelled images: part them, enrol, search.

    Args:
        embeddings: (N, D) unit vectors. identities: (N,) names or numbers.
        seed: of the split. strangers: share of the people left out of the gallery. enrolled: images a person.
        fpirs: targets; those that the strangers cannot resolve are left out.
    Raises:
        Undefined: fewer than two people, or nobody has an image to spare. UsageError: shapes that do not fit.
        DataError: an embedding that is not finite.
    Source: docs/protocols.md, "Identification".
    """
    vectors, names = np.asarray(embeddings, dtype=np.float32), np.asarray(identities)
    if vectors.ndim != 2 or names.shape != (len(vectors),):
        raise UsageError(f"expected embeddings (N, D) and identities (N,), got {vectors.shape} and {names.shape}")
    split = open_set_split(names, seed, strangers, enrolled)
    probes = np.concatenate([split.mates, split.strangers])
    found = search_embeddings(vectors[probes], names[probes], vectors[split.gallery], names[split.gallery])
    return IdentificationResult(
        identities=found.identities,
        gallery=split.gallery.size,
        mates=split.mates.size,
        strangers=split.strangers.size,
        seed=seed,
        cmc=cmc(found, RANKS),
        open_set=tuple(open_set_at(found, fpir) for fpir in resolvable(fpirs, split.strangers.size)),
    )
