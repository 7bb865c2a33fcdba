"""The effect of balancing on two classes of unequal size: a plain script, and each option of the recipes beside it.

    python benchmarks/balancing.py DATA [--model NAME] [--start NAME@WEIGHTS] [--out runs/balancing] [--seed 0]

One split, one seed. First the plain CNN, trained and evaluated as in a plain script: recipe `script-plain`, at 0.5.
Then one network (the same plain CNN, unless --model names another) by each way to balance: none, over-sampling, the
shipped `hter-undersample`, `hter-augment-minority` and `hter-weighted`, focal loss. Augmentation and optimizer are the
same for all of these, none sees more images than the script did, and the threshold is chosen on the validation part.
With --start, as mobilenet_v2@imagenet, `hter-augment-minority` once more from public weights. The best is chosen by
validation HTER, never by test. Finished runs in --out are kept, unfinished ones resumed. Writes one JSON to
benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from facewright import train
from facewright.evaluation.classification import BinaryResult
from facewright.events import EpochFinished, Event
from facewright.runs import Run

SCRIPT = ("plain_cnn", "script-plain")
PLAIN = {"objective.class_weights": "none"}
OPTIONS: dict[str, tuple[str, dict[str, str]]] = {  # name -> recipe, changes to it
    "none": ("hter-weighted", PLAIN),
    "over-sampling": ("hter-augment-minority", {"sampling.plan": "over"}),
    "under-sampling": ("hter-undersample", {}),
    "minority x 7, augmented": ("hter-augment-minority", {}),
    "class weights": ("hter-weighted", {}),
    "focal loss": ("hter-weighted", PLAIN | {"objective.kind": "focal"}),
}
FROM_WEIGHTS = {"input.normalise": "weights", "optimizer.learning_rate": "3e-4"}
RESULTS = Path(__file__).parent / "results"


def show(event: Event) -> None:
    if isinstance(event, EpochFinished) and event.row.best:
        row = event.row
        print(f"  epoch {row.epoch}: validation HTER {-row.validation_score:.3f}, {row.seconds:.0f} s", flush=True)


def binary_of(run: Run) -> BinaryResult:
    if run.classification.binary is None:
        raise SystemExit(f"{run.folder}: no task of two classes, or a part lacks one of them")
    return run.classification.binary


def facts_of(run: Run) -> dict[str, Any]:
    result = binary_of(run)
    return {
        "model": run.facts.title,
        "recipe": run.facts.recipe,
        "images_seen": run.facts.images_seen,
        "train_seconds": run.facts.train_seconds,
        "cpu_seconds": run.facts.cpu_seconds,
        "parameters": run.facts.parameters,
        "validation_hter": result.validation_hter,
        "threshold": result.threshold,
        "hter": result.hter.to_dict(),
        "far": result.far.to_dict(),
        "frr": result.frr.to_dict(),
        "hter_at_half": result.hter_at_half.to_dict(),
        "auc": result.auc,
    }


def shown(rate: dict[str, float]) -> str:
    return f"{100 * rate['value']:5.1f} % ({100 * rate['low']:.1f} to {100 * rate['high']:.1f})"


def print_table(script: dict[str, Any], rows: dict[str, dict[str, Any]]) -> None:
    titles = ("balancing", "images seen", "CPU s", "validation", "test HTER", "FAR", "FRR", "at 0.5")
    print("\n{:28} {:>11} {:>6} {:>10}  {:24} {:>7} {:>7}  {}".format(*titles))
    for name, row in {"script (plain CNN)": script, **rows}.items():
        cpu = "?" if row["cpu_seconds"] is None else f"{row['cpu_seconds']:.0f}"
        values = row["validation_hter"], row["far"]["value"], row["frr"]["value"]
        chosen, far, frr = (f"{100 * value:.1f} %" for value in values)
        print(
            f"{name:28} {row['images_seen']:11,} {cpu:>6} {chosen:>10}  {shown(row['hter']):24} {far:>7} {frr:>7}  "
            f"{shown(row['hter_at_half'])}"
        )


def best_of(rows: dict[str, dict[str, Any]], names: list[str], script: dict[str, Any]) -> dict[str, Any]:
    """The option of the least validation HTER, and its test HTER over that of the script at 0.5."""
    best = min(names, key=lambda name: rows[name]["validation_hter"])
    return {"option": best, "hter_ratio": rows[best]["hter"]["value"] / script["hter_at_half"]["value"]}


def trained(data: str, network: str, begun: str | None, out: Path, seed: int) -> dict[str, Run]:
    """The script's run and one by each option, in the order of the table."""
    model, recipe = SCRIPT
    print("script", flush=True)
    made = {"script": train(data, model=model, recipe=recipe, out=out / "script", seed=seed, resume=True)}
    rows = {name: (network, recipe, changes) for name, (recipe, changes) in OPTIONS.items()}
    if begun is not None:
        rows["minority x 7, public weights"] = (begun, "hter-augment-minority", FROM_WEIGHTS)
    for name, (model, recipe, changes) in rows.items():
        print(name, flush=True)
        place = out / f"{model.partition('@')[0]}-{name.replace(' ', '-').replace(',', '')}"
        made[name] = train(
            data, model=model, recipe=recipe, out=place, seed=seed, overrides=changes, resume=True, on_event=show
        )
    return made


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data")
    parser.add_argument("--model", default="plain_cnn")
    parser.add_argument("--start", default=None)
    parser.add_argument("--out", type=Path, default=Path("runs/balancing"))
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    made = trained(asked.data, asked.model, asked.start, asked.out, asked.seed)
    if len({run.predictions.paths for run in made.values()}) > 1:
        raise SystemExit("the runs were tested on different images")
    rows = {name: facts_of(run) for name, run in made.items()}
    script = rows.pop("script")
    over = [name for name, row in rows.items() if row["images_seen"] > script["images_seen"]]
    if over:
        raise SystemExit(f"{', '.join(over)} saw more images than the script's {script['images_seen']:,}")
    fresh = [name for name in rows if name in OPTIONS]
    best = {"any start": best_of(rows, list(rows), script), "fresh weights": best_of(rows, fresh, script)}
    facts = made["script"].facts
    found = {
        "dataset": facts.dataset,
        "counts": dict(facts.counts),
        "seed": asked.seed,
        "versions": dict(facts.versions),
    }
    found |= {"script": script, "options": rows, "best_by_validation": best}
    path = RESULTS / f"balancing-{facts.dataset}.json"
    path.write_text(json.dumps(found, indent=1) + "\n")
    print_table(script, rows)
    print()
    for start, chosen in best.items():
        print(
            f"best by validation, {start}: {chosen['option']}, {chosen['hter_ratio']:.2f} of the script's HTER at 0.5"
        )


if __name__ == "__main__":
    main()
