"""One self-contained page about one model or many: no request leaves it, no name in it can become markup.

The page forbids everything but itself by a content security policy: images only as data URIs, one inline script known
by its hash. All text goes through Jinja's autoescape; only the figures made in this folder are inserted as they are.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from facewright.evaluation.classification import ClassificationResult, ClassRow, Predictions
from facewright.evaluation.compare import hardest, most_confused
from facewright.evaluation.label_issues import LabelIssues
from facewright.evaluation.results import Comparison, Entry
from facewright.images import Pixels, data_uri
from facewright.metrics.intervals import Rate
from facewright.provenance import Origin
from facewright.report import diagnostics, pages, plots, tables, words
from facewright.report.diagnostics import binary_section
from facewright.report.label_issues import label_section
from facewright.report.pages import Album, Fact
from facewright.training.recipe import Balancing

SHOWN = 1_000  # classes of the table of a page
PAIRS = 7  # most confused pairs shown
IMAGES_OF_PAIR = 4
HARDEST = 12
GENERATED = 18  # pairs


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
    columns, rows = tables.model_table(comparison)
    facts = {
        "script": Markup(pages.text("script.js")),
        "comparison": comparison,
        "context": context,
        "columns": columns,
        "rows": [(section, list(zip(columns, row, strict=True))) for section, row in zip(sections, rows, strict=True)],
        "sections": sections,
        "overview": _overview(comparison),
        "paper": {
            "methods": tables.methods(comparison),
            "latex": tables.latex_table(comparison),
            "markdown": tables.markdown_table(comparison),
        },
        "label_issues": [(name, label_section(found, album)) for name, found in context.label_issues.items()],
        "biggest": max(context.facts.per_class.values(), default=1) if context.facts is not None else 1,
    }
    filters = {"short": words.short_count, "chance": words.chance, "points": words.signed_points}
    return pages.render("page.html", facts, context.origin, filters, _policy())


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


def _section(comparison: Comparison, index: int, context: ReportContext, album: Album) -> dict[str, object]:
    """Draw the figures and choose the images of one model; `index` gives its colour and the ids of its section."""
    entry, key = comparison.entries[index], f"m{index}"
    test, predictions, drawing = entry.test, entry.predictions, context.drawings.get(entry.name)
    baseline = comparison.baseline if len(comparison.entries) == 1 else None  # of many, the table says it
    trained = [row for row in entry.history if row.phase != "probe"]  # a probe has one row, and no course
    curves = [("Loss", "loss"), ("Accuracy", "accuracy"), ("Learning rate", "learning rate")] if trained else []
    return {
        "index": index,
        "entry": entry,
        "headline": _headline(entry, baseline),
        "facts": _facts(entry),
        "curves": [
            (title, Markup(plots.training_curves(entry.history, what, f"{key}-{what[:4]}"))) for title, what in curves
        ],
        "stretches": plots.stretches(entry.history),
        "binary": binary_section(entry, key, context.balancing.get(entry.name)),
        "confusion": None if test.confusion is None else Markup(diagnostics.confusion_figure(test, f"{key}-confusion")),
        "roc": Markup(diagnostics.roc_figure(predictions, f"{key}-roc")) if test.scores_kept else None,
        "pr": Markup(diagnostics.pr_figure(predictions, f"{key}-pr")) if test.scores_kept else None,
        "reliability": Markup(diagnostics.reliability_figure(predictions, f"{key}-reliability")),
        "per_class": _lowest(test.per_class),
        "confused": _confusions(test, predictions, album),
        "worst": [_shown(test, predictions, row, album) for row in hardest(predictions, HARDEST).tolist()],
        "drawing": None if drawing is None else Markup(pages.embedded(drawing, f"{key}-drawing")),
        "recipe": context.recipes.get(entry.name),
    }


def _lowest(rows: tuple[ClassRow, ...]) -> tuple[ClassRow, ...]:
    """Return the classes of the table: all, or of very many those with the lowest F1."""
    if len(rows) <= SHOWN:
        return rows
    return tuple(sorted(rows, key=lambda row: (row.f1 is None, row.f1 or 0.0, -row.n))[:SHOWN])


def _headline(entry: Entry, baseline: float | None) -> tuple[Fact, ...]:
    test = entry.test
    return (
        *([_rated("HTER", test.binary.hter)] if test.binary is not None else []),
        _rated("Accuracy", test.accuracy),
        *([] if baseline is None else [Fact("Largest class", words.percent(baseline), "accuracy of always naming it")]),
        _rated("Macro-F1", test.macro_f1),
        Fact("Log loss", words.number(test.log_loss), "nats per image"),
        Fact("Calibration error", words.number(test.calibration_error), "ECE, 15 bins"),
        Fact("Latency", words.milliseconds(entry.latency.median_ms), f"p95 {words.milliseconds(entry.latency.p95_ms)}"),
        Fact("Parameters", words.short_count(entry.parameters), f"{words.significant(entry.flops / 1e9)} GFLOPs"),
    )


def _facts(entry: Entry) -> tuple[Fact, ...]:
    test, latency, memory = entry.test, entry.latency, entry.peak_memory_bytes
    on_device = entry.device_peak_memory_bytes
    top5 = [_rated("Top-5 accuracy", test.top5)] if test.top5 is not None else []
    threads = f"{latency.threads} thread{'s' if latency.threads != 1 else ''}"
    return (
        *top5,
        _rated("Macro precision", test.macro_precision),
        _rated("Macro recall", test.macro_recall),
        Fact("Weighted F1", words.percent(test.weighted_f1)),
        Fact("AUC, macro / micro", f"{words.number(test.macro_auc)} / {words.number(test.micro_auc)}"),
        Fact("Average precision, macro", words.number(test.macro_average_precision)),
        Fact(
            "Throughput",
            f"{words.short_count(latency.images_per_second)} images/s",
            f"batch of {latency.batch}, {threads}",
        ),
        Fact("Image size", f"{entry.image_size} px"),
        Fact(
            "Trained for",
            words.duration(entry.train_seconds),
            f"{entry.epochs} epoch{'s' if entry.epochs != 1 else ''}",
        ),
        Fact("Images seen", words.short_count(entry.images_seen)),
        Fact("Model file", words.file_size(entry.file_bytes)),
        *([Fact("Peak memory", words.file_size(memory))] if memory is not None else []),
        *([Fact("Peak device memory", words.file_size(on_device))] if on_device is not None else []),
    )


def _rated(name: str, rate: Rate) -> Fact:
    return Fact(name, words.percent(rate.value), words.span(rate.low, rate.high))


def _confusions(result: ClassificationResult, predictions: Predictions, album: Album) -> list[dict[str, object]]:
    """The most frequent (true, predicted) mistakes, most frequent first, each with its surest mistakes."""
    guesses, sure = predictions.predicted, predictions.ranked.probabilities[:, 0]
    found = []
    for true, predicted, count in most_confused(result, PAIRS):
        mine = predictions.labels == result.classes.index(true)
        rows = np.flatnonzero(mine & (guesses == result.classes.index(predicted)))
        rows = rows[np.argsort(-sure[rows], kind="stable")][:IMAGES_OF_PAIR]
        images = [_shown(result, predictions, row, album) for row in rows.tolist()]
        found.append({"true": true, "predicted": predicted, "count": count, "of": int(mine.sum()), "images": images})
    return found


def _shown(result: ClassificationResult, predictions: Predictions, row: int, album: Album) -> dict[str, object]:
    """One test image and the model's prediction, as the template names them."""
    ranked, path = predictions.ranked, predictions.paths[row]
    return {
        "path": path,
        "uri": album.uri(path),
        "true": result.classes[predictions.labels[row]],
        "predicted": result.classes[ranked.top[row, 0]],
        "probability": float(ranked.probabilities[row, 0]),
        "true_probability": float(ranked.of_truth[row]),
    }


@dataclass(frozen=True)
class GeneratedImages:
    """The generated images of one run, ready to be laid out."""

    words: str  # how many, of which class, how near to real ones
    pairs: list[dict[str, object]]  # as data URIs `made`, `real`; distance: root mean square, in levels of 0 to 255


def generated_images(
    words: str, made: NDArray[np.uint8], real: NDArray[np.uint8], nearest: Sequence[int], distances: Sequence[float]
) -> GeneratedImages:
    """Choose pairs evenly from the nearest to the farthest: made (N, S, S, 3), real (M, S, S, 3), N rows of `real`."""
    order = np.argsort(distances, kind="stable")
    chosen = order[np.unique(np.linspace(0, len(order) - 1, min(GENERATED, len(order))).round().astype(int))]
    pairs = [(data_uri(made[row]), data_uri(real[nearest[row]]), float(distances[row])) for row in chosen]
    return GeneratedImages(words, [dict(zip(("made", "real", "distance"), pair, strict=True)) for pair in pairs])
