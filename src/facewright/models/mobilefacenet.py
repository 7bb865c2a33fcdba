"""MobileFaceNet: an aligned face of 112 px to a 128-dimensional embedding; and the small FaceNet.

Source: Chen, Liu, Gao, Han, "MobileFaceNets: Efficient CNNs for Accurate Real-Time Face Verification on Mobile
Devices", CCBR 2018 (arXiv:1804.07573), table 1 and section 3.2. Parameter names are those of the common PyTorch ports;
`classifier` is ours, a linear layer on the embedding, which public files lack. Its features are not of unit length:
verification divides by the length itself. Deviation: a last map of another size than 7 x 7 is averaged to it, so that
every size from 32 px fits. There is one stem, the paper's.

The small FaceNet: the first layers of FaceNet's NN2, then straight to a 128-dimensional feature. Source: Schroff,
Kalenichenko, Philbin, "FaceNet", CVPR 2015 (arXiv:1503.03832), table 2, down to the second pool; the rest of the table
is replaced by a mean over the map, dropout and one linear layer. A network to tell faces with and without something
(glasses, a mask) when there is little data and no time. Deviations from the table: no local response normalisation
(arXiv:1409.1556 found no use for it). There is one stem, the paper's; every size from 32 px fits.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from facewright.models.blocks import FixedGrid, Model, Stage, Stem, initialize_convolutions

EMBEDDING = 128
GRID = 7  # points along a side of the last map, for 112 px
FACENET_FEATURES = 128


class ConvUnit(nn.Module):
    """Convolution, norm and, but for projections, PReLU."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, *, linear: bool = False
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        self.prelu = nn.Identity() if linear else nn.PReLU(outputs)

    def forward(self, x: Tensor) -> Tensor:  # (B, inputs, H, W) -> (B, outputs, H/stride, W/stride)
        out: Tensor = self.prelu(self.bn(self.conv(x)))
        return out


class Bottleneck(nn.Module):
    """1x1 up, depthwise 3x3, 1x1 down without an activation; added to the input where `residual`."""

    def __init__(self, inputs: int, inside: int, outputs: int, stride: int, *, residual: bool) -> None:
        super().__init__()
        self.residual = residual
        self.join = "identity" if residual else "none"
        self.conv = ConvUnit(inputs, inside, 1)
        self.conv_dw = ConvUnit(inside, inside, 3, stride, inside)
        self.project = ConvUnit(inside, outputs, 1, linear=True)

    def forward(self, x: Tensor) -> Tensor:  # (B, inputs, H, W) -> (B, outputs, H/stride, W/stride)
        out: Tensor = self.project(self.conv_dw(self.conv(x)))
        return out + x if self.residual else out


def halving(inputs: int, inside: int, outputs: int) -> Bottleneck:
    return Bottleneck(inputs, inside, outputs, 2, residual=False)


class Repeated(nn.Module):
    """Residual bottlenecks of one shape in a row."""

    def __init__(self, depth: int, width: int, inside: int) -> None:
        super().__init__()
        self.model = nn.Sequential(*(Bottleneck(width, inside, width, 1, residual=True) for _ in range(depth)))

    def forward(self, x: Tensor) -> Tensor:  # (B, width, H, W) -> the same shape
        out: Tensor = self.model(x)
        return out


class MobileFaceNet(Model):
    """Images to class scores; the features are the embedding."""

    classifier_name: ClassVar[str] = "classifier"
    feature_width = EMBEDDING

    def __init__(self, name: str, classes: int, stem: Stem = "imagenet") -> None:
        super().__init__()
        self.conv1 = ConvUnit(3, 64, 3, 2)
        self.conv2_dw = ConvUnit(64, 64, 3, 1, 64)
        self.conv_23 = halving(64, 128, 64)
        self.conv_3 = Repeated(4, 64, 128)
        self.conv_34 = halving(64, 256, 128)
        self.conv_4 = Repeated(6, 128, 256)
        self.conv_45 = halving(128, 512, 128)
        self.conv_5 = Repeated(2, 128, 256)
        self.sep = nn.Conv2d(128, 512, 1, bias=False)
        self.sep_bn = nn.BatchNorm2d(512)
        self.prelu = nn.PReLU(512)
        self.grid = FixedGrid(GRID)
        self.GDC_dw = nn.Conv2d(512, 512, GRID, groups=512, bias=False)  # the name is the ports'
        self.GDC_bn = nn.BatchNorm2d(512)
        self.features = nn.Conv2d(512, EMBEDDING, 1, bias=False)
        self.last_bn = nn.BatchNorm2d(EMBEDDING)
        self.classifier = nn.Linear(EMBEDDING, classes)
        initialize_convolutions(self)

    def forward_features(self, x: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, 128), an embedding of any length
        x = self.conv_3(self.conv_23(self.conv2_dw(self.conv1(x))))
        x = self.conv_5(self.conv_45(self.conv_4(self.conv_34(x))))
        x = self.grid(self.prelu(self.sep_bn(self.sep(x))))
        x = self.GDC_bn(self.GDC_dw(x))  # a weight for every point of every channel instead of their mean
        return torch.flatten(self.last_bn(self.features(x)), 1)

    def stages(self) -> tuple[Stage, ...]:
        third, fourth, fifth = (self.units_in(f"conv_{number}.model") for number in (3, 4, 5))
        return (
            self.stage("stem", "conv1", "conv2_dw"),
            self.stage("stage 1", "conv_23", *third),
            self.stage("stage 2", "conv_34", *fourth),
            self.stage("stage 3", "conv_45", *fifth),
            self.stage("head", "sep sep_bn prelu", "GDC_dw GDC_bn", "features last_bn", "classifier"),
        )


class SmallFaceNet(Model):
    classifier_name: ClassVar[str] = "classifier"
    feature_width = FACENET_FEATURES

    def __init__(self, name: str, classes: int, stem: Stem = "imagenet") -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3)
        self.pool1 = nn.MaxPool2d(3, 2, 1)
        self.conv2 = nn.Conv2d(64, 64, 1)
        self.conv3 = nn.Conv2d(64, 192, 3, 1, 1)
        self.pool3 = nn.MaxPool2d(3, 2, 1)
        self.relu = nn.ReLU(inplace=True)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.4)
        self.fc = nn.Linear(192, FACENET_FEATURES)
        self.classifier = nn.Linear(FACENET_FEATURES, classes)
        initialize_convolutions(self)

    def forward_features(self, x: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, feature_width)
        x = self.pool1(self.relu(self.conv1(x)))
        x = self.pool3(self.relu(self.conv3(self.relu(self.conv2(x)))))
        pooled = self.dropout(torch.flatten(self.avgpool(x), 1))
        features: Tensor = self.relu(self.fc(pooled))
        return features

    def stages(self) -> tuple[Stage, ...]:
        body = self.stage("body", "conv2", "conv3", "pool3")
        return self.stage("stem", "conv1", "pool1"), body, self.stage("head", "avgpool", "fc", "classifier")
