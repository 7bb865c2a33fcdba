"""A few steps of a training of which nothing is kept: does it work and how long would it take; which learning rate."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import torch

from facewright import devices, platforms
from facewright.data.records import Dataset
from facewright.errors import NonFiniteLoss, UsageError
from facewright.events import EventHandler, Progress, ignore_event
from facewright.files import csv_text, write_atomic
from facewright.inference import Classifier
from facewright.records import Record
from facewright.training.distributed import joined
from facewright.training.trainer import Trainer
from facewright.workflows.training_jobs import prepared, trainer_of
from facewright.workflows.training_requests import Job, Request, check_weights, requested, stepwise

STEPS = 3  # timed in each phase, after one that is not: the first of a process allocates
SMOOTHING = 0.9  # share of the mean so far in the smoothed loss
DIVERGED = 4.0  # times the lowest smoothed loss: the test ends


class DryRun(Record):
    """The time and memory of a training, from a few of its steps."""

    model: str
    recipe: str
    dataset: str
    images: int  # of the training part
    classes: int
    device: str
    precision: str
    image_size: int
    batch: int
    steps_per_epoch: int
    epochs: int
    loss: float  # of the first batch
    seconds_per_step: dict[str, float]  # by phase
    seconds_per_epoch: float  # mean over the epochs of all phases, validation included
    seconds: float  # of all epochs; decoding, evaluation and report come on top
    peak_memory_bytes: int | None  # of this process, libraries included
    device_memory_bytes: int | None  # of the accelerator; None: the CPU
    parameters: int
    trained_parameters: dict[str, int]  # by phase


def dry_run(
    data: str | Path | Dataset,
    *,
    model: str = "resnet18",
    recipe: str | Path | None = None,
    seed: int = 0,
    overrides: Mapping[str, str] | None = None,
    task: str | None = None,
    device: str | None = None,
    on_event: EventHandler = ignore_event,
) -> DryRun:
    """Take a few batches through each phase: loading, training, validation, checkpoint, model file and prediction.

    The images are decoded into the store, as a training would; nothing else is kept.

    Args, Raises: as of `train`; UsageError: a probe has no steps.
    """
    asked = requested(data, model, recipe, overrides or {}, task, on_event)
    with _trial(asked, "there is nothing to time; run it", seed, device, on_event) as job:
        return _measured(job)


@contextmanager
def _trial(asked: Request, why: str, seed: int, device: str | None, on_event: EventHandler) -> Iterator[Job]:
    """Give a job of which nothing is kept, in a folder that vanishes; `why`: what a probe cannot give."""
    if asked.recipe.probe is not None:
        raise UsageError(f"a probe takes no training steps: {why}")
    check_weights(asked.model, asked.recipe)
    with TemporaryDirectory() as folder, joined(devices.choose(device)) as world:
        changed = dataclasses.replace(asked, recipe=stepwise(asked.recipe))
        try:
            yield prepared(Path(folder), changed, seed, world, on_event)
        except RuntimeError as error:
            raise devices.fault(error, world.device, changed.recipe.training.batch) from error


def _measured(job: Job) -> DryRun:
    trainer, facts, recipe = trainer_of(job), job.facts, job.recipe
    phases = {name: _timed(trainer, number) for number, (name, _) in enumerate(trainer.phases)}
    validation = _validation_seconds(trainer)
    trainer.checkpoint()
    trainer.save_best(trainer.network)
    read = Classifier.load(job.folder, str(job.world.device))
    read.logits(job.data.store.batch(job.data.split.validation[:2]))
    per_epoch = {name: trainer.data.steps * seconds + validation for name, (seconds, _, _) in phases.items()}
    total = sum(phase.epochs * per_epoch[name] for name, phase in trainer.phases)
    return DryRun(
        model=facts.title,
        recipe=recipe.name,
        dataset=facts.dataset,
        images=len(trainer.data.train),
        classes=len(facts.classes),
        device=str(job.world.device),
        precision=facts.precision,
        image_size=facts.image_size,
        batch=trainer.data.batch,
        steps_per_epoch=trainer.data.steps,
        epochs=recipe.epochs,
        loss=next(iter(phases.values()))[1],
        seconds_per_step={name: seconds for name, (seconds, _, _) in phases.items()},
        seconds_per_epoch=total / recipe.epochs,
        seconds=total,
        peak_memory_bytes=platforms.peak_memory_bytes(),
        device_memory_bytes=devices.peak_memory(job.world.device),
        parameters=facts.parameters,
        trained_parameters={name: trained for name, (_, _, trained) in phases.items()},
    )


def _timed(trainer: Trainer, phase: int) -> tuple[float, float, int]:
    """Start a phase; return the median time of a step with its loading, the first loss, and how many weights learn."""
    trainer.position.phase = phase
    trainer.start_phase()
    trained = sum(weights.numel() for weights in trainer.network.parameters() if weights.requires_grad)
    trainer.prepare_inputs()
    loader, position = trainer.loader, trainer.position
    assert loader is not None
    trainer.wrapped.train()
    times: list[float] = []
    before = time.monotonic()
    size = trainer.recipe.input.size
    batches = trainer.inputs_data.plan(0)[: STEPS + 1]
    seen, total = position.seen, position.loss_sum
    loss = 0.0
    for inputs, indices in loader.training(batches, size, 0, 0, 0):
        trainer.step(inputs, indices)
        trainer.settle()
        times.append(time.monotonic() - before)
        before = time.monotonic()
        loss = loss or (position.loss_sum - total) / (position.seen - seen)
    timed = sorted(times[1:] or times)
    return timed[len(timed) // 2], loss, trained


@torch.inference_mode()
def _validation_seconds(trainer: Trainer) -> float:
    assert trainer.loader is not None
    started = time.monotonic()
    inputs, rows = next(iter(trainer.loader.validation(trainer.recipe.input.size)))
    float(trainer.module.scores(trainer.validated_network.eval(), inputs).sum())  # waits for the device
    return (time.monotonic() - started) * len(trainer.data.validation) / len(rows)


class RateStep(Record):
    """One step of the test."""

    learning_rate: float
    loss: float
    smoothed_loss: float  # exponential mean of the losses so far, without bias to the first


class LearningRates(Record):
    """The losses at rising learning rates."""

    frame_rows: ClassVar[str] = "steps"

    model: str
    recipe: str
    dataset: str
    batch: int
    steps: tuple[RateStep, ...]
    suggestion: float | None  # where the smoothed loss falls most steeply; None: it does not fall
    diverged_at: float | None  # the rate at which the test ended early; None: it did not

    def to_csv(self, path: Path) -> None:
        """Write a row a step."""
        rows = [[step.learning_rate, step.loss, step.smoothed_loss] for step in self.steps]
        write_atomic(path, csv_text(["learning_rate", "loss", "smoothed_loss"], rows))

    def to_plot(self, path: Path) -> None:
        """Draw the losses over the learning rate, as PNG or SVG."""
        import io

        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.add_subplot(xscale="log", xlabel="learning rate", ylabel="training loss")
        rates = [step.learning_rate for step in self.steps]
        axes.plot(rates, [step.loss for step in self.steps], color="0.75", linewidth=1, label="loss of a batch")
        axes.plot(rates, [step.smoothed_loss for step in self.steps], color="C0", label="smoothed")
        if self.suggestion is not None:
            axes.axvline(self.suggestion, color="C3", linestyle="--", label=f"suggestion {self.suggestion:.2g}")
        lowest = min(step.smoothed_loss for step in self.steps)
        axes.set_ylim(max(0.0, 0.8 * lowest), 1.5 * self.steps[0].smoothed_loss)
        axes.legend()
        out = io.BytesIO()
        figure.savefig(out, format=path.suffix.lower().removeprefix(".") or "png", dpi=150)
        write_atomic(path, out.getvalue())


def find_learning_rate(
    data: str | Path | Dataset,
    *,
    model: str = "resnet18",
    recipe: str | Path | None = None,
    seed: int = 0,
    overrides: Mapping[str, str] | None = None,
    steps: int = 100,
    low: float = 1e-6,
    high: float = 1.0,
    device: str | None = None,
    on_event: EventHandler = ignore_event,
) -> LearningRates:
    """Train a few steps at learning rates that rise from `low` to `high`, and suggest one; nothing is kept.

    Only the training part is read. In a recipe of phases the last phase is tested, from the weights it would start with
    (its earlier phases untrained). What is not described here is as of `train`.

    Args:
        steps: at most so many, over as many epochs as that takes.
        low: the first rate.
        high: the last rate.
    Raises:
        UsageError: the rates do not rise, or the recipe is a probe. As `train`.
    Source: Smith 2017, "Cyclical learning rates for training neural networks", section 3.3; the suggestion is the
    steepest fall of the smoothed loss over the logarithm of the rate, before the loss is lowest.
    """
    if not (0 < low < high <= 1000 and 5 <= steps <= 10_000):
        raise UsageError(f"expected 0 < low < high <= 1000 and 5 to 10,000 steps, got {low:g}, {high:g}, {steps}")
    asked = requested(data, model, recipe, overrides or {}, None, on_event)
    with _trial(asked, "it has no learning rate", seed, device, on_event) as job:
        trainer = trainer_of(job)
        trainer.position.phase = len(trainer.phases) - 1
        trainer.start_phase()
        found, diverged = _rising(trainer, steps, low, high, on_event)
    return LearningRates(
        model=job.facts.title,
        recipe=asked.recipe.name,
        dataset=job.facts.dataset,
        batch=trainer.data.batch,
        steps=found,
        suggestion=suggestion(found),
        diverged_at=diverged,
    )


def _rising(
    trainer: Trainer, steps: int, low: float, high: float, on_event: EventHandler
) -> tuple[tuple[RateStep, ...], float | None]:
    """Take the steps; return them and the rate at which the loss diverged."""
    base, position = trainer.phase.learning_rate, trainer.position
    trainer.rate_factor = lambda step: rate / base  # type: ignore[method-assign]
    trainer.prepare_inputs()
    trainer.wrapped.train()
    assert trainer.loader is not None
    found: list[RateStep] = []
    mean = 0.0
    for epoch in count():
        size = trainer.recipe.input.size
        for inputs, indices in trainer.loader.training(trainer.inputs_data.plan(epoch), size, epoch, epoch, 0):
            rate = low * (high / low) ** (len(found) / (steps - 1))
            before, seen = position.loss_sum, position.seen
            try:
                trainer.step(inputs, indices)
                trainer.settle()
            except NonFiniteLoss:
                return tuple(found), rate
            loss = (position.loss_sum - before) / (position.seen - seen)
            mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
            smoothed = mean / (1 - SMOOTHING ** (len(found) + 1))
            found.append(RateStep(learning_rate=rate, loss=loss, smoothed_loss=smoothed))
            on_event(Progress("learning rates", len(found), steps))
            if smoothed > DIVERGED * min(step.smoothed_loss for step in found):
                return tuple(found), rate
            if len(found) == steps:
                return tuple(found), None
    raise AssertionError("unreachable")


def suggestion(steps: tuple[RateStep, ...]) -> float | None:
    """Return the rate of the steepest fall of the smoothed loss before its lowest value; None where it never falls.

    >>> losses = [3.0, 2.9, 2.0, 1.5, 1.4, 6.0]
    >>> made = [RateStep(learning_rate=10.0 ** (k - 5), loss=x, smoothed_loss=x) for k, x in enumerate(losses)]
    >>> suggestion(tuple(made))
    0.001
    """
    lowest = min(range(len(steps)), key=lambda place: steps[place].smoothed_loss)
    width = max(1, len(steps) // 20)  # steps on either side, so that one batch decides nothing
    slopes = []
    for place in range(max(width, len(steps) // 10), lowest - width + 1):  # the mean of the first few is of few batches
        before, after = steps[place - width], steps[place + width]
        rise = (after.smoothed_loss - before.smoothed_loss) / math.log(after.learning_rate / before.learning_rate)
        slopes.append((rise, steps[place].learning_rate))
    steepest = min(slopes, default=(0.0, 0.0))
    return steepest[1] if steepest[0] < 0 else None
