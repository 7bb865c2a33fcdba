"""What a recipe does about classes of unequal size, in numbers and in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from facewright.data.sampling import class_weights
from facewright.training.recipe import Recipe


@dataclass(frozen=True)
class Balancing:
    """Pictures by class, and what one epoch makes of them."""

    pictures: Mapping[str, int]  # in the training part
    epoch: Mapping[str, int] | None  # drawn for an epoch, before a short last batch is left out; None: by people
    weights: Mapping[str, float] | None  # what a mistake costs, on average 1; None: each the same
    words: tuple[str, ...]  # sentences without a full stop


def balancing_of(recipe: Recipe, pictures: Mapping[str, int]) -> Balancing:
    """What the recipe does to a training part.

    Args:
        pictures: how many of each class the training part has; one at least of each.
    >>> from facewright.training.recipe import load
    >>> balancing_of(load("hter-undersample"), {"masked": 186, "bare": 1351}).words
    ('under-sampling: 186 of 1,351 a class each epoch, others each time',)
    """
    epoch = _epoch(recipe, pictures)
    weights = None
    if recipe.objective.class_weights == "inverse":
        labels = np.repeat(np.arange(len(pictures)), list(pictures.values()))
        weights = dict(zip(pictures, class_weights(labels, len(pictures)).tolist(), strict=True))
    return Balancing(pictures, epoch, weights, tuple(_words(recipe, pictures, weights)))


def _epoch(recipe: Recipe, pictures: Mapping[str, int]) -> Mapping[str, int] | None:
    plan, most, least = recipe.sampling.plan, max(pictures.values()), min(pictures.values())
    if plan == "identities":
        return None
    if plan == "repeat":
        rarest = min(pictures, key=lambda name: pictures[name])
        return {name: count * (recipe.sampling.times if name == rarest else 1) for name, count in pictures.items()}
    wanted = {"over": most, "under": least}.get(plan)
    return dict(pictures) if wanted is None else dict.fromkeys(pictures, wanted)


def _words(recipe: Recipe, pictures: Mapping[str, int], weights: Mapping[str, float] | None) -> list[str]:
    most, least = max(pictures.values()), min(pictures.values())
    sampling = recipe.sampling
    said = {
        "under": f"under-sampling: {least:,} of {most:,} a class each epoch, others each time",
        "over": f"over-sampling: every class brought to {most:,} an epoch; the smallest has {least:,}",
        "repeat": f"the smallest class comes {sampling.times} times an epoch, augmented anew each time",
        "identities": f"batches of {sampling.people} classes with {sampling.images} pictures each",
    }
    words = [said[sampling.plan]] if sampling.plan in said else []
    if weights is not None:
        costs = ", ".join(f"{name} {weight:.2f}" for name, weight in list(weights.items())[:4])
        words.append(f"class weights: a mistake costs {costs}{', …' if len(weights) > 4 else ''}")
    if recipe.objective.kind == "focal":
        words.append(f"focal loss with gamma {recipe.objective.gamma:g}: pictures that are sure count less")
    return words or ["no balancing: every picture once an epoch, every mistake costs the same"]
