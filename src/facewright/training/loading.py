"""The inputs of each step: augmented images, or features of a frozen backbone, computed once.

A backbone that does not learn gives the same features for the same pixels, so it runs once for each image and draw of
the augmentation. Epoch e of the head reads draw e modulo the number of draws; with at least as many draws as epochs the
head sees exactly what it would see behind a backbone that runs at every step. The features lie in the user's cache
folder, named by everything they depend on, and are read through memory mapping.
"""

from __future__ import annotations

import hashlib
import math
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from facewright import platforms
from facewright.data.cache import make_private
from facewright.data.loaders import ExtendedStore, ImageStore, Loader, resident
from facewright.data.sampling import shard
from facewright.devices import moved
from facewright.errors import FacewrightError
from facewright.events import EventHandler, Message, Progress
from facewright.files import cache_folder, sync_folder
from facewright.input_spec import InputSpec
from facewright.specs import Augment
from facewright.training.distributed import World
from facewright.training.recipe_parts import Plan, Sampling
from facewright.training.training_module import TrainingModule, autocast

BATCH = 64
FORMAT = 1  # raised when the numbers, or how they are made, change

VALIDATED = 64  # images a batch

Inputs = tuple[Tensor, NDArray[np.int64]]
"""Images (B, 3, H, W) or features (B, F), float32, and the rows (B,) of the store they are of."""


@dataclass(frozen=True)
class FeatureInputs:
    """Images to compute features of."""

    store: ImageStore
    spec: InputSpec
    rows: NDArray[np.int64]  # (N,) rows of the store
    augment: Augment | None  # None: only resized
    size: int  # side, px
    seed: int
    draws: int = 1  # of the augmentation; draw d is what epoch d of a training on images would see


@dataclass(frozen=True)
class Features:
    """Features of some rows of a store."""

    rows: NDArray[np.int64]  # (N,) ascending
    values: NDArray[np.float32]  # (draws, N, F), memory-mapped

    def batch(self, indices: NDArray[np.int64], draw: int) -> Tensor:
        """Return features of some rows, (B, F) float32; `draw` is taken modulo the number of draws."""
        places = np.searchsorted(self.rows, indices)
        return torch.from_numpy(np.ascontiguousarray(self.values[draw % len(self.values)][places]))


def features_of(
    backbone: nn.Module,
    inputs: FeatureInputs,
    dtype: torch.dtype,
    cache: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
    world: World = World(),  # noqa: B008 - frozen
) -> Features:
    """Read features from the cache, or run the backbone over every image and draw and keep them.

    Each process runs it over its share, and one on each machine writes those of all: the same file as of one process.

    Args:
        backbone: has `forward_features`; put into inference mode. Its classifier has no part in this.
        dtype: what the backbone computes in; features are kept as float32.
        cache: the folder of `data.cache.cache_folder`.
        progress: called with the images done and all of them, draws counted.
        world: the processes that share the work; every one must call it.
    Raises:
        FacewrightError: the cache cannot be written.
    """
    rows = np.sort(inputs.rows)
    folder = cache / "features"
    path, shape = folder / f"{_name(backbone, inputs, dtype)}.npy", (inputs.draws, len(rows))
    known = _opened(path, shape)
    if world.all_reduce_sum([float(known is None)])[0]:
        make_private(folder)
        _compute(path, shape, _passes(backbone, inputs, dtype, world), progress, world)
        world.barrier()
        known = _opened(path, shape)
    if known is None:
        raise FacewrightError(f"{path}: cannot be read back; free some space or set FACEWRIGHT_CACHE to another disk")
    with suppress(OSError):  # a cache that may only be read is still a cache
        os.utime(path)
    return Features(rows, known)


def _compute(
    path: Path,
    leading: tuple[int, int],
    passes: Iterator[tuple[int, int, NDArray[np.float32]]],
    progress: Callable[[int, int], None],
    world: World,
) -> None:
    """Fill the file under another name, then give it its own, in one process of each machine; leading: draws, rows."""
    partial = path.with_suffix(f".{secrets.token_hex(8)}.tmp")
    total, done = leading[0] * leading[1], 0
    target: NDArray[np.float32] | None = None
    try:
        for draw, start, part in passes:
            if not world.writes_cache:
                continue
            if target is None:
                shape = (*leading, part.shape[1])
                target = np.lib.format.open_memmap(partial, mode="w+", dtype=np.float32, shape=shape)
                partial.chmod(0o600)
            target[draw, start : start + len(part)] = part
            done += len(part)
            progress(done, total)
        if target is not None:
            target.flush()  # type: ignore[attr-defined]
            target = None  # closed: Windows renames no open file
            platforms.replace(partial, path)
            sync_folder(path.parent)
    except OSError as error:
        raise FacewrightError(
            f"{path.parent}: the features cannot be stored ({error.strerror or error}); "
            "free some space, clear old ones with `facewright cache clear`, or set FACEWRIGHT_CACHE to a larger disk"
        ) from error
    finally:
        partial.unlink(missing_ok=True)


@torch.inference_mode()
def _passes(
    backbone: nn.Module, inputs: FeatureInputs, dtype: torch.dtype, world: World
) -> Iterator[tuple[int, int, NDArray[np.float32]]]:
    """Yield draw, first place among the sorted rows, and features (B, F) of each batch, of all processes."""
    backbone.eval()
    device = next(backbone.parameters()).device
    rows = np.sort(inputs.rows)
    blocks = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
    loader = Loader(inputs.store, inputs.spec, inputs.augment, inputs.size, inputs.seed, device=device)
    for draw in range(inputs.draws):
        batches = loader.epoch(blocks[world.rank :: world.size], draw)
        for first in range(0, len(blocks), world.size):  # a block for each process, the last time perhaps not for all
            together = blocks[first : first + world.size]
            found = torch.empty(0)
            if world.rank < len(together):
                with autocast(device, dtype):
                    found = backbone.forward_features(next(batches).images).float().cpu()  # type: ignore[operator]
            for number, part in enumerate(_exchanged(found, backbone, world)[: len(together)]):
                yield draw, (first + number) * BATCH, part[: len(together[number])].numpy()


def _exchanged(found: Tensor, backbone: nn.Module, world: World) -> list[Tensor]:
    """Return the features (B, F) of each process, (BATCH, F) where there are several."""
    if world.size == 1:
        return [found]
    padded = torch.zeros(BATCH, int(backbone.feature_width))  # type: ignore[arg-type]
    padded[: len(found)] = found if len(found) else 0
    return world.all_gather(padded)


def _opened(path: Path, leading: tuple[int, int]) -> NDArray[np.float32] | None:
    """Open the file's array, or return None where there is none or it is not whole."""
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    whole = found.ndim == 3 and found.shape[:2] == leading and found.dtype == np.float32
    return found if whole else None


def _name(backbone: nn.Module, inputs: FeatureInputs, dtype: torch.dtype) -> str:
    """Compute a digest of the backbone's structure and weights, the pixels, their preparation and the draws."""
    classifier = f"{backbone.classifier_name}."
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(backbone.state_dict().items()):
        if not name.startswith(classifier):
            digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    # Its layers' weights, where they are the backbone's, are named above.
    behind = str(backbone.classifier_name).split(".")[0]
    layers = (f"{name} {module}" for name, module in backbone.named_children() if name != behind)
    digest.update("\n".join(layers).encode())
    rows = np.sort(inputs.rows)
    augment = None if inputs.augment is None else inputs.augment.model_dump()
    facts = (FORMAT, inputs.spec.to_dict(), augment, inputs.size, inputs.seed if augment else 0)
    digest.update(repr((*facts, inputs.draws, str(dtype))).encode())
    for row in rows:  # which row it is matters too: the draws are made for it
        digest.update(f"{row} {inputs.store.digests[row]}\n".encode())
    return digest.hexdigest()


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
    world: World = field(default_factory=World)  # the processes that share the data out

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

    def __init__(self, data: Data, on_event: EventHandler) -> None:
        rows = np.concatenate([data.train, data.validation])
        store, line = resident(data.store, rows, data.world.device)
        self.data = data if store is data.store else replace(data, store=store, workers=0)
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
        loader = Loader(data.store, data.spec, data.augment, size, data.seed, data.workers, data.world.device)
        for batch in loader.epoch(shares(batches, data.world, data.unit), epoch, start=start):
            yield batch.images, batch.indices

    def validation(self, size: int) -> Iterator[Inputs]:
        """Yield this process's share of the validation part."""
        data = self.data
        loader = Loader(data.store, data.spec, None, size, 0, data.workers, data.world.device)
        for batch in loader.epoch(_blocks(data.validation, data.world), 0):
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

    def __init__(self, data: Data, module: TrainingModule, draws: int, size: int, on_event: EventHandler) -> None:
        self.data, self.world = data, data.world
        parts: list[Features] = []

        def report(done: int, total: int) -> None:
            on_event(Progress("features of the frozen backbone", done, total))

        for rows, augment, number in ((data.train, data.augment, draws), (data.validation, None, 1)):
            inputs = FeatureInputs(data.store, data.spec, rows, augment, size, data.seed, number)
            parts.append(features_of(module.network, inputs, module.dtype, cache_folder(), report, data.world))
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
