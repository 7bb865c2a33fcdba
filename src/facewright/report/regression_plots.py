"""Figures of a fitted function: the surface with its points, the curve of one input, learning curves, errors.

Each function gives one inline SVG; `key` is unique in the page. Of many points, a thousand are drawn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from mpl_toolkits.mplot3d.art3d import Poly3DCollection  # type: ignore[import-untyped]
from numpy.typing import NDArray

from facewright.regressor import Regressor
from facewright.report.canvas import (
    INK,
    LINE,
    MUTED,
    PAPER,
    canvas,
    inline_svg,
    name_axes,
    plain,
    series_colour,
)
from facewright.report.words import tick
from facewright.training.fitting import FitRow

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

MOST_POINTS = 1_000
_SIZE = (360, 250)  # CSS pixels
_LARGE = (600, 480)
_GRID = 36  # cells of the surface a side
_ELEVATION, _AZIMUTH = math.radians(26), math.radians(-52)  # where the viewer stands
_ASPECT = np.array([1.0, 1.0, 0.72])  # of the box
_LIGHT = np.array([-0.45, -0.25, 0.86])
# From low to high; each is told apart from a light and from a dark page.
_HEIGHTS = LinearSegmentedColormap.from_list(
    "heights", ["#26479b", "#4f8fd0", "#9fc9c4", "#f0c987", "#dd7a3f", "#a8392b"]
)


def surface(regressor: Regressor, inputs: Array, truth: Array, is_test: Mask, target: int, key: str) -> str:
    """The fitted surface over two inputs, with the points that it was fitted to and those it is measured on.

    Surface and points are painted from back to front, so that a point behind the surface is hidden by it.

    Args:
        inputs: (N, 2). truth: (N,) the target. is_test: (N,) which points are of the test part.
        target: number of the target in the regressor.
    """
    ends = [np.linspace(column.min(), column.max(), _GRID + 1) for column in inputs.T]
    x, y = np.meshgrid(*ends, indexing="ij")  # (G + 1, G + 1)
    z = regressor.predict(np.c_[x.ravel(), y.ravel()])[:, target].reshape(x.shape)
    shown = _some(len(truth))
    low = np.array([ends[0][0], ends[1][0], min(z.min(), truth[shown].min())])
    high = np.array([ends[0][-1], ends[1][-1], max(z.max(), truth[shown].max())])
    span = np.where(high > low, high - low, 1.0) / _ASPECT
    quads = _quads(x, y, z)
    dots = _dots(np.c_[inputs, truth][shown], span)
    colours = [*_shaded(quads, span, low), *(series_colour(1) if test else INK for test in is_test[shown])]
    edges = [*colours[: len(quads)], *[PAPER] * len(dots)]
    figure, axes = _room([plain(column.name) for column in (*regressor.inputs, regressor.targets[target])], low, high)
    widths = [0.35] * len(quads) + [0.5] * len(dots)
    axes.add_collection3d(Poly3DCollection([*quads, *dots], facecolors=colours, edgecolors=edges, linewidths=widths))
    names = [column.name for column in regressor.inputs]
    label = (
        f"{regressor.targets[target].name} over {names[0]} and {names[1]}: the fitted surface and {len(shown)} points"
    )
    return inline_svg(figure, key, label)


def _room(names: Sequence[str], low: Array, high: Array) -> tuple[Figure, Any]:
    """Calm axes in three dimensions, without perspective."""
    width, height = _LARGE
    figure = Figure(figsize=(width / 72, height / 72), dpi=72)
    FigureCanvasSVG(figure)
    axes: Any = figure.add_axes((-0.015, 0.05, 0.97, 0.95), projection="3d")
    axes.set_proj_type("ortho")
    axes.view_init(elev=math.degrees(_ELEVATION), azim=math.degrees(_AZIMUTH))
    axes.set_box_aspect(_ASPECT, zoom=1.12)
    axes.set_facecolor("none")
    for axis, name, start, end in zip((axes.xaxis, axes.yaxis, axes.zaxis), names, low, high, strict=True):
        axis.set_pane_color((0.0, 0.0, 0.0, 0.0))
        axis.line.set_color(LINE)
        axis._axinfo["grid"].update(color=LINE, linewidth=0.8)
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        axis.set_major_formatter(FuncFormatter(lambda value, _: tick(value).replace("-", "−")))
        axis.set_tick_params(colors=MUTED, labelsize=11, pad=2)
        axis.set_label_text(name, fontsize=12, color=INK)
        room = 0.02 * (end - start) if end > start else 1.0
        getattr(axes, f"set_{axis.axis_name}lim")(start - room, end + room)
    return figure, axes


def _quads(x: Array, y: Array, z: Array) -> Array:
    """(G², 4, 3) the corners of the cells of a grid."""
    corners = np.stack([x, y, z], axis=-1)
    return np.stack([corners[:-1, :-1], corners[1:, :-1], corners[1:, 1:], corners[:-1, 1:]], axis=2).reshape(-1, 4, 3)


def _dots(points: Array, span: Array) -> list[Array]:
    """An octagon a point that faces the viewer, and lies a little nearer to him than the point does."""
    ahead = np.array(
        [math.cos(_ELEVATION) * math.cos(_AZIMUTH), math.cos(_ELEVATION) * math.sin(_AZIMUTH), math.sin(_ELEVATION)]
    )
    across = np.array([-math.sin(_AZIMUTH), math.cos(_AZIMUTH), 0.0])
    up = np.cross(ahead, across)
    angles = np.arange(8) * math.pi / 4 + math.pi / 8
    ring = 0.0085 * (np.outer(np.cos(angles), across) + np.outer(np.sin(angles), up))
    return [point + (ring + 0.045 * ahead) * span for point in points]


def _shaded(quads: Array, span: Array, low: Array) -> list[tuple[float, ...]]:
    """A colour a cell: by its height, darker where it turns away from the light."""
    box = (quads - low) / span
    normals = np.cross(box[:, 2] - box[:, 0], box[:, 3] - box[:, 1])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    normals *= np.where(normals[:, 2:] < 0, -1.0, 1.0)
    light = 0.72 + 0.28 * np.clip(normals @ (_LIGHT / np.linalg.norm(_LIGHT)), 0, 1)
    heights = box[:, :, 2].mean(axis=1)
    heights = (heights - heights.min()) / max(float(np.ptp(heights)), 1e-12)
    colours = np.asarray(_HEIGHTS(heights))[:, :3] * light[:, None]
    return [tuple(map(float, colour)) for colour in colours]


def curve(regressor: Regressor, inputs: Array, truth: Array, is_test: Mask, target: int, key: str) -> str:
    """The fitted curve of one input, with the points; arguments as `surface`, inputs (N, 1)."""
    figure, axes = canvas(*_LARGE, left=70, bottom=48)
    xs = np.linspace(inputs.min(), inputs.max(), 400)
    axes.plot(xs, regressor.predict(xs[:, None])[:, target], color=series_colour(0), linewidth=2, zorder=3)
    shown = _some(len(truth))
    for test, colour in ((False, INK), (True, series_colour(1))):
        rows = shown[is_test[shown] == test]
        axes.plot(
            inputs[rows, 0], truth[rows], "o", color=colour, markersize=4.5, markeredgecolor=PAPER, markeredgewidth=0.5
        )
    _ticks(axes)
    name_axes(axes, plain(regressor.inputs[0].name), plain(regressor.targets[target].name))
    return inline_svg(
        figure, key, f"{regressor.targets[target].name} over {regressor.inputs[0].name}: curve and points"
    )


def learning_curves(history: Sequence[FitRow], key: str) -> str:
    """Training and validation loss over the passes, on a logarithmic scale; a ring around the kept weights."""
    figure, axes = canvas(*_SIZE)
    passes = [row.epoch for row in history]
    for colour, losses in ((1, [row.train_loss for row in history]), (0, [row.validation_loss for row in history])):
        marker = "o" if len(history) < 4 else ""
        axes.plot(passes, losses, color=series_colour(colour), linewidth=2, marker=marker, markersize=5)
    best = [row for row in history if row.best]
    if best:
        kept = ([best[-1].epoch], [best[-1].validation_loss])
        axes.plot(*kept, "o", markersize=9, markerfacecolor="none", markeredgecolor=INK)
    _loss_axis(axes, history)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    name_axes(axes, "passes over the training rows", "")
    return inline_svg(figure, key, f"training and validation loss over {passes[-1] if passes else 0} passes")


def _loss_axis(axes: Axes, history: Sequence[FitRow]) -> None:
    """A logarithmic axis; a training loss far below all of validation, as of points learned by heart, leaves it."""
    axes.set_yscale("log")
    if history:
        losses = [loss for row in history for loss in (row.train_loss, row.validation_loss) if loss > 0]
        held_out = [row.validation_loss for row in history if row.validation_loss > 0]
        low, high = max(min(losses, default=1.0), 1e-4 * min(held_out, default=1.0)), max(losses, default=1.0)
        axes.set_ylim(low / 1.3, high * 1.3)
        narrow = high / low < 300
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if narrow else (1.0,), numticks=7))
        axes.yaxis.set_major_formatter(FuncFormatter((lambda y, _: f"{y:.3g}") if narrow else _power))
    axes.yaxis.set_minor_locator(NullLocator())


def predicted_against_true(truth: Array, said: Array, key: str) -> str:
    """Each test row: what was said over what is true; on the line they agree. Args: (N,) each."""
    figure, axes = canvas(*_SIZE)
    ends = [min(truth.min(), said.min()), max(truth.max(), said.max())]
    axes.plot(ends, ends, color=MUTED, linewidth=1, linestyle=(0, (2, 3)))
    rows = _some(len(truth))
    axes.plot(truth[rows], said[rows], "o", color=series_colour(1), markersize=4.5, alpha=0.8, markeredgewidth=0)
    _ticks(axes)
    name_axes(axes, "true", "")
    return inline_svg(figure, key, f"predicted over true value of {len(truth)} test rows")


def residuals(train: tuple[Array, Array], test: tuple[Array, Array], key: str) -> str:
    """Errors over predictions. Args: (true, predicted) of the training and of the test rows, (N,) each."""
    figure, axes = canvas(*_SIZE)
    axes.axhline(0, color=MUTED, linewidth=1, linestyle=(0, (2, 3)))
    for (truth, said), colour, alpha in ((train, MUTED, 0.35), (test, series_colour(1), 0.85)):
        rows = _some(len(truth))
        axes.plot(said[rows], (said - truth)[rows], "o", color=colour, markersize=4.5, alpha=alpha, markeredgewidth=0)
    _ticks(axes)
    name_axes(axes, "predicted", "")
    return inline_svg(figure, key, f"errors of {len(test[0])} test rows and {len(train[0])} training rows")


def error_histogram(errors: Array, key: str) -> str:
    """How often the test part is off by how much. Args: (N,) predicted − true."""
    figure, axes = canvas(*_SIZE)
    reach = max(float(np.abs(errors).max()), 1e-300)
    bins = np.linspace(-reach, reach, 2 * min(20, max(4, round(len(errors) ** 0.5))) + 1)
    axes.hist(errors, bins.tolist(), color=series_colour(1), alpha=0.85, rwidth=0.9)
    axes.axvline(0, color=MUTED, linewidth=1, linestyle=(0, (2, 3)))
    _ticks(axes)
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.grid(visible=False, axis="x")
    name_axes(axes, "predicted − true", "")
    return inline_svg(figure, key, f"distribution of the errors of {len(errors)} test rows")


def _ticks(axes: Axes) -> None:
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        axis.set_major_formatter(FuncFormatter(lambda value, _: tick(value).replace("-", "−")))


def _power(value: float, _: int) -> str:
    """A power of ten beside an axis.

    >>> _power(0.001, 0), _power(1.0, 0)
    ('10⁻³', '1')
    """
    exponent = round(math.log10(value))
    return "1" if exponent == 0 else "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _some(count: int) -> NDArray[np.int64]:
    """All row numbers, or a thousand of them, evenly taken."""
    return np.unique(np.linspace(0, count - 1, min(count, MOST_POINTS)).round().astype(np.int64))
