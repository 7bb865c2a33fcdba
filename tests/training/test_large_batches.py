"""Batches that are too large: cut into parts, shared by processes, found by doubling, refused in one line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from facewright import devices, train
from facewright.errors import DeviceFault, FacewrightError, UsageError
from facewright.events import Message, StepFinished
from facewright.losses.objective import Objective
from facewright.training import precision
from facewright.training.assembly import compile_mode, data_of, training_module
from facewright.training.distributed import World
from facewright.training.trainer import Trainer
from facewright.training.training_module import TrainingModule
from facewright.workflows.training_jobs import FEWEST_STEPS
from fixtures.trainers import PHASED, TABLES, data_for, make_trainer, recipe_of, tiny_network

CPU = torch.device("cpu")


def plain_network() -> nn.Module:
    """Without batch norm and dropout: an image's gradient does not depend on the others."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(96, 3))


def trained(folder: Path, parts: int, **training: Any) -> Trainer:
    recipe = recipe_of(TABLES, {"training": {"accumulate": parts, "epochs": 1, **training}})
    module = TrainingModule(plain_network(), Objective(recipe.objective, 3, 0, smoothing=0.1), None)
    trainer = Trainer(module, data_for(recipe), recipe, folder, lambda best: None)
    trainer.fit()
    return trainer


@pytest.mark.parametrize("parts", [2, 3])
def test_accumulated_parts_are_the_whole_batch(parts: int, tmp_path: Path) -> None:
    whole, cut = trained(tmp_path / "a", 1), trained(tmp_path / "b", parts)
    for ours, theirs in zip(whole.network.parameters(), cut.network.parameters(), strict=True):
        torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-6)
    one, other = whole.position.rows[0], cut.position.rows[0]
    assert other.train_loss == pytest.approx(one.train_loss, rel=1e-5) and other.train_accuracy == one.train_accuracy


@pytest.mark.parametrize("kind", ["triplet", "centre"])
def test_what_is_no_mean_over_images_is_not_cut(kind: str) -> None:
    with pytest.raises(ValueError, match="accumulate"):
        recipe_of(PHASED, {"objective": {"kind": kind}, "training": {"accumulate": 2}})
    with pytest.raises(ValueError, match="parts"):
        recipe_of(TABLES, {"training": {"batch": 8, "accumulate": 5}})


def assembled(world: World = World(), **training: Any) -> list[object]:  # noqa: B008
    told: list[object] = []
    recipe = recipe_of(TABLES, {"training": training, "head": {"kind": "native"}})
    network = tiny_network()
    network.classifier_name = "6"  # type: ignore[assignment]
    data = replace(data_for(recipe), world=world)
    training_module(recipe, network, data, torch.float32, told.append)
    return told


def test_batch_norms_that_see_parts_are_told(tmp_path: Path) -> None:
    (told,) = (event.text for event in assembled(accumulate=2) if isinstance(event, Message))
    assert "batch norms see 4 images" in told


def test_batch_norms_are_synchronised_on_cuda_alone(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="sync_batch_norm"):
        assembled(World(0, 2), sync_batch_norm=True)


def test_a_batch_that_processes_cannot_share_names_those_that_fit(tmp_path: Path) -> None:
    recipe = recipe_of(TABLES, {})
    data = data_for(recipe)
    split = SimpleNamespace(train=data.train, validation=data.validation)
    with pytest.raises(UsageError, match=r"3 processes .* batch of 8 .* 6 or 9, or 1, 2, 4 processes"):
        data_of(recipe, data.store, data.spec, split, 0, World(0, 3))  # type: ignore[arg-type]
    shared = data_of(recipe, data.store, data.spec, split, 0, World(0, 2))  # type: ignore[arg-type]
    assert shared.batch == 8


class Small(nn.Module):
    """A network on a device that has memory for so many images."""

    def __init__(self, images: int) -> None:
        super().__init__()
        self.images, self.layer = images, nn.Linear(3, 2)

    def forward(self, images: Tensor) -> Tensor:
        if len(images) > self.images:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        scores: Tensor = self.layer(images.mean((2, 3)))
        return scores


@pytest.mark.parametrize(("fit", "most", "expected"), [(50, 4096, 32), (8, 4096, 8), (4096, 100, 64), (4096, 5, 5)])
def test_the_largest_batch_is_found_by_doubling(
    fit: int, most: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "memory", lambda device: None)
    assert precision.largest_batch(Small(fit), 8, CPU, torch.float32, most, 0) == expected


def test_a_run_with_batch_auto_takes_what_fits_and_keeps_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FACEWRIGHT_CACHE", str(tmp_path / "cache"))
    said: list[object] = []
    changes = {"input.size": "32", "training.batch": "auto", "training.epochs": "1", "training.precision": "float32"}
    where, out = "synthetic:faces?identities=3&images=12&size=32", tmp_path / "run"
    run = train(where, model="plain_cnn", out=out, overrides=changes, report=False, on_event=said.append)
    expected = run.facts.counts["train"] // FEWEST_STEPS  # all fit, at most a quarter of the training part
    assert expected > 1 and run.recipe.training.batch == expected
    assert any(isinstance(event, Message) and event.text.startswith(f"batch {expected}:") for event in said)
    assert run.history[-1].steps == run.facts.counts["train"] // expected


def test_no_batch_fits() -> None:
    with pytest.raises(DeviceFault, match="batch of 8"):
        precision.largest_batch(Small(4), 8, CPU, torch.float32, 64, 0)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), r"batch of 64.*--batch 32.*--accumulate 2"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "batch of 64"),
        (
            RuntimeError("CUDA error: uncorrectable ECC error encountered\nmore"),
            r"cpu failed \(CUDA error: unc.*resume",
        ),
        (RuntimeError("f_cuda does not have a deterministic implementation, but"), "f_cuda.*--no-deterministic"),
    ],
)
def test_faults_of_a_device_are_one_line(error: RuntimeError, expected: str) -> None:
    told = devices.fault(error, CPU, 64)
    assert isinstance(told, FacewrightError)
    with pytest.raises(DeviceFault, match=expected):
        raise told
    assert "\n" not in str(told)


def test_other_errors_stay_what_they_are() -> None:
    error = RuntimeError("size mismatch")
    assert devices.fault(error) is error


def test_compiling_is_told_apart_from_the_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[object] = []
    monkeypatch.setattr(torch, "compile", lambda body, mode: compiled.append(mode) or body)
    now = [0.0]
    monkeypatch.setattr("facewright.training.trainer.time.monotonic", lambda: now[0])
    told: list[object] = []
    trainer = make_trainer(tmp_path, told.append, training={"compile": True, "epochs": 1})
    trainer.module = TrainingModule(trainer.network, trainer.module.objective, None, compiled="default")
    trainer.start_phase()
    step = trainer.step

    def slow(*inputs: Any) -> None:
        now[0] += 100 if trainer.warmups else 1
        step(*inputs)

    monkeypatch.setattr(trainer, "step", slow)
    (row,) = trainer.fit()
    assert len(compiled) == 1 and any("compiled in 100.0 s" in str(event) for event in told)
    assert row.seconds < 50 and row.images_per_second == pytest.approx(24 / 3, rel=0.01)


def test_deterministic_kernels_are_asked_for_during_the_run_alone() -> None:
    with devices.deterministic(CPU, True):
        assert not torch.are_deterministic_algorithms_enabled()
    with devices.deterministic(torch.device("cuda"), True):
        assert torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()
    assert np.isfinite(devices.memory(CPU).free)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("kind", "size", "changes", "expected"),
    [
        ("cuda", 1, {"compile": True}, "reduce-overhead"),
        ("cuda", 1, {"compile": False}, None),
        ("cuda", 1, {"compile": True, "accumulate": 2}, "default"),
        (
            "cuda",
            1,
            {"compile": True, "stages": ({"until": 0.5, "scale": 0.5}, {"until": 1.0, "scale": 1.0})},
            "default",
        ),
        ("cuda", 2, {"compile": True}, "default"),
        ("mps", 1, {"compile": True}, "default"),
        ("cpu", 1, {"compile": True}, "default"),
    ],
)
def test_cuda_graphs_are_for_one_device_and_one_shape(
    kind: str, size: int, changes: dict[str, Any], expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_of(TABLES, {"training": changes})
    mode = compile_mode(recipe, World(0, size, torch.device(kind)))
    assert mode == expected
    asked: list[str] = []
    monkeypatch.setattr(torch, "compile", lambda body, mode: asked.append(mode) or body)
    module = TrainingModule(plain_network(), Objective(recipe.objective, 3, 0, smoothing=0.1), None, compiled=mode)
    assert asked == ([] if expected is None else [expected])
    assert module.warmups == {"reduce-overhead": 3, "default": 1, None: 0}[expected]


def test_the_steps_that_record_a_graph_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    began: list[int] = []
    monkeypatch.setattr(torch, "compile", lambda body, mode: body)
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: began.append(1))
    told: list[object] = []
    trainer = make_trainer(tmp_path, told.append, training={"epochs": 2})
    trainer.module = TrainingModule(trainer.network, trainer.module.objective, None, compiled="reduce-overhead")
    trainer.start_phase()
    rows = trainer.fit()
    assert sum("compiled in" in str(event) for event in told) == 1
    assert sum(isinstance(event, StepFinished) for event in told) == 2 * 4 - 3 and len(began) == 2 * 4
    assert rows[0].images_seen == 32 and trainer.warmups == 0
