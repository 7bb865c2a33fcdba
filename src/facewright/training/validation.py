"""Validation of the weights: the measure that chooses the best epoch and ends a phase early."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from facewright.errors import UsageError
from facewright.losses import targets
from facewright.metrics import binary
from facewright.specs.tasks import TaskSpec


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
    if task is not None:
        losses = targets.target_losses(scores.double(), truth, task)
        loss = float((targets.fixed_weights(task) * losses).sum())
        accuracy = float(targets.accuracy(scores, truth, task))
    else:
        loss = float(functional.cross_entropy(scores.double(), truth))
        accuracy = float((scores.argmax(1) == truth).double().mean())
    if metric == "accuracy":
        return Validation(loss, accuracy, accuracy)
    if metric in ("loss", "verification") or not math.isfinite(loss):
        return Validation(loss, accuracy, -loss)
    return Validation(loss, accuracy, -_least_hter(scores, truth))


def _least_hter(scores: Tensor, labels: Tensor) -> float:
    if scores.shape[1] != 2:
        raise UsageError(f"selection.metric = hter wants two classes, the data has {scores.shape[1]}; choose loss")
    accepted = torch.softmax(scores.double(), 1)[:, 1].numpy()
    truth = labels.numpy() == 1
    threshold = binary.choose_binary_threshold(accepted[truth], accepted[~truth], "min-hter")
    return binary.half_total_error_rate(accepted[truth], accepted[~truth], threshold)
