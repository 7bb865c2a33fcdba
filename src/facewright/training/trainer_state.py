"""The state of a trainer in a checkpoint: tensors by part and name, and plain facts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from facewright.errors import ResumeError
from facewright.events import EpochRow
from facewright.training import checkpoints, optimizers
from facewright.training.distributed import World
from facewright.training.history import Position, SetAccuracy
from facewright.training.schedule import Plateau
from facewright.training.sharding import Sharding
from facewright.training.step_numbers import StepNumbers
from facewright.training.training_module import AveragedNetwork, TrainingModule

Parts = dict[str, dict[str, Tensor]]


class Resumable(Protocol):
    """The parts of a trainer that a checkpoint holds."""

    module: TrainingModule
    average: AveragedNetwork | None
    optimizer: torch.optim.Optimizer
    plateau: Plateau | None
    sharding: Sharding | None
    position: Position
    scaler: torch.amp.GradScaler
    numbers: StepNumbers

    @property
    def network(self) -> nn.Module: ...

    @property
    def class_weight(self) -> Tensor: ...

    def start_phase(self) -> None: ...


class Saved(Resumable, Protocol):
    """A trainer with the folder that it is saved in."""

    folder: Path
    world: World

    def state(self) -> checkpoints.State: ...


def state_of(trainer: Resumable) -> checkpoints.State:
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
    return checkpoints.State(tensors, facts, rows)


def save(trainer: Saved) -> None:
    """Save the state: each process its rows of class directions that are shared out, the main one everything else."""
    folder, steps, world = trainer.folder / "checkpoints", trainer.position.steps, trainer.world
    if not world.is_main_process and trainer.sharding is None:
        return
    state, shards = trainer.state(), tuple[bytes, ...]()
    if state.rows:
        digest = torch.frombuffer(bytearray(checkpoints.save_rows(folder, state, steps, world.rank)), dtype=torch.uint8)
        shards = tuple(bytes(one.tolist()) for one in world.all_gather(digest))
    if world.is_main_process:
        checkpoints.save(folder, state, steps, shards)


def restore(trainer: Resumable, state: checkpoints.State) -> None:
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
    for key in checkpoints.names_of_rows(shards):
        part, name = key.split(".", 1)
        parts[part][name] = checkpoints.load_rows(shards, key, sharding.rows(sharding.world.rank))
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
