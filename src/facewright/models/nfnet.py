"""NFNet-F0/F1: residual networks without normalisation; each convolution standardises its own weights instead.

Source: Brock, De, Smith, Simonyan, "High-Performance Large-Scale Image Recognition Without Normalization", ICML 2021
(arXiv:2102.06171), section 4.1 and table 1; scaled weight standardisation: Brock, De, Smith 2021 (arXiv:2101.08692);
the constant for GELU is from the authors' code. Parameter names are those of timm's `dm_nfnet_f0` and `dm_nfnet_f1`,
whose weights are the authors', but for one: what it calls `stages` is `body` here (`PUBLIC_NAMES`).
Deviations: the variance of a kernel gets 1e-5 added (timm's) where the authors take the larger of it and 1e-4 over its
size; no dropout and no stochastic depth (the paper's 0.2 and 0.25 for F0). The paper trains with adaptive gradient
clipping: that is an option of the optimizer, not of the network. `stem` chooses how much of the image the first four
convolutions throw away; no stem changes a shape:

    coarse    2x2 mean, then as imagenet:  the stages see an eighth of the side (112 px -> 14)
    imagenet  the first and fourth halve:  the paper's; the stages see a quarter of the side (192 px -> 48)
    medium    the first halves:            the stages see half the side
    small     none halves:                 the stages see the whole side
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from facewright.models.blocks import Model, SqueezeExcitation, Stage, Stem, reducer

ALPHA = 0.2  # a residual branch is scaled by it
GELU_GAMMA = 1.7015043497085571  # GELU times this keeps the variance of a unit normal input
ATTENTION_GAIN = 2.0  # makes up for the mean of the squeeze-and-excite gates, 0.5 at the start
GROUP = 128  # channels of a group in the 3x3 convolutions
STEM_WIDTHS = (16, 32, 64, 128)
WIDTHS = (256, 512, 1536, 1536)
FEATURES = 3072
PUBLIC_NAMES = (("stages.", "body."),)  # how a name begins there, and here


class ScaledGELU(nn.Module):
    """GELU that keeps a unit variance."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.gelu(x) * GELU_GAMMA


class StandardisedConv2d(nn.Conv2d):
    """A convolution whose kernels, as used, have mean 0 and variance gain^2 / fan-in (arXiv:2101.08692, eq. 1).

    Where it halves the side it pads like TensorFlow's SAME, as the published weights expect: the odd pixel at the end.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, kernel // 2 if stride == 1 else 0, groups=groups)
        self.gain = nn.Parameter(torch.ones(outputs, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:  # (B, inputs, H, W) -> (B, outputs, ceil(H/stride), ceil(W/stride))
        variance, mean = torch.var_mean(self.weight, (1, 2, 3), correction=0, keepdim=True)
        fan_in = self.weight[0].numel()
        weight = (self.weight - mean) * (torch.rsqrt(variance + 1e-5) * self.gain * fan_in**-0.5)
        if self.stride[0] > 1:
            x = nn.functional.pad(x, (*self._missing(x.shape[-1]), *self._missing(x.shape[-2])))
        return nn.functional.conv2d(x, weight, self.bias, self.stride, self.padding, 1, self.groups)

    def _missing(self, side: int) -> tuple[int, int]:
        """Pixels to add before and behind for ceil(side / stride) outputs."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        missing = max(((side - 1) // stride) * stride + kernel - side, 0)
        return missing // 2, missing - missing // 2


class Projection(nn.Module):
    """The shortcut where shape changes: a mean over what the stride skips, then a 1x1 convolution."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        pool = nn.AvgPool2d(2, stride, ceil_mode=True, count_include_pad=False)
        self.pool = pool if stride > 1 else nn.Identity()
        self.conv = StandardisedConv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:  # (B, inputs, H, W) -> (B, outputs, H/stride, W/stride)
        return self.conv(self.pool(x))


class Block(nn.Module):
    """Activation; 1x1 down by two, two 3x3 in groups, 1x1 up, gates; times a gain that starts at 0, and a shortcut.

    Args:
        beta: 1 over the standard deviation that the input is expected to have; brings it back to 1.
    """

    def __init__(self, inputs: int, width: int, stride: int, beta: float) -> None:
        super().__init__()
        middle = width // 2
        groups = middle // GROUP
        self.beta = beta
        self.act = ScaledGELU()
        self.downsample = None if inputs == width and stride == 1 else Projection(inputs, width, stride)
        self.join = "identity" if self.downsample is None else "projection"
        self.conv1 = StandardisedConv2d(inputs, middle, 1)
        self.conv2 = StandardisedConv2d(middle, middle, 3, stride, groups)
        self.conv2b = StandardisedConv2d(middle, middle, 3, 1, groups)
        self.conv3 = StandardisedConv2d(middle, width, 1)
        self.attn_last = SqueezeExcitation(width, width // 2, nn.ReLU(inplace=True))
        self.skipinit_gain = nn.Parameter(torch.zeros(()))
        halved = f" /{stride}" if stride > 1 else ""
        self.shorthand = f"1×1 {middle} → 2 × (3×3 in {groups}){halved} → 1×1 {width} → SE"

    def forward(self, x: Tensor) -> Tensor:  # (B, inputs, H, W) -> (B, width, H/stride, W/stride)
        out = self.act(x) * self.beta
        identity = x if self.downsample is None else self.downsample(out)
        out = self.conv2(self.act(self.conv1(out)))
        out = self.conv3(self.act(self.conv2b(self.act(out))))
        branch: Tensor = ATTENTION_GAIN * self.attn_last(out)
        return branch * self.skipinit_gain * ALPHA + identity


DEPTHS = {"nfnet_f0": (1, 2, 6, 3), "nfnet_f1": (2, 4, 12, 6)}


class NFNet(Model):
    classifier_name = "head.fc"
    feature_width = FEATURES

    def __init__(self, name: str, classes: int, stem: Stem = "imagenet") -> None:
        super().__init__()
        first, fourth = {"coarse": (2, 2), "imagenet": (2, 2), "medium": (2, 1), "small": (1, 1)}[stem]
        self.reduce = reducer(stem)
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        inputs = 3
        for number, (width, stride) in enumerate(zip(STEM_WIDTHS, (first, 1, 1, fourth), strict=True), start=1):
            if number > 1:
                layers[f"act{number}"] = ScaledGELU()
            layers[f"conv{number}"] = StandardisedConv2d(inputs, width, 3, stride)
            inputs = width
        self.stem = nn.Sequential(layers)
        variance = 1.0  # expected of a block's input, in units of the first
        body = []
        for number, (width, depth) in enumerate(zip(WIDTHS, DEPTHS[name], strict=True)):
            blocks = []
            for index in range(depth):
                stride = 2 if index == 0 and number > 0 else 1
                blocks.append(Block(inputs, width, stride, beta=variance**-0.5))
                # A projection starts from a normalised input: the variance starts at 1 again; each branch adds to it.
                variance = (1.0 if index == 0 else variance) + ALPHA**2
                inputs = width
            body.append(nn.Sequential(*blocks))
        self.body = nn.Sequential(*body)
        self.final_conv = StandardisedConv2d(inputs, FEATURES, 1)
        self.final_act = ScaledGELU()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Sequential(OrderedDict(fc=nn.Linear(FEATURES, classes)))
        initialize(self)

    def forward_features(self, x: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, feature_width)
        x = self.final_act(self.final_conv(self.body(self.stem(self.reduce(x)))))
        return torch.flatten(self.avgpool(x), 1)

    def stages(self) -> tuple[Stage, ...]:
        stem = self.stage("stem", "reduce", *(f"stem.conv{number}" for number in range(1, len(STEM_WIDTHS) + 1)))
        body = (self.stage(f"stage {n + 1}", *self.units_in(f"body.{n}")) for n in range(len(WIDTHS)))
        return stem, *body, self.stage("head", "final_conv", "avgpool", "head.fc")


@torch.no_grad()
def initialize(model: NFNet) -> None:
    """Convolutions: normal, variance 1 / fan-in, biases 0; last layer: normal, std 0.01, bias 0 (the paper's).

    The scale of a standardised kernel changes nothing but how fast it turns. Gains start at 1, those of the branches
    at 0, so each block starts as its shortcut (SkipInit, arXiv:2002.10444).
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            std = 0.01 if isinstance(module, nn.Linear) else module.weight[0].numel() ** -0.5
            module.weight.normal_(0.0, std)
            if module.bias is not None:
                module.bias.zero_()
