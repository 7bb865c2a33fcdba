"""Shared parts of the readers of known data sets: lists, images with several facts each, pixels in the rows of a text.

A text of pixels (FER-2013) is listed once, to note where each row's numbers lie; they are read and checked when an
image is asked for. So the file may be larger than memory.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facewright.data.image_records import FileSource, Record, digest, reason_of, stamp_of
from facewright.data.label_files import ROLES, chosen_columns, class_names, dataset_of_rows
from facewright.data.records import Broken, Dataset, Labelled, split_of
from facewright.data.text_tables import MOST_ROWS, decode, parse, text_of
from facewright.data.trees import Tree
from facewright.errors import BadImage, DataError, UnknownName

Options = Mapping[str, str]
_HEAD = 2**14  # bytes of a text that are looked at
MOST_LINE = 2**22  # bytes of one row: 1,000 x 1,000 pixels


@dataclass(frozen=True)
class Layout:
    """One way in which a data set lies on a disk."""

    name: str
    recognizes: Callable[[Tree], str | None]  # gives the reason why a tree is one, or None
    read: Callable[[Tree, Options], Dataset]


def packed_alone(tree: Tree, kinds: tuple[str, ...]) -> str | None:
    """Return the first files of these kinds, where a folder holds such files and no image; else None."""
    found = [name for name in tree.packed if name.lower().endswith(kinds)]
    return " and ".join(found[:3]) if found and not tree.files and isinstance(tree.source, FileSource) else None


def text_called(tree: Tree, pattern: str) -> str | None:
    """Return the first text whose file name fits a regular expression, in lower case."""
    return next((text for text in tree.texts if re.fullmatch(pattern, text.rpartition("/")[2].casefold())), None)


def header_of(tree: Tree, text: str) -> list[str]:
    """Return the values of a text's first line, in lower case; none where it cannot be read."""
    file = Path(tree.source.root, text) if isinstance(tree.source, FileSource) else None
    if file is not None and not file.is_file():
        return []
    try:
        if file is None:
            head = tree.source.content(text)[:_HEAD]
        else:  # a table may be larger than an image may
            with file.open("rb") as opened:
                head = opened.read(_HEAD)
    except (OSError, BadImage):
        return []
    lines = text_of(head, "replace").splitlines()
    return [value.strip(' "').casefold() for value in lines[0].split(_mark(lines[0]))] if lines else []


def rows_of(tree: Tree, text: str, width: int | None = None) -> list[list[str]]:
    """Return the rows of a list. Raises DataError: there is none, or one has another number of values than `width`."""
    rows = [values for _, values in parse(decode(tree.source.content(text), text), f"{tree.where}/{text}").rows]
    wrong = next((values for values in rows if width is not None and len(values) != width), None)
    if not rows or wrong is not None:
        raise DataError(f"{tree.where}/{text}: expected {width or 'some'} values in each row, got {wrong or 'no row'}")
    return rows


def numbered_names(names: Sequence[str], first: int = 0) -> dict[str, str]:
    """Return the number of each name as text → the name."""
    return {str(number): name for number, name in enumerate(names, first)}


def choose_label(tree: Tree, options: Options, columns: Sequence[str], default: str) -> str:
    """The column that is the label: the chosen one, else the default."""
    chosen = chosen_columns(options.get("columns")).get("label", default)
    known = {column.casefold(): column for column in columns}
    if chosen.casefold() not in known:
        raise UnknownName(f"column of {tree.where}", chosen, columns)
    return known[chosen.casefold()]


def described(
    tree: Tree,
    options: Options,
    images: Iterable[tuple[str, Mapping[str, str]]],
    columns: Sequence[str],
    default: str,
    names: Mapping[str, Mapping[str, str]] | None = None,
) -> Dataset:
    """Build a data set of images with several facts each.

    Args:
        images: path as the data set's lists write it, and column → value; also "identity" and "split".
        columns: the facts that may be the label, the others are kept.
        default: the label if none is chosen.
        names: column → value → name of the class.
    """
    label = choose_label(tree, options, columns, default)
    others = [column for column in columns if column != label]
    named = class_names(options.get("names")) or (names or {}).get(label, {})
    rows: list[Labelled] = []
    broken = list(tree.broken)
    for name, facts in images:
        path = tree.find(name, word=facts.get("split", "")) or name
        reason = tree.reason(path) if path in tree.files or not tree.whole else "no such file"
        value = facts.get(label, "")
        if reason is not None or not value:
            broken.append(Broken(path, reason or f"has no {label}"))
        rest = tuple(facts.get(other, "") for other in others)
        rows.append(Labelled(path, named.get(value, value), facts.get("identity", ""), facts.get("split", ""), rest))
    more = f"; others: {', '.join(others)} (--columns label=NAME)" if others else ""
    notes = (f"the label is {label}{more}",)
    return dataset_of_rows(tree, rows, broken, "its lists", label_column=label, columns=tuple(others), notes=notes)


def noted(data: Dataset, note: str) -> Dataset:
    """Return a data set with one more note, if there is one."""
    return replace(data, notes=(*data.notes, *([note] if note else [])))


@dataclass(frozen=True)
class PixelRows:
    """Grey pixels as numbers in the rows of a text file, as FER-2013 has them; a record's path is its row."""

    file: str
    starts: NDArray[np.int64] = field(repr=False)  # (N,) where each row's numbers begin
    lengths: NDArray[np.int64] = field(repr=False)  # (N,) bytes of the numbers

    def read(self, record: Record, at_least: int | None) -> NDArray[np.uint8]:
        """As `PixelSource.read`; `at_least` makes nothing cheaper here."""
        words = self._text(record).split()
        side = int(len(words) ** 0.5)
        if side * side != len(words) or not words:
            raise BadImage(record.path, f"has {len(words):,} pixels, which make no square")
        try:
            values = np.array(words).astype(np.int64)
        except (ValueError, OverflowError):
            raise BadImage(record.path, "holds a pixel that is no whole number") from None
        if values.min() < 0 or values.max() > 255:
            raise BadImage(record.path, f"has pixels from {values.min()} to {values.max()}; expected 0 to 255")
        grey = values.astype(np.uint8).reshape(side, side, 1)
        return np.repeat(grey, 3, axis=2)

    def content_key(self, record: Record) -> str:
        """As `PixelSource.content_key`: a digest of the numbers."""
        return digest(self._text(record))

    def stamp(self, record: Record) -> str:
        """As `PixelSource.stamp`, of the text file."""
        return stamp_of(Path(self.file), record.path)

    def _text(self, record: Record) -> bytes:
        row = int(record.path)
        try:
            with Path(self.file).open("rb") as file:
                file.seek(int(self.starts[row]))
                return file.read(int(self.lengths[row]))
        except OSError as error:
            raise BadImage(record.path, f"cannot be read ({reason_of(error)})") from error


def open_pixel_rows(
    tree: Tree,
    text: str,
    names: Mapping[str, str],
    options: Options,
    votes: Sequence[tuple[str, Mapping[str, str]]] | None = None,
) -> Dataset:
    """List the images of a table of pixels.

    Args:
        tree: a folder, or the table itself. text: path of the table in it. names: label → class name.
        votes: a label and facts of each row, in place of the table's label; one without a label is left out.
    Raises:
        DataError: the table cannot be understood; names the line.
    """
    if not isinstance(tree.source, FileSource):
        raise DataError(f"{tree.where}: {text} holds pixels; unpack the archive first, they are read from the file")
    file = Path(tree.source.root, text)
    header = header_of(tree, text)
    places = _places(file, header, options)
    rows: list[Labelled] = []
    spans: list[tuple[int, int]] = []
    for where, span, said in _rows(file, places):
        facts = dict(votes[len(rows)][1]) if votes is not None and len(rows) < len(votes) else {}
        label = facts.pop("expression", "") if votes is not None else names.get(said["label"], said["label"])
        facts.pop("split", None)
        split = split_of(said.get("split", ""), where)
        rows.append(Labelled(f"{len(rows):07d}", label, said.get("identity", ""), split, tuple(facts.values())))
        spans.append(span)
    if not rows:
        raise DataError(f"{file}: expected a row an image below the header; found none")
    if votes is not None and len(votes) != len(rows):
        raise DataError(f"{file}: expected as many rows as there are votes ({len(votes):,}), got {len(rows):,}")
    broken = [Broken(row.path, "has no label, or no majority of votes") for row in rows if not row.label]
    columns = tuple(key for key in votes[0][1] if key not in ("expression", "split")) if votes else ()
    starts, lengths = np.array(spans, np.int64).T
    source = PixelRows(str(file), starts, lengths)
    label = "expression" if votes is not None else header[places["label"]]
    data = Dataset.of(file.stem, tree.where, rows, source, columns=columns)
    return replace(data, label_column=label).without(broken)


def _places(file: Path, header: list[str], options: Options) -> dict[str, int]:
    """Role → number of its column; "width" → how many there are."""
    if "pixels" not in header:
        raise DataError(f"{file}: expected a table in UTF-8 with a column pixels; save it as UTF-8")
    chosen = chosen_columns(options.get("columns"))
    found = {"pixels": header.index("pixels"), "width": len(header)}
    for role in ("label", "split", "identity"):
        wanted = (chosen[role].casefold(),) if role in chosen else ROLES[role]
        fitting = [number for number, name in enumerate(header) if name in wanted]
        if len(fitting) > 1 or (not fitting and (role == "label" or role in chosen)):
            got = ",".join(header)
            raise DataError(f"{file}: expected one column for the {role}, got {got}; say --columns {role}=COLUMN")
        if fitting:
            found[role] = fitting[0]
    return found


def _rows(file: Path, places: Mapping[str, int]) -> Iterator[tuple[str, tuple[int, int], dict[str, str]]]:
    """Each row: its name in errors, where its numbers begin in the file and their bytes, and role → value."""
    with file.open("rb") as lines:
        first = lines.readline(MOST_LINE)
        mark = _mark(first.decode("utf-8-sig", "replace")).encode()
        start = len(first)
        for number in count(2):
            line, where = lines.readline(MOST_LINE), f"{file}: line {number}"
            if not line:
                return
            if number > MOST_ROWS + 1:
                raise DataError(f"{file}: has more than {MOST_ROWS:,} rows, which is the limit")
            if len(line) == MOST_LINE:
                raise DataError(f"{where}: is longer than {MOST_LINE:,} bytes, which is the limit")
            cells = line.rstrip(b"\r\n").split(mark)
            if line.strip() and len(cells) != places["width"]:
                raise DataError(f"{where}: expected {places['width']} values, got {len(cells)}")
            if line.strip():
                yield where, *_row(start, cells, places)
            start += len(line)


def _row(start: int, cells: list[bytes], places: Mapping[str, int]) -> tuple[tuple[int, int], dict[str, str]]:
    pixels = places["pixels"]
    quoted = cells[pixels].startswith(b'"')
    start += sum(len(cell) + 1 for cell in cells[:pixels]) + quoted
    said = {
        role: cells[place].decode("utf-8", "replace").strip(' "') for role, place in places.items() if role in ROLES
    }
    return (start, len(cells[pixels]) - 2 * quoted), said


def _mark(line: str) -> str:
    return max(",;\t", key=line.count)
