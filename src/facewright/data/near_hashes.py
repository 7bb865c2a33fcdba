"""Candidates for near duplicates without comparing all pairs: sign hashes of random projections, in several tables.

A fine vector (duplicates.py) is centred and projected on 256 random directions; the signs are its sketch. Two vectors
at an angle a agree in each sign with probability 1 - a / pi (Charikar 2002, "Similarity Estimation Techniques from
Rounding Algorithms", section 3). A table sorts all images by some of the signs; images with equal ones meet. Mirroring
negates the odd horizontal frequencies, so the even and the odd part are projected apart: their sum is the image's
sketch, their difference that of its mirror image, and both stand in each table.

The number of signs a table grows with log2 N, so that unrelated images seldom meet; the number of tables is such that
two images at the least cosine meet with probability 0.997. Pairs whose sketches differ too much for that cosine are
dropped. Of images that agree in all signs of a table each meets the 256 that follow it: of larger clusters not all
pairs are listed, but they stay together.

Cost: N · 256 · 561 multiplications, and a sort of 2N numbers a table; 64 bytes an image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BITS = 256
MISSED = 0.003  # probability of missing a pair at the least cosine
WINDOW = 256
CHUNK = 2048  # rows described at a time
SAMPLED = 8192  # rows whose mean is the centre

Describe = Callable[[NDArray[np.int64]], tuple[NDArray[np.float32], NDArray[np.int64]]]
"""Rows to fine unit vectors (M, D) and the rows (M,) they belong to."""


@dataclass(frozen=True)
class Sketches:
    """The signs of N images and of their mirror images, 256 bits each."""

    rows: NDArray[np.int64]  # (N,)
    plain: NDArray[np.uint64]  # (N, 4)
    mirrored: NDArray[np.uint64]  # (N, 4)
    least: float  # cosine of two centred vectors whose own cosine is the least


def sketches(
    describe: Describe, rows: NDArray[np.int64], sign: NDArray[np.float32], least: float, workers: int
) -> Sketches:
    """Compute the sketches of some rows, a chunk at a time.

    Args:
        describe: gives fine vectors.
        rows: (N,) to be described.
        sign: (D,) what mirroring multiplies each number with.
        least: cosine from which on two images are near duplicates.
        workers: threads.
    """
    even = sign > 0
    sample, _ = describe(rows[:: max(1, len(rows) // SAMPLED)])
    centre = sample.sum(axis=0) / max(1, len(sample)) * even
    directions = np.random.Generator(np.random.PCG64(0)).standard_normal((len(sign), BITS), np.float32)

    def sketch(part: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.uint64], NDArray[np.uint64]]:
        fine, kept = describe(part)
        fine = fine - centre
        along, across = fine[:, even] @ directions[even], fine[:, ~even] @ directions[~even]
        return kept, _packed(along + across > 0), _packed(along - across > 0)

    parts = [rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK)]
    with ThreadPoolExecutor(workers, "facewright-duplicates") as pool:
        found = list(pool.map(sketch, parts))
    shared = float(centre @ centre)
    kept, plain, mirrored = (np.concatenate([part[k] for part in found]) for k in range(3))
    return Sketches(kept, plain, mirrored, (least - shared) / (1 - shared))


def candidates(of: Sketches) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], bool]]:
    """Yield pairs (i, j) of positions in the sketches, i < j, each once; first as they are, then mirrored."""
    count = len(of.rows)
    if count < 2:
        return
    signs, tables = plan(count, of.least)
    generator = np.random.Generator(np.random.PCG64(1))
    codes = np.zeros(0, np.uint64)
    for _ in range(tables):
        positions = generator.permutation(BITS)[:signs]
        codes = np.union1d(codes, _table(of, positions))
    mirrored = codes >> np.uint64(63) == 1
    for flag in (False, True):
        chosen = codes[mirrored == flag]
        first, second = chosen >> np.uint64(32) & np.uint64(2**31 - 1), chosen & np.uint64(2**32 - 1)
        yield first.astype(np.int64), second.astype(np.int64), flag


def plan(count: int, least: float) -> tuple[int, int]:
    """Return the signs a table and the number of tables, for so many images.

    >>> plan(2_000_000, 0.954)
    (24, 33)
    """
    signs = min(31, max(8, math.ceil(math.log2(max(2, count))) + 3))
    meet = (1 - math.acos(least) / math.pi) ** signs
    return signs, math.ceil(math.log(MISSED) / (2 * math.log1p(-meet)))  # each table holds two chances


def _table(of: Sketches, positions: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return the pairs that meet in one table and whose sketches are near, as codes: mirrored, i (31 bits), j (32)."""
    count = len(of.rows)
    number = np.arange(count, dtype=np.uint64)
    keys = np.concatenate(
        [
            _signs(of.plain, positions) << np.uint64(32) | number,
            _signs(of.mirrored, positions) << np.uint64(32) | np.uint64(2**31) | number,
        ]
    )
    keys.sort()
    bucket, starts = keys >> np.uint64(32), np.arange(2 * count - 1)
    found = [np.zeros(0, np.uint64)]
    for shift in range(1, WINDOW + 1):
        starts = starts[starts < 2 * count - shift]
        starts = starts[bucket[starts] == bucket[starts + shift]]
        if not len(starts):
            break
        found.append(_near(of, keys[starts], keys[starts + shift]))
    return np.unique(np.concatenate(found))


def _near(of: Sketches, first: NDArray[np.uint64], second: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Keep what may reach the least cosine: a share a / pi of the signs differs, within 5 standard deviations."""
    low = np.uint64(2**31 - 1)
    i, j = (first & low).astype(np.int64), (second & low).astype(np.int64)
    mirrored = (first ^ second) >> np.uint64(31) & np.uint64(1) == 1
    share = math.acos(of.least) / math.pi
    most = BITS * (share + 5 * math.sqrt(share * (1 - share) / BITS))
    other = np.where(mirrored[:, None], of.mirrored[j], of.plain[j])
    differ = np.bitwise_count(of.plain[i] ^ other).sum(axis=1, dtype=np.int64)
    keep = (differ <= most) & (i != j)
    i, j, mirrored = i[keep], j[keep], mirrored[keep]
    smaller, greater = np.minimum(i, j).astype(np.uint64), np.maximum(i, j).astype(np.uint64)
    keys: NDArray[np.uint64] = mirrored.astype(np.uint64) << np.uint64(63) | smaller << np.uint64(32) | greater
    return keys


def _signs(packed: NDArray[np.uint64], positions: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Gather some bits of each sketch into a number, (N,)."""
    result = np.zeros(len(packed), np.uint64)
    for position in positions.tolist():
        word, bit = divmod(position, 64)
        result = result << np.uint64(1) | packed[:, word] >> np.uint64(bit) & np.uint64(1)
    return result


def _packed(bits: NDArray[np.bool_]) -> NDArray[np.uint64]:
    return np.packbits(bits, axis=1).view(np.uint64)
