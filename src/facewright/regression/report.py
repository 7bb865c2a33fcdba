"""The page of a fitted function: one self-contained file in the look of the other reports."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator
from numpy.typing import NDArray

from facewright.data.splits import Split
from facewright.evaluation.number_metrics import FitEvaluation
from facewright.metrics.intervals import Rate
from facewright.regression.fitting import FitRow
from facewright.regression.points import Points
from facewright.regression.regressor import Regressor
from facewright.report import pages, words
from facewright.report.canvas import INK, MUTED, PAPER, canvas, inline_svg, name_axes, plain, series_colour

Array = NDArray[np.float64]

_WORST = 8  # rows in the table of the largest errors
_DRAWN = 4  # targets whose surface is drawn
_POINTS = 1_000  # points that are drawn
_SIZE, _LARGE = (360, 250), (600, 480)  # CSS pixels
# From low to high; each is told apart from a light and from a dark page.
_HEIGHTS = LinearSegmentedColormap.from_list(
    "heights", ["#26479b", "#4f8fd0", "#9fc9c4", "#f0c987", "#dd7a3f", "#a8392b"]
)


def fit_page(
    points: Points, split: Split, regressor: Regressor, test: FitEvaluation, history: Sequence[FitRow],
    facts: Mapping[str, Any], recipe: str,
) -> str:  # fmt: skip
    """Return the whole page as HTML. Args: `facts` as in run.json; `recipe` as TOML."""
    predicted = regressor.predict(points.inputs)
    widths = (len(regressor.inputs), *regressor.header.hidden, len(regressor.targets))
    shape = " → ".join(map(str, widths))
    sizes = np.linalg.norm(predicted - points.targets, axis=1)
    worst = split.test[np.argsort(-sizes[split.test], kind="stable")][:_WORST]
    names = points.target_names
    columns = [*points.input_names, *(f"{name}, true" for name in names), *(f"{name}, predicted" for name in names)]
    table = np.c_[points.inputs, points.targets, predicted, sizes]
    context = {
        "title": f"{', '.join(names)} of {points.name}",
        "created": datetime.fromisoformat(facts["finished"]).strftime("%d %B %Y, %H:%M UTC"),
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
        "errors": [(name, _error_plots(points, split, predicted, k)) for k, name in enumerate(names)],
        "parts_of": [("train", test.train), ("validation", test.validation), ("test", test),
                     ("test, predicting the mean", test.always_the_mean)],
        "worst_header": [*columns, "error"],
        "worst": [[int(row) + 1, *table[row].tolist()] for row in worst],
        "recipe": recipe,
        "command": shlex.join(["facewright", *sys.argv[1:]]) if len(sys.argv) > 1 else "",
    }  # fmt: skip
    return pages.render("regression.html", context, {"quantity": quantity, "duration": words.duration})


def quantity(value: float | None) -> str:
    """Write a number in any unit with three significant digits.

    >>> quantity(11234.0), quantity(0.1208), quantity(-1.9e-7), quantity(0.0)
    ('11,200', '0.121', '−1.90e−07', '0')
    """
    if value is None or not math.isfinite(value):
        return words.UNDEFINED
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    text = f"{value:.2e}" if not -4 <= size < 9 else f"{round(value, 2 - size):,.{max(0, 2 - size)}f}"
    return text.replace("-", "−")


def _sentences(test: FitEvaluation, history: Sequence[FitRow], facts: Mapping[str, Any]) -> list[str]:
    """Say what to take away, and how the fit ended."""
    error, constant = test.average_l2_error, test.always_the_mean.average_l2_error.value
    share = error.value / constant if constant > 0 else math.inf
    verdict = f"the fit leaves {100 * share:.2g}\N{NO-BREAK SPACE}% of that" if share < 1 else "the fit is no better"
    kept = max((row.epoch for row in history if row.best), default=0)
    ended = "stopped early, after" if facts["stopped_early"] else "ended after"
    return [
        f"The mean error on the {test.n:,} test rows is {quantity(error.value)} (95 % interval {_between(error)}). "
        f"Predicting the mean of the training rows would be off by {quantity(constant)}: {verdict}.",
        f"The weights are those with the lowest validation loss, of pass {kept} over the training rows; "
        f"the fit {ended} {facts['epochs']} passes.",
    ]


def _between(rate: Rate) -> str:
    return f"{quantity(rate.low)} to {quantity(rate.high)}"


def _large(points: Points, split: Split, regressor: Regressor) -> list[tuple[str, Markup]]:
    """Draw the function itself, if it has one or two inputs: a curve, or the surface from above; and the points."""
    if len(points.input_names) > 2:
        return []
    is_test = np.isin(np.arange(len(points)), split.test)
    drawn = []
    for k, name in enumerate(points.target_names[:_DRAWN]):
        draw = _curve if len(points.input_names) == 1 else _surface
        drawn.append((name, Markup(draw(regressor, points, is_test, k))))
    return drawn


def _surface(regressor: Regressor, points: Points, is_test: NDArray[np.bool_], target: int) -> str:
    """Draw a surface over two inputs in three dimensions, with the points."""
    figure, flat = canvas(*_LARGE, left=0, bottom=0)
    flat.remove()
    axes: Any = figure.add_axes((0.0, 0.04, 0.94, 0.96), projection="3d", computed_zorder=False)
    axes.set_facecolor("none")
    x, y = np.meshgrid(*(np.linspace(column.min(), column.max(), 37) for column in points.inputs.T))
    z = regressor.predict(np.c_[x.ravel(), y.ravel()])[:, target].reshape(x.shape)
    axes.plot_surface(x, y, z, cmap=_HEIGHTS, rcount=36, ccount=36, linewidth=0.3, edgecolor=PAPER, alpha=0.85)
    shown = _some(len(points))
    for test, colour in ((False, INK), (True, series_colour(1))):
        rows = shown[is_test[shown] == test]
        axes.scatter(*points.inputs[rows].T, points.targets[rows, target], color=colour, s=9, depthshade=False)
    labels = [plain(name) for name in (*points.input_names, points.target_names[target])]
    for axis, label in zip((axes.xaxis, axes.yaxis, axes.zaxis), labels, strict=True):
        axis.set_pane_color((0.0, 0.0, 0.0, 0.0))
        axis.set_label_text(label, fontsize=12, color=INK)
        axis.set_tick_params(colors=MUTED, labelsize=11, pad=2)
        axis.set_major_locator(MaxNLocator(5))
    return inline_svg(figure, f"fit{target}", f"{labels[2]} over {labels[0]} and {labels[1]}: surface and points")


def _curve(regressor: Regressor, points: Points, is_test: NDArray[np.bool_], target: int) -> str:
    figure, axes = canvas(*_LARGE, left=70, bottom=48)
    inputs, truth, shown = points.inputs[:, 0], points.targets[:, target], _some(len(points))
    xs = np.linspace(inputs.min(), inputs.max(), 400)
    axes.plot(xs, regressor.predict(xs[:, None])[:, target], color=series_colour(0), linewidth=2, zorder=3)
    for test, colour in ((False, INK), (True, series_colour(1))):
        rows = shown[is_test[shown] == test]
        axes.plot(inputs[rows], truth[rows], "o", color=colour, markersize=4.5, markeredgewidth=0)
    names = plain(points.input_names[0]), plain(points.target_names[target])
    _label(axes, *names)
    return inline_svg(figure, f"fit{target}", f"{names[1]} over {names[0]}: curve and points")


def _learning_curves(history: Sequence[FitRow]) -> str:
    """Draw training and validation loss over the passes, with a ring around the kept weights."""
    figure, axes = canvas(*_SIZE)
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


def _error_plots(points: Points, split: Split, predicted: Array, k: int) -> list[Markup]:
    """Draw predicted over true values, errors over predictions, and the distribution of the test errors."""
    train, test = (split.train[_some(len(split.train))], split.test[_some(len(split.test))])
    truth, answers = points.targets[:, k], predicted[:, k]
    agreement, first = canvas(*_SIZE)
    first.axline((truth[test].min(),) * 2, slope=1, color=MUTED, linewidth=1, linestyle=(0, (2, 3)))
    first.plot(truth[test], answers[test], "o", color=series_colour(1), markersize=4.5, markeredgewidth=0)
    _label(first, "true", "")
    residuals, second = canvas(*_SIZE)
    for rows, colour, alpha in ((train, MUTED, 0.35), (test, series_colour(1), 0.85)):
        errors = answers[rows] - truth[rows]
        second.plot(answers[rows], errors, "o", color=colour, alpha=alpha, markersize=4.5, markeredgewidth=0)
    _label(second, "predicted", "")
    distribution, third = canvas(*_SIZE)
    errors = answers[split.test] - truth[split.test]
    third.hist(errors, 2 * min(20, max(4, round(len(errors) ** 0.5))), color=series_colour(1), rwidth=0.9)
    _label(third, "predicted − true", "")
    figures = {"true": agreement, "residuals": residuals, "errors": distribution}
    return [
        Markup(inline_svg(figure, f"{key}{k}", f"{key} of {len(test)} test rows")) for key, figure in figures.items()
    ]


def _label(axes: Axes, x: str, y: str) -> None:
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        axis.set_major_formatter(FuncFormatter(lambda value, _: words.tick(value).replace("-", "−")))
    name_axes(axes, x, y)


def _some(count: int) -> NDArray[np.int64]:
    """Return all row numbers, or a thousand of them, evenly taken."""
    return np.unique(np.linspace(0, count - 1, min(count, _POINTS)).round().astype(np.int64))
