"""A dataset before anything is trained on it: inspected, written as arrays, or decoded and split for a training."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from facewright.data import splits
from facewright.data.audit import Audit, about_copies, audit, explained
from facewright.data.duplicates import near_pairs
from facewright.data.exporting import Exported, contact_sheet, export_npz
from facewright.data.pairs import Pairs, read_pairs, set_of
from facewright.data.records import Dataset
from facewright.data.sources import open_dataset
from facewright.data.splits import Split
from facewright.data.store import PixelStore
from facewright.data.targets import check_targets, complete, task_of
from facewright.errors import DataError, UsageError
from facewright.events import EventHandler, Message, Progress, ignore_event
from facewright.faces.crops import SIDE as CROP_SIDE
from facewright.faces.crops import FaceCropper, advice, sample_share, with_face_crops
from facewright.faces.selection import SelectFace
from facewright.images import png_of
from facewright.input_spec import ColourOrder, InputSpec
from facewright.training.added_images import check_smaller_class, face_class
from facewright.training.loading import VerificationSet
from facewright.training.recipe import Recipe

SIDE = 112  # pixels: what the contact sheet shows and near duplicates are searched at
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean, std of its training part


def inspect(
    where: str | Path, *, detector: str | None = None, form: str | None = None, on_event: EventHandler = ignore_event
) -> tuple[Audit, bytes]:
    """Return what is in a dataset, and a contact sheet of it (PNG).

    Args:
        detector: finds the faces that the images are cropped to, as a training with it would; "none": the images are
            crops; None: a few images are looked at, and a warning says if they are uncropped.
        form: of the stored images, as of `PixelStore.open`.
    """
    dataset = open_dataset(where)
    share = None if detector is not None else sample_share(dataset)
    if detector not in (None, "none"):
        dataset = with_face_crops(dataset, FaceCropper(detector))
    store = open_store(dataset, SIDE, "cover", on_event, form=form)
    sheet = png_of(np.asarray(contact_sheet(store)))
    found = audit(store)
    if share is not None:
        found = found.replace(warnings=(*found.warnings, advice(share)))
    return found, sheet


def export_dataset(
    dataset: str | Path | Dataset,
    out: str | Path,
    *,
    size: int | None = None,
    colour_order: ColourOrder = "rgb",
    detector: str | None = None,
    select_face: SelectFace | None = None,
    on_event: EventHandler = ignore_event,
) -> Exported:
    """Write a dataset as arrays, by `data.exporting.export_npz`, which describes the other arguments.

    Args:
        size: side in pixels; None: as the images are, or 256 for crops.
        detector: finds the face that each image is cropped to, as a training with it would; None, "none": whole images.
        select_face: of several faces; None: the one nearest to the center.
    Raises:
        UsageError: also a face is to be selected without a detector.
        DataError: also no image shows a face.
    """
    dataset = dataset if isinstance(dataset, Dataset) else open_dataset(dataset)
    if detector not in (None, "none"):
        which = "centre" if select_face is None or select_face == "center" else select_face
        dataset = with_face_crops(dataset, FaceCropper(detector, which, size or CROP_SIDE))
    elif select_face is not None:
        raise UsageError("select_face chooses among the faces that a detector finds: add --detector")
    return export_npz(dataset, out, size=size, colour_order=colour_order, on_event=on_event)


@dataclass(frozen=True)
class PreparedData:
    """A dataset decoded and split."""

    store: PixelStore
    split: Split
    spec: InputSpec
    fingerprint: str
    sets: tuple[VerificationSet, ...] = ()  # of `recipe.selection`


def with_targets(dataset: Dataset, recipe: Recipe, task: str | None) -> tuple[Dataset, Recipe]:
    """Return the data and the recipe with the targets that one of them has or that are asked for.

    Args:
        task: as `data.targets.task_of`; None: the recipe's or the data's.
    Raises:
        UsageError: another text, or a recipe that needs classes. DataError: a value that cannot be read.
    """
    if task is not None:
        recipe = recipe.with_task(task_of(task, dataset.all_columns, dataset.column, dataset.where))
    elif (given := recipe.task or dataset.task) is not None:
        recipe = recipe.with_task(complete(given, dataset.column, dataset.where))
    return (dataset if recipe.task is None else dataset.with_task(recipe.task)), recipe


def check_classes(dataset: Dataset, recipe: Recipe) -> None:
    """Refuse, before anything is decoded, classes that the recipe cannot be trained on.

    Raises:
        DataError: fewer than two classes.
        UsageError: the recipe is for two classes and there are more; or none of the two is that of the faces.
    """
    count = len(dataset.classes)
    if recipe.task is not None:
        return
    if count < 2:
        only = ", ".join(dataset.classes) or "none"
        raise DataError(f"{dataset.where}: expected at least two classes to tell apart, found {only}")
    two = ((recipe.selection.metric, "hter"), (recipe.head.kind, "sigmoid"), (recipe.sampling.plan, "generate"))
    for two_only, setting in two:
        if two_only == setting and count != 2:
            raise UsageError(f"{setting} is for two classes, the data has {count}; choose another recipe or value")
    if any(phase.hard_negatives for phase in recipe.all_phases.values()):
        face_class(recipe, dataset.classes)


def prepare(
    dataset: Dataset, recipe: Recipe, seed: int, kept: Path, on_event: EventHandler, wanted: InputSpec | None = None
) -> PreparedData:
    """Decode, split and measure the pixels.

    Args:
        kept: a split.csv; where it exists, it is the split.
        wanted: the input of the public weights; None where there are none.
    Raises:
        DataError: too few images for three parts, or nothing readable, or a target without one of its answers.
    """
    lists = [(read_pairs(*set_of(word)), set_of(word)[1]) for word in recipe.selection.sets]  # before long work
    if recipe.selection.metric == "verification" and not lists:
        on_event(Message("selection.sets names no verification set: the validation loss chooses the best epoch"))
    cropper = cropper_of(recipe)
    on_event(Progress("looking at a sample", 0, 1))
    if cropper is None and (share := sample_share(dataset)) is not None:
        on_event(Message(advice(share)))
    dataset = with_face_crops(dataset, cropper)
    chosen, form = recipe.input, recipe.training.store
    store = open_store(dataset, chosen.size, chosen.resize, on_event, verify=True, form=form)
    for broken in store.dataset.broken:
        on_event(Message(f"left out: {broken.path}: {broken.reason}"))
    on_event(Progress("looking for copies and near copies", 0, 1))
    split = Split.load(kept, store.dataset, store.digests) if kept.is_file() else _split(store, recipe, seed)
    for note in split.notes:
        on_event(Message(note))
    _check_parts(store.dataset, split, recipe, on_event)
    on_event(Progress("measuring mean and standard deviation", 0, 1))
    spec = replace(_spec(store, split, recipe, wanted), faces=None if cropper is None else cropper.spec)
    sets = tuple(_opened(pairs, images, recipe, cropper, on_event) for pairs, images in lists)
    return PreparedData(store, split, spec, store.dataset.fingerprint(store.digests), sets)


def _check_parts(dataset: Dataset, split: Split, recipe: Recipe, on_event: EventHandler) -> None:
    """Refuse parts that the recipe cannot be trained on; tell of numbers that mirroring an image may change."""
    if len(split.train) < 2 or not len(split.validation) or not len(split.test):
        raise DataError(
            f"{dataset.where}: expected images for training, validation and test, got "
            f"{len(split.train)}, {len(split.validation)}, {len(split.test)}; give every class at least three"
        )
    if recipe.sampling.plan == "generate":
        check_smaller_class(dataset, split.train, recipe)
    if recipe.task is None:
        return
    truth = dataset.targets[split.train]
    check_targets(recipe.task, truth, dataset.where)
    for target, _, place, _ in recipe.task.of_kind("number"):
        values = truth[:, place]
        if recipe.augment.flip and np.nanmin(values) < 0 < np.nanmax(values):
            on_event(
                Message(f"{target.name} has both signs: if mirroring an image changes its sign, set augment.flip=0")
            )


def _opened(
    pairs: Pairs, images: Path | None, recipe: Recipe, cropper: FaceCropper | None, on_event: EventHandler
) -> VerificationSet:
    dataset = with_face_crops(pairs.dataset(images), cropper)
    chosen, form = recipe.input, recipe.training.store
    store = open_store(dataset, chosen.size, chosen.resize, on_event, form=form)
    rows = pairs.rows(store.dataset.records)
    failures = int((rows < 0).any(axis=1).sum())
    if failures:
        lost = f"{failures:,} of {len(rows):,} pairs lack a readable image or a face"
        on_event(Message(f"{pairs.name}: {lost}; they count as errors"))
    return VerificationSet(pairs.name, store, rows, pairs.same, pairs.fold)


def cropper_of(recipe: Recipe) -> FaceCropper | None:
    """Return what cuts the faces out of a recipe's images; None where images are taken whole."""
    chosen = recipe.input
    return None if chosen.detector == "none" else FaceCropper(chosen.detector, chosen.select_face, chosen.size)


def open_store(
    dataset: Dataset, size: int, resize: str, on_event: EventHandler, *, verify: bool = False, form: str | None = None
) -> PixelStore:
    """Open the dataset's pixels at one size, not normalised."""
    raw = InputSpec.from_dict(
        {"height": size, "width": size, "mean": [0.0] * 3, "std": [1.0] * 3, "colour_order": "rgb", "resize": resize}
    )
    return PixelStore.open(dataset, raw, on_event=on_event, verify=verify, form=form)


def _split(store: PixelStore, recipe: Recipe, seed: int) -> Split:
    """Split by the data's own parts, or stratified; exact and near duplicates are kept in the same part."""
    near = near_pairs(store.pixels, store.digests)
    groups = splits.groups_of(store.digests, [(int(first), int(second)) for first, second in near.pairs])
    shares = recipe.shares
    people = [record.identity or record.path for record in store.dataset.records]
    by_person = recipe.task is not None and any(record.identity for record in store.dataset.records)
    if any(record.split is not None for record in store.dataset.records):
        carved_by = people if by_person else None
        split = splits.given(store.dataset, groups, seed, shares.validation, shares.test, carved_by)
    elif by_person:
        note = f"split by identity: {len(set(people)):,} people, each in one part"
        split = splits.by_identity(people, groups, seed, shares.validation, shares.test)
        split = replace(split, notes=(note,))
    else:
        split = splits.stratified(store.dataset.labels, groups, seed, shares.validation, shares.test)
    given_test = any(record.split == "test" for record in store.dataset.records)
    test = 1.0 if given_test else shares.test  # a given part is kept as published, copies and all
    split = explained(split, store.dataset, groups, test)
    return replace(split, notes=(*store.dataset.notes, *split.notes, *about_copies(store, near)))


def _spec(store: PixelStore, split: Split, recipe: Recipe, wanted: InputSpec | None) -> InputSpec:
    """Return the network's input; statistics are of the training part alone."""
    if recipe.input.normalise == "weights" and wanted is not None:
        size = recipe.input.size
        return replace(wanted, height=size, width=size, resize=recipe.input.resize)
    mean, std = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)) if recipe.input.normalise == "unit" else IMAGENET
    if recipe.input.normalise in ("dataset", "weights"):
        measured = store.statistics(split.train)
        mean, std = _three(measured.mean), _three([max(float(value), 1e-3) for value in measured.std])
    return InputSpec(recipe.input.size, recipe.input.size, mean, std, resize=recipe.input.resize)


def _three(values: object) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)  # type: ignore[attr-defined]
    return red, green, blue
