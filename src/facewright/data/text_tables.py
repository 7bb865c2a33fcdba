"""Tables in text files: one reader for every .csv, .tsv and .txt, whatever stands between the values."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from facewright.data.pixel_sources import reason_of
from facewright.errors import DataError
from facewright.files import read_limited

MOST_ROWS = 1_000_000  # as many as an archive may have entries
MOST_BYTES = 256 * 2**20
_MARKS = (",", ";", "\t")
Row = tuple[int, list[str]]  # line number and values


@dataclass(frozen=True)
class TextTable:
    """The rows of a text, split into values without space around them; empty lines are left out."""

    name: str  # what errors call it
    rows: list[Row]
    mark: str  # what stands between two values; " " for any space

    def named_rows(self, header: Sequence[str], rows: Sequence[Row] | None = None) -> list[tuple[int, dict[str, str]]]:
        """Return (line number, column → value) pairs. Raises DataError where a row has another number of values."""
        found = []
        for line, values in self.rows if rows is None else rows:
            if len(values) != len(header):
                raise DataError(f"{self.name}: line {line}: expected {len(header)} values, got {len(values)}")
            found.append((line, dict(zip(header, values, strict=True))))
        return found


def read_text(path: Path, what: str) -> str:
    """Return the text of a file. Raises DataError where it is not there, too large or not UTF-8."""
    try:
        return text_of(read_limited(path, error=DataError, limit=MOST_BYTES))
    except DataError as error:
        raise DataError(f"{error}; expected {what}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: expected {what} in UTF-8; it cannot be read ({reason_of(error)})") from error


def text_of(content: bytes, errors: str = "strict") -> str:
    """Return the text of bytes in UTF-8, or in UTF-16 that says so, as spreadsheets save it; lines end with \\n.

    Raises:
        UnicodeDecodeError: they are neither.

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


def parse(text: str, name: str, *, most: int = MOST_ROWS) -> TextTable:
    """Split a text into rows and values.

    The mark is the one of , ; and tab that parts the first lines into equally many values; else any space.

    Raises:
        DataError: a quote that never ends, or more rows than `most`.
    """
    mark = mark_of(text, name)
    if mark == " ":
        lines = ((number, line.split()) for number, line in enumerate(text.splitlines(), 1))
        rows = list(_limited((row for row in lines if row[1]), name, most))
        widths = {len(values) for _, values in rows}
        if len(widths) > 1 and min(widths) > 1:  # a path may hold spaces
            rows = [(number, _rejoined(values, min(widths))) for number, values in rows]
        return TextTable(name, rows, mark)
    reader = csv.reader(io.StringIO(text), delimiter=mark, strict=True, skipinitialspace=True)
    lines = ((reader.line_num, [value.strip() for value in values]) for values in reader)
    try:
        return TextTable(name, list(_limited((row for row in lines if any(row[1])), name, most)), mark)
    except csv.Error as error:
        raise DataError(f"{name}: line {reader.line_num}: cannot be read as a table ({error})") from error


def _limited(rows: Iterator[Row], name: str, most: int) -> Iterator[Row]:
    for count, row in enumerate(rows):
        if count >= most:
            raise DataError(f"{name}: has more than {most:,} rows, which is the limit")
        yield row


def _rejoined(values: list[str], width: int) -> list[str]:
    """The first values as one, so that `width` are left."""
    first = len(values) - width + 1
    return [" ".join(values[:first]), *values[first:]]


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
