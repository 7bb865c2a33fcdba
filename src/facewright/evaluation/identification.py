"""From labelled embeddings to identification rates: a seeded split into gallery, mates, strangers; then the search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

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

FPIRS = (0.3, 0.1, 0.01, 0.001)
RANKS = 20


@dataclass(frozen=True)
class IdentificationResult:
    """Who is it, closed-set and open-set, in a gallery of so many identities."""

    identities: int  # N in the gallery; the FPIR grows with it
    gallery: int  # images enrolled
    mates: int  # probes of enrolled people
    strangers: int  # probes of others
    seed: int  # of the split
    cmc: tuple[Rate, ...]  # at rank 1, 2, …; over the mates, Clopper-Pearson
    open_set: tuple[OpenSetPoint, ...]  # at the FPIRs that the strangers resolve

    def to_dict(self) -> dict[str, Any]:
        lists = {"cmc": [rate.to_dict() for rate in self.cmc], "open_set": [row.to_dict() for row in self.open_set]}
        return {"task": "identification"} | asdict(self) | lists

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> IdentificationResult:
        """The inverse of `to_dict`; raises UsageError where the facts are of another task or incomplete."""
        if facts.get("task") != "identification":
            raise UsageError(f"expected the facts of an identification, got task {facts.get('task')!r}")
        missing = [field.name for field in fields(cls) if field.name not in facts]
        if missing:
            raise UsageError(f"the facts of an identification lack {', '.join(missing)}: measure again")
        values = {field.name: facts[field.name] for field in fields(cls)}
        values["cmc"] = tuple(Rate.from_dict(rate) for rate in values["cmc"])
        values["open_set"] = tuple(OpenSetPoint.from_dict(row) for row in values["open_set"])
        return cls(**values)


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
