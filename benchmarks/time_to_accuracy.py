"""Time to accuracy: until the default recipe's validation accuracy reaches that of a notebook's recipe at its end.

    python benchmarks/time_to_accuracy.py DATA RUN_PLAIN RUN_OURS [--rounds 2] [--threads 2]

DATA is a folder per class. The two runs (of `benchmarks/recipes.py`) say how many epochs each needed. How long an epoch
takes is measured here, in turn, several rounds, medians, so that the ratio does not depend on what else the machine did
while the runs were trained:

    plain loop     the notebook's recipe in the plain loop: float32, contiguous, images one by one; no validation
    plain, ours    the notebook's recipe in our loop, validation included
    ours           the default recipe in our loop, validation included
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import notebook_loop
import torch

from facewright import train
from facewright.models.catalog import create_model
from facewright.runs import Run

RESULTS = Path(__file__).parent / "results"


def epochs_needed(plain: Run, ours: Run) -> tuple[float, int, int | None]:
    """The validation accuracy at which the plain run ended, its epochs, and ours until it is reached."""
    ended = plain.history[-1]
    reached = next((row.epoch for row in ours.history if row.validation_accuracy >= ended.validation_accuracy), None)
    return ended.validation_accuracy, ended.epoch, reached


def epoch_seconds(data: str, run: Run, folder: Path) -> float:
    """One epoch of a run's recipe, from random initialization."""
    changes = {"training.epochs": "1", "training.precision": run.facts.precision}
    recipe = run.folder / "recipe.toml"
    made = train(data, model=run.facts.model, recipe=recipe, out=folder, overrides=changes, report=False)
    return made.history[-1].seconds


def plain_seconds(data: str, run: Run) -> float:
    """One epoch of a run's training part in the plain loop, from random initialization."""
    with (run.folder / "split.csv").open(encoding="utf-8") as lines:
        rows = [row for row in csv.DictReader(lines) if row["part"] == "train"]
    paths = [Path(data) / row["path"] for row in rows]
    labels = [run.facts.classes.index(row["label"]) for row in rows]
    facts, numbers = run.facts, run.recipe
    model = create_model(facts.model, len(facts.classes), input_size=facts.image_size, stem=facts.stem)
    chosen = numbers.optimizer
    optimizer = torch.optim.AdamW(model.parameters(), lr=chosen.learning_rate, weight_decay=chosen.weight_decay)
    start = time.perf_counter()
    loaded = notebook_loop.batches(paths, labels, facts.image_size, numbers.training.batch, 0)
    notebook_loop.train_epoch(model, optimizer, loaded)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data")
    parser.add_argument("plain", type=Path)
    parser.add_argument("ours", type=Path)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    runs = {"plain": Run(asked.plain), "ours": Run(asked.ours)}
    accuracy, plain_epochs, our_epochs = epochs_needed(runs["plain"], runs["ours"])
    if our_epochs is None:
        raise SystemExit(f"{asked.ours} never validated at {accuracy:.3f}")
    sides: dict[str, tuple[int, Callable[[Path], float]]] = {
        "plain loop": (plain_epochs, lambda folder: plain_seconds(asked.data, runs["plain"])),
        "plain, ours": (plain_epochs, lambda folder: epoch_seconds(asked.data, runs["plain"], folder)),
        "ours": (our_epochs, lambda folder: epoch_seconds(asked.data, runs["ours"], folder)),
    }
    taken: dict[str, list[float]] = {side: [] for side in sides}
    with tempfile.TemporaryDirectory() as place:
        for number in range(asked.rounds):
            for side, (_, run) in sides.items():
                taken[side].append(run(Path(place) / f"{side}-{number}"))
    each = {side: statistics.median(values) for side, values in taken.items()}
    totals = {side: epochs * each[side] for side, (epochs, _) in sides.items()}
    found = {
        "model": runs["ours"].facts.model,
        "threads": asked.threads,
        "validation_accuracy": accuracy,
        "epochs": {side: epochs for side, (epochs, _) in sides.items()},
        "seconds_an_epoch": taken,
        "seconds": totals,
        "ratio": {side: total / totals["ours"] for side, total in totals.items()},
    }
    path = RESULTS / f"time-to-accuracy-{found['model']}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n")
    print(f"validation accuracy {100 * accuracy:.1f} %, {asked.threads} threads")
    for side, (epochs, _) in sides.items():
        ratio = f"{totals[side] / totals['ours']:.1f} x"
        print(f"{side:12} {epochs:3} epochs of {each[side]:6.1f} s: {totals[side]:7.1f} s  {ratio}")


if __name__ == "__main__":
    main()
