"""Exporting: a model becomes one ONNX file, but only once it has answered as PyTorch does on a thousand faces."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facewright import bundle as bundles
from facewright.bundle import Bundle, Exported
from facewright.data.records import Dataset
from facewright.data.sources import open_dataset, open_images
from facewright.data.store import PixelStore
from facewright.data.synthetic import FacesSpec
from facewright.embedding import Embedder, open_model
from facewright.errors import DataError, ExportDrift, UnknownName, UsageError, require_extra
from facewright.evaluation.targets import TargetPredictions, TaskResult, measure_targets
from facewright.events import EventHandler, Message, Progress, ignore_event
from facewright.exportation.agreement import (
    Agreement,
    Export,
    ImageSubset,
    Int8Report,
    ModelOutputs,
    StoredThresholds,
    TargetCost,
    compare_outputs,
    compute_outputs,
    measure_int8_cost,
)
from facewright.exportation.network import to_int8, to_onnx
from facewright.faces.crops import cropper_for, with_face_crops
from facewright.graphs import EMBEDDING, LOGITS, SUFFIX, plain
from facewright.inference import Classifier
from facewright.input_spec import InputSpec
from facewright.metrics.calibration import target_values
from facewright.metrics.intervals import Rate, wilson
from facewright.metrics.thresholds import ATTRIBUTE
from facewright.models.weights import parse_model
from facewright.training.recipe import run_detector
from facewright.workflows.scores import people_on

PRECISIONS = ("int8",)
FEWEST = 1_000  # faces that PyTorch and ONNX Runtime answer alike before anything is written
DRAWN = FacesSpec(identities=50, images=20, seed=29)  # for those that are not given
CALIBRATED_ON = 512  # images at most
BATCH = 32


def export(
    model: str | Path,
    out: str | Path | None = None,
    *,
    check: str | Path | None = None,
    quantise: str | None = None,
    calibration: str | Path | None = None,
    crop: float | None = None,
    flip: bool | None = None,
    detector: str | None = None,
    device: str | None = None,
    on_event: EventHandler = ignore_event,
) -> Export:
    """Write a model as one ONNX file that reads pixels and needs nothing of this package.

    Nothing is written unless the float32 graph answers as PyTorch does: probabilities, unit vectors, cosines and norms
    to 1e-5, and no decision changed, over at least a thousand faces.

    Args:
        model: a run directory, a bundle file, or architecture@weights.
        out: the file, NAME.onnx; MODEL.onnx beside the model by default.
        check: what `open_dataset` knows; the two are compared on its images, and on synthetic faces if those are fewer
            than a thousand. Of int8 also what the accuracy is measured on, so its images need labels, or the columns of
            the model's targets.
        quantise: "int8", or None for float32.
        calibration: images that set the scales of int8; none of them may be among those of `check`.
        crop: share of each side to keep, in place of the model's own; it becomes part of the file.
        flip: average with the mirror image, in place of the model's own; likewise.
        detector: as of `predict`: images of `check` and `calibration` are cropped as those of the training were.
        device: what the checks compute on, as for `train`: on a GPU both must answer alike there.
    Raises:
        ExportDrift: the graph does not answer as PyTorch does; says by how much.
        UsageError: a package is not installed, the network cannot be exported, or the request makes no sense.
        DataError: an image is in both data sets, or int8 is to be measured on images without labels. UnknownName:
            without the column of a target.
    """
    _refuse(model, quantise, check, calibration)
    require_extra("onnx", "export")
    target = destination(model, out)
    bundle = bundles.with_input(open_model(model), crop, flip)
    cropper = None
    if detector is not None or check is not None or calibration is not None:
        cropper = cropper_for(bundle.spec, run_detector(model) if detector is None else detector)
    checked, calibrated = (
        None if where is None else with_face_crops(open_images(where, labels=bundle.task is None), cropper)
        for where in (check, calibration)
    )
    exported, data, agreement, quantised = _proven(bundle, str(model), checked, calibrated, device, on_event)
    ready = as_exported(bundle, exported)
    bundles.save(target, ready)
    dropped = len(bundle.thresholds) - len(ready.thresholds)
    if dropped:
        on_event(Message(f"thresholds left out: {dropped}; they were chosen on scores of float32, and int8 has others"))
    return Export(
        model=str(model),
        path=str(target),
        size=target.stat().st_size,
        architecture=bundle.architecture,
        spec=bundle.spec,
        outputs=exported.graph.outputs,
        precision=exported.precision,
        fingerprints=exported.fingerprints,
        data=data,
        agreement=agreement,
        thresholds=len(ready.thresholds),
        dropped=dropped,
        quantised=quantised,
    )


def destination(model: str | Path, out: str | Path | None) -> Path:
    """The file to write.

    Raises:
        UsageError: it is not called .onnx, or there is no such folder.
    """
    path = Path(model)
    if out is None:
        beside = path / "model" if path.is_dir() else path if path.is_file() else Path(parse_model(str(model))[0])
        out = beside.with_suffix(SUFFIX)
    out = Path(out)
    if not bundles.is_exported(out):
        raise UsageError(f"{out}: expected a file to write whose name ends in {SUFFIX}")
    if out.is_dir() or not out.parent.is_dir():
        raise UsageError(f"{out}: expected a file to write, in a folder that exists")
    return out


def _refuse(model: str | Path, quantise: str | None, check: object, calibration: object) -> None:
    if bundles.is_exported(Path(model)):
        raise UsageError(f"{model}: is exported already; export the run or the .safetensors that it was made of")
    if quantise is not None and quantise not in PRECISIONS:
        raise UnknownName("precision", quantise, PRECISIONS)
    if quantise is None and calibration is not None:
        raise UsageError("images to calibrate on are for int8: add --quantise int8")
    if quantise is not None and (calibration is None or check is None):
        raise UsageError(
            "int8 needs images to set its scales on and other, labelled ones to measure what it costs: add "
            "--calibration DATA and --check OTHER-DATA"
        )


def _proven(
    bundle: Bundle,
    model: str,
    check: Dataset | None,
    calibration: Dataset | None,
    device: str | None,
    on_event: EventHandler,
) -> tuple[Exported, str, Agreement, Int8Report | None]:
    """Export a model and compare it: the export, the images compared on, the agreement, and the cost of int8."""
    on_event(Progress("exporting", 0, 1))
    exported = _in_float32(bundle)
    on_event(Progress("exporting", 1, 1))
    if check is not None and bundle.task is not None and calibration is not None:
        check = check.with_task(bundle.task)
    parts = _faces(bundle.spec, check, on_event)
    on_event(Progress("comparing", 0, 2))
    ours = compute_outputs(bundle, parts, device)
    on_event(Progress("comparing", 1, 2))
    theirs = compute_outputs(as_exported(bundle, exported), parts, device)
    on_event(Progress("comparing", 2, 2))
    agreement = compare_outputs(ours, theirs, StoredThresholds.of(bundle))
    if agreement.problem is not None:
        raise ExportDrift(f"{model}: not exported: the ONNX graph {agreement.problem}")
    quantised = None
    if calibration is not None:
        exported, quantised = _in_int8(bundle, exported, ours, parts[0].store, calibration, on_event)
    data = " and ".join(map(_said, parts))
    facts = {"data": data, "agreement": agreement.to_dict()}
    facts |= {} if quantised is None else {"quantised": quantised.to_dict()}
    return replace(exported, checked=facts), data, agreement, quantised


def as_exported(bundle: Bundle, exported: Exported) -> Bundle:
    """Return the bundle with a graph in place of its weights; of int8 only the thresholds of attributes stay."""
    float32 = exported.precision == "float32"
    thresholds = tuple(one for one in bundle.thresholds if float32 or one.purpose == ATTRIBUTE)
    return replace(bundle, weights={}, thresholds=thresholds, exported=exported)


def _in_float32(bundle: Bundle) -> Exported:
    """The graph; its fingerprints are those of the model, for it must answer the same."""
    graph = plain(to_onnx(bundle))
    fingerprints = {EMBEDDING: Embedder(bundle).fingerprint}
    if bundle.classes:
        fingerprints[LOGITS] = Classifier(bundle).fingerprint
    return Exported(graph, "float32", fingerprints, {})


def _faces(spec: InputSpec, check: Dataset | None, on_event: EventHandler) -> tuple[ImageSubset, ...]:
    """The images that were given, and synthetic faces, of everybody as many, where those are fewer than a thousand."""
    given: tuple[ImageSubset, ...] = ()
    if check is not None:
        store = _pixels(check, spec, on_event)
        given = (ImageSubset(store, np.arange(len(store.dataset))),)
    missing = FEWEST - sum(part.rows.size for part in given)
    if missing <= 0:
        return given
    size = min(1024, max(16, spec.height, spec.width))
    drawn = _pixels(open_dataset(replace(DRAWN, size=size).where()), spec, on_event)
    return (*given, ImageSubset(drawn, _spread(missing, len(drawn.dataset))))


def _spread(count: int, among: int) -> NDArray[np.int64]:
    """`count` of the numbers from 0 to `among` - 1 at even distances; all of them where there are no more."""
    return np.unique(np.linspace(0, among - 1, min(count, among)).round().astype(np.int64))


def _said(part: ImageSubset) -> str:
    data = part.store.dataset
    kind = "synthetic faces" if data.where.startswith("synthetic:") else f"images of {data.name}"
    return f"{part.rows.size:,} {kind}"


def _pixels(dataset: Dataset, spec: InputSpec, on_event: EventHandler) -> PixelStore:
    store = PixelStore.open(dataset, spec, on_event=on_event)
    for broken in store.dataset.broken:
        on_event(Message(f"left out: {broken.path}: {broken.reason}"))
    return store


def _in_int8(
    bundle: Bundle,
    exported: Exported,
    before: ModelOutputs,
    tested: PixelStore,
    calibration: Dataset,
    on_event: EventHandler,
) -> tuple[Exported, Int8Report]:
    """An int8 graph with fingerprints of its own, and its cost; `before`: PyTorch's answers, the first to `tested`."""
    data = tested.dataset
    people = people_on(data) if bundle.task is None else None
    store = _pixels(calibration, bundle.spec, on_event)
    _refuse_shared_images(store, tested)
    rows = _spread(CALIBRATED_ON, len(store.dataset))
    on_event(Progress("quantising", 0, 1))
    graph = plain(to_int8(exported.graph, _batches(store, rows)))
    on_event(Progress("quantising", 1, 1))
    facts = json.dumps(["int8", graph.digest, bundle.spec.to_dict()]).encode()
    own = hashlib.blake2b(facts, digest_size=16).hexdigest()
    small = Exported(graph, "int8", dict.fromkeys(graph.outputs, own), {})
    before = before.first(len(data))
    after = compute_outputs(as_exported(bundle, small), (ImageSubset(tested, np.arange(len(data))),))
    targets: tuple[TargetCost, ...] = ()
    if before.logits is not None and after.logits is not None and bundle.task is not None:
        targets = _target_costs(bundle, data, before.logits, after.logits)
    cost = None if people is None else measure_int8_cost(before, after, people, bundle.classes, data.name)
    return small, Int8Report(
        calibration=store.dataset.name,
        pictures=rows.size,
        float32_bytes=len(exported.graph.content),
        cost=cost,
        targets=targets,
    )


def _refuse_shared_images(calibration: PixelStore, tested: PixelStore) -> None:
    if shared := len(set(calibration.digests) & set(tested.digests)):
        raise DataError(
            f"{calibration.dataset.where}: {shared:,} of its images are also among those that int8 is measured on; the "
            "scales of int8 are set on other images"
        )


def _batches(store: PixelStore, rows: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
    for start in range(0, rows.size, BATCH):
        yield store.rows(rows[start : start + BATCH])


def _target_costs(
    bundle: Bundle, data: Dataset, before: NDArray[np.float64], after: NDArray[np.float64]
) -> tuple[TargetCost, ...]:
    """Measure both models on N images with known targets, at the same thresholds; scores (N, S) before and after."""
    task, limits = bundle.task, Classifier(bundle).limits
    assert task is not None
    first = TargetPredictions(
        tuple(one.path for one in data.records), data.truth.astype(np.float64), target_values(before, task)
    )
    second = replace(first, values=target_values(after, task))
    rates = [_rates(measure_targets(predictions, task, limits, data.name)) for predictions in (first, second)]
    costs = []
    for part in task.parts:
        name, kind = part.target.name, part.target.kind
        one, other = first.values[:, part.values], second.values[:, part.values]
        changed = None
        if kind != "number":
            answers = [rows >= limits[name] if kind == "attribute" else rows.argmax(1) for rows in (one, other)]
            changed = wilson(int((answers[0] != answers[1]).sum()), len(one))
        costs.append(
            TargetCost(
                name=name,
                measure="mean absolute error" if kind == "number" else "accuracy",
                float32=rates[0].get(name),
                int8=rates[1].get(name),
                changed=changed,
                furthest=float(np.abs(one - other).max()),
            )
        )
    return tuple(costs)


def _rates(result: TaskResult) -> dict[str, Rate | None]:
    """Return the accuracy of each target by its name, of a number its mean absolute error."""
    attributes = () if result.attributes is None else result.attributes.attributes
    found: dict[str, Rate | None] = {row.name: row.accuracy for row in attributes}
    found |= {row.name: row.mean_absolute_error for row in result.numbers}
    return found | {
        name: getattr(one, "accuracy", None) for name, one in (*result.classes.items(), *result.votes.items())
    }
