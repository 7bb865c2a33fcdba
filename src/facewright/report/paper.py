"""A comparison for a paper: a paragraph on methods, and the table of models as Markdown and LaTeX."""

from __future__ import annotations

import re
from collections.abc import Sequence

from facewright.evaluation.results import Comparison, Entry
from facewright.metrics.intervals import Rate
from facewright.report import words

HEADER = ("Model", "Accuracy", "Macro-F1", "Log loss", "Parameters", "GFLOPs", "Latency")
_SPECIAL = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"} | {
    sign: f"\\{sign}" for sign in "&%$#_{}"
}


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
