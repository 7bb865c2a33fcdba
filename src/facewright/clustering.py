"""Faces of unknown people, sorted into clusters of one person each, by average linkage (docs/clustering.md).

The cosine s of two faces is evidence of one person, by the rate at which two people reach it (`metrics.impostor_tail`):
e(s) = -log FMR(s), distributed as Exp(1) for two people, whatever the model. So the average of the pairs of two
clusters can be tested. The pairs are not independent: if the clusters have m faces on average, at most FULL, they count
as n = m^GROWTH pairs, whose sum is gamma distributed. Two clusters join if the average reaches isf(EXPECTED / K, n) /
n, where isf is the gamma distribution's inverse survival function, and K the number of people to be mistaken for:
exp(entropy) of the clusters' sizes, found together with them. The last merge of a cluster decides: a person whose
single photos differ is not split because two of them alone are no evidence.

Photos of one origin are more alike, or less, than those the model's impostor scores are of, and most pairs of a pile
are two people. So the scores are moved by the difference of the medians: by half of it if the pile's is lower, and by
less where faces are few, or where it is more than the scores' standard deviation (from twice of it not at all).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.stats import gamma

from facewright.errors import Undefined, UsageError
from facewright.metrics.impostor_tail import score_at

# Chosen on half of LFW's people (benchmarks/clustering_development.py)
EXPECTED, GROWTH = 0.05, 0.2  # false matches of a face; see above
FULL = 30  # faces of a cluster on average: further ones say nothing new
PRIOR = 20  # faces that the median of the impostor scores counts for
ROUNDS = 30  # at most, of the search for K
SAMPLE, BLOCK = 2_000, 2_048  # faces of the median, at most; rows of similarities at a time
STRONGEST = 30.0  # evidence of a pair, at most: a rate of 1e-13
MOST = 50_000  # faces: the distances of their pairs take 10 GB, and scipy copies them
FEWEST = 20  # impostor scores
APART = 1e9  # the distance of faces that are not one person: no average with it is small
Link = tuple[int, int]
Labels = NDArray[np.int64]
Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Clusters:
    """Faces sorted by person."""

    labels: Labels  # (N,) 0 for the largest cluster, and so on
    threshold: float  # the cosine at which two single faces are one person
    people: float  # K, the effective number of people


def cluster(
    vectors: NDArray[np.float32],
    impostors: NDArray[np.float64],
    *,
    threshold: float | None = None,
    must: Sequence[Link] = (),
    cannot: Sequence[Link] = (),
    photos: Labels | None = None,
) -> Clusters:
    """Sort faces by person.

    Args:
        vectors: (N, D) unit vectors, N at most 50,000; memory: 8 N^2 bytes.
        impostors: (Q,) scores of different people by the same model, at least 20.
        threshold: of the average cosine, for all clusters; None: found from the impostors. must, cannot: pairs of
            faces, by their rows, that are one person, and that are not. photos: (N,) the number of each face's photo:
            faces of one are different people, but those of a `must`; -1: says nothing.
    Raises:
        UsageError: too many faces, a link of a face to itself or beyond the faces, or one that is both.
        Undefined: too few impostors.
    """
    count = len(vectors)
    if count > MOST:
        raise UsageError(f"expected at most {MOST:,} faces to sort, got {count:,}; sort the photos in parts")
    _check(count, must, cannot)
    if threshold is None and impostors.size < FEWEST:
        raise Undefined(f"expected at least {FEWEST} impostor scores of the model, got {impostors.size}")
    if count < 2:
        return Clusters(np.zeros(count, np.int64), 1.0 if threshold is None else threshold, float(count))
    curve = (np.array([-1.0, 1.0]), np.array([-1.0, 1.0]))
    if threshold is None:
        impostors = impostors + _shift(vectors, impostors)
        curve = _evidence(impostors)
    tree = _tree(_distances(vectors, curve, _apart(count, photos, must)), float(curve[1][-1]), must, cannot)
    people, pairs = float(count), np.minimum(tree[:, 3] / 2, FULL) ** GROWTH
    for _ in range(ROUNDS):
        rate = EXPECTED / people
        least = gamma.isf(rate, pairs) / pairs if threshold is None else threshold
        labels = _cut(tree, tree[:, 2] >= least)
        before, people = people, _effective(labels)
        if threshold is not None or abs(people - before) < 0.5:
            break
    return Clusters(_by_size(labels), score_at(impostors, rate) if threshold is None else threshold, people)


def _shift(vectors: NDArray[np.float32], impostors: Values) -> float:
    """The way of the impostor scores to those of these faces, as far as those are pairs of two people."""
    some = vectors[:: len(vectors) // SAMPLE + 1]
    way = np.median((some @ some.T)[np.triu_indices(len(some), 1)]) - np.median(impostors)
    most = impostors.std()
    likely = max(way / 2, -most) if way < 0 else min(way, max(2 * most - way, 0))
    return float(likely) * len(vectors) / (len(vectors) + PRIOR)


def _evidence(impostors: Values) -> tuple[Values, Values]:
    """Cosines that rise, and -log FMR at each."""
    evidence = np.linspace(0, STRONGEST, 601)
    return np.array([score_at(impostors, rate) for rate in np.exp(-evidence)]), evidence


def _apart(faces: int, photos: Labels | None, must: Sequence[Link]) -> Labels:
    """The photos whose faces are different people: -1 for a face that a link makes one with others."""
    photos = np.full(faces, -1, np.int64) if photos is None else photos.copy()
    photos[[face for link in must for face in link]] = -1
    return photos


def _tree(distances: Values, top: float, must: Sequence[Link], cannot: Sequence[Link]) -> Values:
    """Merges as scipy's `linkage` gives them, but with top - the average distance."""
    faces = round((1 + (1 + 8 * distances.size) ** 0.5) / 2)
    for links, distance in ((_within_groups(_groups(faces, must), must), 0.0), (cannot, APART)):
        distances[_places(faces, links)] = distance
    tree = np.asarray(linkage(distances, "average"))
    tree[:, 2] = top - tree[:, 2]
    return tree


def _distances(vectors: NDArray[np.float32], curve: tuple[Values, Values], photos: Labels) -> Values:
    """The highest value of a curve over the cosine - that of each pair, in the order of scipy's `pdist`."""
    n, at = len(vectors), 0
    result = np.empty(n * (n - 1) // 2)
    exact = vectors.astype(np.float64)
    for top in range(0, n, BLOCK):
        for row, cosines in enumerate(exact[top : top + BLOCK] @ exact[top:].T, 1):
            found = curve[1][-1] - np.interp(cosines[row:], *curve)
            if photos[top + row - 1] >= 0:
                found[photos[top + row :] == photos[top + row - 1]] = APART
            result[at : at + found.size] = found
            at += found.size
    return result


def _cut(tree: Values, accepted: NDArray[np.bool_]) -> Labels:
    """The largest clusters, of any order, whose last merge is accepted."""
    faces, within = len(tree) + 1, accepted.tolist()
    for merge, parts in reversed(list(enumerate(tree[:, :2].astype(np.int64).tolist()))):
        if within[merge]:
            for part in parts:
                if part >= faces:
                    within[part - faces] = True
    heights = tree.copy()
    heights[:, 2] = np.logical_not(within)
    return np.asarray(fcluster(heights, 0.5, "distance"), np.int64)


def _places(faces: int, links: Sequence[Link]) -> list[int]:
    """Return the places of the distances of linked faces among those of all pairs."""
    return [faces * i - (i + 2) * (i + 1) // 2 + j for i, j in map(sorted, links)]


def _effective(labels: Labels) -> float:
    """exp(entropy) of the clusters' sizes: the number of equally large clusters that are as hard to guess."""
    shares = np.unique(labels, return_counts=True)[1] / labels.size
    return float(np.exp(-(shares * np.log(shares)).sum()))


def _by_size(labels: Labels) -> Labels:
    """The same clusters, numbered by size; of equals the one with the first face first."""
    _, first, inverse, counts = np.unique(labels, return_index=True, return_inverse=True, return_counts=True)
    rank = np.empty(counts.size, np.int64)
    rank[np.lexsort((first, -counts))] = np.arange(counts.size)
    return rank[inverse]


def _groups(faces: int, links: Sequence[Link]) -> Labels:
    """The groups of faces that links make one person."""
    rows, columns = np.array(links, np.int64).reshape(-1, 2).T
    graph = coo_matrix((np.ones(rows.size, bool), (rows, columns)), (faces, faces))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)


def _within_groups(groups: Labels, links: Sequence[Link]) -> list[Link]:
    """All pairs within the groups of linked faces: so each group is joined before anything else is."""
    linked = sorted({face for link in links for face in link})
    together: dict[int, list[int]] = {}
    for face in linked:
        together.setdefault(int(groups[face]), []).append(face)
    return [pair for members in together.values() for pair in combinations(members, 2)]


def _check(faces: int, must: Sequence[Link], cannot: Sequence[Link]) -> None:
    for a, b in (*must, *cannot):
        if a == b or not (0 <= a < faces and 0 <= b < faces):
            raise UsageError(f"expected links between two of {faces} faces, got {a} and {b}")
    group = _groups(faces, must)
    for a, b in cannot:
        if group[a] == group[b]:
            raise UsageError(f"faces {a} and {b} are linked as one person and as two; remove one of the links")
