"""Evaluate a run: its best weights on the test part, or any model on other data; of classes or of targets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from facewright import bundle as bundles
from facewright.data.sources import open_dataset
from facewright.data.store import PixelStore
from facewright.errors import OtherClasses, Undefined, UsageError
from facewright.evaluation import classification
from facewright.evaluation.binary import (
    AttackResult,
    class_threshold_of,
    evaluate_scores,
    evaluate_stored_threshold,
    evaluate_two_classes,
    labelled_scores,
)
from facewright.evaluation.classification import (
    SCORES,
    BinaryResult,
    ClassificationResult,
    Predictions,
    Ranked,
    keeps_scores,
)
from facewright.evaluation.subgroups import rates_of_images
from facewright.evaluation.targets import (
    TargetPredictions,
    TaskResult,
    attribute_thresholds,
    measure_targets,
    with_groups,
    with_intervals,
    write_target_predictions,
)
from facewright.events import EventHandler, Message, ignore_event, in_blocks
from facewright.faces.crops import model_advice, sample_share, with_face_crops
from facewright.files import write_json
from facewright.inference import Classifier
from facewright.metrics.binary import asked_far
from facewright.metrics.calibration import target_values
from facewright.metrics.intervals import wilson
from facewright.metrics.thresholds import ATTRIBUTE, BINARY
from facewright.metrics.verification import allowed_impostors
from facewright.models.face_weights import face_weights
from facewright.recognition import built_in
from facewright.runs import Run, load_classifier, read_predictions, seen_images, write_predictions
from facewright.training.recipe import Recipe
from facewright.workflows.inspection import PreparedData
from facewright.workflows.verification import (
    Grouping,
    Recognition,
    evaluate_identification,
    evaluate_verification,
    write_groups,
)

UnknownClasses = Literal["errors", "leave-out"]
Task = Literal["classification", "verification", "identification", "attack"]
VALIDATION = "validation_predictions.csv"  # of two classes: what the threshold is chosen on
SMALLEST_BLOCK = 32  # rows of very many classes that are predicted at once: their weights are read once a block


def check_evaluation(data: PreparedData, recipe: Recipe) -> None:
    """Refuse, before anything is trained, what could not be evaluated afterwards.

    Raises:
        Undefined: the validation part has too few images of the first class for the rule's false-accept rate.
    """
    rule = recipe.threshold.rule
    if recipe.task is None and len(data.store.dataset.classes) == 2 and rule.startswith("far="):
        negatives = int((data.store.dataset.labels[data.split.validation] == 0).sum())
        allowed_impostors(asked_far(rule), negatives)


def evaluate_test_part(run: Run, data: PreparedData, device: str, on_event: EventHandler) -> None:
    """Evaluate the best weights on the test part; writes predictions.csv and evaluation.json.

    Of two classes also as a yes or no: the threshold is chosen on the validation part, whose predictions are kept in
    validation_predictions.csv, and is stored with the weights in model.safetensors.
    """
    path = run.folder / "model.safetensors"
    bundle = bundles.load(path)
    run.classifier = classifier = Classifier(bundle, device)
    classes, rule = classifier.classes, run.recipe.threshold.rule
    run.predictions = _predictions_of(classifier, data.store, data.split.test, on_event)
    result = classification.classify(run.predictions, classes, "test")
    if len(classes) == 2:
        validation = _predictions_of(classifier, data.store, data.split.validation, on_event)
        write_predictions(run.folder / VALIDATION, validation, classes)
        chosen_on = f"validation part of {data.store.dataset.name}, {len(validation.paths):,} images"
        try:
            classifier.threshold = class_threshold_of(validation, classes, rule, chosen_on)
        except Undefined as error:  # the weights are as good without a threshold
            classifier.threshold = None
            on_event(Message(f"no threshold between the two classes: {error}"))
        others = tuple(one for one in bundle.thresholds if one.purpose != BINARY)
        kept = () if classifier.threshold is None else (classifier.threshold,)
        classifier.bundle = replace(bundle, thresholds=(*others, *kept))
        bundles.save(path, classifier.bundle)
        binary = evaluate_two_classes(validation, run.predictions, classes, rule)
        result = result.replace(binary=binary)
    run.evaluation = result
    write_predictions(run.folder / "predictions.csv", run.predictions, classes)
    write_json(run.folder / "evaluation.json", result.to_dict())


def evaluate(
    model: str | Path | Run,
    data: str | Path | None = None,
    *,
    task: Task | None = None,
    seed: int = 0,
    detector: str | None = None,
    unknown_classes: UnknownClasses = "errors",
    threshold: float | None = None,
    validation: str | Path | None = None,
    by: str | None = None,
    attributes: str | Path | None = None,
    out: str | Path | None = None,
    device: str | None = None,
    on_event: EventHandler = ignore_event,
) -> ClassificationResult | TaskResult | Recognition | AttackResult:
    """Evaluate a model on the test part of its run, or on other data.

    Args:
        model: a run, its directory, a bundle or .onnx file; with `data` also architecture@weights or "built-in".
        data: what `open_dataset` knows; None: the test part of the run.
        task: "classification", "verification" (every pair of images) or "identification" (search in a gallery). None:
            classification where the model has a class of the data, else verification. "attack": presentation attack
            detection; the model is then a CSV file of scores (`attack_evaluation.read_scores`).
        seed: of the split into gallery and probes. detector: as of `Recognizer`; for classification as of `predict`.
        unknown_classes: images of classes that the model does not know count as "errors" of the accuracy, or are left
            out ("leave-out").
        threshold: of "attack": a presentation is bona fide from this score on.
        validation: of "attack", in place of a threshold: a CSV file of other scores to choose it on.
        by: a column: also the error rates within each group, of classification (accuracy; of two classes FAR and FRR
            at the model's threshold), of targets (also the errors of numbers) and verification (FMR and FNMR).
        attributes: a table with `path` and the column; default: attributes.csv beside the data, or a column of the
            data.
        out: with `by`: a folder for report.html, with a chart of the groups, and evaluation.json.
    Raises:
        OtherClasses: classification, and the data have other classes. UsageError: the task needs data, or a detector
        is given for classification.
    """
    if isinstance(model, Run):
        model = model.folder
    _check_options(task, data, by, out, attack_options=threshold is not None or validation is not None)
    if task == "attack":
        return evaluate_scores(Path(model), threshold, None if validation is None else Path(validation))
    grouping = None if by is None else Grouping.read(by, attributes, data)
    found: ClassificationResult | TaskResult | Recognition | None = None
    note = None
    if data is None:
        found = _of_run(Path(model), grouping)
    elif task == "classification" or (task is None and not _has_no_classes(model)):
        try:
            classifier = load_classifier(Path(model), device, detector)
            found = _classify(Path(model), data, classifier, unknown_classes, grouping, on_event)
        except OtherClasses:
            if task is not None:
                raise
            note = f"{data} has other classes than the model: evaluated as verification"
    if found is None and data is not None:
        where = str(model), data
        if task == "identification":
            found = evaluate_identification(*where, seed=seed, detector=detector, device=device, on_event=on_event)
        else:
            verified = evaluate_verification(
                *where, detector=detector, grouping=grouping, device=device, on_event=on_event
            )
            found = replace(verified, note=note)
    assert found is not None
    if out is not None and by is not None:
        write_groups(Path(out), str(model), str(data or f"test part of {model}"), by, found)
    return found


def _check_options(
    task: Task | None, data: str | Path | None, by: str | None, out: str | Path | None, *, attack_options: bool
) -> None:
    if task == "attack" and data is not None:
        raise UsageError(f"--task attack evaluates a file of scores; remove {data}")
    if task != "attack" and attack_options:
        raise UsageError("--threshold and --validation are for --task attack")
    if task in ("verification", "identification") and data is None:
        raise UsageError(f"--task {task} needs labelled images: give DATA")
    if by is not None and task == "identification":
        raise UsageError(f"--by measures groups of classification and verification, not of {task}")
    if out is not None and by is None and task != "attack":
        raise UsageError("--out writes the page of groups: add --by COLUMN")


def _has_no_classes(model: str | Path) -> bool:
    """Return True for the built-in model, architecture@weights, and model files without classes."""
    path = Path(model)
    if built_in(str(model)) or ("@" in str(model) and not path.exists()) or face_weights(model) is not None:
        return True
    return path.is_file() and not bundles.load(path).classes


def _of_run(path: Path, grouping: Grouping | None) -> ClassificationResult | TaskResult:
    if path.is_file():
        raise UsageError(f"{path}: a model file has no test part; give DATA")
    run = Run(path)
    if grouping is None:
        return run.evaluation
    groups = grouping.of(run.predictions.paths)
    if isinstance(run.evaluation, ClassificationResult):
        return _with_subgroups(run.evaluation, run.class_predictions, groups, grouping.column)
    task, predictions = run.classifier.task, run.predictions
    assert task is not None and isinstance(predictions, TargetPredictions)
    return with_groups(run.evaluation, predictions, task, run.classifier.limits, groups, grouping.column)


def _classify(
    path: Path,
    data: str | Path,
    classifier: Classifier,
    unknown_classes: UnknownClasses,
    grouping: Grouping | None,
    on_event: EventHandler,
) -> ClassificationResult | TaskResult:
    """Evaluate a classifier on other data; OtherClasses where they have no class of the model."""
    run = None if path.is_file() else Run(path)
    if classifier.task is not None:
        found, images, predicted = _evaluate_targets_on(classifier, data, on_event)
        if grouping is not None:
            groups = grouping.of(predicted.paths, images.dataset)
            found = with_groups(found, predicted, classifier.task, classifier.limits, groups, grouping.column)
        return found if run is None else found.replace(seen=seen_images(run.folder, images.digests))
    dataset = with_face_crops(open_dataset(data), classifier.cropper)
    if (share := sample_share(dataset)) is not None:
        on_event(Message(model_advice(share)))
    store = PixelStore.open(dataset, classifier.spec, on_event=on_event)
    rows, labels, unknown = _known(store, classifier.classes, data)
    predictions = _predictions_of(classifier, store, rows, on_event, labels)
    result = classification.classify(predictions, classifier.classes, str(data))
    if unknown:
        errors = unknown_classes == "errors"
        right, n = round(result.accuracy.value * result.n), result.n + (sum(unknown.values()) if errors else 0)
        result = result.replace(accuracy=wilson(right, n), unknown_classes=unknown, unknown_as_errors=errors)
    if run is not None:
        result = result.replace(seen=seen_images(run.folder, store.digests))
    result = result.replace(binary=_binary(run, classifier, predictions))
    if grouping is None:
        return result
    return _with_subgroups(result, predictions, grouping.of(predictions.paths, store.dataset), grouping.column)


def _binary(run: Run | None, classifier: Classifier, predictions: Predictions) -> BinaryResult | None:
    """Measure two classes: of a run at the threshold chosen on its validation part, of a model file at the stored."""
    if run is None:
        stored = classifier.threshold
        return None if stored is None else evaluate_stored_threshold(stored, predictions)
    if not (run.folder / VALIDATION).is_file():
        return None
    validation = read_predictions(run.folder / VALIDATION, classifier.classes)
    return evaluate_two_classes(validation, predictions, classifier.classes, run.recipe.threshold.rule)


def _with_subgroups(
    result: ClassificationResult, predictions: Predictions, groups: list[str], column: str
) -> ClassificationResult:
    right = predictions.predicted == predictions.labels
    if result.binary is None:
        return result.replace(subgroups=rates_of_images(right, groups, column))
    scores, positive = labelled_scores(predictions)
    at = (scores, positive, result.binary.threshold, f"{result.binary.rule} on the validation part")
    accepted = scores >= result.binary.threshold
    return result.replace(subgroups=rates_of_images(accepted == positive, groups, column, at))


def _known(
    store: PixelStore, classes: tuple[str, ...], data: str | Path
) -> tuple[NDArray[np.int64], NDArray[np.int64], dict[str, int]]:
    """Find the images of the model's classes; OtherClasses where there are none.

    Their rows, (N,); the model's class numbers, (N,); and the number of images of each class it does not know.
    """
    names, labels = store.dataset.classes, store.dataset.labels
    number = {name: place for place, name in enumerate(classes)}
    if not number.keys() & set(names):
        raise OtherClasses(
            f"{data}: expected classes the model was trained on ({', '.join(classes[:5])}, ...), "
            f"found {', '.join(names[:5])}"
        )
    of_model = np.array([number.get(name, -1) for name in names], np.int64)[labels]
    unknown = {name: int((labels == place).sum()) for place, name in enumerate(names) if name not in number}
    rows = np.flatnonzero(of_model >= 0)
    return rows, of_model[rows], unknown


def _predictions_of(
    classifier: Classifier,
    store: PixelStore,
    rows: NDArray[np.int64],
    on_event: EventHandler,
    labels: NDArray[np.int64] | None = None,
) -> Predictions:
    """Predict some rows of a store; of too many classes only the measures' needs are kept; `labels`: of the model."""
    truth, classes = store.dataset.labels[rows] if labels is None else labels, len(classifier.classes)
    keep, block = keeps_scores(len(rows), classes), max(SMALLEST_BLOCK, SCORES // classes)
    scores, ranked = [], []
    for rows_of in in_blocks("testing", len(rows), on_event, block):
        part = classifier.probabilities(store.batch(rows[rows_of]))
        ranked.append(Ranked.of(truth[rows_of], part))
        scores += [part] if keep else []
    paths = tuple(store.dataset.records[row].path for row in rows)
    return Predictions(paths, truth, np.concatenate(scores) if keep else None, Ranked.joined(ranked))


def evaluate_targets(run: Run, data: PreparedData, device: str, on_event: EventHandler) -> None:
    """Evaluate the best weights on the test part, with thresholds and intervals from the validation part.

    Writes predictions.csv, validation_predictions.csv and evaluation.json; thresholds and the prediction intervals of
    numbers go into model.safetensors.
    """
    path = run.folder / "model.safetensors"
    bundle = bundles.load(path)
    task, dataset = bundle.task, data.store.dataset
    assert task is not None
    classifier = Classifier(bundle, device)
    validation = _target_predictions(classifier, data.store, data.split.validation, on_event)
    chosen_on = f"validation part of {dataset.name}, {len(validation.paths):,} images"
    thresholds, notes = attribute_thresholds(validation, task, run.recipe.threshold.rule, chosen_on)
    for note in notes:
        on_event(Message(note))
    others = (one for one in bundle.thresholds if one.purpose != ATTRIBUTE)
    task = with_intervals(validation, task)
    bundle = replace(bundle, thresholds=(*others, *thresholds), task=task)
    bundles.save(path, bundle)
    run.classifier = classifier = Classifier(bundle, device)
    run.predictions = _target_predictions(classifier, data.store, data.split.test, on_event)
    run.evaluation = measure_targets(run.predictions, task, classifier.limits, "test")
    write_target_predictions(run.folder / "validation_predictions.csv", validation, task)
    write_target_predictions(run.folder / "predictions.csv", run.predictions, task)
    write_json(run.folder / "evaluation.json", run.evaluation.to_dict())


def _evaluate_targets_on(
    classifier: Classifier, data: str | Path, on_event: EventHandler
) -> tuple[TaskResult, PixelStore, TargetPredictions]:
    """Evaluate a model with targets on other data, at the thresholds it holds; also return images and predictions."""
    assert classifier.task is not None
    dataset = open_dataset(data, labels=False).with_task(classifier.task)
    dataset = with_face_crops(dataset, classifier.cropper)
    if (share := sample_share(dataset)) is not None:
        on_event(Message(model_advice(share)))
    store = PixelStore.open(dataset, classifier.spec, on_event=on_event)
    predictions = _target_predictions(classifier, store, np.arange(len(store.dataset)), on_event)
    return measure_targets(predictions, classifier.task, classifier.limits, str(data)), store, predictions


def _target_predictions(
    classifier: Classifier, store: PixelStore, rows: NDArray[np.int64], on_event: EventHandler
) -> TargetPredictions:
    assert classifier.task is not None
    blocks = in_blocks("testing", len(rows), on_event)
    found = [target_values(classifier.logits(store.batch(rows[part])), classifier.task) for part in blocks]
    predicted = np.concatenate([np.zeros((0, len(classifier.task.values))), *found])
    paths = tuple(store.dataset.records[row].path for row in rows)
    return TargetPredictions(paths, store.dataset.truth[rows].astype(np.float64), predicted)
