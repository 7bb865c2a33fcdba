"""Thresholds from which on a face is an enrolled person: chosen from the enrolled people, given, stored, or a default.

The target is a false-positive identification rate (FPIR): the share of unknown people who are identified as enrolled
ones. The threshold follows from the tail of the impostor scores (`impostor_tail`). What was achieved is counted: each
enrolled photo is searched as if its person were not enrolled. The FPIR grows with the number of people.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facewright import images
from facewright.errors import FacewrightError, GalleryDamaged, Undefined, UsageError
from facewright.faces.quality import LOW, SHARP, relative_sharpness
from facewright.files import as_record
from facewright.gallery.entries import Row
from facewright.gallery.store import GalleryStore
from facewright.images import Pixels
from facewright.metrics.impostor_tail import Comparisons, compare_people, fit, scores_of, threshold_for
from facewright.metrics.intervals import clopper_pearson
from facewright.metrics.people import People, identity_bootstrap, weighted_share
from facewright.metrics.thresholds import GALLERY, SimilarPeople, Threshold, accepting_at_most, allowed_at, rule_of
from facewright.recognition import Recognizer

MAX_SEARCHES = 10_000  # entries searched, drawn at random
BLOCK = 256  # searched at a time
SHOWN_PAIRS = 3  # most similar pairs of people in the result
SCORE = "cosine with the most alike person"
METHOD = (
    "tail of the scores between each enrolled photo and each other person{}, FPIR = 1 - (1 - FMR)^N, {}. far: enrolled "
    "photos searched among the other people. tar: own person first and accepted, by the other photos"
)
COUNTED = (
    "each enrolled photo searched among the other people; most of them accepted within the target, no interpolation, "
    "ties together. tar: own person first and accepted, by the other photos"
)
DEFAULT_METHOD = (
    "conservative default, no rate is known: {:g} standard deviations above the highest score of two enrolled people; "
    "far, tar: of enrolled photos"
)
FEW_PEOPLE = 10  # fewer have no tail of their own; the model's prior is needed
FEWEST = 20  # comparisons for the default
DEVIATIONS = 2.5  # of the default above the highest score of two people
COMPARED_PEOPLE, COMPARED_PHOTOS = 250, 20  # for the tail: people drawn at random, and photos of each


@dataclass(frozen=True, eq=False)
class NonmatedSearches:
    """Searches of enrolled photos."""

    other: NDArray[np.float64]  # (Q,) the best score of another person
    own: NDArray[np.float64]  # (Q,) of another photo of the same person; NaN if there is none
    people: NDArray[np.str_]  # (Q, 2) the photo's person, and the other person with the best score


def choose(
    store: GalleryStore,
    fpir: float,
    *,
    confidence: float | None = None,
    prior: Threshold | None = None,
    searches: int = MAX_SEARCHES,
    seed: int = 0,
) -> Threshold:
    """Choose the threshold that identifies at most the share `fpir` of unknown people as enrolled ones.

    Args:
        fpir: in (0, 1). confidence: in (0, 1), that it is met; None: it is met on average.
        prior: a threshold of the model with the histogram of impostor scores.
        searches: maximum number of enrolled photos searched. seed: of every random choice.
    Raises:
        Undefined: too few people for a rate and for a safe default; or no enrolled photo is identified at that
            threshold, because two enrolled people are too similar (names them).
    """
    if not 0 < fpir < 1:
        raise UsageError(f"expected a false-positive rate in (0, 1), got {fpir}")
    enrolled = store.people()
    if len(enrolled) < 2:
        raise Undefined(
            f"{store.location}: a threshold takes at least two people, {len(enrolled)} enrolled; enroll more"
        )
    result = search_enrolled(store, searches, seed)
    value, rule = _value(store, result, fpir, confidence, prior, seed)
    achieved, similar = _achieved(result, value), _similar(result)
    if achieved["tar"] is not None and achieved["tar"].value == 0:
        raise Undefined(
            f"{store.location}: at the threshold {value:.4f} not one enrolled photo finds its person. The most "
            f"similar people are {similar[0].a} and {similar[0].b} ({similar[0].score:.4f}): if they are one person, "
            "merge them (facewright gallery merge); else enroll more photos or ask for a higher rate"
        )
    return Threshold(
        value=value,
        purpose=GALLERY,
        score=SCORE,
        rule=rule,
        far_target=float(fpir),
        confidence=confidence,
        **achieved,
        data=f"{store.header().entries:,} enrolled photos of {len(enrolled):,} people"
        + (f"; prior: {prior.data}" if prior is not None else ""),
        people=len(enrolled),
        entries=store.header().entries,
        similar_people=similar,
    )


def _achieved(searches: NonmatedSearches, value: float) -> dict[str, Any]:
    """The rates at a threshold, and what they are over, as `Threshold` calls them."""
    share = weighted_share(searches.other >= value, np.ones(searches.other.size, bool))
    names, numbers = np.unique(searches.people, return_inverse=True)
    pairs = People(numbers.reshape(-1, 2).astype(np.int64), names.size)
    own = ~np.isnan(searches.own)
    right = (searches.own >= value) & (searches.own > searches.other)
    return {
        "far": clopper_pearson(int((searches.other >= value).sum()), searches.other.size),
        "far_by_identity": identity_bootstrap(share, pairs)[0],
        "tar": clopper_pearson(int(right[own].sum()), int(own.sum())) if own.any() else None,
        "impostors": searches.other.size,
        "genuine": int(own.sum()),
    }


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


def _value(
    store: GalleryStore,
    searches: NonmatedSearches,
    fpir: float,
    confidence: float | None,
    prior: Threshold | None,
    seed: int,
) -> tuple[float, str]:
    """The threshold, and the rule it was chosen by."""
    enrolled = store.people()
    comparisons = _compare(store, enrolled, seed)
    known = scores_of(None if prior is None else prior.histograms)
    if known.size or len(enrolled) >= FEW_PEOPLE:
        value = threshold_for(fit(comparisons, known, seed), len(enrolled), fpir, confidence)
        by = "on average" if confidence is None else f"with {100 * confidence:g} % confidence"
        return value, METHOD.format(" and of the model's impostor pairs" if known.size else "", by)
    try:
        allowed = allowed_at(fpir, searches.other.size, confidence)
        return accepting_at_most(searches.other, allowed), rule_of(COUNTED, confidence)
    except Undefined:
        pass
    if comparisons.scores.size < FEWEST:
        raise Undefined(
            f"{store.location}: {len(enrolled)} people are too few to know a false-positive rate of {fpir:g}, and the "
            f"model has no impostor scores: enroll {FEW_PEOPLE} people, or calibrate the model on pairs (facewright "
            "calibrate MODEL --pairs PAIRS)"
        )
    value = float(comparisons.scores.max()) + DEVIATIONS * float(comparisons.scores.std())
    return min(value, 1.0), DEFAULT_METHOD.format(DEVIATIONS)


def _compare(store: GalleryStore, enrolled: Mapping[str, int], seed: int) -> Comparisons:
    names = sorted(enrolled)
    if len(names) > COMPARED_PEOPLE:
        drawn = np.random.default_rng(seed).choice(len(names), COMPARED_PEOPLE, replace=False)
        names = [names[place] for place in sorted(drawn.tolist())]
    of: dict[str, list[NDArray[np.float32]]] = {name: [] for name in names}
    for row in store.rows(names):
        if len(of[row.entry.person]) < COMPARED_PHOTOS:
            of[row.entry.person].append(row.entry.vector)
    people = np.repeat(np.arange(len(names)), [len(vectors) for vectors in of.values()])
    return compare_people(np.stack([vector for vectors in of.values() for vector in vectors]), people)


def _similar(result: NonmatedSearches) -> tuple[SimilarPeople, ...]:
    best: dict[tuple[str, str], float] = {}
    for place in np.argsort(-result.other, kind="stable"):
        a, b = sorted(map(str, result.people[place]))
        best.setdefault((a, b), float(result.other[place]))
        if len(best) == SHOWN_PAIRS:
            break
    return tuple(SimilarPeople(a=a, b=b, score=score) for (a, b), score in best.items())


DEFAULT_FPIR = 0.01  # of a gallery without a threshold


class Decisions:
    """The thresholds of a gallery; `recognizer` loads the gallery's model, where it is needed."""

    def __init__(self, store: GalleryStore, recognizer: Callable[[], Recognizer]) -> None:
        self._store, self._recognizer = store, recognizer
        self._default: tuple[int, Threshold] | None = None  # of a revision of the gallery

    def for_faces(self, given: float | None) -> tuple[float, float | None]:
        """The given threshold, for every face; or the gallery's, and its own for faces of low quality."""
        if given is not None:
            if not math.isfinite(given):
                raise UsageError(f"expected a finite threshold, got {given}")
            return given, None
        chosen = self.threshold()
        return chosen.value, chosen.poor_value

    def threshold(self) -> Threshold:
        """The threshold that `calibrate` has stored; without one a conservative default, which is not stored.

        The default is for `DEFAULT_FPIR`, from the people enrolled now and the impostor scores of the model; where
        these are too few, it is the model's own threshold for pairs. Raises Undefined: there is none of these.
        """
        stored = self.stored
        if stored is not None:
            return stored
        revision = self._store.header().revision
        try:
            if self._default is None or self._default[0] != revision:
                self._default = revision, choose(self._store, DEFAULT_FPIR, prior=self._prior())
            return self._default[1]
        except Undefined as error:
            own = self._recognizer().threshold()
            if own is None:
                where = self._store.location
                if self._store.header().entries == 0:
                    raise Undefined(f"{where}: the gallery is empty; enroll people first") from None
                raise Undefined(
                    f"{where}: the gallery has no threshold, so no face can be called unknown, and "
                    f"there is no default: {str(error).removeprefix(f'{where}: ')}. Choose one (facewright "
                    "gallery calibrate), or give one (--threshold)"
                ) from None
            return own

    @property
    def stored(self) -> Threshold | None:
        """The threshold that `calibrate` has stored."""
        facts = self._store.header().threshold
        source = f"{self._store.location}: its threshold"
        return None if facts is None else as_record(dict(facts), Threshold, source, error=GalleryDamaged)

    def calibrate(self, fpir: float, confidence: float | None = None) -> Threshold:
        """Choose the threshold from the enrolled people and store it; see `choose`.

        If the model can be loaded, its impostor scores are used too, and kept crops give a threshold for poor faces.
        """
        chosen = choose(self._store, fpir, confidence=confidence, prior=self._prior())
        poor = None
        with suppress(FacewrightError, OSError):  # the model is not on this machine
            poor = poor_threshold(self._store, self._recognizer(), fpir, confidence, chosen.value)
        if poor is not None:
            chosen = chosen.replace(poor_value=poor[0], poor_searches=poor[1])
        self._store.set_threshold(chosen.to_dict())
        return chosen

    def _prior(self) -> Threshold | None:
        """A threshold of the model that has the histogram of its impostor scores."""
        try:
            thresholds = self._recognizer().thresholds()
        except (FacewrightError, OSError):  # the model is not on this machine
            return None
        return next((one for one in reversed(thresholds) if one.histograms is not None), None)


MAX_CROPS = 200  # searched for the threshold for poor faces, drawn at random
FACTORS = (3.0, 6.0, 12.0)  # first reduction, drawn from the first to the second; the last is the largest
STEPS = 6


def poor_threshold(
    store: GalleryStore, recognizer: Recognizer, fpir: float, confidence: float | None, at_least: float, seed: int = 0
) -> tuple[float, int] | None:
    """Choose the threshold for faces of low quality, and count the searches; None where fewer than 20 crops are kept.

    Blurred and tiny faces of different people come to look alike to a network: they have an impostor distribution of
    their own. It is counted on the gallery itself: crops that were kept (`enroll --keep-crops`) are reduced and
    enlarged until their quality is low, and each is searched among the other people.

    Args:
        at_least: the gallery's threshold, which this one is never below.
    """
    best = poor_searches(store, recognizer, seed)
    if best.size < FEWEST:
        return None
    try:
        allowed = allowed_at(fpir, best.size, confidence)
    except Undefined:
        allowed = 0
    return max(at_least, accepting_at_most(best, allowed)), best.size


def poor_searches(store: GalleryStore, recognizer: Recognizer, seed: int = 0) -> NDArray[np.float64]:
    """Return the best score of poor copies of enrolled faces among the other people, (Q,)."""
    drawn = np.random.default_rng(seed)
    kept = [row for row in store.rows() if row.has_crop]
    places = sorted(drawn.permutation(len(kept))[:MAX_CROPS].tolist())
    people, copies = list[str](), list[Pixels]()
    for row in (kept[place] for place in places):
        crop = images.read(store.crop(row.number) or b"", name=row.entry.photo)
        copy = poor_copy(crop, drawn.uniform(*FACTORS[:2]))
        if copy is not None:
            people.append(row.entry.person)
            copies.append(copy)
    if not copies:
        return np.zeros(0)
    found = store.nearest(recognizer.embed_crops(copies), 2, {})
    best = [
        next((match.score for match in matches if match.person != person), np.nan)
        for person, matches in zip(people, found, strict=True)
    ]
    return np.array([score for score in best if np.isfinite(score)])


def poor_copy(crop: Pixels, factor: float) -> Pixels | None:
    """Reduce and enlarge a crop, up to 12 times, until its quality is low; None where it stays above."""
    image = Image.fromarray(crop)
    for by in np.geomspace(factor, FACTORS[2], STEPS):
        small = (max(2, round(image.width / by)), max(2, round(image.height / by)))
        copy = np.asarray(image.resize(small, Image.Resampling.BOX).resize(image.size, Image.Resampling.BICUBIC))
        if relative_sharpness(copy) / SHARP < LOW:
            return copy
    return None
