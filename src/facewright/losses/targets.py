"""The objective of a network with targets in place of classes; an unknown target counts for nothing."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from facewright.losses.numbers import number_bias, number_loss, number_values
from facewright.losses.objective import Head
from facewright.specs import ObjectiveSpec, TaskSpec
from facewright.vectors import precise


def attribute_losses(scores: Tensor, truth: Tensor, gamma: float = 0.0, smoothing: float = 0.0) -> Tensor:
    """The mean binary cross-entropy, or focal loss, of each attribute over the images in which it is known.

    Args:
        scores: (B, A), the logits of yes.
        truth: (B, A), 1 yes, 0 no, NaN unknown.
        gamma: >= 0; 0 is cross-entropy, above 0 what is easy counts for less.
        smoothing: in [0, 1): yes becomes 1 - smoothing / 2, no smoothing / 2.
    Returns:
        (A,), each >= 0; 0 for an attribute that is unknown in all images.
    Source: Lin et al. 2017, "Focal Loss for Dense Object Detection", arXiv:1708.02002, eq. 4, without alpha.
    >>> attribute_losses(torch.zeros(2, 1).double(), torch.tensor([[1.0], [float("nan")]])).round(decimals=4).tolist()
    [0.6931]
    """
    scores = precise(scores)
    known = ~truth.isnan()
    wanted = truth.nan_to_num(0.0).to(scores.dtype) * (1 - smoothing) + smoothing / 2
    losses = functional.binary_cross_entropy_with_logits(scores, wanted, reduction="none")
    if gamma:
        yes = torch.sigmoid(scores)
        easy = (wanted * yes + (1 - wanted) * (1 - yes)).clamp(torch.finfo(scores.dtype).eps, 1 - 1e-6)
        losses = losses * (1 - easy) ** gamma
    return (losses * known).sum(0) / known.sum(0).clamp_min(1)


class TaskObjective(nn.Module):
    """Map a head, the features of a batch and its targets to the loss and the scores; as `Objective`.

    The loss is the mean over the targets of the mean over the images in which each is known.

    Args:
        spec: of attributes: cross-entropy (binary) or focal. The loss of a number follows from its head.
        task: the targets, in the order of the scores.
        smoothing: of yes and no, in [0, 1).
    """

    def __init__(self, spec: ObjectiveSpec, task: TaskSpec, smoothing: float = 0.0) -> None:
        super().__init__()
        self.task = task
        self.gamma = spec.gamma if spec.kind == "focal" else 0.0
        self.smoothing = smoothing

    def forward(self, head: Head, features: Tensor, truth: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Compute the loss to minimise and the scores (B, S) of features (B, F) with targets (B, T), NaN unknown."""
        scores = head.classify(head.embed(features))
        return target_losses(scores, truth, self.task, self.gamma, self.smoothing).mean(), scores

    def hits(self, scores: Tensor, truth: Tensor) -> Tensor:
        """Return the share of known targets that are predicted right, times the number of images."""
        return len(scores) * accuracy(scores, truth, self.task)


def target_losses(scores: Tensor, truth: Tensor, task: TaskSpec, gamma: float = 0.0, smoothing: float = 0.0) -> Tensor:
    """The loss of each target (T,) over the images in which it is known: attributes first, then numbers.

    Args:
        scores: (B, S). truth: (B, T), NaN unknown. gamma, smoothing: of attributes, see `attribute_losses`.
    """
    columns, places = _attributes(task)
    losses = [attribute_losses(scores[:, places], truth[:, columns], gamma, smoothing)] if columns else []
    for k, (target, place) in enumerate(zip(task.targets, task.places, strict=True)):
        if target.number is not None:
            losses.append(number_loss(scores[:, place], truth[:, k], target.number).reshape(1))
    return torch.cat(losses)


def accuracy(scores: Tensor, truth: Tensor, task: TaskSpec) -> Tensor:
    """The mean over targets of the share of right answers; a scalar.

    Yes is from a logit of 0 on; a number is right within a twentieth of its range.

    Args:
        scores: (B, S). truth: (B, T), NaN unknown; a target that is unknown in all images has no part.
    """
    known = ~truth.isnan()
    columns, places = _attributes(task)
    right = torch.zeros_like(known)
    right[:, columns] = (scores[:, places] > 0) == (truth[:, columns] > 0.5)
    for k, (target, place) in enumerate(zip(task.targets, task.places, strict=True)):
        if target.number is not None:
            low, high = target.number.ends
            right[:, k] = (number_values(scores[:, place], target.number) - truth[:, k]).abs() <= (high - low) / 20
    counts = known.sum(0)
    shares = (right & known).sum(0) / counts.clamp_min(1)
    return shares.sum() / (counts > 0).sum().clamp_min(1)


def starting_bias(truth: Tensor, task: TaskSpec) -> Tensor:
    """The biases at which the scores say what is most frequent, so that training starts at the baseline.

    Args:
        truth: (N, T), NaN unknown, of the training part.
    Returns:
        (S,), finite; of an attribute the logit of its prevalence, one yes and one no added to the counts.
    Source: Lin et al. 2017, arXiv:1708.02002, section 3.3, with the prevalence in place of a fixed prior.
    >>> task = TaskSpec.from_dict({"targets": [{"name": "hat", "kind": "attribute"}]})
    >>> starting_bias(torch.tensor([[1.0], [1.0], [0.0], [float("nan")]]), task).exp().round(decimals=4).tolist()
    [1.5]
    """
    parts = []
    for target, values in zip(task.targets, truth.T, strict=True):
        odds = ((values == 1).sum() + 1.0) / ((values == 0).sum() + 1.0)
        parts.append(torch.log(odds).reshape(1) if target.number is None else number_bias(values, target.number))
    return torch.cat(parts)


def _attributes(task: TaskSpec) -> tuple[list[int], list[int]]:
    """Return the numbers of the attributes among the targets, and of their scores."""
    found = [k for k, target in enumerate(task.targets) if target.number is None]
    return found, [task.places[k].start for k in found]
