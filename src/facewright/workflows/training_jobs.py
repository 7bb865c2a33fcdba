"""One training from its first step to the evaluation of its best weights, in a run directory that is held."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import nn

from facewright import bundle as bundles
from facewright import devices, platforms, provenance
from facewright.data.loaders import Loader
from facewright.data.sampling import derive
from facewright.data.splits import people_of
from facewright.data.targets import with_ranges
from facewright.errors import ResumeError
from facewright.evaluation.classification import ClassificationResult
from facewright.events import (
    EpochFinished,
    EpochRow,
    EventHandler,
    Message,
    Progress,
    RunEvaluated,
    RunStarted,
    ignore_event,
)
from facewright.files import cache_folder, write_atomic, write_manifest
from facewright.models.summary import summarize
from facewright.runs import LISTED, Run, RunFacts
from facewright.training import checkpoints, history, precision, validation
from facewright.training import recipe as recipes
from facewright.training.added_images import with_generated
from facewright.training.assembly import data_of, even_batch, starting_network, training_module
from facewright.training.distributed import World
from facewright.training.loading import FeatureInputs, Features, features_of
from facewright.training.probe import FittedProbe, fit, fit_targets
from facewright.training.recipe import Recipe
from facewright.training.recipe_parts import Probe
from facewright.training.trainer import Trainer
from facewright.workflows.evaluation import check_evaluation, evaluate_targets, evaluate_test_part
from facewright.workflows.inspection import PreparedData, prepare
from facewright.workflows.training_requests import InitialWeights, Job, Request, initial_weights, stepwise

FEWEST_STEPS = 4  # of an epoch, where the batch is chosen
FORMATS = ("float32", "bfloat16", "float16")  # among which `auto` chooses
UNEQUAL = ", at the same position; not bit-identical: that takes the same device and --deterministic from the start"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The epochs that were trained."""

    rows: tuple[EpochRow, ...]
    resumed: bool


def prepared(folder: Path, asked: Request, seed: int, world: World, on_event: EventHandler) -> Job:
    """Build the network, then decode and split the data, and write down what is known before the first step."""
    on_event, dataset, recipe = on_event if world.is_main_process else ignore_event, asked.dataset, asked.recipe
    if recipe.probe is None and not asked.widest:
        even_batch(recipe, world)  # before any image is decoded
    start = initial_weights(asked.model, recipe, asked.stem, on_event)
    classes = len(dataset.classes)
    on_event(Progress(f"building {start.model}", 0, 1))
    network, messages = starting_network(start.model, start.stem, classes, recipe, seed, start.loaded)
    for message in messages:
        on_event(Message(message))
    data = prepare(dataset, recipe, seed, folder / "split.csv", on_event, start.spec)
    check_evaluation(data, recipe)
    if asked.widest:
        recipe = _with_largest_batch(network, data, recipe, world, on_event)
    if (folder / "run.json").is_file():
        job = Job(folder, network, data, _kept_facts(folder, data, start), recipe, world, on_event)
    else:
        on_event(Progress("counting parameters and FLOPs", 0, 1))
        facts = _facts(network, data, start, recipe, seed, world)
        job = _with_kernels(Job(folder, network, data, facts, recipe, world, on_event))
    world.barrier()  # all have read before one writes
    if world.is_main_process:
        write_atomic(folder / "recipe.toml", recipe.to_toml())
        data.split.save(folder / "split.csv", data.store.dataset, data.store.digests)
        job.facts.write(folder)
    if recipe.task is not None:
        task = with_ranges(recipe.task, data.store.dataset.targets[data.split.train])
        job = dataclasses.replace(job, recipe=recipe.model_copy(update={"task": task}))
    platforms.keep_freed_memory()
    platforms.reset_peak_memory()
    devices.reset_peak_memory(world.device)
    return dataclasses.replace(job, processor_seconds=time.process_time())


def train_job(job: Job) -> Outcome | None:
    """Train by gradients or fit a probe, keeping the best weights; None where the run was finished before."""
    folder, facts, recipe, world, on_event = job.folder, job.facts, job.recipe, job.world, job.on_event
    was_finished = facts.finished is not None and (folder / "evaluation.json").is_file()
    if recipe.probe is not None:
        if was_finished:
            return None
        return Outcome(probe(job, _saving(job)), resumed=False)
    trainer = trainer_of(job)
    exact = recipe.training.deterministic is True if facts.deterministic is None else facts.deterministic
    state = checkpoints.load(folder / "checkpoints")
    if state is not None:
        trainer.restore(state)
        if trainer.position.finished and was_finished:
            return None
        same = (world.device.type == "cpu" or exact) and facts.device in (None, world.device.type)
        on_event(Message(f"resumed after step {trainer.position.steps}{'' if same else UNEQUAL}"))
    on_event(
        RunStarted(str(folder), facts.title, recipe.name, recipe.epochs, trainer.data.steps, len(trainer.data.train))
    )
    try:
        with devices.deterministic(world.device, exact):
            return Outcome(trainer.fit(), resumed=state is not None)
    except RuntimeError as error:
        raise devices.fault(error, world.device, trainer.data.batch) from error


def trainer_of(job: Job) -> Trainer:
    """Return the trainer of a run, before its first step."""
    recipe, facts = job.recipe, job.facts
    data = data_of(recipe, job.data.store, job.data.spec, job.data.split, facts.seed, job.world)
    if recipe.sampling.plan == "generate":
        data = with_generated(data, recipe, job.folder, job.on_event)
    data = dataclasses.replace(data, sets=job.data.sets)
    dtype = precision.dtype_of(facts.precision, job.world.device)
    module = training_module(recipe, job.network, data, dtype, job.on_event)
    return Trainer(module, data, recipe, job.folder, _saving(job), job.on_event)


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
        device_peak_memory_bytes=devices.peak_memory(job.world.device),
    )


def _kept_facts(folder: Path, data: PreparedData, start: InitialWeights) -> RunFacts:
    """Return what the run.json of a run that is resumed holds. Raises ResumeError: its data or weights changed."""
    facts = RunFacts.read(folder)
    if facts.fingerprint != data.fingerprint:
        where = data.store.dataset.where
        raise ResumeError(f"{folder}: the data at {where} changed since the run began; start a new run")
    if facts.weights_sha256 != (None if start.loaded is None else start.loaded.sha256):
        raise ResumeError(f"{folder}: the weights at {facts.weights} changed since the run began; start a new run")
    return facts


def _facts(
    network: nn.Module, data: PreparedData, start: InitialWeights, recipe: Recipe, seed: int, world: World
) -> RunFacts:
    dataset, split = data.store.dataset, data.split
    summary = summarize(network, recipe.input.size)
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
        image_size=recipe.input.size,
        seed=seed,
        threads=torch.get_num_threads(),
        processes=world.size,
        precision="float32",
        device=world.device.type,
        versions=provenance.versions("torch", "numpy", "pillow", "safetensors"),
        machine=provenance.machine(),
        started=provenance.now(),
        parameters=summary.parameters,
        flops=summary.flops,
        notes=(*(f"left out: {broken.path}: {broken.reason}" for broken in dataset.broken), *split.notes),
    )


def _with_kernels(job: Job) -> Job:
    try:
        job = dataclasses.replace(job, facts=job.facts.replace(precision=_precision(job)))
        return dataclasses.replace(job, facts=job.facts.replace(deterministic=_deterministic(job)))
    except RuntimeError as error:
        raise devices.fault(error, job.world.device, job.recipe.training.batch) from error


def _precision(job: Job) -> str:
    """Return the number format, as the recipe says or as the first process measured; says which and why."""
    recipe, world = job.recipe, job.world
    chosen = "float32" if recipe.probe is not None else recipe.training.precision
    if chosen != "auto":
        precision.dtype_of(chosen, world.device)  # which refuses what the device has not
        return chosen
    found = 0
    if world.is_main_process:
        job.on_event(Progress("timing a step in float32 and in shorter formats", 0, 1))
        best = precision.choose(job.network, *_first_batch(job), cache_folder())
        job.on_event(Message(f"precision {best.name}: {best.reason}"))
        found = FORMATS.index(best.name)
    return FORMATS[int(world.all_reduce_sum([found])[0])]


def _deterministic(job: Job) -> bool:
    """Return if kernels are to be deterministic, as the recipe says or as steps of the last phase show; says which."""
    data, facts, recipe, world, on_event = job.data, job.facts, job.recipe, job.world, job.on_event
    chosen = recipe.training.deterministic
    if chosen != "auto" or world.device.type == "cpu" or recipe.probe is not None:
        return bool(chosen) or world.device.type == "cpu"
    on_event(Progress("timing a step with deterministic kernels and without", 0, 1))
    timed = stepwise(recipe)
    timed = timed.model_copy(update={"training": timed.training.model_copy(update={"compile": False})})
    dtype, twin = precision.dtype_of(facts.precision, world.device), copy.deepcopy(job.network)
    given = data_of(timed, data.store, data.spec, data.split, facts.seed, world)
    module = training_module(timed, twin, given, dtype, ignore_event)
    with TemporaryDirectory() as folder:  # of which nothing is kept
        trainer = Trainer(module, given, timed, Path(folder), lambda best: None)
        trainer.position.phase = len(trainer.phases) - 1
        trainer.start_phase()
        trainer.prepare_inputs()
        assert trainer.loader is not None
        batch = given.plan(0)[0]
        inputs, rows = next(iter(trainer.loader.training([batch], timed.input.size, 0, 0, 0)))
        trainer.wrapped.train()

        def step() -> None:
            trainer.step(inputs, rows, len(batch))
            trainer.settle()

        size = f"{len(given.train)} images|{len(data.store.dataset.classes)} classes|{world.size} processes"
        settings = hashlib.sha256(recipe.to_toml().encode()).hexdigest()[:16]
        key = f"{facts.model}|{facts.stem}|{size}|{facts.precision}|{settings}"
        best = precision.choose_kernels(step, key, cache_folder(), world)
    end = "bit-identically" if best.deterministic else "at the same position, not bit-identically"
    on_event(Message(f"deterministic kernels {'on' if best.deterministic else 'off'}: {best.reason}; resumes {end}"))
    return best.deterministic


def _first_batch(job: Job) -> tuple[torch.Tensor, str]:
    """Return images of the size that is trained with, and what names them and the model in the cache."""
    data, size, facts = job.data, job.recipe.input.size, job.facts
    rows = data.split.train[: job.recipe.training.batch]
    batch = next(iter(Loader(data.store, data.spec, None, size, 0, 0).epoch([rows], 0)))
    return batch.images.to(job.world.device), f"{facts.model}|{facts.stem}|{size} px|batch {len(rows)}"


def _with_largest_batch(
    network: nn.Module, data: PreparedData, recipe: Recipe, world: World, on_event: EventHandler
) -> Recipe:
    """Return the recipe with the largest batch that fits; of several processes, with that of the first for each."""
    size, images = recipe.input.size, len(data.split.train) + len(data.split.validation)
    chosen = "float32" if recipe.training.precision == "auto" else recipe.training.precision
    dtype = precision.dtype_of(chosen, world.device)
    found = 0
    if world.is_main_process:
        on_event(Progress("looking for the largest batch", 0, 1))
        most = len(data.split.train) // FEWEST_STEPS // world.size
        found = precision.largest_batch(network, size, world.device, dtype, most, images * size * size * 3)
    batch = int(world.all_reduce_sum([found])[0]) * world.size
    on_event(Message(f"batch {batch}: the largest that fits by doubling; the learning rate stays as it is"))
    return recipes.override(recipe, {"training.batch": str(batch)})


def probe(job: Job, save_best: Callable[[nn.Module], None]) -> tuple[EpochRow, ...]:
    """Fit the network's linear head on its own features, keep the weights, and write metrics.csv of one row.

    All processes compute the features; the main one does the rest, and the others return no row.

    Args:
        job: its recipe has a probe, and its network a linear head, which is overwritten.
        save_best: called with the network once its head is fitted.
    """
    start, recipe, network, split = time.monotonic(), job.recipe, job.network.to(job.world.device), job.data.split
    training = _features(job, "features for training", split.train)
    held_out = _features(job, "features for validation", split.validation)
    if not job.world.is_main_process:
        return ()
    fitted = _fitted(job, training)
    strengths, tried = ", ".join(f"{one.strength:g}" for one in fitted), len((recipe.probe or Probe()).strengths)
    job.on_event(Message(f"C = {strengths} (best of {tried} by cross-validation)"))
    head = network.get_submodule(str(network.classifier_name))
    weight, bias = (np.concatenate([getattr(one, part) for one in fitted]) for part in ("weight", "bias"))
    head.load_state_dict({"weight": torch.from_numpy(weight), "bias": torch.from_numpy(bias)})
    save_best(network.eval())
    row = _row(head, training, held_out, job.data.store.dataset.truth, recipe, time.monotonic() - start)
    write_atomic(job.folder / "metrics.csv", history.to_csv([row]))
    job.on_event(EpochFinished(row))
    return (row,)


def _features(job: Job, task: str, rows: np.ndarray) -> Features:
    inputs = FeatureInputs(job.data.store, job.data.spec, rows, None, job.recipe.input.size, job.facts.seed)
    return features_of(
        job.network,
        inputs,
        torch.float32,
        cache_folder(),
        lambda d, t: job.on_event(Progress(task, d, t)),
        job.world,
    )


def _fitted(job: Job, training: Features) -> list[FittedProbe]:
    """Fit the classes, or each target; copies of an image, and of a task the images of a person, are in one fold."""
    task, dataset, chosen = job.recipe.task, job.data.store.dataset, job.recipe.probe or Probe()
    units: Sequence[str] = job.data.store.digests
    if task is not None:
        units = people_of([record.identity or record.path for record in dataset.records], units)
    groups = np.unique(np.asarray(units)[training.rows], return_inverse=True)[1]
    features, seed = training.values[0], derive(job.facts.seed, "folds") % 2**32
    if task is None:
        return [fit(features, dataset.labels[training.rows], groups, chosen, seed)]
    return fit_targets(task, features, dataset.targets[training.rows], groups, chosen, seed)


@torch.inference_mode()
def _row(
    head: nn.Module, training: Features, held_out: Features, truth: np.ndarray, recipe: Recipe, seconds: float
) -> EpochRow:
    device = next(head.parameters()).device
    inside, outside = (
        validation.validate(scores, torch.from_numpy(truth[part.rows]), recipe.selection.metric, recipe.task)
        for part in (training, held_out)
        for scores in (head(part.batch(part.rows, 0).to(device)),)
    )
    return EpochRow(
        epoch=1,
        phase="probe",
        images_seen=len(training.rows),
        steps=0,
        image_size=recipe.input.size,
        learning_rate=0.0,
        train_loss=inside.loss,
        train_accuracy=inside.accuracy,
        validation_loss=outside.loss,
        validation_accuracy=outside.accuracy,
        validation_score=outside.score,
        seconds=seconds,
        images_per_second=len(training.rows) / max(seconds, 1e-9),
        best=True,
    )
