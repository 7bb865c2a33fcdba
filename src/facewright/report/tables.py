"""The table of models, with the best of each column and what lies within noise of it; and what a paper says of them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from facewright.evaluation.results import Comparison, Entry, Pair
from facewright.metrics.intervals import Rate
from facewright.report import words

_QUALITY = {"Accuracy", "HTER", "Top-5", "Log loss", "Macro-F1", "AUC", "ECE"}
_OPTIONAL = {"HTER", "Top-5", "Memory", "Device memory"}  # left out where no model has them
HEADER = ("Model", "Accuracy", "Macro-F1", "Log loss", "Parameters", "GFLOPs", "Latency")
_SPECIAL = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"} | {
    sign: f"\\{sign}" for sign in "&%$#_{}"
}


@dataclass(frozen=True)
class Column:
    """One measured quantity. `better`: direction of better values; `noise`: the pairwise test of differences."""

    title: str
    hint: str
    better: str  # "high" or "low", or "" where neither is
    value: Callable[[Entry], Rate | float | None]  # a rate is drawn as an interval
    text: Callable[[Any], str] = words.percent  # of the value
    noise: str = ""  # "accuracy", "macro_f1" or "" (nothing tests it)
    note: Callable[[Entry], str] | None = None  # said below the value, in place of an interval

    @property
    def group(self) -> str:
        """The table it stands in: what a model is worth, or what it costs."""
        return "quality" if self.title in _QUALITY else "cost"


@dataclass(frozen=True)
class Cell:
    text: str
    note: str  # said below the value: the interval, usually
    sort: float | None  # None: undefined, sorts last
    best: bool
    noise: bool  # not the best, yet not told apart from it
    interval: Rate | None  # on the column's common scale, in percent of its width


COLUMNS = (
    Column(
        "Accuracy", "share of test images that are right, 95 % interval (Wilson)", "high",
        lambda e: e.test.accuracy, noise="accuracy",
    ),
    Column(
        "HTER", "mean of FAR and FRR at the threshold from validation, 95 % interval", "low",
        lambda e: None if e.test.binary is None else e.test.binary.hter,
    ),
    Column("Top-5", "the true class is among the five most probable", "high", lambda e: e.test.top5),
    Column(
        "Log loss", "mean negative logarithm of the true class's probability", "low",
        lambda e: e.test.log_loss, words.number,
    ),
    Column(
        "Macro-F1", "mean F1 over classes, 95 % interval (bootstrap)", "high",
        lambda e: e.test.macro_f1, noise="macro_f1",
    ),
    Column("AUC", "area under the ROC curve, mean over classes", "high", lambda e: e.test.macro_auc, words.number),
    Column(
        "ECE", "expected calibration error, 15 bins of equal mass", "low",
        lambda e: e.test.calibration_error, words.number,
    ),
    Column("Parameters", "numbers that training sets", "low", lambda e: e.parameters, words.short_count),
    Column(
        "GFLOPs", "of one image, a multiply-add counted as two", "low",
        lambda e: e.flops, lambda flops: words.significant(flops / 1e9),
    ),
    Column("Images seen", "by training, repeats counted", "", lambda e: e.images_seen, words.short_count),
    Column("Training", "wall time of training and validating", "low", lambda e: e.train_seconds, words.duration),
    Column(
        "Latency", "of one image: the median, below it the 95th percentile", "low",
        lambda e: e.latency.median_ms, words.milliseconds,
        note=lambda e: f"p95 {words.milliseconds(e.latency.p95_ms).removesuffix(' ms')}",
    ),
    Column("Images/s", "throughput in batches", "high", lambda e: e.latency.images_per_second, words.short_count),
    Column("Memory", "peak of the training process", "low", lambda e: e.peak_memory_bytes, words.file_size),
    Column(
        "Device memory", "peak of the tensors on the device", "low",
        lambda e: e.device_peak_memory_bytes, words.file_size,
    ),
    Column("File", "size of the model file", "low", lambda e: e.file_bytes, words.file_size),
)  # fmt: skip


def columns_of(entries: Sequence[Entry]) -> tuple[Column, ...]:
    """The columns that say something of these models."""
    return tuple(c for c in COLUMNS if c.title not in _OPTIONAL or any(c.value(e) is not None for e in entries))


def model_table(comparison: Comparison) -> tuple[tuple[Column, ...], tuple[tuple[Cell, ...], ...]]:
    """Columns, and for each model (in the comparison's order) its cells.

    The best of a column is marked where there is something to be better than: two models or more that differ.
    "Within noise" is marked only where a paired test was made: accuracy (McNemar) and macro-F1 (bootstrap).
    """
    columns = columns_of(comparison.entries)
    down = [_cells(column, comparison) for column in columns]
    return columns, tuple(zip(*down, strict=True))


def _cells(column: Column, comparison: Comparison) -> list[Cell]:
    entries = comparison.entries
    given = [column.value(entry) for entry in entries]
    rates = [one if isinstance(one, Rate) else None for one in given]
    plain = [one.value if isinstance(one, Rate) else one for one in given]
    values = [one if one is not None and math.isfinite(one) else None for one in plain]
    best, intervals = _best(values, column.better), _intervals(rates)
    cells = []
    for index, (entry, rate) in enumerate(zip(entries, rates, strict=True)):
        near = index not in best and any(
            _within_noise(comparison.pairs, column.noise, entry.name, entries[top].name) for top in best
        )
        said = column.note(entry) if column.note is not None else ""
        note = said if rate is None else words.span(rate.low, rate.high)
        cells.append(Cell(column.text(plain[index]), note, values[index], index in best, near, intervals[index]))
    return cells


def _best(values: Sequence[float | None], better: str) -> set[int]:
    """The places of the best value; none where there is no choice."""
    known = [value for value in values if value is not None]
    if not better or len(set(known)) < 2:
        return set()
    top = max(known) if better == "high" else min(known)
    return {index for index, value in enumerate(values) if value == top}


def _within_noise(pairs: Sequence[Pair], noise: str, one: str, other: str) -> bool:
    for pair in pairs:
        if {pair.a, pair.b} == {one, other}:
            if noise == "accuracy":
                return pair.within_noise
            if noise == "macro_f1":
                return pair.macro_f1_difference.low <= 0.0 <= pair.macro_f1_difference.high
    return False


def _intervals(rates: Sequence[Rate | None]) -> list[Rate | None]:
    """All intervals of a column on one scale, from the lowest low to the highest high."""
    known = [rate for rate in rates if rate is not None and math.isfinite(rate.low) and math.isfinite(rate.high)]
    low = min((rate.low for rate in known), default=0.0)
    width = max((rate.high for rate in known), default=1.0) - low or 1.0
    return [
        rate.replace(**{end: round(100 * (getattr(rate, end) - low) / width, 1) for end in ("low", "value", "high")})
        if rate is not None and rate in known
        else None
        for rate in rates
    ]


def methods(comparison: Comparison) -> str:
    """Return a paragraph that says what was measured, on what, and how."""
    entries, counts = comparison.entries, comparison.counts
    test = entries[0].test
    parts = ", ".join(f"{count:,} for {part}" for part, count in counts.items())
    trained = "; ".join(
        f"{entry.name} (recipe {entry.recipe}, {entry.image_size} px, {_epochs(entry)}, "
        f"{entry.images_seen:,} images seen)"
        for entry in entries
    )
    sentences = [
        f"The data set {comparison.dataset} (fingerprint {comparison.fingerprint}) has {len(comparison.classes):,} "
        f"classes; its images were split into {parts}, copies and near copies in one part.",
        f"Trained were {trained}; the weights of the best epoch on the validation part were kept.",
        f"All numbers are of the {test.n:,} images of the {test.split} part, which no training or choosing looked at, "
        "with 95 % intervals: Wilson's for accuracy, a bootstrap over images stratified by class for macro-F1 (over "
        "classes where these have few images).",
        f"Always naming the largest class is right in {words.percent(comparison.baseline)}.",
    ]
    if comparison.pairs:
        sentences.append(
            "Accuracies of two models were compared on the same images by McNemar's exact test, corrected for "
            f"{len(comparison.pairs)} pair{'s' if len(comparison.pairs) > 1 else ''} by Holm's method."
        )
    if comparison.not_converged:
        names = ", ".join(comparison.not_converged)
        sentences.append(f"Not converged (the validation loss still fell, or one epoch was trained): {names}.")
    sentences.append("Intervals are over test images; each model was trained once, with one seed.")
    return " ".join(sentences)


def markdown_table(comparison: Comparison) -> str:
    """Return the table of models in Markdown."""
    rows = [["---"] * len(HEADER), *_rows(comparison)]
    lines = [" | ".join(cell.replace("|", "\\|") for cell in row) for row in (HEADER, *rows)]
    return "\n".join(f"| {line} |" for line in lines) + "\n"


def latex_table(comparison: Comparison) -> str:
    r"""Return the table of models in LaTeX, for the package booktabs."""
    head, *body = (" & ".join(map(latex, row)) + r" \\" for row in (HEADER, *_rows(comparison)))
    lines = [
        r"\begin{tabular}{l" + "r" * (len(HEADER) - 1) + "}",
        r"\toprule",
        head,
        r"\midrule",
        *body,
        r"\bottomrule",
    ]
    return "\n".join([*lines, r"\end{tabular}"]) + "\n"


def latex(text: str) -> str:
    r"""Return text that LaTeX sets as it is.

    >>> print(latex("50 % of a_b"))
    50 \% of a\_b
    """
    return re.sub(r"[\\~^&%$#_{}]", lambda sign: _SPECIAL[sign[0]], " ".join(text.split()))


def _rows(comparison: Comparison) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = [
        (
            entry.name,
            _rated(entry.test.accuracy),
            _rated(entry.test.macro_f1),
            words.number(entry.test.log_loss),
            words.short_count(entry.parameters),
            words.significant(entry.flops / 1e9),
            words.milliseconds(entry.latency.median_ms),
        )
        for entry in comparison.entries
    ]
    return [*rows, ("always the largest class", words.percent(comparison.baseline), *[""] * (len(HEADER) - 2))]


def _rated(rate: Rate) -> str:
    return f"{words.percent(rate.value)} ({words.span(rate.low, rate.high)})"


def _epochs(entry: Entry) -> str:
    if entry.history and entry.history[0].phase == "probe":
        return "a linear probe"
    return f"{entry.epochs} epoch{'s' if entry.epochs != 1 else ''}"
