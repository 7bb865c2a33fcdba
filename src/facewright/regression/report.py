"""The page of a fitted function: one self-contained file in the look of the other reports."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.ticker import LogLocator, MaxNLocator

from facewright.data.splits import Split
from facewright.evaluation.number_metrics import FitEvaluation
from facewright.provenance import origin
from facewright.regression.fitting import FitRow
from facewright.regression.points import Points
from facewright.regression.regressor import Array, Regressor
from facewright.report import pages, words
from facewright.report.canvas import INK, canvas, inline_svg, name_axes, series_colour
from facewright.report.number_plots import SIZE, error_plots, function_plot, quantity

_WORST = 8  # rows in the table of the largest errors
_DRAWN = 4  # targets whose surface is drawn


def fit_page(
    points: Points, split: Split, regressor: Regressor, test: FitEvaluation, history: Sequence[FitRow],
    facts: Mapping[str, Any], recipe: str,
) -> str:  # fmt: skip
    """Return the whole page as HTML. Args: `facts` as in run.json; `recipe` as TOML."""
    predicted = regressor.predict(points.inputs)
    widths = (len(regressor.inputs), *regressor.header.hidden, len(regressor.targets))
    shape = " → ".join(map(str, widths))
    names = points.target_names
    context = {
        "title": f"{', '.join(names)} of {points.name}",
        "points": points,
        "facts": facts,
        "targets": ", ".join(names),
        "test": test,
        "sentences": _sentences(test, history, facts),
        "shape": shape,
        "activation": regressor.header.activation,
        "columns": [*regressor.inputs, *regressor.targets][:24],
        "large": _large(points, split, regressor),
        "curves": Markup(_learning_curves(history)),
        "errors": [
            (name, error_plots(points.targets[:, k], predicted[:, k], split.test, split.train, str(k)))
            for k, name in enumerate(names)
        ],
        "parts_of": [("train", test.train), ("validation", test.validation), ("test", test),
                     ("test, predicting the mean", test.always_the_mean)],
        **_worst(points, split, predicted),
        "recipe": recipe,
    }  # fmt: skip
    filters = {"quantity": quantity, "duration": words.duration}
    return pages.render("regression.html", context, origin(facts["versions"]), filters)


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
