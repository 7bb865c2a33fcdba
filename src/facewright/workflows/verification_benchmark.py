"""Recognizers side by side on verification sets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from facewright.data.pairs import LISTED_SET, read_pairs, set_of
from facewright.data.template_sets import TemplateSet, is_template_set, read_template_set
from facewright.errors import UsageError
from facewright.evaluation.identification import TemplateResult, evaluate_templates, template_vectors
from facewright.events import EventHandler, Message, ignore_event
from facewright.metrics.intervals import Rate
from facewright.recognition import Recognizer
from facewright.records import Record
from facewright.workflows.pair_evaluation import PairsMeasured, pairs
from facewright.workflows.scores import embed_all


class BenchmarkRow(Record):
    """One model on one set."""

    model: str
    set: str
    fingerprint: str  # of detector, template, network and input
    pairs: int
    failures: int  # pairs without a score; errors of the accuracy
    mean_accuracy: float | None  # over folds, each at the threshold that was best on the others
    standard_error: float | None  # of that mean: std over folds / sqrt(folds)
    accuracy: Rate | None  # over pairs, Clopper-Pearson
    eer: float
    auc: float
    far: float | None  # the lowest target that the impostor pairs resolve
    tar: Rate | None  # there


class TemplateRow(Record):
    """One model on one set of templates."""

    model: str
    set: str
    fingerprint: str
    images: int
    failures: int  # images that cannot be read or show no face
    faces: str  # what found them: a detector, or "given points"
    result: TemplateResult


class Benchmark(Record):
    """Every model on every set, in the order given."""

    frame_rows: ClassVar[str | None] = "rows"
    rows: tuple[BenchmarkRow, ...]
    templates: tuple[TemplateRow, ...] = ()  # of the sets of templates


def benchmark(
    models: Sequence[str | Path],
    sets: Sequence[str | Path],
    *,
    flip: bool | None = True,
    detector: str | None = None,
    device: str | None = None,
    on_event: EventHandler = ignore_event,
) -> Benchmark:
    """Measure recognizers on verification sets.

    Args:
        models: as of `pairs`.
        sets: .bin files of InsightFace; "LIST:FOLDER", a list of pairs and the folder of its images; or folders as
            IJB-B and IJB-C (`data.template_sets`).
        flip: average with the mirrored image, as InsightFace does, where the model can; None: the model's own setting.
        detector: as of `Recognizer`; aligned sets need none, and sets with given points neither.
    Raises:
        UsageError: no model or no set. DataError: a set cannot be read. BundleError: a model cannot.
    """
    if not models or not sets:
        raise UsageError(f"expected at least one model and one set, got {len(models)} and {len(sets)}")
    template_sets = [read_template_set(one) for one in sets if is_template_set(one)]
    places = [set_of(one) for one in sets if not is_template_set(one)]
    for place in places:  # a wrong word is told before anything is measured
        read_pairs(*place)
    flips = [_flip(model, flip, detector, on_event) for model in models]
    return Benchmark(
        rows=tuple(
            _row(pairs(model, where, images, flip=own, detector=detector, device=device, on_event=on_event), where.stem)
            for model, own in zip(models, flips, strict=True)
            for where, images in places
        ),
        templates=tuple(
            _template_row(model, one, own, detector, device, on_event)
            for model, own in zip(models, flips, strict=True)
            for one in template_sets
        ),
    )


def _flip(model: str | Path, flip: bool | None, detector: str | None, on_event: EventHandler) -> bool | None:
    """Return the setting that a model takes: its own where it cannot add the mirrored image, which is told."""
    try:
        Recognizer.load(model, detector=detector, flip=flip, device="cpu")
    except UsageError:
        if not flip:
            raise
        name = Recognizer.load(model, detector=detector, device="cpu").name
        on_event(Message(f"note: {name} cannot add the mirrored image; it is measured without"))
        return None
    return flip


def split_sets(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the models and the sets among words; `benchmark` refuses where there is none of either.

    >>> split_sets(["built-in", "lfw.bin", "pairs.txt:lfw"])
    (['built-in'], ['lfw.bin', 'pairs.txt:lfw'])
    """
    sets = [
        word for word in words if word.lower().endswith(".bin") or LISTED_SET.fullmatch(word) or is_template_set(word)
    ]
    return [word for word in words if word not in sets], sets


def _template_row(
    model: str | Path, templates: TemplateSet, flip: bool | None, detector: str | None, device: str | None,
    on_event: EventHandler,
) -> TemplateRow:  # fmt: skip
    recognizer = Recognizer.load(model, detector=detector, flip=flip, device=device)
    points = None
    if templates.points is not None and detector is None:
        if recognizer.takes_points:
            points = dict(zip(templates.paths, templates.points, strict=True))
        else:
            on_event(Message(f"note: {recognizer.name} is made for other points than {templates.name} gives: detected"))
    embedded = embed_all(recognizer, templates.dataset(), on_event, points=points)
    place = {record.path: row for row, record in enumerate(embedded.dataset.records)}
    rows = np.array([place.get(path, -1) for path in templates.paths], np.int64)
    return TemplateRow(
        model=recognizer.name,
        set=templates.name,
        fingerprint=recognizer.fingerprint,
        images=len(templates.paths),
        failures=int((rows < 0).sum()),
        faces=recognizer.detector_name if points is None else "given points",
        result=evaluate_templates(template_vectors(embedded.vectors, rows, templates), templates),
    )


def _row(measured: PairsMeasured, name: str) -> BenchmarkRow:
    result = measured.result
    strict = result.tar_at_far[-1] if result.tar_at_far else None
    return BenchmarkRow(
        model=measured.model,
        set=name,
        fingerprint=measured.fingerprint,
        pairs=len(measured.scored.pairs),
        failures=result.failures,
        mean_accuracy=None if result.folds is None else result.folds.mean,
        standard_error=None if result.folds is None else result.folds.standard_error,
        accuracy=result.accuracy,
        eer=result.eer,
        auc=result.auc,
        far=None if strict is None else strict.far,
        tar=None if strict is None else strict.tar,
    )
