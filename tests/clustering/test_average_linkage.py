"""Faces sorted by person: against scipy on all faces, with links, and the threshold that is found."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist

from facewright.clustering import average_linkage
from facewright.clustering.average_linkage import cluster
from facewright.errors import DataError, Undefined, UsageError
from facewright.metrics.clustering import cluster_scores
from facewright.metrics.impostor_tail import score_at

WIDTH = 64


def unit(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def people(sizes: list[int], seed: int = 0, noise: float = 0.8) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    centers = unit(rng.standard_normal((len(sizes), WIDTH)))
    who = np.repeat(np.arange(len(sizes)), sizes)
    return unit(centers[who] + noise * rng.standard_normal((who.size, WIDTH)) / WIDTH**0.5), who


def impostors(seed: int = 9) -> NDArray[np.float64]:
    vectors, _ = people([1] * 2_000, seed)
    return (vectors[::2] * vectors[1::2]).sum(axis=1).astype(np.float64)


@pytest.mark.parametrize("sizes", [[30, 20, 10, 5, 3, 1, 1, 1], [2] * 100, [200], [40] * 12])
def test_people_are_found_without_a_distance(sizes: list[int]) -> None:
    vectors, who = people(sizes)
    found = cluster(vectors, impostors())
    assert cluster_scores(found.labels, who).bcubed_f > 0.97
    assert (np.diff(np.bincount(found.labels)) <= 0).all()  # the largest first


@pytest.mark.parametrize("value", [0.1, 0.3, 0.5, 0.9])
def test_components_change_nothing(value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(average_linkage, "BLOCK", 16)
    vectors, _ = people([10, 8, 5, 3, 1, 1], noise=1.2)
    whole = fcluster(linkage(pdist(vectors.astype(np.float64), "cosine"), "average"), 1 - value, "distance")
    scores = cluster_scores(cluster(vectors, impostors(), threshold=value).labels, whole)
    assert scores.bcubed_precision == scores.bcubed_recall == 1.0


def test_links_are_kept() -> None:
    vectors, who = people([6, 6, 6])
    free = cluster(vectors, impostors(), threshold=0.3).labels
    np.testing.assert_array_equal(free, who)
    joined = cluster(vectors, impostors(), threshold=0.3, must=[(0, row) for row in range(1, 12)]).labels
    assert len(set(joined[:12])) == 1 and joined[12] != joined[0]
    apart = cluster(vectors, impostors(), threshold=0.3, cannot=[(0, 1)]).labels
    assert apart[0] != apart[1]
    both = cluster(vectors, impostors(), threshold=0.3, must=[(0, 6)], cannot=[(0, 1), (1, 6)]).labels
    assert both[0] == both[6] and both[1] != both[0]


@pytest.mark.parametrize("threshold", [0.3, None])
@pytest.mark.parametrize("seed", range(3))
def test_faces_of_one_photo_are_as_all_their_pairs_apart(seed: int, threshold: float | None) -> None:
    vectors, _ = people([30, 24, 16, 3, 1], seed, noise=1.3)
    photos = np.random.default_rng(seed).integers(-1, 25, len(vectors))
    must = [(0, 1), (2, 40)]
    free = [row for row in range(len(vectors)) if photos[row] >= 0 and row not in (0, 1, 2, 40)]
    pairs = [(a, b) for a in free for b in free if a < b and photos[a] == photos[b]]
    expected = cluster(vectors, impostors(), threshold=threshold, must=must, cannot=pairs)
    found = cluster(vectors, impostors(), threshold=threshold, must=must, photos=photos)
    np.testing.assert_array_equal(found.labels, expected.labels)
    assert (found.labels != cluster(vectors, impostors(), threshold=threshold, must=must).labels).any()
    assert all(found.labels[a] != found.labels[b] for a, b in pairs)


def test_faces_that_resemble_few_of_their_person_join(monkeypatch: pytest.MonkeyPatch) -> None:
    sharp, who = people([40, 40, 40], noise=0.0)
    rng = np.random.default_rng(1)
    blur = rng.uniform(0.5, 2.2, (who.size, 1)) / WIDTH**0.5
    faces = np.concatenate([unit(sharp + blur * rng.standard_normal(sharp.shape)), people([1] * 6, seed=5)[0]])
    truth = np.concatenate([who, np.arange(3, 9)])
    found = cluster(faces, impostors())
    scores = cluster_scores(found.labels, truth)
    apart = cluster(faces, impostors(), cannot=[(row, 0) for row in range(1, 40)]).labels
    assert apart[0] not in apart[1:40]
    monkeypatch.setattr(average_linkage, "LARGE", 1_000)
    linked = cluster_scores(cluster(faces, impostors()).labels, truth)
    assert scores.bcubed_recall > linked.bcubed_recall + 0.2
    assert scores.bcubed_precision > 0.95 and scores.bcubed_f > linked.bcubed_f + 0.1
    given = cluster(faces, impostors(), threshold=found.threshold)
    assert cluster_scores(given.labels, truth) == linked


def joined_by_loops(
    linked: NDArray[np.bool_], labels: NDArray[np.int64], cannot: list[tuple[int, int]]
) -> list[list[int]]:
    """The rule of the module, by counting each pair of faces."""
    first = labels.copy()
    groups = {int(number): np.flatnonzero(labels == number).tolist() for number in np.unique(labels)}
    large = [number for number in groups if len(groups[number]) >= average_linkage.LARGE]
    least = average_linkage.OTHERS * (len(groups) - len(large))

    initial = np.isin(first, large)

    def count_links(some: list[int], others: list[int]) -> int:
        return sum(bool(linked[a, b]) for a in some for b in others if a != b and (initial[a] or initial[b]))

    def own(number: int) -> float:
        rows = groups[number]
        return count_links(rows, rows) / (len(rows) * (len(rows) - 1)) if number in large else 0.0

    while True:
        best, found = average_linkage.SHARE, None
        for a in groups:
            for b in large:
                if a == b or any({i, j} <= {*groups[a], *groups[b]} for i, j in cannot):
                    continue
                count = count_links(groups[a], groups[b])
                fewer, more = sorted((len(groups[a]), len(groups[b])))
                share = count / (fewer * max(more, least)) / max(1, average_linkage.ALIKE * min(own(a), own(b)))
                if share >= best and (found is None or share > best):
                    best, found = share, (a, b)
        if found is None:
            return sorted(sorted(rows) for rows in groups.values())
        groups[found[1]] += groups.pop(found[0])
        large = [number for number in large if number != found[0]]


@pytest.mark.parametrize("value", [0.3, 0.4, 0.45, 0.5])
@pytest.mark.parametrize("seed", range(3))
def test_large_clusters_join_as_by_loops(seed: int, value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(average_linkage, "LARGE", 4)
    monkeypatch.setattr(average_linkage, "OTHERS", 0.4)
    monkeypatch.setattr(average_linkage, "BLOCK", 16)
    rng = np.random.default_rng(seed)
    vectors, who = people([30, 24, 16, 3, 1, 1, 1, 1], seed, noise=1.3)
    order = rng.permutation(who.size)
    vectors = vectors[order]
    _, parts = np.unique(20 * who[order] + rng.integers(0, 12, who.size) ** 2 // 12, return_inverse=True)
    pairs = rng.permutation(who.size)[:20].reshape(-1, 2).tolist()
    cannot = [(a, b) for a, b in pairs if parts[a] != parts[b]]
    found = average_linkage._join_large(vectors, parts, value, cannot, np.full(who.size, -1))
    expected = joined_by_loops(vectors @ vectors.T >= value, parts, cannot)
    assert sorted(np.flatnonzero(found == number).tolist() for number in np.unique(found)) == expected
    assert len(expected) < np.unique(parts).size
    assert all(found[a] != found[b] for a, b in cannot)


REFUSED: list[dict[str, list[tuple[int, int]]]] = [
    {"must": [(0, 0)]},
    {"must": [(0, 99)]},
    {"cannot": [(-1, 2)]},
    {"must": [(0, 1), (1, 2)], "cannot": [(2, 0)]},
]


@pytest.mark.parametrize("links", REFUSED)
def test_links_that_cannot_be(links: dict[str, list[tuple[int, int]]]) -> None:
    with pytest.raises(UsageError):
        cluster(people([3, 3])[0], impostors(), **links)  # type: ignore[arg-type]


def test_nothing_one_and_too_few_impostors() -> None:
    assert cluster(np.zeros((0, 4), np.float32), impostors()).labels.size == 0
    assert cluster(people([1])[0], impostors()).labels.tolist() == [0]
    with pytest.raises(Undefined, match="20"):
        cluster(people([3])[0], np.zeros(3))


def test_the_score_at_a_rate_counts_and_then_follows_the_tail() -> None:
    scores = np.random.default_rng(0).normal(0, 0.1, 20_000)
    values = [score_at(scores, rate) for rate in (0.5, 0.1, 0.01, 1e-3, 1e-4)]
    np.testing.assert_allclose(values, [0.0, 0.128, 0.233, 0.309, 0.372], atol=0.03)
    assert score_at(np.zeros(50), 1e-3) == 0.0


def test_scores_by_hand() -> None:
    scores = cluster_scores([0, 0, 0, 1, 1], ["a", "a", "b", "b", "b"])
    assert scores.bcubed_precision == pytest.approx((2 * 2 / 3 + 1 / 3 + 2) / 5)
    assert scores.bcubed_recall == pytest.approx((2 + 1 / 3 + 2 * 2 / 3) / 5)
    assert (scores.pairwise_precision, scores.pairwise_recall) == (0.5, 0.5) and scores.pairwise_f == 0.5
    alone = cluster_scores([0, 1], ["a", "b"])
    assert alone.bcubed_f == 1.0 and alone.pairwise_f is None and (alone.clusters, alone.people, alone.n) == (2, 2, 2)
    with pytest.raises(DataError):
        cluster_scores([], [])


def test_distances_are_those_of_scipy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(average_linkage, "BLOCK", 4)
    vectors = np.random.default_rng(0).normal(size=(11, 5))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(average_linkage._distances(vectors), pdist(vectors, "cosine"), atol=1e-12)
