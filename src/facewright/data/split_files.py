"""split.csv: which record is in which part, one line a record, so that a run can be evaluated and repeated."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from facewright.data.records import SPLITS, Dataset, Record
from facewright.errors import DataError
from facewright.files import csv_text, plain_cell, write_atomic

COLUMNS = ["path", "label", "part", "group"]


def write_parts(path: Path, dataset: Dataset, parts: Sequence[str], groups: Sequence[str]) -> None:
    """Write the file whole or not at all.

    Args:
        parts: (N,) "train", "validation", "test", or "" for a record that is in none.
        groups: (N,) what must stay together; usually pixel digests.
    Raises:
        DataError: the lengths differ.
        FacewrightError: the file cannot be written.
    """
    if not len(parts) == len(groups) == len(dataset.records):
        raise DataError(f"{path}: {len(dataset.records)} records, {len(parts)} parts, {len(groups)} groups")
    rows = zip(dataset.records, parts, groups, strict=True)
    write_atomic(
        path, csv_text(COLUMNS, ([record.path, _label(dataset, record), part, group] for record, part, group in rows))
    )


def read_parts(path: Path, dataset: Dataset, groups: Sequence[str] | None) -> list[str]:
    """Read the part of each record and checks that the file is about these records.

    Returns:
        (N,) part names, in the dataset's order.
    Raises:
        DataError: no such file, not a split file, or other records; the first that differs is named.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [[plain_cell(cell) for cell in row] for row in csv.reader(file)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a readable split file: {error}") from error
    if not rows or rows[0] != COLUMNS:
        raise DataError(f"{path}: not a split file: expected the columns {','.join(COLUMNS)}")
    for number, (record, row) in enumerate(zip(dataset.records, rows[1:], strict=False)):
        expected = [record.path, _label(dataset, record), None, None if groups is None else groups[number]]
        if len(row) != len(COLUMNS) or row[2] not in (*SPLITS, ""):
            raise DataError(f"{path}: line {number + 2} is not `{','.join(COLUMNS)}`")
        for name, wanted, found in zip(COLUMNS, expected, row, strict=True):
            if wanted is not None and wanted != found:
                what = "image has changed" if name == "group" else f"{name} is {found!r} in the split file"
                raise DataError(f"{path} is about other data: {record.path!r}: {what}")
    _check_length(path, dataset, rows[1:])
    return [row[2] for row in rows[1:]]


def _check_length(path: Path, dataset: Dataset, rows: list[list[str]]) -> None:
    found, known = len(rows), len(dataset.records)
    if found != known:
        first = dataset.records[found].path if found < known else rows[known][0]
        where = "in the data, not in the split file" if found < known else "in the split file, not in the data"
        raise DataError(f"{path} is about other data: {first!r} is {where} ({found} lines for {known} records)")


def _label(dataset: Dataset, record: Record) -> str:
    return "" if record.label is None else dataset.classes[record.label]
