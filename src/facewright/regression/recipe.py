"""The settings of `facewright fit`, kept as TOML: shipped ones in `recipes/`, or a file of your own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import tomli_w
from pydantic import Field, model_validator

from facewright.records import Record
from facewright.regression.regressor import Activation
from facewright.specs import checked
from facewright.training import toml_recipes
from facewright.training.recipe_parts import Shares

DEFAULT = "function"
SHELF = toml_recipes.Shelf("recipes", "recipe of fit", "facewright.regression")


class HiddenLayers(Record):
    """The multilayer perceptron between standardized inputs and targets."""

    hidden: tuple[int, ...] = Field((20, 20), max_length=64)  # width of each hidden layer; none: a linear map
    activation: Activation = "silu"


class Optimizer(Record):
    """The update rule. auto: least squares to second order if a step of it is cheap, else Adam."""

    name: Literal["auto", "levenberg-marquardt", "adam"] = "auto"
    learning_rate: float = Field(3e-3, gt=0)  # adam

    @model_validator(mode="before")
    @classmethod
    def _without_damping(cls, table: Any) -> Any:  # written by version 0.1; the trust region replaced it
        return {key: table[key] for key in table if key != "damping"} if isinstance(table, dict) else table


class Training(Record):
    """The loop."""

    epochs: int = Field(500, ge=1)  # passes over the training rows: a Jacobian is one, a trial of a step is one
    batch: int = Field(16, ge=1)  # adam
    schedule: Literal["constant", "cosine"] = "cosine"  # adam


class Selection(Record):
    """Early stopping; the weights with the lowest validation loss are kept."""

    patience: int = Field(100, ge=0)  # passes without a better one before stopping; 0: never stop early


class FitRecipe(Record):
    """Everything but the points and the seed."""

    name: str
    description: str
    network: HiddenLayers = HiddenLayers()
    shares: Shares = Shares(validation=0.15, test=0.15)
    optimizer: Optimizer = Optimizer()
    training: Training = Training()
    selection: Selection = Selection()

    def to_toml(self) -> str:
        """Return the complete recipe; `load` of such a file gives an equal one."""
        return tomli_w.dumps(self.to_dict())


def load(name: str | Path, changes: Mapping[str, str] | None = None) -> FitRecipe:
    """Load a shipped recipe or a TOML file, and change some values.

    Args:
        changes: dotted key to text as TOML would read it: {"network.hidden": "[64, 64]"}; bare words are strings.
    Raises:
        UnknownName: no such recipe or key; names the nearest. UsageError: unreadable, or a value out of range.
    >>> load("function", {"training.epochs": "50"}).training.epochs
    50
    """
    text, origin = SHELF.text(name)
    recipe = _validated(toml_recipes.table_of(text, origin), origin)
    return _validated(toml_recipes.change(recipe.to_dict(), changes, "fit recipe"), "--set") if changes else recipe


def _validated(table: dict[str, Any], origin: str) -> FitRecipe:
    return checked(FitRecipe, table, origin, FitRecipe(name="", description="").to_dict())
