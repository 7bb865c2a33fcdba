"""Classifiers of timm and torchvision as architectures here: `timm:NAME` and `torchvision:NAME`, each an extra.

The library builds the backbone; the classifier is ours, one linear layer on its features, so that heads, losses,
freezing and export meet what they know. `NAME@pretrained` starts from the library's own weights, whose licence and data
its model card names. Weights that a file names are never fetched: a bundle is rebuilt with random ones and filled.

Not run against either library here: neither imports beside this PyTorch. The tests use stand-ins with the interface
that the libraries document: timm's `create_model(name, pretrained, num_classes)` and `pretrained_cfg`; torchvision's
`get_model`, `get_model_weights` and a weight's `get_state_dict` and `transforms`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from facewright.errors import UnknownName, UsageError, WeightsError
from facewright.input_spec import InputSpec
from facewright.models.blocks import Model, Stage, Unit
from facewright.models.families import BRIDGED, PRETRAINED

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NAME = re.compile(r"[A-Za-z0-9_.]{1,100}")  # of an architecture; nothing that a library could take for an address


class Bridged(Model):
    """A backbone of another library under a linear classifier.

    Args:
        network: (B, 3, H, W) -> (B, F). width: F.
    """

    classifier_name = "classifier"

    def __init__(self, network: nn.Module, width: int, classes: int) -> None:
        super().__init__()
        self.network = network
        self.feature_width = width
        self.classifier = nn.Linear(width, classes)

    def forward_features(self, x: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, F)
        return self.network(x)

    def stages(self) -> tuple[Stage, ...]:
        """Each module of the backbone, by its name there, in its order; then the classifier."""
        parts = [name for name, child in self.network.named_children() if any(True for _ in child.parameters())]
        loose = Unit(("",))  # parameters of the network itself, as a class token
        body = [Stage(name, (Unit((f"network.{name}",)),)) for name in parts]
        first = Stage(body[0].name, (loose, *body[0].parts)) if body else Stage("body", (loose,))
        return first, *body[1:], Stage("head", (Unit(("classifier",)),))


@dataclass(frozen=True)
class External:
    """Weights of another library."""

    state: Mapping[str, Tensor]  # under our names, float32, without a classifier
    spec: InputSpec
    sha256: str  # of the tensors as safetensors
    source: str  # where the library says they are from


def build(name: str, classes: int, size: int) -> Bridged:
    """Build an architecture with random weights.

    Args:
        name: `timm:NAME` or `torchvision:NAME`. size: side of the images, px.
    Raises:
        UnknownName: the library has none of this name. UsageError: its network takes no images of this size, or gives
            no features (B, F).
    """
    network, _ = _network(name, size, None)
    return Bridged(network, _width(name, network, size), classes)


def pretrained(name: str, which: str = PRETRAINED) -> External:
    """Return the weights that the library has for an architecture; it downloads them.

    Args:
        which: "pretrained"; of torchvision also a name such as IMAGENET1K_V2.
    Raises:
        UnknownName: no such architecture or weights. WeightsError: they cannot be had.
    """
    network, facts = _network(name, None, which)
    height, mean, std, source = facts
    spec = InputSpec(height, height, mean, std)
    state = {f"network.{key}": value.detach().float() if value.is_floating_point() else value.detach()
             for key, value in network.state_dict().items()}  # fmt: skip
    state = {key: value.contiguous().clone() for key, value in state.items()}
    digest = hashlib.sha256(safetensors.torch.save(dict(sorted(state.items())))).hexdigest()
    return External(state, spec, digest, source)


Facts = tuple[int, tuple[float, float, float], tuple[float, float, float], str]  # side px, mean, std, where from


def _network(name: str, size: int | None, which: str | None) -> tuple[nn.Module, Facts]:
    """Return the backbone without a classifier, on the CPU, and the input of its weights."""
    library, _, own = name.partition(":")
    if library not in BRIDGED or not NAME.fullmatch(own):
        raise UnknownName("model", name, [f"{known}:NAME" for known in BRIDGED])
    with torch.device("cpu"):  # some constructors need numbers, which the meta device has not
        return (_of_timm if library == "timm" else _of_torchvision)(own, size, which)


def _of_timm(name: str, size: int | None, which: str | None) -> tuple[nn.Module, Facts]:
    import timm

    if which not in (None, PRETRAINED):
        raise UnknownName(f"weights of timm:{name}", which, [PRETRAINED])
    if not timm.is_model(name):
        raise UnknownName("model of timm", name, timm.list_models())

    def create(**options: Any) -> nn.Module:
        try:
            made: nn.Module = timm.create_model(name, pretrained=which is not None, num_classes=0, **options)
        except (OSError, RuntimeError) as error:  # no network, no weights
            raise WeightsError(f"timm:{name}: {_line(error)}") from None
        return made

    network = create()
    if size is not None and not _takes(network, size) and hasattr(network, "patch_embed"):
        network = create(img_size=size)  # a transformer's position embedding has the size of its input
    cfg: Any = network.pretrained_cfg
    cfg = cfg if isinstance(cfg, Mapping) else vars(cfg)
    source = str(cfg.get("hf_hub_id") or cfg.get("url") or "timm")
    return network, (int(cfg["input_size"][-1]), _three(cfg["mean"]), _three(cfg["std"]), source)


def _of_torchvision(name: str, size: int | None, which: str | None) -> tuple[nn.Module, Facts]:
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise UnknownName("model of torchvision", name, known)
    network: nn.Module = models.get_model(name, weights=None)
    if getattr(network, "aux_logits", False):
        raise UsageError(f"torchvision:{name}: a network with auxiliary classifiers is not supported")
    facts: Facts = (224, IMAGENET_MEAN, IMAGENET_STD, "torchvision")
    if which is not None:
        rows = models.get_model_weights(name).__members__
        row = rows.get("DEFAULT" if which == PRETRAINED else which)
        if row is None:
            raise UnknownName(f"weights of torchvision:{name}", which, [PRETRAINED, *rows])
        try:  # the file is a pickle: its tensors alone are read
            network.load_state_dict(row.get_state_dict(progress=False, check_hash=True, weights_only=True))
        except (OSError, RuntimeError) as error:
            raise WeightsError(f"torchvision:{name}: {_line(error)}") from None
        eye = row.transforms()
        facts = (int(eye.crop_size[0]), _three(eye.mean), _three(eye.std), str(row.url))
    last = [path for path, module in network.named_modules() if isinstance(module, nn.Linear)]
    if not last:
        raise UsageError(f"torchvision:{name}: its classifier is no linear layer")
    network.set_submodule(last[-1], nn.Identity())
    return network, facts


def _width(name: str, network: nn.Module, size: int) -> int:
    """Return the number of features of one image, tried on an empty one."""
    try:
        with torch.no_grad():
            shape = tuple(network.eval()(torch.zeros(1, 3, size, size, device="cpu")).shape)
    except Exception as error:  # the networks of others fail in their own ways
        raise UsageError(f"{name} takes no images of {size} x {size} px: {_line(error)}; try its own --size") from None
    network.train()
    if len(shape) != 2:
        raise UsageError(f"{name}: expected features (1, F) of an image, got {shape}")
    return int(shape[1])


def _takes(network: nn.Module, size: int) -> bool:
    try:
        _width("", network, size)
    except UsageError:
        return False
    return True


def _three(values: Any) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
