"""Models with the same targets on the same images, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, SkipValidation

from facewright.errors import UsageError
from facewright.evaluation.attribute_metrics import AttributePair, compare_attributes
from facewright.evaluation.results import Latency
from facewright.evaluation.targets import TargetPredictions, TaskResult
from facewright.events import EpochRow
from facewright.records import Record
from facewright.specs.tasks import TaskSpec


class TargetEntry(Record):
    """One model of a comparison."""

    name: str
    run: str
    model: str
    recipe: str
    parameters: int
    file_bytes: int
    train_seconds: float
    latency: Latency
    test: TaskResult
    predictions: Annotated[TargetPredictions, SkipValidation, Field(exclude=True, repr=False)]
    history: Annotated[tuple[EpochRow, ...], SkipValidation, Field(exclude=True, repr=False)]


class TargetComparison(Record):
    """Models trained and tested on the same split."""

    frame_rows: ClassVar[str | None] = "pairs"
    task: Literal["targets"] = "targets"
    dataset: str
    fingerprint: str
    counts: dict[str, int]  # images in train, validation, test
    targets: tuple[str, ...]
    models: tuple[TargetEntry, ...]
    pairs: tuple[AttributePair, ...]  # of each two models and each attribute


def compare_targets(
    entries: Sequence[TargetEntry], task: TaskSpec, dataset: str, fingerprint: str, counts: Mapping[str, int]
) -> TargetComparison:
    """Compare models that were tested on the same images.

    Args:
        task: that all of them have.
    Raises:
        UsageError: they were tested on other images.
    """
    first = entries[0].predictions
    for entry in entries[1:]:
        if entry.predictions.paths != first.paths:
            remedy = "compare models that were trained with the same data, split and seed"
            raise UsageError(f"{entries[0].name} and {entry.name} were tested on different images; {remedy}")
    parts = task.of_kind("attribute")
    pairs: tuple[AttributePair, ...] = ()
    if parts and len(entries) > 1:
        answers = {}
        for entry in entries:
            rows = entry.test.attributes.attributes if entry.test.attributes is not None else ()
            limits = {row.name: row.threshold for row in rows}
            values = entry.predictions.values[:, [part.values.start for part in parts]]
            answers[entry.name] = values >= np.array([limits.get(part.target.name, 0.5) for part in parts])
        truth = first.truth[:, [part.truth.start for part in parts]]
        pairs = compare_attributes(answers, truth, [part.target.name for part in parts])
    return TargetComparison(
        dataset=dataset,
        fingerprint=fingerprint,
        counts=dict(counts),
        targets=task.names,
        models=tuple(entries),
        pairs=pairs,
    )
