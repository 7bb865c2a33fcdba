"""A training run small enough to be repeated many times: a tiny network with norm and dropout on drawn faces."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from facewright.bundle import put_head
from facewright.data.augment import Augment
from facewright.data.sampling import plan
from facewright.data.sources import open_dataset
from facewright.data.store import PixelStore
from facewright.events import Event
from facewright.heads import HeadSpec
from facewright.input_spec import InputSpec
from facewright.losses.objective import Objective, ObjectiveSpec
from facewright.models.catalog import create_model
from facewright.training import optimizers
from facewright.training.distributed import World
from facewright.training.feeding import Data
from facewright.training.freezing import freeze, rate_groups, trained_names
from facewright.training.phases import Phase, Settings
from facewright.training.schedule import Plateau, Schedule
from facewright.training.trainer import Trainer

DATA = "synthetic:faces?identities=3&images=16&size=32"
SETTINGS = Settings(batch=8, seed=3, clip=5.0, ema=0.9, checkpoint_steps=3)
SIZES = (32, 32, 32, 32)


def tiny_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Dropout(0.3),
        nn.Linear(96, 3),
    )  # fmt: skip


def make_trainer(
    folder: Path,
    cache: Path,
    settings: Settings = SETTINGS,
    on_event: Callable[[Event], None] = lambda event: None,
    schedule: str = "cosine",
    rate: float = 0.01,
    sizes: tuple[int, ...] = SIZES,
    smoothing: float = 0.1,
) -> Trainer:
    spec = InputSpec(32, 32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    store = PixelStore.open(open_dataset(DATA), spec, cache=cache, workers=1)
    rows = np.arange(len(store.dataset.records))
    train = rows[rows % 3 != 0]
    steps = len(train) // settings.batch

    def begin(network: nn.Module) -> torch.optim.Optimizer:
        return optimizers.build(optimizers.Rule(weight_decay=0.05), rate_groups(network, 1.0), rate)

    phase = Phase(
        name="train",
        sizes=sizes,
        schedule=Schedule(schedule, steps * len(sizes), steps, warmup=0.1),
        begin=begin,
        plateau=Plateau(0.5, 0) if schedule == "plateau" else None,
    )
    return Trainer(
        model=tiny_network(),
        objective=Objective(ObjectiveSpec(smoothing=smoothing), 3, 0),
        head=None,
        phases=(phase,),
        data=Data(
            store,
            spec,
            train,
            rows[rows % 3 == 0],
            Augment(rotation=10, erase=0.5),
            lambda epoch: plan(train, settings.batch, settings.seed, epoch),
        ),
        settings=settings,
        folder=folder,
        keep=lambda best: None,
        on_event=on_event,
        world=World(),
    )


def make_phased_trainer(
    folder: Path,
    cache: Path,
    settings: Settings = SETTINGS,
    on_event: Callable[[Event], None] = lambda event: None,
    draws: int = 2,
) -> Trainer:
    """A frozen body with a head on its features, two draws in turn for three epochs; then the last stage too for two.

    Centre loss, because its centres are state of their own.
    """
    spec = InputSpec(32, 32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    store = PixelStore.open(open_dataset(DATA), spec, cache=cache, workers=1)
    rows = np.arange(len(store.dataset.records))
    train = rows[rows % 3 != 0]
    steps = len(train) // settings.batch
    cosine, plateau = (Schedule(name, n * steps, steps) for name, n in (("cosine", 3), ("plateau", 2)))
    torch.manual_seed(0)
    network = create_model("plain_cnn", 3, input_size=32)
    put_head(network, HeadSpec(embedding=6, dropout=0.2), 3)

    def beginning(which: str, rate: float) -> Callable[[nn.Module], torch.optim.Optimizer]:
        names = trained_names(network, which)

        def begin(model: nn.Module) -> torch.optim.Optimizer:
            freeze(model, names)
            return optimizers.build(optimizers.Rule(weight_decay=0.05), rate_groups(model, 0.7), rate)

        return begin

    return Trainer(
        model=network,
        objective=Objective(ObjectiveSpec("centre", weight=0.1), 3, 6),
        head=network.classifier_name,
        phases=(
            Phase("head", (32,) * 3, cosine, beginning("head", 0.01), draws=draws),
            Phase("body", (32,) * 2, plateau, beginning("last-stage", 0.005), Plateau(0.5, 0)),
        ),
        data=Data(
            store, spec, train, rows[rows % 3 == 0], Augment(rotation=10),
            lambda epoch: plan(train, settings.batch, settings.seed, epoch),
        ),
        settings=settings,
        folder=folder,
        keep=lambda best: None,
        on_event=on_event,
        world=World(),
    )  # fmt: skip


def bits(trainer: Trainer) -> str:
    """One digest of everything trained: weights, averages, optimizer, and the counts of the history."""
    state = trainer.state()
    digest = hashlib.blake2b()
    for name in sorted(state.tensors):
        digest.update(name.encode())
        digest.update(state.tensors[name].detach().contiguous().numpy().tobytes())
    for row in trainer.progress.rows:
        digest.update(repr(replace(row, seconds=0.0, images_per_second=0.0)).encode())
    return digest.hexdigest()
