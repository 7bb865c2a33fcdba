"""Error rates by group: against loops over pairs and images."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from facewright.errors import UsageError
from facewright.evaluation import subgroups
from facewright.evaluation.subgroups import rates_by_group, rates_of_all_pairs, rates_of_images


def test_all_pairs_are_those_of_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subgroups, "_BLOCK", 4)
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(40, 6)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    people = np.array([f"p{number % 11}" for number in range(40)])
    groups = [("a", "b", "", "c")[int(number)] for number in rng.integers(0, 4, 40)]
    groups[0] = "alone"
    pairs = list(combinations(range(40), 2))
    listed = rates_by_group(
        [float(vectors[a] @ vectors[b]) for a, b in pairs],
        [people[a] == people[b] for a, b in pairs],
        [(groups[a], groups[b]) for a, b in pairs],
        0.3,
        "hat",
        "given",
    )
    assert rates_of_all_pairs(vectors, people, groups, 0.3, "hat", "given") == listed
    assert listed.across > 0 and listed.unknown > 0 and [row.group for row in listed.groups] == ["a", "b", "c"]
    with pytest.raises(UsageError, match="hat"):
        rates_of_all_pairs(vectors[:2], people[:2], ["a", "b"], 0.3, "hat", "given")


def test_accuracy_far_and_frr_of_images() -> None:
    rng = np.random.default_rng(1)
    scores, positive = rng.random(60), rng.random(60) < 0.4
    groups = [("a", "b", "")[int(number)] for number in rng.integers(0, 3, 60)]
    right = (scores >= 0.7) == positive
    found = rates_of_images(right, groups, "hat", (scores, positive, 0.7, "given"))
    for row in found.groups:
        mine = [i for i in range(60) if groups[i] == row.group]
        negatives, positives = [i for i in mine if not positive[i]], [i for i in mine if positive[i]]
        assert row.accuracy is not None and row.fmr is not None and row.fnmr is not None
        assert row.accuracy.value == sum(right[i] for i in mine) / len(mine)
        assert row.fmr.value == sum(scores[i] >= 0.7 for i in negatives) / len(negatives)
        assert row.fnmr.value == sum(scores[i] < 0.7 for i in positives) / len(positives)
    errors = [1 - row.accuracy.value for row in found.groups if row.accuracy]
    assert found.error_ratio == pytest.approx(max(errors) / min(errors)) and found.unknown == groups.count("")
    assert any(line.startswith("error: all intervals overlap") for line in found.limits)


def test_images_of_several_classes_have_an_accuracy_only() -> None:
    found = rates_of_images([True, True, False, True], ["a", "a", "b", ""], "hat")
    assert [(row.fmr, row.fnmr) for row in found.groups] == [(None, None)] * 2 and found.threshold is None
    assert [row.accuracy.value for row in found.groups if row.accuracy] == [1, 0] and found.error_ratio is None
    assert len(found.limits) == 2  # a has no error among 2; the intervals overlap
    for groups in (["", ""], ["a"]):
        with pytest.raises(UsageError):
            rates_of_images([True, True], groups, "hat")
