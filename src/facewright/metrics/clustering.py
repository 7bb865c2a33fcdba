"""Clusters against the true people: pairwise F (over all pairs of items) and BCubed F (the mean over items).

Source: A. Bagga and B. Baldwin, Entity-Based Cross-Document Coreferencing Using the Vector Space Model, COLING-ACL
1998; E. Amigó et al., A comparison of extrinsic clustering evaluation metrics, Information Retrieval 12 (2009).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from facewright.errors import DataError
from facewright.records import Record


class ClusterScores(Record):
    """Precision, recall and F of clusters; None: undefined."""

    bcubed_precision: float
    bcubed_recall: float
    bcubed_f: float
    pairwise_precision: float | None  # no pair in a cluster
    pairwise_recall: float | None  # no person with two items
    pairwise_f: float | None
    clusters: int
    people: int
    n: int


def cluster_scores(labels: ArrayLike, people: ArrayLike) -> ClusterScores:
    """Compare clusters with the true people.

    Args:
        labels: (N,) the cluster of each item. people: (N,) its person.
    Raises:
        DataError: no items, or not as many of both.

    >>> scores = cluster_scores([0, 0, 1], ["a", "a", "a"])
    >>> scores.bcubed_precision, round(scores.bcubed_recall, 3), round(scores.pairwise_recall, 3)
    (1.0, 0.556, 0.333)
    """
    found, truth = np.asarray(labels), np.asarray(people)
    if found.ndim != 1 or found.shape != truth.shape or not found.size:
        raise DataError(f"expected a cluster and a person for each of N items, got {found.shape} and {truth.shape}")
    rows, columns = (np.unique(side, return_inverse=True)[1] for side in (found, truth))
    sizes, members = np.bincount(rows).astype(np.float64), np.bincount(columns).astype(np.float64)
    cells, counts = np.unique(np.stack([rows, columns]), axis=1, return_counts=True)
    both = counts.astype(np.float64)
    precision = float((both**2 / sizes[cells[0]]).sum() / found.size)
    recall = float((both**2 / members[cells[1]]).sum() / found.size)
    right, joined, true = (float((side * (side - 1) / 2).sum()) for side in (both, sizes, members))
    pair_precision, pair_recall = right / joined if joined else None, right / true if true else None
    return ClusterScores(
        bcubed_precision=precision,
        bcubed_recall=recall,
        bcubed_f=2 * precision * recall / (precision + recall),
        pairwise_precision=pair_precision,
        pairwise_recall=pair_recall,
        pairwise_f=2 * right / (joined + true) if joined + true else None,
        clusters=sizes.size,
        people=members.size,
        n=found.size,
    )
