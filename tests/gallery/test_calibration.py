"""When somebody is unknown, chosen from the enrolled."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import genpareto

from facewright.errors import BundleError, Undefined, UsageError
from facewright.files import as_record
from facewright.gallery.calibration import DEFAULT_FPIR, Decisions, choose, search_enrolled
from facewright.gallery.entries import Entry, ModelSignature
from facewright.gallery.sqlite import SqliteStore
from facewright.metrics.impostor_tail import _moments, compare_people, fit, histograms, scores_of, threshold_for
from facewright.metrics.intervals import clopper_pearson
from facewright.metrics.thresholds import Threshold
from facewright.recognition import Recognizer

SIGNATURE = ModelSignature(fingerprint="a" * 32, model="patchnet", crop=1.0, flip=False, width=2)


def turned(person: str, degrees: float) -> Entry:
    """A photo whose cosine with another is that of the angle between them."""
    angle = math.radians(degrees)
    return Entry(person, np.array([math.cos(angle), math.sin(angle)], np.float32), f"{degrees}")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    made = SqliteStore(tmp_path / "g.gallery", SIGNATURE)
    yield made
    made.close()


def cosine(degrees: float) -> float:
    return math.cos(math.radians(degrees))


def test_each_photo_is_looked_up_as_if_its_person_were_a_stranger(store: SqliteStore) -> None:
    store.add([turned("al", 0), turned("al", 10), turned("bo", 40), turned("cy", 100)])
    found = search_enrolled(store, 10, 0)
    np.testing.assert_allclose(found.other, [cosine(40), cosine(30), cosine(30), cosine(60)], atol=1e-6)
    np.testing.assert_allclose(found.own, [cosine(10), cosine(10), np.nan, np.nan], atol=1e-6)
    assert found.people.tolist() == [["al", "bo"], ["al", "bo"], ["bo", "al"], ["cy", "bo"]]


CHOSEN = {  # rate asked for -> threshold, midway between neighbouring scores; achieved
    0.5: ((cosine(30) + cosine(40)) / 2, 0.5),
    0.75: ((cosine(40) + cosine(60)) / 2, 0.75),
    0.99: ((cosine(40) + cosine(60)) / 2, 0.75),
    0.25: (cosine(30), 0.0),  # two searches tie for the best score: neither may be accepted, so just above it
}


@pytest.mark.parametrize("fpir", CHOSEN)
def test_chosen(store: SqliteStore, fpir: float) -> None:
    store.add([turned("al", 0), turned("al", 10), turned("bo", 40), turned("cy", 100)])
    chosen = choose(store, fpir)
    value, achieved = CHOSEN[fpir]
    assert chosen.value == pytest.approx(value, abs=1e-6) and chosen.far.value == achieved
    assert (chosen.impostors, chosen.genuine) == (4, 2)
    assert chosen.tar is not None and chosen.tar.value == 1.0
    assert (chosen.people, chosen.entries) == (3, 4)
    assert [(one.a, one.b) for one in chosen.similar_people] == [("al", "bo"), ("bo", "cy")]
    assert as_record(chosen.to_dict(), Threshold, "a test") == chosen
    assert chosen.few_people is (fpir < 1 / 3)


def test_one_photo_each_says_nothing_of_finding_them(store: SqliteStore) -> None:
    store.add([turned("al", 0), turned("bo", 40), turned("cy", 100)])
    assert choose(store, 0.4).tar is None


REFUSED = [  # enrolled, rate -> exception, a word
    ([], 0.5, Undefined, "two people"),
    ([turned("al", 0), turned("al", 9)], 0.5, Undefined, "two people"),
    ([turned("al", 0), turned("bo", 9)], 0.01, Undefined, "10 people"),
    ([turned(f"p{i}", 20 * i) for i in range(12)] + [turned("p12", 0.01), turned("p12", 220)], 0.001, Undefined, "p0"),
    ([turned("al", 0), turned("bo", 9)], 0.0, UsageError, "rate"),
    ([turned("al", 0), turned("bo", 9)], 1.0, UsageError, "rate"),
    ([turned("al", 0), turned("bo", 9)], math.nan, UsageError, "rate"),
]


@pytest.mark.parametrize(("entries", "fpir", "error", "word"), REFUSED)
def test_refused(store: SqliteStore, entries: list[Entry], fpir: float, error: type[Exception], word: str) -> None:
    store.add(entries)
    with pytest.raises(error, match=word):
        choose(store, fpir)


def test_of_many_some_are_looked_up_and_the_same_ones_each_time(store: SqliteStore) -> None:
    store.add([turned(f"p{i % 20}", i * 1.7) for i in range(100)])
    one, two, all_of_them = search_enrolled(store, 30, 0), search_enrolled(store, 30, 0), search_enrolled(store, 100, 0)
    assert one.other.size == 30 and all_of_them.other.size == 100
    np.testing.assert_array_equal(one.people, two.people)


# By the tail of the scores, where photos cannot be counted.

WIDTH = 64


def face(rng: np.random.Generator, center: NDArray[np.float64], noise: float = 0.6) -> NDArray[np.float32]:
    vector = center + noise * rng.standard_normal(WIDTH) / math.sqrt(WIDTH)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def centers(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    drawn = rng.standard_normal((count, WIDTH))
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True))


def prior_of(rng: np.random.Generator, count: int = 1_100) -> Threshold:
    sides = [np.stack([face(rng, center) for center in centers(rng, count)]) for _ in range(2)]
    impostor = (sides[0] * sides[1]).sum(1)
    rate = clopper_pearson(11, count)
    return Threshold(
        value=0.5, rule="a test", far=rate, impostors=count, data="dev", histograms=histograms(impostor + 0.5, impostor)
    )


@pytest.mark.parametrize(("people", "with_prior"), [(4, True), (20, True), (20, False), (60, False)])
def test_with_confidence_the_rate_is_kept(tmp_path: Path, people: int, with_prior: bool) -> None:
    kept, got = 0, []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        enrolled = centers(rng, people)
        vectors = [(f"p{who:03d}", face(rng, enrolled[who])) for who in range(people) for _ in range(3)]
        signature = SIGNATURE.model_copy(update={"width": WIDTH})
        with contextlib.closing(SqliteStore(tmp_path / f"{seed}.gallery", signature)) as store:
            store.add([Entry(name, vector, str(i)) for i, (name, vector) in enumerate(vectors)])
            chosen = choose(store, 0.01, confidence=0.9, prior=prior_of(rng) if with_prior else None)
        unknown = np.stack([face(rng, center) for center in centers(rng, 2_000)])
        scores = (unknown @ np.stack([vector for _, vector in vectors]).T).max(axis=1)
        got.append(float((scores >= chosen.value).mean()))
        kept += got[-1] <= 0.02
    assert kept >= 9 and np.mean(got) < 0.012
    assert chosen.far_target == 0.01 and chosen.confidence == 0.9 and "90 %" in chosen.rule


def test_more_people_need_a_higher_threshold() -> None:
    rng = np.random.default_rng(0)
    people = np.repeat(np.arange(30), 2)
    vectors = np.stack([face(rng, center) for center in np.repeat(centers(rng, 30), 2, axis=0)])
    tails = fit(compare_people(vectors, people), np.zeros(0))
    values = [threshold_for(tails, count, 0.01, None) for count in (1, 10, 100, 1_000)]
    assert values == sorted(values) and values[0] < values[-1]
    for count, value in zip((1, 10, 100, 1_000), values, strict=True):
        assert tails.fpir(value, count).mean() == pytest.approx(0.01, rel=0.01)
        assert threshold_for(tails, count, 0.01, 0.9) > value
    one = 1 - (1 - tails.fpir(values[0], 1)) ** 100
    np.testing.assert_allclose(tails.fpir(values[0], 100), one, rtol=1e-9)


def test_the_moments_find_a_generalized_pareto_tail() -> None:
    drawn = np.sort(genpareto.rvs(-0.15, scale=0.1, size=4_000, random_state=0))
    share, scale, shape = _moments(np.ones((1, drawn.size)), drawn, np.array([8_000.0]))
    assert share == 0.5 and scale == pytest.approx(0.1, rel=0.05) and shape == pytest.approx(-0.15, abs=0.05)


def test_a_histogram_gives_its_scores_back() -> None:
    scores = np.random.default_rng(0).normal(0.1, 0.1, 500)
    again = scores_of(histograms(scores, scores))
    assert again.size == 500 and np.abs(np.sort(scores) - again).max() < 0.02 and scores_of(None).size == 0


def test_few_people_get_a_default_and_it_is_said(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with contextlib.closing(
        SqliteStore(tmp_path / "f.gallery", SIGNATURE.model_copy(update={"width": WIDTH}))
    ) as store:
        store.add([Entry(f"p{i % 4}", face(rng, center), str(i)) for i, center in enumerate([*centers(rng, 4)] * 2)])
        chosen = choose(store, 0.001)
    assert chosen.rule.startswith("conservative default") and chosen.far.value == 0.0
    assert chosen.tar is not None and chosen.tar.value == 1.0


def test_the_default_follows_the_people_enrolled(store: SqliteStore) -> None:
    def no_model() -> Recognizer:
        raise BundleError("the model is not here")

    store.add([turned(f"p{number % 10}", 17.0 * (number % 10) + number // 10) for number in range(20)])
    decisions = Decisions(store, no_model)
    first = decisions.threshold()
    assert first == choose(store, DEFAULT_FPIR) and decisions.threshold() is first
    store.add([turned("di", 180), turned("di", 181)])
    assert decisions.threshold() == choose(store, DEFAULT_FPIR) != first


def test_equal_people_are_told_apart_by_no_threshold(tmp_path: Path) -> None:
    with contextlib.closing(SqliteStore(tmp_path / "e.gallery", SIGNATURE)) as store:
        store.add([Entry(f"p{who}", np.array([1, 0], np.float32), str(who)) for who in range(12)])
        with pytest.raises(Undefined):
            choose(store, 0.01)
