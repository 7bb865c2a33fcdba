"""Pages of models with targets in place of classes, and of an evaluation by group; the figures of rates by group."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from markupsafe import Markup

from facewright.evaluation.compare import TargetComparison, TargetEntry
from facewright.evaluation.number_metrics import NumberResult
from facewright.evaluation.subgroups import Subgroups
from facewright.evaluation.targets import TaskResult
from facewright.metrics.intervals import Rate
from facewright.provenance import Origin
from facewright.report import pages, words
from facewright.report.pages import Fact
from facewright.report.plots import error_plots, training_curves
from facewright.report.verification import group_figure, group_figures
from facewright.report.words import quantity
from facewright.specs import TaskSpec


@dataclass(frozen=True)
class TargetContext:
    """The facts beside the numbers. Nothing is looked up."""

    title: str
    task: TaskSpec
    origin: Origin
    notes: tuple[str, ...] = ()
    recipes: Mapping[str, str] = field(default_factory=dict)  # the resolved recipe by the entry's name


def target_page(comparison: TargetComparison, context: TargetContext) -> str:
    """Return the whole page as HTML."""
    sections = [
        {
            "entry": entry,
            "tiles": [
                *tiles_of(entry.test),
                Fact("Latency", f"{entry.latency.median_ms:.1f} ms", "one image"),
                Fact("Size", f"{entry.parameters / 1e6:.2f} M", "parameters"),
            ],
            "figures": _figures(entry, context.task, index),
            "curves": Markup(training_curves(entry.history, "loss", f"loss{index}"))
            if len(entry.history) > 1
            else None,
        }
        for index, entry in enumerate(comparison.models)
    ]
    facts = {"context": context, "comparison": comparison, "sections": sections}
    filters: dict[str, Callable[..., object]] = {
        "points": words.signed_points,
        "chance": words.chance,
        "quantity": _with_interval,
    }
    return pages.render("targets.html", facts, context.origin, filters)


def tiles_of(result: TaskResult) -> list[Fact]:
    """Return the headline numbers, each beside what takes no model."""
    tiles = []
    if result.attributes is not None:
        accuracy, baseline = result.attributes.mean_accuracy, result.attributes.mean_baseline
        note = f"{words.span(accuracy.low, accuracy.high)}; always the majority: {words.percent(baseline.value)}"
        tiles.append(Fact("Mean accuracy of attributes", words.percent(accuracy.value), note))
    for number in result.numbers:
        note = f"always the median, {quantity(number.baseline)}: {quantity(number.baseline_mean_absolute_error.value)}"
        tiles.append(Fact(f"Mean absolute error of {number.name}", quantity(number.mean_absolute_error.value), note))
    for name, found in result.classes.items():
        largest = max(row.n for row in found.per_class) / found.n
        note = f"{words.span(found.accuracy.low, found.accuracy.high)}; always the largest: {words.percent(largest)}"
        tiles.append(Fact(f"Accuracy of {name}", words.percent(found.accuracy.value), note))
    for name, votes in result.votes.items():
        if votes.accuracy is not None:
            agree = "" if votes.annotators_agree is None else words.percent(votes.annotators_agree.value)
            note = f"two annotators agree in {agree}" if agree else ""
            tiles.append(Fact(f"Accuracy of {name}", words.percent(votes.accuracy.value), note))
    return tiles


def _figures(entry: TargetEntry, task: TaskSpec, index: int) -> list[tuple[str, Markup]]:
    """Return the figures of each number: predictions over the truth, residuals, errors."""
    found = []
    for part in task.of_kind("number"):
        truth = entry.predictions.truth[:, part.truth.start]
        values = entry.predictions.values[:, part.values.start]
        rows = np.flatnonzero(~np.isnan(truth))
        if rows.size:
            plots = error_plots(truth, values, rows, np.zeros(0, np.int64), f"{index}-{part.values.start}")
            titles = ("predicted over true", "error over predicted", "errors")
            found += [(f"{part.target.name}: {title}", plot) for title, plot in zip(titles, plots, strict=True)]
    return found


def _with_interval(rate: Rate) -> str:
    return f"{quantity(rate.value)} ({quantity(rate.low)} to {quantity(rate.high)})"


@dataclass(frozen=True)
class GroupContext:
    """The content of the page. Nothing is looked up."""

    title: str
    model: str
    column: str
    lead: Sequence[str]  # of what
    tiles: Sequence[Fact]  # of all images
    groups: Mapping[str, Subgroups]  # by target; one without a name where there are no targets
    numbers: Sequence[NumberResult]  # with groups
    origin: Origin


def group_page(context: GroupContext) -> str:
    """Return the whole page as HTML."""
    sections = [
        (name, groups, group_figures(groups, f"t{place}-"))
        for place, (name, groups) in enumerate(context.groups.items())
    ]
    numbers = []
    for place, number in enumerate(context.numbers):
        rates = [(row.name, row.mean_absolute_error) for row in number.groups]
        title = f"mean absolute error of {number.name}"
        if rates:
            numbers.append((number, Markup(group_figure(rates, title, f"n{place}", scale=1, unit=""))))
    facts = {"context": context, "sections": sections, "numbers": numbers}
    return pages.render("evaluation.html", facts, context.origin, {"quantity": quantity})
