"""Balancing of classes of unequal size by a recipe, in numbers and in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from facewright.data.sampling import class_weights
from facewright.training.recipe import Recipe


@dataclass(frozen=True)
class Balancing:
    """Images by class, and the share of each class in an epoch and in the loss."""

    images: Mapping[str, int]  # in the training part
    epoch: Mapping[str, int] | None  # drawn for an epoch, before a short last batch is left out; None: by people
    weights: Mapping[str, float] | None  # what a mistake costs, on average 1; None: each the same
    words: tuple[str, ...]  # sentences without a full stop


def balancing_of(recipe: Recipe, images: Mapping[str, int]) -> Balancing:
    """Work out how the recipe balances a training part.

    Args:
        images: how many of each class the training part has; one at least of each.
    >>> from facewright.training.recipe import load
    >>> balancing_of(load("hter-undersample"), {"masked": 186, "bare": 1351}).words
    ('under-sampling: 186 of 1,351 a class each epoch, others each time',)
    """
    epoch = _epoch(recipe, images)
    weights = None
    if recipe.objective.class_weights == "inverse":
        labels = np.repeat(np.arange(len(images)), list(images.values()))
        weights = dict(zip(images, class_weights(labels, len(images)).tolist(), strict=True))
    return Balancing(images, epoch, weights, tuple(_words(recipe, images, weights)))


def _epoch(recipe: Recipe, images: Mapping[str, int]) -> Mapping[str, int] | None:
    plan, most, least = recipe.sampling.plan, max(images.values()), min(images.values())
    if plan == "identities":
        return None
    if plan == "repeat":
        rarest = min(images, key=lambda name: images[name])
        return {name: count * (recipe.sampling.times if name == rarest else 1) for name, count in images.items()}
    wanted = {"over": most, "generate": most, "under": least}.get(plan)
    return dict(images) if wanted is None else dict.fromkeys(images, wanted)


def _words(recipe: Recipe, images: Mapping[str, int], weights: Mapping[str, float] | None) -> list[str]:
    most, least = max(images.values()), min(images.values())
    sampling = recipe.sampling
    said = {
        "under": f"under-sampling: {least:,} of {most:,} a class each epoch, others each time",
        "over": f"over-sampling: every class brought to {most:,} an epoch; the smallest has {least:,}",
        "generate": f"{most - least:,} generated images beside {least:,} real ones of the smaller class",
        "repeat": f"the smallest class comes {sampling.times} times an epoch, with another augmentation each time",
        "identities": f"batches of {sampling.people} classes with {sampling.images} images each",
    }
    words = [said[sampling.plan]] if sampling.plan in said else []
    if weights is not None:
        costs = ", ".join(f"{name} {weight:.2f}" for name, weight in list(weights.items())[:4])
        words.append(f"class weights: a mistake costs {costs}{', …' if len(weights) > 4 else ''}")
    if recipe.objective.kind == "focal":
        words.append(f"focal loss with gamma {recipe.objective.gamma:g}: confident images count less")
    return words or ["no balancing: every image once an epoch, every mistake costs the same"]
