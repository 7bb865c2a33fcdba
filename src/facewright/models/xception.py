"""Xception: Inception taken to its limit, a stack of depthwise separable convolutions with shortcuts.

Source: Chollet, "Xception: Deep Learning with Depthwise Separable Convolutions", CVPR 2017 (arXiv:1610.02357),
figure 5. Parameter names are timm's (`legacy_xception`), whose weights come from the paper's.
Deviations: images of other sizes get padded first convolutions and fewer strides, chosen by `stem`. The entry flow
has four places that halve the side (conv1, block1, block2, block3) and the exit flow one (block12):

    coarse    2x2 mean, then as imagenet:   the middle flow sees 1/32 (112 px -> 4)
    imagenet  conv1 and block1 to 3 halve:  the paper's; the middle flow sees 1/16 of the side (299 px -> 19)
    medium    block1 to 3 halve:            the middle flow sees 1/8  (112 px -> 14)
    small     block2 and 3 halve:           the middle flow sees 1/4  (32 px -> 8)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from facewright.models.blocks import Model, Stage, Stem, Unit, first_strides, initialize_convolutions, reducer

MIDDLE_WIDTH = 728
MIDDLE_BLOCKS = 8


class SeparableConv2d(nn.Module):
    """A 3x3 convolution inside each channel, then a 1x1 across channels, with nothing between (the paper's 4.7)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, inputs, 3, 1, 1, groups=inputs, bias=False)
        self.pointwise = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:  # (B, inputs, H, W) -> (B, outputs, H, W)
        return self.pointwise(self.conv1(x))


class Block(nn.Module):
    """ReLU, separable convolution, norm for each width; then a max pool where it halves the side; and a shortcut."""

    def __init__(self, inputs: int, widths: tuple[int, ...], stride: int, relu_first: bool = True) -> None:
        super().__init__()
        outputs = widths[-1]
        layers: list[nn.Module] = []
        for before, after in zip((inputs, *widths), widths, strict=False):
            # The very first ReLU must not overwrite x, which the shortcut still needs.
            layers += [nn.ReLU(inplace=bool(layers)), SeparableConv2d(before, after), nn.BatchNorm2d(after)]
        if not relu_first:
            layers = layers[1:]
        if stride != 1:
            layers.append(nn.MaxPool2d(3, stride, 1))
        self.rep = nn.Sequential(*layers)
        self.skip: nn.Conv2d | None = None
        self.skipbn: nn.BatchNorm2d | None = None
        if stride != 1 or inputs != outputs:
            self.skip = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.skipbn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:  # (B, inputs, H, W) -> (B, widths[-1], H/stride, W/stride)
        identity: Tensor = x if self.skip is None or self.skipbn is None else self.skipbn(self.skip(x))
        out: Tensor = self.rep(x)
        return out + identity


class Xception(Model):
    classifier_name = "fc"
    feature_width = 2048

    def __init__(self, name: str, classes: int, stem: Stem = "imagenet") -> None:
        super().__init__()
        first, second = first_strides(stem)
        padding = 0 if stem == "imagenet" else 1
        self.reduce = reducer(stem)
        self.conv1 = nn.Conv2d(3, 32, 3, first, padding, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        self.conv2 = nn.Conv2d(32, 64, 3, 1, padding, bias=False)
        self.bn2 = nn.BatchNorm2d(64)
        self.block1 = Block(64, (128, 128), second, relu_first=False)
        self.block2 = Block(128, (256, 256), 2)
        self.block3 = Block(256, (MIDDLE_WIDTH, MIDDLE_WIDTH), 2)
        for number in range(4, 4 + MIDDLE_BLOCKS):
            self.add_module(f"block{number}", Block(MIDDLE_WIDTH, (MIDDLE_WIDTH,) * 3, 1))
        self.block12 = Block(MIDDLE_WIDTH, (MIDDLE_WIDTH, 1024), 2)
        self.conv3 = SeparableConv2d(1024, 1536)
        self.bn3 = nn.BatchNorm2d(1536)
        self.conv4 = SeparableConv2d(1536, self.feature_width)
        self.bn4 = nn.BatchNorm2d(self.feature_width)
        self.relu = nn.ReLU(inplace=True)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(self.feature_width, classes)
        initialize_convolutions(self)

    def forward_features(self, x: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, feature_width)
        x = self.relu(self.bn1(self.conv1(self.reduce(x))))
        x = self.relu(self.bn2(self.conv2(x)))
        for number in range(1, 13):
            x = self.get_submodule(f"block{number}")(x)
        x = self.relu(self.bn3(self.conv3(x)))
        x = self.relu(self.bn4(self.conv4(x)))
        return torch.flatten(self.avgpool(x), 1)

    def stages(self) -> tuple[Stage, ...]:
        """The outline that tables and drawings follow: the paper's three flows."""
        blocks = [Unit((n,), "projection") for n in ("block1", "block2", "block3", "block12")]
        middle = (Unit((f"block{number}",), "identity") for number in range(4, 4 + MIDDLE_BLOCKS))
        return (
            self.stage("entry flow", "reduce", "conv1 bn1", "conv2 bn2", *blocks[:3]),
            self.stage("middle flow", *middle),
            self.stage("exit flow", blocks[3], "conv3 bn3", "conv4 bn4"),
            self.stage("head", "avgpool", "fc"),
        )
