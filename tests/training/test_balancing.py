"""What recipes do about unequal classes: in numbers, in words, and as the sampling plans really do it."""

import numpy as np
import pytest

from facewright.errors import UsageError
from facewright.training.recipe import Recipe, balancing_of, load, override, parse

PICTURES = {"masked": 30, "bare": 210}

# Each row: recipe, changes -> images of an epoch, words.
ROWS = [
    ("hter-undersample", {}, {"masked": 30, "bare": 30}, "under-sampling: 30 of 210 a class each epoch"),
    ("hter-augment-minority", {}, {"masked": 210, "bare": 210}, "comes 7 times an epoch"),
    ("hter-augment-minority", {"sampling.times": "3"}, {"masked": 90, "bare": 210}, "comes 3 times"),
    ("hter-augment-minority", {"sampling.plan": "over"}, {"masked": 210, "bare": 210}, "over-sampling: every class"),
    ("hter-weighted", {}, {"masked": 30, "bare": 210}, "a mistake costs masked 1.75, bare 0.25"),
    ("script-plain", {}, {"masked": 30, "bare": 210}, "no balancing"),
    ("script-plain", {"objective.kind": "focal"}, {"masked": 30, "bare": 210}, "focal loss with gamma 2"),
]


def changed(name: str, changes: dict[str, str]) -> Recipe:
    return override(load(name), changes)


@pytest.mark.parametrize(("name", "changes", "epoch", "words"), ROWS)
def test_numbers_and_words(name, changes, epoch, words) -> None:
    found = balancing_of(changed(name, changes), PICTURES)
    assert found.epoch == epoch
    assert any(words in sentence for sentence in found.words), found.words
    assert (found.weights is None) == (name != "hter-weighted")


@pytest.mark.parametrize(("name", "changes", "epoch", "words"), ROWS)
def test_the_plans_draw_what_is_said(name, changes, epoch, words) -> None:
    labels = np.repeat([0, 1], list(PICTURES.values()))
    plan = changed(name, changes).sampling.batches(np.arange(labels.size), labels, batch=1, seed=0)
    drawn = np.bincount(labels[np.concatenate(plan(0))], minlength=2)
    assert drawn.tolist() == list(epoch.values())


def test_batches_by_people_have_no_fixed_epoch() -> None:
    assert balancing_of(changed("scratch", {"sampling.plan": "identities"}), PICTURES).epoch is None


@pytest.mark.parametrize("name", ["hter-undersample", "hter-augment-minority", "hter-weighted"])
def test_shipped_recipes_select_by_hter_at_64_pixels(name) -> None:
    recipe = load(name)
    assert (recipe.selection.metric, recipe.input.size, recipe.threshold.rule) == ("hter", 64, "min-hter")
    assert recipe.selection.patience > 0


@pytest.mark.parametrize("rule", ["min-hter", "eer", "far=0.01", "far=1"])
def test_rules_of_a_recipe(rule) -> None:
    recipe = changed("script-plain", {"threshold.rule": rule})
    assert parse(recipe.to_toml(), "again") == recipe
    assert recipe.threshold.rule == rule


@pytest.mark.parametrize(("rule", "words"), [("best", "min-hter"), ("far=0", r"\(0, 1\]"), ("far=x", "far=0.01")])
def test_rules_that_are_refused(rule, words) -> None:
    with pytest.raises(UsageError, match=words):
        changed("script-plain", {"threshold.rule": rule})
