"""Tables of hashes in which near duplicates meet, and groups of copies where there are too many to list each pair."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from facewright.platforms import usable_cores

LISTED = 1_000_000  # pairs that are listed whatever they join

BITS = 256
MISSED = 0.003  # probability of missing a pair at the least cosine
WINDOW = 256
CHUNK = 2048  # rows described at a time
SAMPLED = 8192  # rows whose mean is the centre
SORTED, MET, MULTIPLIED = 600.0, 60.0, 10.0  # ns: an image in a table, a pair that meets in one, one of all pairs
LOW, WIDE, FLAG = np.uint64(2**31 - 1), np.uint64(32), np.uint64(63)
ROUND = 8  # tables between two looks at what is found: whatever the number of threads, the same

Describe = Callable[[NDArray[np.int64]], tuple[NDArray[np.float32], NDArray[np.int64]]]
"""Rows to fine unit vectors (M, D) and the rows (M,) they belong to."""


@dataclass(frozen=True)
class Sketches:
    """The signs of N images and of their mirror images, 256 bits each.

    A fine vector is centred at the mean of all and projected on 256 random directions. Two vectors at an angle a agree
    in each sign with probability 1 - a / pi (Charikar 2002, "Similarity Estimation Techniques from Rounding
    Algorithms", section 3). A table sorts all images by some of the signs; images with equal ones meet, and each meets
    the mirror images with equal ones. Mirroring negates the odd horizontal frequencies, so the even and the odd part
    are projected apart.

    More signs a table make unrelated images meet less often, and more tables are needed for two images at the least
    cosine to meet with probability 0.997: `tables_for` takes the number that costs least. Of images that agree in all
    signs of a table each meets the 256 that follow it: of larger clusters not all pairs are listed, but they stay
    together. 64 bytes an image.
    """

    rows: NDArray[np.int64]  # (N,)
    plain: NDArray[np.uint64]  # (N, 4)
    mirrored: NDArray[np.uint64]  # (N, 4)
    least: float  # cosine of two centred vectors whose own cosine is the least

    def agreement(self, sample: int = 512) -> NDArray[np.float64]:
        """Return the share of signs in which some images agree, each with each other, (S, S - 1)."""
        some = self.plain[np.linspace(0, len(self.rows) - 1, min(sample, len(self.rows))).astype(np.int64)]
        differ = np.bitwise_count(some[:, None] ^ some).sum(axis=2, dtype=np.int64)
        return np.asarray(
            1 - differ[~np.eye(len(some), dtype=np.bool_)].reshape(len(some), max(0, len(some) - 1)) / BITS, np.float64
        )


def sketches(
    describe: Describe, rows: NDArray[np.int64], sign: NDArray[np.float32], least: float, workers: int
) -> Sketches:
    """Compute the sketches of some rows, a chunk at a time.

    Args:
        sign: (D,) what mirroring multiplies each number with. least: cosine of near duplicates.
    """
    even = sign > 0
    sample, _ = describe(rows[:: max(1, len(rows) // SAMPLED)])
    centre = sample.sum(axis=0) / max(1, len(sample))
    directions = np.random.Generator(np.random.PCG64(0)).standard_normal((len(sign), BITS), np.float32)
    middle = centre @ directions

    def sketch(part: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.uint64], NDArray[np.uint64]]:
        fine, kept = describe(part)
        along, across = fine[:, even] @ directions[even] - middle, fine[:, ~even] @ directions[~even]
        return kept, _packed(along + across > 0), _packed(along - across > 0)

    parts = [rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK)]
    with ThreadPoolExecutor(workers, "facewright-duplicates") as pool:
        found = list(pool.map(sketch, parts))
    shared = min(float(centre @ centre), 0.999)
    kept, plain, mirrored = (np.concatenate([part[k] for part in found]) for k in range(3))
    return Sketches(kept, plain, mirrored, (least - shared) / (1 - shared))


class Groups:
    """Which of N images are copies of each other, once so many pairs are listed that only this is asked for."""

    def __init__(self, count: int) -> None:
        self.of = np.arange(count)  # (N,) the group of each image; its own until `full`
        self.full = False
        self._pairs: list[NDArray[np.int64]] = []

    def join(self, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return which of near pairs (2, P) are to be listed: all, but of those that join two groups one when full."""
        i, j = self.of[pairs]
        chosen = np.unique(i * len(self.of) + j, return_index=True)[1] if self.full else np.arange(len(i))
        self._pairs.append(pairs[:, chosen])
        self.full = self.full or sum(part.shape[1] for part in self._pairs) >= LISTED
        if self.full and len(chosen):
            i, j = self.of[np.concatenate(self._pairs, axis=1)]
            edges = coo_array((np.ones(len(i), np.bool_), (i, j)), shape=(len(self.of), len(self.of)))
            self.of = connected_components(edges, directed=False)[1][self.of].astype(np.int64)
        if self.full:
            self._pairs.clear()
        return chosen

    def apart(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell of which pairs it must still be found out if they are near."""
        return np.asarray(self.of[first] != self.of[second])


def candidates(of: Sketches, signs: int, tables: int, groups: Groups) -> Iterator[tuple[NDArray[np.int64], bool]]:
    """Yield pairs (2, P) of positions in the sketches, i < j; each once, until `groups` is full."""
    generator = np.random.Generator(np.random.PCG64(1))
    chosen = [generator.permutation(BITS)[:signs] for _ in range(tables)]
    codes = np.zeros(0, np.uint64)
    with ThreadPoolExecutor(usable_cores(), "facewright-duplicates") as pool:
        for start in range(0, tables, ROUND):
            parts = pool.map(lambda positions: _table(of, positions, groups), chosen[start : start + ROUND])
            codes = np.sort(np.concatenate([codes, *parts]))
            codes = codes[np.diff(codes, prepend=~codes[:1]) != 0]  # each once: np.unique would hash them
            if len(codes) > LISTED or start + ROUND >= tables:
                for some in np.split(codes, range(LISTED, len(codes), LISTED)):
                    pairs, mirrored = np.stack([some >> WIDE & LOW, some & LOW]).astype(np.int64), some >> FLAG == 1
                    for flag in (False, True):
                        yield pairs[:, (mirrored == flag) & groups.apart(*pairs)], flag
                codes = codes[:0]


def tables_for(count: int, least: float, agreement: NDArray[np.float64]) -> tuple[int, int] | None:
    """Return the signs a table and the number of tables, for so many images; None: all pairs cost less.

    >>> tables_for(2_000_000, 0.954, np.full((2, 1), 0.5))
    (20, 42)
    """
    costs = {}
    for signs in range(8, 32) if count > 1 and least > 0 else ():
        meet = (1 - math.acos(least) / math.pi) ** signs
        tables = math.ceil(math.log(MISSED) / math.log1p(-meet))
        met = np.minimum(count * (agreement**signs).mean(axis=1), WINDOW).mean()  # pairs an image, half of them twice
        costs[tables * (SORTED + MET * met)] = signs, tables
    return costs[min(costs)] if costs and min(costs) < MULTIPLIED * count else None


def _table(of: Sketches, positions: NDArray[np.int64], groups: Groups) -> NDArray[np.uint64]:
    """Return the pairs that meet in one table and whose sketches are near, as codes: mirrored, i (31 bits), j (32)."""
    number = np.arange(len(of.rows), dtype=np.uint64)
    plain, mirrored = (np.sort(_signs(bits, positions) << WIDE | number) for bits in (of.plain, of.mirrored))
    found = [np.zeros(0, np.uint64)]
    for others, begin in (
        (plain, np.arange(1, len(plain) + 1)),
        (mirrored, np.searchsorted(mirrored, plain >> WIDE << WIDE)),
    ):
        keys = plain
        for _ in range(WINDOW):
            inside = begin < len(others)
            keys, begin = keys[inside], begin[inside]
            same = keys >> WIDE == others[begin] >> WIDE
            keys, begin = keys[same], begin[same]
            if not len(keys):
                break
            found.append(_near(of, np.stack([keys, others[begin]]) & LOW, others is mirrored, groups))
            begin = begin + 1
    return np.concatenate(found)


def _near(of: Sketches, met: NDArray[np.uint64], mirrored: bool, groups: Groups) -> NDArray[np.uint64]:
    """Keep what may reach the least cosine: a share a / pi of the signs differs, within 3.5 standard deviations."""
    i, j = met.astype(np.int64)
    share = math.acos(of.least) / math.pi
    most = BITS * (share + 3.5 * math.sqrt(share * (1 - share) / BITS))
    i, j = np.stack([i, j])[:, groups.apart(i, j)]
    differ = np.bitwise_count(of.plain[i] ^ (of.mirrored if mirrored else of.plain)[j]).sum(axis=1, dtype=np.int64)
    pairs = np.sort(np.stack([i, j])[:, differ <= most], axis=0).astype(np.uint64)
    codes: NDArray[np.uint64] = np.uint64(mirrored) << FLAG | pairs[0] << WIDE | pairs[1]
    return codes


def _signs(packed: NDArray[np.uint64], positions: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Gather some bits of each sketch into a number, (N,)."""
    result = np.zeros(len(packed), np.uint64)
    for position in positions.tolist():
        word, bit = divmod(position, 64)
        result = result << np.uint64(1) | packed[:, word] >> np.uint64(bit) & np.uint64(1)
    return result


def _packed(bits: NDArray[np.bool_]) -> NDArray[np.uint64]:
    return np.packbits(bits, axis=1).view(np.uint64)
