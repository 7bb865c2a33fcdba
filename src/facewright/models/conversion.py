"""Tensors out of a file that anyone may have made: safetensors, checked before and after; a `.pth` converted to it.

Here is the one place of this package where a pickle is opened: by PyTorch's restricted reader (`weights_only=True`),
which knows tensors and plain containers and calls nothing that the file names; a test of the source allows this one
call and no other. Nothing calls `convert` but `weights get` and `weights convert`. What a file is, is told by its
content and not by its name.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from facewright.errors import WeightsError
from facewright.files import not_the_file, write_atomic
from facewright.models.downloads import MOST_BYTES, sha256_of
from facewright.models.weight_matching import COUNTER, MatchedWeights, match_weights

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
    raw = _unpickled(source) if _looks_pickled(_beginning(source)) else read_weights(source).tensors
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


def _unpickled(source: Path) -> dict[str, Tensor]:
    """The tensors of a pickle, read without running what it names."""
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


MOST_HEADER = 16 * 2**20  # bytes; 700 tensors take about 80 KB
MOST_TENSORS = 20_000
FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


@dataclass(frozen=True)
class WeightFile:
    """The content of a safetensors file."""

    tensors: Mapping[str, Tensor]  # float32 and, for counters, int64
    metadata: Mapping[str, str]
    sha256: str  # of the file, 64 hexadecimal digits


def read_weights(path: Path) -> WeightFile:
    """The tensors of a safetensors file, as float32.

    Raises:
        WeightsError: no such file, a pickle, no safetensors, cut short, over a limit, or numbers that are none.
    """
    _check_beginning(path)
    try:
        with safetensors.safe_open(path, framework="pt") as opened:
            names = list(opened.keys())
            if len(names) > MOST_TENSORS:
                raise WeightsError(f"{path}: {len(names):,} tensors; the limit is {MOST_TENSORS:,}")
            raw = {name: opened.get_tensor(name) for name in names}
            metadata = opened.metadata() or {}
    except (safetensors.SafetensorError, OSError, ValueError, RuntimeError, TypeError, KeyError) as error:
        raise WeightsError(f"{path}: cut short or damaged, or no safetensors file ({error})") from None
    return WeightFile(as_numbers(raw, str(path)), dict(metadata), sha256_of(path))


def as_numbers(raw: Mapping[str, Tensor], path: str) -> dict[str, Tensor]:
    """Tensors as a network takes them: float32, but the counters of batch norms int64.

    Args:
        raw: by name.
        path: for the message.
    Raises:
        WeightsError: a tensor of another kind, or one that holds NaN or infinity (float64 beyond float32's range too).
    """
    numbers = {}
    for name, tensor in raw.items():
        if tensor.dtype == torch.int64 and name.endswith(COUNTER):
            numbers[name] = tensor
            continue
        if tensor.dtype not in FLOATS:
            kind = str(tensor.dtype).removeprefix("torch.")
            raise WeightsError(f"{path}: {name} is {kind}; expected float32, float16, bfloat16 or float64")
        cast = tensor.to(torch.float32)
        if not torch.isfinite(cast).all():
            raise WeightsError(f"{path}: {name} holds NaN or infinity; these weights are broken, nothing was loaded")
        numbers[name] = cast
    return numbers


def _looks_pickled(beginning: bytes) -> bool:
    """Tell if a file begins as PyTorch's pickles do: a zip, or a pickle of protocol 2 to 5."""
    return beginning.startswith(b"PK\x03\x04") or (beginning[:1] == b"\x80" and beginning[1:2] in b"\x02\x03\x04\x05")


def _beginning(path: Path) -> bytes:
    """The first 64 bytes of a file that is there and not too large."""
    if not path.is_file():
        raise WeightsError(f"{path}: no such file; expected weights as .safetensors")
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(64)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error})") from None
    if size > MOST_BYTES:
        raise WeightsError(f"{path}: has {size:,} bytes; the limit is {MOST_BYTES:,}")
    return start


def _check_beginning(path: Path) -> None:
    """Refuse what cannot be safetensors before the library sees it."""
    start, size = _beginning(path), path.stat().st_size
    beginning = start[:9]
    header = int.from_bytes(beginning[:8], "little")
    if len(beginning) == 9 and header <= MOST_HEADER and beginning[8:] == b"{":
        if header + 8 > size:
            raise WeightsError(f"{path}: cut short: its header alone has {header:,} bytes, the whole file {size:,}")
        return
    if path.suffix.lower() == ".onnx":
        raise WeightsError(f"{path}: an exported graph holds no PyTorch weights; use the .safetensors it was made of")
    if _looks_pickled(beginning):
        raise WeightsError(
            f"{path}: a pickle (PyTorch's .pth), whatever it is called: reading one can run code, so it is not read"
            f" here; convert it once: facewright weights convert {path} --model NAME --to OUT.safetensors"
        )
    if (instead := not_the_file(start)) is not None:
        raise WeightsError(f"{path}: {instead}")
    raise WeightsError(f"{path}: no safetensors file; expected a header of at most {MOST_HEADER:,} bytes")
