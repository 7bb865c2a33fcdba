"""When somebody is unknown, chosen from the enrolled."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from facewright.errors import Undefined, UsageError
from facewright.files import as_record
from facewright.gallery.calibration import choose, search_enrolled
from facewright.gallery.sqlite import SqliteStore
from facewright.gallery.store import Entry, ModelSignature
from facewright.metrics.thresholds import Threshold

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
    ([turned("al", 0), turned("bo", 9)], 0.01, Undefined, "at least 100"),
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
