"""CapsNet: vectors in place of single numbers, each sent to the class whose vector it agrees with.

Source: Sabour, Frosst, Hinton, "Dynamic Routing Between Capsules", NeurIPS 2017 (arXiv:1710.09829), section 4: a 9x9
convolution to 256, 32 x 6 x 6 primary capsules of 8 numbers, a class capsule of 16 numbers for each class, three
iterations of routing. With grey images and ten classes it has the paper's 6.8 million parameters (no decoder).
The score of a class is the length of its capsule, in [0, 1), times 16: cross-entropy needs scores that differ by more
than 1 (with 16, lengths of 0.9 and 0.1 give one class of 1,000 a probability of 0.997). The margin loss of the paper's
eq. 4 (objective `capsule-margin`) reads the scores divided by 16.
`forward_features` gives the primary capsules in a row; a head of another kind put in place of the class capsules reads
those, without any routing.
Deviations: the first convolution reads red, green and blue; its map, larger than that of the paper's 28 px, is averaged
to 20 x 20 points; there is no decoder. There is one stem, its own; every size from 32 px fits.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from facewright.models.blocks import FixedGrid, Model, Stage, Stem, initialize_convolutions
from facewright.specs import CAPSULE_SCALE
from facewright.vectors import exactly, precise

GRID = 20  # points along a side of the map that the primary capsules read, for 28 px
CHANNELS, KERNEL = 256, 9
PRIMARY = 32 * 6 * 6  # capsules
PRIMARY_WIDTH, CLASS_WIDTH = 8, 16  # numbers in a capsule
ITERATIONS = 3
SMALLEST = 1e-9  # below the square root: a capsule of zeros has a gradient too


class PrimaryCapsules(nn.Module):
    """A 9x9 convolution with stride 2 whose channels, eight at a time, are capsules."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(CHANNELS, 32 * PRIMARY_WIDTH, KERNEL, 2)

    def forward(self, x: Tensor) -> Tensor:  # (B, 256, 20, 20) -> (B, 1152, 8)
        capsules = self.conv(x).flatten(2).unflatten(1, (32, PRIMARY_WIDTH))  # (B, 32, 8, 36)
        return squash(capsules.transpose(2, 3).flatten(1, 2))


class ClassCapsules(nn.Linear):
    """Scores of classes: the lengths of their capsules, times `CAPSULE_SCALE`.

    `weight` (classes, 1152 x 8, 16) holds for each class and primary capsule the matrix W of eq. 2; there is no bias.
    With couplings that did not depend on the image it would be a linear layer and a length.
    """

    def __init__(self, features: int, classes: int) -> None:
        super().__init__(features, classes, bias=False)
        weight = torch.empty(classes, features, CLASS_WIDTH)
        self.weight = nn.Parameter(weight.normal_(0.0, 0.1))  # the deviation of the authors' code

    def forward(self, features: Tensor) -> Tensor:  # (B, 1152 x 8) -> (B, classes)
        primary = torch.unflatten(precise(features), 1, (-1, PRIMARY_WIDTH))
        matrices = torch.unflatten(precise(self.weight), 1, (-1, PRIMARY_WIDTH))
        with exactly(features):
            square = route(torch.einsum("bik,jiko->bjio", primary, matrices)).square().sum(-1)
        return CAPSULE_SCALE * square / (1 + square)  # the length of the squashed sum


class CapsNet(Model):
    classifier_name = "classes"
    feature_width = PRIMARY * PRIMARY_WIDTH

    def __init__(self, name: str, classes: int, stem: Stem = "imagenet") -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, CHANNELS, KERNEL)
        self.relu = nn.ReLU(inplace=True)
        self.grid = FixedGrid(GRID)
        self.primary = PrimaryCapsules()
        self.classes = ClassCapsules(self.feature_width, classes)
        initialize_convolutions(self)

    def forward_features(self, x: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, feature_width)
        capsules: Tensor = self.primary(self.grid(self.relu(self.conv1(x))))
        return capsules.flatten(1)

    def stages(self) -> tuple[Stage, ...]:
        return self.stage("stem", "conv1 grid"), self.stage("capsules", "primary", "classes")


def squash(x: Tensor) -> Tensor:
    """Shorten vectors (..., D) to lengths below 1 and keep their directions (eq. 1).

    >>> squash(torch.tensor([3.0, 4.0])).mul(26).round().tolist()
    [15.0, 20.0]
    """
    x = precise(x)
    square = x.square().sum(-1, keepdim=True)
    return x * (square + SMALLEST).sqrt() / (1 + square)


def route(votes: Tensor) -> Tensor:
    """Route votes (B, classes, capsules, D) to classes by agreement, and sum them: (B, classes, D), not yet squashed.

    Each capsule shares itself among the classes; those whose squashed sum agrees with its vote get more of it in the
    next iteration. Gradients pass through all iterations.

    Source: procedure 1 of the paper.
    """
    agreement = torch.zeros_like(votes[..., 0])  # (B, classes, capsules); b of the paper
    for _ in range(ITERATIONS - 1):
        agreement = agreement + torch.einsum("bjio,bjo->bji", votes, squash(_sum_shares(agreement, votes)))
    return _sum_shares(agreement, votes)


def _sum_shares(agreement: Tensor, votes: Tensor) -> Tensor:  # -> (B, classes, D)
    return torch.einsum("bji,bjio->bjo", agreement.softmax(1), votes)
