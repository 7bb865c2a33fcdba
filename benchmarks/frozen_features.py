"""A head on a frozen body: features computed once against a body that runs in every epoch, in the same run.

    python benchmarks/frozen_features.py PHOTOS [MODEL ...] [--epochs 10] [--out FOLDER]

MODEL is an architecture, or architecture@weights; where none is given, mobilenet_v2 and resnet50. Both ways train the
same head by the recipe `head-only` on the same split, order and augmentation (one draw an epoch), in float32. Printed
is the median time of an epoch with its validation, what the one pass over all draws took, and the test accuracy.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from itertools import pairwise
from pathlib import Path

from facewright import train
from facewright.runs import Run
from facewright.workflows.training_requests import folder_name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos")
    parser.add_argument("models", nargs="*")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--out", type=Path, default=None)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        out = asked.out or Path(scratch)
        # Pixels may be known already; features must not be, or the pass over them would cost nothing.
        os.environ["FACEWRIGHT_CACHE"] = str(Path(scratch) / "cache")
        print("| model | body in every epoch | features once | ratio | the one pass | accuracy, every epoch | … once |")
        print("|---|---|---|---|---|---|---|")
        for model in asked.models or ["mobilenet_v2", "resnet50"]:
            always, once = (_run(asked.photos, model, draws, asked.epochs, out) for draws in (0, asked.epochs))
            slow, fast = _epoch_seconds(always), _epoch_seconds(once)
            first = once.history[0].seconds - fast
            times = f"{slow:.2f} s | {fast:.3f} s | {slow / fast:.0f} x | {first:.1f} s"
            print(f"| {always.facts.title} | {times} | {_accuracy(always)} | {_accuracy(once)} |", flush=True)


def _run(photos: str, model: str, draws: int, epochs: int, out: Path) -> Run:
    changes = {
        "phases.head.draws": str(draws),
        "phases.head.epochs": str(epochs),
        "selection.patience": "0",
        "training.precision": "float32",
    }
    folder = out / f"{folder_name(model)}-{draws}-draws"
    return train(photos, model=model, recipe="head-only", out=folder, overrides=changes, report=False)


def _epoch_seconds(run: Run) -> float:
    ends = [row.seconds for row in run.history]
    return statistics.median(later - earlier for earlier, later in pairwise(ends))


def _accuracy(run: Run) -> str:
    rate = run.classification.accuracy
    return f"{rate.value:.1%} ({rate.low:.1%} to {rate.high:.1%}, n={rate.n})"


if __name__ == "__main__":
    main()
