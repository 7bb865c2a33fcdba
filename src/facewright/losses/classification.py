"""Losses of images with a class, each a scalar >= 0: on scores, with centres beside them, with a margin on the sphere.

The margin losses take the cosines between embeddings and class directions, as a cosine head gives them; of sub-centre
ArcFace (Deng et al. 2020, "Sub-center ArcFace: Boosting Face Recognition by Large-Scale Noisy Web Faces", ECCV) the
head is the whole difference: its cosine is that of the nearest of K directions, and the loss is `arcface`.
"""

from __future__ import annotations

import math

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
        # Over all: or each process would move its own copy of the centres elsewhere.
        return _over_processes(sums), _over_processes(members.sum(0).unsqueeze(1))

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


def cosface(cosines: Tensor, labels: Tensor, scale: float, margin: float, weights: Tensor | None = None) -> Tensor:
    """Cross-entropy of s cos(theta), where the image's own class counts as s (cos(theta) - m).

    Args:
        cosines: (B, C) in [-1, 1].
        labels: (B,) class numbers.
        scale: s > 0; 64 in the paper, less for few classes.
        margin: m >= 0; 0.35 in the paper.
        weights: (C,) of the classes; see `cross_entropy`.
    Source: Wang et al. 2018, "CosFace: Large Margin Cosine Loss for Deep Face Recognition", arXiv:1801.09414, eq. 4.
    """
    cosines = precise(cosines)
    own = margined("cosface", _own(cosines, labels), margin)
    return cross_entropy(scale * _replaced(cosines, labels, own), labels, weights=weights)


def arcface(cosines: Tensor, labels: Tensor, scale: float, margin: float, weights: Tensor | None = None) -> Tensor:
    """Cross-entropy of s cos(theta), where the image's own class counts as s cos(theta + m).

    Beyond theta = pi - m that would rise again and reward a worse embedding; there it is s (cos(theta) - m sin(m)),
    which goes on falling.

    Args: as `cosface`; of a cosine head with K > 1 this is sub-centre ArcFace.
        margin: m in [0, pi), radians; 0.5 in the paper.
    Source: Deng et al. 2019, "ArcFace: Additive Angular Margin Loss for Deep Face Recognition", arXiv:1801.07698,
    eq. 3; the case beyond pi - m is that of the authors' code.
    """
    cosines = precise(cosines)
    own = margined("arcface", _own(cosines, labels), margin)
    return cross_entropy(scale * _replaced(cosines, labels, own), labels, weights=weights)


def adaface(
    cosines: Tensor, quality: Tensor, labels: Tensor, scale: float, margin: float, weights: Tensor | None = None
) -> Tensor:
    """Cross-entropy of s cos(theta), where the image's own class counts as s (cos(theta + g_angle) - g_add).

    g_angle = -m q and g_add = m q + m, with the quality q of the image: at q = -1 it is ArcFace with the margin m, at
    q = 0 CosFace, and at q = 1 images far from their class are pulled less. theta + g_angle is clipped to [0, pi], as
    in the authors' code: beyond, there is no gradient through the angle.

    Args: as `cosface`.
        quality: (B,) in [-1, 1], from `NormQuality`.
        margin: m in [0, pi / 2], radians; 0.4 in the paper.
    Source: Kim, Jain, Liu 2022, "AdaFace: Quality Adaptive Margin for Face Recognition", arXiv:2204.00964, eq. 14, 15.
    """
    cosines = precise(cosines)
    own = margined("adaface", _own(cosines, labels), margin, precise(quality).unsqueeze(1))
    return cross_entropy(scale * _replaced(cosines, labels, own), labels, weights=weights)


def margined(kind: str, own: Tensor, margin: float, quality: Tensor | None = None) -> Tensor:
    """Return the cosines of images with their own classes as `cosface`, `arcface` or `adaface` counts them.

    Args:
        kind: one of these.
        own: cosines, of any shape.
        margin: m.
        quality: of the same shape; adaface alone.
    """
    if kind == "cosface":
        return own - margin
    # Clipped where the sine's slope is infinite: an embedding exactly on its class's direction gets no gradient.
    short = 1 - torch.finfo(own.dtype).eps
    inside = own.clamp(-short, short)
    sine = (1 - inside.square()).sqrt()
    if quality is None:
        further = inside * math.cos(margin) - sine * math.sin(margin)
        return torch.where(own > math.cos(math.pi - margin), further, own - margin * math.sin(margin))
    angle = -margin * quality
    turned, total = inside * angle.cos() - sine * angle.sin(), inside.detach().arccos() + angle
    turned = torch.where(total < 0, 1.0, torch.where(total > math.pi, -1.0, turned))
    return turned - (margin * quality + margin)


class NormQuality(nn.Module):
    """The quality of images by the norms of their embeddings, against a moving mean and standard deviation.

    q = clip((|x| - mean) / (std / h), -1, 1), without gradient. Mean and std are of the batches over all processes.
    Deviations: they start as those of the first batch, where the authors' code starts at 20 and 100; `rate` is the
    share of the newest batch, 0.01 as in their code (the paper's eq. 13 has the momentum 0.99).

    Args:
        concentration: h; 1/3 in the paper.
        rate: in (0, 1].
    Source: Kim, Jain, Liu 2022, arXiv:2204.00964, eq. 12 and 13.
    """

    mean: Tensor
    std: Tensor
    batches: Tensor

    def __init__(self, concentration: float = 1 / 3, rate: float = 0.01) -> None:
        super().__init__()
        self.concentration, self.rate = concentration, rate
        for name in ("mean", "std", "batches"):
            self.register_buffer(name, torch.zeros(()))

    @torch.no_grad()
    def forward(self, norms: Tensor) -> Tensor:
        """(B,) norms of embeddings -> (B,) in [-1, 1]; moves mean and std in training mode only."""
        norms = norms.detach().to(self.mean.dtype).clamp(1e-3, 100)  # the authors' bounds
        if self.training:
            count, total = _over_processes(torch.stack([torch.ones_like(norms).sum(), norms.sum()]))
            mean = total / count
            squares = _over_processes((norms - mean).square().sum().reshape(1))[0]
            std = (squares / (count - 1).clamp_min(1)).sqrt()
            rate = torch.where(self.batches == 0, 1.0, self.rate)
            self.mean.lerp_(mean, rate)
            self.std.lerp_(std, rate)
            self.batches.clamp_(max=0).add_(1)
        return ((norms - self.mean) / (self.std + 1e-3) * self.concentration).clamp(-1, 1)


def a_softmax(
    cosines: Tensor, lengths: Tensor, labels: Tensor, margin: int, blend: float = 0.0, weights: Tensor | None = None
) -> Tensor:
    """Cross-entropy of |x| cos(theta), where the image's own class counts as |x| psi(theta).

    psi(theta) = (-1)^k cos(m theta) - 2k for theta in [k pi / m, (k + 1) pi / m] falls all the way from 1 to 1 - 2m.
    It is too hard at the start of a training, so (blend cos(theta) + psi(theta)) / (1 + blend) stands in its place.

    Args:
        cosines: (B, C) in [-1, 1].
        lengths: (B,) of the embeddings, |x| >= 0.
        labels: (B,) class numbers.
        margin: m, a whole number >= 1; 4 in the paper; 1 is no margin.
        blend: lambda >= 0, from `a_softmax_blend`.
        weights: (C,) of the classes; see `cross_entropy`.
    Raises:
        UsageError: the margin is no whole number >= 1.
    Source: Liu et al. 2017, "SphereFace: Deep Hypersphere Embedding for Face Recognition", arXiv:1704.08063, eq. 7
    and the definition of psi after it; the blend is that of Liu et al. 2016, "Large-Margin Softmax Loss",
    arXiv:1612.02295.
    """
    if isinstance(margin, bool) or not isinstance(margin, int) or margin < 1:
        raise UsageError(f"the margin of A-Softmax multiplies an angle: a whole number of at least 1, not {margin!r}")
    cosines, lengths = precise(cosines), precise(lengths)
    own = _own(cosines, labels)
    mixed = (blend * own + _psi(own, margin)) / (1 + blend)
    return cross_entropy(lengths.unsqueeze(1) * _replaced(cosines, labels, mixed), labels, weights=weights)


def a_softmax_blend(step: int, start: float = 1000.0, fall: float = 0.12, least: float = 5.0) -> float:
    """The blend at a step of the training, counted from 0: max(least, start / (1 + fall * step)).

    Source: the training files of SphereFace's authors (base 1000, gamma 0.12, power 1, lambda_min 5).
    >>> a_softmax_blend(0), round(a_softmax_blend(100), 2), a_softmax_blend(10_000)
    (1000.0, 76.92, 5.0)
    """
    return max(least, start / (1 + fall * step))


def _psi(cosines: Tensor, margin: int) -> Tensor:
    # cos(m theta) as Chebyshev's polynomial of cos(theta): smooth, with no arc cosine whose slope is infinite at 1.
    before, multiple = torch.ones_like(cosines), cosines
    for _ in range(margin - 1):
        before, multiple = multiple, 2 * cosines * multiple - before
    angles = torch.arccos(cosines.detach().clamp(-1, 1))
    k = torch.floor(angles * (margin / math.pi)).clamp(0, margin - 1)
    return (1 - 2 * (k % 2)) * multiple - 2 * k


def _over_processes(sums: Tensor) -> Tensor:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(sums)
    return sums


def _own(cosines: Tensor, labels: Tensor) -> Tensor:  # (B, C), (B,) -> (B, 1)
    check_labels(cosines, labels)
    return cosines.gather(1, labels.unsqueeze(1))


def _replaced(cosines: Tensor, labels: Tensor, own: Tensor) -> Tensor:
    """The cosines (B, C) with other values (B, 1) for the images' own classes."""
    return cosines.scatter(1, labels.unsqueeze(1), own)
