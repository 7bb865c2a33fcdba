"""Near duplicates: the same photo saved again, smaller or larger, lighter or darker, mirrored; not shifted or cropped.

Two unit vectors are cut from the discrete cosine transform of a 32 × 32 grey thumbnail: `coarse`, the 8 × 8 lowest
frequencies without the constant, compared for all pairs by matrix products; and `fine`, 24 × 24 frequencies without the
lowest, each times its frequency (edges), compared for what is left, because aligned faces look alike when they are
blurred. Mirroring negates the odd horizontal frequencies: a second product finds mirrored copies. Both thresholds leave
room below what saving as JPEG at quality 30, halving the size or brightening by 15 % does (fine cosine above 0.98), and
lie above different photos of one sitting (up to 0.951 on ORL).

For N images the search costs N² · 126 multiplications and additions: seconds for 20,000. Of more images, only those are
compared that meet in a table of hashes (`sketches`): at least 99 % of the same pairs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facewright.data.store import EncodedPixels
from facewright.platforms import usable_cores

ALL_PAIRS = 20_000  # images up to which every pair is compared
THUMBNAIL = 32  # pixels a side
COARSE_LEAST = 0.98  # cosine
FINE_LEAST = 0.96  # cosine
COARSE, FINE, EDGE = 8, 24, 4.0  # frequencies a side; the lowest radius that counts as an edge
ROWS = 512  # rows of the pair matrix at a time: 512 × 50,000 float32 are 100 MB
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


@dataclass(frozen=True)
class NearPairs:
    """Pairs of images that are nearly the same, the most alike first."""

    pairs: NDArray[np.int64]  # (P, 2) rows, first < second
    similarity: NDArray[np.float64]  # (P,) fine cosine in [FINE_LEAST, 1]
    mirrored: NDArray[np.bool_]  # (P,) one is the other's mirror image


def near_pairs(pixels: NDArray[np.uint8] | EncodedPixels, digests: Sequence[str]) -> NearPairs:
    """Find the near duplicates among images that differ.

    Of images with one digest only the first takes part. Images without any structure (one colour) match nothing.

    Args:
        pixels: (N, H, W, 3) uint8; may be memory-mapped, is read once. digests: (N,) pixel digests.
    """
    first = {digest: row for row, digest in reversed(list(enumerate(digests)))}
    rows = np.asarray(sorted(first.values()), np.int64)
    found = _by_all_pairs(pixels, rows) if len(rows) <= ALL_PAIRS else _by_hashes(pixels, rows)
    return _sorted([(np.zeros((0, 2), np.int64), np.zeros(0), False), *found])


RowPairs = list[tuple[NDArray[np.int64], NDArray[np.float64], bool]]


def _by_all_pairs(pixels: NDArray[np.uint8] | EncodedPixels, rows: NDArray[np.int64]) -> RowPairs:
    coarse, fine, rows = _describe(pixels, rows)
    found: RowPairs = []
    for mirrored in (False, True):
        other = coarse * _mirror(COARSE)[_selected(COARSE, 0.5)] if mirrored else coarse
        other_fine = fine * _mirror(FINE)[_selected(FINE, EDGE)] if mirrored else fine
        for start in range(0, len(rows), ROWS):
            alike = coarse[start : start + ROWS] @ other[start:].T
            i, j = np.nonzero(np.triu(alike >= COARSE_LEAST, 1))
            i, j = i + start, j + start
            cosine = np.einsum("pd,pd->p", fine[i], other_fine[j], dtype=np.float64)
            keep = cosine >= FINE_LEAST
            found.append((np.stack([rows[i[keep]], rows[j[keep]]], axis=1), cosine[keep], mirrored))
    return found


def _by_hashes(pixels: NDArray[np.uint8] | EncodedPixels, rows: NDArray[np.int64]) -> RowPairs:
    """Compare the pairs that meet in a table of hashes; the vectors are computed again, none is kept."""

    def describe(part: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        _, fine, kept = _describe(pixels, part)
        return fine, kept

    signs = _mirror(FINE)[_selected(FINE, EDGE)], _mirror(COARSE)[_selected(COARSE, 0.5)]
    of = sketches(describe, rows, signs[0], FINE_LEAST, usable_cores())
    found: RowPairs = []
    for i, j, mirrored in candidates(of):
        for start in range(0, len(i), ROWS):
            pairs = np.stack([of.rows[i[start : start + ROWS]], of.rows[j[start : start + ROWS]]], axis=1)
            coarse, fine, needed = _describe(pixels, np.unique(pairs))
            first, second = np.searchsorted(needed, pairs[:, 0]), np.searchsorted(needed, pairs[:, 1])
            turns = signs if mirrored else (np.float32(1), np.float32(1))
            cosine = np.einsum("pd,pd->p", fine[first], fine[second] * turns[0], dtype=np.float64)
            low = np.einsum("pd,pd->p", coarse[first], coarse[second] * turns[1])
            keep = (cosine >= FINE_LEAST) & (low >= COARSE_LEAST)
            found.append((pairs[keep], cosine[keep], mirrored))
    return found


def _sorted(found: Sequence[tuple[NDArray[np.int64], NDArray[np.float64], bool]]) -> NearPairs:
    """One list, the most alike first; a symmetrical image that matches both ways is listed once."""
    pairs = np.concatenate([part[0] for part in found])
    similarity = np.minimum(np.concatenate([part[1] for part in found]), 1.0)
    mirrored = np.concatenate([np.full(len(part[0]), part[2]) for part in found])
    order = np.lexsort((pairs[:, 1], pairs[:, 0], -similarity))
    _, once = np.unique(pairs[order], axis=0, return_index=True)
    order = order[np.sort(once)]
    return NearPairs(pairs[order], similarity[order], mirrored[order])


def _describe(
    pixels: NDArray[np.uint8] | EncodedPixels, rows: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """Unit vectors (M, 63) and (M, D), and the rows they belong to (those with any structure)."""
    height, width = pixels.shape[1:3]
    down = _cosines(FINE, THUMBNAIL) @ _area(height, THUMBNAIL)  # (FINE, H): shrinks and transforms in one product
    across = _cosines(FINE, THUMBNAIL) @ _area(width, THUMBNAIL)
    coarse_of, fine_of = _selected(COARSE, 0.5), _selected(FINE, EDGE)
    weight = _radius(FINE)[fine_of].astype(np.float32)
    coarse, fine = [], []
    for start in range(0, len(rows), 256):
        grey = pixels[rows[start : start + 256]].astype(np.float32) @ LUMA  # (b, H, W)
        waves = down @ grey @ across.T  # (b, FINE, FINE)
        coarse.append(waves[:, :COARSE, :COARSE][:, coarse_of])
        fine.append(waves[:, fine_of] * weight)
    low, high = np.concatenate(coarse), np.concatenate(fine)
    low_length, high_length = np.linalg.norm(low, axis=1), np.linalg.norm(high, axis=1)
    structured = (low_length > 1) & (high_length > 1)  # grey levels: below one there is nothing but rounding
    low, high = low[structured], high[structured]
    return low / low_length[structured, None], high / high_length[structured, None], rows[structured]


def _area(size: int, target: int) -> NDArray[np.float32]:
    """(target, size) weights that average `size` samples over `target` equal stretches."""
    edges = np.linspace(0, size, target + 1)
    low, high = edges[:-1, None], edges[1:, None]
    cells = np.arange(size)[None]
    share = np.clip(np.minimum(high, cells + 1) - np.maximum(low, cells), 0, None)
    return np.asarray(share / (high - low), np.float32)


def _cosines(waves: int, size: int) -> NDArray[np.float32]:
    """(waves, size) rows of the orthonormal DCT-II, the constant's factor aside (it is not used)."""
    positions = (2 * np.arange(size)[None] + 1) * np.arange(waves)[:, None]
    return np.asarray(np.sqrt(2 / size) * np.cos(np.pi * positions / (2 * size)), np.float32)


def _radius(waves: int) -> NDArray[np.float64]:
    index = np.arange(waves, dtype=np.float64)
    return np.hypot(index[:, None], index[None])


def _selected(waves: int, least: float) -> NDArray[np.bool_]:
    return _radius(waves) >= least


def _mirror(waves: int) -> NDArray[np.float32]:
    """(waves, waves) what mirroring left to right multiplies each frequency with."""
    return np.broadcast_to((-1.0) ** np.arange(waves), (waves, waves)).astype(np.float32)


BITS = 256
MISSED = 0.003  # probability of missing a pair at the least cosine
WINDOW = 256
CHUNK = 2048  # rows described at a time
SAMPLED = 8192  # rows whose mean is the centre

Describe = Callable[[NDArray[np.int64]], tuple[NDArray[np.float32], NDArray[np.int64]]]
"""Rows to fine unit vectors (M, D) and the rows (M,) they belong to."""


@dataclass(frozen=True)
class Sketches:
    """The signs of N images and of their mirror images, 256 bits each.

    A fine vector is centred and projected on 256 random directions. Two vectors at an angle a agree in each sign with
    probability 1 - a / pi (Charikar 2002, "Similarity Estimation Techniques from Rounding Algorithms", section 3). A
    table sorts all images by some of the signs; images with equal ones meet. Mirroring negates the odd horizontal
    frequencies, so the even and the odd part are projected apart: their sum is the image's sketch, their difference
    that of its mirror image, and both stand in each table.

    The number of signs a table grows with log2 N, so that unrelated images seldom meet; there are so many tables that
    two images at the least cosine meet with probability 0.997. Of images that agree in all signs of a table each meets
    the 256 that follow it: of larger clusters not all pairs are listed, but they stay together. Cost: N · 256 · 561
    multiplications, and a sort of 2N numbers a table; 64 bytes an image.
    """

    rows: NDArray[np.int64]  # (N,)
    plain: NDArray[np.uint64]  # (N, 4)
    mirrored: NDArray[np.uint64]  # (N, 4)
    least: float  # cosine of two centred vectors whose own cosine is the least


def sketches(
    describe: Describe, rows: NDArray[np.int64], sign: NDArray[np.float32], least: float, workers: int
) -> Sketches:
    """Compute the sketches of some rows, a chunk at a time.

    Args:
        sign: (D,) what mirroring multiplies each number with. least: cosine of near duplicates.
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
    signs, tables = tables_for(count, of.least)
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


def tables_for(count: int, least: float) -> tuple[int, int]:
    """Return the signs a table and the number of tables, for so many images.

    >>> tables_for(2_000_000, 0.954)
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
