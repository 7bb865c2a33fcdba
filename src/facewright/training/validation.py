"""Validation of the weights: the measure that chooses the best epoch and ends a phase early.

Of many classes no image's scores are kept: two numbers an image, its cross-entropy and if it is right, are enough.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from facewright.data.loaders import ImageStore, Loader
from facewright.devices import moved
from facewright.errors import DataError, UsageError
from facewright.events import EventHandler, Message
from facewright.heads import CosineHead
from facewright.input_spec import InputSpec
from facewright.losses import targets
from facewright.metrics import binary
from facewright.metrics.people import accuracy_over_folds
from facewright.metrics.verification import eer, roc
from facewright.specs import TaskSpec
from facewright.training.distributed import World
from facewright.training.history import Position, SetAccuracy
from facewright.training.loading import Data, Inputs, VerificationSet
from facewright.training.recipe import Recipe
from facewright.training.sharding import Sharding
from facewright.training.training_module import TrainingModule
from facewright.vectors import unit

EMBEDDED = 64  # images a batch


@dataclass(frozen=True)
class Validation:
    """One look at the validation part."""

    loss: float  # mean cross-entropy of the class scores, whatever was trained for
    accuracy: float
    score: float  # of the chosen metric, the higher the better

    def finite(self) -> bool:
        """Return whether the loss is a finite number."""
        return math.isfinite(self.loss)


class Validating(Protocol):
    """The parts of a trainer that are needed to validate."""

    module: TrainingModule
    data: Data
    recipe: Recipe
    world: World
    sharding: Sharding | None
    position: Position
    on_event: EventHandler

    def truth_of(self, rows: NDArray[np.int64]) -> Tensor: ...


@torch.inference_mode()
def validated(trainer: Validating, network: nn.Module, batches: Iterator[Inputs]) -> Validation:
    """Measure the validation part; every process must call it.

    Args:
        network: in evaluation mode. batches: the share of this process.
    """
    module, recipe, world = trainer.module, trainer.recipe, trainer.world
    rows, metric, task = np.sort(trainer.data.validation), recipe.selection.metric, recipe.task
    if trainer.sharding is not None:
        head = network.get_submodule(str(module.head))
        assert isinstance(head, CosineHead)
        parts = ((module.embeddings(network, inputs), indices) for inputs, indices in batches)
        embeddings = gathered(parts, rows, head.width, world).float()
        return of_rows(trainer.sharding.row_numbers(head, embeddings, trainer.truth_of(rows)), metric)
    scored = ((module.scores(network, inputs), indices) for inputs, indices in batches)
    if task is not None or metric == "hter":  # which take all scores, of few columns
        scores = gathered(scored, rows, trainer.data.classes, world)
        return validate(scores, trainer.truth_of(rows), metric, task)
    numbers = ((row_numbers(scores, trainer.truth_of(indices)), indices) for scores, indices in scored)
    return of_rows(gathered(numbers, rows, 2, world), metric)


@torch.inference_mode()
def verified(trainer: Validating, result: Validation, network: nn.Module, size: int) -> Validation:
    """Measure the verification sets; where they choose the best epoch, their mean accuracy is its score."""
    data, epoch = trainer.data, trainer.position.epoch + 1
    if not data.sets or not result.finite():
        return result
    head = trainer.module.head
    found = [measure_set(network, head, one, data, size, epoch) for one in data.sets]
    trainer.position.sets += found
    trainer.on_event(Message(f"epoch {epoch}: verification: {', '.join(map(str, found))}"))
    chosen = trainer.recipe.selection.metric == "verification"
    return replace(result, score=float(np.mean([one.accuracy for one in found]))) if chosen else result


def validate(scores: Tensor, truth: Tensor, metric: str, task: TaskSpec | None = None) -> Validation:
    """Measure scores.

    Args:
        scores: (V, C) float32.
        truth: (V,) class numbers; of a task (V, T) targets, NaN unknown.
        task: the targets; None: classes.
        metric: loss; accuracy; hter, of two classes, the second being the one to accept, at the threshold that is best
            here (which is why the number that counts is that of the test part); verification: as loss.
    Raises:
        UsageError: hter for more or less than two classes.
    """
    scores, truth = scores.float().cpu(), truth.cpu()  # float64 only after leaving the device
    if task is None:
        result = of_rows(row_numbers(scores, truth), metric)
        hter = metric == "hter" and result.finite()
        return replace(result, score=-_least_hter(scores, truth)) if hter else result
    losses = targets.target_losses(scores.double(), truth, task)
    loss = float((targets.fixed_weights(task) * losses).sum())
    accuracy = float(targets.accuracy(scores, truth, task))
    return Validation(loss, accuracy, accuracy if metric == "accuracy" else -loss)


def row_numbers(scores: Tensor, truth: Tensor) -> Tensor:
    """Return the cross-entropy of each image and 1 where its class has the highest score, else 0: (B, C) -> (B, 2)."""
    exact = scores.double() if scores.device.type == "cpu" else scores
    losses = functional.cross_entropy(exact, truth, reduction="none")
    return torch.stack([losses, (scores.argmax(1) == truth).to(losses.dtype)], 1)


def of_rows(numbers: Tensor, metric: str) -> Validation:
    """Measure what `row_numbers` gave of all images."""
    loss, accuracy = numbers.cpu().double().mean(0).tolist()
    return Validation(loss, accuracy, accuracy if metric == "accuracy" else -loss)


def gathered(
    outputs: Iterable[tuple[Tensor, NDArray[np.int64]]], rows: NDArray[np.int64], width: int, world: World
) -> Tensor:
    """Put together what the processes computed of their images.

    Args:
        outputs: (B, width) of this process, and the rows (B,) of the store they are of.
        rows: (V,) of all processes, ascending.
    Returns:
        (V, width), the same in all processes; float64 on a CPU.
    """
    dtype = torch.float64 if world.device.type == "cpu" else torch.float32
    found = torch.zeros(len(rows), width, dtype=dtype, device=world.device)
    for part, indices in outputs:
        found[moved(torch.from_numpy(np.searchsorted(rows, indices)), world.device)] = part.to(dtype)
    return world.all_reduce(found)  # each row is zero in all processes but one


def _least_hter(scores: Tensor, labels: Tensor) -> float:
    if scores.shape[1] != 2:
        raise UsageError(f"selection.metric = hter wants two classes, the data has {scores.shape[1]}; choose loss")
    accepted = torch.softmax(scores.double(), 1)[:, 1].numpy()
    truth = labels.numpy() == 1
    threshold = binary.choose_binary_threshold(accepted[truth], accepted[~truth], "min-hter")
    return binary.binary_errors(accepted[truth], accepted[~truth], threshold).hter.value


def measure_set(
    network: nn.Module, head: str | None, one: VerificationSet, data: Data, size: int, epoch: int
) -> SetAccuracy:
    """Measure one set by the cosines of embeddings, each the sum of an image's and its mirror image's.

    Args:
        network: in evaluation mode, on the device of the world.
        head: name of the module of the network whose `embed` gives the embeddings; None: the features are.
        data: of the training: mean, std and colour order; each process embeds its share.
        size: side in pixels. epoch: from 1.
    Raises:
        DataError: an embedding is no finite vector.
    """
    vectors = _vectors(network, head, one.store, data.spec, size, data.world)
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
