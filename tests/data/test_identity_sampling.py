"""P people × K images, pairs, triplets: what a batch holds, and that nothing but (seed, epoch) decides it."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facewright.data import sampling
from facewright.data.sampling import identities, pair_plan, triplet_plan
from facewright.errors import UsageError

COUNTS = st.lists(st.integers(1, 12), min_size=2, max_size=12)


def crowd(counts: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Positions from 100 on, in no order, and their labels, with holes in them."""
    labels = np.repeat(np.arange(len(counts)) * 3, counts)
    order = np.random.default_rng(len(labels)).permutation(len(labels))
    return 100 + order, labels[order]


def who(indices: np.ndarray, labels: np.ndarray) -> dict[int, int]:
    return dict(zip(indices.tolist(), labels.tolist(), strict=True))


@settings(max_examples=60, deadline=None)
@given(COUNTS, st.integers(1, 12), st.integers(1, 5), st.integers(-5, 5), st.integers(0, 3))
def test_a_batch_is_p_people_with_k_images(counts, people, images, seed, epoch):
    indices, labels = crowd(counts)
    if people > len(counts):
        with pytest.raises(UsageError, match=rf"\b{people} people.*\b{len(counts)};"):
            identities(indices, labels, people, images, seed, epoch)
        return
    batches = identities(indices, labels, people, images, seed, epoch)
    known, used = who(indices, labels), []
    assert batches
    for batch in batches:
        assert batch.shape == (people * images,)
        rows = batch.reshape(people, images)
        assert all(len({known[index] for index in row}) == 1 for row in rows.tolist())
        assert len({known[row[0]] for row in rows.tolist()}) == people
        used += rows.tolist()
    for label, count in zip(np.unique(labels), counts, strict=True):
        mine = [index for row in used if known[row[0]] == label for index in row]
        if count >= images:
            assert len(set(mine)) == len(mine) <= count  # none twice in an epoch
        elif mine:
            times = np.unique(mine, return_counts=True)[1]
            assert len(mine) == images
            assert len(times) == count
            assert times.max() - times.min() <= 1  # as evenly as possible


def most(counts: list[int], people: int) -> int:
    """The number of batches by trying: B are possible where B groups at most of each person are P * B."""
    return max(b for b in range(sum(counts) + 1) if sum(min(count, b) for count in counts) >= people * b)


@settings(max_examples=60, deadline=None)
@given(COUNTS, st.integers(1, 6))
def test_as_many_batches_as_can_be(counts, people):
    if people <= len(counts):
        assert len(identities(*crowd(counts), people, 1, 0, 0)) == most(counts, people)


def test_equal_people_are_used_up():
    indices, labels = crowd([8] * 12)
    batches = identities(indices, labels, 6, 4, 0, 0)
    assert sorted(np.concatenate(batches).tolist()) == sorted(indices.tolist())


def test_every_image_has_its_turn():
    indices, labels = crowd([5, 5, 5])  # one of each is left over in an epoch
    used = [set(np.concatenate(identities(indices, labels, 3, 2, 0, epoch)).tolist()) for epoch in range(20)]
    assert {len(part) for part in used} == {12}
    assert set.union(*used) == set(indices.tolist())


def test_people_meet_others_each_epoch():
    indices, labels = crowd([4] * 20)
    known = who(indices, labels)
    met = {
        tuple(sorted({known[index] for index in batch.tolist()}))
        for epoch in range(10)
        for batch in identities(indices, labels, 4, 4, 0, epoch)
    }
    assert len(met) > 45  # of 50 batches


@settings(max_examples=60, deadline=None)
@given(COUNTS, st.integers(1, 6), st.integers(-5, 5), st.integers(0, 3))
def test_pairs_are_half_and_half(counts, half, seed, epoch):
    indices, labels = crowd(counts)
    if max(counts) < 2:
        with pytest.raises(UsageError, match="two images or more"):
            pair_plan(indices, labels, 2 * half, seed, epoch)
        return
    batches = pair_plan(indices, labels, 2 * half, seed, epoch)
    known = who(indices, labels)
    assert batches
    assert {len(batch) for batch in batches} == {4 * half} or len(batches) == 1
    firsts = []
    for batch in batches:
        pairs = batch.reshape(-1, 2).tolist()
        assert all(a != b for a, b in pairs)
        assert sum(known[a] == known[b] for a, b in pairs) * 2 == len(pairs)
        firsts += [a for a, _ in pairs]
    assert len(set(firsts)) == len(firsts)


@settings(max_examples=60, deadline=None)
@given(COUNTS, st.integers(1, 6), st.integers(-5, 5), st.integers(0, 3))
def test_triplets_are_anchor_positive_negative(counts, size, seed, epoch):
    indices, labels = crowd(counts)
    if max(counts) < 2:
        return
    batches = triplet_plan(indices, labels, size, seed, epoch)
    known = who(indices, labels)
    anchors = []
    for batch in batches:
        for anchor, positive, negative in batch.reshape(-1, 3).tolist():
            assert anchor != positive
            assert known[anchor] == known[positive] != known[negative]
            anchors.append(anchor)
    able = sum(count for count in counts if count > 1)
    assert len(set(anchors)) == len(anchors) == max(able // size * size, min(able, size))


def test_partners_and_strangers_are_drawn_uniformly():
    indices, labels = crowd([3, 2, 5])
    anchor = int(indices[labels == 6][0])
    drawn = [
        row
        for epoch in range(2000)
        for row in triplet_plan(indices, labels, 10, 0, epoch)[0].reshape(-1, 3).tolist()
        if row[0] == anchor
    ]
    for place, options in ((1, 4), (2, 5)):
        _, times = np.unique([row[place] for row in drawn], return_counts=True)
        assert len(times) == options
        assert ((times - 2000 / options) ** 2 / (2000 / options)).sum() < 25  # chi-square, at most 4 degrees of freedom


PLANS = {
    "identities": lambda indices, labels, seed, epoch: identities(indices, labels, 4, 3, seed, epoch),
    "pairs": lambda indices, labels, seed, epoch: pair_plan(indices, labels, 4, seed, epoch),
    "triplets": lambda indices, labels, seed, epoch: triplet_plan(indices, labels, 4, seed, epoch),
}


@pytest.mark.parametrize("name", PLANS)
def test_seed_and_epoch_alone_decide(name):
    indices, labels = crowd([7, 9, 2, 6, 8])
    keys = [(0, 0), (0, 1), (1, 0), (1, 1), (-1, 0)]
    plans = [np.concatenate(PLANS[name](indices, labels, *key)).tobytes() for key in keys]
    assert len(set(plans)) == len(keys)
    assert np.concatenate(PLANS[name](indices, labels, 1, 1)).tobytes() == plans[3]


@pytest.mark.parametrize("name", PLANS)
def test_what_no_plan_can_be_made_of(name):
    for indices, labels, message in (
        (np.arange(0), np.arange(0), "no images"),
        (np.arange(3), np.arange(2), "one label for each"),
        (np.arange(3), np.zeros(3, int), "people"),
    ):
        with pytest.raises(UsageError, match=message):
            PLANS[name](indices, labels, 0, 0)


# (plan, arguments, what the message names)
WRONG = [
    (identities, (0, 2), "at least 1 person"),
    (identities, (2, 0), "at least 1 person"),
    (pair_plan, (3,), "even batch"),
    (pair_plan, (0,), "even batch"),
    (triplet_plan, (0,), "at least 1 triplet"),
]


@pytest.mark.parametrize(("plan", "arguments", "message"), WRONG)
def test_wrong_sizes_are_refused(plan, arguments, message):
    with pytest.raises(UsageError, match=message):
        plan(np.arange(4), np.array([0, 0, 1, 1]), *arguments, 0, 0)


RECORDED = [
    [[0, 1, 6, 7]],
    [[0, 2, 3, 2, 1, 3, 2, 0], [4, 3, 7, 0, 6, 4, 5, 6]],
    [[0, 2, 7, 2, 0, 6, 4, 3, 7, 5, 6, 1], [3, 4, 2, 1, 2, 3, 7, 5, 0, 6, 7, 4]],
]


def test_plans_stay_as_they_are():
    # Recorded once: a run resumed with a later version must see the same batches.
    indices, labels = np.arange(8), np.array([0, 0, 0, 1, 1, 2, 2, 2])
    assert [batch.tolist() for batch in identities(indices, labels, 2, 2, 1, 2)] == RECORDED[0]
    assert [batch.tolist() for batch in pair_plan(indices, labels, 4, 1, 2)] == RECORDED[1]
    assert [batch.tolist() for batch in triplet_plan(indices, labels, 4, 1, 2)] == RECORDED[2]


def test_examples_in_the_docstrings():
    assert doctest.testmod(sampling).failed == 0
