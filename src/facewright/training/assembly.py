"""From a recipe to a trainer: the one place where configuration becomes plain values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from facewright.errors import UsageError
from facewright.models.catalog import create_model
from facewright.training import callbacks, optimizers
from facewright.training.distributed import World
from facewright.training.events import Listener
from facewright.training.recipe import Recipe
from facewright.training.schedule import Plateau, Schedule
from facewright.training.seeds import derive
from facewright.training.trainer import Data, Settings, Trainer


def fresh_weights(model: str, classes: int, recipe: Recipe, seed: int) -> nn.Module:
    """A new network; its weights are a function of the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "weights"))
        network: nn.Module = create_model(model, classes, input_size=recipe.input.size, stem=recipe.input.stem)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def assemble(
    recipe: Recipe,
    network: nn.Module,
    data: Data,
    folder: Path,
    keep: Callable[[nn.Module], None],
    settings: Settings,
    listen: Listener,
    world: World,
) -> Trainer:
    """A trainer that writes metrics.csv, events/ and checkpoints/ into the folder.

    Args:
        settings: from `settings_of`.
        keep: called with the best weights so far.
    """
    chosen, plan = recipe.optimizer, recipe.schedule
    steps = len(data.train) // settings.batch
    total = steps * settings.epochs
    optimizer = optimizers.build(
        chosen.name, network, chosen.learning_rate, chosen.weight_decay, chosen.decay_all, chosen.momentum, chosen.beta2
    )
    trainer = Trainer(
        model=network,
        optimizer=optimizer,
        schedule=Schedule(plan.name, total, steps, plan.warmup, plan.floor, plan.every, plan.factor),
        plateau=Plateau(plan.factor, plan.patience, plan.floor) if plan.name == "plateau" else None,
        data=data,
        settings=settings,
        folder=folder,
        keep=keep,
        listen=listen,
        world=world,
    )
    if world.writes:
        table = callbacks.to_metrics_csv(folder / "metrics.csv", lambda: trainer.progress.rows)
        trainer.listen = callbacks.together(table, callbacks.to_tensorboard(folder / "events"), listen)
    return trainer


def settings_of(recipe: Recipe, images: int, seed: int, dtype: torch.dtype, world: World) -> Settings:
    """The numbers of the loop; a batch never exceeds the data and is shared evenly by the processes.

    Args:
        images: of the training part.
    Raises:
        UsageError: the batch is smaller than the number of processes.
    """
    numbers = recipe.training
    batch = min(numbers.batch, images) // world.size * world.size
    if batch < 2 * world.size:
        raise UsageError(f"expected at least two images a process in a batch, got {numbers.batch} for {world.size}")
    return Settings(
        epochs=numbers.epochs,
        batch=batch,
        seed=seed,
        sizes=stage_sizes(recipe),
        label_smoothing=numbers.label_smoothing,
        mixup=numbers.mixup,
        cutmix=numbers.cutmix,
        clip=numbers.clip,
        ema=numbers.ema,
        metric=recipe.selection.metric,
        patience=recipe.selection.patience,
        dtype=dtype,
        checkpoint_seconds=numbers.checkpoint_seconds,
        checkpoint_steps=numbers.checkpoint_steps,
    )


def stage_sizes(recipe: Recipe) -> tuple[int, ...]:
    """Side in pixels for each epoch; below the full size a multiple of 16.

    >>> from facewright.training.recipe import load, override
    >>> stage_sizes(override(load("notebook-adam"), {"training.epochs": "2"}))
    (112, 112)
    """
    full, epochs = recipe.input.size, recipe.training.epochs
    sizes = []
    for epoch in range(epochs):
        scale = next((s.scale for s in recipe.training.stages if (epoch + 1) / epochs <= s.until + 1e-9), 1.0)
        sizes.append(full if scale == 1.0 else max(32, round(full * scale / 16) * 16))
    return tuple(sizes)
