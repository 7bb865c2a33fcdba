"""Points of a function: rows of inputs and targets.

    points.csv, points.tsv                               a column a quantity; a header where its cells are no numbers
    points.npy                                           a matrix (N, columns) of numbers
    function:monkey-saddle?points=500&noise=0&seed=0     random points of a known function; these are the defaults

The last column is the target unless others are named. A cell that is no finite number is an error, with its line: a
guessed value would be a wrong result that goes unnoticed.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from urllib.parse import parse_qsl

import numpy as np
from numpy.typing import NDArray

from facewright.data.splits import Split, stratified
from facewright.errors import DataError, UnknownName, UsageError

Array = NDArray[np.float64]

FUNCTION = "function:"
FEWEST = 20  # rows: 14 for training, 3 for validation, 3 for the test
DELIMITERS = {".csv": (",", "commas"), ".tsv": ("\t", "tabs")}
KINDS = "(.csv, .tsv, .npy)"
DEFAULTS = {"points": "500", "noise": "0", "seed": "0"}
MOST = {"points": 1_000_000, "noise": 1e12, "seed": 2**32 - 1}


@dataclass(frozen=True)
class Function:
    """A known function, and the box that its points are drawn from uniformly."""

    formula: str
    names: tuple[str, ...]  # of the inputs, then of the target
    box: tuple[tuple[float, float], ...]
    of: Callable[..., Array]  # one array (N,) an input


FUNCTIONS = {
    "monkey-saddle": Function(
        "z = x³ − 3xy²", ("x", "y", "z"), ((-10, 10), (-50, 50)), lambda x, y: x**3 - 3 * x * y**2
    ),
    "sinc": Function("y = sin(x) / x", ("x", "y"), ((-15, 15),), lambda x: np.sinc(x / np.pi)),
    # J. H. Friedman, "Multivariate adaptive regression splines", Annals of Statistics 19 (1991), eq. 61
    "friedman": Function(
        "y = 10 sin(πab) + 20(c − ½)² + 10d + 5e", (*"abcde", "y"), ((0, 1),) * 5,
        lambda a, b, c, d, e: 10 * np.sin(np.pi * a * b) + 20 * (c - 0.5) ** 2 + 10 * d + 5 * e,
    ),
}  # fmt: skip


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
        return _points(*_drawn(source), targets)
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


def read_numbers(path: Path) -> tuple[tuple[str, ...], Array, bool]:
    """Read a table: names of the columns, finite values (N, columns), and True if the names stand in the file.

    Raises:
        DataError: no such file, another kind, no row, or a cell that is no finite number; names line and column.
    """
    suffix = path.suffix.lower()
    if suffix not in (*DELIMITERS, ".npy"):
        raise DataError(f"{path}: expected a table of numbers {KINDS}, got {suffix or 'no suffix'}")
    if not path.is_file():
        raise DataError(
            f"{path}: {'a folder' if path.is_dir() else 'no such file'}; expected a table of numbers {KINDS}"
        )
    return _read_array(path) if suffix == ".npy" else _read_text(path, *DELIMITERS[suffix])


def _read_array(path: Path) -> tuple[tuple[str, ...], Array, bool]:
    try:  # mapped: a header that promises more than the file holds is refused before memory is reserved
        stored = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: not an array of numbers in NumPy's format; Python objects are never read") from error
    if stored.dtype.kind not in "iuf" or stored.ndim != 2:
        raise DataError(f"{path}: expected a matrix of real numbers, got {stored.dtype} of shape {stored.shape}")
    values = np.array(stored, np.float64)
    bad = np.argwhere(~np.isfinite(values))
    if not len(values) or len(bad):
        where = f"row {bad[0][0] + 1}, column {bad[0][1] + 1} is {values[tuple(bad[0])]}" if len(bad) else "no row"
        raise DataError(f"{path}: {where}; expected rows of finite numbers")
    return _numbered(values.shape[1]), values, False


def _read_text(path: Path, delimiter: str, kind: str) -> tuple[tuple[str, ...], Array, bool]:
    try:
        reader = csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig")), delimiter=delimiter, strict=True)
        lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if any(map(str.strip, cells))]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as a table in UTF-8 ({error})") from error
    if not lines:
        raise DataError(f"{path}: the file is empty; expected rows of numbers")
    first = lines[0][1]
    if len(first) == 1 and any(mark in first[0] for mark in ",;\t|"):
        raise DataError(f"{path}: line {lines[0][0]}: expected values separated by {kind}, got {first[0]!r}")
    named = not all(_number(cell) is not None for cell in first)
    names = _header(path, *lines[0]) if named else _numbered(len(first))
    values = [_row(path, line, cells, names) for line, cells in lines[named:]]
    if not values:
        raise DataError(f"{path}: found no row below the header; expected rows of numbers")
    return names, np.array(values), named


def _header(path: Path, line: int, cells: list[str]) -> tuple[str, ...]:
    for number, name in enumerate(cells, 1):
        if not name or cells.count(name) > 1 or _number(name) is not None:
            raise DataError(f"{path}: line {line}: column {number} is called {name!r}; expected a name of its own")
    return tuple(cells)


def _row(path: Path, line: int, cells: list[str], names: Sequence[str]) -> list[float]:
    if len(cells) != len(names):
        raise DataError(f"{path}: line {line}: expected {len(names)} values, got {len(cells)}")
    values = [_number(cell) for cell in cells]
    for name, cell, value in zip(names, cells, values, strict=True):
        if value is None or not math.isfinite(value):
            raise DataError(f"{path}: line {line}: {name} is {cell!r}; expected a finite number")
    return [value for value in values if value is not None]


def _number(cell: str) -> float | None:
    """Read a cell; None: no number. Python's 1_000 is no number in a table."""
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


def _numbered(columns: int) -> tuple[str, ...]:
    return tuple(f"column{number}" for number in range(1, columns + 1))


def _drawn(source: str) -> tuple[str, str, tuple[str, ...], Array, str]:
    """Draw the points of a function's address: name, complete address, columns, values (N, columns), formula."""
    name, _, query = source.removeprefix(FUNCTION).partition("?")
    if name not in FUNCTIONS:
        raise UnknownName("function", name, FUNCTIONS)
    function, given = FUNCTIONS[name], dict(DEFAULTS)
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        raise UsageError(f"{source!r}: expected key=value, several joined by &") from None
    for key, text in pairs:
        if key not in DEFAULTS:
            raise UnknownName("key of function", key, DEFAULTS)
        if [other for other, _ in pairs].count(key) > 1:
            raise UsageError(f"{source!r}: {key} is given twice")
        given[key] = text
    points, noise, seed = (_value(key, given[key]) for key in DEFAULTS)
    random = np.random.default_rng(int(seed))
    low, high = np.array(function.box, float).T
    inputs = random.uniform(low, high, (int(points), len(low)))
    target = function.of(*inputs.T) + noise * random.standard_normal(int(points))
    address = f"{FUNCTION}{name}?points={int(points)}&noise={noise:.12g}&seed={int(seed)}"
    return name, address, function.names, np.c_[inputs, target], function.formula


def _value(key: str, text: str) -> float:
    low = 1 if key == "points" else 0
    try:
        value = float(text) if key == "noise" else float(int(text))
    except (ValueError, OverflowError):
        value = math.nan
    if not low <= value <= MOST[key]:
        kind = "a number" if key == "noise" else "a whole number"
        raise UsageError(f"function: {key}: expected {kind} from {low} to {MOST[key]:,g}, got {text!r}")
    return value


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
