"""Identification rates of labelled embeddings: a seeded split into gallery and probes, then the search."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from facewright.errors import UsageError
from facewright.metrics.identification import (
    NONMATED,
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
    """Identification rates, closed-set and open-set, for one number of identities in the gallery."""

    task: Literal["identification"] = "identification"
    identities: int  # N in the gallery; the FPIR grows with it
    gallery: int  # images enrolled
    mates: int  # mated probes: of enrolled people
    strangers: int  # non-mated probes: of unknown people
    seed: int  # of the split
    cmc: tuple[Rate, ...]  # at rank 1, 2, …; over the mated probes, Clopper-Pearson
    open_set: tuple[OpenSetPoint, ...]  # at the FPIRs that the non-mated probes resolve


def identify(
    embeddings: ArrayLike,
    identities: ArrayLike,
    seed: int = 0,
    nonmated: float = NONMATED,
    enrolled: int = 1,
    fpirs: tuple[float, ...] = FPIRS,
) -> IdentificationResult:
    """Measure identification on labelled images: split them, enrol, search.

    Args:
        embeddings: (N, D) unit vectors. identities: (N,) names or numbers.
        seed: of the split. nonmated: share of the people who are not enrolled. enrolled: images per person.
        fpirs: targets; those that the non-mated probes cannot resolve are omitted.
    Raises:
        Undefined: fewer than two people, or no image is left for a mated probe. UsageError: shapes that do not fit.
        DataError: an embedding that is not finite.
    Source: docs/protocols.md, "Identification".
    """
    vectors, names = np.asarray(embeddings, dtype=np.float32), np.asarray(identities)
    if vectors.ndim != 2 or names.shape != (len(vectors),):
        raise UsageError(f"expected embeddings (N, D) and identities (N,), got {vectors.shape} and {names.shape}")
    split = open_set_split(names, seed, nonmated, enrolled)
    probes = np.concatenate([split.mated, split.nonmated])
    found = search_embeddings(vectors[probes], names[probes], vectors[split.gallery], names[split.gallery])
    return IdentificationResult(
        identities=found.identities,
        gallery=split.gallery.size,
        mates=split.mated.size,
        strangers=split.nonmated.size,
        seed=seed,
        cmc=cmc(found, RANKS),
        open_set=tuple(open_set_at(found, fpir) for fpir in resolvable(fpirs, split.nonmated.size)),
    )
