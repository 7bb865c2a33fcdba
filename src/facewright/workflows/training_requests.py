"""A request to train: checked, and the data listed, before anything is decoded."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path

from facewright.data.records import Dataset
from facewright.data.sources import open_dataset
from facewright.events import EventHandler, Message, Progress, ignore_event
from facewright.training import recipe as recipes
from facewright.training.recipe import Recipe
from facewright.workflows.initial_weights import check_model, start_of
from facewright.workflows.prepared_data import check_classes, with_targets

LOG = logging.getLogger("facewright.training")
AUTO = "auto"  # as `training.batch`: the largest that fits


@dataclasses.dataclass(frozen=True)
class Request:
    """The model to train, the data, and the settings."""

    dataset: Dataset
    model: str  # architecture, or architecture@weights
    stem: str
    recipe: Recipe
    widest: bool = False  # the batch is still to be found


def requested(
    data: str | Path | Dataset,
    model: str,
    recipe: str | Path | None,
    overrides: Mapping[str, str],
    task: str | None = None,
    on_event: EventHandler = ignore_event,
) -> Request:
    """Check what is asked for and list the data, before anything is decoded. Args, Raises: as of `train`."""
    model, own, begun = start_of(model, recipe)
    overrides = dict(overrides)
    widest = overrides.get("training.batch") == AUTO and bool(overrides.pop("training.batch"))
    chosen = recipes.override(own, overrides)
    stem = check_model(model, chosen)  # an unknown model is found before anything is decoded
    targets = task is not None or chosen.task is not None
    on_event(Progress("listing the images", 0, 1))
    dataset = data if isinstance(data, Dataset) else open_dataset(data, labels=not targets)
    dataset, chosen = with_targets(dataset, chosen, task)
    if begun is not None:
        begun.check_input(chosen)
    if begun is not None and chosen.task is None:
        dataset = dataset.with_classes_first(begun.bundle.classes)
        on_event(Message(begun.changes(dataset.classes)))
    check_classes(dataset, chosen)
    LOG.info("%s: %d images, %d classes, layout %s", dataset.where, len(dataset), len(dataset.classes), dataset.layout)
    LOG.info("%s by %s, stem %s", model, chosen.name, stem)
    LOG.debug("recipe: %s", chosen.to_toml())
    return Request(dataset, model, stem, chosen, widest)


def free_folder(name: str) -> Path:
    """Return runs/NAME-1, or the next number that is free."""
    clean, number = folder_name(name), 1
    while (Path("runs") / f"{clean}-{number}").exists():
        number += 1
    return Path("runs") / f"{clean}-{number}"


def folder_name(text: str) -> str:
    """Make a name that every file system takes; of weights in a file, its name.

    >>> folder_name("mobilefacenet@/weights/arc.safetensors")
    'mobilefacenet-arc'
    """
    architecture, _, weights = text.partition("@")
    text = f"{architecture}-{Path(weights).name.removesuffix('.safetensors')}" if weights else text
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in text).strip("-.") or "run"
