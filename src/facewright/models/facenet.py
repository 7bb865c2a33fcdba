"""The small FaceNet: the first layers of FaceNet's NN2, then straight to a 128-dimensional feature.

Source: Schroff, Kalenichenko, Philbin, "FaceNet", CVPR 2015 (arXiv:1503.03832), table 2, down to the second pool; the
rest of the table is replaced by a mean over the map, dropout and one linear layer. A network to tell faces with and
without something (glasses, a mask) when there is little data and no time.
Deviations from the table: no local response normalisation (arXiv:1409.1556 found no use for it).
There is one stem, the paper's; every size from 32 px fits.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from facewright.models.blocks import Model, Stage, Stem, initialize_convolutions

FEATURES = 128


class SmallFaceNet(Model):
    classifier_name: ClassVar[str] = "classifier"
    feature_width = FEATURES

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
        self.fc = nn.Linear(192, FEATURES)
        self.classifier = nn.Linear(FEATURES, classes)
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
