"""Files of numbers: .csv, .tsv and .npy read into one matrix with named columns.

A first line in which no cell is a number is the header; without one the columns are called column1, column2, …
Whatever is not a finite number refuses the file and is named with its line: a value that is guessed is a wrong result
that nobody sees.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facewright.data.pixel_sources import reason_of
from facewright.errors import DataError

SUFFIXES = (".csv", ".tsv", ".npy")


@dataclass(frozen=True)
class NumberTable:
    """A matrix and the names of its columns."""

    names: tuple[str, ...]
    values: NDArray[np.float64]  # (N, columns), finite
    named: bool  # the names stand in the file


def read_numbers(path: Path) -> NumberTable:
    """Read a table of numbers.

    Args:
        path: .csv (commas), .tsv (tabulators), both UTF-8, or .npy with a matrix (N, columns).
    Raises:
        DataError: no such file, another kind, no row, rows of different lengths, a column named twice, or a cell that
            is no finite number; names the line and the column.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(f"{path}: expected a table of numbers ({', '.join(SUFFIXES)}), got {suffix or 'no suffix'}")
    if not path.is_file():
        why = "is a folder" if path.is_dir() else "there is no such file"
        raise DataError(f"{path}: {why}; expected a table of numbers ({', '.join(SUFFIXES)})")
    return _read_array(path) if suffix == ".npy" else _read_text(path, "\t" if suffix == ".tsv" else ",")


def _read_array(path: Path) -> NumberTable:
    try:
        # Mapped, so that a header which promises more than the file holds is refused before memory is asked for.
        stored = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"{path}: expected an array of plain numbers in NumPy's format; it cannot be read ({reason_of(error)}); "
            "arrays of Python objects are never read"
        ) from None
    if stored.dtype.kind not in "iuf":
        raise DataError(f"{path}: expected an array of real numbers, got {stored.dtype}")
    if stored.ndim != 2:
        raise DataError(f"{path}: expected a matrix, a row a point and a column a quantity; got shape {stored.shape}")
    values = np.array(stored, np.float64)
    if not len(values):
        raise DataError(f"{path}: expected rows of numbers; found none")
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        row, column = (int(number) for number in bad[0])
        raise DataError(
            f"{path}: row {row + 1}, column {column + 1} is {values[row, column]}; expected finite numbers, "
            "remove the row or fill it in"
        )
    return NumberTable(_numbered(values.shape[1]), values, named=False)


def _read_text(path: Path, delimiter: str) -> NumberTable:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: expected a table in UTF-8; it cannot be read ({reason_of(error)})") from error
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
    try:
        lines = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num}: cannot be read as a table ({error})") from error
    if not lines:
        raise DataError(f"{path}: expected rows of numbers; the file is empty")
    if len(lines[0][1]) == 1 and any(mark in lines[0][1][0] for mark in ",;\t|"):
        kind = "tabulators (.tsv)" if delimiter == "\t" else "commas (.csv)"
        raise DataError(f"{path}: line {lines[0][0]}: expected values with {kind} between, got {lines[0][1][0]!r}")
    names = _header(path, *lines[0])
    rows = lines if names is None else lines[1:]
    if not rows:
        raise DataError(f"{path}: expected rows of numbers below the header; found none")
    known = names if names is not None else _numbered(len(rows[0][1]))
    values = np.array([_row(path, line, cells, known) for line, cells in rows])
    return NumberTable(known, values, named=names is not None)


def _header(path: Path, line: int, cells: list[str]) -> tuple[str, ...] | None:
    """The names in the first line; None where it is a row of numbers."""
    names = tuple(cell.strip() for cell in cells)
    numbers = [_number(name) is not None for name in names]
    if all(numbers):
        return None
    if any(numbers):
        odd = names[numbers.index(False)]
        raise DataError(f"{path}: line {line}: {odd!r} is no number; expected a row of numbers, or names and none")
    if "" in names:
        raise DataError(f"{path}: line {line}: column {names.index('') + 1} has no name; give it one")
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise DataError(f"{path}: line {line}: {len(twice)} columns are called {twice[0]!r}; names must differ")
    return names


def _row(path: Path, line: int, cells: list[str], names: Sequence[str]) -> list[float]:
    if len(cells) != len(names):
        hint = "; numbers take a point, not a comma" if len(cells) > len(names) else ""
        raise DataError(f"{path}: line {line}: expected {len(names)} values, got {len(cells)}{hint}")
    values = []
    for name, cell in zip(names, cells, strict=True):
        value = _number(cell)
        if value is None or not math.isfinite(value):
            got = "nothing" if not cell.strip() else repr(cell.strip())
            raise DataError(
                f"{path}: line {line}: {name} is {got}; expected a finite number, remove the line or fill it in"
            )
        values.append(value)
    return values


def _number(cell: str) -> float | None:
    """What a cell says, or None. Python's own 1_000 is no number in a table."""
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


def _numbered(columns: int) -> tuple[str, ...]:
    return tuple(f"column{number}" for number in range(1, columns + 1))
