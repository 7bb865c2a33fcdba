"""The state of a run on disk: atomic, checksummed, never unpickled.

`checkpoints/` holds up to two files `step-00001234.safetensors` and `last.json`, which names the newest whole one with
its BLAKE2 checksum, and the one before. A checkpoint is written under another name, flushed, renamed, and only then
named in `last.json`: a kill at any moment leaves the previous one in force.

Tensors are safetensors; everything else (position, counters, history) is one JSON text in their metadata, so a
checkpoint cannot run code.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from facewright.errors import NonFiniteLoss, ResumeError
from facewright.files import write_atomic

FORMAT = "facewright-checkpoint-1"
POINTER = "last.json"


@dataclass(frozen=True)
class State:
    """Everything a run needs to go on: named tensors, and facts that JSON can hold exactly."""

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]


def save(folder: Path, state: State, step: int) -> Path:
    """Write a checkpoint and make it the one to resume from.

    Raises:
        NonFiniteLoss: a weight is not finite; nothing is written.
        FacewrightError: the disk is full or not writable; the previous checkpoint stays in force.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.tensors.items()}
    bad = [name for name, tensor in tensors.items() if tensor.is_floating_point() and not _finite(tensor)]
    if bad:
        raise NonFiniteLoss(
            f"step {step}: {bad[0]} is not finite, so no checkpoint was written; "
            "resume from the previous one with a lower learning rate"
        )
    folder.mkdir(parents=True, exist_ok=True)
    metadata = {"format": FORMAT, "facts": json.dumps(state.facts)}
    packed = safetensors.torch.save(tensors, metadata)
    path = folder / f"step-{step:08d}.safetensors"
    write_atomic(path, packed, mode=0o600)
    entry = {"file": path.name, "blake2b": hashlib.blake2b(packed, digest_size=16).hexdigest()}
    older = [item for item in _pointer(folder) if item["file"] != path.name]
    write_atomic(folder / POINTER, json.dumps([entry, *older[:1]], indent=1), mode=0o600)
    _sweep(folder, keep={entry["file"], *(item["file"] for item in older[:1])})
    return path


def load(folder: Path) -> State | None:
    """The newest whole checkpoint, or None where there is none yet.

    Raises:
        ResumeError: checkpoints exist and none of them is whole.
    """
    reasons: list[str] = []
    for item in _pointer(folder):
        path = folder / Path(item["file"]).name
        try:
            packed = path.read_bytes()
            if hashlib.blake2b(packed, digest_size=16).hexdigest() != item["blake2b"]:
                raise ValueError("its checksum is another")
            return _unpack(path, packed)
        except (OSError, ValueError, KeyError, safetensors.SafetensorError) as error:
            reasons.append(f"{path.name}: {error}")
    if reasons:
        raise ResumeError(
            f"{folder}: no whole checkpoint ({'; '.join(reasons)}); start the run again in another folder"
        )
    return None


def _unpack(path: Path, packed: bytes) -> State:
    with safetensors.safe_open(path, framework="pt") as opened:
        metadata = opened.metadata() or {}
    if metadata.get("format") != FORMAT:
        raise ValueError(f"expected format {FORMAT}, not {metadata.get('format')}")
    return State(safetensors.torch.load(packed), json.loads(metadata["facts"]))


def _pointer(folder: Path) -> list[dict[str, str]]:
    try:
        items = json.loads((folder / POINTER).read_text(encoding="utf-8"))
        return [{"file": str(item["file"]), "blake2b": str(item["blake2b"])} for item in items]
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError) as error:
        raise ResumeError(f"{folder / POINTER}: unreadable ({error}); start the run again in another folder") from None


def _sweep(folder: Path, keep: set[str]) -> None:
    """Remove older checkpoints and what killed writers left behind."""
    for path in folder.iterdir():
        stale = path.name.startswith("step-") and path.name not in keep
        if stale or path.name.endswith(".tmp"):
            path.unlink(missing_ok=True)


def _finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())
