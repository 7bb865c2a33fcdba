"""The default recipe against a notebook's, on one split and for the same number of images seen.

    python benchmarks/recipes.py DATA [--models resnet50,xception,densenet121] [--out runs/recipes] [--seed 0]

Trains every model by both recipes (finished runs in --out are kept, unfinished ones resumed), then prints for each the
test error with its 95 % interval, the ratio of errors, the exact McNemar test, and the time to the validation accuracy
at which the notebook's recipe ended. Writes one JSON a model to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from facewright import train
from facewright.events import EpochFinished, Event
from facewright.metrics.intervals import mcnemar_exact
from facewright.runs import Run

PLAIN, OURS = "notebook-adamw-step", "scratch"
RESULTS = Path(__file__).parent / "results"


def show(event: Event) -> None:
    if isinstance(event, EpochFinished):
        row = event.row
        print(f"  epoch {row.epoch}: validation {row.validation_accuracy:.3f}, {row.seconds:.0f} s", flush=True)


def facts_of(run: Run) -> dict[str, Any]:
    accuracy = run.classification.accuracy
    return {
        "test_error": {
            "value": 1 - accuracy.value,
            "low": 1 - accuracy.high,
            "high": 1 - accuracy.low,
            "n": accuracy.n,
        },
        "log_loss": run.classification.log_loss,
        "macro_f1": run.classification.macro_f1.to_dict(),
        "images_seen": run.facts.images_seen,
        "train_seconds": run.facts.train_seconds,
        "parameters": run.facts.parameters,
        "flops": run.facts.flops,
        "stem": run.facts.stem,
        "precision": run.facts.precision,
        "threads": run.facts.threads,
        "seed": run.facts.seed,
        "validation_accuracy": [row.validation_accuracy for row in run.history],
        "seconds": [round(row.seconds, 1) for row in run.history],
    }


def time_to(run: Run, accuracy: float) -> float | None:
    """Seconds until an epoch first validated at least so well, or None."""
    return next((row.seconds for row in run.history if row.validation_accuracy >= accuracy), None)


def compare(model: str, plain: Run, ours: Run) -> dict[str, Any]:
    if plain.predictions.paths != ours.predictions.paths:
        raise SystemExit(f"{model}: the two runs were tested on different images")
    right = [run.class_predictions.predicted == run.class_predictions.labels for run in (plain, ours)]
    ended = plain.history[-1]
    reached = time_to(ours, ended.validation_accuracy)
    found = {PLAIN: facts_of(plain), OURS: facts_of(ours)}
    return {
        "model": model,
        "dataset": plain.facts.dataset,
        "counts": dict(plain.facts.counts),
        "versions": dict(plain.facts.versions),
        **found,
        "error_ratio": found[OURS]["test_error"]["value"] / found[PLAIN]["test_error"]["value"],
        "p_value": mcnemar_exact(*right),
        "time_to_accuracy": {
            "accuracy": ended.validation_accuracy,
            PLAIN: ended.seconds,
            OURS: reached,
            "ratio": None if reached is None else ended.seconds / reached,
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data")
    parser.add_argument("--models", default="resnet50,xception,densenet121")
    parser.add_argument("--out", type=Path, default=Path("runs/recipes"))
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    rows = []
    for model in asked.models.split(","):
        runs = {}
        for recipe in (PLAIN, OURS):
            print(f"{model} by {recipe}", flush=True)
            out = asked.out / f"{recipe}-{model}"
            runs[recipe] = train(
                asked.data, model=model, recipe=recipe, out=out, seed=asked.seed, resume=True, on_event=show
            )
        rows.append(compare(model, runs[PLAIN], runs[OURS]))
        path = RESULTS / f"recipes-{rows[-1]['dataset']}-{model}.json"
        path.write_text(json.dumps(rows[-1], indent=1) + "\n")
    print(f"\n{'model':14} {PLAIN + ' error':28} {OURS + ' error':28} ratio  McNemar p  time to its accuracy")
    for row in rows:
        errors = [row[recipe]["test_error"] for recipe in (PLAIN, OURS)]
        shown = [f"{100 * e['value']:.1f} % ({100 * e['low']:.1f} to {100 * e['high']:.1f})" for e in errors]
        ratio = row["time_to_accuracy"]["ratio"]
        times = "not reached" if ratio is None else f"{ratio:.1f} x shorter"
        print(
            f"{row['model']:14} {shown[0]:28} {shown[1]:28} {row['error_ratio']:.2f}   {row['p_value']:.1e}    {times}"
        )


if __name__ == "__main__":
    main()
