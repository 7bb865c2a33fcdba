"""The loop: what it counts, keeps and refuses. Resuming has a file of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from facewright.data.sampling import derive
from facewright.errors import NonFiniteLoss
from facewright.events import EpochFinished, StepFinished
from facewright.training import checkpoints
from facewright.training.validation import Validation
from fixtures.trainers import PHASED, make_phased_trainer, make_trainer

HEAD = PHASED["phases"]["head"]
STAGES = [{"until": 0.5, "scale": 0.5}, {"until": 1.0, "scale": 1.0}]


def test_counts_and_curves(tmp_path: Path) -> None:
    events: list[object] = []
    trainer = make_trainer(tmp_path, on_event=events.append)
    rows = trainer.fit()
    assert [row.epoch for row in rows] == [1, 2, 3, 4]
    assert [row.images_seen for row in rows] == [32, 64, 96, 128]  # 4 batches of 8 an epoch
    assert [row.steps for row in rows] == [4, 8, 12, 16]
    assert len([event for event in events if isinstance(event, StepFinished)]) == 16
    assert [event.row for event in events if isinstance(event, EpochFinished)] == list(rows)
    assert all(0 <= row.train_accuracy <= 1 and row.train_loss > 0 for row in rows)


def test_it_learns(tmp_path: Path) -> None:
    rows = make_trainer(
        tmp_path,
        optimizer={"learning_rate": 0.02},
        training={"epochs": 25, "label_smoothing": 0.0, "checkpoint_steps": 0},
    ).fit()
    assert rows[-1].train_loss < 0.6 * rows[0].train_loss


@pytest.mark.parametrize("metric", ["loss", "accuracy"])
def test_the_best_epoch_is_kept(tmp_path: Path, metric: str) -> None:
    trainer = make_trainer(tmp_path, selection={"metric": metric})
    kept: list[int] = []
    trainer.save_best = lambda model: kept.append(trainer.position.epoch + 1)
    rows = trainer.fit()
    scores = [(0 if metric == "loss" else row.validation_accuracy, -row.validation_loss) for row in rows]  # ties: loss
    firsts = [n for n, score in enumerate(scores, start=1) if all(score > other for other in scores[: n - 1])]
    assert kept == firsts == [row.epoch for row in rows if row.best]


def test_only_epochs_at_the_full_size_are_kept(tmp_path: Path) -> None:
    rows = make_trainer(tmp_path, input={"size": 64}, training={"stages": STAGES}).fit()
    assert [row.image_size for row in rows] == [32, 32, 64, 64]
    assert not any(row.best for row in rows[:2]) and rows[2].best


def test_stops_early_without_improvement(tmp_path: Path) -> None:
    rows = make_trainer(
        tmp_path,
        optimizer={"learning_rate": 0.5},
        training={"epochs": 30, "checkpoint_steps": 0},
        selection={"patience": 2},
    ).fit()
    assert len(rows) < 30
    assert not rows[-1].best and not rows[-2].best


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_mixed_pictures_train(tmp_path: Path, kind: str) -> None:
    rows = make_trainer(tmp_path, training={kind: 0.4, "epochs": 1}).fit()
    assert len(rows) == 1


class Poisoned(nn.Module):
    """Turns to NaN at one call of training."""

    def __init__(self, learner: nn.Module, at: int) -> None:
        super().__init__()
        self.learner, self.at, self.calls = learner, at, 0

    def forward(self, images: torch.Tensor, targets: torch.Tensor, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        self.calls += 1
        loss, scores = self.learner(images, targets, step)
        return loss * float("nan") if self.calls == self.at else loss, scores


@pytest.mark.parametrize("step", [1, 6, 11])
def test_a_loss_that_is_no_number_stops_at_its_step(tmp_path: Path, step: int) -> None:
    trainer = make_trainer(tmp_path)
    trainer.wrapped = Poisoned(trainer.wrapped, at=step)
    with pytest.raises(NonFiniteLoss, match=rf"nan at step {step} .*learning rate .*images: person_") as error:
        trainer.fit()
    assert "\n" not in str(error.value)
    state = checkpoints.load(tmp_path / "checkpoints")
    assert (state is None) == (step <= 3)  # a checkpoint after every third step
    if state is not None:
        assert all(torch.isfinite(tensor).all() for tensor in state.tensors.values())


def test_averaged_weights_are_what_is_judged(tmp_path: Path) -> None:
    with_average = make_trainer(tmp_path / "a")
    without = make_trainer(tmp_path / "b", training={"ema": 0.0})
    assert with_average.validated_network is not with_average.network
    assert without.validated_network is without.network


def test_averaging_against_a_loop(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, training={"ema": 0.7, "epochs": 1})
    seen: list[torch.Tensor] = []
    trainer.on_event = lambda event: (
        seen.append(trainer.network[0].weight.detach().clone()) if isinstance(event, StepFinished) else None  # type: ignore[index,func-returns-value]
    )
    trainer.fit()
    expected = seen[0]
    for count, weight in enumerate(seen[1:], start=1):
        decay = min(0.7, (1 + count) / (10 + count))
        expected = decay * expected + (1 - decay) * weight
    assert trainer.average is not None
    torch.testing.assert_close(trainer.average.module[0].weight, expected)


def test_seeds_of_places_differ_and_stay() -> None:
    places = {derive(seed, "step", step) for seed in range(10) for step in range(100)}
    assert len(places) == 1000
    assert derive(0, "weights") == derive(0, "weights")


def test_phases_follow_one_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEWRIGHT_CACHE", str(tmp_path / "cache"))
    trainer = make_phased_trainer(tmp_path, training={"ema": 0.0})
    body = {name: tensor.clone() for name, tensor in trainer.network.state_dict().items()}
    seen: list[tuple[str, set[str]]] = []

    def changed(event: object) -> None:
        if isinstance(event, EpochFinished):
            now = trainer.network.state_dict()
            moved = {name.split(".")[0] for name, tensor in now.items() if not torch.equal(tensor, body[name])}
            seen.append((event.row.phase, moved))

    trainer.on_event = changed
    rows = trainer.fit()
    assert [row.phase for row in rows] == ["head"] * 3 + ["backbone"] * 2
    assert [row.epoch for row in rows] == [1, 2, 3, 4, 5]
    assert [moved for _, moved in seen] == [{"fc"}] * 3 + [{"fc", "conv2"}] * 2
    assert rows[3].learning_rate <= 0.005 < rows[0].learning_rate


def test_features_computed_once_train_as_the_frozen_body_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEWRIGHT_CACHE", str(tmp_path / "cache"))
    rows = []
    for draws in (3, 0):
        phases = {"head": HEAD | {"draws": draws}}
        rows.append(make_phased_trainer(tmp_path / str(draws), phases=phases).fit()[:3])
    for once, always in zip(*rows, strict=True):
        assert once.train_loss == pytest.approx(always.train_loss, rel=1e-4)
        assert once.validation_loss == pytest.approx(always.validation_loss, rel=1e-4)


def test_a_stalled_phase_gives_way_to_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEWRIGHT_CACHE", str(tmp_path / "cache"))
    trainer = make_phased_trainer(tmp_path, selection={"patience": 1})
    scores = iter([1.0, 0.5, 0.8, 1.5])
    monkeypatch.setattr(trainer, "validate", lambda: Validation(1.0, 0.5, next(scores)))
    kept: list[int] = []
    trainer.save_best = lambda model: kept.append(trainer.position.epoch + 1)
    rows = trainer.fit()
    assert [row.phase for row in rows] == ["head", "head", "backbone"], (
        "the best of all phases is what a phase must beat"
    )
    assert kept == [1]


def test_adaptive_clipping_holds_back_the_body_and_not_the_head(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACEWRIGHT_CACHE", str(tmp_path / "cache"))
    moved = []
    for clip in (0.0, 1e-9):
        trainer = make_phased_trainer(
            tmp_path / str(clip),
            training={"clip": 0.0, "ema": 0.0, "adaptive_clip": clip},
            phases={"head": HEAD | {"draws": 0}},
        )
        trainer.optimizer = torch.optim.SGD(trainer.network.parameters(), lr=0.1)
        for group in trainer.optimizer.param_groups:
            group["base"] = 0.1
        for parameter in trainer.network.parameters():
            parameter.requires_grad_(True)
        before = {name: tensor.clone() for name, tensor in trainer.network.named_parameters()}
        trainer.train_epoch(lambda: False)
        after = dict(trainer.network.named_parameters())
        moved.append({name: float((after[name] - before[name]).detach().norm()) for name in before})
    assert moved[1]["conv1.weight"] < 1e-3 * moved[0]["conv1.weight"]
    assert moved[1]["fc.classifier.weight"] > 0.1 * moved[0]["fc.classifier.weight"]


def test_the_next_phase_starts_from_the_averaged_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEWRIGHT_CACHE", str(tmp_path / "cache"))
    trainer = make_phased_trainer(tmp_path)
    ends: dict[str, torch.Tensor] = {}

    def on_event(event: object) -> None:
        if isinstance(event, EpochFinished) and event.row.epoch == 3:  # the last of the first phase
            assert trainer.average is not None
            ends["averaged"] = trainer.average.module.fc.classifier.weight.detach().clone()  # type: ignore[union-attr]
            ends["raw"] = trainer.network.fc.classifier.weight.detach().clone()  # type: ignore[union-attr,operator]
        elif isinstance(event, StepFinished) and event.epoch == 4 and event.step == 1:
            ends["next"] = starts.pop()

    starts: list[torch.Tensor] = []
    start_phase = trainer.start_phase

    def watched() -> None:
        starts.append(trainer.network.fc.classifier.weight.detach().clone())  # type: ignore[union-attr,operator]
        start_phase()

    monkeypatch.setattr(trainer, "start_phase", watched)
    trainer.on_event = on_event
    trainer.fit()
    assert not torch.equal(ends["raw"], ends["averaged"]), "the test wants a run in which the two differ"
    assert torch.equal(ends["next"], ends["averaged"])
