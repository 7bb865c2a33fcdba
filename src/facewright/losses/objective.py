"""What a training minimises: one object from a name and numbers, whatever the loss is made of.

Three groups. On class scores: cross-entropy, focal, centre. On the cosines of a cosine head: A-Softmax, CosFace,
ArcFace. On pairs of embeddings: contrastive, pairwise, triplet; these need no classes, so the head's last layer learns
beside them, by cross-entropy on embeddings cut off from the body: closed-set accuracy still means something, and no
gradient of it reaches the body.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, get_args, runtime_checkable

from torch import Tensor, linalg, nn

from facewright.errors import UnknownName, UsageError
from facewright.losses.classification import CentreLoss, cross_entropy, focal
from facewright.losses.margins import a_softmax, a_softmax_blend, arcface, cosface
from facewright.losses.pairs import Mining, contrastive, score_distributions, triplet
from facewright.losses.vectors import precise

ON_SCORES = ("cross-entropy", "focal", "centre")
ON_COSINES = ("a-softmax", "cosface", "arcface")
ON_PAIRS = ("contrastive", "pairwise", "triplet")
KINDS = (*ON_SCORES, *ON_COSINES, *ON_PAIRS)
SHARED = ("cross-entropy", "focal")  # take shares of classes, as mixup makes them
SMOOTHED = ("cross-entropy", "centre", *ON_PAIRS)  # have a plain cross-entropy to smooth
MARGINS = {"a-softmax": 4.0, "cosface": 0.35, "arcface": 0.5, "contrastive": 1.0, "triplet": 0.2}  # the papers'
LARGEST_MARGINS = {"a-softmax": 16.0, "cosface": 2.0, "arcface": math.pi / 2, "contrastive": 2.0, "triplet": 4.0}


class Head(Protocol):
    """A module in two steps: `classify(embed(features))` are its scores."""

    def embed(self, features: Tensor) -> Tensor: ...  # (B, F) -> (B, D)

    def classify(self, embeddings: Tensor) -> Tensor: ...  # (B, D) -> (B, C)


@runtime_checkable
class CosineHead(Head, Protocol):
    """A head whose scores are `scale` times a cosine."""

    scale: float

    def cosines(self, embeddings: Tensor) -> Tensor: ...  # (B, D) -> (B, C)


@dataclass(frozen=True)
class ObjectiveSpec:
    """What to minimise, in plain values. A value that the kind has no use for is left at its default, or refused.

    kind: one of `KINDS`.
    margin: None = that of the kind's paper (`MARGINS`); a whole number for a-softmax, radians for arcface.
    scale: cosface, arcface: of the cosines in training; 0 = the head's own.
    smoothing: of the labels, in [0, 1); where there is a plain cross-entropy.
    gamma: focal.
    weight: centre: of the centre loss beside cross-entropy; lambda of the paper.
    centre_rate: centre: alpha of the paper, in [0, 1].
    mining: triplet: "all", "semi-hard" or "batch-hard".
    blend_start, blend_fall, blend_least: a-softmax: of `a_softmax_blend`.

    Raises:
        UnknownName: no such kind or mining. UsageError: a value out of range or of no meaning for the kind.
    >>> ObjectiveSpec("arcface").used_margin
    0.5
    """

    kind: str = "cross-entropy"
    margin: float | None = None
    scale: float = 0.0
    smoothing: float = 0.0
    gamma: float = 2.0
    weight: float = 0.003
    centre_rate: float = 0.5
    mining: Mining = "batch-hard"
    blend_start: float = 1000.0
    blend_fall: float = 0.12
    blend_least: float = 5.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UnknownName("objective", self.kind, KINDS)
        if self.mining not in get_args(Mining):
            raise UnknownName("mining", self.mining, get_args(Mining))
        for name in ("scale", "gamma", "weight", "blend_start", "blend_fall", "blend_least"):
            self._expect(name, 0 <= getattr(self, name) < math.inf, "a number of at least 0")
        self._expect("centre_rate", 0 <= self.centre_rate <= 1, "a number in [0, 1]")
        self._expect("smoothing", 0 <= self.smoothing < 1, "a number in [0, 1)")
        if self.smoothing and self.kind not in SMOOTHED:
            raise UsageError(f"{self.kind} takes no label smoothing: leave it at 0, or choose {', '.join(SMOOTHED)}")
        if self.scale and self.kind not in ("cosface", "arcface"):
            raise UsageError(f"{self.kind} has no scale: leave it at 0, or choose cosface or arcface")
        if self.margin is not None:
            self._check_margin(self.margin)

    @property
    def used_margin(self) -> float:
        """The margin that counts; 0 for kinds without one."""
        return MARGINS.get(self.kind, 0.0) if self.margin is None else self.margin

    def _check_margin(self, margin: float) -> None:
        if self.kind not in MARGINS:
            raise UsageError(f"{self.kind} has no margin: leave it out, or choose one of {', '.join(MARGINS)}")
        most = LARGEST_MARGINS[self.kind]
        if self.kind == "a-softmax":
            good = 1 <= margin <= most and margin == int(margin)
            self._expect("margin", good, f"a whole number from 1 to {most:g} for a-softmax")
        self._expect("margin", 0 <= margin <= most, f"a number in [0, {most:.4g}] for {self.kind}")

    def _expect(self, name: str, good: bool, what: str) -> None:
        if not good:
            raise UsageError(f"expected objective.{name} to be {what}, got {getattr(self, name)!r}")


def needs_pairs(kind: str) -> bool:
    """Whether a batch must hold several pictures of one identity.

    Raises:
        UnknownName: no such kind.
    >>> needs_pairs("triplet"), needs_pairs("arcface")
    (True, False)
    """
    if kind not in KINDS:
        raise UnknownName("objective", kind, KINDS)
    return kind in ON_PAIRS


class Objective(nn.Module):
    """A head, the features of a batch and its targets -> the loss and the scores.

    Its state is the centres of the centre loss, and nothing for all others.

    Args:
        spec: what to minimise.
        classes: C.
        width: D, of the head's embeddings.
        weights: (C,) of the classes, for whatever is a cross-entropy or focal; None = all 1.
    Raises:
        UsageError: weights of another shape.
    """

    weights: Tensor | None

    def __init__(self, spec: ObjectiveSpec, classes: int, width: int, weights: Tensor | None = None) -> None:
        super().__init__()
        if weights is not None and weights.shape != (classes,):
            raise UsageError(f"expected one weight for each of {classes} classes, got {tuple(weights.shape)}")
        self.spec = spec
        self.centre = CentreLoss(classes, width, spec.centre_rate) if spec.kind == "centre" else None
        self.register_buffer("weights", weights, persistent=False)

    def check(self, head: Head) -> None:
        """Refuse a head that this objective cannot train; better before a run than in it.

        Raises:
            UsageError: says which head to choose.
        """
        if self.spec.kind in ON_COSINES:
            self._cosine(head)

    def forward(self, head: Head, features: Tensor, targets: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """The loss to minimise, and the scores without margins, for counting hits.

        Args:
            head: made by `heads.build`.
            features: (B, F), of the body.
            targets: (B,) class numbers, or for cross-entropy and focal (B, C) shares.
            step: of the whole training, from 0; a-softmax grows harder with it.
        Returns:
            A scalar, and (B, C).
        Raises:
            UsageError: the head or the targets are not for this kind.
        """
        kind = self.spec.kind
        if targets.ndim == 2 and kind not in SHARED:
            raise UsageError(
                f"{kind} needs one class for each picture, not shares of classes: turn mixup and cutmix off, "
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
        loss = self._cross_entropy(scores, targets)
        return loss if self.centre is None else loss + self.spec.weight * self.centre(embeddings, targets), scores

    def _cosine(self, head: Head) -> CosineHead:
        if not isinstance(head, CosineHead):
            raise UsageError(
                f"{self.spec.kind} puts its margin on cosines, which {type(head).__name__} does not give: "
                "choose the head 'cosine'"
            )
        return head

    def _cross_entropy(self, scores: Tensor, targets: Tensor) -> Tensor:
        return cross_entropy(scores, targets, self.spec.smoothing, self.weights)

    def _on_cosines(self, head: CosineHead, embeddings: Tensor, labels: Tensor, step: int) -> tuple[Tensor, Tensor]:
        spec, cosines = self.spec, head.cosines(embeddings)
        scores = head.scale * cosines
        if spec.kind == "a-softmax":
            lengths = linalg.vector_norm(precise(embeddings), dim=1)
            blend = a_softmax_blend(step, spec.blend_start, spec.blend_fall, spec.blend_least)
            return a_softmax(cosines, lengths, labels, int(spec.used_margin), blend, self.weights), scores
        margin_loss = cosface if spec.kind == "cosface" else arcface
        return margin_loss(cosines, labels, spec.scale or head.scale, spec.used_margin, self.weights), scores

    def _on_pairs(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        margin = self.spec.used_margin
        if self.spec.kind == "contrastive":
            return contrastive(embeddings, labels, margin)
        if self.spec.kind == "pairwise":
            return score_distributions(embeddings, labels)
        return triplet(embeddings, labels, margin, self.spec.mining)
