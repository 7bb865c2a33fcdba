"""SqueezeNet 1.0 and 1.1, Tiny Darknet, PatchNet and a face net of 1x1 convolutions: networks for small devices.

SqueezeNet: 1x1 convolutions that squeeze before those that expand; no linear layer at all. Source: Iandola et al.,
"SqueezeNet: AlexNet-level accuracy with 50x fewer parameters" (arXiv:1602.07360), table 1; 1.1 (2.4 times less
arithmetic) is from the authors' code. Parameter names are torchvision's. Dropout of one half before the last
convolution is the paper's. The classifier is that last 1x1 convolution: it scores every point of the map, and the
positive scores are averaged; scores are therefore never negative. `forward_features` gives the mean of the map that it
reads; a head of another kind put in its place reads that mean.
Deviation: `stem` chooses how many of the four halvings (the first convolution and three pools) there are:

    coarse    2x2 mean, then as imagenet:         the last map is 1/32 of the side (112 px -> 3)
    imagenet  the paper's, nothing is padded:     1/16 (224 px -> 13)
    medium    the first convolution keeps the side, padded: 1/8
    small     that, and the first pool is absent: 1/4 (32 px -> 8)

Tiny Darknet: 3x3 and 1x1 convolutions with norm and leaky ReLU, four max pools, a mean over the map. Source: J. Redmon,
"Tiny Darknet" (pjreddie.com/darknet/tiny-darknet; `cfg/tiny.cfg` of darknet). Deviation: the last 1x1 convolution (to
the classes) and the mean over the map that follows it change places, which changes no score but makes it the linear
layer that every network of this zoo ends in.

The face net looks at each pixel alone, as a detector of skin would: 1x1 convolution to 16, 2x2 max pool, 1x1
convolution to 32, flatten, linear. Its linear layer weighs 16 x 16 points, those of an image of 32 px; maps of other
sizes are averaged to them. Where its designers end in one sigmoid, two classes' scores differ by the same logit.

PatchNet: for patches of 64 px, slid over a whole photo in one pass. Our own, after the first networks that found faces
(Vaillant, Monrocq and LeCun 1994, "Original approach for the localisation of objects in images"; Rowley, Baluja and
Kanade 1998, "Neural network-based face detection"): every layer is a convolution that pads nothing. So what the network
says of a patch does not depend on whether the patch was cut out first, and one pass over a photo gives the scores of
all patches that lie 4 px apart. At 64 px the last map has 8 x 8 points; two templates a channel weigh them (a depthwise
convolution over the whole map, as MobileFaceNet ends), and a linear layer weighs the templates. Maps of images of other
sizes, from 36 px, are averaged to 8 x 8 points.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from facewright.models.blocks import (
    FixedGrid,
    Model,
    Stage,
    Stem,
    Unit,
    first_strides,
    initialize_convolutions,
    reducer,
)

FireShape = tuple[int, int]  # channels squeezed to, channels that each of the two expanding convolutions gives


@dataclass(frozen=True)
class Variant:
    first: int  # channels of the first convolution
    kernel: int  # of the first convolution
    stages: tuple[tuple[FireShape, ...], ...]  # a pool stands before each


SQUEEZENETS = {
    "squeezenet1_0": Variant(
        96, 7, (((16, 64), (16, 64), (32, 128)), ((32, 128), (48, 192), (48, 192), (64, 256)), ((64, 256),))
    ),
    "squeezenet1_1": Variant(64, 3, (((16, 64),) * 2, ((32, 128),) * 2, ((48, 192), (48, 192), (64, 256), (64, 256)))),
}


class Fire(nn.Module):
    """1x1 down; then 1x1 and 3x3 up, side by side."""

    def __init__(self, inputs: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, 1, 1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:  # (B, inputs, H, W) -> (B, 2 * expanded, H, W)
        x = self.relu(self.squeeze(x))
        return torch.cat([self.relu(self.expand1x1(x)), self.relu(self.expand3x3(x))], 1)


class SqueezeNet(Model):
    classifier_name = "classifier.1"

    def __init__(self, name: str, classes: int, stem: Stem = "imagenet") -> None:
        super().__init__()
        variant = SQUEEZENETS[name]
        stride, pool_stride = first_strides(stem)
        self.reduce = reducer(stem)
        padding = 0 if stride == 2 else variant.kernel // 2
        layers: list[nn.Module] = [nn.Conv2d(3, variant.first, variant.kernel, stride, padding), nn.ReLU(inplace=True)]
        inputs = variant.first
        for number, fires in enumerate(variant.stages):
            absent = number == 0 and pool_stride == 1
            layers.append(nn.Identity() if absent else nn.MaxPool2d(3, 2, ceil_mode=True))
            for squeezed, expanded in fires:
                layers.append(Fire(inputs, squeezed, expanded))
                inputs = 2 * expanded
        self.feature_width = inputs
        self.features = nn.Sequential(*layers)  # the name is torchvision's
        self.classifier = nn.Sequential(
            nn.Dropout(0.5), nn.Conv2d(inputs, classes, 1), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1)
        )
        initialize_convolutions(self)
        nn.init.normal_(self.get_submodule(self.classifier_name).get_parameter("weight"), 0.0, 0.01)  # the authors'

    def forward_features(self, x: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, 512)
        return self.features(self.reduce(x)).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, classes)
        dropout, last, _, _ = self.classifier
        if isinstance(last, nn.Conv2d):
            return torch.flatten(self.classifier(self.features(self.reduce(x))), 1)
        return last(dropout(self.forward_features(x)))

    def stages(self) -> tuple[Stage, ...]:
        """The outline that tables and drawings follow: each pool with the fire modules behind it."""
        groups = [["reduce", "features.0"]]
        for index, layer in enumerate(self.features):
            if isinstance(layer, nn.MaxPool2d) or index == 2:  # the first pool, or what stands in its place
                groups.append([])
            if isinstance(layer, nn.MaxPool2d | Fire):
                groups[-1].append(f"features.{index}")
        stem, *body = groups
        stages = (self.stage(f"stage {number}", *parts) for number, parts in enumerate(body, start=1))
        return self.stage("stem", *stem), *stages, self.stage("head", "classifier.1", "classifier.3")


POOL = 0  # stands for a max pool in the table below
DARKNET_LAYERS = (  # (outputs, kernel) of each convolution, as in the configuration file
    *((16, 3), POOL, (32, 3), POOL),
    *((16, 1), (128, 3), (16, 1), (128, 3), POOL),
    *((32, 1), (256, 3), (32, 1), (256, 3), POOL),
    *((64, 1), (512, 3), (64, 1), (512, 3), (128, 1)),
)
FACE_GRID = 16  # points along a side of the face net's last map, for 32 px


class ConvUnit(nn.Module):
    """Convolution, norm, leaky ReLU with a slope of 0.1."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, 1, kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        self.relu = nn.LeakyReLU(0.1, inplace=True)

    def forward(self, x: Tensor) -> Tensor:  # (B, inputs, H, W) -> (B, outputs, H, W)
        return self.relu(self.bn(self.conv(x)))


class TinyDarknet(Model):
    classifier_name = "fc"

    def __init__(self, name: str, classes: int, stem: Stem = "imagenet") -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for layer in DARKNET_LAYERS:
            if isinstance(layer, int):
                layers.append(nn.MaxPool2d(2, 2, ceil_mode=True))
            else:
                layers.append(ConvUnit(inputs, *layer))
                inputs = layer[0]
        self.feature_width = inputs
        self.layers = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(inputs, classes)
        initialize_convolutions(self)

    def forward_features(self, x: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, feature_width)
        return torch.flatten(self.avgpool(self.layers(x)), 1)

    def stages(self) -> tuple[Stage, ...]:
        """The outline that tables and drawings follow: a stage a side of the map."""
        stages: list[list[Unit]] = [[]]
        for layer, unit in zip(DARKNET_LAYERS, self.units_in("layers"), strict=True):
            if layer == POOL:
                stages.append([])
            stages[-1].append(unit)
        body = (self.stage(f"stage {number}", *parts) for number, parts in enumerate(stages, start=1))
        return *body, self.stage("head", "avgpool", "fc")


class PointwiseFaceNet(Model):
    """Images to class scores, each point by itself until the last layer."""

    classifier_name = "fc"
    feature_width = 32 * FACE_GRID**2

    def __init__(self, name: str, classes: int, stem: Stem = "imagenet") -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 1)
        self.pool = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(16, 32, 1)
        self.relu = nn.ReLU(inplace=True)
        self.grid = FixedGrid(FACE_GRID)
        self.fc = nn.Linear(self.feature_width, classes)
        initialize_convolutions(self)

    def forward_features(self, x: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, feature_width)
        x = self.relu(self.conv2(self.pool(self.relu(self.conv1(x)))))
        return torch.flatten(self.grid(x), 1)

    def stages(self) -> tuple[Stage, ...]:
        return self.stage("body", "conv1", "pool", "conv2 grid"), self.stage("head", "fc")


PATCH_LAYERS = (
    (16, 4, 2),
    (24, 3, 1),
    (32, 3, 2),
    (48, 3, 1),
    (64, 3, 1),
    (64, 3, 1),
)  # (outputs, kernel, stride) of each
PATCH_GRID = 8  # points along a side of its last map, for 64 px
TEMPLATES = 2  # of the whole map, a channel


def unit(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution without padding, norm, ReLU."""
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class PatchNet(Model):
    classifier_name = "fc"

    def __init__(self, name: str, classes: int, stem: Stem = "imagenet") -> None:
        super().__init__()
        layers, inputs = [], 3
        for outputs, kernel, stride in PATCH_LAYERS:
            layers.append(unit(inputs, outputs, kernel, stride))
            inputs = outputs
        self.layers = nn.Sequential(*layers)
        self.grid = FixedGrid(PATCH_GRID)
        self.feature_width = TEMPLATES * inputs
        self.templates = unit(inputs, self.feature_width, PATCH_GRID, groups=inputs)
        self.fc = nn.Linear(self.feature_width, classes)
        initialize_convolutions(self)

    def forward_features(self, x: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, feature_width)
        return torch.flatten(self.templates(self.grid(self.layers(x))), 1)

    def stages(self) -> tuple[Stage, ...]:
        """The outline that tables and drawings follow: a stage a side of the map."""
        parts = self.units_in("layers")
        head = self.stage("head", "grid templates", "fc")
        return self.stage("half", *parts[:2]), self.stage("quarter", *parts[2:]), head
