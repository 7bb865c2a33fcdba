"""What a run consists of, and where it stands: its phases, the numbers of the loop, the progress that is saved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.optim import Optimizer

from facewright.events import EpochRow
from facewright.training.feeding import Data
from facewright.training.schedule import Plateau, Schedule


@dataclass(frozen=True)
class Phase:
    """A stretch of the run that trains one part of the network at one course of the rate."""

    name: str
    sizes: tuple[int, ...]  # side in pixels, for each of its epochs
    schedule: Schedule  # over its own steps
    begin: Callable[[nn.Module], Optimizer]  # decides what learns, and makes the optimizer for it
    plateau: Plateau | None = None  # lowers the rate further when validation stalls
    draws: int = 0  # above 0: the body is frozen, and its features of so many augmentation draws are computed once
    frozen_norms: bool = False
    extend: Callable[[nn.Module, Data], Data] | None = None  # adds to what is trained on, before its first step


@dataclass(frozen=True)
class Settings:
    """The numbers of the loop."""

    batch: int
    seed: int
    mixup: float = 0.0
    cutmix: float = 0.0
    clip: float = 0.0  # 0: gradients are not clipped
    adaptive_clip: float = 0.0  # as above, unit by unit
    ema: float = 0.0  # 0: weights are not averaged
    metric: str = "loss"  # or "accuracy", "hter": chooses the best epoch
    patience: int = 0  # 0: no phase ends early
    dtype: torch.dtype = torch.float32
    checkpoint_seconds: float = 60.0
    checkpoint_steps: int = 0  # 0: by time alone


@dataclass
class Position:
    """Where the run stands; all of it goes into a checkpoint."""

    phase: int = 0
    phase_epoch: int = 0  # whole epochs done in the phase under way
    phase_steps: int = 0
    epoch: int = 0  # whole epochs done
    step: int = 0  # steps done in the epoch under way
    steps: int = 0  # steps done in all
    images: int = 0
    seconds: float = 0.0
    loss_sum: float = 0.0  # over the pictures of the epoch under way
    correct: float = 0.0
    seen: int = 0
    best: float | None = None
    best_loss: float = 0.0  # of the epoch with the best score; of no meaning before there is one
    waited: int = 0  # epochs of the phase since the best
    finished: bool = False
    rows: list[EpochRow] = field(default_factory=list)
