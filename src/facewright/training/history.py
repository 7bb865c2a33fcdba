"""The course of a run: its position, the numbers of its steps, and a row of metrics.csv for each epoch."""

from __future__ import annotations

import csv
import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facewright.data.records import Record
from facewright.devices import Readback
from facewright.errors import NonFiniteLoss, RunError
from facewright.events import EpochRow
from facewright.files import csv_text, plain_cell, write_atomic

FIELDS = tuple(field.name for field in fields(EpochRow))


@dataclass(frozen=True)
class SetAccuracy:
    """A row of verification.csv: one set after one epoch."""

    epoch: int  # from 1
    set: str
    pairs: int
    failures: int  # pairs of which an image cannot be read; errors of the accuracy
    accuracy: float  # mean over folds, each at the threshold that is best on the others; without folds 1 - EER
    standard_error: float | None  # of that mean
    eer: float

    def __str__(self) -> str:
        error = "" if self.standard_error is None else f" ± {self.standard_error:.4f}"
        return f"{self.set} {self.accuracy:.4f}{error}"


@dataclass
class Position:
    """The progress of a run; all of it goes into a checkpoint."""

    phase: int = 0
    phase_epoch: int = 0  # whole epochs done in the phase under way
    phase_steps: int = 0
    epoch: int = 0  # whole epochs done
    step: int = 0  # steps done in the epoch under way
    steps: int = 0  # steps done in all
    images: int = 0
    seconds: float = 0.0
    loss_sum: float = 0.0  # over the images of the epoch under way
    correct: float = 0.0
    seen: int = 0
    best: float | None = None
    best_loss: float = 0.0  # of the epoch with the best score; of no meaning before there is one
    waited: int = 0  # epochs of the phase since the best
    finished: bool = False
    rows: list[EpochRow] = field(default_factory=list)
    sets: list[SetAccuracy] = field(default_factory=list)  # rows of verification.csv

    def take_step(self, images: int) -> None:
        """Count a step with so many images in all processes."""
        self.step, self.steps, self.phase_steps = self.step + 1, self.steps + 1, self.phase_steps + 1
        self.images += images

    def end_epoch(self) -> None:
        """Stand at the beginning of the next epoch."""
        self.epoch, self.phase_epoch, self.step = self.epoch + 1, self.phase_epoch + 1, 0
        self.loss_sum, self.correct, self.seen = 0.0, 0.0, 0

    def end_phase(self) -> None:
        """Stand at the beginning of the next phase."""
        self.phase, self.phase_epoch, self.phase_steps, self.waited = self.phase + 1, 0, 0, 0


def to_csv(rows: Iterable[EpochRow]) -> str:
    """Write the rows as CSV with a header; floats keep every bit."""
    return csv_text(FIELDS, ([*astuple(row)[:-1], int(row.best)] for row in rows))


def write_csv(folder: Path, position: Position) -> None:
    """Write metrics.csv, and verification.csv if there are sets, of a run so far."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "metrics.csv", to_csv(position.rows))
    if position.sets:
        names = [item.name for item in fields(SetAccuracy)]
        write_atomic(folder / "verification.csv", csv_text(names, map(astuple, position.sets)))


def read_csv(path: Path) -> tuple[EpochRow, ...]:
    """Read the rows of a `metrics.csv`.

    Raises:
        RunError: a column is missing or a cell is no number.
    """
    casts: dict[str, Any] = {"int": int, "float": float, "str": plain_cell, "bool": lambda text: text == "1"}
    with path.open(newline="", encoding="utf-8") as lines:
        try:
            return tuple(
                EpochRow(**{f.name: casts[str(f.type)](line[f.name]) for f in fields(EpochRow)})
                for line in csv.DictReader(lines)
            )
        except (KeyError, ValueError, TypeError) as error:
            raise RunError(f"{path}: no table of epochs ({error}); expected the columns {', '.join(FIELDS)}") from None


class StepNumbers:
    """Loss, hits and gradient norm of the steps that are not counted yet, oldest first: no step waits for its own."""

    def __init__(self) -> None:
        self._steps: deque[tuple[str, NDArray[np.int64], Readback]] = deque()

    def add(self, place: str, indices: NDArray[np.int64], numbers: Readback) -> None:
        """Take in a step.

        Args:
            place: of the step, for an error. indices: (B,) rows of the store. numbers: loss, hits, and the norm of the
                gradient where that must be a number.
        """
        self._steps.append((place, indices, numbers))

    def clear(self) -> None:
        """Forget the steps that are not counted yet."""
        self._steps.clear()

    def settle(self, position: Position, records: Callable[[], Sequence[Record]], later: int = 0) -> None:
        """Count the steps, all but the last `later`, in the position.

        Args:
            records: what the rows of the steps are of.
        Raises:
            NonFiniteLoss: the loss of a step, or the norm of its gradient, is no number.
        """
        while len(self._steps) > later:
            place, indices, numbers = self._steps.popleft()
            loss, correct, *norm = numbers.read()
            for what, number in zip(("loss", "gradient's norm"), (loss, *norm), strict=False):
                if not math.isfinite(number):
                    raise NonFiniteLoss(divergence(f"the {what} is {number}", place, records(), indices))
            position.loss_sum += loss * len(indices)
            position.correct += correct
            position.seen += len(indices)


def divergence(fault: str, place: str, records: Sequence[Record], indices: NDArray[np.int64] | None = None) -> str:
    """Say where training diverged, on which images, and what helps."""
    shown = [] if indices is None else [records[row].path for row in indices[:4]]
    if indices is not None and len(indices) > len(shown):
        shown.append("…")
    files = f"; images: {', '.join(shown)}" if shown else ""
    return f"{fault} at {place}{files}; lower optimizer.learning_rate or set training.clip"
