"""The vectors of a gallery in memory, and the exact search among them.

One matrix product in float32 finds candidates; their scores are then computed again in float64, so that neither the
batch size nor the machine's order of additions decides who is first.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

SCORES = 1 << 24  # computed at a time: 64 MB
RESCORED = 1 << 16  # rows at a time
SLACK = 1e-4  # above the error of a float32 dot product of unit vectors (D times 6e-8, for D up to 1,600)
GROWTH = 1.25

Number = TypeVar("Number", bound=np.generic)
Hit = tuple[int, float]  # the number of an entry, its score


class VectorIndex:
    """Entries of one width; they can be added but not removed.

    Args:
        width: D. room: initial capacity, in entries.
    """

    def __init__(self, width: int, room: int = 0) -> None:
        self.count = 0  # N
        self._vectors = np.empty((room, width), np.float32)
        self._numbers = np.empty(room, np.int64)
        self._codes = np.empty(room, np.int32)  # index into `_people` of each entry
        self._people: list[str] = []
        self._code_of: dict[str, int] = {}
        self._tagged: dict[tuple[str, str], array[int]] = {}  # (key, value) of the metadata -> rows, ascending

    @property
    def last(self) -> int:
        """The highest number of an entry; 0 if there is none."""
        return int(self._numbers[self.count - 1]) if self.count else 0

    def add(self, numbers: Sequence[int], people: Sequence[str], vectors: bytes, metadata: Sequence[str]) -> None:
        """Add entries.

        Args:
            numbers: (M,) ascending. people: (M,) names. vectors: M × D little-endian float32. metadata: (M,) as JSON.
        """
        start, end = self.count, self.count + len(numbers)
        self._make_room(end)
        self._vectors[start:end] = np.frombuffer(vectors, "<f4").reshape(len(numbers), -1)
        self._numbers[start:end] = numbers
        for row, person in enumerate(people, start):
            code = self._code_of.setdefault(person, len(self._people))
            if code == len(self._people):
                self._people.append(person)
            self._codes[row] = code
        for row, text in enumerate(metadata, start):
            if text != "{}":
                for pair in json.loads(text).items():
                    self._tagged.setdefault(pair, array("q")).append(row)
        self.count = end

    def nearest(self, probes: NDArray[np.float32], k: int, where: Mapping[str, str]) -> list[list[Hit]]:
        """The best entry of each of the k nearest people to each probe, best first; ties by name.

        Args:
            probes: (Q, D) unit vectors. k: at least 1. where: only entries with all these in their metadata.
        """
        rows = self._rows(where)
        vectors = self._vectors[: self.count] if rows is None else self._vectors[rows]
        at = np.arange(self.count) if rows is None else rows
        codes = self._codes[at]
        if not at.size:
            return [[] for _ in probes]
        hits: list[list[Hit]] = []
        block = max(1, SCORES // at.size)
        for start in range(0, len(probes), block):
            part = np.ascontiguousarray(probes[start : start + block], np.float32)
            for probe, scores in zip(part, part @ vectors.T, strict=True):  # (D,), (N,)
                hits.append(self._best(probe, at[_candidates(scores, codes, k)], k))
        return hits

    def _best(self, probe: NDArray[np.float32], rows: NDArray[np.int64], k: int) -> list[Hit]:
        """The first entry of each of k people, ordered by exact score, name and number."""
        exact = np.empty(rows.size)
        for start in range(0, rows.size, RESCORED):
            part = rows[start : start + RESCORED]
            exact[start : start + RESCORED] = (self._vectors[part].astype(np.float64) * probe).sum(axis=1)
        exact = np.clip(exact, -1.0, 1.0)
        order = np.lexsort((self._numbers[rows], -exact))
        best = order[np.sort(np.unique(self._codes[rows[order]], return_index=True)[1])]  # of each person
        lowest = exact[best[min(k, best.size) - 1]]
        listed = sorted((-exact[i], self._people[self._codes[rows[i]]], i) for i in best[exact[best] >= lowest])
        return [(int(self._numbers[rows[i]]), float(exact[i])) for _, _, i in listed[:k]]

    def _rows(self, where: Mapping[str, str]) -> NDArray[np.int64] | None:
        """The rows that pass a filter, ascending; None for all."""
        rows: NDArray[np.int64] | None = None
        for pair in where.items():
            having = np.array(self._tagged.get(pair, ()), np.int64)
            rows = having if rows is None else np.intersect1d(rows, having, assume_unique=True)
        return rows

    def _make_room(self, count: int) -> None:
        if count <= len(self._numbers):
            return
        room = max(count, int(len(self._numbers) * GROWTH))
        self._vectors = _grown(self._vectors, self.count, room)
        self._numbers = _grown(self._numbers, self.count, room)
        self._codes = _grown(self._codes, self.count, room)


def _candidates(scores: NDArray[np.float32], codes: NDArray[np.int32], k: int) -> NDArray[np.int64]:
    """Rows that certainly include the k best people, whatever the rounding of the scores, (N,)."""
    wanted = max(64, 4 * k)
    while wanted < scores.size:
        lowest = np.partition(scores, scores.size - wanted)[scores.size - wanted]
        if np.unique(codes[scores >= lowest]).size >= k:
            return np.flatnonzero(scores >= lowest - SLACK)
        wanted *= 8
    return np.arange(scores.size)


def _grown(old: NDArray[Number], count: int, room: int) -> NDArray[Number]:
    """The first rows of an array, with room for more."""
    new = np.empty((room, *old.shape[1:]), old.dtype)
    new[:count] = old[:count]
    return new
