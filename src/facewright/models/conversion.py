"""A public `.pth` made into safetensors: the one place of this package where a pickle is opened.

It is opened by PyTorch's restricted reader (`weights_only=True`), which knows tensors and plain containers and calls
nothing that the file names; a test of the source allows this one call and no other. Nothing calls `convert` but the
commands `weights get` and `weights convert`.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from facewright.errors import WeightsError
from facewright.files import write_atomic
from facewright.models.weight_files import MOST_BYTES, as_numbers, looks_pickled, read_weights, sha256_of
from facewright.models.weight_matching import MatchedWeights, match_weights

METADATA = "facewright.weights"
WRAPPED = ("state_dict", "model", "model_state_dict", "model_state", "params")  # where trainers keep the parameters


def convert(source: str | Path, architecture: str, target: str | Path) -> MatchedWeights:
    """Write the weights of a public file as safetensors, under our names.

    Args:
        source: PyTorch's .pth or .pt, whatever it is called; or safetensors under another naming.
        architecture: a name of the catalogue; the weights must be its, whole.
        target: ends in .safetensors; replaced atomically.
    Returns:
        What was written.
    Raises:
        WeightsError: the file is not there, not what it says, asks for code, or holds other weights.
    """
    source, target = Path(source), Path(target)
    if target.suffix != ".safetensors":
        raise WeightsError(f"{target}: expected a name that ends in .safetensors")
    raw = _unpickled(source) if _is_pickle(source) else read_weights(source).tensors
    matched = match_weights(architecture, raw, str(source))
    note = {"architecture": architecture, "naming": matched.naming.name, "source_sha256": sha256_of(source)}
    tensors = {name: tensor.contiguous() for name, tensor in matched.state.items()}
    write_atomic(target, safetensors.torch.save(tensors, {METADATA: json.dumps(note)}))
    return matched


def naming_of(metadata: Mapping[str, str]) -> str:
    """Return the name of the public file that a converted one comes from; "" if the metadata does not say."""
    try:
        note = json.loads(metadata.get(METADATA, "{}"))
    except ValueError:
        return ""
    return str(note.get("naming", "")) if isinstance(note, dict) else ""


def _is_pickle(source: Path) -> bool:
    if not source.is_file():
        raise WeightsError(f"{source}: no such file")
    with source.open("rb") as file:
        return looks_pickled(file.read(8))


def _unpickled(source: Path) -> dict[str, Tensor]:
    """The tensors of a pickle, read without running what it names."""
    if source.stat().st_size > MOST_BYTES:
        raise WeightsError(f"{source}: has {source.stat().st_size:,} bytes; the limit is {MOST_BYTES:,}")
    mapped = zipfile.is_zipfile(source)
    try:
        content = torch.load(source, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # torch raises a dozen types on damaged or forbidden content; each means: not usable
        reason = " ".join(str(error).split()).partition(". ")[0][:200]
        raise WeightsError(f"{source}: holds more than numbers, or is cut short or damaged ({reason})") from None
    return as_numbers(_parameters(content, source), str(source))


def _parameters(content: Any, source: Path) -> dict[str, Tensor]:
    """The table of parameters in what a file holds: the whole of it, or what lies under a usual name."""
    for name in WRAPPED:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
            break
    if not isinstance(content, Mapping) or not content:
        raise WeightsError(f"{source}: expected a table of parameters (a state dict), got {type(content).__name__}")
    odd = next((name for name, value in content.items() if not isinstance(value, Tensor)), None)
    if odd is not None:
        raise WeightsError(f"{source}: {odd!r} is no tensor; expected a table of parameters (a state dict)")
    return {str(name): value for name, value in content.items()}
