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
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from facewright.errors import NonFiniteLoss, ResumeError
from facewright.events import EpochRow
from facewright.files import write_atomic, write_tensors
from facewright.training import optimizers
from facewright.training.distributed import World
from facewright.training.history import Position, SetAccuracy, StepNumbers
from facewright.training.recipe_parts import Plateau
from facewright.training.sharding import Sharding
from facewright.training.training_module import AveragedNetwork, TrainingModule

FORMAT = "facewright-checkpoint-1"
POINTER = "last.json"

Parts = dict[str, dict[str, Tensor]]


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


class Resumable(Protocol):
    """The parts of a trainer that a checkpoint holds, and where."""

    module: TrainingModule
    average: AveragedNetwork | None
    optimizer: torch.optim.Optimizer
    plateau: Plateau | None
    sharding: Sharding | None
    position: Position
    scaler: torch.amp.GradScaler
    numbers: StepNumbers
    folder: Path
    world: World

    @property
    def network(self) -> nn.Module: ...

    @property
    def class_weight(self) -> Tensor: ...

    def start_phase(self) -> None: ...

    def state(self) -> State: ...


def state_of(trainer: Resumable) -> State:
    """Return the state; of class directions that are shared out, the rows of this process."""
    parts: Parts = {
        "model": trainer.network.state_dict(),
        "average": {} if trainer.average is None else trainer.average.state_dict(),
        "objective": trainer.module.objective.state_dict(),
        "optimizer": optimizers.tensors_of(trainer.optimizer),
    }
    rows: dict[str, Tensor] = {}
    if trainer.sharding is not None and trainer.sharding.world.size > 1:
        rows = {f"{part}.{name}": parts[part].pop(name) for part, name in _shared_out(trainer, parts)}
    tensors = {f"{part}.{name}": tensor for part, state in parts.items() for name, tensor in state.items()}
    facts = {
        "progress": asdict(trainer.position),
        "plateau": None if trainer.plateau is None else asdict(trainer.plateau),
        "scaler": trainer.scaler.state_dict(),
    }
    return State(tensors, facts, rows)


def save_trainer(trainer: Resumable) -> None:
    """Save the state: each process its rows of class directions that are shared out, the main one everything else."""
    folder, steps, world = trainer.folder / "checkpoints", trainer.position.steps, trainer.world
    if not world.is_main_process and trainer.sharding is None:
        return
    state, shards = trainer.state(), tuple[bytes, ...]()
    if state.rows:
        digest = torch.frombuffer(bytearray(save_rows(folder, state, steps, world.rank)), dtype=torch.uint8)
        shards = tuple(bytes(one.tolist()) for one in world.all_gather(digest))
    if world.is_main_process:
        save(folder, state, steps, shards)


def restore_trainer(trainer: Resumable, state: State) -> None:
    """Give a trainer the state.

    Raises:
        ResumeError: it is of another model or recipe.
    """
    parts: Parts = {"model": {}, "average": {}, "objective": {}, "optimizer": {}}
    for name, tensor in state.tensors.items():
        part, rest = name.split(".", 1)
        parts[part][rest] = tensor
    try:
        facts: dict[str, Any] = dict(state.facts["progress"])
        facts["rows"] = [EpochRow(**row) for row in facts["rows"]]
        facts["sets"] = [SetAccuracy(**row) for row in facts.get("sets", [])]
        trainer.position = Position(**facts)
        trainer.numbers.clear()
        trainer.scaler.load_state_dict(state.facts.get("scaler", {}))
        trainer.start_phase()
        if trainer.sharding is not None:
            _take_rows(trainer.sharding, trainer, parts, state.shards)
        trainer.network.load_state_dict(parts["model"])
        trainer.module.objective.load_state_dict(parts["objective"])
        if trainer.average is not None:
            trainer.average.load_state_dict(parts["average"])
        optimizers.restore(trainer.optimizer, parts["optimizer"])
        if trainer.plateau is not None:
            stood = state.facts["plateau"]
            trainer.plateau = Plateau(*(stood[name] for name in ("scale", "best", "waited")))
    except (RuntimeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise ResumeError(f"the checkpoint is of another model or recipe: {str(error).splitlines()[0]}") from None


def _take_rows(sharding: Sharding, trainer: Resumable, parts: Parts, shards: Sequence[Path]) -> None:
    """Give the parts the class directions of this process: from the shards, or from the whole where there are none."""
    for key in names_of_rows(shards):
        part, name = key.split(".", 1)
        parts[part][name] = load_rows(shards, key, sharding.rows(sharding.world.rank))
    if not shards:
        for part, name in _shared_out(trainer, parts):
            parts[part][name] = sharding.take(parts[part][name])


def _shared_out(trainer: Resumable, parts: Parts) -> list[tuple[str, str]]:
    """Return part and name of the tensors that hold a row for each class direction."""
    weight, own = f"{trainer.module.head}.weight", trainer.class_weight
    parameters = [p for group in trainer.optimizer.param_groups for p in group["params"]]
    number = next((str(place) for place, p in enumerate(parameters) if p is own), "")
    named = [(part, name) for part, name in (("model", weight), ("average", f"module.{weight}")) if name in parts[part]]
    slots = [name for name, slot in parts["optimizer"].items() if name.split(".", 1)[0] == number and slot.ndim == 2]
    return named + [("optimizer", name) for name in slots]
