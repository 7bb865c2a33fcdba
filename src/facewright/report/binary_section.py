"""Section of the page about a two-class model, ready to be laid out."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from facewright.evaluation.binary import two_sides_of
from facewright.evaluation.results import BinaryResult, Entry
from facewright.metrics.intervals import Rate
from facewright.metrics.verification import roc
from facewright.report import binary_plots, words
from facewright.training.balancing import Balancing

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
        roc=Markup(binary_plots.roc_figure(curve, result, f"{key}-yes-roc")),
        det=Markup(binary_plots.det_figure(curve, result, f"{key}-yes-det")),
        epc=Markup(binary_plots.epc_figure(result, f"{key}-yes-epc")),
        histogram=Markup(binary_plots.histogram_figure(genuine, impostor, result, f"{key}-yes-scores")),
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
