"""Near duplicates by hashes against all pairs."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from facewright.data import duplicates, near_hashes
from facewright.data.duplicates import FINE_LEAST, NearPairs, near_pairs
from facewright.data.splits import groups_of

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


def shots(count: int, noise: float) -> NDArray[np.uint8]:
    """(count, 32, 32, 3) shots of one scene; what tells them apart has a standard deviation of so many levels."""
    generator = np.random.default_rng(0)
    scene = generator.normal(size=(SIDE, SIDE)).cumsum(0).cumsum(1)
    grey = 128 + 60 * scene / np.abs(scene).max() + generator.normal(0, noise, (count, SIDE, SIDE))
    return np.repeat(np.clip(np.rint(grey), 0, 255).astype(np.uint8)[..., None], 3, axis=3)


@pytest.mark.parametrize("all_pairs", [10, 10_000])
def test_copies_by_the_hundred_are_joined_by_few_pairs(all_pairs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "ALL_PAIRS", all_pairs)
    monkeypatch.setattr(duplicates, "ROWS", 64)
    monkeypatch.setattr(duplicates, "COLUMNS", 128)
    monkeypatch.setattr(near_hashes, "LISTED", 1000)
    pixels = np.concatenate([shots(400, 0.5), shots(400, 0.5)[:, ::-1]])  # two scenes
    pairs = found(pixels).pairs
    groups = groups_of([str(row) for row in range(len(pixels))], pairs.tolist())
    assert [len(set(groups[:400])), len(set(groups))] == [1, 2]
    assert len(pairs) < 12_000  # of 159,600


@pytest.mark.parametrize(("noise", "met"), [(4, 300_000), (2, 0)])  # by tables of few meetings, and by all pairs
def test_shots_of_one_scene_are_not_compared_again_and_again(
    noise: float, met: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images that are near each other, but no copies: hashes tell them apart badly."""
    compared = described = 0

    def counted(of: near_hashes.Sketches, pairs: NDArray[np.uint64], *rest: object) -> NDArray[np.uint64]:
        nonlocal compared
        compared += pairs.shape[1]
        return near(of, pairs, *rest)  # type: ignore[arg-type]

    def told(pixels: NDArray[np.uint8], rows: NDArray[np.int64]) -> object:
        nonlocal described
        described += len(rows)
        return describe(pixels, rows)

    near, describe = near_hashes._near, duplicates._describe
    pixels = shots(1500, noise)
    copied = np.minimum(pixels[:300].astype(np.int64) + 9, 255).astype(np.uint8)
    pixels = np.concatenate([pixels, copied])
    coarse, fine, _ = describe(pixels, np.arange(300))
    assert np.median(coarse @ coarse.T) > 0.99 and 0.6 < np.median(fine @ fine.T) < FINE_LEAST
    monkeypatch.setattr(near_hashes, "_near", counted)
    monkeypatch.setattr(duplicates, "_describe", told)
    monkeypatch.setattr(duplicates, "ALL_PAIRS", 10)
    pairs = {(int(first), int(second)) for first, second in found(pixels).pairs}
    assert len(pairs & {(row, row + 1500) for row in range(300)}) >= 297
    assert compared <= met and described <= 4 * len(pixels)


def test_where_all_are_alike_all_pairs_are_compared() -> None:
    alike, apart = np.full((2, 1), 0.95), np.full((2, 1), 0.5)
    assert near_hashes.tables_for(3000, -0.5, alike) is None
    assert near_hashes.tables_for(3000, 0.9, alike) is None
    assert near_hashes.tables_for(3000, 0.95, apart) is not None


def test_the_chance_to_miss_a_pair_at_the_least_cosine() -> None:
    for count in (50_000, 2_000_000, 10_000_000):
        signs, tables = near_hashes.tables_for(count, 0.954, np.full((2, 1), 0.5)) or (0, 0)
        meet = (1 - np.arccos(0.954) / np.pi) ** signs
        assert (1 - meet) ** tables <= 0.003
        assert count**2 / 2**signs < 8 * count  # unrelated images: few a table


def _rows(of: NearPairs) -> list[tuple[tuple[int, int], bool, float]]:
    return [
        ((int(pair[0]), int(pair[1])), bool(flip), float(one))
        for pair, flip, one in zip(of.pairs, of.mirrored, of.similarity, strict=True)
    ]
