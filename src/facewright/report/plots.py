"""Figures that compare models: accuracy against cost, training curves. Each function gives one inline SVG.

`key` is unique in the page (it begins every id of the drawing). Models have the colour of their place in the list.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from facewright.evaluation.results import Entry
from facewright.report.canvas import (
    INK,
    LINE,
    MUTED,
    canvas,
    inline_svg,
    name_axes,
    plain,
    series_colour,
    series_dash,
)
from facewright.report.words import short_count, tick
from facewright.training.history import EpochRow

_SIZE = (360, 250)  # CSS pixels of a small figure: three side by side on a desk, one on a phone
_STEPS = [1, 2, 5, 10]  # round numbers beside the axes
_MANY = 7  # more models than this are named in the legend only


def accuracy_against_cost(entries: Sequence[Entry], cost: str, key: str) -> str:
    """Test accuracy with its 95 % interval over what a model costs.

    Args:
        entries: one or more models.
        cost: "latency" (median milliseconds of one image) or "parameters".
        key: unique in the page.
    Returns:
        An SVG; up to seven models are named beside their points.
    """
    xs = [entry.latency.median_ms if cost == "latency" else float(entry.parameters) for entry in entries]
    figure, axes = canvas(*_SIZE)
    for index, (x, entry) in enumerate(zip(xs, entries, strict=True)):
        rate, colour = entry.test.accuracy, series_colour(index)
        axes.plot([x, x], [rate.low, rate.high], color=colour, linewidth=6, alpha=0.25, solid_capstyle="round")
        axes.plot([x], [rate.value], "o", color=colour, markersize=8, markeredgewidth=0)
    _cost_axis(axes, xs, cost)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{100 * y:.3g} %"))
    name_axes(axes, "one image, median" if cost == "latency" else "parameters", "test accuracy")
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
    """Write each name beside its point: towards the middle, and no two names on one line on the same side."""
    low, high = axes.get_ylim()
    line = (high - low) * 0.07
    left, right = axes.get_xlim()
    taken: list[tuple[bool, float]] = []
    for index in sorted(range(len(xs)), key=lambda i: -entries[i].test.accuracy.value):
        x = xs[index]
        middle = math.sqrt(left * right) if axes.get_xscale() == "log" else (left + right) / 2
        turned = x > middle
        y = entries[index].test.accuracy.value
        while any(turned == side and abs(y - other) < line for side, other in taken):
            y -= line / 4
        taken.append((turned, y))
        axes.annotate(
            plain(entries[index].name),
            (x, y),
            xytext=(-9 if turned else 9, 0),
            textcoords="offset points",
            ha="right" if turned else "left",
            va="center",
            fontsize=12,
            color=INK,
        )


def curves_of_models(entries: Sequence[Entry], what: str, over: str, key: str) -> str:
    """The validation curves of all models in one picture.

    Args:
        entries: one or more models; one without a history has no line.
        what: "accuracy" or "loss" (of the validation part).
        over: "images" (seen in training) or "seconds".
        key: unique in the page.
    """
    figure, axes = canvas(*_SIZE)
    for index, entry in enumerate(entries):
        xs = [float(row.images_seen if over == "images" else row.seconds) for row in entry.history]
        ys = [row.validation_accuracy if what == "accuracy" else row.validation_loss for row in entry.history]
        _line(axes, xs, ys, series_colour(index), series_dash(index))
    _measure_axis(axes, over)
    _value_axis(axes, what)
    name_axes(axes, "images seen" if over == "images" else "training time", f"validation {what}")
    return inline_svg(figure, key, f"Validation {what} of {len(entries)} models over {over}")


def training_curves(history: Sequence[EpochRow], what: str, key: str) -> str:
    """One model's curves, the part learned from and the part held out, epoch by epoch.

    Args:
        history: rows in order; a change of phase or image size is marked by a line and named.
        what: "loss", "accuracy" or "learning rate".
        key: unique in the page.
    """
    figure, axes = canvas(*_SIZE)
    epochs = [float(row.epoch) for row in history]
    if what == "learning rate":
        rates = [row.learning_rate for row in history]
        _line(axes, epochs, rates, series_colour(0), "-")
        if rates and min(rates) > 0 and max(rates) / min(rates) > 50:
            axes.set_yscale("log")
            axes.yaxis.set_minor_locator(NullLocator())
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
    name_axes(axes, "epoch", what)
    _mark_changes(axes, history)
    return inline_svg(figure, key, f"{what} over {len(history)} epochs")


def changes(history: Sequence[EpochRow]) -> list[tuple[float, str]]:
    """Where a new phase or image size begins (between two epochs), and its name.

    Returns:
        (epoch − 0.5, words); the first entry is the beginning of training. Empty where nothing changes.
    """
    marks: list[tuple[float, str]] = []
    before: tuple[str, int] | None = None
    phases = {row.phase for row in history}
    sizes = {row.image_size for row in history}
    for row in history:
        if before != (row.phase, row.image_size):
            words = [row.phase] if len(phases) > 1 else []
            words += [f"{row.image_size} px"] if len(sizes) > 1 else []
            marks.append((row.epoch - 0.5, ", ".join(words)))
        before = (row.phase, row.image_size)
    return marks if len(marks) > 1 else []


def _mark_changes(axes: Axes, history: Sequence[EpochRow]) -> None:
    for number, (epoch, words) in enumerate(changes(history)):
        if number:
            axes.axvline(epoch, color=MUTED, linewidth=1, linestyle=(0, (2, 3)))
        axes.annotate(
            plain(words, limit=18),
            (max(epoch, axes.get_xlim()[0]), 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(4, 3),
            textcoords="offset points",
            fontsize=10,
            color=MUTED,
            annotation_clip=False,
        )


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
        axes.set_ylim(min(0.0, low), high)
        axes.axhline(0.0, color=LINE, linewidth=1)
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=_STEPS))


def _measure_axis(axes: Axes, over: str) -> None:
    """Ticks in thousands of images, or in seconds, minutes or hours, whichever the longest run asks for."""
    longest = axes.get_xlim()[1]
    axes.set_xlim(left=0.0)
    if over == "images":
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=_STEPS))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: tick(x)))
        return
    length, unit = (3600, "h") if longest > 7200 else (60, "min") if longest > 120 else (1, "s")
    steps = MaxNLocator(5, steps=_STEPS).tick_values(0.0, longest / length)
    axes.set_xticks([step * length for step in steps if step * length <= longest])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / length:g} {unit}"))
