"""The inputs of each step: augmented images, or features of a frozen backbone that were computed before."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from facewright.data.loaders import ExtendedStore, ImageStore, Loader, resident
from facewright.data.sampling import shard
from facewright.devices import moved
from facewright.events import EventHandler, Message, Progress
from facewright.files import cache_folder
from facewright.input_spec import InputSpec
from facewright.specs import Augment
from facewright.training.distributed import World
from facewright.training.features import FeatureInputs, Features, features_of
from facewright.training.recipe_parts import Plan, Sampling
from facewright.training.training_module import TrainingModule

VALIDATED = 64  # images a batch

Inputs = tuple[Tensor, NDArray[np.int64]]
"""Images (B, 3, H, W) or features (B, F), float32, and the rows (B,) of the store they are of."""


@dataclass(frozen=True, eq=False)
class VerificationSet:
    """Pairs of images that no part of the training data holds.

    name: of the list. store: its images. rows: (P, 2) of the store, -1 for an image that cannot be read.
    same: (P,) whether both show one person. fold: (P,) from 0, or None.
    """

    name: str
    store: ImageStore
    rows: NDArray[np.int64]
    same: NDArray[np.bool_]
    fold: NDArray[np.int64] | None


@dataclass(frozen=True)
class Data:
    """The training and validation data."""

    store: ImageStore
    spec: InputSpec
    train: NDArray[np.int64]  # rows of the store
    validation: NDArray[np.int64]
    augment: Augment
    plan: Plan  # the batches of an epoch
    batch: int  # images a batch, over all processes
    steps: int  # of an epoch
    seed: int
    unit: int = 1  # images of a batch that stay in one process: those of a pair, a triplet, a person
    sets: tuple[VerificationSet, ...] = ()  # measured after each epoch
    workers: int = 0  # inline: prefetching threads gained nothing beside a training step on two cores

    @property
    def classes(self) -> int:
        """The number of scores: of classes, or of a task."""
        return len(self.store.dataset.classes)

    def joined(self, store: ExtendedStore, sampling: Sampling) -> Data:
        """Return the data with what the store adds in the training part too."""
        train = np.concatenate([self.train, np.arange(store.first, len(store.dataset.records))])
        plan = sampling.batches(train, store.dataset.labels[train], self.batch, self.seed)
        return replace(self, store=store, train=train, plan=plan)


class ImageLoader:
    """Images, with another augmentation in every epoch; they lie on the device where they fit."""

    def __init__(self, data: Data, world: World, on_event: EventHandler) -> None:
        rows = np.concatenate([data.train, data.validation])
        store, line = resident(data.store, rows, world.device)
        self.data = data if store is data.store else replace(data, store=store, workers=0)
        self.world = world
        if line is not None:
            on_event(Message(line))

    def training(
        self, batches: list[NDArray[np.int64]], size: int, epoch: int, phase_epoch: int, start: int
    ) -> Iterator[Inputs]:
        """Yield this process's share of each batch from `start` on; `epoch` of the run chooses the augmentation.

        Args:
            size: side in pixels.
        """
        data = self.data
        loader = Loader(data.store, data.spec, data.augment, size, data.seed, data.workers, self.world.device)
        for batch in loader.epoch(shares(batches, self.world, data.unit), epoch, start=start):
            yield batch.images, batch.indices

    def validation(self, size: int) -> Iterator[Inputs]:
        """Yield this process's share of the validation part."""
        data = self.data
        loader = Loader(data.store, data.spec, None, size, 0, data.workers, self.world.device)
        for batch in loader.epoch(_blocks(data.validation, self.world), 0):
            yield batch.images, batch.indices


class FeatureLoader:
    """Features of a frozen backbone; each epoch of the phase reads the next draw of the augmentation.

    Made by running the backbone once over everything, each process over its share.

    Args:
        module: its network is the backbone with its head.
        draws: augmentation draws to compute.
        size: side in pixels.
    Raises:
        FacewrightError: the cache cannot be written.
    """

    def __init__(
        self, data: Data, module: TrainingModule, draws: int, size: int, on_event: EventHandler, world: World
    ) -> None:
        self.data, self.world = data, world
        parts: list[Features] = []

        def report(done: int, total: int) -> None:
            on_event(Progress("features of the frozen backbone", done, total))

        for rows, augment, number in ((data.train, data.augment, draws), (data.validation, None, 1)):
            inputs = FeatureInputs(data.store, data.spec, rows, augment, size, data.seed, number)
            parts.append(features_of(module.network, inputs, module.dtype, cache_folder(), report, world))
        self.training_part, self.validation_part = parts

    def training(
        self, batches: list[NDArray[np.int64]], size: int, epoch: int, phase_epoch: int, start: int
    ) -> Iterator[Inputs]:
        """Yield this process's share of each batch from `start` on; `phase_epoch` chooses the draw."""
        for indices in shares(batches, self.world, self.data.unit)[start:]:
            yield moved(self.training_part.batch(indices, phase_epoch), self.world.device), indices

    def validation(self, size: int) -> Iterator[Inputs]:
        """Yield this process's share of the validation part."""
        for block in _blocks(self.data.validation, self.world):
            yield moved(self.validation_part.batch(block, 0), self.world.device), block


def shares(batches: list[NDArray[np.int64]], world: World, unit: int) -> list[NDArray[np.int64]]:
    """Return the share of this process in each batch, of whole units where the batch is made of them."""
    if unit == 1 or any(len(batch) % unit for batch in batches):
        return [shard(batch, world.rank, world.size) for batch in batches]
    return [shard(batch.reshape(-1, unit), world.rank, world.size).ravel() for batch in batches]


def _blocks(rows: NDArray[np.int64], world: World) -> list[NDArray[np.int64]]:
    """Cut rows into batches of nearly equal length, as many for each process, and take those of this one."""
    number = world.size * max(1, math.ceil(len(rows) / (VALIDATED * world.size)))
    return [block for block in np.array_split(rows, number)[world.rank :: world.size] if len(block)]
