"""Train several architectures on one split, one after the other, and compare them."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from facewright.data.records import Dataset
from facewright.data.sources import open_dataset
from facewright.errors import UsageError
from facewright.events import EventHandler, Message, Progress, ignore_event
from facewright.runs import Run
from facewright.training import recipe as recipes
from facewright.training.recipe import Recipe
from facewright.training.trackers import chosen_trackers
from facewright.workflows.comparison import REPORTING, Compared, compare
from facewright.workflows.dry_runs import DryRun, dry_run
from facewright.workflows.training_jobs import resumed_by
from facewright.workflows.training_requests import (
    TrainedModel,
    check_model,
    check_weights,
    folder_name,
    free_folder,
    start_of,
    with_one_class_order,
)
from facewright.workflows.training_runs import train

TRAINING_SHARE = 0.85  # of the time; the rest is for the evaluation, the latency and the page


def train_all(
    data: str | Path | Dataset,
    models: Sequence[str],
    *,
    recipe: str | Path | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    overrides: Mapping[str, str] | None = None,
    task: str | None = None,
    device: str | None = None,
    budget: float | None = None,
    track: Sequence[str] | None = None,
    on_event: EventHandler = ignore_event,
) -> Compared:
    """Train several models on one split and compare them; the page is `out`/report.html.

    Called again with the same `out` it resumes: finished runs are kept, an unfinished one is resumed.

    Args:
        models: names of `facewright models`, name@weights, or runs as for `train`: the classes of the runs come first,
            in one order for all. Everything else as for `train`.
        budget: seconds in all: each model gets as many epochs as fit into its share of the time that is left, at most
            those of the recipe; None: the recipe's epochs.
    Raises:
        UsageError: a model is named twice, or unknown, or two runs have their classes in different orders; found
        before training starts.
    """
    out = None if out is None else Path(out)
    chosen_trackers(track)
    starts, recipes_, trained = _checked(models, recipe, overrides or {})
    dataset = data if isinstance(data, Dataset) else open_dataset(data, labels=task is None)
    dataset = with_one_class_order(dataset, trained) if task is None else dataset
    folder = out or free_folder(f"{dataset.name}-compare")
    runs, deadline = [], None if budget is None else time.monotonic() + budget
    timed = partial(dry_run, dataset, recipe=recipe, seed=seed, task=task, device=device, on_event=on_event)
    for number, (name, chosen, place) in enumerate(zip(models, recipes_, _places(folder, starts), strict=True)):
        changes = overrides or {}
        if deadline is not None:
            share = (deadline - time.monotonic()) / (len(models) - number)
            tried = partial(timed, model=name, overrides=changes)
            changes = {**changes, **_epochs_of(_fitted(name, chosen, place, share, tried, on_event))}
        with resumed_by(f"the same command and --out {shlex.quote(str(folder))}"):
            run = train(
                dataset, model=name, recipe=recipe, out=place, seed=seed, overrides=changes, task=task, resume=True,
                report=False, device=device, track=track, on_event=on_event,
            )  # fmt: skip
        runs.append(run)
    on_event(Progress(REPORTING, 0, 1))
    compared = compare(runs)
    compared.write(folder)
    return compared


def _checked(
    models: Sequence[str], recipe: str | Path | None, overrides: Mapping[str, str]
) -> tuple[list[str], list[Recipe], list[TrainedModel]]:
    """Return what each training starts from and its recipe, and the trained models among them."""
    starts, chosen, trained = list[str](), list[Recipe](), list[TrainedModel]()
    for name in models:
        start, own, begun = start_of(name, recipe)
        chosen.append(recipes.override(own, overrides))
        check_model(start, chosen[-1])
        check_weights(start, chosen[-1])
        starts.append(start)
        if begun is not None:
            begun.check_input(chosen[-1])
            trained.append(begun)
    if len(set(starts)) != len(models) or not models:
        raise UsageError(f"expected distinct models, got {', '.join(models) or 'none'}")
    return starts, chosen, trained


def _places(folder: Path, starts: Sequence[str]) -> list[Path]:
    """Return a folder for each run; of equal names the second is NAME-2."""
    names: list[str] = []
    for start in starts:
        name, number = folder_name(start), 1
        while name.casefold() in {taken.casefold() for taken in names}:
            number += 1
            name = f"{folder_name(start)}-{number}"
        names.append(name)
    return [folder / name for name in names]


def _fitted(
    model: str, recipe: Recipe, place: Path, seconds: float, timed: Callable[[], DryRun], on_event: EventHandler
) -> Recipe:
    """Return the recipe with the epochs that fit into the time; of a run that is begun its own."""
    if (place / "recipe.toml").is_file():
        return Run(place).recipe
    if recipe.probe is not None:
        return recipe
    started = time.monotonic()
    whole = timed().seconds
    left = max(0.0, TRAINING_SHARE * (seconds - (time.monotonic() - started)))
    fitted = recipe.with_epochs(min(1.0, left / whole))
    on_event(Message(f"{model}: {fitted.epochs} of {recipe.epochs} epochs fit into {left:,.0f} s"))
    return fitted


def _epochs_of(recipe: Recipe) -> dict[str, str]:
    if recipe.phases:
        return {f"phases.{name}.epochs": str(phase.epochs) for name, phase in recipe.phases.items()}
    return {"training.epochs": str(recipe.training.epochs)}
