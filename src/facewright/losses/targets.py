"""The objective of a network with targets in place of classes; an unknown target counts for nothing."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from facewright.losses.numbers import UncertaintyWeights, number_bias, number_loss, number_values, vote_loss
from facewright.losses.objective import Head
from facewright.specs import ObjectiveSpec
from facewright.specs.tasks import Target, TaskSpec
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

    The loss is the weighted mean of those of the targets, each a mean over the images in which it is known; or they are
    weighed by uncertainties that are learned and are its state.

    Args:
        spec: of attributes: cross-entropy (binary) or focal; the weighting. The loss of a number follows from its head.
        task: the targets, in the order of the scores.
        smoothing: of labels, in [0, 1).
    """

    fixed: Tensor  # (targets,)

    def __init__(self, spec: ObjectiveSpec, task: TaskSpec, smoothing: float = 0.0) -> None:
        super().__init__()
        self.task = task
        self.gamma = spec.gamma if spec.kind == "focal" else 0.0
        self.smoothing = smoothing
        numbers = [target.number is not None for target in task.targets]
        self.uncertainty = UncertaintyWeights(numbers) if spec.weighting == "uncertainty" else None
        self.register_buffer("fixed", fixed_weights(task), persistent=False)

    def forward(self, head: Head, features: Tensor, truth: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Compute the loss to minimise and the scores (B, S) of features (B, F) with targets (B, T), NaN unknown."""
        scores = head.classify(head.embed(features))
        losses = target_losses(scores, truth, self.task, self.gamma, self.smoothing)
        return (self.fixed * losses).sum() if self.uncertainty is None else self.uncertainty(losses), scores

    def hits(self, scores: Tensor, truth: Tensor) -> Tensor:
        """Return the share of known targets that are predicted right, times the number of images."""
        return len(scores) * accuracy(scores, truth, self.task)


def fixed_weights(task: TaskSpec) -> Tensor:
    """(targets,) the weights of their losses, which sum to 1."""
    weights = torch.tensor([target.weight for target in task.targets])
    return weights / weights.sum()


def target_losses(scores: Tensor, truth: Tensor, task: TaskSpec, gamma: float = 0.0, smoothing: float = 0.0) -> Tensor:
    """The loss of each target over the images in which it is known, (targets,).

    Args:
        scores: (B, S). truth: (B, T), NaN unknown. gamma: of attributes, see `attribute_losses`. smoothing: of labels.
    Returns:
        Each >= 0. That of CORAL is divided by the number of its scores, so that it weighs as others do.
    """
    losses = {
        part.target.name: _loss(scores[:, part.scores], truth[:, part.truth], part.target, smoothing)
        for part in task.parts
        if part.target.kind != "attribute"
    }
    attributes = task.of_kind("attribute")
    if attributes:
        places, columns = [part.scores.start for part in attributes], [part.truth.start for part in attributes]
        found = attribute_losses(scores[:, places], truth[:, columns], gamma, smoothing)
        losses |= {part.target.name: found[k] for k, part in enumerate(attributes)}
    return torch.stack([losses[name] for name in task.names])


def _loss(scores: Tensor, truth: Tensor, target: Target, smoothing: float) -> Tensor:
    """The loss of one target that is no attribute, of its own columns."""
    if target.number is not None:
        loss = number_loss(scores, truth[:, 0], target.number)
        return loss / scores.shape[1] if target.number.head == "coral" else loss
    return vote_loss(scores, truth if target.kind == "votes" else _one_hot(truth[:, 0], scores.shape[1]), smoothing)


def _one_hot(labels: Tensor, classes: int) -> Tensor:
    """(B,) class numbers, NaN unknown -> (B, C), a row of zeros for an unknown one."""
    return functional.one_hot(labels.nan_to_num(0.0).long(), classes) * (~labels.isnan())[:, None]


def accuracy(scores: Tensor, truth: Tensor, task: TaskSpec) -> Tensor:
    """The mean over targets of the share of right answers; a scalar, 0 where nothing is known.

    Yes is from a logit of 0 on; of votes the class with most is right; a number is right within a twentieth of its
    range.

    Args:
        scores: (B, S). truth: (B, T), NaN unknown; a target that is unknown in all images has no part.
    """
    shares, counted = [], []
    for target, place, column, _ in task.parts:
        own, wanted = scores[:, place], truth[:, column]
        known = ~wanted.isnan().any(1)
        if target.number is not None:
            low, high = target.number.ends
            right = (number_values(own, target.number) - wanted[:, 0]).abs() <= (high - low) / 20
        elif target.kind == "attribute":
            right = (own[:, 0] > 0) == (wanted[:, 0] > 0.5)
        else:
            right = own.argmax(1) == (wanted[:, 0] if target.kind == "classes" else wanted.argmax(1))
        shares.append((right & known).sum() / known.sum().clamp_min(1))
        counted.append(known.any())
    return torch.stack(shares).sum() / torch.stack(counted).sum().clamp_min(1)


def starting_bias(truth: Tensor, task: TaskSpec) -> Tensor:
    """The biases at which the scores say what is most frequent, so that training starts at the baseline.

    Args:
        truth: (N, T), NaN unknown, of the training part.
    Returns:
        (S,), finite; one of each answer is added to the counts. Of an attribute the logit of its prevalence, of classes
        and votes the logarithms of their shares.
    Source: Lin et al. 2017, arXiv:1708.02002, section 3.3, with the prevalence in place of a fixed prior.
    >>> task = TaskSpec.from_dict({"targets": [{"name": "hat", "kind": "attribute"}]})
    >>> starting_bias(torch.tensor([[1.0], [1.0], [0.0], [float("nan")]]), task).exp().round(decimals=4).tolist()
    [1.5]
    """
    return torch.cat([_bias(truth[:, part.truth], part.target) for part in task.parts]).float()


def _bias(truth: Tensor, target: Target) -> Tensor:
    if target.number is not None:
        return number_bias(truth[:, 0], target.number)
    known = truth[~truth.isnan().any(1)]
    if target.kind == "attribute":
        return torch.log((known.sum(0) + 1) / ((1 - known).sum(0) + 1))
    counts = known.sum(0) if target.kind == "votes" else _one_hot(known[:, 0], len(target.classes)).sum(0)
    return torch.log((counts + 1) / (counts.sum() + len(target.classes)))
