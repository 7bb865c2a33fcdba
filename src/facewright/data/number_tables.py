"""Tables of numbers, .csv, .tsv and .npy, and random points of a known function: `function:monkey-saddle?points=500`.

A cell that is no finite number is an error, with its line: a guessed value would be a wrong result that goes unnoticed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facewright.data.addresses import parse_query
from facewright.data.text_tables import parse, read_text
from facewright.errors import DataError, UnknownName, UsageError

Array = NDArray[np.float64]
KINDS = (".csv", ".tsv", ".npy")
_WANTED = f"a table of numbers ({', '.join(KINDS)})"


def read_numbers(path: Path) -> tuple[tuple[str, ...], Array, bool]:
    """Read a table: names of the columns, finite values (N, columns), and True if the names stand in the file.

    Raises:
        DataError: no such file, another kind, no row, or a cell that is no finite number; names line and column.
    """
    suffix = path.suffix.lower()
    if suffix not in KINDS:
        raise DataError(f"{path}: expected {_WANTED}, got {suffix or 'no suffix'}")
    if not path.is_file():
        raise DataError(f"{path}: {'a folder' if path.is_dir() else 'no such file'}; expected {_WANTED}")
    return _read_array(path) if suffix == ".npy" else _read_table(path)


def numbered(columns: int) -> tuple[str, ...]:
    """Return the names of columns that have none."""
    return tuple(f"column{number}" for number in range(1, columns + 1))


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
    return numbered(values.shape[1]), values, False


def _read_table(path: Path) -> tuple[tuple[str, ...], Array, bool]:
    table = parse(read_text(path, _WANTED), str(path))
    if not table.rows:
        raise DataError(f"{path}: the file is empty; expected rows of numbers")
    line, first = table.rows[0]
    named = not all(_number(cell) is not None for cell in first)
    names = _header(path, line, first) if named else numbered(len(first))
    rows = table.named_rows(names, table.rows[named:])
    if not rows:
        raise DataError(f"{path}: found no row below the header; expected rows of numbers")
    return names, np.array([_finite(path, line, row) for line, row in rows]), named


def _header(path: Path, line: int, cells: Sequence[str]) -> tuple[str, ...]:
    for number, name in enumerate(cells, 1):
        if not name or cells.count(name) > 1 or _number(name) is not None:
            raise DataError(f"{path}: line {line}: column {number} is called {name!r}; expected a name of its own")
    return tuple(cells)


def _finite(path: Path, line: int, row: dict[str, str]) -> list[float]:
    values = []
    for name, cell in row.items():
        value = _number(cell)
        if value is None or not math.isfinite(value):
            raise DataError(f"{path}: line {line}: {name} is {cell!r}; expected a finite number")
        values.append(value)
    return values


def _number(cell: str) -> float | None:
    """Read a cell; None: no number. Python's 1_000 is no number in a table."""
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


FUNCTION = "function:"
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


def draw_points(source: str) -> tuple[str, str, tuple[str, ...], Array, str]:
    """Draw the points of a function's address: name, complete address, columns, values (N, columns), formula.

    Raises:
        UnknownName: no such function or key. UsageError: a key given twice, or a value out of range.
    """
    name, _, query = source.removeprefix(FUNCTION).partition("?")
    if name not in FUNCTIONS:
        raise UnknownName("function", name, FUNCTIONS)
    function, given = FUNCTIONS[name], dict(DEFAULTS)
    given |= parse_query(source, query, DEFAULTS, "function")
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
