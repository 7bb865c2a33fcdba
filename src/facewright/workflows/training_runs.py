"""Training: of one model in one run directory, of several on one split, and of the demonstration."""

from __future__ import annotations

import dataclasses
import shlex
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from facewright import devices
from facewright.data.audit import Audit
from facewright.data.records import Dataset
from facewright.data.sources import open_dataset
from facewright.errors import ResumeError, RunError, UsageError
from facewright.events import EventHandler, Message, Progress, ignore_event
from facewright.files import write_atomic
from facewright.inference import Prediction
from facewright.runs import Run, RunFacts, owned
from facewright.specs import dotted
from facewright.training import recipe as recipes
from facewright.training.distributed import joined
from facewright.training.recipe import Recipe
from facewright.training.trackers import TrackedRun, chosen_trackers, tracking
from facewright.workflows.comparison import REPORTING, Compared, compare
from facewright.workflows.dry_runs import DryRun, dry_run
from facewright.workflows.inspection import inspect
from facewright.workflows.prediction import predict
from facewright.workflows.training_jobs import finish_job, prepared, train_job
from facewright.workflows.training_requests import (
    Job,
    Request,
    TrainedModel,
    check_model,
    check_weights,
    folder_name,
    free_folder,
    requested,
    resumed_by,
    start_of,
    with_one_class_order,
)

TRAINING_SHARE = 0.85  # of the time; the rest is for the evaluation, the latency and the page
SHOWN = 5  # test images to predict, none of which was trained on
MODELS = ("resnet18", "xception", "densenet121")
BUDGET = 200.0  # seconds of the trainings of the full demonstration, whose epochs fit the machine


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
    if not resume:
        raise RunError(f"{folder}: a run is already there; resume it by --resume, or choose another --out")
    run = Run(folder)
    for key, asked, found in (("model", model, run.facts.start), ("seed", seed, run.facts.seed)):
        if asked != found:
            raise ResumeError(f"{folder}: the run there has {key} {found}, not {asked}; choose another --out")
    if recipe != run.recipe.model_copy(update={"description": recipe.description}):  # its words may change
        raise ResumeError(f"{folder}: the run there has another recipe (see its recipe.toml); choose another --out")


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


@dataclass(frozen=True)
class Demonstration:
    """The results of the demonstration."""

    audit: Audit
    compared: Compared
    predictions: tuple[Prediction, ...]
    folder: Path
    report: Path

    def to_dict(self) -> dict[str, Any]:
        """As `demo --json` prints it."""
        return {
            "report": str(self.report),
            "inspect": self.audit.to_dict(),
            "comparison": self.compared.to_dict(),
            "predictions": [prediction.to_dict() for prediction in self.predictions],
        }


def demo(
    out: str | Path, *, quick: bool = False, device: str | None = None, on_event: EventHandler = ignore_event
) -> Demonstration:
    """Run the main job on synthetic faces; everything lies in `out` afterwards, the page is `out`/report.html."""
    people, images, side, epochs, budget = (8, 40, 48, 3, None) if quick else (16, 60, 64, 20, BUDGET)
    where = f"synthetic:faces?identities={people}&images={images}&size={side}&seed=0"
    overrides = {"input.size": str(side), "training.epochs": str(epochs), "training.precision": "float32"}
    folder = Path(out) / ("quick" if quick else "full")
    folder.mkdir(parents=True, exist_ok=True)
    on_event(Message(f"1. look at the data: facewright inspect '{where}'"))
    found, sheet = inspect(where, on_event=on_event)
    write_atomic(folder / "contact-sheet.png", sheet)
    changes = [f"--set {key}={value}" for key, value in overrides.items()]
    changes += [] if budget is None else [f"--budget {budget:g}s"]
    command = f"facewright compare '{where}' --models {','.join(MODELS)} {' '.join(changes)}"
    on_event(Message(f"2. train and compare: {command}"))
    with resumed_by("the same command"):
        compared = train_all(
            where, MODELS, out=folder, overrides=overrides, budget=budget, device=device, on_event=on_event
        )
    best = max(compared.runs, key=lambda run: run.classification.accuracy.value)
    shown = _test_images(best, folder / "photos")
    on_event(Message(f"3. predict: facewright predict {best.folder} {folder / 'photos'}"))
    predictions = predict(best.folder, shown, top_k=3, device=device)
    return Demonstration(found, compared, tuple(predictions), folder, folder / "report.html")


def _test_images(run: Run, folder: Path) -> list[Path]:
    """A few images of the test part as files, named by who they truly are."""
    folder.mkdir(exist_ok=True)
    dataset = open_dataset(run.facts.where)
    records = {record.path: record for record in dataset.records}
    step = max(1, len(run.predictions.paths) // SHOWN)
    written = []
    for path in run.predictions.paths[::step][:SHOWN]:
        target = folder / path.replace("/", "_")
        target = target if target.suffix == ".png" else target.with_name(f"{target.name}.png")
        Image.fromarray(dataset.source.read(records[path], None)).save(target)
        written.append(target)
    return written
