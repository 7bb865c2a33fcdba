"""Verification sets, measured on the network while it is trained: how well it tells people apart that it never saw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from facewright.data.loaders import ImageStore, Loader
from facewright.devices import moved
from facewright.errors import DataError
from facewright.input_spec import InputSpec
from facewright.metrics.folds import accuracy_over_folds
from facewright.metrics.verification import eer, roc
from facewright.training.distributed import World
from facewright.training.history import SetAccuracy
from facewright.vectors import unit

EMBEDDED = 64  # images a batch


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


def measure(
    network: nn.Module, head: str | None, one: VerificationSet, spec: InputSpec, size: int, epoch: int, world: World
) -> SetAccuracy:
    """Measure one set by the cosines of embeddings, each the sum of an image's and its mirror image's.

    Args:
        network: in evaluation mode, on the device of the world.
        head: name of the module of the network whose `embed` gives the embeddings; None: the features are.
        spec: mean, std and colour order. size: side in pixels.
        epoch: from 1.
        world: each process embeds its share.
    Raises:
        DataError: an embedding is no finite vector.
    """
    vectors = _vectors(network, head, one.store, spec, size, world)
    failed = np.flatnonzero((one.rows < 0).any(axis=1))
    first, second = (vectors[moved(torch.from_numpy(one.rows[:, side]), vectors.device)] for side in (0, 1))
    scores = (first * second).sum(1).cpu().double().numpy()
    ok = np.ones(len(scores), np.bool_)
    ok[failed] = False
    if not np.isfinite(scores[ok]).all():
        raise DataError(f"{one.name}: an embedding is no finite vector; lower optimizer.learning_rate")
    rate = eer(roc(scores[ok & one.same], scores[ok & ~one.same])).value
    if one.fold is None:
        return SetAccuracy(epoch, one.name, len(scores), len(failed), 1 - rate, None, rate)
    folds = accuracy_over_folds(scores, one.same, one.fold, failed, number=len(np.unique(one.fold)))
    return SetAccuracy(epoch, one.name, len(scores), len(failed), folds.mean, folds.standard_error, rate)


def _vectors(
    network: nn.Module, head: str | None, store: ImageStore, spec: InputSpec, size: int, world: World
) -> Tensor:
    """(N, D) unit vectors of all images, the same in all processes."""
    count = len(store.dataset.records)
    if count < world.size:
        world = World(device=world.device)  # each embeds all
    number = max(world.size, -(-count // EMBEDDED))
    blocks = np.array_split(np.arange(count, dtype=np.int64), number)[world.rank :: world.size]
    module = None if head is None else network.get_submodule(head)
    vectors: Tensor | None = None
    for batch in Loader(store, spec, None, size, seed=0).epoch(blocks, 0):
        images = moved(batch.images, world.device)
        both = [network.forward_features(view).float() for view in (images, images.flip(3))]  # type: ignore[operator]
        both = both if module is None else [module.embed(features) for features in both]  # type: ignore[operator]
        found = unit(both[0] + both[1])
        if vectors is None:
            vectors = torch.zeros(count, found.shape[1], device=world.device)
        vectors[moved(torch.from_numpy(batch.indices), world.device)] = found
    assert vectors is not None
    return world.all_reduce(vectors)
