"""Compare runs with targets in place of classes: the comparison and its page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facewright.errors import UsageError
from facewright.evaluation import speed
from facewright.evaluation.target_comparison import TargetComparison, TargetEntry, compare_targets
from facewright.files import write_json
from facewright.report.targets import TargetContext, write_target_report
from facewright.runs import Run
from facewright.workflows import provenance


@dataclass(frozen=True)
class ComparedTargets:
    """Runs with the same targets, and their comparison."""

    runs: tuple[Run, ...]
    comparison: TargetComparison

    def to_dict(self) -> dict[str, Any]:
        """As `compare --json` prints it."""
        return self.comparison.to_dict()

    def to_html(self, path: Path | str) -> Path:
        """Write the self-contained page."""
        facts, task = self.runs[0].facts, self.runs[0].recipe.task
        assert task is not None
        names = [entry.name for entry in self.comparison.models]
        context = TargetContext(
            title=f"{facts.dataset}: {', '.join(names)}" if len(names) < 4 else f"{facts.dataset}: {len(names)} models",
            task=task,
            created=provenance.created(),
            command=provenance.command(),
            versions=facts.versions,
            notes=facts.notes,
            recipes={name: run.recipe.to_toml() for name, run in zip(names, self.runs, strict=True)},
        )
        write_target_report(Path(path), self.comparison, context)
        return Path(path)

    def write(self, folder: Path) -> Path:
        """Leave comparison.json and report.html in a folder; returns the page."""
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "comparison.json", self.to_dict())
        return self.to_html(folder / "report.html")


def compared_targets(runs: Sequence[Run], names: Sequence[str]) -> ComparedTargets:
    """Put finished runs with the same targets side by side; latency is measured now.

    Args:
        names: what to call them.
    Raises:
        UsageError: they have other targets, or were tested on other images. RunError: one is not finished.
    """
    task = runs[0].recipe.task
    other = next((run for run in runs if task is None or run.recipe.task is None), None)
    if task is None or other is not None:
        raise UsageError("some of these runs predict classes and some targets; compare runs of one kind")
    other = next((run for run in runs if run.recipe.task is not None and run.recipe.task.names != task.names), None)
    if other is not None:
        raise UsageError(f"{runs[0].folder} and {other.folder} have other targets; compare runs of the same")
    entries = [_entry(run, name) for run, name in zip(runs, names, strict=True)]
    facts = runs[0].facts
    return ComparedTargets(tuple(runs), compare_targets(entries, task, facts.dataset, facts.fingerprint, facts.counts))


def _entry(run: Run, name: str) -> TargetEntry:
    latency = speed.latency(run.classifier.model, run.facts.image_size)
    return TargetEntry(**run.compared(name, latency), test=run.evaluation, predictions=run.predictions)
