"""Rates by group: the figures, and the page of an evaluation by group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from facewright.evaluation.number_metrics import NumberResult
from facewright.evaluation.subgroups import Subgroups
from facewright.provenance import Origin
from facewright.report import pages
from facewright.report.model_section import Fact
from facewright.report.number_plots import quantity
from facewright.report.verification_plots import group_figure


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


def group_figures(subgroups: Subgroups, key: str = "") -> list[tuple[str, Markup]]:
    """Return a title and a figure for each rate that some group has; `key` is unique in the page."""
    figures = []
    for name, title in subgroups.rates.items():
        rates = [(row.group, rate) for row in subgroups.groups if (rate := getattr(row, name)) is not None]
        title = title[0].upper() + title[1:]
        figures.append((title, Markup(group_figure(rates, title, f"{key}group-{name}"))))
    return figures
