"""Runs from public weights: fine-tuning, heads, probes, comparisons, and going on after a stop."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from facewright import bundle as bundles
from facewright import resume, train, train_all
from facewright.errors import FacewrightError, ResumeError, UnknownName, UsageError
from facewright.events import Event, Message, StepFinished
from facewright.models.catalog import create_model
from facewright.runs import Run
from facewright.training.optimizers import trained_names
from facewright.training.recipe import load

OLD = "synthetic:faces?identities=4&images=12&size=32&seed=1"
NEW = "synthetic:faces?identities=3&images=12&size=32&seed=2"
QUICK = {"input.size": "32", "training.precision": "float32", "training.batch": "8"}
SHORT = {**QUICK, "phases.head.epochs": "2", "phases.head.draws": "2", "phases.backbone.epochs": "1"}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of another task: four other people."""
    folder = tmp_path_factory.mktemp("old") / "run"
    train(OLD, model="plain_cnn", out=folder, overrides={**QUICK, "training.epochs": "2"}, report=False)
    return folder / "model.safetensors"


@pytest.mark.parametrize("recipe", ["finetune", "finetune-last-stage", "finetune-strong"])
def test_two_phases(weights: Path, tmp_path: Path, recipe: str) -> None:
    run = train(NEW, model=f"plain_cnn@{weights}", recipe=recipe, out=tmp_path / "r", overrides=SHORT, report=False)
    assert [row.phase for row in run.history] == ["head", "head", "backbone"]
    assert run.facts.title == "plain_cnn@model" and run.facts.weights == str(weights)
    assert run.evaluation.n > 0
    before, after = bundles.load(weights).weights, bundles.load(tmp_path / "r" / "model.safetensors").weights
    assert before["fc.weight"].shape[0] == 4 and after["fc.weight"].shape[0] == 3
    if recipe == "finetune-last-stage":
        assert torch.equal(before["conv1.weight"], after["conv1.weight"])


def test_fine_tuning_is_what_weights_are_for(weights: Path, tmp_path: Path) -> None:
    run = train(NEW, model=f"plain_cnn@{weights}", out=tmp_path / "r", overrides=SHORT, report=False)
    assert run.recipe.name == "finetune"
    assert run.classifier.spec.mean == bundles.load(weights).spec.mean, "pictures are prepared as the weights want them"


PROBE = {"input.size": "32", "probe.folds": "2"}


@pytest.fixture(scope="module")
def probed(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, list[Event]]:
    """A probe, and what it said."""
    said: list[Event] = []
    run = train(
        NEW, model=f"plain_cnn@{weights}", recipe="probe", out=tmp_path_factory.mktemp("probe") / "r",
        overrides=PROBE, report=False, on_event=said.append,
    )  # fmt: skip
    return run, said


def test_a_probe_leaves_the_body_alone(probed: tuple[Run, list[Event]], weights: Path, tmp_path: Path) -> None:
    run, said = probed
    assert any(isinstance(event, Message) and "of 4 classes" in event.text for event in said), (
        "what was replaced is said"
    )
    old, new = bundles.load(weights).weights, bundles.load(run.folder / "model.safetensors")
    assert all(torch.equal(old[name], new.weights[name]) for name in old if not name.startswith("fc."))
    assert new.head is not None and new.head.kind == "linear"
    assert len(run.history) == 1 and run.history[0].train_accuracy > 0.9
    assert np.isfinite(run.evaluation.log_loss)
    again = train(
        NEW, model=f"plain_cnn@{weights}", recipe="probe", out=tmp_path / "s", overrides=PROBE, report=False
    )  # fmt: skip
    assert (run.folder / "model.safetensors").read_bytes() == (again.folder / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_starts_are_compared_by_their_names(weights: Path, tmp_path: Path) -> None:
    changes = {"input.size": "32"}
    found = train_all(
        NEW, [f"plain_cnn@{weights}", "plain_cnn"], recipe="probe", out=tmp_path / "all", overrides=changes
    )
    assert [entry.name for entry in found.comparison.entries] == ["plain_cnn@model", "plain_cnn"]
    assert sorted(path.name for path in (tmp_path / "all").iterdir() if path.is_dir()) == [
        "plain_cnn",
        "plain_cnn-model",
    ]
    assert "plain_cnn@model" in (tmp_path / "all" / "report.html").read_text(encoding="utf-8")


class _Stop(Exception):
    pass


def _stopped(weights: Path, folder: Path, step: int) -> None:
    """A run that dies at a step, with a checkpoint a step."""

    def on_event(event: Event) -> None:
        if isinstance(event, StepFinished) and event.epoch * 100 + event.step == step:
            raise _Stop

    changes = {**SHORT, "training.checkpoint_steps": "1"}
    with pytest.raises(_Stop):
        train(NEW, model=f"plain_cnn@{weights}", out=folder, overrides=changes, report=False, on_event=on_event)


@pytest.mark.parametrize("step", [102, 302])  # in the phase on features, and in the one behind it
def test_a_run_from_weights_goes_on_to_the_same_bits(weights: Path, tmp_path: Path, step: int) -> None:
    changes = {**SHORT, "training.checkpoint_steps": "1"}
    whole = train(NEW, model=f"plain_cnn@{weights}", out=tmp_path / "whole", overrides=changes, report=False)
    _stopped(weights, tmp_path / "broken", step)
    again = resume(tmp_path / "broken")
    files = [run.folder / "model.safetensors" for run in (whole, again)]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_weights_that_changed_are_noticed(weights: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(weights.read_bytes())
    _stopped(copy, tmp_path / "broken", 102)
    other = bundles.load(copy)
    bundles.save(copy, bundles.Bundle(**{**vars(other), "provenance": {"seed": 99}}))
    with pytest.raises(ResumeError, match="changed since the run began"):
        resume(tmp_path / "broken")


@pytest.mark.parametrize(
    ("model", "changes", "error", "words"),
    [
        ("plain_cnn@nowhere.safetensors", {}, FacewrightError, "nowhere.safetensors"),
        ("plain_cnm@imagenet", {}, UnknownName, "did you mean 'plain_cnn'"),
        ("plain_cnn@WEIGHTS", {"training.epochs": "3"}, UsageError, "phases.head.epochs"),
        ("plain_cnn@WEIGHTS", {"phases.backbone.train": "from layer 9"}, UnknownName, "layer 2"),
        ("plain_cnn@WEIGHTS", {"head.kind": "native"}, UsageError, "head.kind"),
        ("plain_cnn@WEIGHTS", {"objective.kind": "arcface", "training.label_smoothing": "0"}, UsageError, "cosine"),
        ("plain_cnn@WEIGHTS", {"phases.backbone.draws": "2"}, UsageError, "draws above 0 want"),
    ],
)
def test_what_cannot_be_started(
    weights: Path, tmp_path: Path, model: str, changes: dict[str, str], error: type[Exception], words: str
) -> None:
    start = model.replace("WEIGHTS", str(weights))
    with pytest.raises(error, match=words):
        train(NEW, model=start, recipe="finetune", out=tmp_path / "r", overrides={**SHORT, **changes}, report=False)
    assert not (tmp_path / "r" / "model.safetensors").exists()


def test_the_loss_of_class_capsules_wants_capsules(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="choose --model capsnet, not plain_cnn"):
        train(NEW, model="plain_cnn", recipe="capsnet", out=tmp_path / "r")


def test_the_recipes_are_those_of_the_notebooks() -> None:
    recipe = load("finetune")
    assert {name: (p.epochs, p.learning_rate, p.train) for name, p in recipe.phases.items()} == {
        "head": (10, 1e-3, "head"),
        "backbone": (15, 1e-5, "all"),
    }
    assert load("finetune-last-stage").phases["backbone"].train == "last-stage"
    assert list(load("head-only").phases) == ["head"]


def test_the_facts_of_a_run_name_its_weights(probed: tuple[Run, list[Event]], weights: Path) -> None:
    facts = json.loads((probed[0].folder / "run.json").read_text(encoding="utf-8"))
    assert facts["weights"] == str(weights) and len(facts["weights_sha256"]) == 64


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "notebook", "layers"), [("xception", "xception", 55), ("densenet121", "densenet", 27)]
)
def test_the_notebooks_train_what_they_say(tmp_path: Path, model: str, notebook: str, layers: int) -> None:
    """In the second phase the weights behind the first layers move, and the norms before them keep their statistics."""
    small = {"input.size": "64", "training.precision": "float32", "training.batch": "8"}
    start = train(
        NEW,
        model=model,
        recipe="scratch",
        out=tmp_path / "a",
        overrides={**small, "training.epochs": "1"},
        report=False,
    )
    file = start.folder / "model.safetensors"
    short = {**small, "phases.head.epochs": "2", "phases.backbone.epochs": "4", "schedule.patience": "0"}
    run = train(
        NEW,
        model=f"{model}@{file}",
        recipe=f"notebook-finetune-{notebook}",
        out=tmp_path / "b",
        overrides=short,
        report=False,
    )
    before, after = (bundles.load(path).weights for path in (file, run.folder / "model.safetensors"))
    network = create_model(model, 4, input_size=64, stem="imagenet")
    trained = trained_names(network, f"all but first {layers}")
    same = [name for name in before if before[name].shape == after[name].shape]
    moved = {name for name in same if not torch.equal(before[name], after[name])}
    names = {name for name, _ in network.named_parameters()} & set(same)
    assert moved & names == trained & names
    still = [
        name for name in same if name.endswith("running_mean") and name.replace("running_mean", "weight") not in trained
    ]
    assert still and not moved & set(still)
    rates = [row.learning_rate for row in run.history if row.phase == "backbone"]
    assert rates[0] == pytest.approx(1e-5) and min(rates) >= 1e-6
