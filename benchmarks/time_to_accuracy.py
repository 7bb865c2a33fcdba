"""What a user feels: the time until the default recipe validates as well as a notebook's recipe at its end.

    python benchmarks/time_to_accuracy.py DATA RUN_PLAIN RUN_OURS [--rounds 2] [--threads 2]

The two runs (of `benchmarks/recipes.py`) say how many epochs each needed. How long an epoch takes is measured here, side by side: one epoch of each recipe in turn, training and validation, several rounds, medians. So
the ratio does not depend on what else the machine did while the runs were trained.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path

import torch

from facewright.runs import Run
from facewright.workflows import train


def epochs_needed(plain: Run, ours: Run) -> tuple[float, int, int | None]:
    """The validation accuracy at which the plain run ended, its epochs, and ours until it is reached."""
    ended = plain.history[-1]
    reached = next((row.epoch for row in ours.history if row.validation_accuracy >= ended.validation_accuracy), None)
    return ended.validation_accuracy, ended.epoch, reached


def epoch_seconds(data: str, run: Run, folder: Path) -> float:
    """One epoch of a run's recipe, from fresh weights."""
    changes = {"training.epochs": "1", "training.precision": run.facts.precision}
    recipe = run.folder / "recipe.toml"
    made = train(data, model=run.facts.model, recipe=recipe, out=folder, overrides=changes, report=False)
    return made.history[-1].seconds


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
    seconds: dict[str, list[float]] = {side: [] for side in runs}
    with tempfile.TemporaryDirectory() as place:
        for number in range(asked.rounds):
            for side, run in runs.items():
                seconds[side].append(epoch_seconds(asked.data, run, Path(place) / f"{side}-{number}"))
    each = {side: statistics.median(values) for side, values in seconds.items()}
    totals = {"plain": plain_epochs * each["plain"], "ours": our_epochs * each["ours"]}
    found = {
        "model": runs["ours"].facts.model,
        "threads": asked.threads,
        "validation_accuracy": accuracy,
        "epochs": {"plain": plain_epochs, "ours": our_epochs},
        "seconds_an_epoch": seconds,
        "seconds": totals,
        "ratio": totals["plain"] / totals["ours"],
    }
    path = Path(__file__).parent / "results" / f"time-to-accuracy-{found['model']}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n")
    print(f"validation accuracy {100 * accuracy:.1f} %, {asked.threads} threads")
    ratio = f"{found['ratio']:.1f} times shorter"
    print(f"plain {plain_epochs:3} epochs of {each['plain']:6.1f} s: {totals['plain']:7.1f} s")
    print(f"ours  {our_epochs:3} epochs of {each['ours']:6.1f} s: {totals['ours']:7.1f} s   {ratio}")


if __name__ == "__main__":
    main()
