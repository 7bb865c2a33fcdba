"""One self-contained page about one model or many: no request leaves it, no name in it can become markup.

The page forbids everything but itself by a content security policy: images only as data URIs, one inline script known
by its hash. All text goes through Jinja's autoescape; only the figures made in this folder are inserted as they are.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from markupsafe import Markup

from facewright.evaluation.label_issues import LabelIssues
from facewright.evaluation.results import Comparison
from facewright.images import Pixels
from facewright.provenance import Origin
from facewright.report import canvas, pages, paper, plots, words
from facewright.report.images import Album, GeneratedImages
from facewright.report.label_issues import label_section
from facewright.report.model_section import ModelSection, model_section
from facewright.report.tables import model_table
from facewright.training.balancing import Balancing


@dataclass(frozen=True)
class DatasetFacts:
    """The findings of the audit. Mean and standard deviation (std) are of RGB pixels scaled to [0, 1]."""

    per_class: Mapping[str, int]  # images
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    notes: tuple[str, ...] = ()  # sentences: broken files left out, duplicates


@dataclass(frozen=True)
class ReportContext:
    """The facts beside the numbers on a page. Nothing is looked up."""

    title: str
    origin: Origin
    facts: DatasetFacts | None = None
    thumbnail: Callable[[str], Pixels | None] | None = None  # an image by its path in the dataset
    drawings: Mapping[str, str] = field(default_factory=dict)  # SVG of an architecture by the entry's name; trusted
    recipes: Mapping[str, str] = field(default_factory=dict)  # the resolved recipe by the entry's name
    balancing: Mapping[str, Balancing] = field(default_factory=dict)  # likewise, of unequal classes
    generated: Mapping[str, GeneratedImages] = field(default_factory=dict)  # likewise, of runs that balance by some
    label_issues: Mapping[str, LabelIssues] = field(default_factory=dict)  # likewise, where labels were inspected


def comparison_page(comparison: Comparison, context: ReportContext) -> str:
    """Return the whole page of one or more models as HTML."""
    album = Album(context.thumbnail)
    sections = [_section(comparison, index, context, album) for index in range(len(comparison.entries))]
    columns, rows = model_table(comparison)
    facts = {
        "script": Markup(pages.text("script.js")),
        "comparison": comparison,
        "context": context,
        "columns": columns,
        "rows": [(section, list(zip(columns, row, strict=True))) for section, row in zip(sections, rows, strict=True)],
        "sections": sections,
        "overview": _overview(comparison),
        "paper": {
            "methods": paper.methods(comparison),
            "latex": paper.latex_table(comparison),
            "markdown": paper.markdown_table(comparison),
        },
        "label_issues": [(name, label_section(found, album)) for name, found in context.label_issues.items()],
        "biggest": max(context.facts.per_class.values(), default=1) if context.facts is not None else 1,
    }
    filters = {"short": words.short_count, "chance": words.chance, "points": words.signed_points}
    return pages.render("page.html", facts, context.origin, filters, _policy())


def _section(comparison: Comparison, index: int, context: ReportContext, album: Album) -> ModelSection:
    name = comparison.entries[index].name
    drawing = context.drawings.get(name)
    inside = None if drawing is None else Markup(canvas.embedded(drawing, f"m{index}-drawing"))
    entry, recipe, balancing = comparison.entries[index], context.recipes.get(name), context.balancing.get(name)
    baseline = comparison.baseline if len(comparison.entries) == 1 else None  # of many, the table says it
    section = model_section(entry, index, album, balancing=balancing, baseline=baseline)
    return replace(section, drawing=inside, recipe=recipe)


def _overview(comparison: Comparison) -> list[dict[str, object]]:
    """The title, note and SVG of the figures over all models; none for a single one, whose section says it all."""
    entries = comparison.entries
    if len(entries) < 2:
        return []
    cost = "Point: share of right test images; bar: its 95 % interval. Up and to the left is better."
    figures = [
        ("Accuracy against latency", cost, plots.accuracy_against_cost(entries, "latency", "cost-ms")),
        ("Accuracy against size", cost, plots.accuracy_against_cost(entries, "parameters", "cost-size")),
    ]
    if any(len(entry.history) > 1 for entry in entries):
        for over, unit in (("images", "images seen"), ("seconds", "training time")):
            for what in ("accuracy", "loss"):
                drawn = plots.curves_of_models(entries, what, over, f"{what}-{over}")
                figures.append((f"Validation {what} over {unit}", "", drawn))
    return [{"title": title, "note": note, "svg": Markup(svg)} for title, note, svg in figures]


def _policy() -> str:
    """The content security policy: nothing is loaded, and only the script of this page runs."""
    digest = base64.b64encode(hashlib.sha256(pages.text("script.js").encode()).digest()).decode("ascii")
    return (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
