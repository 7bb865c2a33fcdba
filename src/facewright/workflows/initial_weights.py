"""What a run starts from: an architecture, public weights or none, and the recipe that suits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from facewright.events import EventHandler, Progress
from facewright.input_spec import InputSpec
from facewright.models.catalog import resolve_stem
from facewright.models.weights import Loaded, open_weights, parse_model
from facewright.training import recipe as recipes
from facewright.training.recipe import Recipe


@dataclass(frozen=True)
class Start:
    """What a run starts from."""

    model: str  # architecture
    stem: str
    weights: str | None  # as it was asked for: a released name or a file; None: fresh weights
    loaded: Loaded | None

    @property
    def spec(self) -> InputSpec | None:
        """What the public weights want to see."""
        return None if self.loaded is None else self.loaded.spec


def default_recipe(model: str) -> str:
    """Fine-tuning for public weights, training from scratch for fresh ones.

    >>> default_recipe("mobilenet_v2@imagenet"), default_recipe("mobilenet_v2")
    ('finetune', 'scratch')
    """
    return "scratch" if parse_model(model)[1] is None else "finetune"


def recipe_for(model: str, recipe: str | Path | None) -> Recipe:
    """The recipe asked for, or the one that suits the start."""
    return recipes.load(default_recipe(model) if recipe is None else recipe)


def check_model(model: str, recipe: Recipe) -> None:
    """Refuse an unknown architecture, stem or size before anything is decoded or read."""
    resolve_stem(parse_model(model)[0], recipe.input.size, recipe.input.stem)


def start(model: str, recipe: Recipe, on_event: EventHandler) -> Start:
    """Open what a run starts from.

    Args:
        model: an architecture, or architecture@weights, where weights are a released name or a file.
    Raises:
        UnknownName: no such architecture, stem or released weights.
        FacewrightError: the weights cannot be had or are not what they should be.
    """
    architecture, which = parse_model(model)
    check_model(architecture, recipe)
    if which is None:
        stem = resolve_stem(architecture, recipe.input.size, recipe.input.stem)
        return Start(architecture, stem, None, None)
    loaded = open_weights(
        architecture, which, progress=lambda done, total: on_event(Progress(f"fetching {which}", done, total))
    )
    wanted = loaded.stem if recipe.input.stem == "auto" else recipe.input.stem
    return Start(architecture, resolve_stem(architecture, recipe.input.size, wanted), which, loaded)
