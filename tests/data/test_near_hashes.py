"""Near duplicates by hashes against all pairs."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from facewright.data import duplicates
from facewright.data.duplicates import FINE_LEAST, NearPairs, near_pairs

SIDE = 32
COUNT = 1500


def drawn(count: int, seed: int) -> NDArray[np.float32]:
    """(count, 32, 32) grey images with something in common, as aligned faces have."""
    generator = np.random.default_rng(seed)
    basis = generator.normal(size=(40, SIDE, SIDE)).cumsum(1).cumsum(2)
    basis /= np.abs(basis).max((1, 2), keepdims=True)
    images = generator.normal(size=(count, 40)) @ basis.reshape(40, -1) + 3 * basis[0].reshape(-1)
    images = images.reshape(count, SIDE, SIDE) + generator.normal(size=(count, SIDE, SIDE)) * 0.3
    return np.asarray(128 + 25 * images, np.float32)


@pytest.fixture(scope="module")
def pixels() -> NDArray[np.uint8]:
    """1,500 images, then copies of 1,000 of them, half of them mirrored, with noise: many near the least cosine."""
    originals = drawn(COUNT, 0)
    copies = originals[:1000].copy()
    copies[::2] = copies[::2, :, ::-1]
    noise = np.random.default_rng(1).normal(size=copies.shape) * np.linspace(0, 6, 1000)[:, None, None]
    grey = np.concatenate([originals, copies * 0.95 + noise])
    return np.repeat(np.clip(np.rint(grey), 0, 255).astype(np.uint8)[..., None], 3, axis=3)


def found(pixels: NDArray[np.uint8]) -> NearPairs:
    return near_pairs(pixels, [str(row) for row in range(len(pixels))])


@pytest.fixture(scope="module")
def both(pixels: NDArray[np.uint8]) -> tuple[NearPairs, NearPairs]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "ALL_PAIRS", 10)
        return found(pixels), duplicates._sorted(duplicates._by_all_pairs(pixels, np.arange(len(pixels))))


def test_at_least_99_percent_of_all_pairs_are_found_and_no_other(both: tuple[NearPairs, NearPairs]) -> None:
    hashed, everything = both
    by_hashes = {(*pair, flip): one for pair, flip, one in _rows(hashed)}
    by_pairs = {(*pair, flip): one for pair, flip, one in _rows(everything)}
    assert len(by_pairs) > 500 and 0.3 < everything.mirrored.mean() < 0.7
    assert min(by_pairs.values()) < FINE_LEAST + 0.005  # the hard ones are among them
    assert by_hashes.keys() <= by_pairs.keys()
    assert len(by_hashes) >= 0.99 * len(by_pairs)
    assert all(by_hashes[key] == pytest.approx(by_pairs[key], abs=1e-6) for key in by_hashes)
    assert all(a >= b for a, b in pairwise(hashed.similarity))


def test_twice_the_same(pixels: NDArray[np.uint8], both: tuple[NearPairs, NearPairs]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "ALL_PAIRS", 10)
        patch.setattr(duplicates, "usable_cores", lambda: 1)
        again = found(pixels)
    assert np.array_equal(again.pairs, both[0].pairs)


def test_images_without_structure_match_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "ALL_PAIRS", 10)
    plain = np.repeat(np.arange(60, dtype=np.uint8), SIDE * SIDE * 3).reshape(60, SIDE, SIDE, 3)
    assert len(found(plain).pairs) == 0


def test_a_large_cluster_is_found_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "ALL_PAIRS", 10)
    one = np.repeat(drawn(1, 3), 120, axis=0) + np.random.default_rng(0).normal(size=(120, SIDE, SIDE))
    pixels = np.repeat(np.clip(np.rint(one), 0, 255).astype(np.uint8)[..., None], 3, axis=3)
    assert len(found(pixels).pairs) == 120 * 119 // 2


def test_the_chance_to_miss_a_pair_at_the_least_cosine() -> None:
    for count in (1_000, 50_000, 2_000_000, 10_000_000):
        signs, tables = duplicates.tables_for(count, 0.954)
        meet = (1 - np.arccos(0.954) / np.pi) ** signs
        assert (1 - meet) ** (2 * tables) <= 0.003
        assert count**2 / 2**signs < 2 * count  # unrelated images: less than one a table


def _rows(of: NearPairs) -> list[tuple[tuple[int, int], bool, float]]:
    return [
        ((int(pair[0]), int(pair[1])), bool(flip), float(one))
        for pair, flip, one in zip(of.pairs, of.mirrored, of.similarity, strict=True)
    ]
