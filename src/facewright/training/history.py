"""The course of a run: one row an epoch, kept in `metrics.csv`."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from facewright.errors import RunError


@dataclass(frozen=True)
class EpochRow:
    """One row of metrics.csv."""

    epoch: int  # from 1
    phase: str
    images_seen: int  # by training, since the start of the run
    steps: int  # as above
    image_size: int  # side in pixels the epoch was trained at
    learning_rate: float  # at the last step of the epoch
    train_loss: float
    train_accuracy: float  # on augmented pictures, while the weights moved
    validation_loss: float
    validation_accuracy: float
    validation_score: float  # of the metric that chooses the best epoch, the higher the better
    seconds: float  # wall seconds of training and validating, since the start of the run
    images_per_second: float  # of the training part of this epoch
    best: bool  # the best on the chosen metric so far


FIELDS = tuple(field.name for field in fields(EpochRow))


def to_csv(rows: Iterable[EpochRow]) -> str:
    """The rows as CSV with a header; floats keep every bit."""
    out = io.StringIO()
    writer = csv.DictWriter(out, FIELDS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({**asdict(row), "best": int(row.best)})
    return out.getvalue()


def read_csv(path: Path) -> tuple[EpochRow, ...]:
    """The rows of a `metrics.csv`.

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
