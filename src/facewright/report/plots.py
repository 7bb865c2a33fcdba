"""Figures: models by cost, training curves, predicted numbers over the truth, a function over one or two inputs.

Each is one inline SVG; `key` is unique in the page (it begins every id of the drawing).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from facewright.evaluation.results import Entry
from facewright.events import EpochRow
from facewright.report.pages import (
    INK,
    MUTED,
    PAPER,
    canvas,
    inline_svg,
    name_axes,
    plain,
    series_colour,
    series_dash,
    ticks,
)
from facewright.report.words import short_count, tick

SIZE = (360, 250)  # CSS pixels of a small figure: three side by side on a desk, one on a phone
_STEPS = [1, 2, 2.5, 5, 10]  # round numbers beside the axes
_AREA = (294.0, 195.0)  # what is left of `SIZE` inside the axes
_LETTER, _ROW = 7.5, 14.0  # a generous width and the height of a letter of 12 pixels
_MANY = 7  # more models than this are named in the legend only
Array = NDArray[np.float64]
Rows = NDArray[np.int64]
Predict = Callable[[Array], Array]  # (M, D) inputs -> (M,)
CURVE, SURFACE = (440, 340), (600, 480)  # CSS pixels
_POINTS = 1_000  # that are drawn
_POINT: dict[str, Any] = {"markersize": 4.5, "markeredgewidth": 0}
# From low to high; each is told apart from a light and from a dark page.
_HEIGHTS = LinearSegmentedColormap.from_list(
    "heights", ["#26479b", "#4f8fd0", "#9fc9c4", "#f0c987", "#dd7a3f", "#a8392b"]
)


def accuracy_against_cost(entries: Sequence[Entry], cost: str, key: str) -> str:
    """Test accuracy with its 95 % interval over a cost: "latency" (median ms of one image) or "parameters"."""
    xs = [entry.latency.median_ms if cost == "latency" else float(entry.parameters) for entry in entries]
    figure, axes = canvas(*SIZE)
    for index, (x, entry) in enumerate(zip(xs, entries, strict=True)):
        rate, colour = entry.test.accuracy, series_colour(index)
        axes.plot([x, x], [rate.low, rate.high], color=colour, linewidth=6, alpha=0.25, solid_capstyle="round")
        axes.plot([x], [rate.value], "o", color=colour, markersize=8, markeredgewidth=0)
    _cost_axis(axes, xs, cost)
    _value_axis(axes, "accuracy")
    name_axes(axes, "one image, median" if cost == "latency" else "parameters", "")
    if len(entries) <= _MANY:
        _name_points(axes, xs, entries)
    said = "; ".join(
        f"{entry.name} {100 * entry.test.accuracy.value:.1f} % at {short_count(x)}"
        for x, entry in zip(xs, entries, strict=True)
    )
    return inline_svg(figure, key, f"Test accuracy over {cost}: {said}")


def _cost_axis(axes: Axes, xs: Sequence[float], cost: str) -> None:
    """A logarithmic axis where costs differ much, room for names on both sides."""
    unit = " ms" if cost == "latency" else ""
    low, high = min(xs), max(xs)
    if low > 0 and high / low > 8:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=12))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlim(low / 1.8, high * 1.8)
    else:
        room = max((high - low) * 0.25, high * 0.2, 1e-9)
        axes.set_xlim(max(0.0, low - room), high + room)
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=_STEPS))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: tick(x) + unit))


def _name_points(axes: Axes, xs: Sequence[float], entries: Sequence[Entry]) -> None:
    """Write each name beside its point, turned to the middle, and lower where it would cover another name."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    scaled = math.log if axes.get_xscale() == "log" else float
    taken: list[tuple[float, float, float]] = []  # left, right, y of a name, in CSS pixels of the plotting area
    for index in sorted(range(len(xs)), key=lambda i: -entries[i].test.accuracy.value):
        name, x, y = plain(entries[index].name, limit=16), xs[index], entries[index].test.accuracy.value
        across = (scaled(x) - scaled(left)) / (scaled(right) - scaled(left))
        turned = across > 0.5
        width = 9 + _LETTER * len(name)
        start = across * _AREA[0] - (width if turned else 0)
        down = (high - y) / (high - low) * _AREA[1]
        while any(start < end and begin < start + width and abs(down - row) < _ROW for begin, end, row in taken):
            down += 3
        taken.append((start, start + width, down))
        at = (x, high - down / _AREA[1] * (high - low))
        offset, side = (-9, "right") if turned else (9, "left")
        axes.annotate(
            name, at, xytext=(offset, 0), textcoords="offset points", ha=side, va="center", fontsize=12, color=INK
        )


def curves_of_models(entries: Sequence[Entry], what: str, over: str, key: str) -> str:
    """The validation curves of all models: "accuracy" or "loss", over "images" (seen in training) or "seconds"."""
    figure, axes = canvas(*SIZE)
    for index, entry in enumerate(entries):
        xs = [float(row.images_seen if over == "images" else row.seconds) for row in entry.history]
        ys = [row.validation_accuracy if what == "accuracy" else row.validation_loss for row in entry.history]
        _line(axes, xs, ys, series_colour(index), series_dash(index))
    _measure_axis(axes, over)
    _value_axis(axes, what)
    name_axes(axes, "images seen" if over == "images" else "training time", "")  # the title names the values
    return inline_svg(figure, key, f"Validation {what} of {len(entries)} models over {over}")


def training_curves(history: Sequence[EpochRow], what: str, key: str) -> str:
    """One model's curves of "loss", "accuracy" (training and validation part) or "learning rate", epoch by epoch.

    A change of phase or image size is marked by a line and named.
    """
    figure, axes = canvas(*SIZE)
    epochs = [float(row.epoch) for row in history]
    if what == "learning rate":
        rates = [row.learning_rate for row in history]
        _line(axes, epochs, rates, series_colour(0), "-")
        # Drops by a factor show on a logarithmic axis; of a smooth fall that ends near zero it would show only the end.
        drops = len(set(rates)) <= max(2, len(rates) // 3)
        if drops and min(rates) > 0 and max(rates) / min(rates) > 50:
            axes.set_yscale("log")
            axes.yaxis.set_minor_locator(NullLocator())
        else:
            axes.set_ylim(0.0, 1.1 * max(rates) if max(rates) > 0 else 1.0)
            axes.yaxis.set_major_locator(MaxNLocator(5, steps=_STEPS))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:.2g}"))
    else:
        learned = [row.train_accuracy if what == "accuracy" else row.train_loss for row in history]
        held_out = [row.validation_accuracy if what == "accuracy" else row.validation_loss for row in history]
        _line(axes, epochs, learned, series_colour(1), "-")
        _line(axes, epochs, held_out, series_colour(0), "-")
        _mark_best(axes, history, held_out)
        _value_axis(axes, what)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=_STEPS, integer=True))
    if len(history) == 1:
        axes.set_xlim(epochs[0] - 1, epochs[0] + 1)
    name_axes(axes, "epoch", "")  # the title names the values
    _mark_changes(axes, history)
    return inline_svg(figure, key, f"{what} over {len(history)} epochs")


@dataclass(frozen=True)
class Stretch:
    """Epochs in a row of one phase and image size."""

    first: int
    last: int
    words: str  # what is particular about it


def stretches(history: Sequence[EpochRow]) -> tuple[Stretch, ...]:
    """The parts of a run by phase and image size; empty where nothing changes."""
    many_phases = len({row.phase for row in history}) > 1
    many_sizes = len({row.image_size for row in history}) > 1
    found = []
    for (phase, size), rows in groupby(history, key=lambda row: (row.phase, row.image_size)):
        epochs = [row.epoch for row in rows]
        words = [phase] * many_phases + [f"{size} px"] * many_sizes
        found.append(Stretch(epochs[0], epochs[-1], ", ".join(words)))
    return tuple(found) if len(found) > 1 else ()


def _mark_changes(axes: Axes, history: Sequence[EpochRow]) -> None:
    """A line where a stretch begins; its name above, if the names of all stretches find room."""
    parts = stretches(history)
    low, high = axes.get_xlim()
    starts = [low] + [part.first - 0.5 for part in parts[1:]]
    for start in starts[1:]:
        axes.axvline(start, color=MUTED, linewidth=1, linestyle=(0, (2, 3)))
    names = [plain(part.words) for part in parts]
    room = [(end - start) / (high - low) * _AREA[0] for start, end in pairwise([*starts, high])]
    if any(0.75 * _LETTER * len(name) > width for name, width in zip(names, room, strict=False)):
        return
    for name, start in zip(names, starts, strict=False):
        axes.text(start, 1.02, " " + name, fontsize=10, color=MUTED, transform=axes.get_xaxis_transform())


def _mark_best(axes: Axes, history: Sequence[EpochRow], values: Sequence[float]) -> None:
    """A ring around the epoch whose weights were kept."""
    kept = [index for index, row in enumerate(history) if row.best]
    if kept and math.isfinite(values[kept[-1]]):
        point = history[kept[-1]].epoch, values[kept[-1]]
        axes.plot(*([value] for value in point), "o", markersize=9, markerfacecolor="none", markeredgecolor=INK)


def _line(axes: Axes, xs: Sequence[float], ys: Sequence[float], colour: str, dash: str) -> None:
    """A curve; a short one shows its points. A value that is not finite leaves a gap."""
    finite = [y if math.isfinite(y) else math.nan for y in ys]
    axes.plot(xs, finite, color=colour, linestyle=dash, linewidth=2, marker="o" if len(xs) < 4 else "", markersize=5)


def _value_axis(axes: Axes, what: str) -> None:
    if what == "accuracy":
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{100 * y:.3g} %"))
        axes.set_ylim(top=min(1.01, axes.get_ylim()[1]))
    else:
        low, high = axes.get_ylim()
        axes.set_ylim(min(-0.03 * high, low), 1.03 * high)
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=_STEPS))


def _measure_axis(axes: Axes, over: str) -> None:
    """Ticks in thousands of images, or in seconds, minutes or hours, whichever the longest run asks for."""
    longest = axes.get_xlim()[1]
    axes.set_xlim(-0.03 * longest, 1.02 * longest)
    if over == "images":
        ticks(axes.xaxis, MaxNLocator(5, steps=_STEPS), lambda x: tick(x))
        return
    length, unit = (3600, "h") if longest > 7200 else (60, "min") if longest > 120 else (1, "s")
    steps = MaxNLocator(5, steps=_STEPS).tick_values(0.0, longest / length)
    axes.set_xticks([step * length for step in steps if 0 <= step * length <= longest])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / length:g} {unit}"))


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
        ticks(axis, MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]), lambda value: tick(value).replace("-", "−"))
    name_axes(axes, x, y)
