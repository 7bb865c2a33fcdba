"""MobileFaceNet, Inception-ResNet-v1, dlib's network and the small FaceNet: a face to an embedding of any length.

MobileFaceNet, 112 px to 128 numbers. Source: Chen, Liu, Gao, Han, "MobileFaceNets: Efficient CNNs for Accurate
Real-Time Face Verification on Mobile Devices", CCBR 2018 (arXiv:1804.07573), table 1 and section 3.2. Parameter names
are those of the common PyTorch ports; `classifier` is ours, a linear layer on the embedding, which public files lack.
Deviation: a last map of another size than 7 x 7 is averaged to it, so that every size from 32 px fits.

Inception-ResNet-v1 as FaceNet's successors use it, 160 px to 512 numbers. Source: Szegedy, Ioffe, Vanhoucke, Alemi,
"Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning", AAAI 2017 (arXiv:1602.07261),
figures 10 to 15; the embedding that replaces its classifier is D. Sandberg's (facenet), after Schroff et al. 2015
(arXiv:1503.03832). Parameter names are timesler's (facenet-pytorch), whose weights are Sandberg's; `logits` is the
classifier. From there too: the norms' epsilon of 1e-3, the scale of each kind of block, dropout 0.6 before the
embedding. Nothing is padded on the way down, so the smallest side is 75 px.

dlib's network, 150 px to 128 numbers, half as wide as ResNet-34, by Davis King (dlib's `dnn_face_recognition_ex`),
trained so that distances below 0.6 mean one person; 99.38 % on LFW. Blocks as in K. He et al. 2016 (arXiv:1512.03385),
figure 2, with three habits of dlib's: nothing is padded where the side is halved (150, 72, 35, 17, 8, 4, 2); a shortcut
that halves is a mean over 2x2 points, and channels it lacks count as zeros; where the mean gives one row and column
more than the convolutions, the convolutions' are zeros. dlib's file holds norms as a factor and a summand, which
batch norms of mean 0 and variance 1 are; the biases of the convolutions before them go into the summands. `classifier`
is ours. The smallest side is 103 px: below, the last halving has no point left.

The small FaceNet: the first layers of FaceNet's NN2 (Schroff, Kalenichenko, Philbin, CVPR 2015, arXiv:1503.03832,
table 2, down to the second pool); the rest of the table is replaced by a mean over the map, dropout and one linear
layer. A network to tell faces with and without something (glasses, a mask) when there is little data and no time.
Deviation: no local response normalisation (arXiv:1409.1556 found no use for it). Every size from 32 px fits.

Each has one stem, its paper's.
"""

from __future__ import annotations

from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facewright.models.blocks import FixedGrid, Model, Stage, Stem, Unit, initialize_convolutions

DLIB_LEVELS = ((32, 3), (64, 4), (128, 3), (256, 3), (256, 1))  # channels, blocks; all but the first begin by halving
GRID = 7  # points along a side of MobileFaceNet's last map, for 112 px


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
        return self.prelu(self.bn(self.conv(x)))


class Bottleneck(nn.Module):
    """1x1 up, depthwise 3x3, 1x1 down without an activation; added to the input unless it halves the side."""

    def __init__(self, inputs: int, inside: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.residual = stride == 1
        self.join = "identity" if self.residual else "none"
        self.conv = ConvUnit(inputs, inside, 1)
        self.conv_dw = ConvUnit(inside, inside, 3, stride, inside)
        self.project = ConvUnit(inside, outputs, 1, linear=True)

    def forward(self, x: Tensor) -> Tensor:  # (B, inputs, H, W) -> (B, outputs, H/stride, W/stride)
        out: Tensor = self.project(self.conv_dw(self.conv(x)))
        return out + x if self.residual else out


class Repeated(nn.Module):
    """Residual bottlenecks of one shape in a row."""

    def __init__(self, depth: int, width: int, inside: int) -> None:
        super().__init__()
        self.model = nn.Sequential(*(Bottleneck(width, inside, width, 1) for _ in range(depth)))

    def forward(self, x: Tensor) -> Tensor:  # (B, width, H, W) -> the same shape
        return self.model(x)


class MobileFaceNet(Model):
    """Images to class scores; the features are the embedding."""

    classifier_name = "classifier"
    feature_width = 128

    def __init__(self, name: str, classes: int, stem: Stem = "imagenet") -> None:
        super().__init__()
        self.conv1 = ConvUnit(3, 64, 3, 2)
        self.conv2_dw = ConvUnit(64, 64, 3, 1, 64)
        self.conv_23 = Bottleneck(64, 128, 64, 2)
        self.conv_3 = Repeated(4, 64, 128)
        self.conv_34 = Bottleneck(64, 256, 128, 2)
        self.conv_4 = Repeated(6, 128, 256)
        self.conv_45 = Bottleneck(128, 512, 128, 2)
        self.conv_5 = Repeated(2, 128, 256)
        self.sep = nn.Conv2d(128, 512, 1, bias=False)
        self.sep_bn = nn.BatchNorm2d(512)
        self.prelu = nn.PReLU(512)
        self.grid = FixedGrid(GRID)
        self.GDC_dw = nn.Conv2d(512, 512, GRID, groups=512, bias=False)  # the name is the ports'
        self.GDC_bn = nn.BatchNorm2d(512)
        self.features = nn.Conv2d(512, self.feature_width, 1, bias=False)
        self.last_bn = nn.BatchNorm2d(self.feature_width)
        self.classifier = nn.Linear(self.feature_width, classes)
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


class BasicConv2d(nn.Module):
    """Convolution, norm, ReLU; a kernel of (rows, columns) is padded to keep the shape, unless `valid`."""

    def __init__(
        self, inputs: int, outputs: int, kernel: tuple[int, int], stride: int = 1, *, valid: bool = False
    ) -> None:
        super().__init__()
        padding = (0, 0) if valid else (kernel[0] // 2, kernel[1] // 2)
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:  # (B, inputs, H, W) -> (B, outputs, H', W')
        return self.relu(self.bn(self.conv(x)))


def chain(inputs: int, *steps: tuple[int, tuple[int, int]]) -> nn.Sequential:
    """Convolutions of (outputs, kernel) in a row, all padded."""
    widths = (inputs, *(outputs for outputs, _ in steps))
    return nn.Sequential(*(BasicConv2d(before, *step) for before, step in zip(widths, steps, strict=False)))


class ResidualBlock(nn.Module):
    """Branches side by side, joined by a 1x1 convolution, scaled and added to the input; then a ReLU, but for the last.

    Args:
        scale: of what the branches add (section 3.3 of the paper: without it, wide blocks die).
    """

    join = "identity"

    def __init__(self, width: int, branches: tuple[nn.Module, ...], joined: int, scale: float, relu: bool) -> None:
        super().__init__()
        self.scale = scale
        self.branches = len(branches)
        for index, branch in enumerate(branches):
            self.add_module(f"branch{index}", branch)
        self.conv2d = nn.Conv2d(joined, width, 1)
        self.relu = nn.ReLU() if relu else nn.Identity()
        self.shorthand = f"{len(branches)} branches → 1×1 {width}"

    def forward(self, x: Tensor) -> Tensor:  # (B, width, H, W) -> the same shape
        branches = [self.get_submodule(f"branch{index}")(x) for index in range(self.branches)]
        return self.relu(self.conv2d(torch.cat(branches, 1)) * self.scale + x)


def block35() -> ResidualBlock:
    """Inception-ResNet-A (figure 10): 1x1; 1x1, 3x3; 1x1, 3x3, 3x3."""
    point, square = (32, (1, 1)), (32, (3, 3))
    branches = (BasicConv2d(256, 32, (1, 1)), chain(256, point, square), chain(256, point, square, square))
    return ResidualBlock(256, branches, joined=96, scale=0.17, relu=True)


def block17() -> ResidualBlock:
    """Inception-ResNet-B (figure 11): 1x1; 1x1, 1x7, 7x1."""
    branches = (BasicConv2d(896, 128, (1, 1)), chain(896, (128, (1, 1)), (128, (1, 7)), (128, (7, 1))))
    return ResidualBlock(896, branches, joined=256, scale=0.10, relu=True)


def block8(scale: float, relu: bool) -> ResidualBlock:
    """Inception-ResNet-C (figure 13): 1x1; 1x1, 1x3, 3x1."""
    branches = (BasicConv2d(1792, 192, (1, 1)), chain(1792, (192, (1, 1)), (192, (1, 3)), (192, (3, 1))))
    return ResidualBlock(1792, branches, joined=384, scale=scale, relu=relu)


class Reduction(nn.Module):
    """Branches that halve the side, side by side."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = len(branches)
        for index, branch in enumerate(branches):
            self.add_module(f"branch{index}", branch)
        self.shorthand = f"{len(branches)} branches /2"

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C', (H-1)/2, (W-1)/2)
        return torch.cat([self.get_submodule(f"branch{index}")(x) for index in range(self.branches)], 1)


def halving(inputs: int, outputs: int) -> BasicConv2d:
    return BasicConv2d(inputs, outputs, (3, 3), 2, valid=True)


def reduction_a() -> Reduction:
    """Figure 7 of the paper with k, l, m, n = 192, 192, 256, 384: 256 channels to 896."""
    long = nn.Sequential(BasicConv2d(256, 192, (1, 1)), BasicConv2d(192, 192, (3, 3)), halving(192, 256))
    return Reduction(halving(256, 384), long, nn.MaxPool2d(3, 2))


def reduction_b() -> Reduction:
    """Figure 12 of the paper: 896 channels to 1,792."""
    first = nn.Sequential(BasicConv2d(896, 256, (1, 1)), halving(256, 384))
    second = nn.Sequential(BasicConv2d(896, 256, (1, 1)), halving(256, 256))
    long = nn.Sequential(BasicConv2d(896, 256, (1, 1)), BasicConv2d(256, 256, (3, 3)), halving(256, 256))
    return Reduction(first, second, long, nn.MaxPool2d(3, 2))


class InceptionResNetV1(Model):
    """Images to class scores; the features are the embedding."""

    classifier_name = "logits"
    feature_width = 512

    def __init__(self, name: str, classes: int, stem: Stem = "imagenet") -> None:
        super().__init__()
        self.conv2d_1a = BasicConv2d(3, 32, (3, 3), 2, valid=True)
        self.conv2d_2a = BasicConv2d(32, 32, (3, 3), valid=True)
        self.conv2d_2b = BasicConv2d(32, 64, (3, 3))
        self.maxpool_3a = nn.MaxPool2d(3, 2)
        self.conv2d_3b = BasicConv2d(64, 80, (1, 1))
        self.conv2d_4a = BasicConv2d(80, 192, (3, 3), valid=True)
        self.conv2d_4b = BasicConv2d(192, 256, (3, 3), 2, valid=True)
        self.repeat_1 = nn.Sequential(*(block35() for _ in range(5)))
        self.mixed_6a = reduction_a()
        self.repeat_2 = nn.Sequential(*(block17() for _ in range(10)))
        self.mixed_7a = reduction_b()
        self.repeat_3 = nn.Sequential(*(block8(0.20, relu=True) for _ in range(5)))
        self.block8 = block8(1.0, relu=False)
        self.avgpool_1a = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.6)
        self.last_linear = nn.Linear(1792, self.feature_width, bias=False)
        self.last_bn = nn.BatchNorm1d(self.feature_width, eps=1e-3)
        self.logits = nn.Linear(self.feature_width, classes)
        initialize_convolutions(self)

    def forward_features(self, x: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, 512), an embedding of any length
        x = self.conv2d_2b(self.conv2d_2a(self.conv2d_1a(x)))
        x = self.conv2d_4b(self.conv2d_4a(self.conv2d_3b(self.maxpool_3a(x))))
        x = self.repeat_2(self.mixed_6a(self.repeat_1(x)))
        x = self.block8(self.repeat_3(self.mixed_7a(x)))
        pooled = self.dropout(torch.flatten(self.avgpool_1a(x), 1))
        return self.last_bn(self.last_linear(pooled))

    def stages(self) -> tuple[Stage, ...]:
        stem = "conv2d_1a", "conv2d_2a", "conv2d_2b", "maxpool_3a", "conv2d_3b", "conv2d_4a", "conv2d_4b"
        a, b, c = (self.units_in(f"repeat_{number}") for number in (1, 2, 3))
        return (
            self.stage("stem", *stem),
            self.stage("stage A", *a),
            self.stage("stage B", "mixed_6a", *b),
            self.stage("stage C", "mixed_7a", *c, Unit(("block8",), "identity")),
            self.stage("head", "avgpool_1a", "last_linear last_bn", "logits"),
        )


class SmallFaceNet(Model):
    classifier_name = "classifier"
    feature_width = 128

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
        self.fc = nn.Linear(192, self.feature_width)
        self.classifier = nn.Linear(self.feature_width, classes)
        initialize_convolutions(self)

    def forward_features(self, x: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, feature_width)
        x = self.pool1(self.relu(self.conv1(x)))
        x = self.pool3(self.relu(self.conv3(self.relu(self.conv2(x)))))
        pooled = self.dropout(torch.flatten(self.avgpool(x), 1))
        return self.relu(self.fc(pooled))

    def stages(self) -> tuple[Stage, ...]:
        body = self.stage("body", "conv2", "conv3", "pool3")
        return self.stage("stem", "conv1", "pool1"), body, self.stage("head", "avgpool", "fc", "classifier")


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
    feature_width = 128

    def __init__(self, name: str, classes: int, stem: Stem = "imagenet") -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 7, 2, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        self.pool = nn.MaxPool2d(3, 2)
        blocks, inputs = [], 32
        for level, (channels, depth) in enumerate(DLIB_LEVELS):
            for index in range(depth):
                blocks.append(Block(inputs, channels, 2 if level > 0 and index == 0 else 1))
                inputs = channels
        self.blocks = nn.Sequential(*blocks)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.embedding = nn.Linear(inputs, self.feature_width, bias=False)
        self.classifier = nn.Linear(self.feature_width, classes)
        initialize_convolutions(self)

    def forward_features(self, x: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, 128), of any length
        x = self.pool(F.relu(self.bn1(self.conv1(x)), inplace=True))
        return self.embedding(torch.flatten(self.avgpool(self.blocks(x)), 1))

    def stages(self) -> tuple[Stage, ...]:
        blocks = iter(self.units_in("blocks"))
        levels = (
            Stage(f"stage {number}", tuple(islice(blocks, depth)))
            for number, (_, depth) in enumerate(DLIB_LEVELS, start=1)
        )
        head = self.stage("head", "avgpool", "embedding", "classifier")
        return self.stage("stem", "conv1 bn1", "pool"), *levels, head
