"""Lists of pairs to verify: which two images, whether they show one person, and in which fold.

    pairs.txt            LFW View 2: `10<TAB>300`, then ten times 300 pairs of one person and 300 of two
    pairsDevTrain.txt    LFW View 1: `1100`, then 1,100 pairs of one person and 1,100 of two
    lfw.bin, …           InsightFace's sets, with their images (packed.py)
    pairs.csv, .tsv      a header `a,b,same[,fold]`, then a row a pair; paths are relative to the folder of images

A line of LFW's is `name n1 n2` (one person) or `name1 n1 name2 n2`; an image is `Name/Name_0001.jpg`, or that in one
flat folder, or with another suffix. A missing image is a failure to acquire: listed in `Pairs.broken`, its pairs stay.
Source: Huang, Ramesh, Berg, Learned-Miller, "Labeled Faces in the Wild", TR 07-49, 2007, section III and its README.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from facewright.data.archives import escapes, path_inside
from facewright.data.image_records import FileSource, PixelSource, unusable
from facewright.data.packed import read_verification_set
from facewright.data.records import Broken, Dataset, Record
from facewright.data.splits import groups_of
from facewright.data.text_tables import read_table, read_text
from facewright.data.trees import folder_of
from facewright.errors import DataError, UsageError
from facewright.images import is_hidden

_SUFFIXES = (".jpg", ".png", ".jpeg", ".webp", ".bmp", ".pgm", ".ppm", ".tif")
_FOLDS = 10  # of a .bin
_SAME = {"1": True, "true": True, "0": False, "false": False}
LISTED_SET = re.compile(r"(.+\.(?:csv|tsv|txt)):(.+)", re.IGNORECASE)  # LIST:FOLDER


@dataclass(frozen=True, eq=False)
class Pairs:
    """P pairs of images."""

    name: str  # of the list, without folder and suffix
    a: tuple[str, ...]  # (P,) paths below the folder of images, posix
    b: tuple[str, ...]
    same: NDArray[np.bool_]  # (P,) whether both show one person
    fold: NDArray[np.int64] | None  # (P,) the number of the set, from 0; None where the list has no folds
    people: tuple[tuple[str, str], ...] | None  # (P,) who is on a and on b; None where that is not known
    broken: tuple[Broken, ...] = ()  # the images that cannot be used, sorted by path, and why; each once
    notes: tuple[str, ...] = ()  # what a person should know about the list
    source: PixelSource | None = None  # of the images, where the list holds them; None: the folder of images

    def __len__(self) -> int:
        return len(self.a)

    def dataset(self, images: str | Path | None) -> Dataset:
        """The images of all pairs, each once, as a data set without classes; None: the list holds them."""
        root = self.name if images is None else str(Path(images).resolve())
        who = dict[str, str]()
        for people, *paths in zip(self.people or (), self.a, self.b, strict=False):
            who.update(zip(paths, people, strict=True))
        lost = {item.path for item in self.broken}
        paths = sorted({*self.a, *self.b} - lost)
        records = tuple(Record(path, None, identity=who.get(path)) for path in paths)
        return Dataset(self.name, root, (), records, self.source or FileSource(root), self.broken)

    def rows(self, records: Sequence[Record]) -> NDArray[np.int64]:
        """Find the images of each pair: (P, 2) positions in the embedded records; -1: a failure to acquire."""
        place = {record.path: row for row, record in enumerate(records)}
        return np.array([[place.get(path, -1) for path in pair] for pair in zip(self.a, self.b, strict=True)], np.int64)


def read_pairs(where: str | Path, images: str | Path | None) -> Pairs:
    """Read a list of pairs.

    Args:
        where: the list; .bin holds its images, .csv and .tsv are tables, everything else is read as LFW's.
        images: the folder of the images; None for a .bin.
    Raises:
        UsageError: the folder is missing, or given for a .bin.
        DataError: the list cannot be understood (names the line), a path leads out of the folder, or not one image of
            the list is there.
    """
    path = Path(where)
    if (path.suffix.lower() == ".bin") != (images is None):
        expected = "the folder of its images" if images is None else "no folder: the images are in the .bin"
        raise UsageError(f"{path}: expected {expected}")
    if images is None:
        return _read_set(path)
    root = Path(images).resolve()
    if not root.is_dir():
        raise DataError(f"{images}: expected the folder of the images that {path.name} names; there is none")
    table = path.suffix.lower() in (".csv", ".tsv")
    found = _read_table(path) if table else _read_lfw(path, read_text(path, "a list of pairs"), root)
    named = sorted({*found.a, *found.b})
    reasons = ((name, unusable(root, name)) for name in named)
    broken = tuple(Broken(name, reason) for name, reason in reasons if reason is not None)
    if len(broken) == len(named):
        raise DataError(f"{path}: not one of its {len(named):,} images is in {root} (the first: {broken[0].path})")
    _refuse_contradictions(path, found)
    return replace(found, broken=broken, notes=_notes(found, {item.path for item in broken}))


def pairs_among(people: Dataset, most: int, seed: int = 0) -> Pairs:
    """Draw pairs of images of a labelled data set: as many of one person as of two.

    There are half as many pairs of a kind as images, at `most` so many; as many of each person as that allows, two at
    least. Raises DataError: fewer than two people have two images.
    """
    drawn, names = np.random.default_rng(seed), dict[int, list[str]]()
    for record in people.records:
        if record.label is not None:
            names.setdefault(record.label, []).append(record.path)
    several = [names[label] for label in sorted(names) if len(names[label]) > 1]
    if len(several) < 2:
        raise DataError(f"{people.where}: expected at least two people with two images each; got {len(several)}")
    chosen = [several[k] for k in drawn.permutation(len(several))[: most // 2]]
    each = max(2, most // len(chosen))
    images = [(who, path) for who, paths in enumerate(chosen) for path in drawn.permutation(paths)[:each].tolist()]
    both = list(combinations(images, 2))
    same = np.array([first[0] == second[0] for first, second in both])
    of_one, of_two = (drawn.permutation(np.flatnonzero(same == kind))[: most // 2] for kind in (True, False))
    count = min(len(of_one), len(of_two))
    rows = np.concatenate([of_one[:count], of_two[:count]])
    a, b = (tuple(both[row][side][1] for row in rows) for side in (0, 1))
    return Pairs(people.name, a, b, same[rows], None, None)


def set_of(word: str | Path) -> tuple[Path, Path | None]:
    """Return the list of a set and the folder of its images; a .bin holds them.

    Raises:
        UsageError: neither a .bin nor LIST:FOLDER.
    >>> set_of("C:/lfw/pairs.txt:C:/lfw/images")[1].as_posix()
    'C:/lfw/images'
    """
    if str(word).lower().endswith(".bin"):
        return Path(word), None
    parts = LISTED_SET.fullmatch(str(word))
    if parts is None:
        sets = "a .bin, or LIST:FOLDER, a list of pairs and the folder of its images"
        raise UsageError(f"{word}: expected {sets} (for a benchmark also a folder with templates.csv)")
    return Path(parts[1]), Path(parts[2])


def _keys(pairs: Pairs) -> list[tuple[str, ...]]:
    return [tuple(sorted(pair)) for pair in zip(pairs.a, pairs.b, strict=True)]


def _refuse_contradictions(path: Path, pairs: Pairs) -> None:
    said: dict[tuple[str, ...], bool] = {}
    keys = _keys(pairs)
    wrong = [key for key, same in zip(keys, pairs.same.tolist(), strict=True) if said.setdefault(key, same) != same]
    if wrong:
        named = "; ".join(" and ".join(key) for key in wrong[:3])
        raise DataError(f"{path}: {len(wrong):,} pairs are listed as match and no match ({named}); remove one row")


def _notes(pairs: Pairs, lost: set[str]) -> tuple[str, ...]:
    notes = []
    twice = len(pairs) - len(set(_keys(pairs)))
    if twice:
        notes.append(f"{twice:,} of {len(pairs):,} pairs are listed more than once; each counts as often as listed")
    linked = [(k, k + len(pairs)) for k in np.flatnonzero(pairs.same).tolist()]
    person = groups_of([*pairs.a, *pairs.b], linked)
    wrong = [k for k in np.flatnonzero(~pairs.same).tolist() if person[k] == person[k + len(pairs)]]
    if wrong:
        first = f"{pairs.a[wrong[0]]} and {pairs.b[wrong[0]]}"
        notes.append(f"{len(wrong):,} pairs are listed as no match although other rows link them ({first}); check them")
    if pairs.people is None and pairs.fold is None:
        notes.append("who is shown is not known (folders are not people), so no accuracy is measured without folds")
    without = sum(bool(lost & {a, b}) for a, b in zip(pairs.a, pairs.b, strict=True))
    if without:
        notes.append(f"{without:,} of {len(pairs):,} pairs lack an image: {len(lost):,} images cannot be used")
    return tuple(notes)


def _read_lfw(path: Path, text: str, root: Path) -> Pairs:
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    folds, each = _header(path, lines[0][1] if lines else "")
    parsed = [_line(path, number, line) for number, line in lines[1:]]
    same = np.array([a[0] == b[0] for a, b in parsed], np.bool_)
    size = 2 * each
    if len(parsed) != folds * size:
        raise DataError(
            f"{path}: its header declares {folds * size:,} pairs ({folds} x {each:,} of one person, as many of two); "
            f"it holds {len(parsed):,}"
        )
    for fold in range(folds):
        found = int(same[fold * size : (fold + 1) * size].sum())
        if found != each:
            raise DataError(
                f"{path}: expected {each:,} pairs of one person and as many of two in lines "
                f"{lines[fold * size + 1][0]} to {lines[(fold + 1) * size][0]} (fold {fold + 1}), got {found:,} and "
                f"{size - found:,}"
            )
    files = _Files(root)
    return Pairs(
        path.stem,
        tuple(files.path(*a) for a, _ in parsed),
        tuple(files.path(*b) for _, b in parsed),
        same,
        np.repeat(np.arange(folds, dtype=np.int64), size) if folds > 1 else None,
        tuple((a[0], b[0]) for a, b in parsed),
    )


def _header(path: Path, line: str) -> tuple[int, int]:
    values = line.split()
    if not 1 <= len(values) <= 2 or not all(_is_number(value) for value in values):
        raise DataError(
            f"{path}: line 1: expected a header of LFW (folds and pairs a kind, `10 300`, or pairs a kind, "
            f"`1100`), got {line[:60]!r}; a table of pairs is called .csv"
        )
    numbers = [int(value) for value in values]
    return (numbers[0], numbers[1]) if len(numbers) == 2 else (1, numbers[0])


def _line(path: Path, number: int, line: str) -> tuple[tuple[str, int], tuple[str, int]]:
    values = [value.strip() for value in line.split("\t")] if "\t" in line else line.split()
    if len(values) == 3:
        values = [values[0], values[1], values[0], values[2]]
        one = True
    elif len(values) == 4:
        one = False
    else:
        raise DataError(f"{path}: line {number}: expected `name n1 n2` or `name1 n1 name2 n2`, got {line[:80]!r}")
    (who, which, other, also) = values
    for name in (who, other):
        if not name or "/" in name or escapes(name) or "\\" in name or "\0" in name or name == ".":
            raise DataError(f"{path}: line {number}: expected the name of a person, got {name!r}")
    if not (_is_number(which) and _is_number(also)):
        raise DataError(f"{path}: line {number}: expected the numbers of images from 1, got {which!r} and {also!r}")
    if who == other and not one:
        raise DataError(f"{path}: line {number}: expected two people, got {who} twice; `name n1 n2` is one person")
    if one and int(which) == int(also):
        raise DataError(f"{path}: line {number}: expected two images, got image {which} of {who} twice")
    return (who, int(which)), (other, int(also))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 6 and int(text) > 0


class _Files:
    """Name and numbers → paths, as they lie in a folder."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: dict[tuple[str, int], str] = {}
        self._folders: dict[str, dict[str, str]] = {}

    def path(self, person: str, number: int) -> str:
        """The image's path, whether nested or flat; as LFW has it where there is none."""
        if (person, number) not in self._known:
            stem = f"{person}_{number:04d}"
            there = (self._in_folder(folder).get(stem) for folder in (person, ""))
            self._known[person, number] = next((path for path in there if path), f"{person}/{stem}.jpg")
        return self._known[person, number]

    def _in_folder(self, folder: str) -> dict[str, str]:
        """Stem → path of the images in a folder; of several suffixes the first of `_SUFFIXES`, in any case."""
        if folder not in self._folders:
            try:
                names = sorted(entry.name for entry in os.scandir(self._root / folder) if not is_hidden(entry.name))
            except OSError:
                names = []
            found = [PurePosixPath(folder, name) for name in names if PurePosixPath(name).suffix.lower() in _SUFFIXES]
            found.sort(key=lambda path: -_SUFFIXES.index(path.suffix.lower()))
            self._folders[folder] = {path.stem: path.as_posix() for path in found}
        return self._folders[folder]


def _read_set(path: Path) -> Pairs:
    """Read InsightFace's set; its folds are ten runs of pairs in order, as its own evaluation takes them."""
    source, truths = read_verification_set(path)
    names, count = tuple(source.names), len(truths)
    sizes = [len(part) for part in np.array_split(np.arange(count), _FOLDS)]
    fold = np.repeat(np.arange(_FOLDS, dtype=np.int64), sizes) if count >= _FOLDS else None
    return Pairs(path.stem, names[::2], names[1::2], np.array(truths, np.bool_), fold, None, source=source)


def _read_table(path: Path) -> Pairs:
    table = read_table(
        path, "a list of pairs", lambda names: {*names} - {"fold"} == {"a", "b", "same"}, "a,b,same[,fold]"
    )
    rows = [_row(path, line, row) for line, row in table]
    if not rows:
        raise DataError(f"{path}: expected a row a pair below the header; found none")
    a, b = tuple(row["a"] for row in rows), tuple(row["b"] for row in rows)
    same = np.array([_SAME[row["same"]] for row in rows], np.bool_)
    fold = np.array([int(row["fold"]) for row in rows], np.int64) if "fold" in rows[0] else None
    return Pairs(path.stem, a, b, same, fold, _people(a, b, same))


def _row(path: Path, line: int, row: dict[str, str]) -> dict[str, str]:
    for column in ("a", "b"):
        row[column] = path_inside(row[column], f"{path}: line {line}")
    if row["a"] == row["b"]:
        raise DataError(f"{path}: line {line}: expected two images, got {row['a']} twice")
    row["same"] = row["same"].lower()
    if row["same"] not in _SAME:
        raise DataError(f"{path}: line {line}: expected same to be 1 or 0 (or true, false), got {row['same']!r}")
    if "fold" in row and not (row["fold"].isascii() and row["fold"].isdigit() and len(row["fold"]) <= 6):
        raise DataError(f"{path}: line {line}: expected the number of a fold, got {row['fold']!r}")
    return row


def _people(a: Iterable[str], b: Iterable[str], same: NDArray[np.bool_]) -> tuple[tuple[str, str], ...] | None:
    """The folders of the images, where they are people: equal exactly where the list says that the people are."""
    folders = [(folder_of(first), folder_of(second)) for first, second in zip(a, b, strict=True)]
    agree = all(x and y and (x == y) == bool(one) for (x, y), one in zip(folders, same, strict=True))
    return tuple(folders) if agree else None
