"""Tables in text files: one reader for every .csv, .tsv and .txt, whatever stands between the values.

Tables of numbers, also .npy, and random points of a known function: `function:monkey-saddle?points=500`. There a cell
that is no finite number is an error, with its line: a guessed value would be a wrong result that goes unnoticed.
"""

from __future__ import annotations

import codecs
import csv
import io
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facewright.data.addresses import parse_query
from facewright.errors import DataError, UnknownName, UsageError
from facewright.files import read_limited

MOST_ROWS = 1_000_000  # as many as an archive may have entries
MOST_BYTES = 256 * 2**20
_MARKS = (",", ";", "\t")
Row = tuple[int, list[str]]  # line number and values
Numbers = NDArray[np.float64]
NUMBER_KINDS = (".csv", ".tsv", ".npy")
_NUMBERS = f"a table of numbers ({', '.join(NUMBER_KINDS)})"


@dataclass(frozen=True)
class TextTable:
    """The rows of a text, split into values without space around them; empty lines are left out."""

    name: str  # what errors call it
    rows: list[Row]
    mark: str  # what stands between two values; " " for any space

    def named_rows(self, header: Sequence[str], rows: Sequence[Row]) -> list[tuple[int, dict[str, str]]]:
        """Return (line number, column → value) pairs. Raises DataError where a row has another number of values."""
        found = []
        for line, values in rows:
            if len(values) != len(header):
                raise DataError(f"{self.name}: line {line}: expected {len(header)} values, got {len(values)}")
            found.append((line, dict(zip(header, values, strict=True))))
        return found


def read_text(path: Path, what: str) -> str:
    """Return the text of a file. Raises DataError where it is not there, too large or not UTF-8."""
    try:
        return decode(read_limited(path, error=DataError, limit=MOST_BYTES), str(path))
    except DataError as error:
        raise DataError(f"{error}; expected {what}") from None


def text_of(content: bytes, errors: str = "strict") -> str:
    """Return the text of bytes in UTF-8, or in UTF-16 that says so, as spreadsheets save it; lines end with \\n.

    Raises UnicodeDecodeError: they are neither.

    >>> text_of(b"a,b\\r1,2"), text_of("a".encode("utf-16"))
    ('a,b\\n1,2', 'a')
    """
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = content.decode("utf-16" if wide else "utf-8-sig", errors)
    return text if "\n" in text else text.replace("\r", "\n")


def decode(content: bytes, name: str) -> str:
    """Return bytes as text; see `text_of`. Raises DataError where they are none."""
    if len(content) > MOST_BYTES:
        raise DataError(f"{name}: has {len(content):,} bytes; the limit for a table is {MOST_BYTES:,}")
    try:
        text = text_of(content)
    except UnicodeDecodeError as error:
        raise DataError(f"{name}: expected a text in UTF-8; it cannot be read ({error})") from error
    if "\0" in text:
        line = 1 + text[: text.index("\0")].count("\n")
        raise DataError(f"{name}: line {line}: holds a zero byte: it is damaged, or in UTF-16; save it as UTF-8")
    return text


def parse(text: str, name: str) -> TextTable:
    """Split a text into rows and values.

    The mark is the one of , ; and tab that parts the first lines into equally many values; else any space. Raises
    DataError: a quote that never ends, or too many rows.
    """
    mark = mark_of(text, name)
    reader = csv.reader(io.StringIO(text), delimiter=mark, strict=True, skipinitialspace=True)
    lines: Iterable[Row] = ((reader.line_num, [value.strip() for value in values]) for values in reader)
    if mark == " ":
        lines = ((number, line.split()) for number, line in enumerate(text.splitlines(), 1))
    try:
        rows = list(islice((row for row in lines if any(row[1])), MOST_ROWS + 1))
    except csv.Error as error:
        raise DataError(f"{name}: line {reader.line_num}: cannot be read as a table ({error})") from error
    if len(rows) > MOST_ROWS:
        raise DataError(f"{name}: has more than {MOST_ROWS:,} rows, which is the limit")
    width = min((len(values) for _, values in rows), default=0)
    if mark == " " and width > 1:  # a path may hold spaces
        rows = [(line, [" ".join(values[: 1 - width]), *values[1 - width :]]) for line, values in rows]
    return TextTable(name, rows, mark)


def mark_of(text: str, name: str) -> str:
    """Return what stands between the values of a text: ",", ";", tab, or " " for any space.

    >>> mark_of("a b.jpg;1\\nc d.jpg;2", "labels.txt"), mark_of("a.jpg 1", "labels.txt")
    (';', ' ')
    """
    lines = [line for line in text[: 2**16].splitlines()[:20] if line.strip()]
    if len(text) > 2**16 and len(lines) > 1:
        lines.pop()  # cut
    suffix = Path(name).suffix.lower()
    for mark in sorted(_MARKS, key=lambda mark: (suffix == ".tsv") != (mark == "\t")):
        counts = {line.count(mark) for line in lines}
        if len(counts) == 1 and counts != {0}:
            return mark
    if suffix in (".csv", ".tsv"):  # quoted values may hold the mark
        usual = "\t" if suffix == ".tsv" else ","
        first = lines[0] if lines else ""
        return next((mark for mark in (usual, *_MARKS) if mark in first), usual)
    return " "


def read_table(
    path: Path, what: str, columns: Callable[[Sequence[str]], bool], expected: str
) -> list[tuple[int, dict[str, str]]]:
    """Return (line number, column → value) pairs of a table whose header is checked.

    Args:
        what: it is called in errors ("a table of boxes"). columns: tells whether a header, in lower case, will do.
        expected: the header in words.
    Raises:
        DataError: the table cannot be understood; names the line.
    """
    table = parse(read_text(path, what), str(path))
    header = [column.lower() for column in table.rows[0][1]] if table.rows else []
    if len(set(header)) != len(header) or not columns(header):
        raise DataError(f"{path}: expected the header {expected}; got {','.join(header)[:80]!r}")
    return table.named_rows(header, table.rows[1:])


def read_numbers(path: Path) -> tuple[tuple[str, ...], Numbers, bool]:
    """Read a table: names of the columns, finite values (N, columns), and True if the names stand in the file.

    Raises DataError: no such file, another kind, no row, or a cell that is no finite number; names line and column.
    """
    suffix = path.suffix.lower()
    if suffix not in NUMBER_KINDS:
        raise DataError(f"{path}: expected {_NUMBERS}, got {suffix or 'no suffix'}")
    if not path.is_file():
        raise DataError(f"{path}: {'a folder' if path.is_dir() else 'no such file'}; expected {_NUMBERS}")
    return _read_array(path) if suffix == ".npy" else _read_table(path)


def numbered(columns: int) -> tuple[str, ...]:
    """Return the names of columns that have none."""
    return tuple(f"column{number}" for number in range(1, columns + 1))


def _read_array(path: Path) -> tuple[tuple[str, ...], Numbers, bool]:
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


def _read_table(path: Path) -> tuple[tuple[str, ...], Numbers, bool]:
    table = parse(read_text(path, _NUMBERS), str(path))
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
POINT_DEFAULTS = {"points": "500", "noise": "0", "seed": "0"}
MOST_OF_POINTS = {"points": 1_000_000, "noise": 1e12, "seed": 2**32 - 1}


@dataclass(frozen=True)
class Function:
    """A known function, and the box that its points are drawn from uniformly."""

    formula: str
    names: tuple[str, ...]  # of the inputs, then of the target
    box: tuple[tuple[float, float], ...]
    of: Callable[..., Numbers]  # one array (N,) an input


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


def draw_points(source: str) -> tuple[str, str, tuple[str, ...], Numbers, str]:
    """Draw the points of a function's address: name, complete address, columns, values (N, columns), formula.

    Raises UnknownName: no such function or key. UsageError: a key given twice, or a value out of range.
    """
    name, _, query = source.removeprefix(FUNCTION).partition("?")
    if name not in FUNCTIONS:
        raise UnknownName("function", name, FUNCTIONS)
    function, given = FUNCTIONS[name], dict(POINT_DEFAULTS)
    given |= parse_query(source, query, POINT_DEFAULTS, "function")
    points, noise, seed = (_value(key, given[key]) for key in POINT_DEFAULTS)
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
    if not low <= value <= MOST_OF_POINTS[key]:
        kind = "a number" if key == "noise" else "a whole number"
        raise UsageError(f"function: {key}: expected {kind} from {low} to {MOST_OF_POINTS[key]:,g}, got {text!r}")
    return value
