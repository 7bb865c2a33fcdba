"""Figures of predicted numbers: predictions over the truth, residuals, errors, a function over one or two inputs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from facewright.report import words
from facewright.report.canvas import INK, MUTED, PAPER, canvas, inline_svg, name_axes, plain, series_colour, ticks

Array = NDArray[np.float64]
Rows = NDArray[np.int64]
Predict = Callable[[Array], Array]  # (M, D) inputs -> (M,)

SIZE, CURVE, SURFACE = (360, 250), (440, 340), (600, 480)  # CSS pixels
_POINTS = 1_000  # that are drawn
_POINT: dict[str, Any] = {"markersize": 4.5, "markeredgewidth": 0}
# From low to high; each is told apart from a light and from a dark page.
_HEIGHTS = LinearSegmentedColormap.from_list(
    "heights", ["#26479b", "#4f8fd0", "#9fc9c4", "#f0c987", "#dd7a3f", "#a8392b"]
)


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


def error_plots(truth: Array, predicted: Array, test: Rows, train: Rows, key: str) -> list[Markup]:
    """Draw predicted over true values, errors over predictions, and the distribution of the test errors.

    Args:
        truth, predicted: (N,). test, train: rows of the two parts; no training row: only the test part is drawn.
        key: of the figures' ids.
    """
    shown, beside = test[some(len(test))], train[some(len(train))]
    agreement, first = canvas(*SIZE)
    first.axline((truth[shown].min(),) * 2, slope=1, color=MUTED, linewidth=1, linestyle=(0, (2, 3)))
    first.plot(truth[shown], predicted[shown], "o", color=series_colour(1), **_POINT)
    _label(first, "true", "")
    residuals, second = canvas(*SIZE)
    for rows, colour, alpha in ((beside, MUTED, 0.35), (shown, series_colour(1), 0.85)):
        second.plot(predicted[rows], predicted[rows] - truth[rows], "o", color=colour, alpha=alpha, **_POINT)
    _label(second, "predicted", "")
    distribution, third = canvas(*SIZE)
    errors = predicted[test] - truth[test]
    third.hist(errors, 2 * min(20, max(4, round(len(errors) ** 0.5))), color=series_colour(1), rwidth=0.9)
    _label(third, "predicted − true", "")
    figures = {"true": agreement, "residuals": residuals, "errors": distribution}
    return [
        Markup(inline_svg(figure, f"{name}{key}", f"{name} of {len(shown)} test rows"))
        for name, figure in figures.items()
    ]


def function_plot(
    predict: Predict, inputs: Array, truth: Array, is_test: NDArray[np.bool_], names: tuple[str, ...], key: str
) -> Markup:
    """Draw a function of one input as a curve, of two as a surface in three dimensions, and the points.

    Args:
        inputs: (N, D), D = 1 or 2. truth: (N,). is_test: (N,).
        names: of the inputs and of the target. key: of the figure's ids.
    """
    *over, target = named = tuple(map(plain, names))
    draw, kind = (_curve, "curve") if len(over) == 1 else (_surface, "surface")
    figure, axes, style = draw(predict, inputs, named)
    shown = some(len(inputs))
    for test, colour in ((False, INK), (True, series_colour(1))):
        rows = shown[is_test[shown] == test]
        axes.scatter(*inputs[rows].T, truth[rows], color=colour, **style)
    return Markup(inline_svg(figure, f"fit{key}", f"{target} over {' and '.join(over)}: {kind} and points"))


def _surface(predict: Predict, inputs: Array, names: tuple[str, ...]) -> tuple[Figure, Any, dict[str, Any]]:
    """The figure, its axes, and how points are drawn in them."""
    figure, flat = canvas(*SURFACE, left=0, bottom=0)
    flat.remove()
    axes: Any = figure.add_axes((0.0, 0.04, 0.94, 0.96), projection="3d", computed_zorder=False)
    axes.set_facecolor("none")
    x, y = np.meshgrid(*(np.linspace(column.min(), column.max(), 37) for column in inputs.T))
    z = predict(np.c_[x.ravel(), y.ravel()]).reshape(x.shape)
    axes.plot_surface(x, y, z, cmap=_HEIGHTS, rcount=36, ccount=36, linewidth=0.3, edgecolor=PAPER, alpha=0.85)
    for axis, label in zip((axes.xaxis, axes.yaxis, axes.zaxis), names, strict=True):
        axis.set_pane_color((0.0, 0.0, 0.0, 0.0))
        axis.set_label_text(label, fontsize=12, color=INK)
        axis.set_tick_params(colors=MUTED, labelsize=11, pad=2)
        axis.set_major_locator(MaxNLocator(5))
    return figure, axes, {"s": 9, "depthshade": False}


def _curve(predict: Predict, inputs: Array, names: tuple[str, ...]) -> tuple[Figure, Any, dict[str, Any]]:
    """As `_surface`."""
    figure, axes = canvas(*CURVE)
    xs = np.linspace(inputs.min(), inputs.max(), 400)
    axes.plot(xs, predict(xs[:, None]), color=series_colour(0), linewidth=2, zorder=3)
    _label(axes, *names)
    return figure, axes, {"s": _POINT["markersize"] ** 2, "linewidths": 0}


def some(count: int) -> Rows:
    """Return all row numbers, or a thousand of them, evenly taken."""
    return np.unique(np.linspace(0, count - 1, min(count, _POINTS)).round().astype(np.int64))


def _label(axes: Axes, x: str, y: str) -> None:
    for axis in (axes.xaxis, axes.yaxis):
        ticks(axis, MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]), lambda value: words.tick(value).replace("-", "−"))
    name_axes(axes, x, y)
