"""The objective of a training: a head, features and targets to the loss, whatever it is made of.

Pair losses (contrastive, pairwise, triplet) need no classes: the head's last layer learns beside them, by cross-entropy
on embeddings cut off from the backbone. Closed-set accuracy still means something, and no gradient of it reaches the
backbone. They bring the embeddings to unit length first and look at cosines, or at d^2 = 2 - 2 cos; what a batch does
not hold (a genuine pair, a valid triplet) counts exactly 0, with a zero gradient.
"""

from __future__ import annotations

from typing import Protocol, get_args, runtime_checkable

import torch
from torch import Tensor, linalg, nn

from facewright.errors import UnknownName, UsageError
from facewright.losses.classification import (
    CentreLoss,
    NormQuality,
    a_softmax,
    a_softmax_blend,
    adaface,
    arcface,
    capsule_margin,
    check_labels,
    cosface,
    cross_entropy,
    focal,
)
from facewright.specs import CAPSULE_SCALE, ON_COSINES, ON_PAIRS, SHARED, ObjectiveSpec, TripletMining
from facewright.vectors import cosines_within, precise, square_root


class Head(Protocol):
    """A module in two steps: `classify(embed(features))` are its scores."""

    def embed(self, features: Tensor) -> Tensor: ...  # (B, F) -> (B, D)

    def classify(self, embeddings: Tensor) -> Tensor: ...  # (B, D) -> (B, C)


@runtime_checkable
class CosineHead(Head, Protocol):
    """A head whose scores are `scale` times a cosine."""

    scale: float

    def cosines(self, embeddings: Tensor) -> Tensor: ...  # (B, D) -> (B, C)


class Objective(nn.Module):
    """Map a head, the features of a batch and its targets to the loss and the scores.

    Its state is the centres of the centre loss, the statistics of AdaFace's norms, and nothing for all others.

    Args:
        spec: what to minimise; a loss with a margin wants a cosine head, see `Recipe`.
        classes: C.
        width: D, of the head's embeddings.
        weights: (C,) of the classes, for whatever is on scores; None = all 1.
        smoothing: of the labels, in [0, 1); where there is a plain cross-entropy.
    Raises:
        UsageError: weights of another shape.
    """

    weights: Tensor | None

    def __init__(
        self, spec: ObjectiveSpec, classes: int, width: int, weights: Tensor | None = None, smoothing: float = 0.0
    ) -> None:
        super().__init__()
        if weights is not None and weights.shape != (classes,):
            raise UsageError(f"expected one weight for each of {classes} classes, got {tuple(weights.shape)}")
        self.spec = spec
        self.smoothing = smoothing
        self.centre = CentreLoss(classes, width, spec.centre_rate) if spec.kind == "centre" else None
        self.quality = NormQuality(spec.concentration, spec.norm_rate) if spec.kind == "adaface" else None
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, head: Head, features: Tensor, targets: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Compute the loss to minimise, and the scores without margins, for counting hits.

        Args:
            head: made by `heads.build`.
            features: (B, F), of the backbone.
            targets: (B,) class numbers, or for those that take them (`specs.SHARED`) (B, C) shares.
            step: of the whole training, from 0; a-softmax grows harder with it.
        Returns:
            A scalar, and (B, C).
        Raises:
            UsageError: the head or the targets are not for this kind.
        """
        kind = self.spec.kind
        if targets.ndim == 2 and kind not in SHARED:
            raise UsageError(
                f"{kind} needs one class for each image, not shares of classes: turn mixup and cutmix off, "
                f"or choose {' or '.join(SHARED)}"
            )
        embeddings = head.embed(features)  # once: batch norms and dropout in it act once a step
        if kind in ON_COSINES:
            return self._on_cosines(self._cosine(head), embeddings, targets, step)
        if kind in ON_PAIRS:
            scores = head.classify(embeddings.detach())
            return self._on_pairs(embeddings, targets) + self._cross_entropy(scores, targets), scores
        scores = head.classify(embeddings)
        if kind == "focal":
            return focal(scores, targets, self.spec.gamma, self.weights), scores
        if kind == "capsule-margin":
            return capsule_margin(scores / CAPSULE_SCALE, targets, self.weights), scores
        loss = self._cross_entropy(scores, targets)
        return loss if self.centre is None else loss + self.spec.weight * self.centre(embeddings, targets), scores

    def hits(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Count the images (B, C) whose highest score is that of their class (B,)."""
        return (scores.argmax(1) == labels).sum()

    def _cosine(self, head: Head) -> CosineHead:
        if not isinstance(head, CosineHead):
            raise UsageError(
                f"{self.spec.kind} puts its margin on cosines, which {type(head).__name__} does not give: "
                "choose the head 'cosine'"
            )
        return head

    def _cross_entropy(self, scores: Tensor, targets: Tensor) -> Tensor:
        return cross_entropy(scores, targets, self.smoothing, self.weights)

    def _on_cosines(self, head: CosineHead, embeddings: Tensor, labels: Tensor, step: int) -> tuple[Tensor, Tensor]:
        spec, cosines = self.spec, head.cosines(embeddings)
        scores = head.scale * cosines
        if self.quality is not None:
            quality = self.quality(linalg.vector_norm(precise(embeddings), dim=1))
            return adaface(cosines, quality, labels, head.scale, spec.used_margin, self.weights), scores
        if spec.kind == "a-softmax":
            lengths = linalg.vector_norm(precise(embeddings), dim=1)
            blend = a_softmax_blend(step, spec.blend_start, spec.blend_fall, spec.blend_least)
            return a_softmax(cosines, lengths, labels, int(spec.used_margin), blend, self.weights), scores
        margin_loss = cosface if spec.kind == "cosface" else arcface
        return margin_loss(cosines, labels, head.scale, spec.used_margin, self.weights), scores

    def _on_pairs(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        margin = self.spec.used_margin
        if self.spec.kind == "contrastive":
            return contrastive(embeddings, labels, margin)
        if self.spec.kind == "pairwise":
            return score_distributions(embeddings, labels)
        return triplet(embeddings, labels, margin, self.spec.mining)


def contrastive(embeddings: Tensor, labels: Tensor, margin: float = 1.0) -> Tensor:
    """The mean over all pairs of the batch of d^2 / 2 for one person, and max(0, margin - d)^2 / 2 for two.

    Args:
        embeddings: (B, D), of any length.
        labels: (B,) class numbers.
        margin: of the Euclidean distance d of unit vectors, in (0, 2].
    Returns:
        A scalar >= 0; 0 where the batch holds fewer than two images.
    Source: Hadsell, Chopra, LeCun 2006, "Dimensionality Reduction by Learning an Invariant Mapping", CVPR, eq. 4.
    """
    cosines, same = _pairs(embeddings, labels)
    squared = 2 - 2 * cosines
    apart = (margin - square_root(squared)).relu().square()
    return _mean(torch.where(same, squared, apart) / 2, torch.ones_like(same))


def score_distributions(embeddings: Tensor, labels: Tensor, nodes: int = 101) -> Tensor:
    """The chance that a random impostor pair of the batch scores at least as high as a random genuine pair.

    Both distributions of cosines are histograms with soft edges: a score gives to its two neighbouring nodes what it is
    near to each. The loss is sum_r h-_r sum_{q <= r} h+_q. It knows no margin.

    Args:
        embeddings: (B, D), of any length.
        labels: (B,) class numbers.
        nodes: R >= 2, evenly over [-1, 1]; the authors find that it matters little.
    Returns:
        A scalar in [0, 1]; 0 where the batch has no genuine or no impostor pair.
    Raises:
        UsageError: fewer than two nodes.
    Source: Ustinova and Lempitsky 2016, "Learning Deep Embeddings with Histogram Loss", NIPS (arXiv:1611.00822),
    section 3.
    """
    if nodes < 2:
        raise UsageError(f"a histogram over [-1, 1] needs at least two nodes, got {nodes}")
    cosines, same = _pairs(embeddings, labels)
    genuine, impostor = _histogram(cosines, same, nodes), _histogram(cosines, ~same, nodes)
    below = torch.ones(nodes, nodes, device=genuine.device).tril()  # no cumsum: CUDA has no deterministic one
    return (impostor * (below * genuine).sum(1)).sum()


def triplet(embeddings: Tensor, labels: Tensor, margin: float = 0.2, mining: TripletMining = "batch-hard") -> Tensor:
    """The mean over triplets of max(0, d^2(anchor, positive) - d^2(anchor, negative) + margin).

    Args:
        embeddings: (B, D), of any length.
        labels: (B,) class numbers; P identities with K images each suit it.
        margin: of squared distances of unit vectors, in (0, 4]; 0.2 in FaceNet.
        mining: which triplets count.
            "all": every valid one.
            "semi-hard": for each anchor and positive the nearest negative that is farther away than the positive, but
                by less than the margin; none, where there is no such negative.
            "batch-hard": for each anchor its farthest positive and nearest negative.
    Returns:
        A scalar >= 0; 0 where there is no such triplet.
    Raises:
        UnknownName: no such mining.
    Source: Schroff et al. 2015, "FaceNet", arXiv:1503.03832, eq. 3 and 4; batch-hard: Hermans et al. 2017, "In Defense
    of the Triplet Loss", arXiv:1703.07737, eq. 5, who take d of free vectors where this takes FaceNet's d^2 on the
    sphere: the same triplets for unit vectors, one scale of margins, and no infinite slope at d = 0.
    """
    if mining not in get_args(TripletMining):
        raise UnknownName("mining", mining, get_args(TripletMining))
    check_labels(embeddings, labels)
    distances = 2 - 2 * cosines_within(embeddings)  # (B, B)
    same = labels.unsqueeze(1) == labels  # (B, B)
    positive = same & ~torch.eye(len(labels), dtype=torch.bool, device=same.device)
    if mining == "batch-hard":
        far = distances.masked_fill(~positive, -torch.inf).amax(1)  # (B,)
        near = distances.masked_fill(same, torch.inf).amin(1)
        return _mean((far - near + margin).relu(), positive.any(1))  # without a negative: relu(-inf) is 0
    gaps = distances.unsqueeze(1) - distances.unsqueeze(2)  # (B, B, B): [a, p, n] = d^2(a, n) - d^2(a, p)
    valid = positive.unsqueeze(2) & ~same.unsqueeze(1)
    if mining == "all":
        return _mean((margin - gaps).relu(), valid)
    smallest = gaps.masked_fill(~valid | (gaps <= 0), torch.inf).amin(2)  # (B, B)
    return _mean((margin - smallest).relu(), smallest < margin)


def _pairs(embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Of each pair of the batch the cosine, and whether it shows one person: (B (B - 1) / 2,) both."""
    check_labels(embeddings, labels)
    first, second = torch.triu_indices(len(labels), len(labels), 1, device=labels.device)
    return cosines_within(embeddings)[first, second], labels[first] == labels[second]


def _histogram(cosines: Tensor, chosen: Tensor, nodes: int) -> Tensor:
    """Shares of the chosen scores at each node, (R,); all 0 where none is chosen."""
    places = (cosines + 1) * ((nodes - 1) / 2)  # in [0, R - 1]
    lower = places.detach().floor().long().clamp(0, nodes - 2)
    upper_share = places - lower
    empty = cosines.new_zeros(nodes)
    counted = chosen.to(places.dtype)  # a product, not an index: the CPU need not wait for how many there are
    counts = empty.index_add(0, lower, (1 - upper_share) * counted).index_add(0, lower + 1, upper_share * counted)
    return counts / counted.sum().clamp_min(1)


def _mean(values: Tensor, counted: Tensor) -> Tensor:
    """The mean of those that count; 0 with a zero gradient where none does."""
    return torch.where(counted, values, 0.0).sum() / counted.sum().clamp_min(1)
