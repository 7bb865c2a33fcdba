"""A training run small enough to be repeated many times: a tiny network with norm and dropout on drawn faces."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from facewright.data.augment import Augment
from facewright.data.sources import open_dataset
from facewright.data.store import PixelStore
from facewright.input_spec import InputSpec
from facewright.training import optimizers
from facewright.training.distributed import World
from facewright.training.events import Event
from facewright.training.schedule import Plateau, Schedule
from facewright.training.trainer import Data, Settings, Trainer

DATA = "synthetic:faces?identities=3&images=16&size=32"
SETTINGS = Settings(
    epochs=4, batch=8, seed=3, sizes=(32, 32, 32, 32), label_smoothing=0.1, clip=5.0, ema=0.9, checkpoint_steps=3
)


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
    listen: Callable[[Event], None] = lambda event: None,
    schedule: str = "cosine",
    rate: float = 0.01,
) -> Trainer:
    spec = InputSpec(32, 32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    store = PixelStore.open(open_dataset(DATA), spec, cache=cache, workers=1)
    rows = np.arange(len(store.dataset.records))
    network = tiny_network()
    steps = len(rows[rows % 3 != 0]) // settings.batch
    return Trainer(
        model=network,
        optimizer=optimizers.build("adamw", network, rate, 0.05, False, 0.9, 0.999),
        schedule=Schedule(schedule, steps * settings.epochs, steps, warmup=0.1),
        plateau=Plateau(0.5, 0) if schedule == "plateau" else None,
        data=Data(store, spec, rows[rows % 3 != 0], rows[rows % 3 == 0], Augment(rotation=10, erase=0.5), workers=0),
        settings=settings,
        folder=folder,
        keep=lambda best: None,
        listen=listen,
        world=World(),
    )


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
