"""Pictures embedded, and pairs of them scored: what verification, calibration and search share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facewright.data.pairs import Pairs, read_pairs
from facewright.data.records import Dataset
from facewright.data.store import PixelStore
from facewright.embedding import Embedder, similarities
from facewright.errors import DataError
from facewright.training.events import Listener, Progressed, Said

BLOCK = 256  # pictures between two reports of progress
PAIRS = 65_536  # scored at a time


@dataclass(frozen=True, eq=False)
class Vectors:
    """Embedded pictures of a data set."""

    store: PixelStore
    vectors: NDArray[np.float32]  # (N, D) unit length, row i is store.dataset.records[i]

    @property
    def people(self) -> NDArray[np.str_]:
        """(N,) who each picture shows: the identity where the data say it, else the class.

        Raises:
            DataError: of some picture neither is known.
        """
        data = self.store.dataset
        names = [r.identity or (None if r.label is None else data.classes[r.label]) for r in data.records]
        if None in names:
            path = data.records[names.index(None)].path
            raise DataError(f"{data.where}: expected to know who is on each picture; of {path} that is not said")
        return np.array(names, dtype=np.str_)


@dataclass(frozen=True, eq=False)
class ScoredPairs:
    """Pairs with their cosines."""

    pairs: Pairs
    embedded: Vectors
    scores: NDArray[np.float64]  # (P,) NaN where a picture could not be used
    failures: NDArray[np.int64]  # the indices of those
    digest: str  # of the pixels, who is who, and the folds: equal for equal data, wherever they lie

    @property
    def scored(self) -> NDArray[np.bool_]:
        """(P,) true where there is a score."""
        return ~np.isnan(self.scores)

    @property
    def people(self) -> NDArray[np.str_] | None:
        """(P, 2) who is in each pair; None where that is not known."""
        return None if self.pairs.people is None else np.array(self.pairs.people).reshape(-1, 2)


def embed_all(embedder: Embedder, dataset: Dataset, listen: Listener) -> Vectors:
    """Every picture of a data set, decoded once and embedded; what cannot be read is said and left out.

    Raises:
        DataError: not one picture can be read.
    """
    store = PixelStore.open(dataset, embedder.spec, progress=lambda d, t: listen(Progressed("decoding", d, t)))
    for broken in store.dataset.broken:
        listen(Said(f"left out: {broken.path}: {broken.reason}"))
    count = len(store.dataset)
    vectors = np.empty((count, embedder.width), np.float32)
    for start in range(0, count, BLOCK):
        rows = np.arange(start, min(start + BLOCK, count))
        vectors[rows] = embedder.embed(store.batch(rows))
        listen(Progressed("embedding", int(rows[-1]) + 1, count))
    return Vectors(store, vectors)


def score_pairs(embedder: Embedder, where: str | Path, images: str | Path, listen: Listener) -> ScoredPairs:
    """Read a list of pairs, embed its pictures, each once, and compare.

    Args:
        where: the list (`data.pairs.read_pairs`). images: the folder of its pictures.
    Raises:
        DataError: the list cannot be understood, or none of its pictures can be read.
    """
    pairs = read_pairs(where, images)
    embedded = embed_all(embedder, pairs.dataset(images), listen)
    rows = pairs.rows(embedded.store.dataset.records)
    scores = np.full(len(pairs), np.nan)
    usable = np.flatnonzero((rows >= 0).all(axis=1))
    for start in range(0, usable.size, PAIRS):
        part = usable[start : start + PAIRS]
        scores[part] = similarities(embedded.vectors[rows[part, 0]], embedded.vectors[rows[part, 1]])
    digest = _digest(pairs, rows, embedded.store.digests)
    return ScoredPairs(pairs, embedded, scores, np.flatnonzero(np.isnan(scores)), digest)


def _digest(pairs: Pairs, rows: NDArray[np.int64], digests: Sequence[str]) -> str:
    state = hashlib.blake2b(digest_size=16)
    folds = [-1] * len(pairs) if pairs.fold is None else pairs.fold.tolist()
    for (first, second), same, fold in zip(rows.tolist(), pairs.same.tolist(), folds, strict=True):
        sides = [digests[row] if row >= 0 else "" for row in (first, second)]
        state.update(json.dumps([*sides, same, fold]).encode())
    return state.hexdigest()
