"""ResNeSt-50/101: a ResNet whose 3x3 convolution runs in two splits that compete for every channel.

Source: Zhang et al., "ResNeSt: Split-Attention Networks", CVPR Workshops 2022 (arXiv:2004.08955), figure 2 and
section 3 (cardinality 1, radix 2). Parameter names are timm's (`resnest50d`, `resnest101e`), whose weights are the
authors'. From the "bag of tricks" that the paper builds on (arXiv:1812.01187): the first 7x7 is three 3x3, and a
shortcut that changes shape averages before its 1x1.
Deviation: `stem` chooses how much of the image the first layers throw away, as for ResNet; no stem changes a shape:

    coarse    2x2 mean, then as imagenet:              the stages see an eighth of the side (112 px -> 14)
    imagenet  three 3x3 (the first /2), 3x3/2 max pool: the paper's; the stages see a quarter of the side
    medium    no pool:                                 the stages see half the side
    small     no pool, no stride:                      the stages see the whole side
"""

from __future__ import annotations

from torch import Tensor, nn

from facewright.models.blocks import ResidualNetwork, Stem, conv_norm

RADIX = 2  # splits that compete for each channel
EXPANSION = 4


class SplitAttention(nn.Module):
    """A grouped 3x3 convolution gives `RADIX` maps; a softmax over them, per channel and image, weighs their sum."""

    def __init__(self, width: int) -> None:
        super().__init__()
        squeezed = max(width * RADIX // 4, 32)
        self.conv = nn.Conv2d(width, width * RADIX, 3, 1, 1, groups=RADIX, bias=False)
        self.bn0 = nn.BatchNorm2d(width * RADIX)
        self.relu = nn.ReLU(inplace=True)
        self.fc1 = nn.Conv2d(width, squeezed, 1)
        self.bn1 = nn.BatchNorm2d(squeezed)
        self.fc2 = nn.Conv2d(squeezed, width * RADIX, 1)
        self.shorthand = f"split 3×3 {width}"

    def forward(self, x: Tensor) -> Tensor:  # (B, width, H, W) -> the same shape
        splits = self.relu(self.bn0(self.conv(x))).unflatten(1, (RADIX, -1))  # (B, RADIX, width, H, W)
        pooled = splits.sum(1).mean((2, 3), keepdim=True)  # (B, width, 1, 1)
        scores = self.fc2(self.relu(self.bn1(self.fc1(pooled)))).unflatten(1, (RADIX, -1))
        return (splits * scores.softmax(1)).sum(1)


class Bottleneck(nn.Module):
    """1x1 down, split attention, a mean where it halves the side, 1x1 up by four, and a shortcut."""

    last_norm = "bn3"

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.outputs = width * EXPANSION
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = SplitAttention(width)
        self.avd_last = nn.AvgPool2d(3, stride, 1) if stride > 1 else nn.Identity()
        self.conv3 = nn.Conv2d(width, self.outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(self.outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut(inputs, self.outputs, stride)
        self.join = "identity" if self.downsample is None else "projection"

    def forward(self, x: Tensor) -> Tensor:  # (B, inputs, H, W) -> (B, 4 * width, H/stride, W/stride)
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        branch = self.bn3(self.conv3(self.avd_last(self.conv2(out))))
        return self.relu(branch + identity)


VARIANTS = {  # depths; channels of the first two 3x3 convolutions, the third has twice as many
    "resnest50": ((3, 4, 6, 3), 32),
    "resnest101": ((3, 4, 23, 3), 64),
}


class ResNeSt(ResidualNetwork):
    def __init__(self, name: str, classes: int, stem: Stem = "imagenet") -> None:
        depths, first = VARIANTS[name]
        conv1 = nn.Sequential(
            *conv_norm(3, first, 3, 1 if stem == "small" else 2, activation=nn.ReLU(inplace=True)),
            *conv_norm(first, first, 3, activation=nn.ReLU(inplace=True)),
            nn.Conv2d(first, 2 * first, 3, 1, 1, bias=False),
        )
        super().__init__(conv1, 2 * first, Bottleneck, depths, classes, stem)


def shortcut(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    """A mean over what the stride skips, then a 1x1 projection; nothing where the shape stays."""
    if stride == 1 and inputs == outputs:
        return None
    mean = nn.Identity() if stride == 1 else nn.AvgPool2d(2, stride, ceil_mode=True, count_include_pad=False)
    return nn.Sequential(mean, nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
