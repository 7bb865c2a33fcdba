"""A real accelerator beside the CPU, of which the default tests only pretend one; `benchmarks/gpu.py` measures more."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from facewright import evaluate, train
from facewright.bundle import Bundle
from facewright.embedding import Embedder
from facewright.events import EpochFinished
from facewright.input_spec import InputSpec
from facewright.models.catalog import create_model

pytestmark = pytest.mark.gpu
WHERE = "synthetic:faces?identities=3&images=12&size=32"
CHANGES = {"input.size": "32", "training.batch": "8", "training.precision": "float32", "training.epochs": "3"}


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    if not torch.accelerator.is_available():
        pytest.skip("PyTorch finds no GPU")
    monkeypatch.setenv("FACEWRIGHT_CACHE", str(tmp_path / "cache"))
    accelerator = torch.accelerator.current_accelerator()
    assert accelerator is not None
    return accelerator.type


def test_embeddings_are_the_cpus(gpu: str) -> None:
    torch.manual_seed(0)
    spec = InputSpec(112, 112, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    bundle = Bundle("resnet18", "imagenet", ("a", "b"), spec, create_model("resnet18", 2).state_dict())
    images = np.random.default_rng(0).integers(0, 256, (5, 112, 112, 3), np.uint8)
    here, there = (Embedder(bundle, device=name).embed(images) for name in ("cpu", gpu))
    assert (here * there).sum(1).min() >= 0.9999


def test_a_run_is_evaluated_alike_on_both(gpu: str, tmp_path: Path) -> None:
    run = train(WHERE, model="plain_cnn", out=tmp_path / "run", overrides=CHANGES, report=False, device=gpu)
    assert run.facts.device == gpu and np.isfinite([row.train_loss for row in run.history]).all()
    here, there = (evaluate(run.folder, WHERE, task="classification", device=name).to_dict() for name in ("cpu", gpu))
    assert there["log_loss"] == pytest.approx(here["log_loss"], abs=1e-3)


def test_a_deterministic_run_resumes_bit_identically(gpu: str, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def kill(event: object) -> None:
        if isinstance(event, EpochFinished) and event.row.epoch == 2:
            raise Killed

    changes = {**CHANGES, "training.deterministic": "true", "training.checkpoint_steps": "1"}
    options = {"model": "plain_cnn", "overrides": changes, "report": False, "device": gpu}
    whole = train(WHERE, out=tmp_path / "whole", **options)
    with pytest.raises(Killed):
        train(WHERE, out=tmp_path / "killed", on_event=kill, **options)
    again = train(WHERE, out=tmp_path / "killed", resume=True, **options)
    files = [(folder / "model.safetensors").read_bytes() for folder in (whole.folder, again.folder)]
    assert files[0] == files[1]
