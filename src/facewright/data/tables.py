"""A table of pictures: a .csv or .tsv with the header `path,label[,identity][,split]`, one row a picture.

Paths are relative to the table's folder. A missing file is broken; a path that leaves the folder refuses the table,
and so does an unknown column: a slip such as `splt` would quietly mix the test part into training.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path, PurePosixPath

from facewright.data import archives
from facewright.data.folders import FileSource, said, unusable
from facewright.data.records import SPLIT_NAMES, SPLITS, Broken, Dataset, Record
from facewright.errors import DataError

_COLUMNS = ("path", "label", "identity", "split")


def open_table(path: Path) -> Dataset:
    """List a table.

    Args:
        path: the .csv (commas) or .tsv (tabulators), resolved.
    Raises:
        EmptyClass: none of a class's files exists.
        DataError: the table cannot be understood; names the line.
    """
    root = path.parent
    records: dict[str, Record] = {}
    broken: list[Broken] = []
    rows = _rows(path)
    classes = sorted({row["label"] for _, row in rows})
    label_of = {name: label for label, name in enumerate(classes)}
    for line, row in rows:
        name = PurePosixPath(row["path"]).as_posix()
        if name in records:
            raise DataError(f"{path}: line {line}: {name} is listed twice; keep one row a picture")
        records[name] = Record(name, label_of[row["label"]], row["identity"] or None, row["split"] or None)
        reason = unusable(root, name)
        if reason is not None:
            broken.append(Broken(name, reason))
    ordered = tuple(records[name] for name in sorted(records))
    return Dataset(path.stem, str(path), tuple(classes), ordered, FileSource(str(root))).without(broken)


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """(line number, checked row) pairs; absent columns are empty."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: expected a table in UTF-8; it cannot be read ({said(error)})") from error
    reader = csv.reader(io.StringIO(text), delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
    rows: list[tuple[int, dict[str, str]]] = []
    try:
        header = [column.strip() for column in next(reader, [])]
        if len(set(header)) != len(header) or not {"path", "label"} <= set(header) <= set(_COLUMNS):
            raise DataError(f"{path}: expected the header path,label[,identity][,split]; got {','.join(header)!r}")
        rows.extend((reader.line_num, _row(path, reader.line_num, header, values)) for values in reader if values)
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num}: cannot be read as a table ({error})") from error
    if not rows:
        raise DataError(f"{path}: expected a row a picture below the header; found none")
    if len({bool(row["split"]) for _, row in rows}) == 2:
        raise DataError(f"{path}: expected a split in every row or in none; some rows leave it empty")
    return rows


def _row(path: Path, line: int, header: list[str], values: list[str]) -> dict[str, str]:
    if len(values) != len(header):
        raise DataError(f"{path}: line {line}: expected {len(header)} values, got {len(values)}")
    row = dict.fromkeys(_COLUMNS, "") | {k: v.strip() for k, v in zip(header, values, strict=True)}
    name = row["path"].replace("\\", "/")
    if not name or "\0" in name or archives.escapes(name):
        raise DataError(f"{path}: line {line}: expected a path inside the table's folder, got {row['path']!r}")
    if not row["label"]:
        raise DataError(f"{path}: line {line}: the label of {row['path']} is empty")
    split = SPLIT_NAMES.get(row["split"].casefold(), "") if row["split"] else ""
    if row["split"] and not split:
        raise DataError(f"{path}: line {line}: expected the split {', '.join(SPLITS)} or nothing, got {row['split']!r}")
    return row | {"path": name, "split": split}
