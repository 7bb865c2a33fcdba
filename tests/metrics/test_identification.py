"""Searches by hand with ties, against plain loops, and a split that keeps its promises."""

import numpy as np
import pytest

from facewright.errors import DataError, EmptyScores, Undefined, UsageError
from facewright.metrics.identification import (
    cmc,
    open_set_at,
    open_set_rates,
    open_set_split,
    search,
    search_embeddings,
)

GALLERY = ["al", "bo", "al", "cy"]
# Each row: a probe's person, its scores with the gallery -> score of its mate, best of the others, rank.
PROBES = [
    ("al", [0.9, 0.2, 0.1, 0.3], (0.9, 0.3, 1)),
    ("al", [0.1, 0.2, 0.8, 0.3], (0.8, 0.3, 1)),  # the better of its two images counts
    ("bo", [0.7, 0.5, 0.6, 0.1], (0.5, 0.7, 2)),  # al stands before it once, with two images
    ("cy", [0.4, 0.4, 0.1, 0.4], (0.4, 0.4, 3)),  # ties stand before the mate
    ("di", [0.6, 0.2, 0.1, 0.1], (None, 0.6, 0)),  # a stranger
    ("ed", [0.1, 0.2, 0.1, 0.1], (None, 0.2, 0)),
]
FOUND = search([row[1] for row in PROBES], [row[0] for row in PROBES], GALLERY)


@pytest.mark.parametrize("i", range(len(PROBES)))
def test_search_by_hand(i) -> None:
    mate, other, rank = PROBES[i][2]
    assert (None if np.isnan(FOUND.mate[i]) else FOUND.mate[i]) == mate
    assert (FOUND.other[i], FOUND.rank[i]) == (other, rank)
    assert FOUND.identities == 3


def test_cumulative_match_by_hand() -> None:
    assert [rate.value for rate in cmc(FOUND)] == [0.5, 0.75, 1.0]  # as many ranks as identities
    assert [rate.n for rate in cmc(FOUND, ranks=1)] == [4]


# Each row: threshold -> non-mated probes accepted of 2, mated probes missed of 4.
@pytest.mark.parametrize(
    ("threshold", "fpir", "fnir"),
    [
        (0.6, 0.5, 0.5),  # a tie with the threshold is accepted; bo and cy are not first
        (0.85, 0.0, 0.75),
        (0.2, 1.0, 0.5),  # however low, who is not first stays missed
        (0.95, 0.0, 1.0),
    ],
)
def test_open_set_by_hand(threshold, fpir, fnir) -> None:
    point = open_set_rates(FOUND, threshold)
    assert (point.fpir.value, point.fnir.value, point.dir) == (fpir, fnir, 1 - fnir)
    assert (point.fpir.n, point.fnir.n, point.identities, point.target) == (2, 4, 3, None)


@pytest.mark.parametrize(("fpir", "expected"), [(0.5, (0.6, 0.5)), (0.99, (0.6, 0.5)), (1.0, (0.2, 1.0))])
def test_the_threshold_of_a_target(fpir, expected) -> None:
    point = open_set_at(FOUND, fpir)
    assert (point.threshold, point.fpir.value) == expected
    assert point.target == fpir
    given = open_set_rates(FOUND, point.threshold)
    assert (given.fpir, given.fnir) == (point.fpir, point.fnir)


def test_non_mated_probes_that_tie_are_refused_together() -> None:
    found = search([[0.9], [0.5], [0.5]], ["al", "x", "y"], ["al"])
    point = open_set_at(found, 0.5)
    assert (point.fpir.value, point.threshold, point.dir) == (0.0, 0.9, 1.0)
    worse = open_set_at(search([[0.5], [0.5], [0.5]], ["al", "x", "y"], ["al"]), 0.5)
    assert (worse.fpir.value, worse.dir) == (0.0, 0.0)


def test_a_target_the_non_mated_probes_cannot_resolve() -> None:
    with pytest.raises(Undefined, match="at least 10"):
        open_set_at(FOUND, 0.1)


def random_people(seed: int = 0, images: int = 300, people: int = 40):
    generator = np.random.default_rng(seed)
    names = generator.integers(people, size=images)
    vectors = generator.normal(size=(people, 16))[names] + generator.normal(size=(images, 16))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), names


def test_search_against_a_loop() -> None:
    vectors, names = random_people()
    split = open_set_split(names, enrolled=2)
    probes = np.concatenate([split.mated, split.nonmated])
    scores = vectors[probes] @ vectors[split.gallery].T
    found = search(scores, names[probes], names[split.gallery])
    for i, probe in enumerate(probes):
        best = {who: scores[i][names[split.gallery] == who].max() for who in names[split.gallery]}
        mate = best.pop(names[probe], None)
        assert found.other[i] == max(best.values())
        if mate is None:
            assert found.rank[i] == 0
        else:
            assert found.mate[i] == mate
            assert found.rank[i] == 1 + sum(score >= mate for score in best.values())


def test_searching_in_blocks_is_searching() -> None:
    vectors, names = random_people(images=2500)
    vectors = np.round(vectors * 64) / 64  # products that are exact, whatever the order of the sum
    probes, gallery = np.arange(100, 2500), np.arange(100)
    blocks = search_embeddings(vectors[probes], names[probes], vectors[gallery], names[gallery])
    whole = search(vectors[probes] @ vectors[gallery].T, names[probes], names[gallery])
    assert np.array_equal(blocks.rank, whole.rank)
    assert np.array_equal(blocks.mate, whole.mate, equal_nan=True)
    assert np.array_equal(blocks.other, whole.other)
    assert blocks.identities == whole.identities


def test_a_split_keeps_its_promises() -> None:
    names = np.array(["single"] + [f"p{i % 30:02}" for i in range(200)])
    split = open_set_split(names, seed=3, nonmated=0.25, enrolled=2)
    everyone = np.concatenate([split.gallery, split.mated, split.nonmated])
    assert sorted(everyone.tolist()) == list(range(names.size))
    enrolled, unknown = set(names[split.gallery]), set(names[split.nonmated])
    assert not enrolled & unknown
    assert set(names[split.mated]) <= enrolled
    assert len(unknown) == round(0.25 * 31)
    assert all((names[split.gallery] == who).sum() <= 2 for who in enrolled)


def test_a_split_is_a_function_of_its_seed() -> None:
    names = np.arange(120) % 20
    parts = [open_set_split(names, seed).nonmated.tolist() for seed in (0, 0, 1)]
    assert parts[0] == parts[1] != parts[2]


@pytest.mark.parametrize(
    ("names", "options", "error", "words"),
    [
        (["al", "al"], {}, Undefined, "two people"),
        (["al", "bo", "cy"], {}, Undefined, "more than 1 images"),
        (["al", "al", "bo"], {"enrolled": 0}, UsageError, "at least one image"),
        (["al", "al", "bo"], {"nonmated": 1.0}, UsageError, "1.0"),
        ([["al", "bo"]], {}, UsageError, r"\(1, 2\)"),
    ],
)
def test_splits_that_are_refused(names, options, error, words) -> None:
    with pytest.raises(error, match=words):
        open_set_split(names, **options)


@pytest.mark.parametrize(
    ("scores", "probes", "gallery", "error"),
    [
        (np.zeros((0, 1)), [], ["al"], EmptyScores),
        (np.zeros((1, 0)), ["al"], [], EmptyScores),
        ([[float("nan")]], ["al"], ["al"], DataError),
        ([[0.1]], ["al", "bo"], ["al"], UsageError),
    ],
)
def test_searches_that_are_refused(scores, probes, gallery, error) -> None:
    with pytest.raises(error):
        search(scores, probes, gallery)


def test_rates_that_do_not_exist() -> None:
    nonmated, mated = search([[0.5]], ["x"], ["al"]), search([[0.5]], ["al"], ["al"])
    with pytest.raises(Undefined, match="non-mated"):
        cmc(nonmated)
    with pytest.raises(Undefined, match="no probes of enrolled"):
        open_set_rates(nonmated, 0.1)
    with pytest.raises(Undefined, match="no non-mated"):
        open_set_rates(mated, 0.1)
    with pytest.raises(Undefined):
        open_set_at(mated, 0.1)
