"""Faces sorted by person: against scipy on all faces, with links, and the threshold that is found."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist
from scipy.stats import gamma

from facewright import clustering
from facewright.clustering import cluster
from facewright.errors import DataError, Undefined, UsageError
from facewright.metrics.identification import cluster_scores
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
def test_a_threshold_cuts_the_average_linkage_of_scipy(value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clustering, "BLOCK", 16)
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


def test_large_groups_need_less_of_their_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    sharp, who = people([40, 40, 40], noise=0.0)
    rng = np.random.default_rng(1)
    blur = rng.uniform(0.5, 2.2, (who.size, 1)) / WIDTH**0.5
    faces = np.concatenate([unit(sharp + blur * rng.standard_normal(sharp.shape)), people([1] * 6, seed=5)[0]])
    truth = np.concatenate([who, np.arange(3, 9)])
    found = cluster_scores(cluster(faces, impostors()).labels, truth)
    monkeypatch.setattr(clustering, "GROWTH", 0.0)
    equal = cluster_scores(cluster(faces, impostors()).labels, truth)
    assert found.bcubed_precision > 0.95 and found.bcubed_f > equal.bcubed_f + 0.02
    monkeypatch.setattr(clustering, "GROWTH", 0.2)
    monkeypatch.setattr(clustering, "FULL", 1)
    assert cluster_scores(cluster(faces, impostors()).labels, truth) == equal


def by_loops(
    vectors: NDArray[np.float32], scores: NDArray[np.float64], apart: list[tuple[int, int]]
) -> tuple[list[list[int]], float]:
    """The rule of the module, from each pair of faces and the rate at each cosine."""
    count = len(vectors)
    pairs = [float(vectors[a] @ vectors[b]) for a in range(count) for b in range(a + 1, count)]
    way = np.median(pairs) - np.median(scores)
    way = max(0, min(way, 2 * scores.std() - way)) if way > 0 else max(way / 2, -scores.std())
    moved = scores + way * count / (count + 20)

    def evidence(cosine: float) -> float:
        low, high = 0.0, 30.0  # of -log of the rate at which impostors reach the cosine
        for _ in range(45):
            middle = (low + high) / 2
            low, high = (middle, high) if score_at(moved, float(np.exp(-middle))) < cosine else (low, middle)
        return low

    exact = vectors.astype(np.float64)
    each = [[evidence(float(a @ b)) if a is not b else 0.0 for b in exact] for a in exact]
    for a, b in apart:
        each[a][b] = each[b][a] = -1e9

    def mean(some: list[int], others: list[int]) -> float:
        return float(np.mean([each[a][b] for a in some for b in others]))

    people = float(count)
    while True:
        groups, accepted = [[face] for face in range(count)], [[face] for face in range(count)]
        while len(groups) > 1:
            places = ((a, b) for a in range(len(groups)) for b in range(a))
            a, b = max(places, key=lambda pair: mean(groups[pair[0]], groups[pair[1]]))
            first, second = groups[a], groups[b]
            joined, size = sorted(first + second), min((len(first) + len(second)) / 2, clustering.FULL)
            pairs = size**clustering.GROWTH
            least = gamma(pairs).isf(clustering.EXPECTED / people) / pairs
            if mean(first, second) >= least:
                accepted = [group for group in accepted if not {*group} <= {*joined}] + [joined]
            groups = [group for group in groups if group not in (first, second)] + [joined]
        shares = [len(group) / count for group in accepted]
        before, people = people, float(np.exp(-sum(share * np.log(share) for share in shares)))
        if abs(people - before) < 0.5:
            return sorted(accepted), people


@pytest.mark.parametrize(("noise", "way"), [(0.8, -0.1), (1.2, 0.02), (1.6, 0.1)])
def test_clusters_are_those_of_loops(noise: float, way: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clustering, "BLOCK", 8)
    monkeypatch.setattr(clustering, "FULL", 3)
    rng = np.random.default_rng(3)
    vectors, who = people([6, 4, 2, 1, 1], 0, noise)
    vectors, scores = vectors[rng.permutation(who.size)], impostors()[:200] + way
    apart = [(0, 1), (2, 9)]
    found = cluster(vectors, scores, cannot=apart)
    groups, effective = by_loops(vectors, scores, apart)
    assert sorted(np.flatnonzero(found.labels == number).tolist() for number in np.unique(found.labels)) == groups
    assert found.people == pytest.approx(effective) and 1 < len(groups) < who.size
    assert all(found.labels[a] != found.labels[b] for a, b in apart)


def test_impostor_scores_of_another_origin_are_moved_to_the_faces() -> None:
    vectors, who = people([12, 9, 6, 4, 2, 1, 1, 1])
    alike = unit(vectors.astype(np.float64) + 0.4 / WIDTH**0.5)  # as photos of one camera
    way = float(np.median(alike @ alike.T) - np.median(vectors @ vectors.T))
    scores = impostors()
    assert 0.1 < way < 0.2 and scores.std() > 0.1
    moved = clustering._shift(alike, scores) - clustering._shift(vectors, scores)
    assert moved == pytest.approx(min(way, scores.std()) * 36 / 56, abs=0.03)
    assert cluster_scores(cluster(alike, scores).labels, who).bcubed_f > 0.9


@pytest.mark.parametrize(("noise", "others"), [(0.3, 0), (1.6, 0), (0.8, 30)])
def test_a_pile_of_one_person_does_not_move_the_impostor_scores(noise: float, others: int) -> None:
    faces = np.concatenate([people([150], noise=noise)[0], people([1] * others, 5)[0]])
    scores = impostors()
    assert clustering._shift(faces, scores) < 0.3 * scores.std()
    found = cluster_scores(cluster(faces, scores).labels, [0] * 150 + list(range(1, others + 1)))
    assert found.bcubed_f > 0.9


def test_the_last_merge_of_a_cluster_decides() -> None:
    """0 and 1 are joined first; the tree's other merges are those of 2 and 3, of both pairs, and of 4."""
    tree = np.array([[0, 1, 0.0, 2], [2, 3, 0.0, 2], [5, 6, 0.0, 4], [4, 7, 0.0, 5]])
    labels = clustering._cut(tree, np.array([False, True, True, False]))
    assert len(set(labels[:4])) == 1 and labels[4] != labels[0]
    assert len(set(clustering._cut(tree, np.array([True, False, False, False])))) == 4


def test_too_many_faces_are_refused_before_memory_is_taken() -> None:
    with pytest.raises(UsageError, match="50,000"):
        cluster(np.zeros((50_001, 1), np.float32), impostors())


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
    monkeypatch.setattr(clustering, "BLOCK", 4)
    vectors = np.random.default_rng(0).normal(size=(11, 5))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(
        clustering._distances(vectors, (np.array([-1.0, 1.0]),) * 2, np.full(11, -1)),
        pdist(vectors, "cosine"),
        atol=1e-12,
    )
