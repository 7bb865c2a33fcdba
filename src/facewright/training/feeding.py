"""What the loop is given step by step: pictures as they are augmented, or features that were computed before."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from facewright.data.augment import Augment
from facewright.data.cache import cache_folder
from facewright.data.loaders import Loader, Pixels
from facewright.data.sampling import shard
from facewright.events import EventHandler, Progress
from facewright.input_spec import InputSpec
from facewright.training.distributed import World
from facewright.training.features import Features, Pictures, features_of

VALIDATED = 64  # pictures a batch

Fed = tuple[Tensor, NDArray[np.int64]]
"""Pictures (B, 3, H, W) or features (B, F), float32, and the rows (B,) of the store they are of."""


@dataclass(frozen=True)
class Data:
    """What is trained and validated on."""

    store: Pixels
    spec: InputSpec
    train: NDArray[np.int64]  # rows of the store
    validation: NDArray[np.int64]
    augment: Augment
    plan: Callable[[int], list[NDArray[np.int64]]]  # the batches of an epoch, a pure function of its number
    workers: int = 0  # inline: prefetching threads gained nothing beside a training step on two cores


class PictureFeed:
    """Pictures, augmented anew in every epoch.

    Args:
        sizes: side in pixels, for each epoch of the phase.
    """

    def __init__(self, data: Data, sizes: tuple[int, ...], seed: int, world: World) -> None:
        self.data = data
        self.sizes = sizes
        self.seed = seed
        self.world = world

    def training(self, batches: list[NDArray[np.int64]], epoch: int, phase_epoch: int, start: int) -> Iterator[Fed]:
        """This process's share of each batch from `start` on; `epoch` of the run chooses the augmentation's draws."""
        data = self.data
        loader = Loader(data.store, data.spec, data.augment, self.sizes[phase_epoch], self.seed, data.workers)
        for batch in loader.epoch(_mine(batches, self.world), epoch, start=start):
            yield batch.images, batch.indices

    def validation(self, model: nn.Module, phase_epoch: int) -> Iterator[Fed]:
        """Class scores (B, C) of the validation part, and its rows."""
        data = self.data
        loader = Loader(data.store, data.spec, None, self.sizes[phase_epoch], 0, data.workers)
        for batch in loader.epoch(_blocks(data.validation), 0):
            yield model(batch.images).float(), batch.indices


class FeatureFeed:
    """Features of a frozen body; each epoch of the phase reads the next draw of the augmentation.

    Args:
        training_part, validation_part: of the same body.
        head: name of the model's module that reads features.
    """

    def __init__(self, data: Data, training_part: Features, validation_part: Features, head: str, world: World) -> None:
        self.data = data
        self.training_part = training_part
        self.validation_part = validation_part
        self.head = head
        self.world = world

    def training(self, batches: list[NDArray[np.int64]], epoch: int, phase_epoch: int, start: int) -> Iterator[Fed]:
        """This process's share of each batch from `start` on; `phase_epoch` chooses the draw."""
        for indices in _mine(batches, self.world)[start:]:
            yield self.training_part.batch(indices, phase_epoch), indices

    def validation(self, model: nn.Module, phase_epoch: int) -> Iterator[Fed]:
        """Class scores (B, C) of the validation part, and its rows."""
        head = model.get_submodule(self.head)
        for block in _blocks(self.data.validation):
            yield head(self.validation_part.batch(block, 0)).float(), block


def feature_feed(
    model: nn.Module,
    head: str,
    data: Data,
    draws: int,
    size: int,
    seed: int,
    dtype: torch.dtype,
    on_event: EventHandler,
    world: World,
) -> FeatureFeed:
    """Run a frozen body once over everything; under several processes one computes and the others read.

    Raises:
        FacewrightError: the cache cannot be written.
    """
    parts = []
    for rows, augment, number in ((data.train, data.augment, draws), (data.validation, None, 1)):
        pictures = Pictures(data.store, data.spec, rows, augment, size, seed)
        for rank in range(world.size):
            if rank == world.rank:
                parts.append(features_of(model, pictures, number, dtype, cache_folder(), _telling(on_event)))
            world.wait()
    return FeatureFeed(data, parts[0], parts[1], head, world)


def _telling(on_event: EventHandler) -> Callable[[int, int], None]:
    return lambda done, total: on_event(Progress("features of the frozen body", done, total))


def _mine(batches: list[NDArray[np.int64]], world: World) -> list[NDArray[np.int64]]:
    return [shard(batch, world.rank, world.size) for batch in batches]


def _blocks(rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Rows in batches of nearly equal length."""
    return np.array_split(rows, max(1, math.ceil(len(rows) / VALIDATED)))
