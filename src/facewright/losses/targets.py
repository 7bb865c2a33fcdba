"""The objective of a network with targets in place of classes, and the losses of numbers (age, yaw) and of votes.

A target that is unknown is NaN and counts for nothing; a loss is a scalar >= 0, and 0 where nothing is known. Of K bins
over [low, high] the first is centred at low and the last at high, so neighbours are (high - low) / (K - 1) apart; a
number outside falls into the nearest.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from facewright.errors import UsageError
from facewright.losses.objective import Head
from facewright.specs import NumberSpec, ObjectiveSpec, Target, TaskSpec
from facewright.vectors import precise


def absolute_error(scores: Tensor, truth: Tensor, delta: float = 0.0) -> Tensor:
    """The mean over the known numbers of |score - truth|, or of Huber's loss: squared up to `delta`, then linear.

    Args:
        scores, truth: (B,), both standardized; truth is NaN where unknown.
        delta: >= 0; 0 is the absolute error.
    Source: P. J. Huber, "Robust estimation of a location parameter", Ann. Math. Statist. 35 (1964), divided by delta:
    the absolute error less delta / 2 where it is linear.
    >>> float(absolute_error(torch.tensor([1.0, 5.0]), torch.tensor([3.0, float("nan")])))
    2.0
    """
    scores = precise(scores)
    return _over_known(functional.smooth_l1_loss(scores, _filled(truth, scores), reduction="none", beta=delta), truth)


def expected_value_loss(scores: Tensor, truth: Tensor, low: float, high: float) -> Tensor:
    """The mean over the known numbers of the cross-entropy of their bins; the prediction is the expected value.

    Args:
        scores: (B, K) of the bins, K >= 2. truth: (B,), NaN where unknown. low, high: centres of the outer bins.
    Source: DEX: Rothe, Timofte and Van Gool 2015, "DEX: Deep EXpectation of apparent age from a single image", ICCV
    workshops.
    """
    scores = precise(scores)
    bins = ranks(truth, scores.shape[1], low, high)
    return _over_known(functional.cross_entropy(scores, bins, reduction="none"), truth)


def ordinal_loss(scores: Tensor, truth: Tensor, low: float, high: float) -> Tensor:
    """The mean over the known numbers of the sum of K - 1 binary cross-entropies: is the rank above k?

    The scores of one image are to differ by biases alone: then ranks are consistent.

    Args:
        scores: (B, K - 1), the logits of "above k". truth: (B,), NaN where unknown. low, high: of K ranks.
    Source: CORAL: Cao, Mirjalili and Raschka 2020, "Rank consistent ordinal regression for neural networks with
    application to age estimation", Pattern Recognition Letters 140, arXiv:1901.07884; all importances are 1.
    """
    scores = precise(scores)
    rank = ranks(truth, scores.shape[1] + 1, low, high)  # (B,)
    above = (rank[:, None] > torch.arange(scores.shape[1], device=scores.device)).to(scores.dtype)
    losses = functional.binary_cross_entropy_with_logits(scores, above, reduction="none").sum(1)
    return _over_known(losses, truth)


def number_loss(scores: Tensor, truth: Tensor, spec: NumberSpec) -> Tensor:
    """The loss of a number by its head, a scalar; args as above, truth in the number's units."""
    low, high = spec.ends
    if spec.head == "dex":
        return expected_value_loss(scores, truth, low, high)
    if spec.head == "coral":
        return ordinal_loss(scores, truth, low, high)
    standard = (truth - (low + high) / 2) * (2 / (high - low))
    return absolute_error(scores[:, 0], standard, spec.delta if spec.head == "huber" else 0.0)


def number_values(scores: Tensor, spec: NumberSpec) -> Tensor:
    """The numbers (B,) that scores (B, K) mean; `metrics.calibration.number_values` computes the same."""
    low, high = spec.ends
    if spec.head == "dex":
        return precise(scores).softmax(1) @ torch.linspace(low, high, spec.bins).to(scores)
    if spec.head == "coral":
        return low + (scores > 0).sum(1) * ((high - low) / (spec.bins - 1))
    return (low + high) / 2 + precise(scores)[:, 0] * ((high - low) / 2)


def number_bias(truth: Tensor, spec: NumberSpec) -> Tensor:
    """The biases (K,) that predict the distribution of the training part (N,), whatever the image shows."""
    known, (low, high) = truth[~truth.isnan()], spec.ends
    if spec.scores == 1:
        return ((known.median() - (low + high) / 2) * (2 / (high - low))).reshape(1)
    counts = torch.bincount(ranks(known, spec.bins, low, high), minlength=spec.bins) + 1.0 / spec.bins
    if spec.head == "dex":
        return counts.log()
    above = counts.flip(0).cumsum(0).flip(0)[1:]  # (K,)
    return (above / (counts.sum() - above)).log()


def vote_loss(scores: Tensor, votes: Tensor, smoothing: float = 0.0) -> Tensor:
    """The mean over the images with votes of the cross-entropy of the shares of votes.

    Args:
        scores: (B, C). votes: (B, C), counts or shares, each >= 0; a row of zeros or with a NaN is unknown.
        smoothing: in [0, 1): this much of the shares is spread evenly over all classes.
    Source: Barsoum et al. 2016, "Training deep networks for facial expression recognition with crowd-sourced label
    distribution", arXiv:1608.01041: the cross-entropy loss.
    >>> round(float(vote_loss(torch.zeros(1, 2), torch.tensor([[3.0, 1.0]]))), 4)
    0.6931
    """
    scores, totals = precise(scores), votes.sum(1)
    known = torch.where(totals > 0, totals, torch.nan)  # a NaN is above nothing
    shares = (votes / known[:, None]).nan_to_num(0.0).to(scores.dtype)
    return _over_known(functional.cross_entropy(scores, shares, reduction="none", label_smoothing=smoothing), known)


class UncertaintyWeights(nn.Module):
    """Weigh the losses of several targets by learned uncertainties: sum of exp(-s) loss + s / 2, s = log of a variance.

    Of a number the loss counts half, as the logarithm of a Gaussian density has it. All s start at 0.

    Args:
        numbers: of each target whether it is a number.
    Raises:
        UsageError: in use, another number of losses.
    Source: Kendall, Gal and Cipolla 2018, "Multi-task learning using uncertainty to weigh losses for scene geometry and
    semantics", CVPR, arXiv:1705.07115, eq. 7 and 10.
    """

    factors: Tensor  # (T,)

    def __init__(self, numbers: Sequence[bool]) -> None:
        super().__init__()
        self.log_variances = nn.Parameter(torch.zeros(len(numbers)))
        self.register_buffer("factors", torch.tensor([0.5 if one else 1.0 for one in numbers]), persistent=False)

    def forward(self, losses: Tensor) -> Tensor:
        """(T,) losses -> a scalar."""
        if losses.shape != self.factors.shape:
            raise UsageError(f"expected {len(self.factors)} losses, got {tuple(losses.shape)}")
        return (self.factors * torch.exp(-self.log_variances) * losses + self.log_variances / 2).sum()


def ranks(truth: Tensor, bins: int, low: float, high: float) -> Tensor:
    """Return the number of the nearest of so many bins (B,), 0 where truth is NaN.

    >>> ranks(torch.tensor([0.0, 4.0, 6.0, 99.0]), bins=11, low=0.0, high=100.0).tolist()
    [0, 0, 1, 10]
    """
    places = (truth.double().nan_to_num(low) - low) * ((bins - 1) / (high - low))
    return places.round().clamp(0, bins - 1).long()


def _filled(truth: Tensor, scores: Tensor) -> Tensor:
    return torch.where(truth.isnan(), scores.detach(), truth.to(scores.dtype))


def _over_known(losses: Tensor, truth: Tensor) -> Tensor:  # (B,), (B,) with NaN -> a scalar
    known = ~truth.isnan()
    return torch.where(known, losses, 0.0).sum() / known.sum().clamp_min(1)


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
