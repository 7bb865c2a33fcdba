"""Recipes: shipped ones load, round trips are exact, mistakes name the nearest key."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest
import tomli_w
from torch import nn

from facewright.errors import FacewrightError, UsageError
from facewright.models.catalog import create_model
from facewright.training import optimizers
from facewright.training import recipe as recipes
from facewright.training.recipe_parts import Plateau


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


# Changes that are refused when the recipe is loaded, before any data are touched -> what the message names.
REFUSED = [
    ({"training.epoch": "5"}, "'training.epochs'"),
    ({"epochs": "5"}, "'epochs'"),
    ({"training": "5"}, "'training'"),
    ({"training.epochs": "0"}, "training.epochs"),
    ({"training.epochs": "many"}, "training.epochs.*'many'"),
    ({"optimizer.name": "adamx"}, "'adam'"),
    ({"augment.flip": "1.5"}, "augment.flip.*1.5"),
    ({"augment.flip": "often"}, "augment.flip.*'often'"),
    ({"augment.flop": "0.5"}, "'augment.flip'"),
    ({"training.mixup": "0.2", "training.cutmix": "1.0"}, "cutmix"),
    ({"optimizer.learning_rate": "inf"}, "optimizer.learning_rate"),
    ({"shares.test": "0.6", "shares.validation": "0.5"}, "1.1"),
    ({"input.size": "16"}, "input.size"),
    # one limit for a setting, whoever reads it
    ({"head.kind": "linear", "head.embedding": "20000"}, "head.embedding.*16384"),
    ({"head.kind": "cosine"}, "scale"),
    ({"head.kind": "sigmoid", "head.dropout": "0.5"}, "sigmoid"),
    ({"head.dropout": "0.5"}, "native"),
    ({"head.kind": "linear", "head.scale": "30.0"}, "linear"),
    # settings of different tables
    ({"objective.kind": "arcface"}, "arcface.*cosine"),
    ({"objective.kind": "arcface", "head.kind": "linear"}, "arcface.*cosine"),
    ({"objective.kind": "triplet"}, "triplet"),
    ({"objective.margin": "0.2"}, "cross-entropy"),
    ({"head.kind": "linear", "objective.kind": "triplet", "objective.margin": "5.0"}, "triplet"),
    ({"objective.kind": "focal", "training.label_smoothing": "0.1"}, "label_smoothing"),
    ({"objective.kind": "capsule-margin", "head.kind": "linear"}, "class capsules"),
    ({"head.kind": "linear", "objective.kind": "centre", "training.mixup": "0.2"}, "centre"),
    ({"threshold.rule": "best"}, "best"),
    # numbers that nobody means, and that nothing must list
    ({"training.epochs": "1000000000"}, "training.epochs.*1000000000"),
    ({"training.epochs": "1" + 20 * "0"}, "training.epochs.*64 bits"),
    ({"training.batch": "9999999999"}, "training.batch"),
    ({"training.checkpoint_steps": "1" + 20 * "0"}, "training.checkpoint_steps"),
    ({"sampling.times": "10000000"}, "sampling.times"),
    ({"sampling.people": "1000000"}, "sampling.people"),
    ({"optimizer.learning_rate": "1e308"}, "optimizer.learning_rate"),
    ({"training.clip": "1e308"}, "training.clip"),
    ({"schedule.every": "1" + 20 * "0"}, "schedule.every"),
    ({"selection.patience": "1" + 20 * "0"}, "selection.patience"),
    ({"objective.blend_start": "1e308"}, "objective.blend_start"),
]


@pytest.mark.parametrize(("changes", "named"), REFUSED, ids=[" ".join(changes) for changes, _ in REFUSED])
def test_refused_when_loaded(changes: dict[str, str], named: str) -> None:
    plain = {"head.kind": "native", "objective.kind": "cross-entropy", "training.label_smoothing": "0.0"}
    with pytest.raises(FacewrightError, match=named) as error:
        recipes.override(recipes.override(recipes.load("scratch"), plain), changes)
    assert "\n" not in str(error.value) and len(str(error.value)) < 3000


@pytest.mark.parametrize(
    ("phase", "named"),
    [
        ({"train": "feet"}, "feet"),
        ({"train": "from "}, "from"),
        ({"train": "all but first many"}, "many"),
        ({"draws": 3}, "head"),
        ({"epochs": 10**9}, "epochs.*1000000000"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"hard_negatives": -1}, "hard_negatives"),
        ({"layer_decay": 1.5}, "layer_decay"),
    ],
)
def test_phases_that_are_refused(phase: dict[str, object], named: str) -> None:
    table = {"name": "a", "description": "b", "phases": {"one": {"epochs": 1, "learning_rate": 0.1, **phase}}}
    with pytest.raises(UsageError, match=named):
        recipes.parse(tomli_w.dumps(table), "a.toml")


def test_epochs_of_all_phases_have_a_limit() -> None:
    phases = {f"p{number}": {"epochs": 90_000, "learning_rate": 0.1} for number in range(2)}
    with pytest.raises(UsageError, match="100,000"):
        recipes.parse(tomli_w.dumps({"name": "a", "description": "b", "phases": phases}), "a.toml")


def test_a_key_of_the_previous_version_is_still_read() -> None:
    text = 'name = "a"\ndescription = "b"\n[head]\nkind = "linear"\nl2 = 0.25'
    assert recipes.parse(text, "a.toml").optimizer.head_weight_decay == 0.25
    assert recipes.override(recipes.load("scratch"), {"head.l2": "0.5"}).optimizer.head_weight_decay == 0.5


def test_reading_recipes_needs_no_torch() -> None:
    code = (
        "import sys; from facewright.training import recipe as r; [r.load(name) for name in r.names()];"
        "sys.exit('torch' in sys.modules or 'scipy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


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
    for name, why in (("other.toml", "not UTF-8"), ("none.toml", "no such file")):
        with pytest.raises(UsageError, match=f"{name}: .*{why}.*scratch"):
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
    recipe = recipes.override(recipes.load("scratch"), changes)
    assert [recipe.image_size(epoch) for epoch in range(4)] == [64, 64, 112, 112]


@pytest.mark.parametrize(("name", "model", "frozen"), [("xception", "xception", 55), ("densenet", "densenet121", 27)])
def test_the_fine_tuning_notebooks_word_for_word(name: str, model: str, frozen: int) -> None:
    found = recipes.load(f"notebook-finetune-{name}")
    head, backbone = found.phases["head"], found.phases["backbone"]
    assert (head.epochs, backbone.epochs, head.train) == (10, 15, "head")
    assert (found.selection.metric, found.selection.patience) == ("accuracy", 5)
    plateau = found.schedule
    assert (plateau.name, plateau.factor, plateau.least_rate) == ("plateau", 0.2, 1e-6)
    state = Plateau()
    lowered = [epoch for epoch in range(1, 8) if state.update(0.0, plateau, backbone.learning_rate)]
    assert lowered == [4, 7]  # Keras' patience of 3: at the third epoch without a better one, and again
    assert state.scale * backbone.learning_rate == pytest.approx(1e-6)
    augment = found.augment
    assert (augment.flip, augment.flip_vertical, augment.brightness_shift) == (0.5, 0.5, 0.2)
    assert augment.contrast_range == augment.saturation_range == (0.5, 2.0)
    assert math.sqrt(augment.area[0]) * 299 == pytest.approx(269, abs=0.1) and augment.area[0] == augment.area[1]
    network = create_model(model, 12, input_size=found.input.size, stem="imagenet")
    trained = optimizers.trained_names(network, backbone.train)
    layers = [part for part in network.modules() if isinstance(part, (nn.Conv2d, nn.Linear))]
    still = [part for part in layers if not any(w is p for n, p in network.named_parameters() if n in trained
             for w in part.parameters())]  # fmt: skip
    assert len(still) == frozen


def test_the_phase_of_version_0_1_has_a_new_name(caplog: pytest.LogCaptureFixture) -> None:
    shipped = recipes.load("finetune")
    with caplog.at_level("WARNING", logger="facewright.training"):
        found = recipes.override(shipped, {"phases.body.epochs": "3"})
    assert found.phases["backbone"].epochs == 3
    assert caplog.messages == ["phases.body.epochs is now phases.backbone.epochs"]
    old = recipes.parse(shipped.to_toml().replace("[phases.backbone]", "[phases.body]"), "a run of 0.1")
    assert list(old.phases) == ["head", "body"]
    assert recipes.override(old, {"phases.body.epochs": "3"}).phases["body"].epochs == 3  # a name of its own
    assert shipped.with_phase_names_of(old) == old and old.with_phase_names_of(shipped) == old
