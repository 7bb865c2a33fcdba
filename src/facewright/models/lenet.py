"""LeNet-5: the first convolutional network that was widely used, for digits.

Source: LeCun, Bottou, Bengio, Haffner, "Gradient-Based Learning Applied to Document Recognition", Proceedings of the
IEEE 86(11), 1998, section II.B: layers C1 to F6, the connections of table I, the scaled tanh of eq. 6 and appendix A,
and its uniform initialization within 2.4 / fan-in. With grey images, C1 to F6 have the paper's 60,000 parameters.
Deviations: C1 reads red, green and blue (300 weights more); a linear layer gives the class scores, where the paper
compares with drawn codes of characters; maps larger than those of 32 px are averaged to 5 x 5 points before C5.
There is one stem, its own; every size from 32 px fits.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from facewright.models.blocks import FixedGrid, Model, Stage, Stem

FEATURES = 84
GRID = 5  # points along a side of the map that C5 reads, for 32 px

# Table I: the maps of S2 that each map of C3 reads.
READ_BY_SIX = ((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5))
READ_BY_NINE = (
    *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5)),
    *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5)),
)


class ScaledTanh(nn.Module):
    """1.7159 tanh(2/3 a), which is 1 at 1 and -1 at -1 (appendix A)."""

    def forward(self, x: Tensor) -> Tensor:
        return 1.7159 * torch.tanh(x * (2 / 3))


class Subsampling(nn.Module):
    """The mean of 2x2 points, times a coefficient, plus a bias: two parameters a map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:  # (B, channels, H, W) -> (B, channels, H / 2, W / 2)
        return functional.avg_pool2d(x, 2) * self.weight[:, None, None] + self.bias[:, None, None]


class PartialConvolution(nn.Module):
    """The 5x5 convolution of C3: each of its 16 maps reads some of the 6 maps of S2."""

    def __init__(self) -> None:
        super().__init__()
        self.six = nn.Conv2d(18, 6, 5, groups=6)
        self.nine = nn.Conv2d(36, 9, 5, groups=9)
        self.last = nn.Conv2d(6, 1, 5)

    def forward(self, x: Tensor) -> Tensor:  # (B, 6, H, W) -> (B, 16, H - 4, W - 4)
        read = (x[:, [row for rows in table for row in rows]] for table in (READ_BY_SIX, READ_BY_NINE))
        return torch.cat([self.six(next(read)), self.nine(next(read)), self.last(x)], 1)


class LeNet5(Model):
    classifier_name: ClassVar[str] = "fc"
    feature_width = FEATURES

    def __init__(self, name: str, classes: int, stem: Stem = "imagenet") -> None:
        super().__init__()
        self.c1 = nn.Conv2d(3, 6, 5)
        self.s2 = Subsampling(6)
        self.c3 = PartialConvolution()
        self.s4 = Subsampling(16)
        self.grid = FixedGrid(GRID)
        self.c5 = nn.Conv2d(16, 120, GRID)
        self.f6 = nn.Linear(120, FEATURES)
        self.squash = ScaledTanh()
        self.fc = nn.Linear(FEATURES, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                bound = 2.4 / module.weight[0].numel()
                nn.init.uniform_(module.weight, -bound, bound)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def forward_features(self, x: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, feature_width)
        for layer in (self.c1, self.s2, self.c3, self.s4):
            x = self.squash(layer(x))
        x = torch.flatten(self.squash(self.c5(self.grid(x))), 1)
        features: Tensor = self.squash(self.f6(x))
        return features

    def stages(self) -> tuple[Stage, ...]:
        layers = self.stage("layer 1", "c1", "s2"), self.stage("layer 2", "c3", "s4 grid")
        return *layers, self.stage("head", "c5", "f6", "fc")
