"""What every store of enrolled faces must do. A new store is one more line in `STORES`, and passes all of this."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from facewright.errors import DataError, FacewrightError, GalleryError, UsageError
from facewright.gallery import open_store
from facewright.gallery.entries import Entry, ModelSignature
from facewright.gallery.sqlite import SqliteStore
from facewright.gallery.store import GalleryStore

WIDTH = 16
SIGNATURE = ModelSignature(fingerprint="a" * 32, model="patchnet", crop=1.0, flip=False, width=WIDTH)
Opener = Callable[[ModelSignature | None], GalleryStore]  # opens the same gallery each time, as another process would

STORES = ("sqlite", "postgres", "postgres by index")


def unit(*numbers: float) -> NDArray[np.float32]:
    vector = np.zeros(WIDTH)
    vector[: len(numbers)] = numbers
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def entry(person: str, *numbers: float, crop: bytes | None = None, **metadata: str) -> Entry:
    return Entry(person, unit(*numbers), repr(numbers), f"{person}.jpg", metadata, crop)


@pytest.fixture(params=STORES)
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    if request.param == "sqlite":
        return lambda pin: SqliteStore(tmp_path / "new" / "gallery.db", pin)
    address = request.getfixturevalue("server").address() + "&index=hnsw" * request.param.endswith("by index")
    return lambda pin: open_store(address, pin)


@pytest.fixture
def store(opener: Opener) -> Iterator[GalleryStore]:
    made = opener(SIGNATURE)
    yield made
    made.close()


def names(store: GalleryStore, probe: NDArray[np.float32], k: int = 9, **where: str) -> list[str]:
    return [match.person for match in store.nearest(probe[None], k, where)[0]]


def contents(store: GalleryStore) -> list[tuple[object, ...]]:
    return [
        (row.number, e.person, e.photo, dict(e.metadata), e.digest, e.vector.tobytes(), store.crop(row.number))
        for row in store.rows()
        for e in [row.entry]
    ]


def test_a_new_one_is_empty_and_pinned(store: GalleryStore) -> None:
    state = store.header()
    assert (state.signature, state.entries, state.threshold) == (SIGNATURE, 0, None)
    assert store.people() == {} and list(store.rows()) == [] and names(store, unit(1)) == []


def test_none_is_made_by_looking(opener: Opener) -> None:
    with pytest.raises(GalleryError, match="no such gallery"):
        opener(None)


def test_what_was_enrolled_is_there_after_opening_it_again(store: GalleryStore, opener: Opener) -> None:
    numbers = store.add([entry("bo", 1, crop=b"png of bo", team="a"), entry("al", 0, 1)])
    before = contents(store)
    store.close()
    again = opener(SIGNATURE.model_copy(update={"fingerprint": "b" * 32}))  # one that is there keeps its pin
    assert again.header().signature == SIGNATURE and again.header().entries == 2
    assert contents(again) == before
    assert [row[0] for row in before] == numbers and before[0][6] == b"png of bo" and before[1][6] is None
    assert before[0][5] == unit(1).tobytes() and before[0][3] == {"team": "a"}
    assert again.people() == {"al": 1, "bo": 1}
    assert [row.entry.person for row in again.rows(["al"])] == ["al"]
    again.close()


def test_the_same_photo_of_a_person_is_enrolled_once(store: GalleryStore) -> None:
    first, twice, other = store.add([entry("bo", 1), entry("bo", 1), entry("al", 1)])
    assert first is not None and twice is None and other is not None
    revision = store.header().revision
    assert store.add([entry("bo", 1)]) == [None] and store.header().revision == revision


REFUSED = {  # a broken entry -> the exception, a word of it
    "no name": (replace(entry("bo", 1), person=""), UsageError, "name"),
    "space around it": (replace(entry("bo", 1), person=" bo"), UsageError, "space"),
    "too long": (replace(entry("bo", 1), person="b" * 1001), UsageError, "1000"),
    "not UTF-8": (replace(entry("bo", 1), person="b\udc80"), UsageError, "UTF-8"),
    "a zero": (replace(entry("bo", 1), photo="b\0"), UsageError, "zero"),
    "metadata without a key": (replace(entry("bo", 1), metadata={"": "x"}), UsageError, "key"),
    "another width": (replace(entry("bo", 1), vector=np.ones(1, np.float32)), DataError, r"\(16,\)"),
    "another type": (replace(entry("bo", 1), vector=unit(1).astype(np.float64)), DataError, "float32"),
    "no unit vector": (replace(entry("bo", 1), vector=unit(1) * 2), DataError, "length 1"),
    "not a number": (replace(entry("bo", 1), vector=unit(1) * np.float32("nan")), DataError, "length 1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_one_broken_entry_and_nothing_is_enrolled(store: GalleryStore, case: str) -> None:
    broken, error, word = REFUSED[case]
    with pytest.raises(error, match=word):
        store.add([entry("al", 0, 1), broken])
    assert store.header().entries == 0 and store.people() == {} and names(store, unit(0, 1)) == []


def test_search_is_by_person_best_first_and_ties_by_name(store: GalleryStore) -> None:
    store.add([entry("cy", 1, 1), entry("bo", 1, 0.1), entry("bo", 1, 0.2), entry("al", 1, 1, 0), entry("di", -1)])
    (found,) = store.nearest(unit(1)[None], 9, {})
    assert [match.person for match in found] == ["bo", "al", "cy", "di"]
    assert found[0].score == pytest.approx(1 / 1.01**0.5, abs=1e-7) and found[-1].score == -1.0
    assert found[0].number == 2 and found[0].photo == "bo.jpg"
    assert names(store, unit(1), k=2) == ["bo", "al"]
    assert [len(one) for one in store.nearest(np.stack([unit(1), unit(0, 1)]), 1, {})] == [1, 1]


def test_filters_want_every_key_and_value(store: GalleryStore) -> None:
    store.add([entry("al", 1, team="a", floor="1"), entry("bo", 1, 1, team="a"), entry("cy", 0, 1, team="b")])
    assert names(store, unit(1), team="a") == ["al", "bo"]
    assert names(store, unit(1), team="a", floor="1") == ["al"]
    assert names(store, unit(1), team="c") == [] == names(store, unit(1), hall="a")


@pytest.mark.parametrize(("probes", "k"), [(np.ones((1, WIDTH + 1)), 1), (np.ones(WIDTH), 1), (np.ones((1, WIDTH)), 0)])
def test_no_search(store: GalleryStore, probes: NDArray[np.float64], k: int) -> None:
    with pytest.raises(UsageError):
        store.nearest(probes.astype(np.float32), k, {})


@pytest.mark.parametrize("opener", ["sqlite", "postgres"], indirect=True)
def test_search_is_exact_among_many(store: GalleryStore) -> None:
    drawn = np.random.default_rng(0).standard_normal((3_000, WIDTH))
    vectors = (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)
    people = [f"p{i % 700:03d}" for i in range(3_000)]
    store.add([Entry(who, row, str(i)) for i, (who, row) in enumerate(zip(people, vectors, strict=True))])
    probes = vectors[:20]
    for probe, found in zip(probes, store.nearest(probes, 10, {}), strict=True):
        best: dict[str, float] = {}
        for who, score in zip(people, vectors.astype(np.float64) @ probe.astype(np.float64), strict=True):
            best[who] = max(best.get(who, -2.0), float(score))
        expected = sorted(best.items(), key=lambda item: (-item[1], item[0]))[:10]
        assert [match.person for match in found] == [who for who, _ in expected]
        np.testing.assert_allclose([match.score for match in found], [score for _, score in expected], atol=1e-12)
    assert len(store.nearest(probes[:1], 5_000, {})[0]) == 700


def test_delete_people_and_single_entries(store: GalleryStore) -> None:
    numbers = store.add([entry("al", 1, crop=b"al"), entry("al", 1, 1), entry("bo", 0, 1), entry("cy", 0, 0, 1)])
    assert store.delete(["al", "nobody"]) == 2
    assert store.delete(numbers=[number for number in numbers[3:] if number is not None]) == 1
    assert store.people() == {"bo": 1} and names(store, unit(1)) == ["bo"] and store.header().entries == 1
    assert store.delete(["al"]) == 0
    assert store.crop(numbers[0] or 0) is None
    (new,) = store.add([entry("al", 1)])
    assert new not in numbers  # a number is given once


def test_what_another_process_does_is_seen_at_once(store: GalleryStore, opener: Opener) -> None:
    store.add([entry("al", 1)])
    other = opener(None)
    assert names(other, unit(1)) == ["al"]
    store.add([entry("bo", 1, 0.1)])
    assert names(other, unit(1)) == ["al", "bo"]
    store.delete(["al"])
    store.add([entry("cy", 1, 1)])
    assert names(other, unit(1)) == ["bo", "cy"] and other.people() == {"bo": 1, "cy": 1}
    other.set_threshold({"value": 0.5})
    assert store.header().threshold == {"value": 0.5} and names(store, unit(1)) == ["bo", "cy"]
    other.close()


def test_other_vectors_take_the_place_of_all(store: GalleryStore, opener: Opener) -> None:
    numbers = [number or 0 for number in store.add([entry("al", 1, crop=b"al", team="a"), entry("bo", 0, 1)])]
    store.set_threshold({"value": 0.5})
    pin = SIGNATURE.model_copy(update={"fingerprint": "c" * 32, "width": 2})
    swapped = [np.array(pair, np.float32) for pair in ([0, 1], [1, 0])]
    other = opener(None)
    with pytest.raises(GalleryError, match="again"):
        store.reembed(pin, {numbers[0]: swapped[0]})
    with pytest.raises(DataError):
        store.reembed(pin, dict(zip(numbers, [unit(1), unit(1)], strict=True)))
    assert store.header().signature == SIGNATURE
    store.reembed(pin, dict(zip(numbers, swapped, strict=True)))
    for one in (store, other):
        assert one.header().signature == pin and one.header().threshold is None
        assert [match.person for match in one.nearest(np.array([[1, 0]], np.float32), 1, {})[0]] == ["bo"]
        assert one.crop(numbers[0]) == b"al" and next(one.rows()).entry.metadata == {"team": "a"}
    store.check()
    other.close()


def test_many_threads_share_one(store: GalleryStore) -> None:
    failures: list[FacewrightError] = []

    def enrol(who: int) -> None:
        try:
            for i in range(5):
                store.add([entry(f"p{who}", who + 1, i)])
                names(store, unit(1))
        except FacewrightError as error:
            failures.append(error)

    threads = [threading.Thread(target=enrol, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures and store.header().entries == 20
    store.check()


def test_renamed_and_merged(store: GalleryStore, opener: Opener) -> None:
    numbers = store.add(
        [entry("al", 1, crop=b"al"), entry("bo", 0, 1, crop=b"bo"), entry("bo", 1), entry("cy", 0, 0, 1)]
    )
    other = opener(None)
    assert store.rename(["bo", "nobody"], "al") == 2  # of the photo that both have one entry stays
    assert store.people() == {"al": 2, "cy": 1} == other.people() and store.header().entries == 3
    assert names(other, unit(0, 1)) == ["al", "cy"] and store.crop(numbers[1] or 0) == b"bo"
    assert store.rename([], "al") == 0 and store.rename(["al"], "al") == 0
    assert store.rename(["al"], 'di "x" é') == 2 and other.people() == {"cy": 1, 'di "x" é': 2}
    store.check()
    other.close()


def test_the_log_has_kinds_and_counts_and_no_names(store: GalleryStore, opener: Opener) -> None:
    assert store.log() == []
    store.add([entry("al", 1), entry("bo", 0, 1)])
    store.add([entry("al", 1)])  # nothing new
    store.set_threshold({"value": 0.5})
    store.rename(["al"], "cy")
    store.delete(["bo"])
    store.delete(["bo"])
    other = opener(None)
    kinds = [(one.action, one.entries, one.first, one.last) for one in other.log()]
    assert kinds == [
        ("enroll", 2, 1, 2),
        ("calibrate", 2, None, None),
        ("rename", 1, None, None),
        ("delete", 1, None, None),
    ]
    assert not any(name in repr(other.log()) for name in ("'al'", "'bo'", "'cy'"))
    other.close()
