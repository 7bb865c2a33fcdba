"""IResNet-18/50/100: the residual network of ArcFace; an aligned face of 112 px to a 512-dimensional embedding.

Source: Deng, Guo, Xue, Zafeiriou, "ArcFace: Additive Angular Margin Loss for Deep Face Recognition", CVPR 2019
(arXiv:1801.07698), section 3.1 (after Han, Kim, Kim 2017, arXiv:1610.02915: norm first, no activation after the sum).
Parameter names are those of insightface (`arcface_torch/backbones/iresnet.py`), which has no classifier: `classifier`
is ours, a linear layer on the embedding. As there, the scale of the embedding's norm stays at 1 and is not learnt.
Its features are not of unit length: verification divides by the length itself.
Deviations: convolutions start by Kaiming's rule (theirs: std 0.1; a norm follows each, so it matters little); a last
map of another size than 7 x 7 is averaged to it, so that every size from 32 px fits. There is one stem, theirs: a 3x3
without stride; each of the four stages halves the side.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from facewright.models.blocks import FixedGrid, Model, Stage, Stem, add_layers, initialize_convolutions, layer_stages

EMBEDDING = 512
GRID = 7  # points along a side of the last map, for 112 px
DEPTHS = {"iresnet18": (2, 2, 2, 2), "iresnet50": (3, 4, 14, 3), "iresnet100": (3, 13, 30, 3)}


class Block(nn.Module):
    """Norm, 3x3, norm, PReLU, 3x3 with the stride, norm; and a shortcut."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.outputs = width
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.prelu = nn.PReLU(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or inputs != width:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, width, 1, stride, bias=False), nn.BatchNorm2d(width))
        self.join = "identity" if self.downsample is None else "projection"

    def forward(self, x: Tensor) -> Tensor:  # (B, inputs, H, W) -> (B, width, H/stride, W/stride)
        identity = x if self.downsample is None else self.downsample(x)
        out = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        branch: Tensor = self.bn3(self.conv2(out))
        return branch + identity


class IResNet(Model):
    """Images to class scores; the features are the embedding."""

    classifier_name: ClassVar[str] = "classifier"
    feature_width = EMBEDDING
    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential
    layer4: nn.Sequential

    def __init__(self, name: str, classes: int, stem: Stem = "imagenet") -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.prelu = nn.PReLU(64)
        inputs = add_layers(self, Block, 64, DEPTHS[name], 2)
        self.bn2 = nn.BatchNorm2d(inputs)
        self.grid = FixedGrid(GRID)
        self.fc = nn.Linear(inputs * GRID**2, EMBEDDING)
        self.features = nn.BatchNorm1d(EMBEDDING)
        self.features.weight.requires_grad_(False)
        self.classifier = nn.Linear(EMBEDDING, classes)
        initialize_convolutions(self)

    def forward_features(self, x: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, 512), an embedding of any length
        x = self.prelu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        embedding: Tensor = self.features(self.fc(torch.flatten(self.grid(self.bn2(x)), 1)))
        return embedding

    def stages(self) -> tuple[Stage, ...]:
        head = self.stage("head", "bn2 grid", "fc features", "classifier")
        return self.stage("stem", "conv1 bn1 prelu"), *layer_stages(self), head
