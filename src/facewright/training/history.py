"""The course of a run: its position, a row of metrics.csv for each epoch, and the handlers that write them down."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from facewright.errors import RunError
from facewright.events import EpochFinished, EpochRow, Event, EventHandler
from facewright.files import write_atomic

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
    return _table(FIELDS, ({**asdict(row), "best": int(row.best)} for row in rows))


def _table(names: Sequence[str], rows: Iterable[dict[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def read_csv(path: Path) -> tuple[EpochRow, ...]:
    """Read the rows of a `metrics.csv`.

    Raises:
        RunError: a column is missing or a cell is no number.
    """
    casts: dict[str, Callable[[str], Any]] = {"int": int, "float": float, "str": str, "bool": lambda text: text == "1"}
    with path.open(newline="", encoding="utf-8") as lines:
        try:
            return tuple(
                EpochRow(**{f.name: casts[str(f.type)](line[f.name]) for f in fields(EpochRow)})
                for line in csv.DictReader(lines)
            )
        except (KeyError, ValueError, TypeError) as error:
            raise RunError(
                f"{path}: not a table of epochs ({error}); expected the columns {', '.join(FIELDS)}"
            ) from None


def writing_csv(path: Path, position: Callable[[], Position]) -> EventHandler:
    """Return a handler that rewrites metrics.csv, and verification.csv if there are sets, after every epoch."""

    def handle(event: Event) -> None:
        if isinstance(event, EpochFinished):
            write_atomic(path, to_csv(position().rows))
            if position().sets:
                names = [item.name for item in fields(SetAccuracy)]
                write_atomic(path.with_name("verification.csv"), _table(names, map(asdict, position().sets)))

    return handle


def joined_handlers(*handlers: EventHandler) -> EventHandler:
    """Return one handler that passes every event to each, in order."""

    def handle(event: Event) -> None:
        for handler in handlers:
            handler(event)

    return handle
