"""`facewright fit`: open → split → standardize → fit → measure → report, in one run directory.

recipe.toml         the resolved recipe             split.csv          which row is in which part
metrics.csv         a row a step or an epoch        model.safetensors  the fitted function
evaluation.json     errors on every part            predictions.csv    predictions of the test rows
report.html         the page                        run.json           points, recipe, seed, versions, machine, time
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from markupsafe import Markup
from matplotlib.ticker import LogLocator, MaxNLocator
from numpy.typing import NDArray

from facewright import provenance
from facewright.data.splits import PARTS, Split
from facewright.errors import DataError, RunError
from facewright.evaluation.number_metrics import FitEvaluation, measure_rows
from facewright.events import EventHandler, ignore_event
from facewright.files import csv_text, read_json, write_atomic, write_json
from facewright.records import Record, notebook_display
from facewright.regression import fitting
from facewright.regression.fitting import FitRow
from facewright.regression.points import Points, open_points, read_inputs
from facewright.regression.regressor import TASK, Array, Column, Header, Perceptron, Regressor, load, save, standardize
from facewright.report import pages, words
from facewright.report.pages import INK, canvas, inline_svg, name_axes, series_colour
from facewright.report.plots import SIZE, error_plots, function_plot
from facewright.report.words import quantity
from facewright.runs import owned

_WORST = 8  # rows in the table of the largest errors
_DRAWN = 4  # targets whose surface is drawn


class FitFacts(Record):
    """run.json of a fit: its settings and what it took. None: not known yet."""

    task: Literal["regression"] = TASK
    where: str
    dataset: str
    fingerprint: str
    inputs: tuple[str, ...]
    targets: tuple[str, ...]
    counts: dict[str, int]  # rows in train, validation, test
    recipe: str
    optimizer: str
    seed: int
    parameters: int
    threads: int
    versions: dict[str, str]
    machine: str
    started: str  # ISO 8601, UTC
    notes: tuple[str, ...] = ()
    finished: str | None = None
    epochs: int | None = None  # passes over the training rows
    stopped_early: bool | None = None
    train_seconds: float | None = None


@dataclass
class Fit:
    """A fit on disk; everything is read when it is first asked for."""

    folder: Path

    @cached_property
    def facts(self) -> FitFacts:
        """The settings of the fit and what it took. Raises RunError: not a run directory of `fit`."""
        return read_json(self.folder / "run.json", FitFacts, error=RunError)

    @cached_property
    def regressor(self) -> Regressor:
        """The fitted function."""
        return load(self.folder)

    @cached_property
    def evaluation(self) -> FitEvaluation:
        """The errors on the test part and, beside them, on the others. Raises RunError: the fit did not finish."""
        return read_json(self.folder / "evaluation.json", FitEvaluation, error=RunError)

    def summary(self) -> dict[str, Any]:
        """Return what `fit --json` prints."""
        hidden = {"where", "fingerprint", "threads", "versions", "machine", "started", "finished"}
        facts = self.facts.model_dump(mode="json", exclude=hidden)
        return {"run": str(self.folder), **facts, "test": self.evaluation.to_dict()}


@dataclass(frozen=True)
class RowPredictions:
    """Predictions of the rows of one table."""

    path: str
    inputs: tuple[str, ...]
    targets: tuple[str, ...]
    rows: Array  # (N, D)
    predicted: Array  # (N, K)
    beyond: NDArray[np.bool_]  # (N,) outside the box of the training rows: extrapolated

    def to_dict(self) -> dict[str, Any]:
        """Return what `predict --json` prints."""
        found = enumerate(zip(self.predicted.tolist(), self.beyond.tolist(), strict=True), 1)
        rows = [
            {"row": number, "predicted": dict(zip(self.targets, values, strict=True)), "beyond": beyond}
            for number, (values, beyond) in found
        ]
        return {"path": self.path, "inputs": list(self.inputs), "targets": list(self.targets), "rows": rows}

    _repr_html_ = notebook_display

    def to_csv(self) -> str:
        """Write inputs, `predicted_…` and `beyond` (1: extrapolated); floats keep every bit."""
        header = [*self.inputs, *(f"predicted_{name}" for name in self.targets), "beyond"]
        rows = np.hstack([self.rows, self.predicted]).tolist()
        return csv_text(header, ([*row, int(beyond)] for row, beyond in zip(rows, self.beyond, strict=True)))


def fit(
    source: str | Path | Points,
    *,
    targets: Sequence[str] = (),
    recipe: str | Path = fitting.DEFAULT,
    out: str | Path | None = None,
    seed: int = 0,
    overrides: Mapping[str, str] | None = None,
    on_event: EventHandler = ignore_event,
) -> Fit:
    """Fit a small network to points, measure it on the test part, and leave everything in a run directory.

    Args:
        source: a .csv, .tsv or .npy, "function:…", or what `open_points` gave.
        targets: names of the target columns; default: the last column.
        recipe: a shipped recipe, or a TOML file.
        out: the run directory; default: a new one under runs/.
        seed: of the split, the first weights and the order of the rows.
        overrides: recipe values to change, {"training.epochs": "100"}.
    Raises:
        DataError, UsageError: the points or settings cannot be used; found before fitting starts.
        RunError: there is a run in `out` already. NonFiniteLoss: the fit diverged.
    """
    chosen = fitting.load(recipe, overrides)
    points = source if isinstance(source, Points) else open_points(source, targets)
    split = points.split(seed, chosen.shares.validation, chosen.shares.test)
    inputs = _columns(points.source, points.input_names, points.inputs[split.train])
    outputs = _columns(points.source, points.target_names, points.targets[split.train])
    for column in outputs:
        if column.low == column.high:
            raise DataError(
                f"{points.source}: the target {column.name} is {column.low:g} in every training row; "
                "take another --seed or more rows"
            )
    number = next(n for n in range(1, 10**9) if not Path(f"runs/{points.name}-fit-{n}").exists())
    run = Fit(Path(out or f"runs/{points.name}-fit-{number}"))
    with owned(run.folder):
        if (run.folder / "run.json").is_file():
            raise RunError(f"{run.folder}: a run is already there; choose another --out")
        network = Perceptron(len(inputs), chosen.network.hidden, len(outputs), chosen.network.activation)
        chosen = fitting.resolved(chosen, network, len(split.train))
        run.facts = _facts(points, split, inputs, chosen, seed, network.size)
        origin = {"recipe": chosen.name, "seed": seed, "data": points.fingerprint, "versions": run.facts.versions}
        header = Header(
            hidden=chosen.network.hidden, activation=chosen.network.activation, inputs=inputs, targets=outputs,
            provenance=origin,
        )  # fmt: skip
        _write_start(run, chosen, split)
        fitted = _fitted(points, split, header, chosen, seed, on_event)
        run.regressor = Regressor(header, fitted.weights)
        save(run.folder / "model.safetensors", run.regressor)
        write_atomic(run.folder / "metrics.csv", fitting.to_csv(fitted.history))
        _evaluate(run, points, split)
        last = fitted.history[-1] if fitted.history else None
        run.facts = run.facts.replace(
            finished=provenance.now(), epochs=last.epoch if last else 0, stopped_early=fitted.stopped_early,
            train_seconds=last.seconds if last else 0.0,
        )  # fmt: skip
        write_json(run.folder / "run.json", run.facts.to_dict())
        write_atomic(run.folder / "report.html", _page(run, points, split, fitted.history, chosen))
    return run


def predict_rows(model: Path, files: Sequence[Path]) -> list[RowPredictions]:
    """Predict the targets of new rows.

    Args:
        model: a run directory of `fit`, or its file.
        files: tables with the inputs' columns by name (others are ignored), or without a header in their order.
    Raises:
        BundleError: no fitted function. DataError: a table cannot be used.
    """
    regressor = load(model)
    inputs, targets = (
        tuple(column.name for column in kind) for kind in (regressor.header.inputs, regressor.header.targets)
    )
    tables = [(path, read_inputs(path, inputs)) for path in files]
    return [
        RowPredictions(str(path), inputs, targets, rows, regressor.predict(rows), regressor.beyond(rows))
        for path, rows in tables
    ]


def _columns(source: str, names: Sequence[str], values: Array) -> tuple[Column, ...]:
    """Measure the training rows (N, columns), by which everything is standardized."""
    with np.errstate(over="ignore", invalid="ignore"):
        means, scales = values.mean(axis=0), values.std(axis=0)
    if not (np.isfinite(means).all() and np.isfinite(scales).all()):
        raise DataError(f"{source}: values are too large to be standardized; give them in a larger unit")
    rows = zip(names, means, scales, values.min(axis=0), values.max(axis=0), strict=True)
    return tuple(Column(name=n, mean=m, scale=s or 1.0, low=low, high=high) for n, m, s, low, high in rows)


def _write_start(run: Fit, recipe: fitting.FitRecipe, split: Split) -> None:
    """Write down what is known before the first step."""
    write_atomic(run.folder / "recipe.toml", recipe.to_toml())
    part_of = sorted((int(row) + 1, part) for part in PARTS for row in getattr(split, part))
    write_atomic(run.folder / "split.csv", csv_text(["row", "part"], part_of))
    write_json(run.folder / "run.json", run.facts.to_dict())


def _fitted(
    points: Points, split: Split, header: Header, recipe: fitting.FitRecipe, seed: int, on_event: EventHandler
) -> fitting.Fitted:
    """Fit the network to the standardized rows."""
    standard = standardize(points.inputs, header.inputs), standardize(points.targets, header.targets)
    train, validation = ((standard[0][rows], standard[1][rows]) for rows in (split.train, split.validation))
    return fitting.fit(header.network, train, validation, recipe, seed, on_event)


def _evaluate(run: Fit, points: Points, split: Split) -> None:
    """Measure the function on every part; write evaluation.json and predictions.csv."""
    predicted, names = run.regressor.predict(points.inputs), points.target_names
    rows = {part: getattr(split, part) for part in PARTS}
    results = {part: measure_rows(points.targets[at], predicted[at], names, part) for part, at in rows.items()}
    constant = np.broadcast_to(points.targets[split.train].mean(axis=0), (len(split.test), len(names)))
    run.evaluation = FitEvaluation(
        **dict(results["test"]), validation=results["validation"], train=results["train"],
        always_the_mean=measure_rows(points.targets[split.test], constant, names, "test"),
    )  # fmt: skip
    write_json(run.folder / "evaluation.json", run.evaluation.to_dict())
    table = np.hstack([points.inputs, points.targets, predicted])[split.test].tolist()
    head = ["row", *points.input_names, *names, *(f"predicted_{name}" for name in names)]
    tested = ([int(at) + 1, *row] for at, row in zip(split.test, table, strict=True))
    write_atomic(run.folder / "predictions.csv", csv_text(head, tested))


def _facts(
    points: Points, split: Split, inputs: Sequence[Column], recipe: fitting.FitRecipe, seed: int, parameters: int
) -> FitFacts:
    constant = [column.name for column in inputs if column.low == column.high]
    return FitFacts(
        where=points.source, dataset=points.name, fingerprint=points.fingerprint, inputs=points.input_names,
        targets=points.target_names, counts={part: len(getattr(split, part)) for part in PARTS}, recipe=recipe.name,
        optimizer=recipe.optimizer.name, seed=seed, parameters=parameters,
        threads=int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1),
        versions=provenance.versions("numpy", "scipy", "safetensors"), machine=provenance.machine(),
        started=provenance.now(),
        notes=tuple(f"the input {name} is the same in every training row" for name in constant),
    )  # fmt: skip


def _page(run: Fit, points: Points, split: Split, history: Sequence[FitRow], recipe: fitting.FitRecipe) -> str:
    """Return the report: one self-contained page in the look of the others."""
    facts, regressor, test = run.facts.to_dict(), run.regressor, run.evaluation
    predicted, header = regressor.predict(points.inputs), regressor.header
    names, widths = points.target_names, (len(header.inputs), *header.hidden, len(header.targets))
    context = {
        "title": f"{', '.join(names)} of {points.name}",
        "points": points,
        "facts": facts,
        "targets": ", ".join(names),
        "test": test,
        "sentences": _sentences(test, history, facts),
        "shape": " → ".join(map(str, widths)),
        "activation": header.activation,
        "columns": [*header.inputs, *header.targets][:24],
        "large": _large(points, split, regressor),
        "curves": Markup(_learning_curves(history)),
        "errors": [
            (name, error_plots(points.targets[:, k], predicted[:, k], split.test, split.train, str(k)))
            for k, name in enumerate(names)
        ],
        "parts_of": [("train", test.train), ("validation", test.validation), ("test", test),
                     ("test, predicting the mean", test.always_the_mean)],
        **_worst(points, split, predicted),
        "recipe": recipe.to_toml(),
    }  # fmt: skip
    filters = {"quantity": quantity, "duration": words.duration}
    return pages.render("regression.html", context, provenance.origin(facts["versions"]), filters)


def _worst(points: Points, split: Split, predicted: Array) -> dict[str, Any]:
    """Return the table of the test rows with the largest errors."""
    names, sizes = points.target_names, np.linalg.norm(predicted - points.targets, axis=1)
    rows = split.test[np.argsort(-sizes[split.test], kind="stable")][:_WORST]
    columns = [*points.input_names, *(f"{name}, true" for name in names), *(f"{name}, predicted" for name in names)]
    table = np.c_[points.inputs, points.targets, predicted, sizes]
    return {
        "worst_header": [*columns, "error"],
        "worst": [[int(row) + 1, *table[row].tolist()] for row in rows],
    }


def _sentences(test: FitEvaluation, history: Sequence[FitRow], facts: Mapping[str, Any]) -> list[str]:
    """Say what to take away, and how the fit ended."""
    error, constant = test.average_l2_error, test.always_the_mean.average_l2_error.value
    share = error.value / constant if constant > 0 else math.inf
    verdict = f"the fit leaves {100 * share:.2g}\N{NO-BREAK SPACE}% of that" if share < 1 else "the fit is no better"
    kept = max((row.epoch for row in history if row.best), default=0)
    ended = "stopped early, after" if facts["stopped_early"] else "ended after"
    return [
        f"The mean error on the {test.n:,} test rows is {quantity(error.value)} (95 % interval "
        f"{quantity(error.low)} to {quantity(error.high)}). "
        f"Predicting the mean of the training rows would be off by {quantity(constant)}: {verdict}.",
        f"The weights are those with the lowest validation loss, of pass {kept} over the training rows; "
        f"the fit {ended} {facts['epochs']} passes.",
    ]


def _large(points: Points, split: Split, regressor: Regressor) -> list[tuple[str, Markup]]:
    """Draw the function itself, if it has one or two inputs, and the points."""
    if len(points.input_names) > 2:
        return []
    is_test = np.isin(np.arange(len(points)), split.test)
    drawn = []
    for k, name in enumerate(points.target_names[:_DRAWN]):

        def predict(rows: Array, k: int = k) -> Array:
            return regressor.predict(rows)[:, k]

        names = (*points.input_names, name)
        drawn.append((name, function_plot(predict, points.inputs, points.targets[:, k], is_test, names, str(k))))
    return drawn


def _learning_curves(history: Sequence[FitRow]) -> str:
    """Draw training and validation loss over the passes, with a ring around the kept weights."""
    figure, axes = canvas(*SIZE)
    passes = [row.epoch for row in history]
    for colour, losses in ((1, [row.train_loss for row in history]), (0, [row.validation_loss for row in history])):
        axes.plot(passes, losses, color=series_colour(colour), linewidth=2, marker="o" if len(history) < 4 else "")
    for row in [row for row in history if row.best][-1:]:
        axes.plot(row.epoch, row.validation_loss, "o", markersize=9, markerfacecolor="none", markeredgecolor=INK)
    if any(row.train_loss > 0 for row in history):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(numticks=7))
        axes.minorticks_off()
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    name_axes(axes, "passes over the training rows", "")
    return inline_svg(figure, "learning", f"training and validation loss over {len(history)} steps")
