"""Recipes: shipped ones load, round trips are exact, mistakes name the nearest key."""

from __future__ import annotations

from pathlib import Path

import pytest

from facewright.errors import FacewrightError, UsageError
from facewright.training import recipe as recipes
from facewright.training.assembly import stage_sizes


@pytest.mark.parametrize("name", recipes.names())
def test_shipped_recipes_survive_a_round_trip(name: str) -> None:
    recipe = recipes.load(name)
    assert recipe.name == name and recipe.description.endswith(".")
    assert recipes.parse(recipe.to_toml(), "again") == recipe


def test_what_the_issue_asks_of_the_notebook_recipes() -> None:
    step = recipes.load("notebook-adamw-step")
    assert (step.optimizer.name, step.optimizer.learning_rate, step.optimizer.weight_decay) == ("adamw", 1e-3, 1e-4)
    assert (step.training.batch, step.training.epochs) == (64, 20)
    assert (step.schedule.name, step.schedule.every, step.schedule.factor) == ("step", 10, 0.1)
    assert (step.augment.crop, step.augment.area, step.input.normalise) == ("inside", (0.08, 1.0), "dataset")
    adam = recipes.load("notebook-adam")
    assert (adam.optimizer.name, adam.optimizer.learning_rate, adam.training.batch) == ("adam", 1e-3, 32)
    assert (adam.training.epochs, adam.schedule.name, adam.selection.metric) == (50, "plateau", "loss")
    assert adam.selection.patience > 0 and adam.input.normalise == "unit"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"training.epoch": "5"}, "did you mean 'training.epochs'"),
        ({"epochs": "5"}, "unknown recipe key 'epochs'"),
        ({"training": "5"}, "unknown recipe key 'training'"),
        ({"training.epochs": "0"}, "greater than or equal to 1"),
        ({"training.epochs": "many"}, "valid integer"),
        ({"optimizer.name": "adamx"}, "'adamw', 'adam' or 'sgd'"),
        ({"augment.flip": "1.5"}, "flip"),
        ({"augment.flip": "often"}, "augment.flip: Input should be a valid number"),
        ({"augment.flop": "0.5"}, "did you mean 'augment.flip'"),
        ({"training.mixup": "0.2", "training.cutmix": "1.0"}, "mixup or cutmix"),
        ({"optimizer.learning_rate": "inf"}, "finite number"),
        ({"shares.test": "0.6", "shares.validation": "0.5"}, "together take 1.1 of 1"),
        ({"input.size": "16"}, "greater than or equal to 32"),
    ],
)
def test_mistakes(changes: dict[str, str], words: str) -> None:
    with pytest.raises(FacewrightError, match=words) as error:
        recipes.override(recipes.load("scratch"), changes)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name = ", "not TOML"),
        ('name = "a"', "description: Field required"),
        ('name = "a"\ndescription = "b"\n[trainin]\nepochs = 3', "key of mine.toml 'trainin': did you mean 'training'"),
        ('name = "a"\ndescription = "b"\naugment = 3', "augment: Input should be"),
        ('name = "a"\ndescription = "b"\n[training]\nepoch = 3', "training.epochs"),
        ('name = "a"\ndescription = "b"\n[training]\nstages = [{until = 0.5, scale = 0.5}]', "until = 1.0"),
    ],
)
def test_files_of_ones_own(text: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text(text)
    with pytest.raises(FacewrightError, match=words):
        recipes.load("mine.toml")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_bytes(b"\xff\xfe")
    for name, why in (("other.toml", "not UTF-8"), ("none.toml", "No such file")):
        with pytest.raises(UsageError, match=f"{name}: the recipe cannot be read .*{why}.*scratch"):
            recipes.load(tmp_path / name)


def test_overrides_read_as_toml() -> None:
    changed = recipes.override(
        recipes.load("scratch"),
        {"training.epochs": "3", "optimizer.name": "sgd", "augment.area": "[0.5, 1.0]", "optimizer.decay_all": "true"},
    )
    assert (changed.training.epochs, changed.optimizer.name, changed.optimizer.decay_all) == (3, "sgd", True)
    assert changed.augment.area == (0.5, 1.0)


def test_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(FacewrightError, match="did you mean 'scratch'"):
        recipes.load("scrach")


def test_stages_scale_the_size_by_share_of_the_run() -> None:
    stages = "[{until = 0.5, scale = 0.5}, {until = 1.0, scale = 1.0}]"
    changes = {"training.stages": stages, "training.epochs": "4", "input.size": "112"}
    assert stage_sizes(recipes.override(recipes.load("scratch"), changes)) == (64, 64, 112, 112)
