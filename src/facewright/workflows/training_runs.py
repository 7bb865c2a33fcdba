"""Train one model: open → split → train → test → report, in one run directory."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from facewright import devices
from facewright.data.records import Dataset
from facewright.errors import ResumeError, RunError, UsageError
from facewright.events import EventHandler, Progress, ignore_event
from facewright.runs import Run, RunFacts, owned
from facewright.specs import dotted
from facewright.training import recipe as recipes
from facewright.training.distributed import joined
from facewright.training.recipe import Recipe
from facewright.training.trackers import TrackedRun, chosen_trackers, tracking
from facewright.workflows.comparison import REPORTING, compare
from facewright.workflows.training_jobs import finish_job, prepared, train_job
from facewright.workflows.training_requests import Job, Request, check_weights, folder_name, free_folder, requested


def train(
    data: str | Path | Dataset,
    *,
    model: str = "resnet18",
    recipe: str | Path | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    overrides: Mapping[str, str] | None = None,
    task: str | None = None,
    resume: bool = False,
    report: bool = True,
    device: str | None = None,
    track: Sequence[str] | None = None,
    on_event: EventHandler = ignore_event,
) -> Run:
    """Train one model, evaluate it on the test part, and leave everything in a run directory.

    Args:
        data: anything `open_dataset` knows, or what it gave.
        model: a name of `facewright models`, or name@weights: released weights by name, or a file. Or a run or the
            model file of one: its classes stay first, in their order, and new ones follow.
        recipe: a shipped recipe, or a TOML file; None: `finetune` for public weights, `scratch` for random ones, and
            for a run `probe` with its input: the backbone is kept, a new classifier is fitted.
        out: the run directory; a new one under runs/ where None.
        seed: of the split, the random weights, the order and the augmentation.
        overrides: recipe values to change, {"training.epochs": "5"}; "training.batch" may be
            "auto": the largest that fits.
        task: targets in place of classes: "attributes:male,smiling" (columns of yes, no and unknown), or "attributes"
            for all such columns; None: classes, or the targets of the recipe or of `Dataset.with_task`.
        resume: resume a run that stopped, bit-identical to one that did not; start it where there is none.
        report: also write report.html.
        device: auto, cpu, cuda, cuda:N, mps or xpu; None: FACEWRIGHT_DEVICE, else auto.
        track: csv, mlflow, tensorboard, wandb; None: TensorBoard where it is installed. metrics.csv is always written.
    Raises:
        DataError, UsageError: what was asked for cannot be done; found before training starts.
        RunLocked: another process trains there.
        NonFiniteLoss: training diverged.
        Interrupted: a signal came; the state is saved.
        DeviceFault: the device has no memory left, or failed.
    """
    out, track = None if out is None else Path(out), chosen_trackers(track)
    asked = requested(data, model, recipe, overrides or {}, task, on_event)
    dataset = asked.dataset
    folder = out or free_folder(f"{dataset.name}-{folder_name(asked.model)}")
    if folder.resolve().is_relative_to(dataset.where):  # its folders would be classes the next time
        raise UsageError(f"{folder}: lies in the dataset {dataset.where}; choose an --out beside it")
    with joined(devices.choose(device)) as world, owned(folder) if world.is_main_process else nullcontext():
        if (folder / "run.json").is_file():
            begun = _as_begun(asked, Run(folder).recipe)
            _check_same(folder, asked.model, begun, seed, resume)
            dataset = dataset.with_classes_first(RunFacts.read(folder).classes)
            asked = dataclasses.replace(asked, recipe=begun, dataset=dataset, widest=False)
        else:
            check_weights(asked.model, asked.recipe)
        world.barrier()
        job = prepared(folder, asked, seed, world, on_event)
        tracked = TrackedRun(folder, job.facts.title, job.facts.started, _parameters(job))
        with tracking(track if world.is_main_process else (), tracked, job.on_event) as log:
            job = dataclasses.replace(job, on_event=log)
            result = train_job(job)
            run = Run(folder)
            if world.is_main_process and result is not None:
                finish_job(job, run, result)
        if world.is_main_process and report:
            job.on_event(Progress(REPORTING, 0, 1))
            compare([run], job.data.store).to_html(folder / "report.html")
        world.barrier()
        return run


def resume(
    folder: str | Path,
    *,
    device: str | None = None,
    track: Sequence[str] | None = None,
    on_event: EventHandler = ignore_event,
) -> Run:
    """Resume the run in a directory, with the data, model, recipe and seed it was started with.

    Raises:
        RunError: this is no run directory.
        ResumeError: its data changed since, or no checkpoint is whole.
    """
    folder = Path(folder)
    facts = Run(folder).facts
    recipe = folder / "recipe.toml"
    return train(
        facts.where,
        model=facts.start,
        recipe=recipe,
        out=folder,
        seed=facts.seed,
        resume=True,
        device=device,
        track=track,
        on_event=on_event,
    )


def _parameters(job: Job) -> dict[str, str | int | float | bool]:
    """Return what a tracker lists beside the curves: the facts of the run and every value of the recipe."""
    facts, recipe = job.facts, tomllib.loads(job.recipe.to_toml())
    values: dict[str, str | int | float | bool] = {"model": facts.title, "dataset": facts.dataset, "seed": facts.seed}
    values |= {"precision": facts.precision, "data": facts.fingerprint, "parameters": facts.parameters}
    for key in dotted(recipe):
        value: Any = recipe
        for part in key.split("."):
            value = value[part]
        values[f"recipe.{key}"] = value if isinstance(value, str | int | float) else str(value)
    return values


def _as_begun(asked: Request, begun: Recipe) -> Recipe:
    """Return the recipe asked for with what was found when the run began, and the phase names it has."""
    found: dict[str, str] = {}
    if asked.widest:
        found["training.batch"] = str(begun.training.batch)
    if asked.recipe.training.deterministic == "auto":  # of an older run that was `false`
        found["training.deterministic"] = str(begun.training.deterministic).lower()
    return recipes.override(asked.recipe, found).with_phase_names_of(begun)


def _check_same(folder: Path, model: str, recipe: Recipe, seed: int, resume: bool) -> None:
    """Refuse a directory that holds another run."""
    if not resume:
        raise RunError(f"{folder}: a run is already there; resume it by --resume, or choose another --out")
    run = Run(folder)
    for key, asked, found in (("model", model, run.facts.start), ("seed", seed, run.facts.seed)):
        if asked != found:
            raise ResumeError(f"{folder}: the run there has {key} {found}, not {asked}; choose another --out")
    if recipe != run.recipe.model_copy(update={"description": recipe.description}):  # its words may change
        raise ResumeError(f"{folder}: the run there has another recipe (see its recipe.toml); choose another --out")
