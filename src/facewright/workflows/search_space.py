"""The space of a recipe search: models, learning rates, augmentations, input sizes and heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from facewright.training.recipe import Recipe
from facewright.workflows.training_requests import recipe_for

if TYPE_CHECKING:
    import optuna

AUGMENTATIONS: Mapping[str, Mapping[str, str]] = {
    "recipe": {},
    "flip": {
        "augment.area": "[1.0, 1.0]", "augment.aspect": "0.0", "augment.rotation": "0.0", "augment.translate": "0.0",
        "augment.brightness": "0.0", "augment.contrast": "0.0", "augment.saturation": "0.0", "augment.erase": "0.0",
    },
    "strong": {
        "augment.area": "[0.6, 1.1]", "augment.rotation": "15.0", "augment.translate": "0.1",
        "augment.brightness": "0.4", "augment.contrast": "0.4", "augment.saturation": "0.4", "augment.erase": "0.3",
    },
}  # fmt: skip
HEADS: Mapping[str, Mapping[str, str]] = {
    "recipe": {},
    "dropout": {"head.kind": "linear", "head.dropout": "0.3"},
    "cosine": {"head.kind": "cosine", "head.scale": "16.0"},
}
SIZES: Mapping[str, float] = {"recipe": 1.0, "three quarters": 0.75, "half": 0.5}  # of `input.size`
RATES = (0.1, 10.0)  # times the learning rates of the recipe


def chosen(
    trial: optuna.Trial, models: Sequence[str], recipe: str | Path | None, fixed: Mapping[str, str]
) -> tuple[str, dict[str, str]]:
    """Draw a model and the recipe values to change; values that are fixed are not drawn."""
    model = trial.suggest_categorical("model", list(models))
    own = recipe_for(model, recipe)
    factor = trial.suggest_float("learning rate", *RATES, log=True)
    side = float(fixed.get("input.size", own.input.size))
    side *= SIZES[trial.suggest_categorical("size", list(SIZES))]
    changes = {
        **_rates(own, factor),
        **AUGMENTATIONS[trial.suggest_categorical("augmentation", list(AUGMENTATIONS))],
        **HEADS[trial.suggest_categorical("head", list(HEADS))],
        "input.size": str(max(32, round(side / 16) * 16)),
    }
    return model, {**changes, **fixed}


def _rates(recipe: Recipe, factor: float) -> dict[str, str]:
    if not recipe.phases:
        return {"optimizer.learning_rate": f"{factor * recipe.optimizer.learning_rate:.4g}"}
    return {f"phases.{name}.learning_rate": f"{factor * one.learning_rate:.4g}" for name, one in recipe.phases.items()}


def drawn(trial: optuna.Trial, changes: Mapping[str, str]) -> dict[str, str]:
    """Return what a trial tries, in words."""
    rates = [value for key, value in changes.items() if key.endswith("learning_rate")]
    return {
        "learning rate": " ".join(rates) or "recipe",
        "size": changes["input.size"],
        "augmentation": trial.params["augmentation"],
        "head": trial.params["head"],
    }


def in_words(values: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
