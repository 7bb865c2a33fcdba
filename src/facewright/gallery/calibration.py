"""The threshold below which a face is unknown, chosen from the enrolled people themselves.

Each enrolled photo is searched as if its person were not enrolled: the best score of another person is that of a
non-mated probe. The threshold accepts at most the requested share of these searches. That share, the false-positive
identification rate (FPIR), belongs to this gallery: it grows with the number of people.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facewright.errors import Undefined, UsageError
from facewright.gallery.store import GalleryStore, Row
from facewright.metrics.intervals import clopper_pearson
from facewright.metrics.people import People, identity_bootstrap, weighted_share
from facewright.metrics.thresholds import GALLERY, SimilarPeople, Threshold, accepting_at_most, allowed_at, rule_of

MAX_SEARCHES = 10_000  # entries searched, drawn at random
BLOCK = 256  # searched at a time
SHOWN_PAIRS = 3  # most similar pairs of people in the result
SCORE = "cosine with the most alike person"
METHOD = (
    "each enrolled photo searched among the other people; most of them accepted within the target, no interpolation, "
    "ties together. tar: own person first and accepted, by the other photos"
)


@dataclass(frozen=True, eq=False)
class NonmatedSearches:
    """Searches of enrolled photos."""

    other: NDArray[np.float64]  # (Q,) the best score of another person
    own: NDArray[np.float64]  # (Q,) of another photo of the same person; NaN if there is none
    people: NDArray[np.str_]  # (Q, 2) the photo's person, and the other person with the best score


def choose(
    store: GalleryStore, fpir: float, *, confidence: float | None = None, searches: int = MAX_SEARCHES, seed: int = 0
) -> Threshold:
    """Choose the threshold that identifies at most the share `fpir` of unknown people as enrolled ones.

    Args:
        fpir: the target in (0, 1). confidence: as `allowed_at`. searches: maximum number of
            enrolled photos searched. seed: of their choice.
    Raises:
        Undefined: fewer than two people, or too few photos to resolve the rate (says how many it takes).
        UsageError: the target is not in (0, 1).
    """
    if not 0 < fpir < 1:
        raise UsageError(f"expected a false-positive rate in (0, 1), got {fpir}")
    enrolled = store.people()
    if len(enrolled) < 2:
        raise Undefined(
            f"{store.location}: a threshold takes at least two people, {len(enrolled)} enrolled; enrol more"
        )
    result = search_enrolled(store, searches, seed)
    value = _value(result.other, fpir, confidence)
    share = weighted_share(result.other >= value, np.ones(result.other.size, bool))
    names, numbers = np.unique(result.people, return_inverse=True)
    pairs = People(numbers.reshape(-1, 2).astype(np.int64), names.size)
    own = ~np.isnan(result.own)
    right = (result.own >= value) & (result.own > result.other)
    return Threshold(
        value=value,
        purpose=GALLERY,
        score=SCORE,
        rule=rule_of(METHOD, confidence),
        far_target=float(fpir),
        confidence=confidence,
        far=clopper_pearson(int((result.other >= value).sum()), result.other.size),
        far_by_identity=identity_bootstrap(share, pairs)[0],
        tar=clopper_pearson(int(right[own].sum()), int(own.sum())) if own.any() else None,
        impostors=result.other.size,
        genuine=int(own.sum()),
        data=f"{store.header().entries:,} enrolled photos of {len(enrolled):,} people",
        people=len(enrolled),
        entries=store.header().entries,
        similar_people=_similar(result),
    )


def search_enrolled(store: GalleryStore, searches: int, seed: int) -> NonmatedSearches:
    """Search enrolled photos, each as if its person were not enrolled, and compare them within the person."""
    count = store.header().entries
    drawn = set(np.random.default_rng(seed).choice(count, min(count, searches), replace=False).tolist())
    rows = [row for place, row in enumerate(store.rows()) if place in drawn]
    together: dict[str, list[Row]] = {row.entry.person: [] for row in rows}
    for row in store.rows(tuple(together)):
        together[row.entry.person].append(row)
    other, own, people = [], [], []
    for start in range(0, len(rows), BLOCK):
        part = rows[start : start + BLOCK]
        matches = store.nearest(np.stack([row.entry.vector for row in part]), 2, {})
        for row, nearest in zip(part, matches, strict=True):
            nonmated = next(match for match in nearest if match.person != row.entry.person)
            other.append(nonmated.score)
            people.append((row.entry.person, nonmated.person))
            own.append(_own(row, together[row.entry.person]))
    return NonmatedSearches(np.array(other), np.array(own), np.array(people))


def _own(row: Row, photos: list[Row]) -> float:
    """The best score of a photo with the other photos of its person; NaN if there is none."""
    rest = [other.entry.vector for other in photos if other.number != row.number]
    return float((np.stack(rest).astype(np.float64) @ row.entry.vector).max()) if rest else math.nan


def _value(other: NDArray[np.float64], fpir: float, confidence: float | None) -> float:
    """Midway between the lowest accepted score and the next, so that rounding decides nothing."""
    try:
        allowed = allowed_at(fpir, other.size, confidence)
    except Undefined:
        raise Undefined(
            f"{other.size:,} enrolled photos cannot resolve a false-positive rate of {fpir:g}: "
            f"it takes at least {math.ceil(round(1 / fpir, 9)):,}; enrol more, or ask for a higher rate"
        ) from None
    return accepting_at_most(other, allowed)


def _similar(result: NonmatedSearches) -> tuple[SimilarPeople, ...]:
    best: dict[tuple[str, str], float] = {}
    for place in np.argsort(-result.other, kind="stable"):
        a, b = sorted(map(str, result.people[place]))
        best.setdefault((a, b), float(result.other[place]))
        if len(best) == SHOWN_PAIRS:
            break
    return tuple(SimilarPeople(a=a, b=b, score=score) for (a, b), score in best.items())
