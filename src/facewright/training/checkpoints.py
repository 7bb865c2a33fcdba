"""The state of a run on disk: atomic, checksummed, never unpickled.

`checkpoints/` holds up to two files `step-00001234.safetensors` and `last.json`, which names the newest whole one with
its BLAKE2 checksum, and the one before. A checkpoint is written under another name, flushed, renamed, and only then
named in `last.json`: a kill at any moment leaves the previous one in force. Class directions that are shared out to
processes lie in files of their own, `step-00001234.rank-0002.safetensors`, one a process, which `last.json` names too.

Tensors are safetensors; everything else (position, counters, history) is one JSON text in their metadata, so a
checkpoint cannot run code.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from facewright.errors import NonFiniteLoss, ResumeError
from facewright.files import write_atomic, write_tensors

FORMAT = "facewright-checkpoint-1"
POINTER = "last.json"


@dataclass(frozen=True)
class State:
    """Everything a run needs to go on: named tensors, and facts that JSON can hold exactly."""

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]
    rows: Mapping[str, Tensor] = field(default_factory=dict)  # to save: of tensors whose rows processes share out
    shards: tuple[Path, ...] = ()  # loaded: the files of these rows, in order of the ranks


def save_rows(folder: Path, state: State, step: int, rank: int) -> bytes:
    """Write the rows of this process; return the checksum that `save` wants of each process.

    Raises:
        NonFiniteLoss, FacewrightError: as `save`.
    """
    tensors = _finite(state.rows, step)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _shard(f"step-{step:08d}", rank)
    write_tensors(path, tensors, {"format": FORMAT}, mode=0o600)
    return _digest(path)


def save(folder: Path, state: State, step: int, shards: Sequence[bytes] = ()) -> Path:
    """Write a checkpoint and make it the one to resume from.

    Args:
        shards: the checksums of the rows that each process saved before.
    Raises:
        NonFiniteLoss: a weight is not finite; nothing is written.
        FacewrightError: the disk is full or not writable; the previous checkpoint stays in force.
    """
    tensors = _finite(state.tensors, step)
    folder.mkdir(parents=True, exist_ok=True)
    metadata = {"format": FORMAT, "facts": json.dumps(state.facts)}
    packed = safetensors.torch.save(tensors, metadata)
    path = folder / f"step-{step:08d}.safetensors"
    write_atomic(path, packed, mode=0o600)
    entry = Entry(path.name, hashlib.blake2b(packed, digest_size=16).hexdigest(), [one.hex() for one in shards])
    older = [item for item in _pointer(folder) if item.file != path.name]
    kept = [entry, *older[:1]]
    write_atomic(folder / POINTER, json.dumps([item._asdict() for item in kept], indent=1), mode=0o600)
    _sweep(folder, keep={name for item in kept for name in (item.file, *item.shard_files)})
    return path


def load(folder: Path) -> State | None:
    """The newest whole checkpoint, or None where there is none yet.

    Raises:
        ResumeError: checkpoints exist and none of them is whole.
    """
    reasons: list[str] = []
    for item in _pointer(folder):
        path = folder / item.file
        try:
            packed = path.read_bytes()
            shards = tuple(folder / name for name in item.shard_files)
            found = [hashlib.blake2b(packed, digest_size=16).hexdigest(), *(_digest(shard).hex() for shard in shards)]
            if found != [item.blake2b, *item.shards]:
                raise ValueError("its checksum is another")
            return _unpack(path, packed, shards)
        except (OSError, ValueError, KeyError, safetensors.SafetensorError) as error:
            reasons.append(f"{path.name}: {error}")
    if reasons:
        raise ResumeError(
            f"{folder}: no whole checkpoint ({'; '.join(reasons)}); start the run again in another folder"
        )
    return None


def names_of_rows(shards: Sequence[Path]) -> list[str]:
    """Return the names of the tensors whose rows lie in these files."""
    if not shards:
        return []
    with safetensors.safe_open(shards[0], framework="pt") as opened:
        return list(opened.keys())


def load_rows(shards: Sequence[Path], name: str, rows: slice) -> Tensor:
    """Read some rows of a tensor whose rows lie in several files, one after the other; no others are read."""
    parts, first = [], 0
    for path in shards:
        with safetensors.safe_open(path, framework="pt") as opened:
            part = opened.get_slice(name)
            count = part.get_shape()[0]
            start, stop = max(rows.start - first, 0), min(rows.stop - first, count)
            if start < stop:
                parts.append(part[start:stop])
            first += count
    return torch.cat(parts)


def _unpack(path: Path, packed: bytes, shards: tuple[Path, ...]) -> State:
    with safetensors.safe_open(path, framework="pt") as opened:
        metadata = opened.metadata() or {}
    if metadata.get("format") != FORMAT:
        raise ValueError(f"expected format {FORMAT}, not {metadata.get('format')}")
    return State(safetensors.torch.load(packed), json.loads(metadata["facts"]), shards=shards)


class Entry(NamedTuple):
    """A checkpoint in `last.json`."""

    file: str
    blake2b: str
    shards: list[str]  # the checksums of the rows of each process; empty: all rows are in the file

    @property
    def shard_files(self) -> list[str]:
        return [_shard(self.file.removesuffix(".safetensors"), rank) for rank in range(len(self.shards))]


def _shard(stem: str, rank: int) -> str:
    return f"{stem}.rank-{rank:04d}.safetensors"


def _pointer(folder: Path) -> list[Entry]:
    try:
        items = json.loads((folder / POINTER).read_text(encoding="utf-8"))
        return [
            Entry(Path(str(item["file"])).name, str(item["blake2b"]), [str(one) for one in item.get("shards", ())])
            for item in items
        ]
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ResumeError(f"{folder / POINTER}: unreadable ({error}); start the run again in another folder") from None


def _sweep(folder: Path, keep: set[str]) -> None:
    """Remove older checkpoints and what killed writers left behind."""
    for path in folder.iterdir():
        stale = path.name.startswith("step-") and path.name not in keep
        if stale or path.name.endswith(".tmp"):
            path.unlink(missing_ok=True)


def _digest(path: Path) -> bytes:
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, lambda: hashlib.blake2b(digest_size=16)).digest()


def _finite(given: Mapping[str, Tensor], step: int) -> dict[str, Tensor]:
    """Return tensors on the CPU. Raises NonFiniteLoss: one is not finite."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in given.items()}
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise NonFiniteLoss(
                f"step {step}: {name} is not finite, so no checkpoint was written; "
                "resume from the previous one with a lower learning rate"
            )
    return tensors
