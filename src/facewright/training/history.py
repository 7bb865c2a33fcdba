"""The course of a run: one row an epoch, kept in `metrics.csv`."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from facewright.errors import RunError
from facewright.events import EpochRow

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
