"""The learning rate as a pure function of the position in the run, so that resuming needs no state (plateau apart)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from facewright.errors import UsageError

NAMES = ("constant", "cosine", "one-cycle", "step", "plateau")


@dataclass(frozen=True)
class Schedule:
    """A factor of the base learning rate for each step.

    constant   1
    cosine     half a cosine from 1 to `floor`                     (Loshchilov and Hutter, arXiv:1608.03983, eq. 5)
    one-cycle  up from 1/25 along half a cosine, then down         (Smith and Topin, arXiv:1708.07120)
    step       times `factor` after every `every` epochs
    plateau    times `factor` whenever `Plateau` says so
    """

    name: str
    steps: int  # of the whole run
    steps_per_epoch: int
    warmup: float = 0.0  # share of all steps
    floor: float = 0.0
    every: int = 10
    factor: float = 0.1

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise UsageError(f"unknown schedule {self.name!r}; known: {', '.join(NAMES)}")

    def at(self, step: int) -> float:
        """The factor for a step counted from 0.

        >>> schedule = Schedule("cosine", steps=10, steps_per_epoch=5, warmup=0.2)
        >>> [round(schedule.at(step), 3) for step in (0, 1, 2, 6, 9)]
        [0.5, 1.0, 1.0, 0.5, 0.038]
        """
        rise = self.warmup * self.steps
        if self.name == "one-cycle":
            if step < rise:
                return 0.04 + 0.96 * _ease(step / rise)
            return max(self.floor, 1 - _ease(min(1.0, (step - rise) / max(1.0, self.steps - rise))))
        if step < rise:
            return min(1.0, (step + 1) / rise)
        if self.name == "cosine":
            gone = min(1.0, (step - rise) / max(1.0, self.steps - rise))
            return self.floor + (1 - self.floor) * (1 - _ease(gone))
        if self.name == "step":
            return float(self.factor ** (step // (self.steps_per_epoch * self.every)))
        return 1.0


@dataclass
class Plateau:
    """Multiplies the learning rate by `factor` after `patience` epochs in which the cost did not fall."""

    factor: float
    patience: int
    floor: float = 0.0
    scale: float = 1.0
    best: float = math.inf
    waited: int = 0

    def update(self, cost: float) -> bool:
        """Take an epoch's cost on the validation part (the chosen metric, turned so that less is better).

        Returns:
            Whether the rate was lowered.
        """
        if cost < self.best - 1e-4:
            self.best, self.waited = cost, 0
            return False
        self.waited += 1
        if self.waited <= self.patience:
            return False
        self.waited = 0
        lowered = max(self.floor, self.scale * self.factor)
        changed = lowered < self.scale
        self.scale = lowered
        return changed


def _ease(share: float) -> float:
    """From 0 to 1 along half a cosine."""
    return (1 - math.cos(math.pi * share)) / 2
