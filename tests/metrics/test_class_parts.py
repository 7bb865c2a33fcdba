"""Classes that fall in two: two people in one class are parted, one person is not."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from facewright.errors import UsageError
from facewright.metrics import label_issues
from facewright.metrics.label_issues import LEAST, SEPARATION, SMALLEST, parts_of


def cloud(sizes: list[int], seed: int, apart: float) -> NDArray[np.float32]:
    """Photos of relatives: directions that share most of what they are."""
    random = np.random.default_rng(seed)
    shared = random.normal(size=64)
    rows = []
    for size in sizes:
        own = shared + apart * random.normal(size=64)
        rows.append(own + 0.7 * random.normal(size=(size, 64)))
    return np.concatenate(rows).astype(np.float32)


def names(count: int) -> list[str]:
    return [str(row) for row in range(count)]


@pytest.mark.parametrize("sizes", [[60, 20], [40, 40], [90, 8]])
def test_two_people_are_parted_to_the_last_picture(sizes: list[int]) -> None:
    total = sum(sizes)
    found = parts_of(cloud(sizes, 0, apart=1.0), np.arange(total), names(total))
    assert found is not None and found.separation >= SEPARATION
    parts = {frozenset(found.smaller.tolist()), frozenset(found.larger.tolist())}
    assert parts == {frozenset(range(sizes[0])), frozenset(range(sizes[0], total))}
    assert found.within > found.across
    assert len(found.smaller) <= len(found.larger)


@pytest.mark.parametrize("size", [LEAST, 60, 200])
def test_one_person_is_not(size: int) -> None:
    for seed in range(5):
        found = parts_of(cloud([size], seed, apart=1.0), np.arange(size), names(size))
        assert found is None or found.separation < SEPARATION


def test_the_first_of_a_part_is_the_nearest_to_its_middle() -> None:
    points = cloud([40, 20], 1, apart=1.0)
    found = parts_of(points, np.arange(60), names(60))
    assert found is not None
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    distances = np.linalg.norm(unit[found.larger] - unit[found.larger].mean(axis=0), axis=1)
    assert (np.diff(distances) >= 0).all()


def test_the_separation_is_the_share_of_right_comparisons() -> None:
    within, across = np.array([0.5, 0.7, 0.7, 0.9]), np.array([0.1, 0.7, 0.8])
    expected = np.mean([1.0 if w > a else 0.5 if w == a else 0.0 for w in within for a in across])
    assert label_issues._separation(within, across) == pytest.approx(expected)


def test_copies_count_once() -> None:
    points = np.concatenate([cloud([40], 2, 1.0), np.repeat(cloud([1], 9, 1.0), 10, axis=0)])
    groups = names(40) + ["copy"] * 10
    assert parts_of(points, np.arange(50), names(50)) is not None
    found = parts_of(points, np.arange(50), groups)
    assert found is None or found.separation < SEPARATION  # one odd picture is no second person


@pytest.mark.parametrize(
    ("points", "why"),
    [
        (cloud([LEAST - 1], 0, 1.0), "too few pictures"),
        (cloud([LEAST, SMALLEST - 1], 0, 4.0), "too few in a part"),
        (np.ones((LEAST, 8), np.float32), "all are one"),
    ],
)
def test_no_parts(points: NDArray[np.float32], why: str) -> None:
    assert parts_of(points, np.arange(len(points)), names(len(points))) is None, why


def test_only_the_rows_of_the_class_are_cut() -> None:
    points = cloud([40, 40, 40], 3, apart=1.0)
    rows = np.arange(40, 120)
    found = parts_of(points, rows, names(120))
    assert found is not None and sorted([*found.smaller, *found.larger]) == rows.tolist()


def test_large_classes_are_measured_on_some_of_their_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    points = cloud([150, 60], 4, apart=1.0)
    whole = parts_of(points, np.arange(210), names(210))
    monkeypatch.setattr(label_issues, "IMAGES", 70)
    some = parts_of(points, np.arange(210), names(210))
    assert whole is not None and some is not None
    assert some.smaller.tolist() == whole.smaller.tolist()
    assert some.separation == pytest.approx(whole.separation, abs=0.02)


def test_lengths_that_differ_are_refused() -> None:
    with pytest.raises(UsageError, match="do not fit"):
        parts_of(np.eye(3, dtype=np.float32), np.arange(3), ["a"])
