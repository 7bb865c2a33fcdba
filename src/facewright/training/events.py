"""What a run tells whoever listens, as it happens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from facewright.training.history import EpochRow


@dataclass(frozen=True)
class Started:
    """A run begins, or goes on."""

    run: str
    model: str
    recipe: str
    epochs: int
    steps_per_epoch: int
    images: int  # of the training part


@dataclass(frozen=True)
class Stepped:
    """One optimizer step was taken."""

    epoch: int  # from 1
    epochs: int
    step: int  # within the epoch, from 1
    steps: int
    loss: float  # mean over the epoch so far
    accuracy: float  # as above
    images_per_second: float
    seconds_left: float  # of the whole run, estimated


@dataclass(frozen=True)
class EpochEnded:
    """An epoch was trained and validated."""

    row: EpochRow


@dataclass(frozen=True)
class Said:
    """One line worth showing."""

    text: str


@dataclass(frozen=True)
class Progressed:
    """Something long that is not training: decoding, testing."""

    what: str
    done: int
    total: int


Event = Started | Stepped | EpochEnded | Said | Progressed
Listener = Callable[[Event], None]
