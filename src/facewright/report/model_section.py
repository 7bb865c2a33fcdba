"""Everything the page says of one model, ready to be laid out."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from facewright.evaluation.classification import ClassRow
from facewright.evaluation.results import Entry
from facewright.metrics.intervals import Rate
from facewright.report import diagnostics, plots, words
from facewright.report.binary_section import BinarySection, binary_section
from facewright.report.images import Album, Confusion, ShownImage, confusions, worst_images
from facewright.training.balancing import Balancing

SHOWN = 1_000  # classes of the table of a page


@dataclass(frozen=True)
class Fact:
    name: str
    text: str
    note: str = ""


@dataclass(frozen=True)
class ModelSection:
    """One model. `index` is its place in the comparison, which gives its colour and the ids of its section."""

    index: int
    entry: Entry
    headline: tuple[Fact, ...]
    facts: tuple[Fact, ...]
    curves: tuple[tuple[str, Markup], ...]  # title, figure
    stretches: tuple[plots.Stretch, ...]  # phases and image sizes, where they change
    binary: BinarySection | None
    confusion: Markup | None  # None: too many classes
    roc: Markup | None  # None: too many scores to keep, as of pr
    pr: Markup | None
    reliability: Markup
    per_class: tuple[ClassRow, ...]
    confused: tuple[Confusion, ...]
    worst: tuple[ShownImage, ...]
    drawing: Markup | None = None
    recipe: str | None = None


def model_section(
    entry: Entry, index: int, album: Album, *, balancing: Balancing | None, baseline: float | None
) -> ModelSection:
    """Draw the figures and choose the images of one model."""
    key, test, predictions = f"m{index}", entry.test, entry.predictions
    trained = [row for row in entry.history if row.phase != "probe"]  # a probe has one row, and no course
    curves = [("Loss", "loss"), ("Accuracy", "accuracy"), ("Learning rate", "learning rate")] if trained else []
    return ModelSection(
        index=index,
        entry=entry,
        headline=_headline(entry, baseline),
        facts=_facts(entry),
        curves=tuple(
            (title, Markup(plots.training_curves(entry.history, what, f"{key}-{what[:4]}"))) for title, what in curves
        ),
        stretches=plots.stretches(entry.history),
        binary=binary_section(entry, key, balancing),
        confusion=None if test.confusion is None else Markup(diagnostics.confusion_figure(test, f"{key}-confusion")),
        roc=Markup(diagnostics.roc_figure(predictions, f"{key}-roc")) if test.scores_kept else None,
        pr=Markup(diagnostics.pr_figure(predictions, f"{key}-pr")) if test.scores_kept else None,
        reliability=Markup(diagnostics.reliability_figure(predictions, f"{key}-reliability")),
        per_class=_shown(test.per_class),
        confused=confusions(test, predictions, album),
        worst=worst_images(test, predictions, album),
    )


def _shown(rows: tuple[ClassRow, ...]) -> tuple[ClassRow, ...]:
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
