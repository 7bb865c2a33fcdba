"""Face or not, patch by patch: how well three small networks tell them apart, and how fast.

    python benchmarks/patches.py DATA [--models pointwise_facenet,tinydarknet,patchnet] [--out runs/patches] [--seed 0]

DATA is a folder with `face/` and `nonface/`, or anything of two classes. Each network is trained by the recipe
`face-or-not` on the same split. The ROC's area is of the test part, with a stratified bootstrap over patches (2,000
resamples, seeded); HTER at the threshold chosen on the validation part. Finished runs in --out are kept. Patches a
second are of batches of 256 and of single patches, in inference, on the threads torch has.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facewright import train
from facewright.evaluation.binary import labelled_scores
from facewright.evaluation.results import latency
from facewright.metrics.classification import roc_auc
from facewright.runs import Run

RESAMPLES = 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--models", default="pointwise_facenet,tinydarknet,patchnet")
    parser.add_argument("--out", type=Path, default=Path("runs/patches"))
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    print("| network | parameters | ROC-AUC | HTER | patches/s, 256 at once | one by one |\n|---|---|---|---|---|---|")
    for model in asked.models.split(","):
        done = (asked.out / model / "evaluation.json").is_file()
        run = (
            Run(asked.out / model)
            if done
            else train(asked.data, model=model, recipe="face-or-not", out=asked.out / model, seed=asked.seed)
        )
        print(_row(run, asked.seed), flush=True)


def _row(run: Run, seed: int) -> str:
    binary = run.classification.binary
    if binary is None:
        raise SystemExit(f"{run.folder}: expected two classes")
    taken = latency(run.classifier.model, run.facts.image_size, batch=256)
    scores, positive = labelled_scores(run.class_predictions)
    area, low, high = _area(scores, positive, seed)
    hter = binary.hter
    return (
        f"| {run.facts.model} | {run.facts.parameters:,} | {area:.5f} ({low:.5f} to {high:.5f}) "
        f"| {hter.value:.1%} ({hter.low:.1%} to {hter.high:.1%}, n={hter.n:,}) "
        f"| {taken.images_per_second:,.0f} | {1000 / taken.median_ms:,.0f} |"
    )


def _area(scores: NDArray[np.float64], positive: NDArray[np.bool_], seed: int) -> tuple[float, float, float]:
    """The area under the ROC and the ends of its interval."""
    random = np.random.default_rng(seed)
    sides = np.flatnonzero(positive), np.flatnonzero(~positive)
    drawn = []
    for _ in range(RESAMPLES):
        rows = np.concatenate([random.choice(side, len(side)) for side in sides])
        drawn.append(roc_auc(positive[rows], scores[rows]))
    low, high = np.percentile(drawn, [2.5, 97.5])
    return roc_auc(positive, scores), float(low), float(high)


if __name__ == "__main__":
    main()
