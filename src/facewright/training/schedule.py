"""The learning rate as a pure function of the position in the run, so that resuming needs no state (plateau apart)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from facewright.specs import Spec


class Schedule(Spec):
    """The learning rate over a phase, as a factor of its base learning rate.

    constant   1
    cosine     half a cosine from 1 to `floor`                     (Loshchilov and Hutter, arXiv:1608.03983, eq. 5)
    one-cycle  up from 1/25 along half a cosine, then down         (Smith and Topin, arXiv:1708.07120)
    poly       (1 - share of the steps) ** `power`, down to `floor`
    step       times `factor` after every `every` epochs
    plateau    times `factor` whenever `Plateau` says so
    """

    name: Literal["constant", "cosine", "one-cycle", "poly", "step", "plateau"] = "cosine"
    warmup: float = Field(0.0, ge=0, lt=1)  # share of all steps, linear from near zero; one-cycle: its rise
    floor: float = Field(0.0, ge=0, le=1)  # where cosine, one-cycle and poly end; below which plateau does not go
    power: float = Field(2.0, gt=0, le=10)  # poly
    least_rate: float = Field(0.0, ge=0, le=1000)  # plateau: the learning rate below which it does not go
    every: int = Field(10, ge=1, le=100_000)  # step: epochs between drops
    factor: float = Field(0.1, gt=0, lt=1)  # step, plateau: multiply by this
    patience: int = Field(5, ge=0, le=100_000)  # plateau: epochs without a better validation loss

    def at(self, step: int, steps: int, steps_per_epoch: int) -> float:
        """Return the factor for a step counted from 0, of so many in the phase.

        >>> schedule = Schedule(name="cosine", warmup=0.2)
        >>> [round(schedule.at(step, steps=10, steps_per_epoch=5), 3) for step in (0, 1, 2, 6, 9)]
        [0.5, 1.0, 1.0, 0.5, 0.038]
        """
        rise = self.warmup * steps
        gone = min(1.0, (step - rise) / max(1.0, steps - rise))
        if self.name == "one-cycle":
            return 0.04 + 0.96 * _ease(step / rise) if step < rise else max(self.floor, 1 - _ease(gone))
        if step < rise:
            return min(1.0, (step + 1) / rise)
        if self.name == "cosine":
            return self.floor + (1 - self.floor) * (1 - _ease(gone))
        if self.name == "poly":
            return float(self.floor + (1 - self.floor) * (1 - gone) ** self.power)
        if self.name == "step":
            return float(self.factor ** (step // (steps_per_epoch * self.every)))
        return 1.0

    def floor_at(self, rate: float) -> float:
        """Return the lowest factor of a plateau, of a phase with this learning rate.

        >>> Schedule(name="plateau", floor=0.01, least_rate=1e-6).floor_at(4e-6)
        0.25
        """
        return min(1.0, max(self.floor, self.least_rate / rate))


@dataclass
class Plateau:
    """Multiplies the learning rate by the schedule's factor after `patience` epochs in which the cost did not fall."""

    scale: float = 1.0
    best: float = math.inf
    waited: int = 0

    def update(self, cost: float, schedule: Schedule, rate: float = math.inf) -> bool:
        """Take an epoch's cost on the validation part (the chosen metric, turned so that less is better).

        Args:
            rate: the learning rate of the phase, for `least_rate`.

        Returns:
            Whether the rate was lowered.
        """
        if cost < self.best - 1e-4:
            self.best, self.waited = cost, 0
            return False
        self.waited += 1
        if self.waited <= schedule.patience:
            return False
        self.waited = 0
        lowered = max(schedule.floor_at(rate), self.scale * schedule.factor)
        changed = lowered < self.scale
        self.scale = lowered
        return changed


def _ease(share: float) -> float:
    """Rise from 0 to 1 along half a cosine."""
    return (1 - math.cos(math.pi * share)) / 2
