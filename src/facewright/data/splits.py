"""Train, validation, test: who sees which image.

Every splitter moves whole units: records that must stay together, such as images with equal pixels (one digest), near
duplicates where the caller asks for it, or images of one person. The order in which units are dealt out comes from a
hash of seed and unit, so it depends neither on the order of the input nor on a random generator, and an image added
later moves few of the others.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facewright.data.records import SPLITS, Dataset, Record
from facewright.errors import DataError, UsageError
from facewright.files import csv_text, plain_cell, write_atomic

PARTS = SPLITS
COLUMNS = ["path", "label", "part", "group"]


@dataclass(frozen=True)
class Split:
    """Three disjoint sets of record numbers, each ascending.

    `notes` are sentences for the reader: what was carved from where, what was left out.
    """

    train: NDArray[np.int64]  # indices into the dataset's records
    validation: NDArray[np.int64]
    test: NDArray[np.int64]
    notes: tuple[str, ...] = ()

    def save(self, path: Path, dataset: Dataset, digests: Sequence[str]) -> None:
        """Write `path,label,part,group`, one line a record in the dataset's order, whole or not at all.

        The digests (N,), or any other group names, become the column `group`. Raises DataError: an index is outside of
        the dataset. FacewrightError: the file cannot be written.
        """
        parts = [""] * len(dataset.records)  # "": in no part
        if len(digests) != len(parts):
            raise DataError(f"{path}: {len(parts)} records, {len(digests)} groups")
        for name, indices in zip(PARTS, (self.train, self.validation, self.test), strict=True):
            if indices.size and (indices.min() < 0 or indices.max() >= len(parts)):
                raise DataError(f"{path}: the split counts record {indices.max()}, the dataset has {len(parts)}")
            for index in indices.tolist():
                parts[index] = name
        rows = zip(dataset.records, parts, digests, strict=True)
        lines = ([record.path, _label(dataset, record), part, group] for record, part, group in rows)
        write_atomic(path, csv_text(COLUMNS, lines))

    @classmethod
    def load(cls, path: Path, dataset: Dataset, digests: Sequence[str] | None = None) -> Split:
        """Read what `save` wrote, for the same records; where digests are given, their images must be unchanged too.

        Raises DataError: no such file, not a split file, or other records (the first that differs is named).
        """
        rows = _read(path)
        for number, (record, row) in enumerate(zip(dataset.records, rows, strict=False)):
            expected = [record.path, _label(dataset, record), None, None if digests is None else digests[number]]
            if len(row) != len(COLUMNS) or row[2] not in (*PARTS, ""):
                raise DataError(f"{path}: line {number + 2} is not `{','.join(COLUMNS)}`")
            for name, wanted, found in zip(COLUMNS, expected, row, strict=True):
                if wanted is not None and wanted != found:
                    what = "image has changed" if name == "group" else f"{name} is {found!r} in the split file"
                    raise DataError(f"{path} is about other data: {record.path!r}: {what}")
        _check_length(path, dataset, rows)
        return _split({name: [i for i, row in enumerate(rows) if row[2] == name] for name in PARTS})


def stratified(
    labels: NDArray[np.int64], groups: Sequence[str], seed: int, validation: float = 0.1, test: float = 0.2
) -> Split:
    """Split every class by the same shares, whole units at a time.

    Units stand in the order of a hash of seed and group. With n records in the class and k placed so far, a unit goes
    to test while k < round(test·n), then to validation while k < round(test·n) + round(validation·n), then to train.
    A unit larger than the test share (copies of one photo) stays in train. A class of three units or more has at least
    one in each part whose share is above zero, as far as the others reach.

    Args:
        labels: (N,) class numbers. A unit belongs to the class of its first record.
        groups: (N,) unit names (`groups_of`). validation, test: shares of each class, in [0, 1); together below 1.
    Raises:
        UsageError: shares out of range, or lengths that differ.

    >>> split = stratified(np.zeros(10, np.int64), list("abcdefghij"), seed=0)
    >>> len(split.train), len(split.validation), len(split.test)
    (7, 1, 2)
    """
    _check_shares(len(labels), len(groups), validation, test)
    parts: dict[str, list[int]] = {name: [] for name in PARTS}
    for units in units_by_class(labels, groups).values():
        ordered = in_hash_order(units, str(seed))
        for name, chosen in zip(PARTS, _dealt(ordered, validation, test), strict=True):
            parts[name] += [index for unit in chosen for index in unit]
    return _split(parts)


def by_identity(
    identities: Sequence[str], groups: Sequence[str], seed: int, validation: float = 0.1, test: float = 0.2
) -> Split:
    """Split people, not images: no person is in two parts (verification must be tested on unknown people).

    People in the order of a hash fill test, then validation: one is taken where that brings the part nearer to its
    share. Two people who share a group (one image under two names) stay together. Args as in `stratified`; the shares
    are of records. Raises UsageError: shares out of range, lengths that differ, or fewer people than parts with a
    share.
    """
    _check_shares(len(identities), len(groups), validation, test)
    units: dict[str, list[int]] = defaultdict(list)
    for index, person in enumerate(people_of(identities, groups)):
        units[person].append(index)
    wanted = {"test": round(test * len(identities)), "validation": round(validation * len(identities))}
    if len(units) < 1 + (test > 0) + (validation > 0):
        raise UsageError(
            f"a split by identity needs a person for each part; found {len(units)} without copies: add some"
        )
    left = in_hash_order(units, str(seed))
    parts: dict[str, list[int]] = {name: [] for name in PARTS}
    for name, share in (("test", test), ("validation", validation)):
        reserve = 1 + (name == "test" and validation > 0)  # people that the parts after this one need
        chosen = _fill([len(unit) for unit in left], wanted[name], reserve) if share > 0 else set()
        parts[name] = [index for i, unit in enumerate(left) if i in chosen for index in unit]
        left = [unit for i, unit in enumerate(left) if i not in chosen]
    parts["train"] = [index for unit in left for index in unit]
    return _split(parts)


def k_fold(
    labels: NDArray[np.int64], groups: Sequence[str], seed: int, folds: int = 5, validation: float = 0.1
) -> list[Split]:
    """Cut every class into `folds` test parts of nearly equal size; each record is tested exactly once.

    Args:
        labels, groups, seed: as in `stratified`. folds: 2 or more.
        validation: share of each class, of the records that are not in the fold's test part; drawn again for each.
    Raises:
        UsageError: fewer than two folds, shares out of range, lengths that differ.
    """
    if folds < 2:
        raise UsageError(f"cross-validation needs two folds or more, not {folds}")
    _check_shares(len(labels), len(groups), validation, 1 / folds)
    fold_of = np.zeros(len(labels), np.int64)
    for number, units in enumerate(units_by_class(labels, groups).values()):
        total, placed = sum(map(len, units.values())), 0
        for unit in in_hash_order(units, str(seed)):
            # Starting each class at another fold spreads the remainders of the division.
            fold_of[unit] = (placed * folds // total + number) % folds
            placed += len(unit)
    return [_fold(labels, groups, fold_of == fold, f"{seed}/{fold}", validation) for fold in range(folds)]


def given(
    dataset: Dataset,
    groups: Sequence[str],
    seed: int,
    validation: float = 0.1,
    test: float = 0.2,
    people: Sequence[str] | None = None,
) -> Split:
    """The split that the data came with (folders or a column), completed where a part is missing.

    A missing validation part is carved from train, stratified; so is a missing test part. A train or validation image
    whose group is in test too is left out of every part, and of validation's groups none stays in train: the given test
    part is kept as published and stays unseen. `notes` says all this.

    Args:
        dataset: every record has a `split`. groups: (N,) unit names (`groups_of`).
        seed, validation, test: for what has to be carved; shares of the given train part's classes.
        people: (N,) who is shown: what is carved shares no person with the rest; None: classes are carved.
    Raises:
        DataError: no record has a given split, some have none, or train would be empty.
    """
    parts = _given_parts(dataset)
    notes = []
    for owner, loser in (("test", "train"), ("test", "validation"), ("validation", "train")):
        owned = {groups[index] for index in parts[owner]}
        kept = [index for index in parts[loser] if groups[index] not in owned]
        if len(kept) < len(parts[loser]):
            lost = len(parts[loser]) - len(kept)
            verb = "image is" if lost == 1 else "images are"
            notes.append(f"{lost} {loser} {verb} left out, for having a copy in {owner}")
        parts[loser] = kept
    missing = [name for name in ("validation", "test") if not parts[name]]
    if missing:
        rest = np.asarray(parts["train"], np.int64)
        shares = {"validation": validation, "test": test}
        wanted = {name: shares[name] if name in missing else 0.0 for name in shares}
        units = [groups[index] for index in parts["train"]]
        if people is None:
            carved = stratified(dataset.labels[rest], units, seed, **wanted)
        else:
            carved = by_identity([people[index] for index in parts["train"]], units, seed, **wanted)
        for name in missing:
            parts[name] = rest[getattr(carved, name)].tolist()
            notes.append(f"the data has no {name} part: {len(parts[name])} images were carved from train")
        parts["train"] = rest[carved.train].tolist()
    if not parts["train"]:
        raise DataError(f"{dataset.where}: nothing is left to train on in the split that the data came with")
    return _split(parts, tuple(notes))


def _check_shares(records: int, groups: int, validation: float, test: float) -> None:
    if records != groups:
        raise UsageError(f"expected a group for each of {records} records, got {groups}")
    if not (validation >= 0 and test >= 0 and validation + test < 1):
        raise UsageError(f"validation ({validation}) and test ({test}) must be >= 0 and together below 1")


def largest_unit(total: int, validation: float, test: float) -> int:
    """The size of the largest unit that may leave the training part of a class."""
    return max(1, round((test or validation) * total))


def _dealt(units: Sequence[list[int]], validation: float, test: float) -> tuple[list[list[int]], ...]:
    """The units of a class for train, validation and test; they are dealt out in their order."""
    total = sum(map(len, units))
    large = [unit for unit in units if len(unit) > largest_unit(total, validation, test)]
    small = [unit for unit in units if len(unit) <= largest_unit(total, validation, test)]
    starts = np.concatenate([[0], np.cumsum([len(unit) for unit in small])])[:-1]  # records placed before each unit
    for_test = round(test * total)
    first = int((starts < for_test).sum())
    second = int((starts < for_test + round(validation * total)).sum())
    if len(units) >= 3:  # rounding, or one big unit, must leave no part without an image
        reserve = int(not large)  # units that train needs
        first = min(max(first, int(test > 0)), max(0, len(small) - reserve - (validation > 0)))
        second = min(max(second, first + int(validation > 0)), max(0, len(small) - reserve))
    return [*small[second:], *large], small[first:second], small[:first]


def _fill(sizes: Sequence[int], wanted: int, reserve: int) -> set[int]:
    """The units that bring a part nearest to its wanted size, taken in order; at least one, and `reserve` stay."""
    chosen: set[int] = set()
    filled = 0
    for number, size in enumerate(sizes):
        if len(sizes) - len(chosen) > reserve and abs(filled + size - wanted) < abs(filled - wanted):
            chosen.add(number)
            filled += size
    return chosen or {int(np.argmin(sizes))}


def _fold(
    labels: NDArray[np.int64], groups: Sequence[str], tested: NDArray[np.bool_], seed: str, validation: float
) -> Split:
    parts: dict[str, list[int]] = {"train": [], "validation": [], "test": np.flatnonzero(tested).tolist()}
    rest = np.flatnonzero(~tested)
    for units in units_by_class(labels[rest], [groups[index] for index in rest.tolist()]).values():
        train, chosen, _ = _dealt(in_hash_order(units, seed), validation, 0.0)
        parts["validation"] += [int(rest[index]) for unit in chosen for index in unit]
        parts["train"] += [int(rest[index]) for unit in train for index in unit]
    return _split(parts)


def _given_parts(dataset: Dataset) -> dict[str, list[int]]:
    parts: dict[str, list[int]] = {name: [] for name in PARTS}
    for index, record in enumerate(dataset.records):
        if record.split is None:
            raise DataError(f"{dataset.where}: {record.path} belongs to no given part; expected one of {PARTS}")
        parts[record.split].append(index)
    return parts


def _split(parts: Mapping[str, Sequence[int]], notes: tuple[str, ...] = ()) -> Split:
    train, validation, test = (np.asarray(sorted(parts[name]), np.int64) for name in PARTS)
    return Split(train, validation, test, notes)


def _read(path: Path) -> list[list[str]]:
    """The rows of a split file. Raises DataError."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [[plain_cell(cell) for cell in row] for row in csv.reader(file)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a readable split file: {error}") from error
    if not rows or rows[0] != COLUMNS:
        raise DataError(f"{path}: not a split file: expected the columns {','.join(COLUMNS)}")
    return rows[1:]


def _check_length(path: Path, dataset: Dataset, rows: list[list[str]]) -> None:
    found, known = len(rows), len(dataset.records)
    if found != known:
        first = dataset.records[found].path if found < known else rows[known][0]
        where = "in the data, not in the split file" if found < known else "in the split file, not in the data"
        raise DataError(f"{path} is about other data: {first!r} is {where} ({found} lines for {known} records)")


def _label(dataset: Dataset, record: Record) -> str:
    return "" if record.label is None else dataset.classes[record.label]


def groups_of(digests: Sequence[str], near: Iterable[Sequence[int]] = ()) -> list[str]:
    """Name the unit of each record: equal digests share one, and so do the two sides of each near pair.

    The name is the smallest digest of the unit, thus the digest itself where nothing is near.

    >>> groups_of(["c", "a", "b", "a"], near=[(0, 2)])
    ['b', 'a', 'b', 'a']
    """
    parent = {digest: digest for digest in digests}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]  # path halving
            name = parent[name]
        return name

    for first, second in near:
        low, high = sorted((root(digests[int(first)]), root(digests[int(second)])))
        parent[high] = low
    return [root(digest) for digest in digests]


def people_of(identities: Sequence[str], groups: Sequence[str]) -> list[str]:
    """Name the unit of each record when people must stay together: two people who share a group are one unit.

    >>> people_of(["ann", "bob", "cid"], ["1", "2", "1"])
    ['g1', 'g2', 'g1']
    """
    nodes = [f"i{identity}" for identity in identities] + [f"g{group}" for group in groups]
    return groups_of(nodes, ((row, row + len(groups)) for row in range(len(groups))))[: len(identities)]


def units_by_class(labels: NDArray[np.int64], groups: Sequence[str]) -> dict[int, dict[str, list[int]]]:
    """Class number → group → record numbers; classes ascending. A unit belongs to the class of its first record."""
    units: dict[str, list[int]] = defaultdict(list)
    for index, group in enumerate(groups):
        units[group].append(index)
    classes: dict[int, dict[str, list[int]]] = defaultdict(dict)
    for group, members in units.items():
        classes[int(labels[members[0]])][group] = members
    return dict(sorted(classes.items()))


def in_hash_order(units: Mapping[str, list[int]], seed: str) -> list[list[int]]:
    """The units' members, ordered by a hash of seed and name."""

    def place(group: str) -> str:
        return blake2b(f"{seed}:{group}".encode(), digest_size=8).hexdigest()

    return [units[group] for group in sorted(units, key=place)]
