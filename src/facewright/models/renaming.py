"""Tables of rewrites from other packages' parameter names to ours.

Our files name parameters as the best-known public weights do (each model file says whose), so most families need no
rule at all. A rule is a row of (pattern, replacement) pairs, applied to each name in order; a table a family. Which
rule a file needs is found by trying them: the one whose names fit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from facewright.errors import WeightsError
from facewright.models import mobilenet, nfnet

Steps = tuple[tuple[str, str], ...]

OURS = "facewright"
WRAPPERS = ("module.", "_orig_mod.", "model.", "backbone.", "arcface.")
"""What programs put before every name: DataParallel, torch.compile, trainers, and the MobileFaceNet files."""


@dataclass(frozen=True)
class Naming:
    """One way to name the parameters of a family."""

    name: str
    steps: Steps = ()
    imagenet: bool = False  # whether weights so named expect ImageNet's mean and std whatever the family's habit

    def rename(self, name: str) -> str:
        """A name of theirs in ours."""
        for pattern, replacement in self.steps:
            name = re.sub(pattern, replacement, name)
        return name


def namings(family: str) -> tuple[Naming, ...]:
    """Every known way to name a family's parameters, ours first."""
    return (Naming(OURS), *NAMINGS.get(family, ()))


def unwrapped(names: Iterable[str]) -> dict[str, str]:
    """Names without what stands before every one of them, by the names as they are.

    >>> unwrapped(["module.fc.weight", "module.fc.bias"])
    {'module.fc.weight': 'fc.weight', 'module.fc.bias': 'fc.bias'}
    """
    short = {name: name for name in names}
    found = True
    while found and short:
        found = False
        for wrapper in WRAPPERS:
            if all(name.startswith(wrapper) for name in short.values()):
                short = {name: rest.removeprefix(wrapper) for name, rest in short.items()}
                found = True
    return short


def renamed(names: Iterable[str], naming: Naming, path: str) -> dict[str, str]:
    """Their names in ours, by theirs.

    Raises:
        WeightsError: two of them become one.
    """
    ours = {name: naming.rename(rest) for name, rest in unwrapped(names).items()}
    theirs: dict[str, str] = {}
    for name, own in ours.items():
        if own in theirs:
            raise WeightsError(f"{path}: {theirs[own]} and {name} are both {own} in the naming of {naming.name}")
        theirs[own] = name
    return ours


def _squeeze(theirs: str, ours: str) -> Steps:
    """timm's squeeze and excitation inside a block."""
    return ((rf"{theirs}se\.conv_reduce\.", rf"{ours}.fc1."), (rf"{theirs}se\.conv_expand\.", rf"{ours}.fc2."))


def _efficientnet() -> Steps:
    first, block = r"^blocks\.0\.(\d+)\.", r"^blocks\.([1-6])\.(\d+)\."
    in_first, in_block = r"features.1.\1.block", r"features.\1~.\2.block"
    return (
        (r"^conv_stem\.", "features.0.0."),
        (r"^bn1\.", "features.0.1."),
        (r"^conv_head\.", "features.8.0."),
        (r"^bn2\.", "features.8.1."),
        (r"^classifier\.", "classifier.1."),
        *_layers(first, in_first, {"conv_dw": "0.0", "bn1": "0.1", "conv_pw": "2.0", "bn2": "2.1"}),
        *_squeeze(first, f"{in_first}.1"),
        *_layers(block, in_block, {"conv_pw": "0.0", "bn1": "0.1", "conv_dw": "1.0", "bn2": "1.1"}),
        *_layers(block, in_block, {"conv_pwl": "3.0", "bn3": "3.1"}),
        *_squeeze(block, f"{in_block}.2"),
        *((rf"^features\.{stage}~\.", f"features.{stage + 1}.") for stage in range(1, 7)),  # theirs count from 0
    )


def _mobilenet_v2() -> Steps:
    """timm nests blocks in stages; torchvision's, and ours, stand in a row."""
    steps: list[tuple[str, str]] = [
        (r"^conv_stem\.", "features.0.0."),
        (r"^bn1\.", "features.0.1."),
        (r"^conv_head\.", "features.18.0."),
        (r"^bn2\.", "features.18.1."),
        (r"^classifier\.", "classifier.1."),
    ]
    number = 1
    for stage, (expansion, _, depth, _) in enumerate(mobilenet.V2_STAGES):
        parts = ["conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3"]
        places = ["0.0", "0.1", "1.0", "1.1", "2", "3"]
        if expansion == 1:  # nothing to expand: the depthwise convolution comes first
            parts, places = ["conv_dw", "bn1", "conv_pw", "bn2"], ["0.0", "0.1", "1", "2"]
        for index in range(depth):
            table = dict(zip(parts, places, strict=True))
            steps += _layers(rf"^blocks\.{stage}\.{index}\.", f"features.{number}.conv", table)
            number += 1
    return tuple(steps)


def _layers(theirs: str, ours: str, places: Mapping[str, str]) -> Steps:
    return tuple((rf"{theirs}{re.escape(part)}\.", rf"{ours}.{place}.") for part, place in places.items())


def _regnet() -> Steps:
    inside = {"conv1.conv": "f.a.0", "conv1.bn": "f.a.1", "conv2.conv": "f.b.0", "conv2.bn": "f.b.1", "se": "f.se"}
    inside |= {"conv3.conv": "f.c.0", "conv3.bn": "f.c.1", "downsample.conv": "proj.0", "downsample.bn": "proj.1"}
    block = r"^s(\d)\.b(\d+)\."
    deepest = 30  # blocks of a stage; the longest here has 17
    return (
        (r"^stem\.conv\.", "stem.0."),
        (r"^stem\.bn\.", "stem.1."),
        (r"^head\.fc\.", "fc."),
        *(
            (rf"{block}{re.escape(part)}\.", rf"trunk_output.block\1.block\1-\2~.{place}.")
            for part, place in inside.items()
        ),
        *((rf"-{index}~\.", f"-{index - 1}.") for index in range(1, deepest + 1)),  # theirs count from 1
    )


VIT_TORCHVISION: Steps = (
    (r"^class_token$", "cls_token"),
    (r"^conv_proj\.", "patch_embed.proj."),
    (r"^encoder\.pos_embedding$", "pos_embed"),
    (r"^encoder\.layers\.encoder_layer_(\d+)\.", r"blocks.\1."),
    (r"\.ln_([12])\.", r".norm\1."),
    (r"\.self_attention\.in_proj_(weight|bias)$", r".attn.qkv.\1"),
    (r"\.self_attention\.out_proj\.", ".attn.proj."),
    (r"\.mlp\.(?:0|linear_1)\.", ".mlp.fc1."),
    (r"\.mlp\.(?:3|linear_2)\.", ".mlp.fc2."),
    (r"^encoder\.ln\.", "norm."),
    (r"^heads\.head\.", "head."),
)

# Families that are not listed are named alike everywhere. timm's VGG has its linear layers as convolutions: the same
# numbers in another shape, which `weights` allows.
NAMINGS: dict[str, tuple[Naming, ...]] = {
    "vgg": (
        Naming(
            "timm",
            (
                (r"^pre_logits\.fc1\.", "classifier.0."),
                (r"^pre_logits\.fc2\.", "classifier.3."),
                (r"^head\.fc\.", "classifier.6."),
            ),
        ),
    ),
    "densenet": (Naming("torchvision before 2018", ((r"\.(norm|conv)\.([12])\.", r".\1\2."),)),),
    "mobilenet_v2": (Naming("timm", _mobilenet_v2()),),
    "efficientnet": (Naming("timm", _efficientnet()),),
    "regnet": (Naming("timm", _regnet()),),
    "nfnet": (Naming("timm", tuple((f"^{re.escape(public)}", ours) for public, ours in nfnet.PUBLIC_NAMES)),),
    "vit": (Naming("torchvision", VIT_TORCHVISION, imagenet=True),),
    "xception": (Naming("cadene", ((r"^last_linear\.", "fc."),)),),
}
