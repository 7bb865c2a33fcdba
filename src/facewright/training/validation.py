"""Validation of the weights: the measure that chooses the best epoch and ends a phase early."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from facewright.devices import moved
from facewright.errors import UsageError
from facewright.losses import targets
from facewright.metrics import binary
from facewright.specs.tasks import TaskSpec
from facewright.training.distributed import World


@dataclass(frozen=True)
class Validation:
    """One look at the validation part."""

    loss: float  # mean cross-entropy of the class scores, whatever was trained for
    accuracy: float
    score: float  # of the chosen metric, the higher the better

    def finite(self) -> bool:
        """Return whether the loss is a finite number."""
        return math.isfinite(self.loss)


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
    return binary.half_total_error_rate(accepted[truth], accepted[~truth], threshold)
