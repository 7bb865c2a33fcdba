"""A fitted function against a plain small network, on the same points of the monkey saddle, for as many epochs.

    python benchmarks/monkey_saddle.py [--seeds 5] [--points 500] [--noise 0]

z = x³ − 3xy², x in [−10, 10], y in [−50, 50]; of 500 points 350 are for training, 75 for validation, 75 for the test. A
seed gives other points, another split and other initial weights. The plain network is written as the notebooks have it:
2 → 64 → 64 tanh → 64 linear → 1, inputs and target as they are, Glorot's initialisation, Adam at 0.001, mean squared
error, 500 epochs in batches of 16; measured after the last epoch, and at the epoch with the lowest validation loss. The
other side is what `facewright fit` does without options. An epoch is a pass over the training points on both sides.
Prints a table and writes benchmarks/results/monkey-saddle.json.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from facewright.data.splits import Split
from facewright.evaluation.number_metrics import mean_absolute_error
from facewright.regression.points import Points, open_points
from facewright.regression.run import fit
from facewright.report.words import quantity

EPOCHS, BATCH = 500, 16
LAST, BEST, OURS = "usual network, last epoch", "usual network, best epoch", "facewright fit"
RESULTS = Path(__file__).parent / "results"


def plain_network(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = [nn.Linear(2, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 64), nn.Linear(64, 1)]
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)


def train_plain(points: Points, split: Split, seed: int) -> tuple[nn.Sequential, nn.Sequential]:
    """The networks after the last epoch and after the one with the lowest validation loss."""
    network = plain_network(seed)
    x, z = (torch.from_numpy(values).float() for values in (points.inputs, points.targets))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, eps=1e-7)
    best, kept = float("inf"), network
    for _ in range(EPOCHS):
        for rows in torch.split(torch.from_numpy(split.train)[torch.randperm(len(split.train))], BATCH):
            optimizer.zero_grad()
            torch.autograd.backward(nn.functional.mse_loss(network(x[rows]), z[rows]))
            optimizer.step()
        with torch.no_grad():
            loss = float(nn.functional.mse_loss(network(x[split.validation]), z[split.validation]))
        if loss < best:
            best, kept = loss, copy.deepcopy(network)
    return network, kept


def facts_of(points: Points, split: Split, predicted: np.ndarray[Any, Any], cost: dict[str, Any]) -> dict[str, Any]:
    errors = {
        part: mean_absolute_error(points.targets[rows], predicted[rows]).to_dict()
        for part, rows in (("validation", split.validation), ("test", split.test))
    }
    return errors | cost


def one_seed(seed: int, asked: argparse.Namespace) -> dict[str, Any]:
    points = open_points(f"function:monkey-saddle?points={asked.points}&noise={asked.noise}&seed={seed}")
    split = points.split(seed, 0.15, 0.15)
    begun = time.perf_counter()
    networks = dict(zip((LAST, BEST), train_plain(points, split, seed), strict=True))
    seconds = time.perf_counter() - begun
    found = {"seed": seed, "counts": [len(split.train), len(split.validation), len(split.test)]}
    for name, network in networks.items():
        with torch.no_grad():
            said: Tensor = network(torch.from_numpy(points.inputs).float()).double()
        parameters = sum(weights.numel() for weights in network.parameters())
        cost = {"parameters": parameters, "epochs": EPOCHS, "seconds": round(seconds, 2)}
        found[name] = facts_of(points, split, said.numpy(), cost)
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        run = fit(points, out=Path(folder) / "run", seed=seed)
        seconds = time.perf_counter() - begun  # with the report
        facts = run.facts
        cost = {"parameters": facts.parameters, "epochs": facts.epochs or 0, "seconds": round(seconds, 2)}
        found[OURS] = facts_of(points, split, run.regressor.predict(points.inputs), cost)
    return found


def summary(rows: list[dict[str, Any]], name: str) -> dict[str, Any]:
    errors = [row[name]["test"]["value"] for row in rows]
    return {
        "parameters": max(row[name]["parameters"] for row in rows),
        "epochs": max(row[name]["epochs"] for row in rows),
        "mean": statistics.mean(errors),
        "deviation": statistics.stdev(errors) if len(errors) > 1 else None,
        "lowest": min(errors),
        "highest": max(errors),
        "seconds": statistics.median(row[name]["seconds"] for row in rows),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--points", type=int, default=500)
    parser.add_argument("--noise", type=float, default=0.0)
    asked = parser.parse_args()
    rows = []
    for seed in range(asked.seeds):
        rows.append(one_seed(seed, asked))
        said = ", ".join(f"{name} {rows[-1][name]['test']['value']:.4g}" for name in (LAST, BEST, OURS))
        print(f"seed {seed}: test mean absolute error: {said}", flush=True)
    table = {name: summary(rows, name) for name in (LAST, BEST, OURS)}
    print(f"\n| {len(rows)} seeds | parameters | epochs | mean absolute error, test | lowest to highest | seconds |")
    print("|---|---|---|---|---|---|")
    for name, row in table.items():
        spread = "" if row["deviation"] is None else f" ± {quantity(row['deviation'])}"
        print(
            f"| {name} | {row['parameters']:,} | {row['epochs']} | {quantity(row['mean'])}{spread} "
            f"| {quantity(row['lowest'])} to {quantity(row['highest'])} | {row['seconds']:.1f} |"
        )
    RESULTS.mkdir(exist_ok=True)
    facts = {"points": asked.points, "noise": asked.noise, "torch": torch.__version__, "summary": table, "seeds": rows}
    (RESULTS / "monkey-saddle.json").write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
