"""Figures of a verifier: ROC over a logarithmic axis, DET on probit axes, histograms of the scores, CMC.

Each function gives one inline SVG; `key` is unique in the page.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from facewright.evaluation.verification import ErrorVersusReject, VerificationResult
from facewright.metrics.intervals import Rate
from facewright.metrics.verification import probit
from facewright.report.canvas import INK, MUTED, canvas, inline_svg, name_axes, plain, series_colour, ticks

_SIZE = (360, 270)  # CSS pixels
_WIDE = (720, 260)
_DET_TICKS = (1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.05, 0.2, 0.4, 0.6, 0.8, 0.95, 0.99)
_GROUPS = 20  # drawn at most
_BINS = 70  # of the histogram at most
_DASH = (0, (2, 3))


def roc_figure(result: VerificationResult, key: str) -> str:
    """TAR over FAR, the FAR on a logarithmic axis down to one impostor; steps, for nothing is interpolated."""
    figure, axes = canvas(*_SIZE)
    far, tar = np.array(result.far), np.array(result.tar)
    least = 1 / result.impostors
    left = least / 1.5
    axes.plot(np.maximum(far, left), tar, color=series_colour(0), linewidth=2, drawstyle="steps-post")
    for row in result.tar_at_far:
        axes.plot([row.achieved], [row.tar.value], "o", color=series_colour(1), markersize=6, markeredgewidth=0)
    axes.set_xscale("log")
    axes.set_xlim(left, 1.15)
    axes.xaxis.set_major_locator(LogLocator(numticks=8))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _share(value)))
    low = min([row.tar.value for row in result.tar_at_far], default=0.0)
    bottom = max(0.0, 1 - 1.25 * (1 - low) - 0.02)
    axes.set_ylim(bottom, 1 + 0.04 * (1 - bottom))
    ticks(axes.yaxis, MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]), lambda value: f"{value:.4g}" if value <= 1 else "")
    name_axes(axes, "false-accept rate", "true-accept rate")
    summary = "; ".join(f"{100 * row.tar.value:.1f} % at FAR {row.far:g}" for row in result.tar_at_far)
    return inline_svg(figure, key, f"ROC: true-accept rate {summary}")


def group_figure(rates: Sequence[tuple[str, Rate]], name: str, key: str, scale: float = 100, unit: str = " %") -> str:
    """A rate of each group with its interval, one line a group, in percent from 0; or an error in units of its own."""
    shown = rates[:_GROUPS]
    figure, axes = canvas(_SIZE[0], 80 + 26 * len(shown), left=110)
    for place, (_, rate) in enumerate(reversed(shown)):
        axes.plot(
            [scale * rate.low, scale * rate.high], [place, place], color=MUTED, linewidth=2, solid_capstyle="butt"
        )
        axes.plot([scale * rate.value], [place], "o", color=series_colour(0), markersize=7, markeredgewidth=0)
    axes.set_yticks(range(len(shown)), [plain(group, 14) for group, _ in reversed(shown)])
    axes.set_ylim(-0.6, len(shown) - 0.4)
    axes.set_xlim(0, 1.08 * scale * max(rate.high for _, rate in shown))
    ticks(axes.xaxis, MaxNLocator(4), lambda value: f"{value:g}{unit}")
    name_axes(axes, name, "")
    return inline_svg(figure, key, "; ".join(f"{group}: {scale * rate.value:.2f}{unit}" for group, rate in shown))


def reject_figure(curve: ErrorVersusReject, key: str) -> str:
    """FNMR with its interval over the share of genuine pairs rejected, both in percent from 0."""
    figure, axes = canvas(*_SIZE)
    rejected = [100 * point.rejected for point in curve.points]
    low, value, high = (
        [100 * getattr(point.fnmr, part) for point in curve.points] for part in ("low", "value", "high")
    )
    axes.fill_between(rejected, low, high, color=MUTED, alpha=0.25, linewidth=0)
    axes.plot(rejected, value, "o-", color=series_colour(0), linewidth=2, markersize=3, markeredgewidth=0)
    axes.set_xlim(0, max(rejected[-1], 1))
    axes.set_ylim(0, 1.08 * max(high))
    for axis in (axes.xaxis, axes.yaxis):
        ticks(axis, MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]), lambda value: f"{value:g} %")
    name_axes(axes, "genuine pairs rejected", "false non-match rate")
    return inline_svg(figure, key, f"FNMR {value[0]:.2f} %; with {rejected[-1]:.0f} % rejected {value[-1]:.2f} %")


def det_figure(result: VerificationResult, key: str) -> str:
    """FRR over FAR, both on probit axes: normal scores give a straight line. The diagonal meets it at the EER."""
    figure, axes = canvas(*_SIZE)
    far, frr = np.array(result.far), 1 - np.array(result.tar)
    far_least, frr_least = 1 / result.impostors, 1 / result.genuine
    inside = (far > 0) & (far < 1) & (frr > 0) & (frr < 1)
    lows = probit([far_least / 1.3, frr_least / 1.3])
    high = float(probit([max(0.5, min(0.99, 2 * result.eer))])[0])
    axes.plot([-9, 9], [-9, 9], color=MUTED, linewidth=1, linestyle=_DASH)
    axes.plot(probit(far[inside]), probit(frr[inside]), color=series_colour(0), linewidth=2, drawstyle="steps-post")
    if result.eer > 0:
        at = probit([result.eer])
        axes.plot(at, at, "o", color=series_colour(1), markersize=7, markeredgewidth=0)
    probit_axes(axes, lows.tolist(), high, _DET_TICKS)
    return inline_svg(figure, key, f"DET curve; equal error rate {100 * result.eer:.2f} %")


def histogram_figure(result: VerificationResult, threshold: float, key: str) -> str:
    """Plot the scores of both kinds of pairs, each as shares of its own kind, and the threshold between them."""
    figure, axes = canvas(*_WIDE)
    edges = np.array(result.histogram_edges)
    counts = np.array([result.histogram_impostors, result.histogram_genuine])
    edges, counts = _trimmed(edges, counts)
    names = ("impostor pairs", "genuine pairs")
    for row, colour in zip(counts, (series_colour(1), series_colour(0)), strict=True):
        axes.stairs(row / row.sum(), edges, fill=True, color=colour, alpha=0.32, linewidth=0)
        axes.stairs(row / row.sum(), edges, color=colour, linewidth=1.6)
    axes.axvline(threshold, color=INK, linewidth=1.2, linestyle=_DASH)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(0, 1.12 * max(float((row / row.sum()).max()) for row in counts))
    ticks(axes.xaxis, MaxNLocator(10, steps=[1, 2, 5, 10]), lambda value: f"{value:.2g}".replace("-", "−"))
    percent_axis(axes)
    name_axes(axes, "cosine similarity", "share of its kind")
    return inline_svg(figure, key, f"Histograms of the scores of {' and '.join(names)}, threshold {threshold:.3f}")


def _trimmed(edges: NDArray[np.float64], counts: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The stretch of bins that hold anything, and as many joined as it takes to have no more than `_BINS`."""
    held = np.flatnonzero(counts.sum(axis=0))
    first, last = max(0, int(held[0]) - 2), min(counts.shape[1], int(held[-1]) + 3)
    step = math.ceil((last - first) / _BINS)
    last = first + math.ceil((last - first) / step) * step
    padded = np.pad(counts[:, first:last], ((0, 0), (0, max(0, last - counts.shape[1]))))
    starts = edges[0] + (edges[1] - edges[0]) * np.arange(first, last + 1, step)
    return starts, padded.reshape(2, -1, step).sum(axis=2)


def percent_axis(axes: Axes) -> None:
    """Write the values of the vertical axis, which are shares, in percent."""
    ticks(axes.yaxis, MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]), lambda value: f"{100 * value:.3g} %")


def probit_axes(
    axes: Axes, lows: Sequence[float], high: float, rates: Sequence[float], room: float = 0.0, most: int = 99
) -> None:
    """Let a DET plot go from `room` below `lows` to `high`, in probits, and write the rates between.

    Of more than `most` rates every second is written, the last one included.
    """
    for axis, low, setter in ((axes.xaxis, lows[0], axes.set_xlim), (axes.yaxis, lows[1], axes.set_ylim)):
        setter(low - room, high)
        shown = [rate for rate in rates if low <= probit([rate])[0] <= high]
        at = FixedLocator(probit(shown if len(shown) <= most else shown[::-2][::-1]).tolist())
        ticks(axis, at, lambda value: f"{50 * math.erfc(-value / math.sqrt(2)):.3g} %")
    name_axes(axes, "false-accept rate", "false-reject rate")


def _share(value: float) -> str:
    """A rate beside a logarithmic axis.

    >>> _share(0.001), _share(1.0), _share(1e-05)
    ('0.1 %', '100 %', '0.001 %')
    """
    digits = max(0, -math.floor(math.log10(value) + 1e-9) - 2)
    return f"{100 * value:.{digits}f} %"
