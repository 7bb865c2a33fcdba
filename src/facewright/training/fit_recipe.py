"""How a function is fitted: the frozen, validated settings of `facewright fit`, kept as TOML.

Recipes shipped with the package lie in `fit_recipes/`; `load` takes one of their names or the path of a file of your
own. `recipe.toml` of a run is the resolved recipe: loading it again gives an equal object.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import tomli_w
from pydantic import Field, ValidationError, model_validator

from facewright.models.mlp import Activation
from facewright.training import toml_recipes
from facewright.training.recipe_parts import Part

DEFAULT = "function"
SHELF = toml_recipes.Shelf("fit_recipes", "recipe of fit")


class Network(Part):
    """The multilayer perceptron between standardised inputs and standardised targets."""

    hidden: tuple[int, ...] = Field((20, 20), max_length=64)  # width of each hidden layer; none: a linear map
    activation: Activation = "silu"


class Shares(Part):
    """Parts of the points; the rest is for training."""

    validation: float = Field(0.15, gt=0, lt=1)
    test: float = Field(0.15, gt=0, lt=1)

    @model_validator(mode="after")
    def _leave_some(self) -> Shares:
        if self.validation + self.test >= 1:
            raise ValueError(f"validation and test together take {self.validation + self.test:g} of 1; nothing is left")
        return self


class Optimizer(Part):
    """The update rule. auto: Levenberg-Marquardt where a step of it is cheap, else Adam."""

    name: Literal["auto", "levenberg-marquardt", "adam"] = "auto"
    learning_rate: float = Field(3e-3, gt=0)  # adam
    damping: float = Field(1e-3, gt=0)  # levenberg-marquardt: at the start, of the largest curvature


class Training(Part):
    """The loop."""

    epochs: int = Field(500, ge=1)  # passes over the training rows, of whatever kind
    batch: int = Field(16, ge=1)  # adam
    schedule: Literal["constant", "cosine"] = "cosine"  # adam


class Selection(Part):
    """The weights with the lowest validation loss are kept."""

    patience: int = Field(100, ge=0)  # passes without a better one before stopping; 0: never stop early


class FitRecipe(Part):
    """Everything but the points and the seed."""

    name: str
    description: str
    network: Network = Network()
    shares: Shares = Shares()
    optimizer: Optimizer = Optimizer()
    training: Training = Training()
    selection: Selection = Selection()

    def to_toml(self) -> str:
        """The whole recipe, defaults included; `parse` gives back an equal one."""
        return tomli_w.dumps(self.model_dump(mode="json"))


def names() -> list[str]:
    """Recipes shipped with the package."""
    return SHELF.names()


def load(name: str | Path) -> FitRecipe:
    """A shipped recipe by name, or a file of your own.

    Raises:
        UnknownName: no shipped recipe has this name, or a key is unknown.
        UsageError: the file cannot be read, or a value is of another kind or out of its range.
    """
    return parse(*SHELF.text(name))


def parse(text: str, origin: str) -> FitRecipe:
    """TOML to a recipe; `origin` is named in errors."""
    return _validated(toml_recipes.table_of(text, origin), origin)


def override(recipe: FitRecipe, changes: Mapping[str, str]) -> FitRecipe:
    """A recipe with some values replaced.

    Args:
        changes: dotted key to text as TOML would read it: {"network.hidden": "[64, 64]"}; bare words are strings.
    Raises:
        UnknownName: a key that no recipe has; names the nearest.
        UsageError: a value out of range.
    >>> override(load("function"), {"training.epochs": "50"}).training.epochs
    50
    """
    return _validated(toml_recipes.change(recipe.model_dump(mode="json"), changes, "fit recipe"), "--set")


def _validated(table: dict[str, Any], origin: str) -> FitRecipe:
    try:
        return FitRecipe.model_validate(table)
    except ValidationError as error:
        complete = FitRecipe(name="", description="").model_dump(mode="json")
        raise toml_recipes.explained(error, origin, complete) from None
