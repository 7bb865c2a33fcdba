"""The objective of a network with targets in place of classes; an unknown target counts for nothing."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

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
    >>> attribute_losses(torch.zeros(2, 1), torch.tensor([[1.0], [float("nan")]])).round(decimals=4).tolist()
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
        spec: cross-entropy (binary, of attributes) or focal.
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
        return attribute_losses(scores, truth, self.gamma, self.smoothing).mean(), scores

    def hits(self, scores: Tensor, truth: Tensor) -> Tensor:
        """Return the share of known targets that are predicted right, times the number of images."""
        return len(scores) * accuracy(scores, truth)


def accuracy(scores: Tensor, truth: Tensor) -> Tensor:
    """The mean over attributes of the share of right answers, yes from a logit of 0 on; a scalar.

    Args:
        scores: (B, A). truth: (B, A), NaN unknown; an attribute that is unknown in all images has no part.
    """
    known = ~truth.isnan()
    right = ((scores > 0) == (truth > 0.5)) & known
    counts = known.sum(0)
    shares = right.sum(0) / counts.clamp_min(1)
    return shares.sum() / (counts > 0).sum().clamp_min(1)


def starting_bias(truth: Tensor) -> Tensor:
    """The logit of each attribute's prevalence in the training part, so that training starts at the baseline.

    Args:
        truth: (N, A), NaN unknown.
    Returns:
        (A,), finite: one yes and one no are added to the counts.
    Source: Lin et al. 2017, arXiv:1708.02002, section 3.3, with the prevalence in place of a fixed prior.
    >>> starting_bias(torch.tensor([[1.0], [1.0], [0.0], [float("nan")]])).exp().round(decimals=4).tolist()
    [1.5]
    """
    yes = (truth == 1).sum(0) + 1.0
    no = (truth == 0).sum(0) + 1.0
    return torch.log(yes / no)
