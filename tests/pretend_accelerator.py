"""Training, resuming, evaluating and predicting on a pretend accelerator.

`test_devices.py` runs this file in a process of its own: a backend cannot be unregistered, and it must be registered
before PyTorch's autograd engine starts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from facewright.bundle import Bundle
from facewright.data.sources import open_dataset
from facewright.embedding import Embedder
from facewright.errors import NonFiniteLoss
from facewright.events import EpochFinished, EpochRow, StepFinished
from facewright.input_spec import InputSpec
from facewright.models.catalog import create_model
from facewright.training import checkpoints, optimizers
from facewright.training.distributed import World
from facewright.workflows import evaluate, predict, train
from fixtures.pretend import install
from fixtures.trainers import bits, make_phased_trainer, make_trainer

WHERE = "synthetic:faces?identities=3&images=12&size=32"
TWO = "synthetic:faces?identities=4&images=8&size=32&task=glasses"
SMALL = {"input.size": "32", "training.batch": "8", "training.precision": "float32"}
ONE_EPOCH = {**SMALL, "training.epochs": "1"}


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[torch.device]:
    monkeypatch.setenv("FACEWRIGHT_CACHE", str(tmp_path / "cache"))
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    yield install()
    torch.__future__.set_overwrite_module_params_on_conversion(before)


def test_the_pretend_accelerator_catches_what_was_left_on_the_cpu(pretend: torch.device) -> None:
    layer = torch.nn.Linear(3, 2).to(pretend)
    with pytest.raises(RuntimeError, match="CPU tensor"):
        layer(torch.ones(4, 3))
    assert layer(torch.ones(4, 3).to(pretend)).device == pretend


def on_device(trainer, device: torch.device):  # type: ignore[no-untyped-def]
    """Return a new trainer of the same parts on a device."""
    trainer.module.requires_grad_(True)  # the first phase of the other trainer froze some
    return type(trainer)(
        trainer.module.to(device), trainer.data, trainer.recipe, trainer.folder, trainer.save_best, trainer.on_event,
        World(device=device),
    )  # fmt: skip


@pytest.mark.parametrize("make", [make_trainer, make_phased_trainer])
def test_training_on_a_device_gives_the_cpus_numbers(  # type: ignore[no-untyped-def]
    make, pretend: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optimizers, "FUSED", ())  # a fused kernel rounds otherwise
    cpu = make(tmp_path / "cpu", tmp_path / "cache")
    there = on_device(make(tmp_path / "there", tmp_path / "cache"), pretend)
    ours, theirs = cpu.fit(), there.fit()
    assert [row.train_loss for row in ours] == pytest.approx([row.train_loss for row in theirs], rel=1e-5)
    assert [row.validation_loss for row in ours] == pytest.approx([row.validation_loss for row in theirs], rel=1e-5)
    assert all(tensor.device == pretend for tensor in there.network.state_dict().values())
    assert there.average is not None and next(there.average.module.parameters()).device == pretend


def test_a_run_on_a_device_resumes_to_the_same_bits(pretend: torch.device, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(event: object) -> None:
        if isinstance(event, EpochFinished) and event.row.epoch == 2:
            raise Stop

    whole = on_device(make_trainer(tmp_path / "whole", tmp_path / "cache"), pretend)
    whole.fit()
    broken = on_device(make_trainer(tmp_path / "b", tmp_path / "cache", stop), pretend)
    with pytest.raises(Stop):
        broken.fit()
    again = on_device(make_trainer(tmp_path / "b", tmp_path / "cache"), pretend)
    state = checkpoints.load(tmp_path / "b" / "checkpoints")
    assert state is not None and 0 < state.facts["progress"]["steps"] < 16
    again.restore(state)
    again.fit()
    assert checkpoint_bits(again) == checkpoint_bits(whole)


def checkpoint_bits(trainer) -> str:  # type: ignore[no-untyped-def]
    state = trainer.state()
    tensors = {name: tensor.cpu() for name, tensor in state.tensors.items()}
    trainer.state = lambda: checkpoints.State(tensors, state.facts)
    return bits(trainer)


def test_a_loss_that_is_no_number_is_found_one_step_late_and_named(pretend: torch.device, tmp_path: Path) -> None:
    trainer = on_device(make_trainer(tmp_path, tmp_path / "cache"), pretend)
    steps: list[int] = []

    def poison(event: object) -> None:
        if isinstance(event, StepFinished):
            steps.append(trainer.position.steps)
            if trainer.position.steps == 5:
                with torch.no_grad():
                    trainer.network[0].weight.fill_(float("nan"))  # type: ignore[index,union-attr,operator]

    trainer.on_event = poison
    with pytest.raises(NonFiniteLoss, match=r"at step 6 .*images: person_"):
        trainer.fit()
    assert steps[-1] == 6, "the seventh step was under way"
    state = checkpoints.load(tmp_path / "checkpoints")
    assert state is not None and all(torch.isfinite(tensor).all() for tensor in state.tensors.values())


def test_float16_scales_its_gradients_and_keeps_the_scale(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, tmp_path / "cache", training={"precision": "float16", "epochs": 1})
    trainer.module.dtype = torch.float16
    half = on_device(trainer, torch.device("cpu"))
    half.scaler.load_state_dict({**half.scaler.state_dict(), "scale": 1024.0})
    half.fit()
    state = half.state()
    assert state.facts["scaler"]["scale"] == 1024.0
    again = on_device(trainer, torch.device("cpu"))
    again.restore(state)
    assert again.scaler.state_dict() == half.scaler.state_dict()


def test_float16_steps_that_overflow_are_skipped_and_are_no_fault(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, tmp_path / "cache", training={"precision": "float16", "epochs": 1, "ema": 0.0})
    trainer.module.dtype = torch.float16
    half = on_device(trainer, torch.device("cpu"))
    half.scaler.load_state_dict({**half.scaler.state_dict(), "scale": 2.0**120})
    rows = half.fit()
    assert np.isfinite(rows[0].train_loss)
    assert half.scaler.state_dict()["scale"] < 2.0**120


RECIPES = {
    "scratch": (WHERE, {}),
    "cosine": (
        WHERE,
        {"head.kind": "cosine", "head.scale": "16.0", "objective.kind": "adaface", "augment.jpeg": "0.5"},
    ),
    "triplet": (WHERE, {"head.kind": "linear", "objective.kind": "triplet", "sampling.plan": "triplets"}),
    "pairwise": (WHERE, {"head.kind": "linear", "objective.kind": "pairwise", "sampling.plan": "pairs"}),
    "centre": (WHERE, {"head.kind": "linear", "objective.kind": "centre", "training.ema": "0.9"}),
    "mixup": (WHERE, {"training.mixup": "0.2"}),
    "two classes": (TWO, {"selection.metric": "hter", "objective.class_weights": "inverse"}),
    "sgd": (WHERE, {"optimizer.name": "sgd", "training.adaptive_clip": "0.1"}),
}


@pytest.mark.parametrize("name", RECIPES)
def test_every_kind_of_recipe_trains_evaluates_and_predicts(name: str, pretend: torch.device, tmp_path: Path) -> None:
    where, changes = RECIPES[name]
    changes = {**ONE_EPOCH, "training.label_smoothing": "0.0", **changes}
    there, here = (
        train(where, model="plain_cnn", out=tmp_path / kind, overrides=changes, report=False, device=kind)
        for kind in (str(pretend), "cpu")
    )
    ours, theirs = here.history[-1], there.history[-1]
    assert isinstance(theirs, EpochRow)
    assert theirs.train_loss == pytest.approx(ours.train_loss, rel=1e-3)
    np.testing.assert_allclose(there.predictions.probabilities, here.predictions.probabilities, atol=1e-3)
    again = evaluate(there.folder, where, task="classification", device=str(pretend))
    assert again.to_dict()["n"] == sum(there.facts.counts.values())
    dataset = open_dataset(where)
    image = tmp_path / "one.png"
    Image.fromarray(dataset.source.read(dataset.records[0], None)).save(image)
    said, expected = (predict(there.folder, [image], device=kind)[0] for kind in (str(pretend), "cpu"))
    assert said.probabilities == pytest.approx(expected.probabilities, abs=1e-5)


def test_embeddings_of_a_device_are_the_cpus(pretend: torch.device) -> None:
    torch.manual_seed(0)
    network = create_model("plain_cnn", 3, input_size=32)
    spec = InputSpec(32, 32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    bundle = Bundle("plain_cnn", "imagenet", ("a", "b", "c"), spec, network.state_dict())
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    here, there = (Embedder(bundle, device=name).embed(images) for name in ("cpu", str(pretend)))
    assert (here * there).sum(1) == pytest.approx(1.0, abs=1e-6)
