"""Identification rates of probes searched in a gallery; clusters against the true people.

An identity's score is the best of its gallery images. A probe is *mated* if its person is in the gallery, else it is
*non-mated*. Ties count against the mate: a probe whose mate shares the best score is not identified at rank 1. False
positives grow with the gallery, so every rate here belongs to a number N of enrolled identities.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import computed_field, model_validator

from facewright.errors import DataError, EmptyScores, Undefined, UsageError
from facewright.metrics.intervals import Rate, clopper_pearson
from facewright.metrics.verification import allowed_impostors
from facewright.records import Record

PROBES = 1_024  # searched at a time
NONMATED = 1 / 3  # share of the identities


@dataclass(frozen=True, eq=False)
class Search:
    """The answers of a gallery of N identities to each probe."""

    mate: NDArray[np.float64]  # (Q,) score of the probe's own identity; NaN for non-mated probes
    other: NDArray[np.float64]  # (Q,) the best score of another; -inf where there is no other
    rank: NDArray[np.int64]  # (Q,) of the mate, from 1, ties against it; 0 for non-mated probes
    identities: int  # N

    @property
    def mated(self) -> NDArray[np.bool_]:
        return self.rank > 0


class OpenSetPoint(Record):
    """Open-set identification at one threshold."""

    target: float | None  # the FPIR asked for; None where the threshold was given
    threshold: float
    fpir: Rate  # non-mated probes whose best score is accepted
    fnir: Rate  # mated probes whose mate is not first or not accepted
    identities: int  # N, without which the FPIR says little

    @computed_field  # type: ignore[prop-decorator]
    @property
    def dir(self) -> float:
        """The detection and identification rate at rank 1, 1 - FNIR."""
        return 1 - self.fnir.value

    @model_validator(mode="before")
    @classmethod
    def _without_dir(cls, facts: Any) -> Any:
        return {name: value for name, value in facts.items() if name != "dir"} if isinstance(facts, dict) else facts


@dataclass(frozen=True, eq=False)
class OpenSetSplit:
    """Images by their part in an open-set test; each array holds indices, rising."""

    gallery: NDArray[np.int64]  # enrolled
    mated: NDArray[np.int64]  # probes of enrolled people
    nonmated: NDArray[np.int64]  # probes of people who are not enrolled


def open_set_split(identities: ArrayLike, seed: int = 0, nonmated: float = NONMATED, enrolled: int = 1) -> OpenSetSplit:
    """Split labelled images into gallery, mated and non-mated probes.

    All images of a random share of the people become non-mated probes. Of each other person, up to `enrolled` random
    images are enrolled and the rest are mated probes; a person without further images makes the gallery harder.

    Args:
        identities: (N,) names or numbers. seed: the same seed and identities, the same split.
        nonmated: share of the people in (0, 1), rounded, at least one. enrolled: images per person, at least 1.
    Raises:
        UsageError: a share or number out of range. Undefined: fewer than two people, or no mated probe is left.
    >>> split = open_set_split(["al", "al", "bo", "bo", "cy", "cy"])
    >>> len(split.gallery), len(split.mated), len(split.nonmated)
    (2, 2, 2)
    """
    names = np.asarray(identities)
    if names.ndim != 1 or not 0 < nonmated < 1 or enrolled < 1:
        raise UsageError(
            f"expected identities (N,), a share of non-mated people in (0, 1) and at least one image enrolled, "
            f"got {names.shape}, {nonmated}, {enrolled}"
        )
    people = np.unique(names)
    if people.size < 2:
        raise Undefined(f"open-set identification needs two people, got {people.size}")
    generator = np.random.default_rng(seed)
    shuffled = generator.permutation(people.size)
    apart = min(max(1, round(nonmated * people.size)), people.size - 1)
    outside = np.isin(names, people[shuffled[:apart]])
    gallery = np.zeros(names.size, dtype=bool)
    for i in np.sort(shuffled[apart:]):
        images = generator.permutation(np.flatnonzero(names == people[i]))
        gallery[images[:enrolled]] = True
    mated = ~gallery & ~outside
    if not mated.any():
        raise Undefined(f"no enrolled person has more than {enrolled} images: no mated probes are left")
    return OpenSetSplit(*(np.flatnonzero(part) for part in (gallery, mated, outside)))


def search(scores: ArrayLike, probes: ArrayLike, gallery: ArrayLike) -> Search:
    """Look probes up in a gallery, by their scores with every gallery image.

    Args:
        scores: (Q, G) finite similarities. probes: (Q,) their identities. gallery: (G,) those of its images.
    Raises:
        EmptyScores: no probe or no gallery image. DataError: a score is not finite. UsageError: shapes do not fit.
    >>> found = search([[0.9, 0.2, 0.9]], ["al"], ["al", "al", "bo"])  # a tie
    >>> int(found.rank[0]), float(found.other[0])
    (2, 0.9)
    """
    values, names, enrolled = np.asarray(scores, dtype=np.float64), np.asarray(probes), np.asarray(gallery)
    if values.shape != (names.size, enrolled.size):
        raise UsageError(f"expected scores ({names.size}, {enrolled.size}), got {values.shape}")
    if values.size == 0:
        raise EmptyScores("identification needs a probe and a gallery image")
    if not np.isfinite(values).all():
        raise DataError("expected finite scores, got NaN or infinity: the model's output is broken")
    order = np.argsort(enrolled, kind="stable")
    people, starts = np.unique(enrolled[order], return_index=True)
    best = np.maximum.reduceat(values[:, order], starts, axis=1)  # (Q, N)
    place = np.minimum(np.searchsorted(people, names), people.size - 1)
    mated = people[place] == names
    rows = np.arange(names.size)
    mate = np.where(mated, best[rows, place], np.nan)
    best[rows[mated], place[mated]] = -np.inf
    with np.errstate(invalid="ignore"):
        ahead = (best >= mate[:, None]).sum(axis=1)  # those that tie stand before the mate
    return Search(mate, best.max(axis=1), np.where(mated, ahead + 1, 0), people.size)


def search_embeddings(
    probes: ArrayLike, probe_identities: ArrayLike, gallery: ArrayLike, gallery_identities: ArrayLike
) -> Search:
    """As `search`, by cosines of (Q, D) and (G, D) unit vectors, a block of probes at a time."""
    vectors, enrolled = np.asarray(probes, dtype=np.float32), np.asarray(gallery, dtype=np.float32)
    names = np.asarray(probe_identities)
    if vectors.ndim != 2 or enrolled.ndim != 2 or vectors.shape[1] != enrolled.shape[1]:
        raise UsageError(f"expected probes (Q, D) and gallery (G, D), got {vectors.shape} and {enrolled.shape}")
    if names.shape != (len(vectors),):
        raise UsageError(f"expected an identity for each of {len(vectors)} probes, got {names.shape}")
    parts = [
        search(vectors[i : i + PROBES] @ enrolled.T, names[i : i + PROBES], gallery_identities)
        for i in range(0, max(len(vectors), 1), PROBES)
    ]
    return Search(
        mate=np.concatenate([part.mate for part in parts]),
        other=np.concatenate([part.other for part in parts]),
        rank=np.concatenate([part.rank for part in parts]),
        identities=parts[0].identities,
    )


def cmc(found: Search, ranks: int = 20) -> tuple[Rate, ...]:
    """The cumulative match characteristic: the share of mated probes whose mate is among the first 1, 2, … ranks.

    Args:
        ranks: how many, cut to the number of identities. Non-mated probes do not count.
    Raises:
        Undefined: no probe is mated.
    Source: P. J. Phillips et al., "The FERET evaluation methodology for face-recognition algorithms", PAMI 22 (2000).
    """
    mated = found.rank[found.mated]
    if mated.size == 0:
        raise Undefined("a closed-set rate needs probes of enrolled people, got non-mated probes only")
    return tuple(
        clopper_pearson(int((mated <= rank).sum()), mated.size) for rank in range(1, min(ranks, found.identities) + 1)
    )


def open_set_rates(found: Search, threshold: float, target: float | None = None) -> OpenSetPoint:
    """Count false positives of non-mated and false negatives of mated probes at a threshold.

    Raises:
        Undefined: no non-mated probe, or no mated probe.
    Source: ISO/IEC 19795-1; P. Grother and M. Ngan, NIST IR 8009 (2014), FPIR and FNIR(rank 1).
    """
    nonmated, first = found.other[~found.mated], found.mate[found.rank == 1]
    mated = int(found.mated.sum())
    if nonmated.size == 0 or mated == 0:
        lack = "non-mated probes" if nonmated.size == 0 else "probes of enrolled people"
        raise Undefined(f"open-set identification needs both kinds of probes, there are no {lack}")
    return OpenSetPoint(
        target=target,
        threshold=threshold,
        fpir=clopper_pearson(int((nonmated >= threshold).sum()), nonmated.size),
        fnir=clopper_pearson(mated - int((first >= threshold).sum()), mated),
        identities=found.identities,
    )


def open_set_at(found: Search, fpir: float) -> OpenSetPoint:
    """Measure open-set rates at the lowest threshold whose FPIR is at most the target; DIR@FAR is 1 - FNIR.

    The threshold is the lowest accepted score; equal scores are accepted or rejected together.

    Args:
        fpir: the target in (0, 1].
    Raises:
        Undefined: the non-mated probes cannot resolve the target, or there are no mated probes. UsageError: no rate.
    """
    best = np.sort(found.other[~found.mated])
    allowed = allowed_impostors(fpir, best.size) if best.size else 0
    refused = best[best.size - allowed - 1] if allowed < best.size else -np.inf
    scores = np.concatenate([found.mate[found.rank == 1], best])
    accepted = scores[scores > refused]
    threshold = float(accepted.min()) if accepted.size else float(np.nextafter(refused, np.inf))
    return open_set_rates(found, threshold, float(fpir))


class ClusterScores(Record):
    """Precision, recall and F of clusters; None: undefined."""

    bcubed_precision: float
    bcubed_recall: float
    bcubed_f: float
    pairwise_precision: float | None  # no pair in a cluster
    pairwise_recall: float | None  # no person with two items
    pairwise_f: float | None
    clusters: int
    people: int
    n: int


def cluster_scores(labels: ArrayLike, people: ArrayLike) -> ClusterScores:
    """Compare clusters with the true people.

    Args:
        labels: (N,) the cluster of each item. people: (N,) its person.
    Raises:
        DataError: no items, or not as many of both.

    >>> scores = cluster_scores([0, 0, 1], ["a", "a", "a"])
    >>> scores.bcubed_precision, round(scores.bcubed_recall, 3), round(scores.pairwise_recall, 3)
    (1.0, 0.556, 0.333)
    """
    found, truth = np.asarray(labels), np.asarray(people)
    if found.ndim != 1 or found.shape != truth.shape or not found.size:
        raise DataError(f"expected a cluster and a person for each of N items, got {found.shape} and {truth.shape}")
    rows, columns = (np.unique(side, return_inverse=True)[1] for side in (found, truth))
    sizes, members = np.bincount(rows).astype(np.float64), np.bincount(columns).astype(np.float64)
    cells, counts = np.unique(np.stack([rows, columns]), axis=1, return_counts=True)
    both = counts.astype(np.float64)
    precision = float((both**2 / sizes[cells[0]]).sum() / found.size)
    recall = float((both**2 / members[cells[1]]).sum() / found.size)
    right, joined, true = (float((side * (side - 1) / 2).sum()) for side in (both, sizes, members))
    pair_precision, pair_recall = right / joined if joined else None, right / true if true else None
    return ClusterScores(
        bcubed_precision=precision,
        bcubed_recall=recall,
        bcubed_f=2 * precision * recall / (precision + recall),
        pairwise_precision=pair_precision,
        pairwise_recall=pair_recall,
        pairwise_f=2 * right / (joined + true) if joined + true else None,
        clusters=sizes.size,
        people=members.size,
        n=found.size,
    )
