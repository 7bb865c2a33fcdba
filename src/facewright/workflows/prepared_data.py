"""Data made ready to train on: decoded, split, measured."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from facewright.data import splits
from facewright.data.audit import about_copies
from facewright.data.duplicates import near_pairs
from facewright.data.records import Dataset
from facewright.data.splits import Split
from facewright.data.store import PixelStore
from facewright.errors import DataError
from facewright.events import EventHandler, Message
from facewright.input_spec import InputSpec
from facewright.training.recipe import Recipe

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean, std of its training part


@dataclass(frozen=True)
class Material:
    """A dataset decoded and split."""

    store: PixelStore
    split: Split
    spec: InputSpec
    fingerprint: str


def prepare(
    dataset: Dataset, recipe: Recipe, seed: int, kept: Path, on_event: EventHandler, wanted: InputSpec | None = None
) -> Material:
    """Decode, split and measure the pixels.

    Args:
        kept: a split.csv; where it exists, it is the split.
        wanted: what the public weights were trained to see; None where there are none.
    Raises:
        DataError: fewer than two classes, too few images for three parts, or nothing readable.
    """
    if len(dataset.classes) < 2:
        only = ", ".join(dataset.classes) or "none"
        raise DataError(f"{dataset.where}: expected at least two classes to tell apart, found {only}")
    store = open_store(dataset, recipe.input.size, recipe.input.resize, on_event, verify=True)
    for broken in store.dataset.broken:
        on_event(Message(f"left out: {broken.path}: {broken.reason}"))
    split = Split.load(kept, store.dataset, store.digests) if kept.is_file() else _split(store, recipe, seed)
    for note in split.notes:
        on_event(Message(note))
    if len(split.train) < 2 or not len(split.validation) or not len(split.test):
        raise DataError(
            f"{dataset.where}: expected images for training, validation and test, got "
            f"{len(split.train)}, {len(split.validation)}, {len(split.test)}; give every class at least three"
        )
    return Material(store, split, _spec(store, split, recipe, wanted), store.dataset.fingerprint(store.digests))


def open_store(dataset: Dataset, size: int, resize: str, on_event: EventHandler, *, verify: bool = False) -> PixelStore:
    """The dataset's pixels at one size, raw."""
    raw = InputSpec.from_dict(
        {"height": size, "width": size, "mean": [0.0] * 3, "std": [1.0] * 3, "colour_order": "rgb", "resize": resize}
    )
    return PixelStore.open(dataset, raw, on_event=on_event, verify=verify)


def _split(store: PixelStore, recipe: Recipe, seed: int) -> Split:
    """By the data's own parts, or stratified; copies of a picture, exact or nearly so, stay on one side."""
    near = near_pairs(store.pixels, store.digests)
    groups = splits.groups_of(store.digests, [(int(first), int(second)) for first, second in near.pairs])
    shares = recipe.shares
    if any(record.split is not None for record in store.dataset.records):
        split = splits.given(store.dataset, groups, seed, shares.validation, shares.test)
    else:
        split = splits.stratified(store.dataset.labels, groups, seed, shares.validation, shares.test)
    split = splits.explained(split, store.dataset, groups, shares.test)
    return replace(split, notes=(*store.dataset.notes, *split.notes, *about_copies(store, near)))


def _spec(store: PixelStore, split: Split, recipe: Recipe, wanted: InputSpec | None) -> InputSpec:
    """What the network is fed; statistics are of the training part alone."""
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
