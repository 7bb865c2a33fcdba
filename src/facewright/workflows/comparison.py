"""Putting runs side by side: the comparison and its page."""

from __future__ import annotations

import csv
import io
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from PIL import Image

from facewright.data.sources import open_dataset
from facewright.data.store import PixelStore
from facewright.errors import FacewrightError, UsageError
from facewright.evaluation import compare as comparing
from facewright.evaluation import speed
from facewright.evaluation.results import Comparison
from facewright.files import write_json
from facewright.models.catalog import create_model
from facewright.report.drawing import draw_architecture
from facewright.report.html import DatasetFacts, ReportContext, write_report
from facewright.runs import Run
from facewright.training.balancing import balancing_of


@dataclass(frozen=True)
class Compared:
    """Runs and what comparing them says."""

    runs: tuple[Run, ...]
    comparison: Comparison

    def to_dict(self) -> dict[str, Any]:
        """As `compare --json` prints it."""
        return self.comparison.to_dict()

    def to_html(self, path: Path | str) -> Path:
        """Write the self-contained page."""
        write_report(Path(path), self.comparison, context=_context(self.runs, self.comparison))
        return Path(path)

    def write(self, folder: Path) -> Path:
        """Leave comparison.json and report.html in a folder; returns the page."""
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "comparison.json", self.to_dict())
        return self.to_html(folder / "report.html")


def compare(runs: Sequence[Run | Path]) -> Compared:
    """Put finished runs side by side; latency and throughput are measured now, one model after the other.

    Raises:
        RunError: a run is not finished.
        UsageError: they were not tested on the same images, or one is given twice.
    """
    opened = [run if isinstance(run, Run) else Run(run) for run in runs]
    places = [run.folder.resolve() for run in opened]
    twice = next((run.folder for run, place in zip(opened, places, strict=True) if places.count(place) > 1), None)
    if twice is not None:
        raise UsageError(f"{twice} is given twice; a run cannot be compared with itself")
    first = opened[0].facts
    other = next((run for run in opened if run.facts.fingerprint != first.fingerprint), None)
    if other is not None:
        raise UsageError(
            f"{opened[0].folder} and {other.folder} were trained on different data "
            f"({first.where} and {other.facts.where}); only runs on the same pictures can be compared"
        )
    names = _names(opened)
    entries = [
        run.entry(name, speed.latency(run.classifier.model, run.facts.image_size))
        for run, name in zip(opened, names, strict=True)
    ]
    comparison = comparing.compare(entries, first.dataset, first.fingerprint, first.classes, first.counts)
    return Compared(tuple(opened), comparison)


def _names(runs: Sequence[Run]) -> list[str]:
    """The model's name; with its recipe or folder where that is not enough to tell runs apart."""
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


def _context(runs: Sequence[Run], comparison: Comparison) -> ReportContext:
    facts = runs[0].facts
    spec = runs[0].classifier.spec
    named = {entry.name: run for entry, run in zip(comparison.entries, runs, strict=True)}
    store = _store(facts.where, runs[0])
    return ReportContext(
        title=f"{facts.dataset}: {', '.join(named)}" if len(runs) < 4 else f"{facts.dataset}: {len(runs)} models",
        created=datetime.now(UTC).strftime("%d %B %Y, %H:%M UTC"),
        command=shlex.join(["facewright", *sys.argv[1:]]) if len(sys.argv) > 1 else "",
        versions=facts.versions,
        facts=DatasetFacts({} if store is None else store.dataset.counts(), spec.mean, spec.std, facts.notes),
        thumbnail=None if store is None else thumbnails(store),
        drawings={name: _drawing(run) for name, run in named.items()},
        recipes={name: run.recipe.to_toml() for name, run in named.items()},
        suspicions={name: found for name, run in named.items() if (found := run.suspicion) is not None},
        balancing={
            name: balancing_of(run.recipe, _training_counts(run))
            for name, run in named.items()
            if len(facts.classes) == 2 and run.recipe.probe is None
        },
    )


def _store(where: str, run: Run) -> PixelStore | None:
    """The pixels the runs were trained on, where they are still there."""
    try:
        return PixelStore.open(open_dataset(where), run.classifier.spec)
    except FacewrightError:
        return None


def _training_counts(run: Run) -> Mapping[str, int]:
    """Pictures of each class in the training part, by the run's split.csv."""
    with (run.folder / "split.csv").open(newline="", encoding="utf-8") as lines:
        found = Counter(row["label"] for row in csv.DictReader(lines) if row["part"] == "train")
    return {name: found[name] for name in run.facts.classes}


def thumbnails(store: PixelStore) -> Callable[[str], bytes | None]:
    """A PNG of a picture as the network sees it, by its path in the dataset; None where there is no such picture."""
    rows: Mapping[str, int] = {record.path: row for row, record in enumerate(store.dataset.records)}

    def thumbnail(path: str) -> bytes | None:
        if path not in rows:
            return None
        out = io.BytesIO()
        Image.fromarray(store.pixels[rows[path]]).save(out, "PNG")
        return out.getvalue()

    return thumbnail


def _drawing(run: Run) -> str:
    facts = run.facts
    model = create_model(facts.model, len(facts.classes), input_size=facts.image_size, stem=facts.stem)
    return draw_architecture(model, facts.model, facts.image_size)
