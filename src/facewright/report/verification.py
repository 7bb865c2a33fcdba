"""The page of a verifier, and its figures: ROC, DET, histograms of the scores, rates by group."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from facewright.evaluation.subgroups import Subgroups
from facewright.evaluation.verification import ErrorVersusReject, VerificationResult
from facewright.images import Pixels
from facewright.metrics.intervals import Rate
from facewright.metrics.thresholds import Threshold
from facewright.metrics.verification import ErrorRates, probit
from facewright.provenance import Origin
from facewright.report import pages, words
from facewright.report.pages import (
    INK,
    MUTED,
    Album,
    Fact,
    canvas,
    inline_svg,
    name_axes,
    percent_axis,
    plain,
    probit_axes,
    series_colour,
    ticks,
)

_LISTED = 30  # broken images named
_SIZE = (360, 270)  # CSS pixels
_WIDE = (720, 260)
_DET_TICKS = (1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.05, 0.2, 0.4, 0.6, 0.8, 0.95, 0.99)
_GROUPS = 20  # drawn at most
_BINS = 70  # of the histogram at most
_DASH = (0, (2, 3))


@dataclass(frozen=True)
class ShownPair:
    """Two images by their paths in the data, and their score."""

    a: str
    b: str
    score: float


@dataclass(frozen=True)
class MeasuredThreshold:
    """The threshold that the model holds, and its errors on these pairs."""

    threshold: Threshold
    rates: ErrorRates
    on_its_own: bool  # it was chosen on these pairs


@dataclass(frozen=True)
class PairContext:
    """All that a page says of a list of pairs. Nothing is looked up."""

    result: VerificationResult
    model: str
    pairs: str  # name of the list
    input: str  # what the network was fed, in words
    false_accepts: Sequence[ShownPair]
    false_rejects: Sequence[ShownPair]
    origin: Origin
    thumbnail: Callable[[str], Pixels | None] | None = None  # an image by its path in the data
    stored: MeasuredThreshold | None = None
    subgroups: Subgroups | None = None
    rejection: ErrorVersusReject | None = None
    broken: Sequence[tuple[str, str]] = ()  # images that could not be used, and why
    fingerprint: str = ""
    licence: str | None = None  # of the weights


def pair_page(context: PairContext) -> str:
    """Return the whole page as HTML."""
    result, album = context.result, Album(context.thumbnail)
    facts = {
        "context": context,
        "result": result,
        "sentences": _sentences(context),
        "tiles": tiles_of(result),
        "roc": Markup(roc_figure(result, "roc")),
        "det": Markup(det_figure(result, "det")),
        "histogram": Markup(histogram_figure(result, decisive_threshold(result), "scores")),
        "threshold": decisive_threshold(result),
        "group_figures": [] if context.subgroups is None else group_figures(context.subgroups),
        "rejection": None if context.rejection is None else Markup(reject_figure(context.rejection, "reject")),
        "accepts": [_with_images(pair, album) for pair in context.false_accepts],
        "rejects": [_with_images(pair, album) for pair in context.false_rejects],
        "details": _details(context),
        "listed": _LISTED,
    }
    return pages.render("verification.html", facts, context.origin, {"decimals": _decimals, "points": _points})


def decisive_threshold(result: VerificationResult) -> float:
    """The threshold behind the accuracy (the mean over folds), or that of the EER where there is none."""
    if result.folds is None:
        return result.eer_threshold
    return sum(result.folds.thresholds) / len(result.folds.thresholds)


def _sentences(context: PairContext) -> list[str]:
    """Return what to take away."""
    result, lines = context.result, []
    if result.accuracy is not None:
        people = result.accuracy_by_identity
        by_people = "" if people is None else f", {_points(people)} by people"
        lines.append(
            f"{words.percent(result.accuracy.value, 2)} of {result.accuracy.n:,} pairs are decided rightly (95 % "
            f"interval {_points(result.accuracy)} by pairs{by_people}), {_protocol(result)}."
        )
    lines.append(
        f"The equal error rate is {words.percent(result.eer, 2)}, the area under the ROC {result.auc:.4f}. "
        "Both look at all pairs at once and choose no threshold beforehand."
    )
    strictest = result.tar_at_far[-1] if result.tar_at_far else None
    if strictest is not None:
        lines.append(
            f"The strictest false-accept rate that {result.impostors:,} impostor pairs resolve here is "
            f"{strictest.far:g}: there {words.percent(strictest.tar.value)} of genuine pairs are accepted."
        )
    if result.failures:
        one = result.failures == 1
        lines.append(
            f"{result.failures:,} {'pair has' if one else 'pairs have'} no score because an image could not be used; "
            f"{'it counts as an error' if one else 'they count as errors'} in the accuracy and "
            f"{'is' if one else 'are'} in no other number."
        )
    return lines


def _protocol(result: VerificationResult) -> str:
    """Return how the threshold of the accuracy was chosen, in words."""
    folds = result.folds
    if folds is None:
        return "at a threshold that was chosen on other data"
    if result.chosen is not None and "half" in result.chosen:
        return "each half of the people at the threshold that was best on the other half; pairs across are left out"
    return (
        f"each of {len(folds.accuracies)} folds at the threshold that was best on the others: mean "
        f"{words.percent(folds.mean, 2)}, standard error {100 * folds.standard_error:.2f} points (std / √folds)"
    )


def _points(rate: Rate) -> str:
    return f"{100 * rate.low:.2f} to {100 * rate.high:.2f}"


def tiles_of(result: VerificationResult) -> list[Fact]:
    """Return the headline numbers."""
    tiles = []
    if result.accuracy is not None:
        tiles.append(Fact("Accuracy", words.percent(result.accuracy.value, 2), _points(result.accuracy)))
    by_people = result.eer_by_identity
    tiles.append(Fact("Equal error rate", words.percent(result.eer, 2), _points(by_people) if by_people else ""))
    tiles.append(Fact("Area under the ROC", f"{result.auc:.4f}"))
    for row in (row for row in result.tar_at_far if row.far <= 0.01):
        name = f"TAR at FAR {words.percent(row.far, _decimals(row.far))}"
        tiles.append(Fact(name, words.percent(row.tar.value), _points(row.tar)))
    return tiles


def _decimals(share: float) -> int:
    """Decimals of a percentage that show a small share.

    >>> _decimals(0.1), _decimals(0.001), _decimals(1e-05)
    (0, 1, 3)
    """
    return max(0, len(f"{share:.12f}".rstrip("0").partition(".")[2]) - 2)


def _details(context: PairContext) -> list[Fact]:
    result = context.result
    facts = [
        Fact("Genuine pairs", f"{result.genuine:,}"),
        Fact("Impostor pairs", f"{result.impostors:,}"),
        Fact("People", "not known" if result.people is None else f"{result.people:,}"),
        Fact("Failures to acquire", f"{result.failures:,}", "pairs without a score"),
        Fact("Input", context.input),
        Fact("Threshold", f"{decisive_threshold(result):.4f}", result.chosen or "at the equal error rate"),
    ]
    if context.licence is not None:
        facts.append(Fact("Licence of the weights", context.licence))
    if result.folds is not None:
        low, high = min(result.folds.thresholds), max(result.folds.thresholds)
        facts.append(Fact("Thresholds of the folds", f"{low:.4f} to {high:.4f}"))
    return facts


def _with_images(pair: ShownPair, album: Album) -> dict[str, object]:
    first, second = ({"path": path, "name": Path(path).name, "uri": album.uri(path)} for path in (pair.a, pair.b))
    return {"first": first, "second": second, "score": pair.score}


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


def group_figures(subgroups: Subgroups, key: str = "") -> list[tuple[str, Markup]]:
    """Return a title and a figure for each rate that some group has; `key` is unique in the page."""
    figures = []
    for name, title in subgroups.rates.items():
        rates = [(row.group, rate) for row in subgroups.groups if (rate := getattr(row, name)) is not None]
        title = title[0].upper() + title[1:]
        figures.append((title, Markup(group_figure(rates, title, f"{key}group-{name}"))))
    return figures


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


def _share(value: float) -> str:
    """A rate beside a logarithmic axis.

    >>> _share(0.001), _share(1.0), _share(1e-05)
    ('0.1 %', '100 %', '0.001 %')
    """
    digits = max(0, -math.floor(math.log10(value) + 1e-9) - 2)
    return f"{100 * value:.{digits}f} %"
