"""dlib's networks as safetensors in the cache: converted once, known by the checksum of the file they come from.

<cache>/weights/<what>-<first 16 digits of the file's SHA-256>.safetensors
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from safetensors.torch import save
from torch import Tensor, nn

from facewright.errors import WeightsError
from facewright.faces.dlib import files as dlib_files
from facewright.faces.dlib.layers import Affine, Convolution, Network, read_network
from facewright.files import cache_folder, write_atomic
from facewright.models import dlib_resnet
from facewright.models.weight_files import read_weights, sha256_of

NORM_EPSILON = 1e-5  # PyTorch's: of a variance of 1 less this, the root of the sum is 1
Arrays = Mapping[str, Tensor]


@dataclass(frozen=True)
class Source:
    """A file of dlib's that is turned into tensors."""

    what: str  # the beginning of the converted file's name; it changes when the conversion does
    file: str  # name in the package
    convert: Callable[[Path], Arrays]


def converted(source: Source, *, file: Path | None = None, cache: Path | None = None) -> Path:
    """The safetensors of one of dlib's files, made the first time.

    Args:
        file: another copy of the file; the package's where None.
        cache: the folder; `cache_folder()` where None.
    Raises:
        WeightsError: the package is not installed, or its file is not what it should be; nothing is left behind.
    """
    origin = dlib_files.package_file(source.file) if file is None else file
    sha256 = sha256_of(origin)
    folder = (cache_folder() if cache is None else cache) / "weights"
    target = folder / f"{source.what}-{sha256[:16]}.safetensors"
    if target.is_file():
        return target
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with FileLock(target.with_name(f".{target.name}.lock"), mode=0o600):
            if not target.is_file():
                tensors = {name: tensor.contiguous() for name, tensor in source.convert(origin).items()}
                metadata = {"source": source.file, "sha256": sha256, "licence": "CC0-1.0"}
                write_atomic(target, save(tensors, metadata), mode=0o600)
    except OSError as error:
        raise WeightsError(f"{target}: could not be written ({error.strerror or error})") from error
    return target


def tensors_of(source: Source, *, file: Path | None = None, cache: Path | None = None) -> Arrays:
    """The tensors of one of dlib's files, float32; arguments and errors as `converted`."""
    target = converted(source, file=file, cache=cache)
    try:
        return read_weights(target).tensors
    except WeightsError:  # damaged since it was made; what it was made from is at hand
        target.unlink(missing_ok=True)
        return read_weights(converted(source, file=file, cache=cache)).tensors


def load_resnet(*, cache: Path | None = None) -> dlib_resnet.DlibResNet:
    """dlib's face network with its weights, in inference mode; its classifier is of no use.

    Raises:
        WeightsError: the package is not installed, or its file is not what it should be.
    """
    model = dlib_resnet.build("dlib_resnet29", 1)
    body = dict(tensors_of(RESNET, cache=cache))
    own = {name: tensor for name, tensor in model.state_dict().items() if name.startswith("classifier.")}
    try:
        model.load_state_dict({**own, **body}, strict=True)
    except RuntimeError as error:
        raise WeightsError(f"{dlib_files.EMBEDDING} holds another network than expected ({error})") from None
    return model.eval()


def folded(convolution: Convolution, affine: Affine) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution that does what it and the norm behind it do."""
    scale = affine.scale.astype(np.float64)
    weight = convolution.weight * scale[:, None, None, None]
    bias = convolution.bias * scale + affine.shift
    return torch.from_numpy(weight.astype(np.float32)), torch.from_numpy(bias.astype(np.float32))


def pairs_of(network: Network) -> list[tuple[Convolution, Affine]]:
    """The convolutions of a network, each with the norm behind it; the last layer is left out.

    Raises:
        WeightsError: the layers do not take turns so.
    """
    layers = network.layers[:-1]
    if len(layers) % 2:
        raise WeightsError(f"expected a norm behind each convolution, got {len(layers)} layers")
    found = []
    for convolution, affine in zip(layers[::2], layers[1::2], strict=True):
        if not isinstance(convolution, Convolution) or not isinstance(affine, Affine):
            raise WeightsError("expected a norm behind each convolution")
        found.append((convolution, affine))
    return found


def _resnet(path: Path) -> Arrays:
    """The parameters of `DlibResNet` but for its classifier."""
    network = read_network(path)
    model = dlib_resnet.build("dlib_resnet29", 1)
    places = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    pairs, linear = pairs_of(network), network.layers[-1]
    if len(pairs) != len(places) or not isinstance(linear, np.ndarray):
        raise WeightsError(f"{path}: expected {len(places)} convolutions and a linear layer, got {len(pairs)}")
    state: dict[str, Tensor] = {"embedding.weight": torch.from_numpy(linear.T.copy())}
    for place, (convolution, affine) in zip(places, pairs, strict=True):
        norm = "bn".join(place.rsplit("conv", 1))
        state[f"{place}.weight"] = torch.from_numpy(convolution.weight.copy())
        state[f"{norm}.weight"] = torch.from_numpy(affine.scale.copy())
        state[f"{norm}.bias"] = torch.from_numpy(affine.shift + affine.scale * convolution.bias)
        state[f"{norm}.running_mean"] = torch.zeros(len(affine.scale))
        state[f"{norm}.running_var"] = torch.full((len(affine.scale),), 1.0 - NORM_EPSILON)
        state[f"{norm}.num_batches_tracked"] = torch.tensor(0)
    return state


RESNET = Source("dlib_resnet29", dlib_files.EMBEDDING, _resnet)
