"""Resampling people: weights against pairs written out, halves that share nobody."""

import math

import numpy as np
import pytest

from facewright.errors import DataError, Undefined, UsageError
from facewright.metrics.intervals import clopper_pearson
from facewright.metrics.people import (
    identity_bootstrap,
    people_halves,
    people_of,
    weighted_rates,
    weighted_share,
)
from facewright.metrics.verification import eer, roc, tar_at_far


def some_pairs(seed: int = 0, people: int = 12, pairs: int = 80):
    generator = np.random.default_rng(seed)
    names = generator.integers(people, size=(pairs, 2))
    names[::2, 1] = names[::2, 0]
    same = names[:, 0] == names[:, 1]
    scores = np.round(generator.normal(size=pairs) + 1.5 * same, 1)  # with ties
    return scores, same, names


def test_people_are_numbered_by_name() -> None:
    people = people_of([["Zoe", "Ann"], ["Ann", "Ann"], ["Bob", "Zoe"]], [False, True, False])
    assert people.pairs.tolist() == [[2, 0], [0, 0], [1, 2]]
    assert people.count == 3


@pytest.mark.parametrize(
    ("names", "same", "error", "words"),
    [
        ([["a", "b"]], [True], DataError, "pair 0 is said to be of the same person, its names are a and b"),
        ([["a", "b"], ["c", "c"]], [False, False], DataError, "pair 1 is said to be of two people"),
        ([["a", "b"]], [False, False], UsageError, r"\(2, 2\), got \(1, 2\)"),
        (["a", "b"], [False, False], UsageError, "two names a pair"),
    ],
)
def test_names_that_do_not_fit(names, same, error, words) -> None:
    with pytest.raises(error, match=words):
        people_of(names, same)


def test_weights_stand_for_pairs_written_out_so_often() -> None:
    scores, same, _ = some_pairs()
    weights = np.random.default_rng(1).integers(0, 4, size=scores.size)
    value, tar = weighted_rates(scores, same, (0.1,))(weights)
    written = [np.repeat(scores[side], weights[side]) for side in (same, ~same)]
    assert value == eer(roc(*written)).value
    assert tar == tar_at_far(roc(*written), 0.1).tar.value
    (share,) = weighted_share(same, scores > 0)(weights)
    assert share == np.mean(np.repeat(same[scores > 0], weights[scores > 0]))


def test_an_impostor_pair_weighs_the_product_and_a_genuine_pair_its_one_person() -> None:
    people = people_of([["a", "a"], ["a", "b"], ["b", "c"]], [True, False, False])
    seen = []
    identity_bootstrap(lambda weights: seen.append(weights.tolist()) or [0.0], people, seed=3, resamples=50)
    assert seen[0] == [1, 1, 1]  # as it stands
    generator = np.random.default_rng(3)
    for row in seen[1:]:
        a, b, c = np.bincount(generator.integers(3, size=3), minlength=3).tolist()
        assert row == [a, a * b, b * c]


def test_the_interval_is_that_of_the_percentiles() -> None:
    scores, same, names = some_pairs()
    people = people_of(names, same)
    drawn = []

    def watched(weights):
        drawn.append(weighted_rates(scores, same, (0.1,))(weights))
        return drawn[-1]

    found = identity_bootstrap(watched, people, resamples=200)
    for rate, column in zip(found, np.array(drawn).T, strict=True):
        assert (rate.value, rate.n) == (column[0], people.count)
        assert (rate.low, rate.high) == tuple(np.percentile(column[1:], [2.5, 97.5]))


def test_the_bootstrap_is_a_function_of_its_seed() -> None:
    scores, same, names = some_pairs()
    people, rates = people_of(names, same), weighted_rates(scores, same, (0.1,))
    draw = [identity_bootstrap(rates, people, seed, resamples=100) for seed in (0, 0, 1)]
    assert draw[0] == draw[1] != draw[2]


def test_pairs_of_one_hard_person_are_not_independent() -> None:
    """20 people of 50 genuine pairs each; two of them are always rejected: 100 errors of 1,000 that are two events."""
    names = np.repeat(np.arange(20), 50)
    people = people_of(np.stack([names, names], axis=1), np.ones(1000, dtype=bool))
    (rate,) = identity_bootstrap(weighted_share(names >= 2, np.ones(1000, dtype=bool)), people)
    independent = clopper_pearson(900, 1000)
    assert rate.value == independent.value
    assert rate.high - rate.low > 4 * (independent.high - independent.low)


def test_what_is_undefined_stays_so() -> None:
    people = people_of([["a", "a"], ["a", "b"]], [True, False])
    assert identity_bootstrap(lambda weights: [math.nan], people) == [None]
    with pytest.raises(Undefined):
        identity_bootstrap(lambda weights: [0.0], people_of(np.zeros((0, 2)), []))


@pytest.mark.parametrize(("defined", "known"), [(60, True), (40, False)])  # of 100 resamples
def test_a_statistic_that_is_mostly_undefined_has_no_interval(defined, known) -> None:
    turn = iter(range(-1, 100))  # the first is the statistic as it stands
    (rate,) = identity_bootstrap(
        lambda weights: [1.0 if next(turn) < defined else math.nan],
        people_of([["a", "b"]], [False]),
        resamples=100,
    )
    assert (rate is not None) is known


def test_resamples_without_impostors_are_left_out() -> None:
    rates = weighted_rates([0.9, 0.1], [True, False], (1.0,))
    assert all(math.isnan(value) for value in rates(np.array([2, 0])))
    assert rates(np.array([1, 1])) == [0.0, 1.0]


def test_halves_share_nobody() -> None:
    _, same, names = some_pairs(people=30, pairs=400)
    half = people_halves(people_of(names, same), seed=5)
    assert set(half.tolist()) == {-1, 0, 1}
    assert not set(names[half == 0].ravel()) & set(names[half == 1].ravel())
    assert (half[same] >= 0).all()  # a genuine pair has one person and never parts
    assert half.tolist() == people_halves(people_of(names, same), seed=5).tolist()
    assert half.tolist() != people_halves(people_of(names, same), seed=6).tolist()
