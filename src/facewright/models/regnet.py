"""RegNetX and RegNetY, 200 MF to 8 GF: a residual network whose widths are a straight line, rounded.

Source: Radosavovic et al., "Designing Network Design Spaces", CVPR 2020 (arXiv:2003.13678), equations 2 to 4; the
numbers of the table are those of its appendix, in the precision of the authors' code. X is a stem, four stages of
bottlenecks without a bottleneck (ratio 1) and grouped 3x3 convolutions, and a linear layer; Y adds squeeze and
excitation. Parameter names are torchvision's.
Deviations: a stage's width becomes a multiple of its group width as in torchvision, never losing more than a tenth,
which makes X-400MF and Y-800MF a little wider than the paper's. The last norm of each branch starts at zero.
`stem` chooses how many of the five halvings there are:

    coarse    2x2 mean, then as imagenet:             the last map is 1/64 of the side (112 px -> 2)
    imagenet  the paper's:                            1/32 (224 px -> 7)
    medium    the first convolution keeps the side:   1/16 (112 px -> 7)
    small     that, and the first stage too:          1/8  (32 px -> 4)
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass
from math import log

import torch
from torch import Tensor, nn

from facewright.models.blocks import (
    Model,
    SqueezeExcitation,
    Stage,
    Stem,
    conv_norm,
    first_strides,
    initialize_residual,
    reducer,
    round_channels,
)


@dataclass(frozen=True)
class Variant:
    depth: int  # d: blocks
    start: int  # w_0: width of the first block
    slope: float  # w_a: growth of the width a block
    step: float  # w_m: ratio of the widths of two stages
    group_width: int  # g: channels of a group
    squeeze: bool  # whether it is a Y


VARIANTS = {
    "regnet_x_200mf": Variant(13, 24, 36.44, 2.49, 8, False),
    "regnet_x_400mf": Variant(22, 24, 24.48, 2.54, 16, False),
    "regnet_x_600mf": Variant(16, 48, 36.97, 2.24, 24, False),
    "regnet_x_800mf": Variant(16, 56, 35.73, 2.28, 16, False),
    "regnet_x_1_6gf": Variant(18, 80, 34.01, 2.25, 24, False),
    "regnet_x_3_2gf": Variant(25, 88, 26.31, 2.25, 48, False),
    "regnet_x_8gf": Variant(23, 80, 49.56, 2.88, 120, False),
    "regnet_y_200mf": Variant(13, 24, 36.44, 2.49, 8, True),
    "regnet_y_400mf": Variant(16, 48, 27.89, 2.09, 8, True),
    "regnet_y_600mf": Variant(15, 48, 32.54, 2.32, 16, True),
    "regnet_y_800mf": Variant(14, 56, 38.84, 2.4, 16, True),
    "regnet_y_1_6gf": Variant(27, 48, 20.71, 2.65, 24, True),
    "regnet_y_3_2gf": Variant(21, 80, 42.63, 2.66, 24, True),
    "regnet_y_8gf": Variant(17, 192, 76.82, 2.19, 56, True),
}
FIRST_WIDTH = 32
SQUEEZE = 0.25  # channels squeezed to, over those that enter the block


def stage_shapes(variant: Variant) -> list[tuple[int, int, int]]:
    """The (width, depth, group width) of each stage that the numbers d, w_0, w_a, w_m and g give.

    Source: equation 2, u_j = w_0 + w_a j; equation 3, u_j = w_0 w_m ** s_j; equation 4, s_j rounded; the width of
    block j is then rounded to a multiple of 8, and blocks of one width are a stage.
    >>> stage_shapes(VARIANTS["regnet_x_200mf"])
    [(24, 1, 8), (56, 1, 8), (152, 4, 8), (368, 7, 8)]
    """
    widths = []
    for block in range(variant.depth):
        exponent = round(log(1 + variant.slope * block / variant.start) / log(variant.step))
        widths.append(round(variant.start * variant.step**exponent / 8) * 8)
    shapes = []
    for width, depth in Counter(widths).items():  # widths only grow, so the order is theirs
        group_width = min(variant.group_width, width)
        shapes.append((round_channels(width, group_width), depth, group_width))
    return shapes


class Block(nn.Module):
    """1x1, grouped 3x3, channels weighed in a Y, 1x1; and a shortcut."""

    last_norm = "f.c.1"

    def __init__(self, inputs: int, width: int, stride: int, group_width: int, squeeze: bool) -> None:
        super().__init__()
        branch: OrderedDict[str, nn.Module] = OrderedDict()
        branch["a"] = conv_norm(inputs, width, activation=nn.ReLU(inplace=True))
        branch["b"] = conv_norm(width, width, 3, stride, width // group_width, nn.ReLU(inplace=True))
        if squeeze:
            branch["se"] = SqueezeExcitation(width, round(SQUEEZE * inputs), nn.ReLU(inplace=True))
        branch["c"] = conv_norm(width, width)
        self.proj = None if stride == 1 and inputs == width else conv_norm(inputs, width, 1, stride)
        self.join = "identity" if self.proj is None else "projection"
        self.f = nn.Sequential(branch)
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:  # (B, inputs, H, W) -> (B, width, H/stride, W/stride)
        identity = x if self.proj is None else self.proj(x)
        return self.activation(identity + self.f(x))


class RegNet(Model):
    classifier_name = "fc"

    def __init__(self, name: str, classes: int, stem: Stem = "imagenet") -> None:
        super().__init__()
        first, second = first_strides(stem)
        self.reduce = reducer(stem)
        self.stem = conv_norm(3, FIRST_WIDTH, 3, first, activation=nn.ReLU(inplace=True))
        trunk: OrderedDict[str, nn.Module] = OrderedDict()
        inputs = FIRST_WIDTH
        for number, (width, depth, group_width) in enumerate(stage_shapes(VARIANTS[name]), start=1):
            blocks: OrderedDict[str, nn.Module] = OrderedDict()
            for index in range(depth):
                stride = 1 if index > 0 else second if number == 1 else 2
                blocks[f"block{number}-{index}"] = Block(inputs, width, stride, group_width, VARIANTS[name].squeeze)
                inputs = width
            trunk[f"block{number}"] = nn.Sequential(blocks)
        self.trunk_output = nn.Sequential(trunk)
        self.feature_width = inputs
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(inputs, classes)
        initialize_residual(self)

    def forward_features(self, x: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, feature_width)
        return torch.flatten(self.avgpool(self.trunk_output(self.stem(self.reduce(x)))), 1)

    def stages(self) -> tuple[Stage, ...]:
        body = (self.stage(f"stage {n}", *self.units_in(f"trunk_output.block{n}")) for n in range(1, 5))
        return self.stage("stem", "reduce", "stem.0 stem.1"), *body, self.stage("head", "avgpool", "fc")
