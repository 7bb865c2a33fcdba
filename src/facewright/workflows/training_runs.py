"""Train one model: open → split → train → test → report, in one run directory."""

from __future__ import annotations

import dataclasses
import logging
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from facewright import bundle as bundles
from facewright import devices, platforms
from facewright.data.loaders import Loader
from facewright.data.records import Dataset
from facewright.data.sources import open_dataset
from facewright.data.targets import with_ranges
from facewright.errors import ResumeError, RunError, UsageError
from facewright.evaluation.results import ClassificationResult
from facewright.events import EpochRow, EventHandler, Message, RunEvaluated, RunStarted, ignore_event
from facewright.files import cache_folder, write_atomic, write_manifest
from facewright.models.summary import summarize
from facewright.runs import LISTED, Run, RunFacts, owned
from facewright.specs import dotted
from facewright.training import batch_size, checkpoints, precision
from facewright.training import recipe as recipes
from facewright.training.assembly import assemble, data_of, starting_network
from facewright.training.distributed import World, joined
from facewright.training.recipe import Recipe
from facewright.training.trackers import TrackedRun, chosen_trackers, tracking
from facewright.training.trainer import Trainer
from facewright.workflows import provenance
from facewright.workflows.comparison import compare
from facewright.workflows.evaluation import check_evaluation, evaluate_test_part
from facewright.workflows.initial_weights import (
    InitialWeights,
    check_model,
    check_weights,
    initial_weights,
    recipe_for,
    trained_model,
)
from facewright.workflows.linear_probe import probe
from facewright.workflows.prepared_data import PreparedData, check_classes, prepare, with_targets
from facewright.workflows.task_evaluation import evaluate_targets

LOG = logging.getLogger("facewright.training")
AUTO = "auto"  # as `training.batch`: the largest that fits
FEWEST_STEPS = 4  # of an epoch, where the batch is chosen
FORMATS = ("float32", "bfloat16", "float16")  # among which `auto` chooses
UNEQUAL = ", at the same position; not bit-identical: that takes --deterministic from the start"


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
            if asked.widest:  # it was found when the run began
                batch = str(Run(folder).recipe.training.batch)
                found = recipes.override(asked.recipe, {"training.batch": batch})
                asked = dataclasses.replace(asked, recipe=found, widest=False)
            _check_same(folder, asked.model, asked.recipe, seed, resume)
            asked = dataclasses.replace(asked, dataset=dataset.with_classes_first(RunFacts.read(folder).classes))
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


@dataclasses.dataclass(frozen=True)
class Request:
    """What is to be trained on what."""

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
    begun = trained_model(model)
    model = model if begun is None else begun.start
    own = begun.recipe if begun is not None and recipe is None else recipe_for(model, recipe)
    overrides = dict(overrides)
    widest = overrides.get("training.batch") == AUTO and bool(overrides.pop("training.batch"))
    chosen = recipes.override(own, overrides)
    stem = check_model(model, chosen)  # an unknown model is found before anything is decoded
    targets = task is not None or chosen.task is not None
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


@dataclasses.dataclass(frozen=True)
class Job:
    """A run that is ready to be trained."""

    folder: Path
    network: nn.Module
    data: PreparedData
    facts: RunFacts
    recipe: Recipe
    world: World
    on_event: EventHandler
    processor_seconds: float  # of this process, at the start


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The epochs that were trained."""

    rows: tuple[EpochRow, ...]
    resumed: bool


def prepared(folder: Path, asked: Request, seed: int, world: World, on_event: EventHandler) -> Job:
    """Build the network, then decode and split the data, and write down what is known before the first step."""
    on_event, dataset, recipe = on_event if world.is_main_process else ignore_event, asked.dataset, asked.recipe
    start = initial_weights(asked.model, recipe, asked.stem, on_event)
    classes = len(dataset.classes)
    network, messages = starting_network(start.model, start.stem, classes, recipe, seed, start.loaded)
    for message in messages:
        on_event(Message(message))
    data = prepare(dataset, recipe, seed, folder / "split.csv", on_event, start.spec)
    check_evaluation(data, recipe)
    if asked.widest:
        recipe = _with_largest_batch(network, data, recipe, world, on_event)
    facts = _facts(folder, network, data, start, recipe, seed, world, on_event)
    world.barrier()  # all have read before one writes
    if world.is_main_process:
        write_atomic(folder / "recipe.toml", recipe.to_toml())
        data.split.save(folder / "split.csv", data.store.dataset, data.store.digests)
        facts.write(folder)
    if recipe.task is not None:
        task = with_ranges(recipe.task, data.store.dataset.targets[data.split.train])
        recipe = recipe.model_copy(update={"task": task})
    platforms.keep_freed_memory()
    platforms.reset_peak_memory()
    return Job(folder, network, data, facts, recipe, world, on_event, time.process_time())


def train_job(job: Job) -> Outcome | None:
    """Train by gradients or fit a probe, keeping the best weights; None where the run was finished before."""
    folder, facts, recipe, world, on_event = job.folder, job.facts, job.recipe, job.world, job.on_event
    was_finished = facts.finished is not None and (folder / "evaluation.json").is_file()
    if recipe.probe is not None:
        if was_finished:
            return None
        network = job.network.to(world.device)
        rows = probe(folder, network, job.data, recipe, facts.seed, _saving(job), on_event) if not world.rank else ()
        return Outcome(rows, resumed=False)
    trainer = trainer_of(job)
    state = checkpoints.load(folder / "checkpoints")
    if state is not None:
        trainer.restore(state)
        if trainer.position.finished and was_finished:
            return None
        same = world.device.type == "cpu" or recipe.training.deterministic
        on_event(Message(f"resumed after step {trainer.position.steps}{'' if same else UNEQUAL}"))
    on_event(
        RunStarted(str(folder), facts.title, recipe.name, recipe.epochs, trainer.data.steps, len(trainer.data.train))
    )
    try:
        with devices.deterministic(world.device, recipe.training.deterministic):
            return Outcome(trainer.fit(), resumed=state is not None)
    except RuntimeError as error:
        raise devices.fault(error, world.device, trainer.data.batch) from error


def trainer_of(job: Job) -> Trainer:
    """Return the trainer of a run, before its first step."""
    recipe, facts = job.recipe, job.facts
    data = data_of(recipe, job.data.store, job.data.spec, job.data.split, facts.seed, job.world)
    data = dataclasses.replace(data, sets=job.data.sets)
    dtype = precision.dtype_of(facts.precision, job.world.device)
    return assemble(recipe, job.network, data, job.folder, _saving(job), dtype, job.on_event, job.world)


def finish_job(job: Job, run: Run, result: Outcome) -> None:
    """Evaluate the best weights on the test part, and close the run."""
    evaluate = evaluate_test_part if job.recipe.task is None else evaluate_targets
    evaluate(run, job.data, str(job.world.device), job.on_event)
    run.facts = _finished(job, result)
    run.facts.write(job.folder)
    write_manifest(job.folder, [*LISTED, "model.safetensors"])
    test = run.evaluation
    if not isinstance(test, ClassificationResult):  # the metrics of a target are in evaluation.json
        return
    metrics = {"accuracy/test": test.accuracy.value, "macro F1/test": test.macro_f1.value, "loss/test": test.log_loss}
    job.on_event(RunEvaluated({name: value for name, value in metrics.items() if value is not None}))


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


def _saving(job: Job) -> Callable[[nn.Module], None]:
    """Return what saves the best weights so far; no time is in the file, so equal runs give equal files."""
    facts, head = job.facts, job.recipe.head
    origin = {
        "recipe": facts.recipe,
        "seed": facts.seed,
        "data": facts.fingerprint,
        "dataset": facts.dataset,
        "versions": dict(facts.versions),
        "weights": facts.weights_sha256,
    }

    def save_best(best: nn.Module) -> None:
        bundle = bundles.Bundle(
            facts.model,
            facts.stem,
            facts.classes,
            job.data.spec,
            best.state_dict(),
            origin,
            head=None if head.kind == "native" else head,
            task=job.recipe.task,
        )
        bundles.save(job.folder / "model.safetensors", bundle)

    return save_best


def _finished(job: Job, result: Outcome) -> RunFacts:
    return job.facts.replace(
        finished=provenance.now(),
        epochs=len(result.rows),
        images_seen=result.rows[-1].images_seen,
        train_seconds=result.rows[-1].seconds,
        cpu_seconds=None if result.resumed else time.process_time() - job.processor_seconds,
        peak_memory_bytes=platforms.peak_memory_bytes(),
    )


def _facts(
    folder: Path,
    network: nn.Module,
    data: PreparedData,
    start: InitialWeights,
    recipe: Recipe,
    seed: int,
    world: World,
    on_event: EventHandler,
) -> RunFacts:
    """Return what is known before the first step; of a run that is resumed, what its run.json holds."""
    dataset = data.store.dataset
    if (folder / "run.json").is_file():
        facts = RunFacts.read(folder)
        if facts.fingerprint != data.fingerprint:
            raise ResumeError(f"{folder}: the data at {dataset.where} changed since the run began; start a new run")
        if facts.weights_sha256 != (None if start.loaded is None else start.loaded.sha256):
            raise ResumeError(f"{folder}: the weights at {facts.weights} changed since the run began; start a new run")
        return facts
    size, split = recipe.input.size, data.split
    summary = summarize(network, size)
    return RunFacts(
        where=dataset.where,
        dataset=dataset.name,
        fingerprint=data.fingerprint,
        classes=dataset.classes,
        counts={"train": len(split.train), "validation": len(split.validation), "test": len(split.test)},
        model=start.model,
        weights=start.weights,
        weights_sha256=None if start.loaded is None else start.loaded.sha256,
        stem=start.stem,
        recipe=recipe.name,
        image_size=size,
        seed=seed,
        threads=torch.get_num_threads(),
        processes=world.size,
        precision=_precision(network, data, recipe, start, world, on_event),
        versions=provenance.versions("torch", "numpy", "pillow", "safetensors"),
        machine=provenance.machine(),
        started=provenance.now(),
        parameters=summary.parameters,
        flops=summary.flops,
        notes=(*(f"left out: {broken.path}: {broken.reason}" for broken in dataset.broken), *split.notes),
    )


def _precision(
    network: nn.Module,
    data: PreparedData,
    recipe: Recipe,
    start: InitialWeights,
    world: World,
    on_event: EventHandler,
) -> str:
    """Return the number format, as the recipe says or as the first process measured; says which and why."""
    chosen = "float32" if recipe.probe is not None else recipe.training.precision
    if chosen != "auto":
        precision.dtype_of(chosen, world.device)  # which refuses what the device has not
        return chosen
    found = 0
    if world.is_main_process:
        best = _measured_precision(network, data, recipe, start, world.device)
        on_event(Message(f"precision {best.name}: {best.reason}"))
        found = FORMATS.index(best.name)
    return FORMATS[int(world.all_reduce_sum([found])[0])]


def _measured_precision(
    network: nn.Module, data: PreparedData, recipe: Recipe, start: InitialWeights, device: torch.device
) -> precision.Precision:
    rows = data.split.train[: recipe.training.batch]
    batch = next(iter(Loader(data.store, data.spec, None, recipe.input.size, 0, 0).epoch([rows], 0)))
    key = f"{start.model}|{start.stem}|{recipe.input.size} px|batch {len(rows)}"
    return precision.choose(network, batch.images.to(device), key, cache_folder())


def _with_largest_batch(
    network: nn.Module, data: PreparedData, recipe: Recipe, world: World, on_event: EventHandler
) -> Recipe:
    """Return the recipe with the largest batch that fits; of several processes, with that of the first for each."""
    size, images = recipe.input.size, len(data.split.train) + len(data.split.validation)
    chosen = "float32" if recipe.training.precision == "auto" else recipe.training.precision
    dtype = precision.dtype_of(chosen, world.device)
    found = 0
    if world.is_main_process:
        most = len(data.split.train) // FEWEST_STEPS // world.size
        found = batch_size.largest(network, size, world.device, dtype, most, images * size * size * 3)
    batch = int(world.all_reduce_sum([found])[0]) * world.size
    on_event(Message(f"batch {batch}: the largest that fits by doubling; the learning rate stays as it is"))
    return recipes.override(recipe, {"training.batch": str(batch)})


def _check_same(folder: Path, model: str, recipe: Recipe, seed: int, resume: bool) -> None:
    """Refuse a directory that holds another run."""
    if not resume:
        raise RunError(f"{folder}: a run is already there; resume it by --resume, or choose another --out")
    run = Run(folder)
    for key, asked, found in (("model", model, run.facts.start), ("seed", seed, run.facts.seed)):
        if asked != found:
            raise ResumeError(f"{folder}: the run there has {key} {found}, not {asked}; choose another --out")
    if recipe != run.recipe:
        raise ResumeError(f"{folder}: the run there has another recipe (see its recipe.toml); choose another --out")
