"""The frozen, validated description of how a model is trained, kept as TOML.

A recipe says everything but the data, the architecture and the seed. Recipes shipped with the package lie in
`recipes/`; `load` takes one of their names or the path of a file of your own. `recipe.toml` of a run is the resolved
recipe: loading it again gives an equal object.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import Field, ValidationError, model_validator

from facewright.data.augment import Augment
from facewright.errors import UnknownName, UsageError
from facewright.training import toml_recipes
from facewright.training.recipe_parts import (
    Head,
    Input,
    Mining,
    Objective,
    Optimizer,
    Part,
    Phase,
    Probe,
    Sampling,
    Schedule,
    Selection,
    Shares,
    Threshold,
    Training,
)

SHELF = toml_recipes.Shelf("recipes", "recipe")


class Recipe(Part):
    """Everything but the data, the architecture and the seed."""

    name: str
    description: str
    input: Input = Input()
    shares: Shares = Shares()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    training: Training = Training()
    selection: Selection = Selection()
    threshold: Threshold = Threshold()
    head: Head = Head()
    objective: Objective = Objective()
    sampling: Sampling = Sampling()
    mining: Mining = Mining()
    augment: Augment = Augment()
    probe: Probe | None = None  # where present, optimizer, schedule, training and phases have no part in the run
    phases: dict[str, Phase] = Field({})  # in this order; none: one of `training.epochs` at `optimizer.learning_rate`

    @model_validator(mode="after")
    def _fits_together(self) -> Recipe:
        if self.probe is not None and self.head.kind != "linear":
            raise ValueError("a probe fits a linear head: set head.kind to linear")
        if self.phases and self.training.stages:
            raise ValueError("choose training.stages or phases, not both")
        if self.head.kind == "native" and self.objective.kind not in ("cross-entropy", "focal"):
            raise ValueError(
                f"objective.kind = {self.objective.kind!r} wants a head: set head.kind to linear or cosine"
            )
        if self.head.kind == "native" and any(phase.draws for phase in self.phases.values()):
            raise ValueError("features computed once want a head of their own: set head.kind to linear")
        if (self.training.mixup or self.training.cutmix) and self.objective.kind not in ("cross-entropy", "focal"):
            raise ValueError(f"mixed pictures have no single label, which objective {self.objective.kind!r} wants")
        if (self.training.mixup or self.training.cutmix) and any(phase.draws for phase in self.phases.values()):
            raise ValueError("pictures cannot be mixed where features are computed once; set the phase's draws to 0")
        return self

    @property
    def all_phases(self) -> dict[str, Phase]:
        """The phases that take place, or the one that a recipe without phases is."""
        whole = Phase(epochs=self.training.epochs, learning_rate=self.optimizer.learning_rate)
        taking_place = {
            name: phase for name, phase in self.phases.items() if self.mining.photos or not phase.hard_negatives
        }
        return taking_place or {"train": whole}

    def to_toml(self) -> str:
        """The whole recipe, defaults included; `parse` gives back an equal one."""
        table = self.model_dump(exclude={"augment"}, exclude_none=True) | {"augment": dataclasses.asdict(self.augment)}
        return tomli_w.dumps(_plain(table))


def names() -> list[str]:
    """Recipes shipped with the package."""
    return SHELF.names()


def load(name: str | Path) -> Recipe:
    """A shipped recipe by name, or a file of your own.

    Raises:
        UnknownName: no shipped recipe has this name, or a key is unknown.
        UsageError: the file cannot be read, or a value is of another kind or out of its range.
    """
    return parse(*SHELF.text(name))


def parse(text: str, origin: str) -> Recipe:
    """TOML to a recipe; `origin` is named in errors."""
    return _validated(toml_recipes.table_of(text, origin), origin)


def override(recipe: Recipe, changes: Mapping[str, str]) -> Recipe:
    """A recipe with some values replaced.

    Args:
        recipe: the one to start from.
        changes: dotted key to text as TOML would read it: {"training.epochs": "5"}; bare words are strings.
    Raises:
        UnknownName: a key that no recipe has; names the nearest.
        UsageError: a value out of range.
    """
    if recipe.phases and "training.epochs" in changes:
        known = ", ".join(f"phases.{name}.epochs" for name in recipe.phases)
        raise UsageError(f"recipe {recipe.name} counts its epochs by phase: set {known}")
    return _validated(toml_recipes.change(tomllib.loads(recipe.to_toml()), changes, "recipe"), "--set")


def _validated(table: dict[str, Any], origin: str) -> Recipe:
    augment = table.get("augment", {})
    known = {field.name for field in dataclasses.fields(Augment)}
    for key in augment if isinstance(augment, dict) else ():
        if key not in known:
            raise UnknownName(f"key of {origin} in [augment]", key, known)
    try:
        return Recipe.model_validate(table)
    except ValidationError as error:
        complete = tomllib.loads(Recipe(name="", description="").to_toml())
        raise toml_recipes.explained(error, origin, complete) from None
    except UsageError as error:  # a value that the augmentation itself refuses
        raise UsageError(f"{origin}: {error}") from None


def _plain(value: Any) -> Any:
    """Tuples as lists, all the way down: TOML knows only lists."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
