"""Half total error rate by balancing with generated images of the smaller class, beside other ways, over several seeds.

    python benchmarks/generated_minority.py DATA [--model plain_cnn] [--size 32] [--seeds 5] [--set KEY=VALUE …]
        [--out runs/generated]

Each seed gives another split, and for all ways the same: no balancing, under-sampling, each image of the smaller class
`--times` times an epoch with another augmentation, and images of a diffusion model. Network, optimizer and augmentation
are the same, and each sees about as many images. The threshold is chosen on the validation part. Differences are of
HTER on the same test part, paired by seed; the interval (t, 95 %) and p are over seeds, whose test parts overlap.
Finished runs in --out are kept, unfinished ones resumed. Writes one JSON to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from balancing import OPTIONS, RESULTS, binary_of, show
from scipy import stats

from facewright import train
from facewright.runs import Run

OURS = "generated images"
WAYS = {name: OPTIONS[name] for name in ("none", "under-sampling", "minority x 7, augmented")}
WAYS[OURS] = ("hter-generate", {})


def epochs_of(way: str, counts: dict[str, int], times: int, images: int) -> int:
    """How many epochs of a way show about so many images."""
    least, most = min(counts.values()), max(counts.values())
    epoch = {"none": most + least, "under-sampling": 2 * least, OURS: 2 * most}.get(way, most + times * least)
    return max(1, round(images / epoch))


def trained(asked: argparse.Namespace, way: str, seed: int, counts: dict[str, int]) -> Run:
    recipe, changes = WAYS[way]
    changes = changes | {"input.size": str(asked.size), "training.precision": "float32"}
    changes["training.epochs"] = str(epochs_of(way, counts, asked.times, asked.images))
    if recipe == "hter-augment-minority":
        changes["sampling.times"] = str(asked.times)
    if way == OURS:
        changes |= dict(pair.split("=", 1) for pair in asked.set)
    place = asked.out / f"{way.replace(' ', '-').replace(',', '')}-{seed}"
    print(f"seed {seed}, {way}", flush=True)
    return train(
        asked.data, model=asked.model, recipe=recipe, out=place, seed=seed, overrides=changes, resume=True,
        report=False, on_event=show,
    )  # fmt: skip


def compared(values: list[float], others: list[float]) -> dict[str, float] | None:
    """The mean difference over seeds, its 95 % interval and the p of a paired t-test; None: too few, or all equal."""
    differences = np.subtract(values, others)
    if len(differences) < 2 or not differences.any():
        return None
    found = stats.ttest_1samp(differences, 0.0)
    low, high = found.confidence_interval(0.95)
    return {"value": float(differences.mean()), "low": float(low), "high": float(high), "p": float(found.pvalue)}


def shown(one: dict[str, float] | None) -> str:
    return (
        ""
        if one is None
        else f"{100 * one['value']:+.1f} ({100 * one['low']:+.1f} to {100 * one['high']:+.1f}), p = {one['p']:.3f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data")
    parser.add_argument("--model", default="plain_cnn")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--times", type=int, default=7)
    parser.add_argument("--images", type=int, default=14_000, help="that each way sees")
    parser.add_argument("--set", action="append", default=[], help="generation.updates=3000; repeatable")
    parser.add_argument("--out", type=Path, default=Path("runs/generated"))
    asked = parser.parse_args()
    from facewright.data.sources import open_dataset

    counts = dict(open_dataset(asked.data).counts())
    hter: dict[str, list[float]] = {way: [] for way in WAYS}
    auc: dict[str, list[float]] = {way: [] for way in WAYS}
    for seed in range(asked.seeds):
        runs = {way: trained(asked, way, seed, {n: round(0.6 * c) for n, c in counts.items()}) for way in WAYS}
        if len({run.predictions.paths for run in runs.values()}) > 1:
            raise SystemExit("the runs were tested on different images")
        for way, run in runs.items():
            hter[way].append(binary_of(run).hter.value)
            auc[way].append(binary_of(run).auc)
    report(asked, runs[OURS], hter, auc)


def report(asked: argparse.Namespace, last: Run, hter: dict[str, list[float]], auc: dict[str, list[float]]) -> None:
    """Print the table and write the JSON."""
    rows: dict[str, Any] = {}
    print("\n| balancing | test HTER, mean | lowest to highest | AUC, mean | HTER less that of none (points) |")
    print("|---|---|---|---|---|")
    for way, values in hter.items():
        found = compared(values, hter["none"])
        rows[way] = {"hter": values, "auc": auc[way], "less_none": found, "less_ours": compared(values, hter[OURS])}
        spread = f"{100 * min(values):.1f} to {100 * max(values):.1f} %"
        print(f"| {way} | {100 * np.mean(values):.1f} % | {spread} | {np.mean(auc[way]):.4f} | {shown(found)} |")
    for way in ("under-sampling", "minority x 7, augmented"):
        print(f"{OURS} less {way}: {shown(compared(hter[OURS], hter[way]))}")
    RESULTS.mkdir(exist_ok=True)
    facts = {"dataset": last.facts.dataset, "counts": dict(last.facts.counts), "size": asked.size}
    facts |= {"model": asked.model, "seeds": asked.seeds, "images": asked.images, "set": asked.set, "ways": rows}
    path = RESULTS / f"generated-minority-{last.facts.dataset}.json"
    path.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
