"""A dry run and the learning-rate test: a few steps of the true training, and nothing left behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facewright import dry_run, find_learning_rate, train
from facewright.cli.main import main
from facewright.data.store import PixelStore
from facewright.errors import UsageError
from facewright.training.trainer import Trainer
from facewright.workflows.dry_runs import RateStep, suggestion

DATA = "synthetic:faces?identities=2&images=20&size=32"
QUICK = {"input.size": "32", "training.precision": "float32", "training.batch": "4"}


def test_a_dry_run_takes_the_steps_of_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Trainer, "fit", None)  # never called
    clock = iter(np.arange(0, 10_000, 0.5))
    monkeypatch.setattr("facewright.workflows.dry_runs.time.monotonic", lambda: float(next(clock)))
    found = dry_run(DATA, model="plain_cnn", overrides={**QUICK, "training.epochs": "3"})
    assert (found.images, found.classes, found.batch, found.steps_per_epoch, found.epochs) == (28, 2, 4, 7, 3)
    assert found.seconds_per_step == {"train": 0.5}  # of this clock
    assert found.seconds == pytest.approx(3 * (7 * 0.5 + 0.5)) and found.seconds_per_epoch == pytest.approx(4.0)
    assert found.loss > 0 and found.trained_parameters == {"train": found.parameters}
    assert list(tmp_path.iterdir()) == []


def test_each_phase_is_tried_without_computing_features_of_all_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("facewright.training.trainer.FeatureLoader", None)  # would compute them
    start = train(
        DATA, model="plain_cnn", overrides={**QUICK, "training.epochs": "1"}, out=tmp_path / "a", report=False
    )
    weights = start.folder / "model.safetensors"
    found = dry_run(DATA, model=f"plain_cnn@{weights}", recipe="finetune", overrides={"input.size": "32"})
    assert list(found.seconds_per_step) == ["head", "backbone"] and found.epochs == 25
    assert found.trained_parameters["head"] < found.trained_parameters["backbone"] == found.parameters


def test_only_training_and_validation_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    own = PixelStore.batch

    def batch(store: PixelStore, indices: np.ndarray) -> Any:
        seen.extend(indices.tolist())
        return own(store, indices)

    monkeypatch.setattr(PixelStore, "batch", batch)
    find_learning_rate(DATA, model="plain_cnn", overrides=QUICK, steps=10)
    assert 0 < len(set(seen)) <= 28


def test_the_rate_rises_evenly_and_the_loss_is_that_of_the_steps() -> None:
    found = find_learning_rate(DATA, model="plain_cnn", overrides=QUICK, steps=9, low=1e-6, high=1e-2)
    rates = [step.learning_rate for step in found.steps]
    assert np.allclose(np.diff(np.log10(rates)), 0.5) and rates[0] == 1e-6 and rates[-1] == pytest.approx(1e-2)
    losses = np.array([step.loss for step in found.steps])
    for number, step in enumerate(found.steps):  # the bias-free exponential mean, written out
        weights = 0.9 ** np.arange(number, -1, -1)
        assert step.smoothed_loss == pytest.approx((weights * losses[: number + 1]).sum() / weights.sum())


def test_a_rate_far_too_high_ends_the_test() -> None:
    found = find_learning_rate(
        DATA, model="plain_cnn", overrides={**QUICK, "optimizer.name": "sgd"}, steps=60, low=1e-4, high=1e3
    )
    assert found.diverged_at is not None and len(found.steps) < 60
    assert found.suggestion is not None and found.suggestion < found.diverged_at


def test_no_suggestion_where_the_loss_does_not_fall() -> None:
    rising = tuple(RateStep(learning_rate=10.0**k, loss=k + 9.0, smoothed_loss=k + 9.0) for k in range(5))
    assert suggestion(rising) is None


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    changes = [word for key, value in QUICK.items() for word in ("--set", f"{key}={value}")]
    assert main(["train", DATA, "--model", "plain_cnn", "--dry-run", "--json", "-q", *changes]) == 0
    assert json.loads(capsys.readouterr().out)["steps_per_epoch"] == 7
    plot = ["--plot", "rates.png", "--csv", "rates.csv"]
    assert main(["lr-find", DATA, "--model", "plain_cnn", "--steps", "9", "-q", *plot, *changes]) == 0
    assert "learning rate" in capsys.readouterr().out
    assert (
        Path("rates.png").read_bytes().startswith(b"\x89PNG") and len(Path("rates.csv").read_text().splitlines()) == 10
    )
    assert not Path("runs").exists()


@pytest.mark.parametrize("low, high, steps", [(1e-2, 1e-3, 20), (0.0, 1.0, 20), (1e-3, 1.0, 2)])
def test_rates_that_do_not_rise_are_refused(low: float, high: float, steps: int) -> None:
    with pytest.raises(UsageError, match="low < high"):
        find_learning_rate(DATA, model="plain_cnn", low=low, high=high, steps=steps)


def test_a_dry_run_tells_the_loss_that_the_training_begins_with(tmp_path: Path) -> None:
    tried = dry_run(DATA, model="plain_cnn", overrides={**QUICK, "training.batch": "28", "training.epochs": "1"})
    run = train(
        DATA, model="plain_cnn", overrides={**QUICK, "training.batch": "28", "training.epochs": "1"},
        out=tmp_path / "run", report=False,
    )  # fmt: skip
    assert tried.loss == pytest.approx(run.history[0].train_loss)
