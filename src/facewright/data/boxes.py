"""True boxes of photos: a .csv or .tsv with the header `file[,split],x,y,w,h`, one row a box, in pixels.

A row with an empty x, y, w and h says that the photo shows no face. Photos are found by how their paths end: the table
may stand beside their folder or above it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray

from facewright.data.records import split_of
from facewright.data.text_tables import read_table
from facewright.errors import DataError

_NUMBERS = ("x", "y", "w", "h")


@dataclass(frozen=True)
class TrueBoxes:
    """The boxes of each photo of a table."""

    boxes: Mapping[str, NDArray[np.float64]]  # file -> (T, 4) x, y, width, height
    splits: Mapping[str, str]  # file -> train, validation or test; "" where the table has no splits

    def entry_of(self, photo: Path) -> str | None:
        """The file of the table that a photo is, or None. Raises DataError: its name alone would fit several."""
        parts = photo.resolve().parts
        fitting = [file for file in self.boxes if PurePath(file).parts == parts[-len(PurePath(file).parts) :]]
        if len(fitting) > 1:
            raise DataError(f"{photo}: fits {len(fitting)} files of the boxes ({', '.join(fitting[:3])}); rename one")
        return fitting[0] if fitting else None


def read_boxes(path: Path) -> TrueBoxes:
    """Read a table of boxes. Raises DataError: not understood, or a photo stands in two splits; names the line."""
    boxes: dict[str, list[list[float]]] = {}
    splits: dict[str, str] = {}
    needs = {"file", *_NUMBERS}
    rows = read_table(path, "a table of boxes", lambda header: {*header} - {"split"} == needs, "file[,split],x,y,w,h")
    for line, row in rows:
        where, file = f"{path}: line {line}", row["file"].replace("\\", "/")
        if not file:
            raise DataError(f"{where}: expected the name of a photo, got nothing")
        split = split_of(row.get("split", ""), where)
        if splits.setdefault(file, split) != split:
            raise DataError(f"{where}: {file} is in two splits; keep one")
        found = boxes.setdefault(file, [])
        if any(row[name] for name in _NUMBERS):
            found.append(_box(where, row))
    return TrueBoxes({file: np.array(found).reshape(-1, 4) for file, found in boxes.items()}, splits)


def _box(where: str, row: Mapping[str, str]) -> list[float]:
    try:
        box = [float(row[name]) for name in _NUMBERS]
    except ValueError:
        box = []
    if not box or not all(map(math.isfinite, box)) or min(box[2:]) <= 0:
        given = ",".join(row[name] for name in _NUMBERS)
        raise DataError(f"{where}: expected x, y and a width and height above 0, all in pixels, got {given!r}")
    return box


def splits_of(files: Sequence[str], table: TrueBoxes) -> dict[str, list[int]]:
    """Positions of the files of each split that occurs, in the order train, validation, test; {} without splits."""
    named = [table.splits[file] for file in files]
    return {
        split: [index for index, name in enumerate(named) if name == split]
        for split in ("train", "validation", "test")
        if split in named
    }
