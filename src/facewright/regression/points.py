"""Points of a function: rows of inputs and targets.

    points.csv, points.tsv                               a column a quantity; a header where its cells are no numbers
    points.npy                                           a matrix (N, columns) of numbers
    function:monkey-saddle?points=500&noise=0&seed=0     random points of a known function; these are the defaults

The last column is the target unless others are named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np

from facewright.data.splits import Split, stratified
from facewright.data.text_tables import FUNCTION, draw_points, read_numbers
from facewright.errors import DataError, UnknownName, UsageError
from facewright.regression.regressor import Array

FEWEST = 20  # rows: 14 for training, 3 for validation, 3 for the test


@dataclass(frozen=True)
class Points:
    """Inputs and targets of the function to be fitted."""

    name: str
    source: str
    inputs: Array  # (N, D), finite
    targets: Array  # (N, K), finite, no column constant
    input_names: tuple[str, ...]
    target_names: tuple[str, ...]
    formula: str = ""  # of a built-in function

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def fingerprint(self) -> str:
        """Hash of names and values, in order; 16 hexadecimal digits."""
        digest = blake2b("\n".join((*self.input_names, "", *self.target_names)).encode(), digest_size=8)
        digest.update(np.ascontiguousarray(np.hstack([self.inputs, self.targets])).tobytes())
        return digest.hexdigest()

    def split(self, seed: int, validation: float, test: float) -> Split:
        """Split by a hash of seed and inputs: the order of rows does not matter, equal inputs stay together.

        Raises:
            UsageError: shares out of range. DataError: a part stays empty.
        """
        keys = [row.tobytes().hex() for row in self.inputs + 0.0]  # -0.0 becomes 0.0, its equal
        split = stratified(np.zeros(len(self), np.int64), keys, seed, validation, test)
        for part in ("train", "validation", "test"):
            if not len(getattr(split, part)):
                raise DataError(f"{self.source}: no row for the {part} part; got {len(set(keys))} distinct inputs")
        return split


def open_points(source: str | Path, targets: Sequence[str] = ()) -> Points:
    """Read points.

    Args:
        source: a .csv, .tsv or .npy file, or "function:NAME?key=value&…".
        targets: names of the target columns; default: the last column. All others are inputs.
    Raises:
        DataError: not a table of numbers, fewer than 2 columns or 20 rows, or a constant target.
        UnknownName: no such column, function or key. UsageError: a target named twice, no input left, a bad value.
    >>> points = open_points("function:sinc?points=40")
    >>> len(points), points.input_names, points.target_names
    (40, ('x',), ('y',))
    """
    if isinstance(source, str) and source.startswith(FUNCTION):
        return _points(*draw_points(source), targets)
    path = Path(source)
    names, values, _ = read_numbers(path)
    return _points(path.stem, str(path.resolve()), names, values, "", targets)


def read_inputs(path: Path, names: Sequence[str]) -> Array:
    """Read new inputs (N, D): the named columns in any order, or without a header exactly these in order.

    Raises:
        DataError: not a table of numbers, or a column is missing.
    """
    columns, values, named = read_numbers(path)
    if not named and len(columns) != len(names):
        raise DataError(f"{path}: expected {len(names)} columns ({', '.join(names)}), got {len(columns)} without names")
    missing = [name for name in names if named and name not in columns]
    if missing:
        raise DataError(f"{path}: column {missing[0]!r} is missing; it has {', '.join(columns)}")
    return values[:, [columns.index(name) for name in names]] if named else values


def _points(
    name: str, source: str, names: tuple[str, ...], values: Array, formula: str, targets: Sequence[str]
) -> Points:
    if len(names) < 2:
        raise DataError(f"{source}: expected at least two columns, inputs and a target; got {names[0]!r} alone")
    chosen = tuple(targets) or names[-1:]
    for target in chosen:
        if target not in names:
            raise UnknownName(f"column of {source}", target, names)
        if chosen.count(target) > 1:
            raise UsageError(f"target {target!r} is named twice")
    rest = tuple(column for column in names if column not in chosen)
    if not rest:
        raise UsageError(f"{source}: every column is a target; expected at least one input")
    if len(values) < FEWEST:
        raise DataError(f"{source}: expected at least {FEWEST} rows to train, validate and test; got {len(values)}")
    inputs, outputs = (values[:, [names.index(column) for column in columns]] for columns in (rest, chosen))
    for target, column in zip(chosen, outputs.T, strict=True):
        if column.min() == column.max():
            raise DataError(f"{source}: the target {target} is {column[0]:g} in every row; there is nothing to fit")
    return Points(name, source, inputs, outputs, rest, chosen, formula)
