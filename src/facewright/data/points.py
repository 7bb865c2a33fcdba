"""Points of a function: rows of inputs and targets, for regression.

    points.csv, points.tsv                  a column a quantity; a header where its cells are no numbers
    points.npy                              a matrix (N, columns) of plain numbers
    function:monkey-saddle?points=500       points of a known function: functions.py

The last column is the target where none is named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facewright.data import functions
from facewright.data.number_tables import NumberTable, read_numbers
from facewright.data.splits import Split, stratified
from facewright.errors import DataError, UnknownName, UsageError

FEWEST = 20  # rows: 14 to learn from, 3 to stop by, 3 to measure on


@dataclass(frozen=True)
class Points:
    """What is to be fitted: a target, or several, as a function of the inputs."""

    name: str
    where: str
    inputs: NDArray[np.float64]  # (N, D), finite
    targets: NDArray[np.float64]  # (N, K), finite, no column constant
    input_names: tuple[str, ...]
    target_names: tuple[str, ...]
    formula: str = ""  # of a built-in function

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def fingerprint(self) -> str:
        """Of names and values, in order; 16 hexadecimal digits."""
        digest = blake2b("\n".join((*self.input_names, "", *self.target_names)).encode(), digest_size=8)
        digest.update(np.ascontiguousarray(np.hstack([self.inputs, self.targets])).tobytes())
        return digest.hexdigest()

    def split(self, seed: int, validation: float, test: float) -> Split:
        """Train, validation and test rows by a hash of seed and inputs.

        Neither the order of the rows nor a random generator decides, and rows of equal inputs stay on one side.

        Raises:
            UsageError: shares out of range.
            DataError: a part stays empty; says how many distinct rows there are.
        """
        keys = [row.tobytes().hex() for row in self.inputs + 0.0]  # -0.0 becomes 0.0, its equal
        split = stratified(np.zeros(len(self), np.int64), keys, seed, validation, test)
        parts = {"training": split.train, "validation": split.validation, "test": split.test}
        for name, rows in parts.items():
            if not len(rows):
                raise DataError(
                    f"{self.where}: the {name} part has no row; expected more than the {len(set(keys))} rows with "
                    "different inputs that there are, or other shares"
                )
        return split


def open_points(where: str | Path, targets: Sequence[str] = ()) -> Points:
    """Read the points at `where`.

    Args:
        where: a .csv, .tsv or .npy, or "function:…"; the kinds are at the top of this file.
        targets: names of the target columns; the last column where none is named. All others are inputs.
    Raises:
        DataError: the file cannot be understood, holds no two columns, fewer than 20 rows or a constant target.
        UnknownName: no column has the name of a target; the nearest is named.
        UsageError: a target is named twice, or no column is left as an input.
    >>> points = open_points("function:sinc?points=40")
    >>> len(points), points.input_names, points.target_names
    (40, ('x',), ('y',))
    """
    if isinstance(where, str) and where.startswith(functions.SCHEME):
        drawn = functions.draw(where)
        table = NumberTable(
            (*drawn.function.inputs, drawn.function.target), np.c_[drawn.inputs, drawn.target], named=True
        )
        return _points(drawn.name, drawn.where, table, targets, drawn.function.formula)
    path = Path(where)
    return _points(path.stem, str(path.resolve()), read_numbers(path), targets)


def read_inputs(path: Path, names: Sequence[str]) -> NDArray[np.float64]:
    """New rows for a fitted function.

    Args:
        path: a table with these columns, in any order and among others; without a header, exactly these in order.
        names: of the inputs.
    Returns:
        (N, D) in the order of `names`.
    Raises:
        DataError: as `read_numbers`, or an input is missing.
    """
    table = read_numbers(path)
    if not table.named:
        if len(table.names) != len(names):
            raise DataError(
                f"{path}: expected {len(names)} columns ({', '.join(names)}), got {len(table.names)} without names"
            )
        return table.values
    missing = [name for name in names if name not in table.names]
    if missing:
        raise DataError(f"{path}: column {missing[0]!r} is missing; it has {', '.join(table.names)}")
    return table.values[:, [table.names.index(name) for name in names]]


def _points(name: str, where: str, table: NumberTable, targets: Sequence[str], formula: str = "") -> Points:
    if len(table.names) < 2:
        raise DataError(f"{where}: expected at least two columns, inputs and a target; got {table.names[0]!r} alone")
    chosen = tuple(targets) if targets else table.names[-1:]
    for target in chosen:
        if target not in table.names:
            raise UnknownName(f"column of {where}", target, table.names)
        if chosen.count(target) > 1:
            raise UsageError(f"target {target!r} is named twice")
    rest = tuple(column for column in table.names if column not in chosen)
    if not rest:
        raise UsageError(f"{where}: every column is named as a target; leave one as an input")
    picked = [table.values[:, [table.names.index(column) for column in columns]] for columns in (rest, chosen)]
    _check(where, picked[1], chosen)
    return Points(name, where, picked[0], picked[1], rest, chosen, formula)


def _check(where: str, targets: NDArray[np.float64], names: Sequence[str]) -> None:
    if len(targets) < FEWEST:
        raise DataError(f"{where}: expected at least {FEWEST} rows to train, validate and test; got {len(targets)}")
    for name, column in zip(names, targets.T, strict=True):
        if column.min() == column.max():
            raise DataError(f"{where}: the target {name} is {column[0]:g} in every row; there is nothing to fit")
