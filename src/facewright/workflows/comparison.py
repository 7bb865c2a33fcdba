"""Compare runs, of classes or of targets: the comparison and its page."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from facewright.data.store import PixelStore
from facewright.errors import FacewrightError, UsageError
from facewright.evaluation import compare as comparing
from facewright.evaluation.compare import TargetComparison, TargetEntry, compare_targets
from facewright.evaluation.results import Comparison, latency
from facewright.faces.crops import with_face_crops
from facewright.files import plain_cell, write_atomic, write_json
from facewright.images import Pixels
from facewright.models.blocks import Model
from facewright.provenance import origin
from facewright.records import notebook_display
from facewright.report.drawing import draw_architecture
from facewright.report.html import DatasetFacts, GeneratedImages, ReportContext, comparison_page, generated_images
from facewright.report.targets import TargetContext, target_page
from facewright.runs import Run
from facewright.training import added_images
from facewright.training.recipe import balancing_of
from facewright.workflows.inspection import cropper_of

REPORTING = "measuring the latency and drawing the report"


@dataclass(frozen=True)
class Compared:
    """Runs and their comparison."""

    runs: tuple[Run, ...]
    comparison: Comparison | TargetComparison
    store: PixelStore | None = None  # of the data they were trained on, for its images; None: not there any more

    def to_dict(self) -> dict[str, Any]:
        """As `compare --json` prints it."""
        return self.comparison.to_dict()

    _repr_html_ = notebook_display

    def to_html(self, path: Path | str) -> Path:
        """Write the self-contained page."""
        if isinstance(self.comparison, TargetComparison):
            page = target_page(self.comparison, _target_context(self.runs, self.comparison))
        else:
            page = comparison_page(self.comparison, _context(self.runs, self.comparison, self.store))
        write_atomic(Path(path), page)
        return Path(path)

    def write(self, folder: Path) -> Path:
        """Leave comparison.json and report.html in a folder; returns the page."""
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "comparison.json", self.to_dict())
        return self.to_html(folder / "report.html")


def compare(runs: Sequence[Run | str | Path], store: PixelStore | None = None) -> Compared:
    """Put finished runs side by side; latency and throughput are measured now, one model after the other.

    Args:
        store: the images they were trained on, where it is at hand; else their dataset is opened again.
    Raises:
        RunError: a run is not finished.
        UsageError: they were not tested on the same images, some predict classes and some targets, or one is given
            twice.
    """
    opened = [run if isinstance(run, Run) else Run(Path(run)) for run in runs]
    places = [run.folder.resolve() for run in opened]
    twice = next((run.folder for run, place in zip(opened, places, strict=True) if places.count(place) > 1), None)
    if twice is not None:
        raise UsageError(f"{twice} is given twice; a run cannot be compared with itself")
    first = opened[0].facts
    other = next((run for run in opened if run.facts.fingerprint != first.fingerprint), None)
    if other is not None:
        raise UsageError(
            f"{opened[0].folder} and {other.folder} were trained on different data ({first.where} and "
            f"{other.facts.where}, or crops of it by another --detector); only runs on the same images can be compared"
        )
    names = _names(opened)
    if any(run.recipe.task is not None for run in opened):
        return Compared(tuple(opened), _compared_targets(opened, names))
    entries = [
        run.entry(name, latency(run.classifier.model, run.facts.image_size))
        for run, name in zip(opened, names, strict=True)
    ]
    comparison = comparing.compare(entries, first.dataset, first.fingerprint, first.classes, first.counts)
    return Compared(tuple(opened), comparison, store if store is not None else _store(opened[0]))


def _names(runs: Sequence[Run]) -> list[str]:
    """Name the runs by model; with recipe or folder where that is not enough to tell them apart."""
    for name in (
        lambda run: run.facts.title,
        lambda run: f"{run.facts.title} {run.facts.recipe}",
        lambda run: run.folder.name,
        lambda run: str(run.folder),
    ):
        names = [str(name(run)) for run in runs]
        if len(set(names)) == len(names):
            return names
    return [f"{run.folder} ({number})" for number, run in enumerate(runs, start=1)]


def _compared_targets(runs: Sequence[Run], names: Sequence[str]) -> TargetComparison:
    task = runs[0].recipe.task
    if task is None or any(run.recipe.task is None for run in runs):
        raise UsageError("some of these runs predict classes and some targets; compare runs of one kind")
    other = next((run for run in runs if run.recipe.task is not None and run.recipe.task.names != task.names), None)
    if other is not None:
        raise UsageError(f"{runs[0].folder} and {other.folder} have other targets; compare runs of the same")
    entries = []
    for run, name in zip(runs, names, strict=True):
        listed = run.compared(name, latency(run.classifier.model, run.facts.image_size))
        entries.append(TargetEntry(**listed, test=run.evaluation, predictions=run.predictions))
    facts = runs[0].facts
    return compare_targets(entries, task, facts.dataset, facts.fingerprint, facts.counts)


def _title(runs: Sequence[Run], names: Collection[str]) -> str:
    return f"{runs[0].facts.dataset}: {', '.join(names) if len(names) < 4 else f'{len(names)} models'}"


def _target_context(runs: Sequence[Run], comparison: TargetComparison) -> TargetContext:
    facts, task = runs[0].facts, runs[0].recipe.task
    assert task is not None
    named = {entry.name: run for entry, run in zip(comparison.models, runs, strict=True)}
    return TargetContext(
        title=_title(runs, named),
        task=task,
        origin=origin(facts.versions),
        notes=facts.notes,
        recipes={name: run.recipe.to_toml() for name, run in named.items()},
    )


def _context(runs: Sequence[Run], comparison: Comparison, store: PixelStore | None) -> ReportContext:
    facts, spec = runs[0].facts, runs[0].classifier.spec
    named = {entry.name: run for entry, run in zip(comparison.entries, runs, strict=True)}
    return ReportContext(
        title=_title(runs, named),
        origin=origin(facts.versions),
        facts=DatasetFacts({} if store is None else store.dataset.counts(), spec.mean, spec.std, facts.notes),
        thumbnail=None if store is None else thumbnails(store),
        drawings={
            name: draw_architecture(cast(Model, run.classifier.model), run.facts.model, run.facts.image_size)
            for name, run in named.items()
        },
        recipes={name: run.recipe.to_toml() for name, run in named.items()},
        generated={name: sheet for name, run in named.items() if (sheet := _generated(run, store)) is not None},
        label_issues={name: found for name, run in named.items() if (found := run.label_issues) is not None},
        balancing={
            name: balancing_of(run.recipe, _training_counts(run))
            for name, run in named.items()
            if len(facts.classes) == 2 and run.recipe.probe is None
        },
    )


def _store(run: Run) -> PixelStore | None:
    try:
        dataset = with_face_crops(run.open_dataset(), cropper_of(run.recipe))
        return PixelStore.open(dataset, run.classifier.spec)
    except FacewrightError:
        return None


def _training_part(run: Run) -> list[tuple[str, str]]:
    with (run.folder / "split.csv").open(newline="", encoding="utf-8") as lines:
        rows = [row for row in csv.DictReader(lines) if row["part"] == "train"]
    return [(plain_cell(row["path"]), plain_cell(row["label"])) for row in rows]


def _training_counts(run: Run) -> Mapping[str, int]:
    found = Counter(label for _, label in _training_part(run))
    return {name: found[name] for name in run.facts.classes}


def _generated(run: Run, store: PixelStore | None) -> GeneratedImages | None:
    """Put a run's generated images beside the nearest real ones; None where it has none, or the data are gone."""
    made = added_images.kept_images(run.folder) if run.recipe.sampling.plan == "generate" else None
    if made is None or store is None:
        return None
    counts = _training_counts(run)
    smaller = min(counts, key=lambda name: counts[name])
    wanted = {path for path, label in _training_part(run) if label == smaller}
    rows = np.array([row for row, record in enumerate(store.dataset.records) if record.path in wanted], np.int64)
    if len(rows) < 2:
        return None
    real = added_images.real_images(store, rows, made.shape[-1])
    near = added_images.nearness(made, real)
    words = f"{len(made):,} of {smaller}, by a diffusion model trained on its {len(rows):,} training images; "
    made, real = (one.permute(0, 2, 3, 1).contiguous() for one in (made, real))
    return generated_images(
        words + near.in_words(), made.numpy(), real.numpy(), near.nearest.tolist(), near.generated.tolist()
    )


def thumbnails(store: PixelStore) -> Callable[[str], Pixels | None]:
    """Return a function from a path in the dataset to the image as the network sees it; None where there is none."""
    rows: Mapping[str, int] = {record.path: row for row, record in enumerate(store.dataset.records)}
    return lambda path: np.asarray(store.pixels[rows[path]]) if path in rows else None
