"""Clusters of faces by average linkage, without knowing how many people there are.

Two clusters are one person if the average cosine between their faces reaches a threshold. It depends on how many people
there are to be mistaken for: with K of them, a face is expected to meet K * FMR(t) false matches, so

    FMR(t) = EXPECTED / K, and MOST at most,

where FMR comes from impostor scores of the model (`metrics.impostor_tail`), and K, the effective number of people, is
exp(entropy) of the clusters' sizes. Both are found together: the threshold starts at K = number of faces and falls
until K no longer changes. So no distance has to be chosen, and none was fitted to the people who are sorted.

Photos of a person over many years resemble some of each other, not the average. So where people have many photos
(LARGE), these clusters are compared once more, with each other and with the small ones: two join if a SHARE of their
pairs reaches a stricter score, the one of LINKED times that rate. Two clusters within which most pairs are linked need
more: ALIKE times SHARE of their own share. And the more small clusters there are, the likelier each is a person of its
own: a large cluster counts as if it had OTHERS times as many faces, at least.

Clusters whose average reaches t have a pair that reaches t. So the faces are first parted into the connected components
of the graph of such pairs, which gives the same clusters and needs no matrix of all faces.

Compared on `celebrities12` and LFW (docs/clustering.md) with DBSCAN at its best distance in hindsight, and with
likelihood ratios of a two-covariance model, which split people of many different photos.
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

from facewright.errors import Undefined, UsageError
from facewright.metrics.impostor_tail import score_at

# Chosen on LFW, and on people of many photos made of its vectors (benchmarks/clustering_development.py)
EXPECTED, MOST = 0.1, 0.003  # false matches of a face, and of a pair at most
LARGE = 10  # faces
LINKED, SHARE, ALIKE, OTHERS = 0.4, 0.07, 2.0, 0.1
ROUNDS = 30  # at most, of the search for the threshold
BLOCK = 2_048  # rows of similarities at a time
FEWEST = 20  # impostor scores
APART = 1e9  # the distance of faces that are not one person: no average with it is small
Link = tuple[int, int]
Labels = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Clusters:
    """Faces sorted by person."""

    labels: Labels  # (N,) 0 for the largest cluster, and so on
    threshold: float  # the average cosine within a person
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
        vectors: (N, D) unit vectors. impostors: (Q,) scores of different people by the same model, at least 20.
        threshold: of the average cosine; None: found from the impostors. must, cannot: pairs of faces, by their rows,
            that are one person, and that are not. photos: (N,) the number of each face's photo: faces of one are
            different people, but those of a `must`; -1: says nothing.
    Raises:
        UsageError: a link of a face to itself or beyond the faces, or one that is both. Undefined: too few impostors.
    """
    _check(len(vectors), must, cannot)
    if threshold is None and impostors.size < FEWEST:
        raise Undefined(f"expected at least {FEWEST} impostor scores of the model, got {impostors.size}")
    if len(vectors) == 0:
        return Clusters(np.zeros(0, np.int64), 1.0 if threshold is None else threshold, 0.0)
    must = _within_groups(_groups(len(vectors), must), must)
    photos = np.full(len(vectors), -1, np.int64) if photos is None else photos.copy()
    photos[[face for link in must for face in link]] = -1
    people = float(len(vectors))
    for _ in range(ROUNDS):
        rate = min(EXPECTED / people, MOST)
        value = score_at(impostors, rate) if threshold is None else threshold
        labels = _average_linkage(vectors, value, must, cannot, photos)
        now = _effective(labels)
        if threshold is not None or abs(now - people) < 0.5:
            break
        people = now
    if threshold is None:
        labels = _join_large(vectors, labels, score_at(impostors, LINKED * rate), cannot, photos)
        now = _effective(labels)
    return Clusters(_by_size(labels), value, now)


def _average_linkage(
    vectors: NDArray[np.float32], value: float, must: Sequence[Link], cannot: Sequence[Link], photos: Labels
) -> Labels:
    """Labels of any order."""
    parts = _components(vectors, value, must)
    labels = np.zeros(len(vectors), np.int64)
    following = 0
    order = np.argsort(parts, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(parts[order])) + 1):
        found = np.ones(1, np.int64)
        if rows.size > 1:
            distances = _distances(vectors[rows].astype(np.float64))
            for links, distance in ((must, 0.0), (cannot, APART)):
                distances[_places(rows, links)] = distance
            for places in _of_one_photo(photos[rows]):
                for number, place in enumerate(places, 1):
                    distances[_place(rows.size, place, places[number:])] = APART
            found = fcluster(linkage(distances, "average"), 1 - value, "distance")
        labels[rows] = found + following
        following += int(found.max())
    return labels


def _join_large(
    vectors: NDArray[np.float32], labels: Labels, value: float, cannot: Sequence[Link], photos: Labels
) -> Labels:
    """Join clusters with the large ones, the pair with the largest share of linked faces first."""
    _, labels, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    large = np.flatnonzero(sizes >= LARGE)
    links, within = _links(vectors, labels, large, value), np.zeros(sizes.size, np.int64)
    within[large] = links[large, np.arange(large.size)] - sizes[large]
    apart, least = np.array(cannot, np.int64).reshape(-1, 2), OTHERS * (sizes.size - large.size)
    shares, changed = np.zeros(links.shape), large
    while large.size:
        for number in changed.tolist():  # the row and the column of a large cluster
            column = _shares(links[:, large == number][:, 0], within, sizes, number, least)
            column[[number, *_apart(labels, apart, photos, number)]] = 0
            shares[:, large == number], shares[number] = column[:, None], column[large]
        joined, place = np.unravel_index(shares.argmax(), shares.shape)
        if shares[joined, place] < SHARE:
            break
        changed, gone = large[[place]], np.flatnonzero(large == joined)
        labels[labels == joined] = changed
        within[changed] += within[joined] + 2 * links[joined, place]
        sizes[changed] += sizes[joined]
        links[changed] += links[joined]
        links[:, place] += links[:, gone].sum(axis=1)
        links[large, place] = links[changed[0]]
        shares[joined] = links[joined] = shares[:, gone] = links[:, gone] = 0
    return labels


def _links(vectors: NDArray[np.float32], labels: Labels, large: Labels, value: float) -> Labels:
    """Count the pairs of faces of each cluster and each large one that reach a similarity, (C, L).

    Pairs of faces of two small clusters are not counted: there may be too many small ones.
    """
    links = np.zeros((labels.max() + 1, large.size), np.int64)
    rows = np.argsort(labels, kind="stable")
    rows = rows[np.isin(labels[rows], large)]
    starts = np.searchsorted(labels[rows], large)
    for top in range(0, len(vectors), BLOCK):
        reached = vectors[top : top + BLOCK] @ vectors[rows].T >= value
        np.add.at(links, labels[top : top + BLOCK], np.add.reduceat(reached, starts, axis=1, dtype=np.int64))
    return links


def _shares(links: Labels, within: Labels, sizes: Labels, number: int, least: float) -> NDArray[np.float64]:
    """The share of linked pairs of each cluster with a large one, (C,): less where most pairs of both are linked."""
    fewer, more = np.minimum(sizes, sizes[number]), np.maximum(sizes, sizes[number])
    own = within / np.maximum(sizes * (sizes - 1), 1)
    return np.asarray(links / (fewer * np.maximum(more, least)) / np.maximum(1, ALIKE * np.minimum(own, own[number])))


def _apart(labels: Labels, cannot: NDArray[np.int64], photos: Labels, number: int) -> Labels:
    """The clusters that must stay apart from one: by a link, or by faces in one photo."""
    pairs, own = labels[cannot], photos[(labels == number) & (photos >= 0)]
    return np.union1d(pairs[(pairs == number)[:, ::-1]], labels[np.isin(photos, own)])


def _distances(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 - cosine of all pairs in the order of scipy's `pdist`, by products of blocks, which are faster."""
    n, at = len(vectors), 0
    result = np.empty(n * (n - 1) // 2)
    for top in range(0, n, BLOCK):
        for row, cosines in enumerate(vectors[top : top + BLOCK] @ vectors[top:].T, 1):
            result[at : at + cosines.size - row] = 1 - cosines[row:]
            at += cosines.size - row
    return np.clip(result, 0, None, out=result)


def _components(vectors: NDArray[np.float32], value: float, must: Sequence[Link]) -> Labels:
    """The connected components of the graph of pairs that reach a similarity, or are linked."""
    ends = [np.array(must, np.int64).reshape(-1, 2).T]
    for start in range(0, len(vectors), BLOCK):
        rows, columns = np.nonzero(vectors[start : start + BLOCK] @ vectors.T >= value - 1e-6)
        ends.append(np.stack([rows + start, columns])[:, rows + start < columns])
    rows, columns = np.concatenate(ends, axis=1)
    graph = coo_matrix((np.ones(rows.size, bool), (rows, columns)), (len(vectors), len(vectors)))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)


def _places(rows: NDArray[np.int64], links: Sequence[Link]) -> list[int]:
    """Return the places of the distances of linked faces among those of all pairs of `rows`."""
    at = {int(row): place for place, row in enumerate(rows)} if links else {}
    pairs = [sorted((at[a], at[b])) for a, b in links if a in at and b in at]
    return [int(_place(len(rows), i, np.array(j))) for i, j in pairs]


def _place(faces: int, i: int, j: Labels) -> Labels:
    """Return the places of the distances between face i and faces j > i among those of all pairs."""
    return faces * i - (i + 2) * (i + 1) // 2 + j


def _of_one_photo(photos: Labels) -> list[Labels]:
    """Return the rows of each photo, ascending."""
    order = np.argsort(photos, kind="stable")
    order = order[photos[order] >= 0]
    return np.split(order, np.flatnonzero(np.diff(photos[order])) + 1)


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
