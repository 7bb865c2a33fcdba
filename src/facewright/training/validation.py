"""Validation of the weights: the measure that chooses the best epoch and ends a phase early."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from facewright.errors import UsageError
from facewright.metrics import binary


@dataclass(frozen=True)
class Validation:
    """One look at the validation part."""

    loss: float  # mean cross-entropy of the class scores, whatever was trained for
    accuracy: float
    score: float  # of the chosen metric, the higher the better

    def finite(self) -> bool:
        """Return whether the loss is a finite number."""
        return math.isfinite(self.loss)


def validate(scores: Tensor, labels: Tensor, metric: str) -> Validation:
    """Measure class scores.

    Args:
        scores: (V, C) float32.
        labels: (V,) class numbers.
        metric: loss; accuracy; hter, of two classes, the second being the one to accept, at the threshold that is best
            here (which is why the number that counts is that of the test part).
    Raises:
        UsageError: hter for more or less than two classes.
    """
    scores, labels = scores.float().cpu(), labels.cpu()  # float64 only after leaving the device
    loss = float(functional.cross_entropy(scores.double(), labels))
    accuracy = float((scores.argmax(1) == labels).double().mean())
    if metric == "accuracy":
        return Validation(loss, accuracy, accuracy)
    if metric == "loss" or not math.isfinite(loss):
        return Validation(loss, accuracy, -loss)
    return Validation(loss, accuracy, -_least_hter(scores, labels))


def _least_hter(scores: Tensor, labels: Tensor) -> float:
    if scores.shape[1] != 2:
        raise UsageError(f"selection.metric = hter wants two classes, the data has {scores.shape[1]}; choose loss")
    accepted = torch.softmax(scores.double(), 1)[:, 1].numpy()
    truth = labels.numpy() == 1
    threshold = binary.choose_binary_threshold(accepted[truth], accepted[~truth], "min-hter")
    return binary.half_total_error_rate(accepted[truth], accepted[~truth], threshold)
