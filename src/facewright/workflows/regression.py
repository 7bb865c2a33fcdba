"""Fitting a function to points: open → split → standardise → fit → measure → report, in one run directory.

recipe.toml         the resolved recipe             split.csv          which row was in which part
metrics.csv         a row a step or an epoch        model.safetensors  the fitted function
evaluation.json     the test part's numbers, and those of the other parts beside them
predictions.csv     what was said of each test row  report.html        the page
run.json            points, recipe, seed, versions, machine, time
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from facewright import regressor as regressors
from facewright.data.points import Points, open_points, read_inputs
from facewright.data.splits import PARTS, Split
from facewright.errors import DataError, RunError
from facewright.events import EventHandler, ignore_event
from facewright.files import write_atomic, write_json
from facewright.metrics.regression import RegressionResult, measure
from facewright.regressor import Column, Regressor, standardise
from facewright.report.regression import FitContext, write_fit_report
from facewright.runs import owned
from facewright.training import fit_recipe as recipes
from facewright.training import fitting
from facewright.training.fit_recipe import FitRecipe
from facewright.workflows.training_runs import free_folder


@dataclass(frozen=True)
class FitFacts:
    """run.json of a fit: what it was started with and what it took. None: not known yet."""

    task: str  # "regression"
    where: str
    dataset: str
    fingerprint: str
    inputs: tuple[str, ...]
    targets: tuple[str, ...]
    counts: Mapping[str, int]  # rows in train, validation, test
    recipe: str
    optimizer: str
    seed: int
    parameters: int
    threads: int
    versions: Mapping[str, str]
    machine: str
    started: str  # ISO 8601, UTC
    notes: tuple[str, ...] = ()
    finished: str | None = None
    epochs: int | None = None  # passes over the training rows
    stopped_early: bool | None = None
    train_seconds: float | None = None


class Fit:
    """A fit that exists on disk; everything is read when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = folder / "run.json"
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
            lists = {name: tuple(facts[name]) for name in ("inputs", "targets", "notes")}
            self.facts = FitFacts(**{**facts, **lists})
        except (FileNotFoundError, NotADirectoryError):
            raise RunError(f"{folder}: not a run directory (no run.json); expected one that `fit` made") from None
        except (ValueError, TypeError, KeyError) as error:
            raise RunError(f"{path}: not of a run that `fit` made ({error})") from None

    def __repr__(self) -> str:
        return f"Fit({str(self.folder)!r}, targets={self.facts.targets!r}, recipe={self.facts.recipe!r})"

    @cached_property
    def regressor(self) -> Regressor:
        """The fitted function."""
        return regressors.load(self.folder)

    @cached_property
    def evaluation(self) -> RegressionResult:
        """The numbers of the test part."""
        return RegressionResult.from_dict(self._evaluation)

    @cached_property
    def _evaluation(self) -> dict[str, Any]:
        path = self.folder / "evaluation.json"
        try:
            facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunError(f"{path}: cannot be read ({error}); the fit did not finish, do it again") from None
        return facts

    def summary(self) -> dict[str, Any]:
        """As `fit --json` prints it."""
        kept = (
            "task", "dataset", "inputs", "targets", "counts", "recipe", "optimizer", "seed", "parameters", "epochs",
            "stopped_early", "train_seconds", "notes",
        )  # fmt: skip
        facts = asdict(self.facts)
        return {"run": str(self.folder), **{key: facts[key] for key in kept}, "test": self._evaluation}


@dataclass(frozen=True)
class RowPredictions:
    """What a fitted function says of the rows of one table."""

    path: str
    inputs: tuple[str, ...]
    targets: tuple[str, ...]
    rows: NDArray[np.float64]  # (N, D)
    predicted: NDArray[np.float64]  # (N, K)
    beyond: NDArray[np.bool_]  # (N,) outside the box of the training rows: extrapolated

    def to_dict(self) -> dict[str, Any]:
        """As `predict --json` prints it."""
        said = [
            {"row": number, "predicted": dict(zip(self.targets, values, strict=True)), "beyond": bool(beyond)}
            for number, (values, beyond) in enumerate(zip(self.predicted.tolist(), self.beyond, strict=True), 1)
        ]
        return {"path": self.path, "inputs": list(self.inputs), "targets": list(self.targets), "rows": said}

    def to_csv(self) -> str:
        """The inputs, `predicted_…` and whether the row lies beyond the training rows (1); floats keep every bit."""
        header = [*self.inputs, *(f"predicted_{name}" for name in self.targets), "beyond"]
        rows = np.hstack([self.rows, self.predicted]).tolist()
        return _csv(header, ([*row, int(beyond)] for row, beyond in zip(rows, self.beyond, strict=True)))


def fit(
    where: str | Path | Points,
    *,
    targets: Sequence[str] = (),
    recipe: str | Path = recipes.DEFAULT,
    out: Path | None = None,
    seed: int = 0,
    overrides: Mapping[str, str] | None = None,
    on_event: EventHandler = ignore_event,
) -> Fit:
    """Fit a small network to points, measure it on the test part, and leave everything in a run directory.

    Args:
        where: a .csv, .tsv or .npy, "function:…" (see data/points.py), or what `open_points` gave.
        targets: names of the target columns; the last column where none is named.
        recipe: a shipped recipe, or a TOML file.
        out: the run directory; a new one under runs/ where None.
        seed: of the split, the first weights and the order of the rows.
        overrides: recipe values to change, {"training.epochs": "100"}.
    Raises:
        DataError, UsageError: what was asked for cannot be done; found before fitting starts.
        RunError: there is a run in `out` already.
        NonFiniteLoss: the fit diverged.
    """
    chosen = recipes.override(recipes.load(recipe), overrides or {})
    points = where if isinstance(where, Points) else open_points(where, targets)
    split = points.split(seed, chosen.shares.validation, chosen.shares.test)
    columns = Columns.of(points, split)
    folder = out or free_folder(f"{points.name}-fit")
    with owned(folder):
        if (folder / "run.json").is_file():
            raise RunError(f"{folder}: a run is already there; choose another --out")
        return _fit_in(folder, points, split, columns, chosen, seed, on_event)


def predict_rows(model: Path, files: Sequence[Path]) -> list[RowPredictions]:
    """What a fitted function says of new rows.

    Args:
        model: a run directory of `fit`, or its file.
        files: tables with the inputs' columns by name (others are not looked at), or without a header in their order.
    Raises:
        BundleError: no fitted function. DataError: a table cannot be used.
    """
    found = regressors.load(model)
    inputs = tuple(column.name for column in found.inputs)
    targets = tuple(column.name for column in found.targets)
    tables = [(path, read_inputs(path, inputs)) for path in files]
    return [
        RowPredictions(str(path), inputs, targets, rows, found.predict(rows), found.beyond(rows))
        for path, rows in tables
    ]


@dataclass(frozen=True)
class Columns:
    """How the columns are standardised: by the training rows alone."""

    inputs: tuple[Column, ...]
    targets: tuple[Column, ...]
    notes: tuple[str, ...]

    @classmethod
    def of(cls, points: Points, split: Split) -> Columns:
        """Measure the training rows.

        Raises:
            DataError: a target is constant there, or values are too large to be squared.
        """
        inputs = _columns(points, points.input_names, points.inputs[split.train])
        targets = _columns(points, points.target_names, points.targets[split.train])
        for column in targets:
            if column.low == column.high:
                raise DataError(
                    f"{points.where}: the target {column.name} is {column.low:g} in every training row; there is "
                    "nothing to learn, take another --seed or more rows"
                )
        still = [column.name for column in inputs if column.low == column.high]
        notes = [f"{name} is the same in every training row; it tells nothing" for name in still]
        return cls(inputs, targets, tuple(notes))


def _columns(points: Points, names: Sequence[str], values: NDArray[np.float64]) -> tuple[Column, ...]:
    with np.errstate(over="ignore", invalid="ignore"):
        means, scales = values.mean(axis=0), values.std(axis=0)
    if not (np.isfinite(means).all() and np.isfinite(scales).all()):
        raise DataError(f"{points.where}: values are too large to be standardised; give them in a larger unit")
    spans = zip(names, means, scales, values.min(axis=0), values.max(axis=0), strict=True)
    return tuple(
        Column(name=name, mean=float(mean), scale=float(scale) or 1.0, low=float(low), high=float(high))
        for name, mean, scale, low, high in spans
    )


def _fit_in(
    folder: Path, points: Points, split: Split, columns: Columns, recipe: FitRecipe, seed: int, on_event: EventHandler
) -> Fit:
    """The steps of a fit, in the order they happen."""
    network = fitting.fresh_network(len(columns.inputs), len(columns.targets), recipe, seed)
    recipe = fitting.resolved(recipe, network, len(split.train), len(columns.targets))
    facts = _facts(points, split, columns, recipe, seed, sum(weights.numel() for weights in network.parameters()))
    write_atomic(folder / "recipe.toml", recipe.to_toml())
    write_atomic(folder / "split.csv", _split_csv(split))
    write_json(folder / "run.json", asdict(facts))

    rows = {name: getattr(split, name) for name in PARTS}
    train, validation = (_standardised(points, columns, rows[part]) for part in ("train", "validation"))
    fitted = fitting.fit(network, train, validation, recipe, seed, on_event)
    found = Regressor(
        recipe.network.hidden, recipe.network.activation, columns.inputs, columns.targets, fitted.weights,
        {"recipe": recipe.name, "seed": seed, "data": points.fingerprint, "versions": dict(facts.versions)},
    )  # fmt: skip
    regressors.save(folder / "model.safetensors", found)
    write_atomic(folder / "metrics.csv", fitting.to_csv(fitted.history))

    said = found.predict(points.inputs)
    results = {part: measure(points.targets[at], said[at], points.target_names, part) for part, at in rows.items()}
    constant = _always_the_mean(points, split)
    others = {part: results[part].to_dict() for part in ("validation", "train")}
    write_json(
        folder / "evaluation.json",
        results["test"].to_dict() | others | {"always_the_mean": constant.to_dict()},
    )
    write_atomic(folder / "predictions.csv", _predictions_csv(points, said, split.test))
    facts = dataclasses.replace(
        facts,
        finished=_now(),
        epochs=fitted.history[-1].epoch if fitted.history else 0,
        stopped_early=fitted.stopped_early,
        train_seconds=fitted.history[-1].seconds if fitted.history else 0.0,
    )
    write_json(folder / "run.json", asdict(facts))
    write_fit_report(
        folder / "report.html",
        FitContext(points, split, found, results, constant, fitted.history, recipe, asdict(facts), _command()),
    )
    return Fit(folder)


def _facts(points: Points, split: Split, columns: Columns, recipe: FitRecipe, seed: int, parameters: int) -> FitFacts:
    return FitFacts(
        task=regressors.TASK,
        where=points.where,
        dataset=points.name,
        fingerprint=points.fingerprint,
        inputs=points.input_names,
        targets=points.target_names,
        counts={part: len(getattr(split, part)) for part in PARTS},
        recipe=recipe.name,
        optimizer=recipe.optimizer.name,
        seed=seed,
        parameters=parameters,
        threads=torch.get_num_threads(),
        versions={"python": platform.python_version()}
        | {name: metadata.version(name) for name in ("facewright", "torch", "numpy", "safetensors")},
        machine=f"{platform.system()} {platform.machine()}",
        started=_now(),
        notes=columns.notes,
    )


def _standardised(points: Points, columns: Columns, rows: NDArray[np.int64]) -> fitting.Rows:
    return fitting.Rows(
        torch.from_numpy(standardise(points.inputs[rows], columns.inputs)),
        torch.from_numpy(standardise(points.targets[rows], columns.targets)),
    )


def _always_the_mean(points: Points, split: Split) -> RegressionResult:
    """What the mean of the training rows would reach on the test part: the least that a fit must beat."""
    truth = points.targets[split.test]
    constant = np.broadcast_to(points.targets[split.train].mean(axis=0), truth.shape)
    return measure(truth, constant, points.target_names, "test")


def _split_csv(split: Split) -> str:
    part_of = {int(row): part for part in PARTS for row in getattr(split, part)}
    return _csv(["row", "part"], ([row + 1, part_of[row]] for row in sorted(part_of)))


def _predictions_csv(points: Points, said: NDArray[np.float64], rows: NDArray[np.int64]) -> str:
    """The test rows by their number in the file (from 1): inputs, true and predicted targets."""
    header = ["row", *points.input_names, *points.target_names, *(f"predicted_{name}" for name in points.target_names)]
    values = np.hstack([points.inputs, points.targets, said])[rows].tolist()
    return _csv(header, ([int(row) + 1, *line] for row, line in zip(rows, values, strict=True)))


def _csv(header: Sequence[str], rows: Any) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return out.getvalue()


def _command() -> str:
    return shlex.join(["facewright", *sys.argv[1:]]) if len(sys.argv) > 1 else ""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
