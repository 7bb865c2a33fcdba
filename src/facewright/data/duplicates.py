"""Near duplicates: the same photo saved again, smaller or larger, lighter or darker, mirrored; not shifted or cropped.

Two unit vectors are cut from the discrete cosine transform of a 32 × 32 grey thumbnail: `coarse`, the 8 × 8 lowest
frequencies without the constant, compared for all pairs; and `fine`, 24 × 24 frequencies without the lowest, each times
its frequency (edges), compared for what is left, because aligned faces look alike when they are blurred. Mirroring
negates the odd horizontal frequencies. Both thresholds lie below what saving as JPEG at quality 30, halving the size or
brightening by 15 % does (fine cosine above 0.98), and above different photos of one sitting (up to 0.951 on ORL).

For N images the search costs N² · 126 multiplications and additions: seconds for 20,000. Of more images, only those are
compared that meet in a table of hashes (`sketches`): at least 99 % of the same pairs. Where images are so much alike
that hashes would cost more than all pairs, all pairs are compared.

Of copies by the thousand not every pair is told: N copies of one photo would be N² / 2 pairs. Beyond a million pairs
only those are compared that join two groups of copies, so that all stay together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facewright.data.near_hashes import CHUNK, Groups, candidates, sketches, tables_for
from facewright.data.store import EncodedPixels
from facewright.platforms import usable_cores

ALL_PAIRS = 20_000  # images up to which every pair is compared
THUMBNAIL = 32  # pixels a side
COARSE_LEAST = 0.98  # cosine
FINE_LEAST = 0.96  # cosine
COARSE, FINE, EDGE = 8, 24, 4.0  # frequencies a side; the lowest radius that counts as an edge
ROWS, COLUMNS = 512, 2048  # of the pair matrix at a time
DENSE = 1 / 64  # share of coarsely alike pairs from which the product of all is faster than theirs alone
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


@dataclass(frozen=True)
class NearPairs:
    """Pairs of images that are nearly the same, the most alike first."""

    pairs: NDArray[np.int64]  # (P, 2) rows, first < second
    similarity: NDArray[np.float64]  # (P,) fine cosine in [FINE_LEAST, 1]
    mirrored: NDArray[np.bool_]  # (P,) one is the other's mirror image


RowPairs = list[tuple[NDArray[np.int64], NDArray[np.float64], bool]]


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


def _by_all_pairs(pixels: NDArray[np.uint8] | EncodedPixels, rows: NDArray[np.int64]) -> RowPairs:
    coarse, fine, rows = _describe(pixels, rows)
    groups = Groups(len(rows))
    found: RowPairs = []
    for mirrored in (False, True):
        turns = (_mirror(COARSE)[_selected(COARSE, 0.5)], _mirror(FINE)[_selected(FINE, EDGE)])
        other = (coarse * turns[0], fine * turns[1]) if mirrored else (coarse, fine)
        for start in range(0, len(rows), ROWS):
            later = np.arange(start, len(rows))
            block = later[:ROWS]
            if groups.full and not groups.apart(block, block[:1]).any():
                later = later[groups.apart(later, block[:1])]
            for columns in np.split(later, range(COLUMNS, len(later), COLUMNS)):
                pairs, cosines = _alike((coarse, fine), other, block, columns, groups)
                chosen = groups.join(pairs)
                found.append((rows[pairs[:, chosen]].T, cosines[chosen], mirrored))
    return found


Vectors = tuple[NDArray[np.float32], NDArray[np.float32]]


def _alike(
    of: Vectors, other: Vectors, block: NDArray[np.int64], columns: NDArray[np.int64], groups: Groups
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the near pairs of one tile, (2, P), and their fine cosines."""
    near = of[0][block] @ other[0][columns].T >= COARSE_LEAST
    if near.any():
        near &= (columns > block[:, None]) & groups.apart(block[:, None], columns)
    if np.count_nonzero(near) > DENSE * near.size:
        cosines = of[1][block] @ other[1][columns].T
        i, j = np.nonzero(near & (cosines >= FINE_LEAST))
        return np.stack([block[i], columns[j]]), cosines[i, j].astype(np.float64)
    i, j = np.nonzero(near)
    pairs = np.stack([block[i], columns[j]])
    cosine = np.einsum("pd,pd->p", of[1][pairs[0]], other[1][pairs[1]], dtype=np.float64)
    keep = cosine >= FINE_LEAST
    return pairs[:, keep], cosine[keep]


def _by_hashes(pixels: NDArray[np.uint8] | EncodedPixels, rows: NDArray[np.int64]) -> RowPairs:
    """Compare the pairs that meet in a table of hashes; the vectors are computed again, none is kept."""
    signs = _mirror(FINE)[_selected(FINE, EDGE)], _mirror(COARSE)[_selected(COARSE, 0.5)]
    of = sketches(lambda part: _describe(pixels, part)[1:], rows, signs[0], FINE_LEAST, usable_cores())
    if len(of.rows) < 2:
        return []
    chosen = tables_for(len(of.rows), of.least, of.agreement())
    if chosen is None:
        return _by_all_pairs(pixels, of.rows)
    groups = Groups(len(of.rows))
    found: RowPairs = []
    for pairs, mirrored in candidates(of, *chosen, groups):
        for start in range(0, pairs.shape[1], CHUNK):
            places, (i, j) = np.unique(pairs[:, start : start + CHUNK], return_inverse=True)
            coarse, fine, _ = _describe(pixels, of.rows[places])
            turns = signs if mirrored else (np.float32(1), np.float32(1))
            cosine = np.einsum("pd,pd->p", fine[i], fine[j] * turns[0], dtype=np.float64)
            low = np.einsum("pd,pd->p", coarse[i], coarse[j] * turns[1])
            keep = (cosine >= FINE_LEAST) & (low >= COARSE_LEAST)
            near = places[np.stack([i[keep], j[keep]])]
            listed = groups.join(near)
            found.append((of.rows[near[:, listed]].T, cosine[keep][listed], mirrored))
    return found


def _sorted(found: RowPairs) -> NearPairs:
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
