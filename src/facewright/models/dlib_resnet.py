"""dlib's face network: an aligned face of 150 px to a 128-dimensional embedding.

A residual network of 29 convolutions, half as wide as ResNet-34, by Davis King (dlib's `dnn_face_recognition_ex`,
2017), trained so that distances below 0.6 mean one person; 99.38 % on LFW. Blocks as in K. He et al. 2016
(arXiv:1512.03385), figure 2, with three habits of dlib's:

    nothing is padded where the side is halved: 150 -> 72 -> 35 -> 17 -> 8 -> 4 -> 2
    a shortcut that halves is a mean over 2x2 points; channels it lacks count as zeros
    where the mean gives one row and column more than the convolutions, the convolutions' are zeros

dlib's file holds norms as a factor and a summand, which batch norms of mean 0 and variance 1 are; the biases of the
convolutions before them go into the summands. `classifier` is ours, a linear layer on the embedding.
The smallest side is 103 px: below, the last halving has no point left. There is one stem.
"""

from __future__ import annotations

from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facewright.models.blocks import Model, Stage, Stem, initialize_convolutions

EMBEDDING = 128
LEVELS = ((32, 3), (64, 4), (128, 3), (256, 3), (256, 1))  # channels, blocks; all but the first begin by halving


class Block(nn.Module):
    """Two 3x3 convolutions with norms, added to the input; `stride` 2 halves the side."""

    join = "identity"

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1 if stride == 1 else 0, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:  # (B, inputs, H, W) -> (B, outputs, H // stride, W // stride)
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)), inplace=True)))
        shortcut = x if self.stride == 1 else F.avg_pool2d(x, 2)
        return F.relu(_sum(out, shortcut), inplace=True)


def _sum(out: Tensor, shortcut: Tensor) -> Tensor:
    """The sum of two maps of which one may have more channels, the other more rows and columns; zeros fill them."""
    if out.shape == shortcut.shape:
        return out + shortcut
    _, channels, height, width = (max(sides) for sides in zip(out.shape, shortcut.shape, strict=True))
    return _filled(out, channels, height, width) + _filled(shortcut, channels, height, width)


def _filled(x: Tensor, channels: int, height: int, width: int) -> Tensor:
    missing = (0, width - x.shape[3], 0, height - x.shape[2], 0, channels - x.shape[1])
    return F.pad(x, missing) if any(missing) else x


class DlibResNet(Model):
    """Images to class scores; the features are the embedding."""

    classifier_name = "classifier"
    feature_width = EMBEDDING

    def __init__(self, name: str, classes: int, stem: Stem = "imagenet") -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 7, 2, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        self.pool = nn.MaxPool2d(3, 2)
        blocks, inputs = [], 32
        for level, (channels, depth) in enumerate(LEVELS):
            for index in range(depth):
                blocks.append(Block(inputs, channels, 2 if level > 0 and index == 0 else 1))
                inputs = channels
        self.blocks = nn.Sequential(*blocks)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.embedding = nn.Linear(inputs, EMBEDDING, bias=False)
        self.classifier = nn.Linear(EMBEDDING, classes)
        initialize_convolutions(self)

    def forward_features(self, x: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, 128), of any length
        x = self.pool(F.relu(self.bn1(self.conv1(x)), inplace=True))
        return self.embedding(torch.flatten(self.avgpool(self.blocks(x)), 1))

    def stages(self) -> tuple[Stage, ...]:
        blocks = iter(self.units_in("blocks"))
        levels = (
            Stage(f"stage {number}", tuple(islice(blocks, depth))) for number, (_, depth) in enumerate(LEVELS, start=1)
        )
        head = self.stage("head", "avgpool", "embedding", "classifier")
        return self.stage("stem", "conv1 bn1", "pool"), *levels, head
