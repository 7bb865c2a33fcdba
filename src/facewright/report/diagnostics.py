"""Figures of one model on one part: confusion matrix, ROC and precision-recall curves, reliability, two classes.

Each is one inline SVG; `key` is unique in the page (it begins every id of the drawing).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MultipleLocator
from numpy.typing import NDArray

from facewright.errors import Undefined
from facewright.evaluation.binary import two_sides_of
from facewright.evaluation.classification import BinaryResult, ClassificationResult, Predictions
from facewright.evaluation.results import Entry
from facewright.metrics.binary import DEFAULT_THRESHOLD
from facewright.metrics.calibration import reliability
from facewright.metrics.classification import Curve, pr_curve, roc_curve
from facewright.metrics.verification import Roc, probit, roc
from facewright.report import words
from facewright.report.pages import (
    ACCENT,
    BAD,
    GOOD,
    INK,
    LINE,
    MUTED,
    RIGHT,
    TOP,
    canvas,
    inline_svg,
    name_axes,
    percent_axis,
    plain,
    probit_axes,
    series_colour,
    text_width,
    ticks,
)
from facewright.training.recipe import Balancing

_SQUARE = (350, 339)  # CSS pixels
_NAMED = 40  # more classes than this: colours only
_COUNTED = 30  # more classes than this: no numbers in the cells
FEWEST = 10  # images of a class that is drawn by itself: of fewer, a curve is a few steps
_POINTS = 160  # of a thinned curve
_POINTS_OF_CLASSES = 6000  # of the curves of all classes together, so that a page of many classes stays light
_RIGHT, _WRONG = (46, 160, 103), (226, 87, 60)  # cell colours that hold on white and on black, made faint by alpha
_SIZE = (350, 300)  # CSS pixels
_WIDE = (720, 260)
_BINS = 25  # of the histogram
_DASH = (0, (2, 3))
_DET_TICKS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95)
_RULES = {"min-hter": "the least HTER", "eer": "equal error rates"}


def confusion_figure(result: ClassificationResult, key: str) -> str:
    """The confusion matrix: rows are the true classes, each row's colours are shares of that class.

    Up to 30 classes have names and counts, up to 40 names, more colours alone: one hue for right, one for wrong.
    """
    counts = np.array(result.confusion, dtype=np.int64)  # (C, C), of at most 1,000 classes
    classes = len(result.classes)
    cell = max(10, min(80, max(18, 240 // classes), 480 // classes)) if classes <= _NAMED else 0  # 20 fit on a phone
    names = [plain(name, limit=18) for name in result.classes]
    size = 11 if cell >= 16 else 9
    margin = round(30 + max(text_width(name, size) for name in names)) if cell else 50
    side = cell * classes if cell else 460
    figure, axes = canvas(side + margin + RIGHT, side + margin + TOP, left=margin, bottom=margin)
    axes.grid(visible=False)
    axes.imshow(_cells(counts), interpolation="none", aspect="equal")
    if cell:
        axes.set_xticks(range(classes), names, rotation=90, fontsize=size)
        axes.set_yticks(range(classes), names, fontsize=size)
        axes.set_xticks(np.arange(-0.5, classes), minor=True)
        axes.set_yticks(np.arange(-0.5, classes), minor=True)
        axes.grid(visible=True, which="minor", color=LINE, linewidth=1)
    if classes <= _COUNTED:
        _write_counts(axes, counts, min(12, cell - 8))
    name_axes(axes, "predicted", "true")
    right = int(np.trace(counts))
    return inline_svg(figure, key, f"Confusion matrix of {classes} classes: {right} of {counts.sum()} on the diagonal")


def _cells(counts: NDArray[np.int64]) -> NDArray[np.uint8]:
    """(C, C) counts -> (C, C, 4) colours: hue says right or wrong, alpha the share of the row."""
    total = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, total, out=np.zeros(counts.shape), where=total > 0)
    cells = np.empty((*counts.shape, 4), dtype=np.uint8)
    cells[..., :3] = _WRONG
    cells[np.arange(len(counts)), np.arange(len(counts)), :3] = _RIGHT
    # A root lifts the few errors of a good model to what the eye can see; small cells need more.
    faintest = 0.45 if len(counts) > _NAMED else 0.1
    alpha = np.where(share > 0, faintest + (0.9 - faintest) * share**0.7, 0.0)
    cells[..., 3] = np.rint(255 * alpha)
    return cells


def _write_counts(axes: Axes, counts: NDArray[np.int64], size: int) -> None:
    for row, column in np.argwhere(counts > 0):
        text = str(counts[row, column])
        fits = size if len(text) < 4 else size - 3
        axes.text(column, row, text, ha="center", va="center", fontsize=max(fits, 7), color=INK)


def roc_figure(predictions: Predictions, key: str) -> str:
    """ROC curves, one class against the rest: micro (bold), macro (dashed), each class thin.

    The macro curve is the mean of the classes' true-positive rates at equal false-positive rate.
    """
    figure, axes = _unit_square()
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (2, 3)))
    _curves(axes, predictions, roc_curve, thresholds_first=0.0)
    name_axes(axes, "false-positive rate", "true-positive rate")
    return inline_svg(figure, key, "ROC curves: micro and macro average and each class against the rest")


def pr_figure(predictions: Predictions, key: str) -> str:
    """Precision-recall curves, one class against the rest: micro (bold), macro (dashed), each class thin.

    The macro curve is the mean of the classes' precisions at equal recall.
    """
    figure, axes = _unit_square()
    _curves(axes, predictions, pr_curve, thresholds_first=1.0)
    name_axes(axes, "recall", "precision")
    return inline_svg(figure, key, "Precision-recall curves: micro and macro average and each class against the rest")


def _curves(axes: Axes, predictions: Predictions, curve_of: Callable[..., Curve], thresholds_first: float) -> None:
    """Draw the micro, macro and class curves.

    A class that has none (no image, or nothing else) is left out; one of few images is in the averages alone.
    """
    scores = predictions.probabilities
    assert scores is not None
    truth = predictions.labels[:, None] == np.arange(scores.shape[1])  # (N, C)
    grid = np.linspace(0.0, 1.0, 201)
    on_grid = []
    points = min(_POINTS, max(20, _POINTS_OF_CLASSES // scores.shape[1]))
    alpha = min(0.5, max(0.12, 4 / scores.shape[1]))
    for number in range(scores.shape[1]):
        try:
            curve = curve_of(truth[:, number], scores[:, number])
        except Undefined:
            continue
        on_grid.append(_at(curve, grid, thresholds_first))
        if truth[:, number].sum() >= FEWEST:
            axes.plot(*_thinned(curve, points), color=MUTED, linewidth=1, alpha=alpha)
    if on_grid:
        axes.plot(grid, np.mean(on_grid, axis=0), color=series_colour(1), linewidth=2, linestyle="--")
        axes.plot(*_thinned(curve_of(truth.ravel(), scores.ravel()), _POINTS), color=series_colour(0), linewidth=2.5)


def _at(curve: Curve, grid: NDArray[np.float64], first: float) -> NDArray[np.float64]:
    """The curve's y on a grid of x in [0, 1]; where several points share an x, the highest (ROC) or lowest (PR)."""
    highest = first == 0.0
    y = np.maximum.accumulate(curve.y) if highest else curve.y
    xs, start, count = np.unique(curve.x, return_index=True, return_counts=True)
    values: NDArray[np.float64] = np.interp(grid, xs, y[start + count - 1])
    values[0] = values[0] if highest else first
    return values


def _thinned(curve: Curve, points: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """About so many points, equally spaced along the curve; at 160 its corners shift by a pixel or two."""
    if curve.x.size <= points:
        return curve.x, curve.y
    length = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(curve.x)) + np.abs(np.diff(curve.y)))])
    wanted = np.searchsorted(length, np.linspace(0.0, length[-1], points))
    kept = np.unique(np.append(wanted, curve.x.size - 1))
    return curve.x[kept], curve.y[kept]


def reliability_figure(predictions: Predictions, key: str) -> str:
    """Return how often the model is right (with 95 % intervals) where it is how sure, in 15 bins of equal mass."""
    confidence = predictions.ranked.probabilities[:, 0]
    correct = predictions.predicted == predictions.labels
    figure, axes = _unit_square()
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (2, 3)))
    bins = reliability(np.clip(confidence, 0.0, 1.0), correct)
    for row in bins:
        near = row.accuracy.low <= row.confidence <= row.accuracy.high
        colour = GOOD if near else BAD
        axes.plot(
            [row.confidence] * 2, [row.accuracy.low, row.accuracy.high], color=colour, linewidth=5, alpha=0.25,
            solid_capstyle="round",
        )  # fmt: skip
        axes.plot([row.confidence], [row.accuracy.value], "o", color=colour, markersize=6, markeredgewidth=0)
    line = [row.confidence for row in bins], [row.accuracy.value for row in bins]
    axes.plot(*line, color=ACCENT, linewidth=1, alpha=0.6, zorder=1)
    name_axes(axes, "mean probability of the predicted class", "share that is right")
    return inline_svg(figure, key, f"Reliability diagram of {len(bins)} bins: confidence against accuracy")


def _unit_square() -> tuple[Figure, Axes]:
    figure, axes = canvas(*_SQUARE)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_aspect("equal")
    for axis in (axes.xaxis, axes.yaxis):
        ticks(axis, MultipleLocator(0.25), lambda x: f"{x:g}")
    return figure, axes


def binary_section(entry: Entry, key: str, balancing: Balancing | None) -> dict[str, object] | None:
    """Draw the figures of a model of two classes, and say how its threshold was chosen; None: another task."""
    result = entry.test.binary
    if result is None:
        return None
    genuine, impostor = two_sides_of(entry.predictions)
    curve = roc(genuine, impostor)
    return {
        "result": result,
        "rates": (  # name, what it counts, at the threshold in use, at 0.5
            ("HTER", "half total error rate: the mean of the two below", result.hter, result.hter_at_half),
            ("FAR", f"share of {result.rejected} taken for {result.accepted}", result.far, result.far_at_half),
            ("FRR", f"share of {result.accepted} taken for {result.rejected}", result.frr, result.frr_at_half),
        ),
        "rule": _rule(result.rule),
        "roc": Markup(_binary_roc(curve, result, f"{key}-yes-roc")),
        "det": Markup(_binary_det(curve, result, f"{key}-yes-det")),
        "epc": Markup(_epc(result, f"{key}-yes-epc")),
        "histogram": Markup(_score_histogram(genuine, impostor, result, f"{key}-yes-scores")),
        "balancing": () if balancing is None else balancing.words,
        "classes": _classes(result, balancing),
    }


def _rule(rule: str) -> str:
    """A rule of a recipe as a phrase.

    >>> _rule("min-hter"), _rule("far=0.01")
    ('the least HTER', 'a FAR of at most 1 %')
    """
    if rule in _RULES:
        return _RULES[rule]
    return f"a FAR of at most {100 * float(rule.removeprefix('far=')):g} %"


def _classes(result: BinaryResult, balancing: Balancing | None) -> list[dict[str, str]]:
    """Each class in training and in the test part; empty text where nothing is known."""
    tested = {result.rejected: result.negatives, result.accepted: result.positives}
    rows = []
    for name, count in tested.items():
        images = epoch = weight = ""
        if balancing is not None:
            images = f"{balancing.images[name]:,}"
            epoch = "" if balancing.epoch is None else f"{balancing.epoch[name]:,}"
            weight = "1" if balancing.weights is None else words.significant(balancing.weights[name])
        rows.append({"name": name, "images": images, "epoch": epoch, "weight": weight, "test": f"{count:,}"})
    return rows


def _binary_roc(curve: Roc, result: BinaryResult, key: str) -> str:
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


def _binary_det(curve: Roc, result: BinaryResult, key: str) -> str:
    """FRR over FAR on probit axes, where they are neither 0 nor 1; dots as in `_binary_roc`."""
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


def _epc(result: BinaryResult, key: str) -> str:
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


def _score_histogram(
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
