"""Near duplicates: the same photo saved again, smaller or larger, lighter or darker, mirrored.

An image becomes a 32 × 32 grey thumbnail and its discrete cosine transform. Two unit vectors are cut from that:

    coarse   8 × 8 lowest frequencies without the constant: 63 numbers, compared for all pairs by matrix products
    fine     24 × 24 frequencies without the lowest, each times its frequency: edges, compared for what is left

Aligned faces look alike when they are blurred (cosines of 0.95 between people are common), so the coarse vector only
picks candidates and the fine one decides. Mirroring negates the odd horizontal frequencies: a second product finds
mirrored copies. Both thresholds leave room below what saving as JPEG at quality 30, halving the size or brightening by
15 % does to a photo (fine cosine above 0.98), and lie above different photos of one sitting (up to 0.951 on ORL).
Shifted or cropped copies are not looked for.

For N images the search costs N² · 126 multiplications and additions, in a matrix library: seconds for 20,000. Of more
images, only those are compared that meet in a table of hashes (near_hashes.py): at least 99 % of the same pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facewright.data import near_hashes
from facewright.data.encoded_store import EncodedPixels
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

    Of images with one digest only the first takes part: exact duplicates are told by their digests. Images without
    any structure (one colour all over) match nothing.

    Args:
        pixels: (N, H, W, 3) uint8; may be memory-mapped, is read once.
        digests: (N,) pixel digests.
    """
    first = {digest: row for row, digest in reversed(list(enumerate(digests)))}
    rows = np.asarray(sorted(first.values()), np.int64)
    found = _by_all_pairs(pixels, rows) if len(rows) <= ALL_PAIRS else _by_hashes(pixels, rows)
    return _sorted([(np.zeros((0, 2), np.int64), np.zeros(0), False), *found])


Found = list[tuple[NDArray[np.int64], NDArray[np.float64], bool]]


def _by_all_pairs(pixels: NDArray[np.uint8] | EncodedPixels, rows: NDArray[np.int64]) -> Found:
    coarse, fine, rows = _describe(pixels, rows)
    found: Found = []
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


def _by_hashes(pixels: NDArray[np.uint8] | EncodedPixels, rows: NDArray[np.int64]) -> Found:
    """Compare the pairs that meet in a table of hashes; the vectors are computed again, none is kept."""

    def describe(part: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        _, fine, kept = _describe(pixels, part)
        return fine, kept

    signs = _mirror(FINE)[_selected(FINE, EDGE)], _mirror(COARSE)[_selected(COARSE, 0.5)]
    of = near_hashes.sketches(describe, rows, signs[0], FINE_LEAST, usable_cores())
    found: Found = []
    for i, j, mirrored in near_hashes.candidates(of):
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
