"""All-pairs verification: the streamed exact ROC against scikit-learn's `roc_curve`, in the same memory.

    python benchmarks/all_pairs.py [--faces 13233] [--dimensions 128] [--limit-mb 2000] [--threads 2] [--json]

Random unit vectors with the people of a set like LFW (5,749 names for 13,233 faces). Both sides start from the vectors
and end with a ROC that keeps every threshold and the area under it:

    ours            `metrics.streaming.all_pairs`, with equal error rate and TAR at six FARs, over all pairs
    scikit-learn    cosines by one product, `roc_curve(drop_intermediate=False)` and `auc`, over all pairs of the first
                    faces: as many as it can hold below the limit, found by trying
    ours, prefix    ours over the same prefix, for a ratio of times

Each measurement runs in a process of its own; memory is the peak of the whole process, libraries included. On the
prefix the two areas must agree to 1e-7: cosines of one large product and of tiles differ in their last bits. (That the
curve over equal scores is equal bit for bit is shown in tests/metrics/test_streaming.py.)
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time

import numpy as np

from facewright.metrics.streaming import all_pairs

NAMES = 5_749
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def faces(n: int, dimensions: int) -> tuple[np.ndarray, np.ndarray]:
    """n unit vectors (n, D) float32 and who they are; a shorter set is the beginning of a longer one."""
    generator = np.random.default_rng(0)
    vectors = generator.standard_normal((n, dimensions), dtype=np.float32)
    names = np.random.default_rng(1).random(n)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), (names * NAMES).astype(int)


def streamed(vectors: np.ndarray, names: np.ndarray) -> float:
    return all_pairs(vectors, names).auc


def scikit_learn(vectors: np.ndarray, names: np.ndarray) -> float:
    from sklearn.metrics import auc, roc_curve

    cosines = vectors @ vectors.T
    upper = np.tri(len(names), k=-1, dtype=bool).T
    scores, same = cosines[upper], (names[:, None] == names[None, :])[upper]
    del cosines, upper
    far, tar, _ = roc_curve(same, scores, drop_intermediate=False)
    return float(auc(far, tar))


SIDES = {"ours": streamed, "scikit-learn": scikit_learn}


def measure_here(side: str, n: int, dimensions: int) -> dict[str, float]:
    """Time and peak memory of one side in this process."""
    vectors, names = faces(n, dimensions)
    SIDES[side](*faces(500, dimensions))  # imports and first calls do not count
    start = time.perf_counter()
    area = SIDES[side](vectors, names)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {"faces": n, "pairs": n * (n - 1) // 2, "seconds": seconds, "mb": peak / 1e6, "auc": area}


def measure(side: str, n: int, options: argparse.Namespace) -> dict[str, float]:
    """`measure_here` in a process of its own."""
    command = [sys.executable, __file__, "--dimensions", str(options.dimensions), "--child", side, str(n)]
    environment = os.environ | dict.fromkeys(THREADS, str(options.threads))
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    row: dict[str, float] = json.loads(done.stdout)
    return row


def largest_prefix(options: argparse.Namespace) -> dict[str, float]:
    """scikit-learn on about as many faces as stay below the limit: two guesses by memory a pair, each stepped down."""
    small, fits = measure("scikit-learn", 500, options), measure("scikit-learn", 2_000, options)
    for _ in range(2):
        a_pair = max(fits["mb"] - small["mb"], 1e-6) / (fits["pairs"] - small["pairs"])
        n = min(options.faces, int((2 * (options.limit_mb - small["mb"]) / a_pair) ** 0.5))
        while n > fits["faces"] * 1.01:
            row = measure("scikit-learn", n, options)
            if row["mb"] <= options.limit_mb:
                fits = row
                break
            n = int(n * 0.985)
    return fits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=int, default=13_233)
    parser.add_argument("--dimensions", type=int, default=128)
    parser.add_argument("--limit-mb", type=float, default=2_000, help="peak memory of a process, millions of bytes")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--child", nargs=2, metavar=("SIDE", "FACES"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure_here(options.child[0], int(options.child[1]), options.dimensions)))
        return
    peer = largest_prefix(options)
    rows = {"ours": measure("ours", options.faces, options), "scikit-learn": peer}
    rows["ours, prefix"] = measure("ours", int(peer["faces"]), options)
    if abs(rows["ours, prefix"]["auc"] - peer["auc"]) > 1e-7:
        raise SystemExit(f"the areas differ: {rows['ours, prefix']['auc']} and {peer['auc']}")
    ratio = peer["seconds"] / rows["ours, prefix"]["seconds"]
    if options.json:
        print(json.dumps({"limit_mb": options.limit_mb, "threads": options.threads, "rows": rows, "ratio": ratio}))
        return
    for name, row in rows.items():
        speed = row["pairs"] / row["seconds"] / 1e6
        sys.stdout.write(
            f"{name:<14}{row['faces']:>8,.0f} faces{row['pairs']:>13,.0f} pairs{row['seconds']:>8.2f} s"
            f"{row['mb']:>8,.0f} MB{speed:>7.1f} M pairs/s\n"
        )
    sys.stdout.write(f"on the prefix ours is {ratio:.1f} times as fast, and the areas agree to 1e-7\n")


if __name__ == "__main__":
    main()
