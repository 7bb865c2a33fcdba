"""The objective of a training: a head, features and targets to the loss, whatever it is made of.

Pair losses (contrastive, pairwise, triplet) need no classes: the head's last layer learns beside them, by cross-entropy
on embeddings cut off from the backbone. Closed-set accuracy still means something, and no gradient of it reaches the
backbone.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor, linalg, nn

from facewright.errors import UsageError
from facewright.losses.classification import CentreLoss, capsule_margin, cross_entropy, focal
from facewright.losses.margins import NormQuality, a_softmax, a_softmax_blend, adaface, arcface, cosface
from facewright.losses.pairs import contrastive, score_distributions, triplet
from facewright.specs import CAPSULE_SCALE, ON_COSINES, ON_PAIRS, SHARED, ObjectiveSpec
from facewright.vectors import precise


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
