"""Clusters of faces by average linkage, beside DBSCAN, HDBSCAN and Chinese whispers.

    python benchmarks/clustering.py FOLDER [--model MODEL] [--detector FILE] [--least 2] [--unknown FOLDER]
        [--share 0.05] [--without NAME] [--impostors FOLDER] [--cache FILE.npz] [--unknown-cache FILE.npz] [--json]
    python benchmarks/clustering.py --synthetic 20000

FOLDER has a folder per person; people with fewer photos than --least are left out, and those of --without. --unknown
mixes in faces of another such folder, one a person, until they are that share of all. The impostor scores of "average
linkage" are the model's own; else 1,100 pairs of people of --impostors, or of the other half of --unknown, who are not
among those sorted.
Every photo is embedded once, and kept in the caches.

average linkage    `facewright cluster`, at the threshold that it finds without having seen these people
DBSCAN             at least 2 faces, at the distance 1 - that threshold; and at the best of 30 distances in hindsight
Chinese whispers   on the graph of pairs that reach the threshold (Biemann 2006); likewise
HDBSCAN            scikit-learn's, clusters of at least 2 faces; faces that it calls noise are people of their own

--synthetic times average linkage on so many unit vectors of 128 numbers: people of 1 to 200 photos, spread as one.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from facewright.clustering import cluster
from facewright.metrics.identification import ClusterScores, cluster_scores
from facewright.metrics.impostor_tail import scores_of

HINDSIGHT = 30  # distances
ROUNDS = 20  # of Chinese whispers
PAIRS = 1_100  # impostor pairs of --impostors
Vectors = NDArray[np.float32]
Labels = NDArray[np.int64]


def embeddings(
    folder: Path, model: str, detector: str | None, cache: Path | None
) -> tuple[Vectors, NDArray[np.str_], NDArray[np.float64]]:
    """The vectors of all photos with a face, (N, D), their people, and the model's own impostor scores."""
    if cache is not None and cache.is_file():
        with np.load(cache, allow_pickle=False) as kept:
            return kept["vectors"], kept["names"], kept["impostors"] if "impostors" in kept else np.zeros(0)
    from facewright import images
    from facewright.images import images_below
    from facewright.recognition import Recognizer

    recognizer = Recognizer.load(model, detector=detector)
    found = [(recognizer.vector(images.read(path))[0], path.parent.name) for path in images_below(folder)]
    vectors = np.stack([vector for vector, _ in found if vector is not None])
    names = np.array([name for vector, name in found if vector is not None])
    held = [one.histograms for one in recognizer.thresholds() if one.histograms is not None]
    impostors = scores_of(held[-1] if held else None)
    if cache is not None:
        np.savez(cache, vectors=vectors, names=names, impostors=impostors)
    return vectors, names, impostors


def impostor_scores(vectors: Vectors, names: NDArray[np.str_]) -> NDArray[np.float64]:
    """Scores of pairs of the first photos of two people."""
    firsts = vectors[np.unique(names, return_index=True)[1]]
    pairs = (firsts @ firsts.T)[np.triu_indices(len(firsts), 1)].astype(np.float64)
    return np.random.default_rng(0).choice(pairs, min(PAIRS, pairs.size), replace=False)


def dbscan(vectors: Vectors, threshold: float) -> Labels:
    from sklearn.cluster import DBSCAN

    distances = np.clip(1 - vectors @ vectors.T, 0, None)
    return _alone(DBSCAN(eps=max(1 - threshold, 1e-6), min_samples=2, metric="precomputed").fit_predict(distances))


def hdbscan(vectors: Vectors, threshold: float) -> Labels:
    """HDBSCAN on Euclidean distances of unit vectors; it takes no threshold."""
    from sklearn.cluster import HDBSCAN

    return _alone(HDBSCAN(min_cluster_size=2, copy=True).fit_predict(vectors.astype(np.float64)))


def chinese_whispers(vectors: Vectors, threshold: float) -> Labels:
    """Each face takes, in random order, the label that its neighbours' similarities favour.

    Source: C. Biemann, "Chinese whispers - an efficient graph clustering algorithm", TextGraphs 2006.
    """
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -1)
    graph = csr_matrix(np.where(similarity >= threshold, similarity, 0))
    labels, drawn = np.arange(len(vectors)), np.random.default_rng(0)
    for _ in range(ROUNDS):
        before = labels.copy()
        for face in drawn.permutation(len(vectors)):
            near = slice(graph.indptr[face], graph.indptr[face + 1])
            if near.start < near.stop:
                own, place = np.unique(labels[graph.indices[near]], return_inverse=True)
                labels[face] = own[np.bincount(place, graph.data[near]).argmax()]
        if (labels == before).all():
            break
    return labels


def _alone(labels: NDArray[np.integer]) -> Labels:
    """Make each face without a cluster (-1) a person of its own."""
    result = np.asarray(labels, np.int64).copy()
    noise = result < 0
    result[noise] = result.max() + 1 + np.arange(int(noise.sum()))
    return result


def best_of(method: Callable[[Vectors, float], Labels], vectors: Vectors, people: NDArray[np.str_]) -> ClusterScores:
    """The scores at the distance whose BCubed F is highest, in hindsight."""
    return max(
        (cluster_scores(method(vectors, 1 - distance), people) for distance in np.linspace(0.02, 0.9, HINDSIGHT)),
        key=lambda scores: scores.bcubed_f,
    )


def measure(vectors: Vectors, people: NDArray[np.str_], impostors: NDArray[np.float64]) -> list[dict[str, Any]]:
    """A row for each method."""
    found = cluster(vectors, impostors)
    at = {"average linkage": found.labels}
    at |= {
        "DBSCAN": dbscan(vectors, found.threshold),
        "Chinese whispers": chinese_whispers(vectors, found.threshold),
        "HDBSCAN": hdbscan(vectors, 0.0),
    }
    rows = [(name, cluster_scores(labels, people)) for name, labels in at.items()]

    def linkage(given: Vectors, threshold: float) -> Labels:
        return cluster(given, impostors, threshold=threshold).labels

    for name, method in (("average linkage", linkage), ("DBSCAN", dbscan), ("Chinese whispers", chinese_whispers)):
        rows.append((f"{name}, best distance in hindsight", best_of(method, vectors, people)))
    return [{"method": name, **scores.to_dict()} for name, scores in rows]


def synthetic(count: int) -> dict[str, Any]:
    """Time average linkage on random people."""
    drawn = np.random.default_rng(0)
    sizes = drawn.integers(1, 200, count)
    people = np.repeat(np.arange(count), sizes)[:count]
    vectors = drawn.normal(size=(people.max() + 1, 128))[people] + 0.8 * drawn.normal(size=(count, 128))
    unit = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    impostors = impostor_scores(unit, people.astype(np.str_))
    start, computed = time.perf_counter(), time.process_time()
    labels = cluster(unit, impostors).labels
    seconds, computed = time.perf_counter() - start, time.process_time() - computed
    return {"faces": count, "seconds": seconds, "cpu_seconds": computed, **cluster_scores(labels, people).to_dict()}


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--model", default="built-in")
    parser.add_argument("--detector")
    parser.add_argument("--least", type=int, default=2)
    parser.add_argument("--unknown", type=Path)
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--without", nargs="*", default=())
    parser.add_argument("--impostors", type=Path)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--unknown-cache", type=Path)
    parser.add_argument("--synthetic", type=int)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(words)
    if asked.synthetic is not None:
        row = synthetic(asked.synthetic)
        counts = f"{row['faces']:,} faces, {row['people']:,} people"
        text = f"{counts}: {row['seconds']:.1f} s ({row['cpu_seconds']:.1f} s of CPU), BCubed F {row['bcubed_f']:.4f}"
        print(json.dumps(row) if asked.json else text)
        return
    if asked.folder is None:
        parser.error("give FOLDER or --synthetic")
    vectors, names, impostors = embeddings(asked.folder, asked.model, asked.detector, asked.cache)
    _, place, photos = np.unique(names, return_inverse=True, return_counts=True)
    kept = (photos[place] >= asked.least) & ~np.isin(names, asked.without)
    vectors, names = vectors[kept], names[kept]
    if asked.unknown is not None:
        others, unknown_names, _ = embeddings(asked.unknown, asked.model, asked.detector, asked.unknown_cache)
        people, firsts = np.unique(unknown_names, return_index=True)
        half = people.size // 2  # the other half gives the impostor scores where the model has none
        count = min(half, round(asked.share / (1 - asked.share) * len(vectors)))
        vectors, names = np.concatenate([vectors, others[firsts[:count]]]), np.concatenate([names, people[:count]])
        if not impostors.size:
            rest = np.isin(unknown_names, people[half:])
            impostors = impostor_scores(others[rest], unknown_names[rest])
    elif not impostors.size and asked.impostors is not None:
        impostors = impostor_scores(*embeddings(asked.impostors, asked.model, asked.detector, asked.unknown_cache)[:2])
    table = measure(vectors, names, impostors)
    if asked.json:
        print(json.dumps(table))
        return
    print(f"{len(vectors):,} faces of {np.unique(names).size:,} people\n")
    print("| method | BCubed P | R | F | pairwise F | groups |\n|---|---|---|---|---|---|")
    for row in table:
        shares = (row["bcubed_precision"], row["bcubed_recall"], row["bcubed_f"])
        pairwise = "undefined" if row["pairwise_f"] is None else f"{row['pairwise_f']:.3f}"
        print(f"| {row['method']} | {' | '.join(f'{one:.4f}' for one in shares)} | {pairwise} | {row['clusters']:,} |")


if __name__ == "__main__":
    main()
