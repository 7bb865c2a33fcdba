"""All pairs of N embeddings: the exact ROC, streamed in memory that does not grow with the number of pairs.

Every row is that of `verification.roc` over all pairs, bit for bit. Memory: 4 bytes a score held (at most `held`, plus
those that tie in one 6e-5 wide bin), 33 MB for a tile, about 150 MB for a stretch of the curve, and the embeddings.
Beyond `held` pairs the cosines are computed once to count and once more for each range of scores that fits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facewright.errors import DataError, EmptyScores, FacewrightError, UsageError
from facewright.metrics.verification import (
    FARS,
    Eer,
    OperatingPoint,
    Roc,
    allowed_impostors,
    doubled_area,
    eer_at,
    gaps,
    levels,
    operating_points,
    resolvable,
)

HELD = 200_000_000  # scores at a time: 800 MB
TILE = (512, 16_384)  # rows, columns of cosines computed at a time
STRETCH = 1 << 21  # scores turned into rows of the curve at a time
BINS = 1 << 16  # over [-2, 2): where ranges of scores may be parted
NORM_TOLERANCE = 1e-3
GRID = 100  # rows of a thinned curve along each of its scales


@dataclass(frozen=True, eq=False)
class RocSummary:
    """The numbers of an exact ROC, and a thin copy of it whose rows are exact.

    The copy has about a hundred rows along each of false accepts, true accepts, misses and thresholds, evenly and in
    equal ratios, and those of the operating points.
    """

    auc: float
    eer: Eer
    points: tuple[OperatingPoint, ...]
    curve: Roc


def all_pairs(embeddings: ArrayLike, labels: ArrayLike, fars: tuple[float, ...] = FARS, held: int = HELD) -> RocSummary:
    """Verify every image against every other.

    Args:
        embeddings: (N, D) float32 unit vectors. labels: (N,) who it is, names or numbers.
        fars: targets; those that the number of impostor pairs cannot resolve are left out.
        held: scores kept in memory at a time, 4 bytes each.
    Raises:
        EmptyScores: no two images of one person, or one person only. DataError: a vector not of length one.
        UsageError: shapes that do not fit.
    Source: docs/protocols.md, "Verification".
    """
    return summarise(roc_pieces(embeddings, labels, held), fars)


def roc_pieces(embeddings: ArrayLike, labels: ArrayLike, held: int = HELD) -> Iterator[Roc]:
    """The exact ROC of all pairs in stretches from its high end down; appended to each other they are the whole.

    Args, Raises: as `all_pairs`.
    """
    if held < 1:
        raise UsageError(f"expected to hold at least one score, got {held}")
    pairs = _Pairs.of(embeddings, labels)
    yield from _pieces(_ranges(pairs, held), pairs.genuine, pairs.impostors)


def summarise_scores(
    genuine: NDArray[np.float32], impostor: NDArray[np.float32], fars: tuple[float, ...] = FARS
) -> RocSummary:
    """Read the exact ROC of finite scores (P,) and (Q,), a stretch at a time; both are sorted in place.

    Raises:
        EmptyScores: either side is empty.
    """
    if not genuine.size or not impostor.size:
        raise EmptyScores(f"a curve needs both kinds of pairs, got {genuine.size} genuine and {impostor.size} impostor")
    return summarise(_pieces([(genuine, impostor)], genuine.size, impostor.size), fars)


def _pieces(
    ranges: Iterable[tuple[NDArray[np.float32], NDArray[np.float32]]], genuine: int, impostors: int
) -> Iterator[Roc]:
    """The ROC of scores in ranges, the highest first; each is sorted in place."""
    yield Roc(np.array([np.inf]), np.zeros(1, np.int64), np.zeros(1, np.int64), impostors, genuine)
    false_accepts = true_accepts = 0
    for sides in ranges:
        for side in sides:
            side.sort()
        for thresholds, wrong, right in _stretches(*sides):
            wrong += false_accepts
            right += true_accepts
            yield Roc(thresholds, wrong, right, impostors, genuine)
            false_accepts, true_accepts = int(wrong[-1]), int(right[-1])


def summarise(pieces: Iterable[Roc], fars: tuple[float, ...] = FARS) -> RocSummary:
    """Read an exact ROC that comes in stretches (of `roc_pieces`, or one of `roc`) from its high end down."""
    rest = iter(pieces)
    first = next(rest, None)
    if first is None:
        raise EmptyScores("a curve needs scores, got none")
    reader = _Reader(first.impostors, first.genuine, fars)
    for piece in chain([first], rest):
        reader.add(piece)
    return reader.finish()


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Embeddings in the order of their people, so that the impostors of a row are one stretch of columns."""

    vectors: NDArray[np.float32]  # (N, D)
    ends: NDArray[np.int64]  # (N,) the first column of the next person
    genuine: int
    impostors: int

    @classmethod
    def of(cls, embeddings: ArrayLike, labels: ArrayLike) -> _Pairs:
        vectors, names = np.asarray(embeddings, dtype=np.float32), np.asarray(labels)
        if vectors.ndim != 2 or names.shape != (len(vectors),):
            raise UsageError(f"expected embeddings (N, D) and labels (N,), got {vectors.shape} and {names.shape}")
        lengths = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
        wrong = np.flatnonzero(~(np.abs(lengths - 1) <= NORM_TOLERANCE))  # NaN is wrong, too
        if wrong.size:
            raise DataError(f"expected unit vectors, got length {lengths[wrong[0]]:g} at {wrong[0]}: normalise them")
        _, people, counts = np.unique(names, return_inverse=True, return_counts=True)
        order = np.argsort(people, kind="stable")
        genuine = int((counts * (counts - 1) // 2).sum())
        impostors = len(vectors) * (len(vectors) - 1) // 2 - genuine
        if genuine == 0 or impostors == 0:
            lack = "two images of one person" if genuine == 0 else "images of two people"
            raise EmptyScores(f"all pairs of {len(vectors)} images: there are no {lack}")
        return cls(vectors[order], np.repeat(np.cumsum(counts), counts), genuine, impostors)

    def rows(self) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """The scores of each row with later ones, in parts: (genuine, impostor), views of a tile."""
        n = len(self.vectors)
        for top in range(0, n, TILE[0]):
            across = self.vectors[top : top + TILE[0]]
            for left in range(top, n, TILE[1]):
                tile = across @ self.vectors[left : left + TILE[1]].T
                for row, scores in enumerate(tile, start=top):
                    start = max(row + 1 - left, 0)
                    end = max(int(self.ends[row]) - left, 0)
                    yield scores[start:end], scores[max(start, end) :]


def _ranges(pairs: _Pairs, held: int) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """All scores, (genuine, impostor), from the highest range down; a range holds at most `held`, or one bin."""
    if pairs.genuine + pairs.impostors <= held:
        yield _gather(pairs, 0, BINS, (pairs.genuine, pairs.impostors))
        return
    counts = np.zeros((2, BINS), dtype=np.int64)
    for sides in pairs.rows():
        for side, scores in enumerate(sides):
            counts[side] += np.bincount(_bins(scores), minlength=BINS)
    both = counts.sum(axis=0)
    cuts, filled = [BINS], 0
    for i in np.flatnonzero(both)[::-1]:
        if filled and filled + both[i] > held:
            cuts.append(int(i) + 1)
            filled = 0
        filled += int(both[i])
    for high, low in pairwise([*cuts, 0]):
        yield _gather(pairs, low, high, (int(counts[0, low:high].sum()), int(counts[1, low:high].sum())))


def _gather(
    pairs: _Pairs, low: int, high: int, sizes: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The scores in bins [low, high), unsorted; sizes: how many genuine and impostor ones there are."""
    held = (np.empty(sizes[0], dtype=np.float32), np.empty(sizes[1], dtype=np.float32))
    filled = [0, 0]
    for sides in pairs.rows():
        for side, scores in enumerate(sides):
            if (low, high) != (0, BINS):
                bins = _bins(scores)
                scores = scores[(bins >= low) & (bins < high)]
            held[side][filled[side] : filled[side] + scores.size] = scores
            filled[side] += scores.size
    if tuple(filled) != sizes:
        raise FacewrightError("the same product gave different bits twice: give `held` room for all pairs")
    return held


def _bins(scores: NDArray[np.float32]) -> NDArray[np.int32]:
    """Rises with the score, rounding or not, so no score is in two bins or none."""
    return ((scores + np.float32(2)) * np.float32(BINS / 4)).astype(np.int32)


def _stretches(
    genuine: NDArray[np.float32], impostor: NDArray[np.float32]
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]]:
    """`levels` of two rising arrays, a stretch at a time from the high end; equal scores never part."""
    ends = [genuine.size, impostor.size]
    while any(ends):
        reach = [side[end - STRETCH] for side, end in zip((genuine, impostor), ends, strict=True) if end > STRETCH]
        starts = [int(np.searchsorted(side, max(reach), side="left")) if reach else 0 for side in (genuine, impostor)]
        yield levels(genuine[starts[0] : ends[0]], impostor[starts[1] : ends[1]])
        ends = starts


class _Reader:
    """Takes the rows of a curve as they come. The last row so far waits: what becomes of it depends on the next one."""

    def __init__(self, impostors: int, genuine: int, fars: tuple[float, ...]) -> None:
        self.impostors, self.genuine = impostors, genuine
        self.fars = resolvable(fars, impostors)
        self.wrong = np.union1d(_grid(impostors), [allowed_impostors(far, impostors) for far in self.fars])
        self.right = np.union1d(_grid(genuine), genuine - _grid(genuine))
        self.edges = np.arange(-100, 101) / 100
        none = np.zeros(0, dtype=np.int64)
        self.waiting = Roc(np.zeros(0), none, none, impostors, genuine)
        self.area = 0
        self.kept: list[Roc] = []
        self.closest: list[tuple[int, Eer]] = []  # of each stretch, as `verification.gaps` says

    def add(self, piece: Roc) -> None:
        rows = _joined([self.waiting, piece])
        last = rows.thresholds.size - 1
        if last < 0:
            return
        self.area += doubled_area(rows.false_accepts, rows.true_accepts)
        passed = [
            np.searchsorted(rows.false_accepts, self.wrong, side="right"),
            np.searchsorted(rows.true_accepts, self.right, side="right"),
            np.searchsorted(-rows.thresholds, -self.edges, side="right"),
        ]
        places = np.unique(np.concatenate(passed)) - 1  # the last row that has not yet passed each mark
        self.kept.append(_taken(rows, places[(places >= 0) & (places < last)]))
        if last > 0:
            apart = gaps(rows)[:last]
            i = int(apart.argmin())
            self.closest.append((int(apart[i]), eer_at(rows, i, float(rows.thresholds[i + 1]))))
        self.waiting = _taken(rows, np.array([last]))

    def finish(self) -> RocSummary:
        self.closest.append((int(gaps(self.waiting)[0]), eer_at(self.waiting, 0, None)))
        _, equal = min(self.closest, key=lambda row: row[0])  # the first of equals has the highest threshold
        curve = _joined([*self.kept, self.waiting])
        area = self.area / (2 * self.genuine * self.impostors)
        return RocSummary(area, equal, operating_points(curve, self.fars), curve)


def _grid(n: int) -> NDArray[np.int64]:
    """Counts from 0 to n, evenly and in equal ratios."""
    return np.unique(np.rint(np.concatenate([np.linspace(0, n, GRID), np.geomspace(1, n, GRID)])).astype(np.int64))


def _taken(rows: Roc, places: NDArray[np.int64]) -> Roc:
    return Roc(
        rows.thresholds[places], rows.false_accepts[places], rows.true_accepts[places], rows.impostors, rows.genuine
    )


def _joined(parts: list[Roc]) -> Roc:
    return Roc(
        np.concatenate([part.thresholds for part in parts]),
        np.concatenate([part.false_accepts for part in parts]),
        np.concatenate([part.true_accepts for part in parts]),
        parts[0].impostors,
        parts[0].genuine,
    )
