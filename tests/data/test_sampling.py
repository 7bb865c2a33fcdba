"""Plans of batches, and the hash behind every random number."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facewright.data import sampling
from facewright.data.sampling import Stream, balanced, class_weights, plan, random_words, repeated, shard
from facewright.errors import UsageError


@settings(max_examples=50, deadline=None)
@given(n=st.integers(1, 60), batch=st.integers(1, 20), seed=st.integers(-(2**70), 2**70), epoch=st.integers(0, 500))
def test_a_plan_uses_each_image_once(n: int, batch: int, seed: int, epoch: int) -> None:
    indices = np.arange(100, 100 + n)
    whole = plan(indices, batch, seed, epoch, drop_last=False)
    assert sorted(np.concatenate(whole).tolist()) == indices.tolist()
    assert [len(part) for part in whole[:-1]] == [batch] * (len(whole) - 1)
    full = plan(indices, batch, seed, epoch)
    assert all(np.array_equal(a, b) for a, b in zip(full, whole, strict=False))
    assert len(full) == max(1, n // batch)


def test_order_depends_on_seed_and_epoch_only() -> None:
    indices = np.arange(200)
    orders = {
        key: np.concatenate(plan(indices, 10, *key)).tobytes() for key in [(0, 0), (0, 1), (1, 0), (1, 1), (-1, 0)]
    }
    assert len(set(orders.values())) == len(orders)
    assert np.concatenate(plan(indices, 10, 1, 1)).tobytes() == orders[1, 1]
    # The batch size cuts the order; it does not change it.
    assert np.concatenate(plan(indices, 25, 1, 1)).tobytes() == orders[1, 1]


def test_every_place_is_as_likely() -> None:
    places = np.array([plan(np.arange(8), 8, 3, epoch)[0] for epoch in range(4000)])  # (epochs, place)
    counts = np.stack([np.bincount(places[:, place], minlength=8) for place in range(8)])
    assert ((counts - 500) ** 2 / 500).sum() < 49 + 5 * (2 * 49) ** 0.5  # chi-square, 49 degrees of freedom


# (arguments, what the message names)
BAD_PLANS = [
    ((np.arange(0), 2, 0, 0), "no images"),
    ((np.arange(4), 0, 0, 0), "at least 1 image"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_PLANS)
def test_bad_plans(arguments: tuple[np.ndarray, int, int, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        plan(*arguments)


LABELS = np.repeat([0, 1, 2], [20, 7, 3])


def _drawn(balance: str, epoch: int) -> np.ndarray:
    return np.concatenate(balanced(np.arange(30), LABELS, 1, 5, epoch, balance))  # type: ignore[arg-type]


def test_over_sampling_brings_each_class_to_the_largest() -> None:
    drawn = _drawn("over", 0)
    assert np.bincount(LABELS[drawn]).tolist() == [20, 20, 20]
    uses = np.bincount(drawn, minlength=30)
    assert set(uses[:20]) == {1}
    assert set(uses[20:27]) == {2, 3}  # 20 uses of 7 images
    assert set(uses[27:]) == {6, 7}


def test_under_sampling_takes_as_many_as_the_smallest() -> None:
    drawn = _drawn("under", 0)
    assert np.bincount(LABELS[drawn]).tolist() == [3, 3, 3]
    assert len(set(drawn.tolist())) == 9


@pytest.mark.parametrize("balance", ["over", "under"])
def test_another_epoch_draws_others(balance: str) -> None:
    assert np.array_equal(_drawn(balance, 3), _drawn(balance, 3))
    assert not np.array_equal(np.sort(_drawn(balance, 3)), np.sort(_drawn(balance, 4)))


def test_balanced_refuses() -> None:
    with pytest.raises(UsageError, match="one label for each"):
        balanced(np.arange(3), np.zeros(2, np.int64), 2, 0, 0, "over")
    with pytest.raises(UsageError, match="'over' or 'under'"):
        balanced(np.arange(3), np.zeros(3, np.int64), 2, 0, 0, "both")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no images"):
        balanced(np.arange(0), np.arange(0), 2, 0, 0, "over")


@settings(max_examples=50, deadline=None)
@given(n=st.integers(1, 70), world=st.integers(1, 9))
def test_shards_are_the_batch(n: int, world: int) -> None:
    batch = np.arange(n) * 3
    parts = [shard(batch, rank, world) for rank in range(world)]
    assert np.concatenate(parts).tolist() == batch.tolist()
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize(("rank", "world"), [(2, 2), (-1, 2), (0, 0)])
def test_shard_refuses(rank: int, world: int) -> None:
    with pytest.raises(UsageError, match="rank"):
        shard(np.arange(4), rank, world)


def _uniform(words: np.ndarray) -> np.ndarray:
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def test_words_are_uniform() -> None:
    values = _uniform(random_words(Stream.AUGMENT, 7, 3, np.arange(4000), 25))  # 100,000 values
    counts = np.bincount((values * 100).astype(int).ravel(), minlength=100)
    assert ((counts - 1000) ** 2 / 1000).sum() < 99 + 5 * (2 * 99) ** 0.5  # chi-square, 99 degrees of freedom
    assert np.abs(values.mean(0) - 0.5).max() < 5 * 12**-0.5 / 4000**0.5  # each slot


def test_bits_are_fair() -> None:
    words = random_words(Stream.AUGMENT, 7, 3, np.arange(2000), 10).ravel()
    ones = np.array([np.mean((words >> np.uint64(bit)) & np.uint64(1)) for bit in range(64)])
    assert np.abs(ones - 0.5).max() < 5 * 0.5 / len(words) ** 0.5


# Which neighbours in the key must be unrelated.
def _grid(kind: str) -> np.ndarray:
    items = np.arange(100)
    if kind == "slots":
        return random_words(Stream.AUGMENT, 0, 0, np.arange(300), 100)
    if kind == "items":
        return random_words(Stream.AUGMENT, 0, 0, np.arange(100), 300).T
    if kind == "epochs":
        return np.stack([random_words(Stream.AUGMENT, 0, epoch, items, 3).ravel() for epoch in range(100)], axis=1)
    return np.stack([random_words(Stream.AUGMENT, seed, 0, items, 3).ravel() for seed in range(100)], axis=1)


@pytest.mark.parametrize("kind", ["slots", "items", "epochs", "seeds"])
def test_neighbours_do_not_correlate(kind: str) -> None:
    values = _uniform(_grid(kind))  # (300, 100): neighbouring columns differ by one in the key
    correlation = np.corrcoef(values.T)[np.triu_indices(100, 1)]  # 4950 pairs, each about N(0, 1/300)
    assert np.abs(correlation).max() < 5.5 / 300**0.5
    assert abs(correlation.std() * 300**0.5 - 1.0) < 0.1


def test_one_bit_of_the_key_turns_half_the_bits() -> None:
    items = np.arange(1000, dtype=np.int64)
    plain = random_words(Stream.AUGMENT, 0, 0, items, 1)
    for other in (
        random_words(Stream.AUGMENT, 1, 0, items, 1),
        random_words(Stream.AUGMENT, 0, 1, items, 1),
        random_words(Stream.AUGMENT, 0, 0, items ^ 1, 1),
    ):
        turned = np.unpackbits((plain ^ other).view(np.uint8)).mean()
        assert abs(turned - 0.5) < 5 * 0.5 / 64000**0.5


def test_streams_are_unrelated() -> None:
    # The order of an epoch and the first draw of each image, from one seed.
    order = np.concatenate(plan(np.arange(4000), 4000, 0, 0))
    first = _uniform(random_words(Stream.AUGMENT, 0, 0, order, 1))[:, 0]
    assert abs(np.corrcoef(first, np.arange(4000))[0, 1]) < 5 / 4000**0.5


def test_words_do_not_collide() -> None:
    words = np.concatenate(
        [random_words(Stream.AUGMENT, s, e, np.arange(500), 8).ravel() for s in range(5) for e in range(5)]
    )
    assert len(np.unique(words)) == len(words)


def test_words_stay_as_they_are() -> None:
    # Recorded once: a run resumed with a later version must draw the same numbers.
    assert random_words(Stream.AUGMENT, 1, 2, np.array([3]), 2).tolist() == [[0x67CA356EC1CED4B4, 0x684040B1C3561EBC]]


def test_examples_in_the_docstrings() -> None:
    assert doctest.testmod(sampling).failed == 0


def test_repeating_a_class() -> None:
    indices = np.arange(100, 130)
    assert repeated(indices, LABELS, 1).tolist() == indices.tolist()
    uses = np.bincount(repeated(indices, LABELS, 4) - 100, minlength=30)  # the rarest
    assert [set(uses[label == LABELS]) for label in range(3)] == [{1}, {1}, {4}]
    uses = np.bincount(repeated(indices, LABELS, 2, label=1) - 100, minlength=30)
    assert [set(uses[label == LABELS]) for label in range(3)] == [{1}, {2}, {1}]
    assert repeated(np.arange(2), np.array([5, 3]), 2).tolist() == [0, 1, 1]  # as rare: the lower number
    # What is repeated goes into a plan as any images do.
    assert (
        sorted(np.concatenate(plan(repeated(indices, LABELS, 3), 6, 0, 0)).tolist())[-9:]
        == [127] * 3 + [128] * 3 + [129] * 3
    )


# (arguments, what the message names)
BAD_REPEATS = [
    ((np.arange(3), np.zeros(2, np.int64), 2), "one label for each"),
    ((np.arange(0), np.arange(0), 2), "no images"),
    ((np.arange(3), np.zeros(3, np.int64), 0), "factor of 1 or more, got 0"),
    ((np.arange(3), np.zeros(3, np.int64), 2, 1), "a class that has images, got 1"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_REPEATS)
def test_bad_repeats(arguments: tuple[np.ndarray, np.ndarray, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        repeated(*arguments)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 500), min_size=1, max_size=9))
def test_weights_make_each_class_count_the_same(counts: list[int]) -> None:
    weights = class_weights(np.repeat(np.arange(len(counts)), counts), len(counts))
    assert weights.dtype == np.float64
    assert weights.mean() == pytest.approx(1.0)
    assert weights * counts == pytest.approx(np.full(len(counts), weights[0] * counts[0]))


# (labels, classes, what the message names)
BAD_WEIGHTS = [
    ([0, 0, 2], 3, "class 1 has none"),
    ([], 2, "class 0 has none"),
    ([], 0, "there is no class"),
    ([0, 2], 2, "labels from 0 to 1, got 0 to 2"),
    ([-1, 0], 1, "labels from 0 to 0, got -1 to 0"),
]


@pytest.mark.parametrize(("labels", "classes", "message"), BAD_WEIGHTS)
def test_bad_weights(labels: list[int], classes: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        class_weights(np.array(labels, np.int64), classes)
