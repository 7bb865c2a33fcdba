"""Losses on class scores: cross-entropy, focal, that of class capsules, and the centre loss beside cross-entropy."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from facewright.errors import UsageError
from facewright.vectors import exactly, precise

PRESENT, ABSENT, ABSENT_WEIGHT = 0.9, 0.1, 0.5  # m+, m- and lambda of eq. 4 of the capsules


def cross_entropy(logits: Tensor, targets: Tensor, smoothing: float = 0.0, weights: Tensor | None = None) -> Tensor:
    """The mean over the batch of -sum_c w_c q_c log p_c, where q are the targets, smoothed.

    Args:
        logits: (B, C), B >= 1.
        targets: (B,) class numbers, or (B, C) shares of classes that sum to 1.
        smoothing: in [0, 1): this much of q is spread evenly over all classes.
        weights: (C,) of the classes; None = all 1. The mean is over B, not over the sum of the weights in the batch
            as in PyTorch's for class numbers, so that one-hot shares and class numbers give the same loss and a
            heavy class moves the weights as far in whatever company it comes.
    Returns:
        A scalar >= 0.
    Source: smoothing: Szegedy et al. 2016, "Rethinking the Inception Architecture", arXiv:1512.00567, section 7.
    >>> round(float(cross_entropy(torch.tensor([[0.0, 0.0]]), torch.tensor([1]))), 4)
    0.6931
    """
    logits = precise(logits)
    if weights is not None and not targets.dtype.is_floating_point:
        targets = _shares(logits, targets)
    return functional.cross_entropy(logits, targets, weights, label_smoothing=smoothing)


def focal(logits: Tensor, targets: Tensor, gamma: float = 2.0, weights: Tensor | None = None) -> Tensor:
    """The mean over the batch of -sum_c w_c q_c (1 - p_c)^gamma log p_c: what is easy counts for less.

    Args:
        logits: (B, C), B >= 1.
        targets: (B,) class numbers, or (B, C) shares of classes that sum to 1.
        gamma: >= 0; 0 is cross-entropy, 2 the paper's.
        weights: (C,) of the classes, alpha of the paper; None = all 1.
    Returns:
        A scalar >= 0.
    Source: Lin et al. 2017, "Focal Loss for Dense Object Detection", arXiv:1708.02002, eq. 5, with a softmax over C
    classes in place of two.
    >>> round(float(focal(torch.tensor([[0.0, 0.0]]), torch.tensor([1]), gamma=2)), 4)  # (1/2)^2 log 2
    0.1733
    """
    logits = precise(logits)
    shares = targets if targets.dtype.is_floating_point else _shares(logits, targets)
    log_p = functional.log_softmax(logits, 1)
    # 1 - p without cancellation. Below gamma = 1 the slope at 0 is infinite: there, the gradient is cut off.
    rest = (-torch.expm1(log_p)).clamp_min(torch.finfo(log_p.dtype).tiny)
    losses = -(shares * rest**gamma * log_p)
    return (losses if weights is None else losses * weights).sum(1).mean()


def capsule_margin(lengths: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """The mean over the batch of sum_k T_k max(0, 0.9 - |v_k|)^2 + 0.5 (1 - T_k) max(0, |v_k| - 0.1)^2.

    Args:
        lengths: (B, C) of the class capsules v_k, in [0, 1); B >= 1.
        targets: (B,) class numbers, or (B, C) shares of classes that sum to 1; T_k of the paper.
        weights: (C,) of the classes, by which an image's loss counts; None = all 1.
    Source: Sabour, Frosst, Hinton 2017, arXiv:1710.09829, eq. 4.
    >>> round(float(capsule_margin(torch.tensor([[0.7, 0.3]]), torch.tensor([0]))), 4)  # 0.2^2 + 0.5 x 0.2^2
    0.06
    """
    lengths = precise(lengths)
    shares = targets if targets.dtype.is_floating_point else _shares(lengths, targets)
    present, absent = (PRESENT - lengths).clamp_min(0).square(), (lengths - ABSENT).clamp_min(0).square()
    losses = (shares * present + ABSENT_WEIGHT * (1 - shares) * absent).sum(1)
    return (losses if weights is None else losses * (shares @ weights)).mean()


class CentreLoss(nn.Module):
    """Half the mean squared distance between each embedding and the centre of its class; centres follow by themselves.

    A centre is no parameter: it moves by eq. 4 with a rate of its own, not by the optimizer's rule, each time its class
    is in a batch, after that batch's loss was computed with the old one (algorithm 1). So it is a buffer, and resumes
    with the state.
    The paper leaves open where centres start. Here a class's centre is first the mean of its embeddings in the first
    batch that holds it: then no embedding is ever pulled towards an arbitrary point, and eq. 4 is exact from there on.
    Deviation: the mean over the batch, as in the authors' code, where eq. 2 has the sum.

    Args:
        classes: C.
        width: D, of the embeddings.
        rate: alpha of eq. 4, in [0, 1]; the paper's is 0.5.
    Raises:
        UsageError: in use, embeddings of another width.
    Source: Wen et al. 2016, "A Discriminative Feature Learning Approach for Deep Face Recognition", ECCV, eq. 2 to 4.
    """

    centres: Tensor  # (C, D)
    met: Tensor  # (C,) bool, whether the class was in a batch yet

    def __init__(self, classes: int, width: int, rate: float = 0.5) -> None:
        super().__init__()
        self.rate = rate
        self.register_buffer("centres", torch.zeros(classes, width))
        self.register_buffer("met", torch.zeros(classes, dtype=torch.bool))

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """(B, D) embeddings, (B,) class numbers -> a scalar; moves the centres in training mode only.

        Outside training, an image of a class that has no centre yet counts 0.
        """
        check_labels(embeddings, labels)
        if embeddings.shape[1] != self.centres.shape[1]:
            width = self.centres.shape[1]
            raise UsageError(f"the centres are {width} wide, the embeddings {embeddings.shape[1]}: make them equal")
        embeddings = precise(embeddings)
        if self.training:
            sums, counts = self._totals(embeddings.detach(), labels)
            self._start(sums, counts)
        distances = (embeddings - self.centres[labels]).square().sum(1) * self.met[labels]  # (B,)
        if self.training:
            self._move(sums, counts)
        return distances.mean() / 2

    def _totals(self, embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Of each class the sum of its embeddings (C, D) and their number (C, 1), over all processes."""
        members = functional.one_hot(labels, len(self.centres)).to(self.centres.dtype)  # (B, C)
        with exactly(embeddings):
            sums = members.T @ embeddings.to(self.centres.dtype)
        counts = members.sum(0).unsqueeze(1)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(sums)  # or each process would move its own copy of the centres elsewhere
            torch.distributed.all_reduce(counts)
        return sums, counts

    def _start(self, sums: Tensor, counts: Tensor) -> None:
        fresh = (counts.squeeze(1) > 0) & ~self.met
        means = sums / counts.clamp_min(1)
        self.centres.copy_(torch.where(fresh.unsqueeze(1), means, self.centres))  # no index that the CPU must wait for
        self.met |= fresh

    def _move(self, sums: Tensor, counts: Tensor) -> None:
        self.centres -= self.rate * (counts * self.centres - sums) / (1 + counts)


def _shares(logits: Tensor, labels: Tensor) -> Tensor:  # (B,) -> (B, C)
    return functional.one_hot(labels, logits.shape[1]).to(logits.dtype)


def check_labels(x: Tensor, labels: Tensor) -> None:
    """Refuse anything but rows of two dimensions and one whole number for each.

    Raises:
        UsageError: they are not.
    """
    if x.ndim != 2 or labels.shape != x.shape[:1] or labels.dtype.is_floating_point:
        raise UsageError(
            f"expected (B, D) rows and (B,) whole numbers as labels, got {tuple(x.shape)} and "
            f"{tuple(labels.shape)} of {labels.dtype}"
        )
