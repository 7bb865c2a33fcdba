"""When somebody is unknown, chosen from the enrolled themselves.

Each enrolled photo is looked up as if its person were not enrolled: the best score of another person is what a stranger
would have had. The threshold lets at most the asked-for share of these searches find somebody. That share, the
false-positive identification rate (FPIR), belongs to this gallery: it grows with the number of people.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facewright.errors import DataError, Undefined, UsageError
from facewright.gallery.store import GalleryStore, Row
from facewright.metrics.intervals import Rate, clopper_pearson
from facewright.metrics.people import People, identity_bootstrap, weighted_share
from facewright.metrics.thresholds import DIRECTION, Threshold, accepting_at_most
from facewright.metrics.verification import allowed_impostors

SEARCHES = 10_000  # entries looked up at most, drawn at random
BLOCK = 256  # looked up at a time
ALIKE = 3  # pairs of people told
SCORE = "cosine with the most alike person"
METHOD = (
    "each enrolled photo searched among the other people; most of them accepted within the target, no interpolation, "
    "ties together; midway to the next lower score. tar: own person first and accepted, by the other photos"
)


@dataclass(frozen=True)
class Alike:
    """Two people whose photos are so alike that they may be one."""

    a: str
    b: str
    score: float


@dataclass(frozen=True)
class GalleryThreshold:
    """A threshold and the gallery that it was chosen on."""

    threshold: Threshold  # far: the FPIR
    fpir_by_people: Rate | None  # the same with its interval over resampled people, n is theirs
    people: int  # enrolled then
    entries: int
    alike: tuple[Alike, ...]  # the most alike two people, each two once

    @property
    def few_people(self) -> bool:
        """Whether one person alone is more than the share asked for: photos of one are no independent strangers."""
        return self.people * self.threshold.far_target < 1

    def to_dict(self) -> dict[str, Any]:
        """As the gallery keeps it and `gallery calibrate --json` prints it."""
        by_people = None if self.fpir_by_people is None else self.fpir_by_people.to_dict()
        alike = [{"a": one.a, "b": one.b, "score": one.score} for one in self.alike]
        counts = {"people": self.people, "entries": self.entries}
        return {"threshold": self.threshold.to_dict(), "fpir_by_people": by_people, **counts, "alike": alike}

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> GalleryThreshold:
        """The inverse of `to_dict`.

        Raises:
            DataError: the facts are not those of a threshold.
        """
        try:
            by_people = facts["fpir_by_people"]
            return cls(
                Threshold.from_dict(facts["threshold"]),
                None if by_people is None else Rate.from_dict(by_people),
                int(facts["people"]),
                int(facts["entries"]),
                tuple(Alike(str(one["a"]), str(one["b"]), float(one["score"])) for one in facts["alike"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"no gallery's threshold: {type(error).__name__} {error}") from None


@dataclass(frozen=True, eq=False)
class Searches:
    """Enrolled photos, looked up."""

    other: NDArray[np.float64]  # (Q,) the best score of another person
    own: NDArray[np.float64]  # (Q,) of another photo of the same person; NaN where there is none
    people: NDArray[np.str_]  # (Q, 2) whose photo it is, and whose it was taken for


def choose(store: GalleryStore, fpir: float, *, searches: int = SEARCHES, seed: int = 0) -> GalleryThreshold:
    """Choose the threshold that takes at most the share `fpir` of strangers for somebody.

    Args:
        fpir: the target in (0, 1). searches: how many enrolled photos are looked up at most. seed: of their choice.
    Raises:
        Undefined: fewer than two people, or too few photos to resolve the rate (says how many it takes).
        UsageError: no rate.
    """
    if not 0 < fpir < 1:
        raise UsageError(f"expected a false-positive rate in (0, 1), got {fpir}")
    enrolled = store.people()
    if len(enrolled) < 2:
        raise Undefined(f"{store.where}: a threshold takes at least two people, {len(enrolled)} enrolled; enrol more")
    found = look_up(store, searches, seed)
    value = _value(found.other, fpir)
    share = weighted_share(found.other >= value, np.ones(found.other.size, bool))
    names, numbers = np.unique(found.people, return_inverse=True)
    pairs = People(numbers.reshape(-1, 2).astype(np.int64), names.size)
    own = ~np.isnan(found.own)
    right = (found.own >= value) & (found.own > found.other)
    threshold = Threshold(
        value=value,
        score=SCORE,
        direction=DIRECTION,
        far_target=float(fpir),
        far=clopper_pearson(int((found.other >= value).sum()), found.other.size),
        tar=clopper_pearson(int(right[own].sum()), int(own.sum())) if own.any() else None,
        impostors=found.other.size,
        genuine=int(own.sum()),
        data=f"{store.state().entries:,} enrolled photos of {len(enrolled):,} people",
        method=METHOD,
    )
    by_people = identity_bootstrap(share, pairs)[0]
    return GalleryThreshold(threshold, by_people, len(enrolled), store.state().entries, _alike(found))


def look_up(store: GalleryStore, searches: int, seed: int) -> Searches:
    """Look enrolled photos up, each as if its person were not enrolled, and beside it among his other photos."""
    count = store.state().entries
    drawn = set(np.random.default_rng(seed).choice(count, min(count, searches), replace=False).tolist())
    rows = [row for place, row in enumerate(store.rows()) if place in drawn]
    together: dict[str, list[Row]] = {row.entry.person: [] for row in rows}
    for row in store.rows(tuple(together)):
        together[row.entry.person].append(row)
    other, own, people = [], [], []
    for start in range(0, len(rows), BLOCK):
        part = rows[start : start + BLOCK]
        matches = store.nearest(np.stack([row.entry.vector for row in part]), 2, {})
        for row, found in zip(part, matches, strict=True):
            stranger = next(match for match in found if match.person != row.entry.person)
            other.append(stranger.score)
            people.append((row.entry.person, stranger.person))
            own.append(_own(row, together[row.entry.person]))
    return Searches(np.array(other), np.array(own), np.array(people))


def _own(row: Row, photos: list[Row]) -> float:
    """The best score of a photo with the others of its person; NaN where there is none."""
    rest = [other.entry.vector for other in photos if other.number != row.number]
    return float((np.stack(rest).astype(np.float64) @ row.entry.vector).max()) if rest else math.nan


def _value(other: NDArray[np.float64], fpir: float) -> float:
    """Midway between the least score that is accepted and the next, so that rounding decides nothing."""
    try:
        allowed = allowed_impostors(fpir, other.size)
    except Undefined:
        raise Undefined(
            f"{other.size:,} enrolled photos cannot resolve a false-positive rate of {fpir:g}: "
            f"it takes at least {math.ceil(round(1 / fpir, 9)):,}; enrol more, or ask for a higher rate"
        ) from None
    return accepting_at_most(other, allowed)


def _alike(found: Searches) -> tuple[Alike, ...]:
    best: dict[tuple[str, str], float] = {}
    for place in np.argsort(-found.other, kind="stable"):
        a, b = sorted(map(str, found.people[place]))
        best.setdefault((a, b), float(found.other[place]))
        if len(best) == ALIKE:
            break
    return tuple(Alike(a, b, score) for (a, b), score in best.items())
