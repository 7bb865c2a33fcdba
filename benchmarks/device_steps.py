"""A training step of ArcFace, its speed, and the ways of feeding it, one of them a plain loop. For gpu.py."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import numpy as np
import torch
from device_agreement import AUGMENT
from PIL import Image
from torch import Tensor

from facewright import devices
from facewright.data.loaders import Loader
from facewright.data.sampling import plan
from facewright.heads import put_head
from facewright.losses.objective import Objective
from facewright.models.catalog import create_model
from facewright.specs import HeadSpec, ObjectiveSpec
from facewright.training import optimizers
from facewright.training.distributed import World
from facewright.training.recipe_parts import OptimizerSpec
from facewright.training.sharding import ShardedObjective, Sharding
from facewright.training.training_module import TrainingModule


class Step:
    """A training step of ArcFace on a device."""

    def __init__(
        self, name: str, size: int, classes: int, device: torch.device, dtype: torch.dtype, mode: str | None = None
    ) -> None:
        torch.manual_seed(0)
        network = create_model(name, 2, input_size=size)
        put_head(network, HeadSpec(kind="cosine", scale=64.0, embedding=512), classes)
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        objective = Objective(ObjectiveSpec(kind="arcface"), classes, 512)
        self.module = TrainingModule(network, objective, network.classifier_name, dtype, mode).to(device)
        groups = optimizers.rate_groups(self.module.network, 1.0)
        self.optimizer = optimizers.build(OptimizerSpec(name="sgd", learning_rate=0.01), groups, 0.01)
        self.classes, self.device, self.number = classes, device, 0

    def sample(self, negatives: float) -> None:
        """Take only a share of the classes a step, as Partial FC does."""
        sharding = Sharding(World(device=self.device), self.classes)
        self.module.objective = ShardedObjective(ObjectiveSpec(kind="arcface"), sharding, negatives).to(self.device)

    def __call__(self, images: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(self.number)
        labels = devices.moved(torch.randint(self.classes, (len(images),), generator=generator), self.device)
        self.optimizer.zero_grad(set_to_none=True)
        loss, _ = self.module(images, labels, self.number)
        torch.autograd.backward(loss)
        self.optimizer.step()
        self.number += 1
        detached: Tensor = loss.detach()
        return detached


def wait(device: torch.device) -> None:
    if device.type in devices.ACCELERATORS:
        torch.accelerator.synchronize(device)


def speed(step: Callable[[Tensor], object], batches: Iterator[Tensor], device: torch.device, seconds: float) -> float:
    """Images a second; the first three batches do not count."""
    for _ in range(3):
        step(next(batches))
    wait(device)
    began, images = time.perf_counter(), 0
    while not images or time.perf_counter() - began < seconds:
        batch = next(batches)
        step(batch)
        images += len(batch)
    wait(device)
    return images / (time.perf_counter() - began)


def ours(loader: Loader, rows: np.ndarray, batch: int) -> Iterator[Tensor]:
    """Batches of one epoch after the other."""
    for epoch in count():
        for one in loader.epoch(plan(rows, batch, 0, epoch), epoch):
            yield one.images


class Jpegs(torch.utils.data.Dataset[Tensor]):
    """What a plain loop does to a JPEG; an epoch is long, for between two of them the workers have nothing to do."""

    TIMES = 1000  # that an epoch shows each

    def __init__(self, paths: list[Path], size: int) -> None:
        self.paths, self.size = paths, size

    def __len__(self) -> int:
        return self.TIMES * len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        with Image.open(self.paths[index % len(self.paths)]) as image:
            photo = image.convert("RGB").resize((self.size, self.size))
        if torch.rand(()) < AUGMENT.flip:
            photo = photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return (torch.from_numpy(np.array(photo)).permute(2, 0, 1).float() / 255 - 0.5) / 0.5


def plain(paths: list[Path], size: int, batch: int, workers: int, device: torch.device) -> Iterator[Tensor]:
    loader = torch.utils.data.DataLoader(
        Jpegs(paths, size), batch, shuffle=True, drop_last=True, num_workers=workers,
        pin_memory=device.type == "cuda", persistent_workers=workers > 0,
    )  # fmt: skip
    while True:
        for images in loader:
            yield images.to(device, non_blocking=True)
