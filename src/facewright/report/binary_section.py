"""Section of the page about a two-class model: ROC and DET with the threshold in use, expected performance, scores.

Scores are probabilities of the accepted class; `key` of a figure is unique in the page.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, MultipleLocator
from numpy.typing import NDArray

from facewright.evaluation.binary import two_sides_of
from facewright.evaluation.classification import BinaryResult
from facewright.evaluation.results import Entry
from facewright.metrics.binary import DEFAULT_THRESHOLD
from facewright.metrics.intervals import Rate
from facewright.metrics.verification import Roc, probit, roc
from facewright.report import words
from facewright.report.canvas import ACCENT, INK, MUTED, canvas, inline_svg, name_axes, series_colour, ticks
from facewright.report.verification_plots import percent_axis, probit_axes
from facewright.training.balancing import Balancing

_SIZE = (350, 300)  # CSS pixels
_WIDE = (720, 260)
_BINS = 25  # of the histogram
_DASH = (0, (2, 3))
_DET_TICKS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95)
_RULES = {"min-hter": "the least HTER", "eer": "equal error rates"}


@dataclass(frozen=True)
class BalanceRow:
    """One class in training and in the test part; empty text where nothing is known."""

    name: str
    images: str
    epoch: str
    weight: str
    test: str


@dataclass(frozen=True)
class BinarySection:
    """One model of two classes."""

    result: BinaryResult
    rates: tuple[tuple[str, str, Rate, Rate], ...]  # name, what it counts, at the threshold in use, at 0.5
    rule: str  # how the threshold was chosen, in words
    roc: Markup
    det: Markup
    epc: Markup
    histogram: Markup
    balancing: tuple[str, ...]
    classes: tuple[BalanceRow, ...]


def binary_section(entry: Entry, key: str, balancing: Balancing | None) -> BinarySection | None:
    """Draw the figures of one model; None where its task is no yes or no."""
    result = entry.test.binary
    if result is None:
        return None
    genuine, impostor = two_sides_of(entry.predictions)
    curve = roc(genuine, impostor)
    return BinarySection(
        result=result,
        rates=(
            ("HTER", "half total error rate: the mean of the two below", result.hter, result.hter_at_half),
            ("FAR", f"share of {result.rejected} taken for {result.accepted}", result.far, result.far_at_half),
            ("FRR", f"share of {result.accepted} taken for {result.rejected}", result.frr, result.frr_at_half),
        ),
        rule=_rule(result.rule),
        roc=Markup(roc_figure(curve, result, f"{key}-yes-roc")),
        det=Markup(det_figure(curve, result, f"{key}-yes-det")),
        epc=Markup(epc_figure(result, f"{key}-yes-epc")),
        histogram=Markup(histogram_figure(genuine, impostor, result, f"{key}-yes-scores")),
        balancing=() if balancing is None else balancing.words,
        classes=_classes(result, balancing),
    )


def _rule(rule: str) -> str:
    """A rule of a recipe as a phrase.

    >>> _rule("min-hter"), _rule("far=0.01")
    ('the least HTER', 'a FAR of at most 1 %')
    """
    if rule in _RULES:
        return _RULES[rule]
    return f"a FAR of at most {100 * float(rule.removeprefix('far=')):g} %"


def _classes(result: BinaryResult, balancing: Balancing | None) -> tuple[BalanceRow, ...]:
    tested = {result.rejected: result.negatives, result.accepted: result.positives}
    rows = []
    for name, count in tested.items():
        images = epoch = weight = ""
        if balancing is not None:
            images = f"{balancing.images[name]:,}"
            epoch = "" if balancing.epoch is None else f"{balancing.epoch[name]:,}"
            weight = "1" if balancing.weights is None else words.significant(balancing.weights[name])
        rows.append(BalanceRow(name, images, epoch, weight, f"{count:,}"))
    return tuple(rows)


def roc_figure(curve: Roc, result: BinaryResult, key: str) -> str:
    """The share of positives accepted over the share of negatives accepted; dots: the threshold in use and 0.5."""
    figure, axes = canvas(*_SIZE)
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=_DASH)
    axes.plot(curve.far, curve.tar, color=series_colour(0), linewidth=2)
    _dots(axes, result, lambda far, frr: (far, 1 - frr))
    for axis, setter in ((axes.xaxis, axes.set_xlim), (axes.yaxis, axes.set_ylim)):
        setter(-0.02, 1.02)
        ticks(axis, MultipleLocator(0.25), lambda x: f"{x:g}")
    name_axes(axes, "false-accept rate", "true-accept rate")
    return inline_svg(figure, key, f"ROC of {result.positives} positives and {result.negatives} negatives")


def det_figure(curve: Roc, result: BinaryResult, key: str) -> str:
    """FRR over FAR on probit axes, where they are neither 0 nor 1; dots as in `roc_figure`."""
    figure, axes = canvas(*_SIZE)
    inside = (curve.far > 0) & (curve.far < 1) & (curve.frr > 0) & (curve.frr < 1)
    least = (0.7 / curve.impostors, 0.7 / curve.genuine)
    highest = min(0.98, max(0.5, *(1.3 * rate for rate in _rates(result))))
    axes.plot([-9, 9], [-9, 9], color=MUTED, linewidth=1, linestyle=_DASH)
    axes.plot(probit(curve.far[inside]), probit(curve.frr[inside]), color=series_colour(0), linewidth=2)
    far_low, frr_low = (float(probit([value])[0]) for value in least)
    _dots(
        axes,
        result,
        lambda far, frr: (max(far_low, float(probit([far])[0])), max(frr_low, float(probit([frr])[0]))),
    )
    high = float(probit([highest])[0])
    probit_axes(axes, (far_low, frr_low), high, _DET_TICKS, room=0.05, most=6)
    return inline_svg(figure, key, f"DET curve; equal error rate {100 * result.eer:.1f} %")


def epc_figure(result: BinaryResult, key: str) -> str:
    """The expected performance curve: HTER on test over the weight of false accepts the threshold was chosen by."""
    assert result.epc is not None  # a run has its validation part
    figure, axes = canvas(*_SIZE)
    axes.plot(result.epc.weights, result.epc.hter, color=series_colour(0), linewidth=2, drawstyle="steps-mid")
    axes.axhline(result.hter_at_half.value, color=MUTED, linewidth=1, linestyle=_DASH)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(0, 1.1 * max(*result.epc.hter, result.hter_at_half.value, 0.01))
    ticks(axes.xaxis, MultipleLocator(0.25), lambda x: f"{x:g}")
    percent_axis(axes)
    name_axes(axes, "weight of false accepts on validation", "HTER on test")
    middle = result.epc.hter[len(result.epc.hter) // 2]
    return inline_svg(figure, key, f"Expected performance curve: HTER {100 * middle:.1f} % at equal weights")


def histogram_figure(
    genuine: NDArray[np.float64], impostor: NDArray[np.float64], result: BinaryResult, key: str
) -> str:
    """Return how the scores of both classes lie, each as shares of its own class, and the threshold between them.

    The shares are drawn by their square roots: what is rare is what matters here.
    """
    figure, axes = canvas(*_WIDE)
    edges = np.linspace(0.0, 1.0, _BINS + 1)
    tallest = 0.0
    for scores, colour in ((impostor, series_colour(1)), (genuine, series_colour(0))):
        shares = np.histogram(np.clip(scores, 0.0, 1.0), edges)[0] / scores.size
        tallest = max(tallest, float(shares.max()))
        axes.stairs(shares, edges, fill=True, color=colour, alpha=0.3, linewidth=0)
        axes.stairs(shares, edges, color=colour, linewidth=1.6)
    axes.axvline(result.threshold, color=INK, linewidth=1.4)
    axes.axvline(DEFAULT_THRESHOLD, color=MUTED, linewidth=1.2, linestyle=_DASH)
    axes.set_yscale("function", functions=(lambda y: np.sqrt(np.maximum(y, 0.0)), np.square))
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(0, 1.08 * tallest)
    ticks(axes.xaxis, MultipleLocator(0.1), lambda x: f"{x:g}")
    written = [tick for tick in (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0) if tick <= tallest]
    ticks(axes.yaxis, FixedLocator(written), lambda y: f"{100 * y:.3g} %")
    name_axes(axes, "probability of the accepted class", "share of its class")
    summary = f"{genuine.size} positives and {impostor.size} negatives, threshold {result.threshold:.3f}"
    return inline_svg(figure, key, f"Histograms of the scores of {summary}")


def _dots(axes: Axes, result: BinaryResult, place: Callable[[float, float], tuple[float, float]]) -> None:
    """The two operating points: filled where the threshold is in use, hollow at 0.5."""
    half = place(result.far_at_half.value, result.frr_at_half.value)
    used = place(result.far.value, result.frr.value)
    axes.plot(*([value] for value in half), "o", color=MUTED, markersize=8, markerfacecolor="none", markeredgewidth=2)
    axes.plot(*([value] for value in used), "o", color=ACCENT, markersize=8, markeredgewidth=0)


def _rates(result: BinaryResult) -> tuple[float, ...]:
    return result.far.value, result.frr.value, result.far_at_half.value, result.frr_at_half.value
