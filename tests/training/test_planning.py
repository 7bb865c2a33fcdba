"""What a recipe's sampling makes of an epoch; the plans themselves are tested where they are made."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from facewright.errors import UsageError
from facewright.training.recipe_parts import Sampling

LABELS = np.array([0] * 30 + [1] * 6 + [2] * 12)
ROWS = np.arange(100, 148)


def batches(batch: int = 8, epoch: int = 0, **sampling: Any) -> list[np.ndarray]:
    return Sampling(**sampling).batches(ROWS, LABELS, batch, seed=0)(epoch)


def labels_of(batch: np.ndarray) -> np.ndarray:
    return LABELS[batch - 100]


def test_each_once() -> None:
    assert sorted(np.concatenate(batches())) == sorted(ROWS)


@pytest.mark.parametrize(("plan", "each"), [("over", 30), ("under", 6)])
def test_classes_of_equal_size(plan: str, each: int) -> None:
    counts = Counter(labels_of(np.concatenate(batches(batch=2, plan=plan))))
    assert set(counts.values()) == {each}


def test_the_rare_class_several_times() -> None:
    counts = Counter(labels_of(np.concatenate(batches(batch=6, plan="repeat", times=4))))
    assert counts == {0: 30, 1: 24, 2: 12}


def test_people_times_pictures() -> None:
    for batch in batches(plan="identities", people=3, images=2):
        assert len(batch) == 6 and sorted(Counter(labels_of(batch)).values()) == [2, 2, 2]


def test_pairs_are_half_of_one_person() -> None:
    for batch in batches(batch=11, plan="pairs"):
        pairs = labels_of(batch).reshape(-1, 2)
        assert len(pairs) == 4 and (pairs[:, 0] == pairs[:, 1]).sum() == 2


def test_triplets_are_two_of_one_and_one_of_another() -> None:
    for batch in batches(batch=11, plan="triplets"):
        anchor, positive, negative = labels_of(batch).reshape(-1, 3).T
        assert len(anchor) == 3 and (anchor == positive).all() and (anchor != negative).all()


@pytest.mark.parametrize("plan", ["shuffle", "over", "under", "repeat", "identities", "pairs", "triplets"])
def test_a_plan_is_a_function_of_the_epoch(plan: str) -> None:
    first, again, later = (batches(epoch=epoch, plan=plan, people=2, images=2) for epoch in (3, 3, 4))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(np.concatenate(first), np.concatenate(later))


def test_too_few_people() -> None:
    with pytest.raises(UsageError, match="people"):
        batches(plan="identities", people=4, images=2)
