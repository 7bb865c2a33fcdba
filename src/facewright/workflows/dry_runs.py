"""A few steps through all of a training, to see that it works and how long it would take; nothing is kept."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import torch

from facewright import devices, platforms
from facewright.data.records import Dataset
from facewright.events import EventHandler, ignore_event
from facewright.inference import Classifier
from facewright.records import Record
from facewright.training.trainer import Trainer
from facewright.workflows.training_jobs import stepwise, trainer_of, trial
from facewright.workflows.training_requests import Job, requested

STEPS = 3  # timed in each phase, after one that is not: the first of a process allocates


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
    with trial(asked, "there is nothing to time; run it", seed, device, on_event, stepwise) as job:
        return _measured(job)


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
    """Return the time that the whole validation part would take, from its first batch."""
    assert trainer.loader is not None
    started = time.monotonic()
    inputs, rows = next(iter(trainer.loader.validation(trainer.recipe.input.size)))
    float(trainer.module.scores(trainer.validated_network.eval(), inputs).sum())  # waits for the device
    return (time.monotonic() - started) * len(trainer.data.validation) / len(rows)
