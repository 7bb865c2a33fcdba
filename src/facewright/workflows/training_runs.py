"""Training one model: open → split → train → test → report, in one run directory."""

from __future__ import annotations

import dataclasses
import platform
import time
from collections.abc import Mapping
from contextlib import nullcontext
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import torch
from torch import nn

from facewright import bundle as bundles
from facewright.data.cache import cache_folder
from facewright.data.loaders import Loader
from facewright.data.records import Dataset
from facewright.data.sources import open_dataset
from facewright.errors import ResumeError, RunError, UsageError
from facewright.evaluation import speed
from facewright.events import EpochRow, EventHandler, Message, RunStarted, ignore_event
from facewright.files import write_atomic, write_manifest
from facewright.heads import HeadSpec
from facewright.input_spec import InputSpec
from facewright.models import anatomy
from facewright.runs import LISTED, Run, RunFacts, owned
from facewright.training import checkpoints, precision
from facewright.training import recipe as recipes
from facewright.training.assembly import assemble, data_of, head_of, settings_of, starting_network
from facewright.training.distributed import World, joined
from facewright.training.recipe import Recipe
from facewright.workflows.comparison import compare
from facewright.workflows.evaluation import check_judgeable, measure
from facewright.workflows.initial_weights import Start, check_model, recipe_for, start
from facewright.workflows.linear_probe import probe
from facewright.workflows.prepared_data import Material, prepare


def train(
    where: str | Path | Dataset,
    *,
    model: str = "resnet18",
    recipe: str | Path | None = None,
    out: Path | None = None,
    seed: int = 0,
    overrides: Mapping[str, str] | None = None,
    resume: bool = False,
    report: bool = True,
    on_event: EventHandler = ignore_event,
) -> Run:
    """Train one model, measure it on the test part, and leave everything in a run directory.

    Args:
        where: anything `open_dataset` knows, or what it gave.
        model: a name of `facewright models`, or name@weights: released weights by name, or a file.
        recipe: a shipped recipe, or a TOML file; None: `finetune` for public weights, `scratch` for fresh ones.
        out: the run directory; a new one under runs/ where None.
        seed: of the split, the fresh weights, the order and the augmentation.
        overrides: recipe values to change, {"training.epochs": "5"}.
        resume: go on with a run that stopped, to the same bits as if it had not; starts it where there is none.
        report: also write report.html.
    Raises:
        DataError, UsageError: what was asked for cannot be done; found before training starts.
        RunLocked: another process trains there.
        NonFiniteLoss: training diverged.
        Interrupted: a signal came; the state is saved.
    """
    chosen = recipes.override(recipe_for(model, recipe), overrides or {})
    check_model(model, chosen)  # an unknown model is found before anything is decoded
    dataset = where if isinstance(where, Dataset) else open_dataset(where)
    folder = out or free_folder(f"{dataset.name}-{folder_name(model)}")
    if folder.resolve().is_relative_to(dataset.where):  # its folders would be classes the next time
        raise UsageError(f"{folder}: lies in the dataset {dataset.where}; choose an --out beside it")
    with joined() as world, owned(folder) if world.writes else nullcontext():
        if (folder / "run.json").is_file():
            _check_same(folder, model, chosen, seed, resume)
        world.wait()
        run = _train_in(folder, dataset, model, chosen, seed, world, on_event if world.writes else ignore_event)
        if report and world.writes:
            compare([run]).to_html(folder / "report.html")
        return run


def resume(folder: Path, *, on_event: EventHandler = ignore_event) -> Run:
    """Go on with the run in a directory, with the data, model, recipe and seed it was started with.

    Raises:
        RunError: this is no run directory.
        ResumeError: its data changed since, or no checkpoint is whole.
    """
    facts = Run(folder).facts
    recipe = folder / "recipe.toml"
    return train(
        facts.where, model=facts.start, recipe=recipe, out=folder, seed=facts.seed, resume=True, on_event=on_event
    )


def free_folder(name: str) -> Path:
    """runs/NAME-1, or the next number that is free."""
    clean, number = folder_name(name), 1
    while (Path("runs") / f"{clean}-{number}").exists():
        number += 1
    return Path("runs") / f"{clean}-{number}"


def folder_name(text: str) -> str:
    """A name that every file system takes; of weights in a file, its name.

    >>> folder_name("mobilefacenet@/weights/arc.safetensors")
    'mobilefacenet-arc'
    """
    architecture, _, weights = text.partition("@")
    text = f"{architecture}-{Path(weights).name.removesuffix('.safetensors')}" if weights else text
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in text).strip("-.") or "run"


def _train_in(
    folder: Path, dataset: Dataset, model: str, recipe: Recipe, seed: int, world: World, on_event: EventHandler
) -> Run:
    """The steps of a run, in the order they happen."""
    begin = start(model, recipe, on_event)
    material = prepare(dataset, recipe, seed, folder / "split.csv", on_event, begin.spec)
    check_judgeable(material, recipe)
    network, said = starting_network(begin.model, begin.stem, len(dataset.classes), recipe, seed, begin.loaded)
    for line in said:
        on_event(Message(line))
    facts = _facts(folder, network, material, begin, recipe, seed, world)
    world.wait()  # all have read before one writes
    if world.writes:
        write_atomic(folder / "recipe.toml", recipe.to_toml())
        material.split.save(folder / "split.csv", material.store.dataset, material.store.digests)
        facts.write(folder)
    speed.reset_peak_memory()
    begun = time.process_time()
    learned = _learn(_Job(folder, material, facts, recipe, world, on_event), network)
    if learned is None:
        return Run(folder)  # nothing is left to do, and what run.json says of time and memory stays true
    if world.writes:
        measure(folder, material, recipe, on_event)
        costs = {
            "finished": _now(),
            "epochs": len(learned.rows),
            "images_seen": learned.rows[-1].images_seen,
            "train_seconds": learned.rows[-1].seconds,
            "cpu_seconds": None if learned.resumed else time.process_time() - begun,
            "peak_memory_bytes": speed.peak_memory_bytes(),
        }
        facts.replace(**costs).write(folder)
        write_manifest(folder, [*LISTED, "model.safetensors"])
    world.wait()
    return Run(folder)


@dataclasses.dataclass(frozen=True)
class _Job:
    """What there is to do, and where."""

    folder: Path
    material: Material
    facts: RunFacts
    recipe: Recipe
    world: World
    on_event: EventHandler


@dataclasses.dataclass(frozen=True)
class _Learned:
    rows: tuple[EpochRow, ...]
    resumed: bool


def _learn(job: _Job, network: nn.Module) -> _Learned | None:
    """Train by gradients or fit a probe, keeping the best weights; None where the run was finished before."""
    folder, facts, recipe, world, on_event = job.folder, job.facts, job.recipe, job.world, job.on_event
    split, spec = job.material.split, job.material.spec
    keep = _keeper(folder, facts, spec, head_of(recipe))
    was_finished = facts.finished is not None and (folder / "evaluation.json").is_file()
    if recipe.probe is not None:
        if was_finished:
            return None
        fitted = probe(folder, network, job.material, recipe, facts.seed, keep, on_event) if world.writes else ()
        return _Learned(fitted, resumed=False)
    settings = settings_of(recipe, len(split.train), facts.seed, getattr(torch, facts.precision), world)
    data = data_of(recipe, job.material.store, spec, split, settings)
    trainer = assemble(recipe, network, data, folder, keep, settings, on_event, world)
    state = checkpoints.load(folder / "checkpoints")
    if state is not None:
        trainer.restore(state)
        if trainer.progress.finished and was_finished:
            return None
        on_event(Message(f"resumed after step {trainer.progress.steps}"))
    epochs = sum(phase.epochs for phase in recipe.all_phases.values())
    on_event(RunStarted(str(folder), facts.title, recipe.name, epochs, len(data.plan(0)), len(split.train)))
    return _Learned(trainer.fit(), resumed=state is not None)


def _keeper(folder: Path, facts: RunFacts, spec: InputSpec, head: HeadSpec | None):  # type: ignore[no-untyped-def]
    """Saves the best weights so far; nothing in the file depends on time, so equal runs give equal files."""
    provenance = {
        "recipe": facts.recipe,
        "seed": facts.seed,
        "data": facts.fingerprint,
        "dataset": facts.dataset,
        "versions": dict(facts.versions),
        "weights": facts.weights_sha256,
    }

    def keep(best: nn.Module) -> None:
        found = bundles.Bundle(facts.model, facts.stem, facts.classes, spec, best.state_dict(), provenance, head=head)
        bundles.save(folder / "model.safetensors", found)

    return keep


def _facts(
    folder: Path, network: nn.Module, material: Material, begin: Start, recipe: Recipe, seed: int, world: World
) -> RunFacts:
    """What is known before the first step; of a run that goes on, what its run.json says."""
    dataset = material.store.dataset
    if (folder / "run.json").is_file():
        facts = RunFacts.read(folder)
        if facts.fingerprint != material.fingerprint:
            raise ResumeError(f"{folder}: the data at {dataset.where} changed since the run began; start a new run")
        if facts.weights_sha256 != (None if begin.loaded is None else begin.loaded.sha256):
            raise ResumeError(f"{folder}: the weights at {facts.weights} changed since the run began; start a new run")
        return facts
    size, split = recipe.input.size, material.split
    found = anatomy.summarise(network, size)
    return RunFacts(
        where=dataset.where,
        dataset=dataset.name,
        fingerprint=material.fingerprint,
        classes=dataset.classes,
        counts={"train": len(split.train), "validation": len(split.validation), "test": len(split.test)},
        model=begin.model,
        weights=begin.weights,
        weights_sha256=None if begin.loaded is None else begin.loaded.sha256,
        stem=begin.stem,
        recipe=recipe.name,
        image_size=size,
        seed=seed,
        threads=torch.get_num_threads(),
        processes=world.size,
        precision=_precision(network, material, recipe, begin),
        versions=_versions(),
        machine=f"{platform.system()} {platform.machine()}",
        started=_now(),
        parameters=found.parameters,
        flops=found.flops,
        notes=(*(f"left out: {broken.path}: {broken.reason}" for broken in dataset.broken), *split.notes),
    )


def _precision(network: nn.Module, material: Material, recipe: Recipe, begin: Start) -> str:
    """float32 or bfloat16, as asked for or as measured."""
    asked = "float32" if recipe.probe is not None else recipe.training.precision
    if asked != "auto":
        return asked
    rows = material.split.train[: recipe.training.batch]
    batch = next(iter(Loader(material.store, material.spec, None, recipe.input.size, 0, 0).epoch([rows], 0)))
    key = f"{begin.model}|{begin.stem}|{recipe.input.size} px|batch {len(rows)}"
    return str(precision.choose(network, batch.images, key, cache_folder())).removeprefix("torch.")


def _check_same(folder: Path, model: str, recipe: Recipe, seed: int, resume: bool) -> None:
    """A directory that holds a run may only be used to go on with that run."""
    if not resume:
        raise RunError(f"{folder}: a run is already there; go on with it by --resume, or choose another --out")
    run = Run(folder)
    for key, asked, found in (("model", model, run.facts.start), ("seed", seed, run.facts.seed)):
        if asked != found:
            raise ResumeError(f"{folder}: the run there has {key} {found}, not {asked}; choose another --out")
    if recipe != run.recipe:
        raise ResumeError(f"{folder}: the run there has another recipe (see its recipe.toml); choose another --out")


def _versions() -> dict[str, str]:
    packages = ("facewright", "torch", "numpy", "pillow", "safetensors")
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in packages}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
