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
from facewright.files import write_atomic
from facewright.input_spec import InputSpec
from facewright.models import anatomy
from facewright.models.catalog import resolve_stem
from facewright.runs import Run, RunFacts, owned
from facewright.training import checkpoints, precision
from facewright.training import recipe as recipes
from facewright.training.assembly import assemble, fresh_weights, settings_of
from facewright.training.distributed import World, joined
from facewright.training.events import Listener, Said, Started
from facewright.training.recipe import Recipe
from facewright.training.trainer import Data
from facewright.workflows.comparing import compare
from facewright.workflows.judging import measure
from facewright.workflows.material import Material, prepare, silent


def train(
    where: str | Path | Dataset,
    *,
    model: str = "resnet18",
    recipe: str | Path = "scratch",
    out: Path | None = None,
    seed: int = 0,
    overrides: Mapping[str, str] | None = None,
    resume: bool = False,
    report: bool = True,
    listen: Listener | None = None,
) -> Run:
    """Train one model, measure it on the test part, and leave everything in a run directory.

    Args:
        where: anything `open_dataset` knows, or what it gave.
        model: a name of `facewright models`.
        recipe: a shipped recipe, or a TOML file.
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
    chosen = recipes.override(recipes.load(recipe), overrides or {})
    resolve_stem(model, chosen.input.size, chosen.input.stem)  # an unknown model is found before anything is decoded
    dataset = where if isinstance(where, Dataset) else open_dataset(where)
    folder = out or free_folder(f"{dataset.name}-{model}")
    if folder.resolve().is_relative_to(dataset.where):  # its folders would be classes the next time
        raise UsageError(f"{folder}: lies in the dataset {dataset.where}; choose an --out beside it")
    with joined() as world, owned(folder) if world.writes else nullcontext():
        if (folder / "run.json").is_file():
            _check_same(folder, model, chosen, seed, resume)
        world.wait()
        run = _train_in(folder, dataset, model, chosen, seed, world, (listen or silent) if world.writes else silent)
        if report and world.writes:
            compare([run]).to_html(folder / "report.html")
        return run


def resume(folder: Path, *, listen: Listener | None = None) -> Run:
    """Go on with the run in a directory, with the data, model, recipe and seed it was started with.

    Raises:
        RunError: this is no run directory.
        ResumeError: its data changed since, or no checkpoint is whole.
    """
    facts = Run(folder).facts
    recipe = folder / "recipe.toml"
    return train(facts.where, model=facts.model, recipe=recipe, out=folder, seed=facts.seed, resume=True, listen=listen)


def free_folder(name: str) -> Path:
    """runs/NAME-1, or the next number that is free."""
    clean = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in name).strip("-.") or "run"
    number = 1
    while (Path("runs") / f"{clean}-{number}").exists():
        number += 1
    return Path("runs") / f"{clean}-{number}"


def _train_in(
    folder: Path, dataset: Dataset, model: str, recipe: Recipe, seed: int, world: World, listen: Listener
) -> Run:
    """The steps of a run, in the order they happen."""
    material = prepare(dataset, recipe, seed, folder / "split.csv", listen)
    network = fresh_weights(model, len(dataset.classes), recipe, seed)
    facts = _facts(folder, network, material, model, recipe, seed, world)
    world.wait()  # all have read before one writes
    if world.writes:
        write_atomic(folder / "recipe.toml", recipe.to_toml())
        material.split.save(folder / "split.csv", material.store.dataset, material.store.digests)
        facts.write(folder)
    rows = material.split.train
    settings = settings_of(recipe, len(rows), seed, getattr(torch, facts.precision), world)
    data = Data(material.store, material.spec, rows, material.split.validation, recipe.augment)
    keep = _keeper(folder, facts, material.spec)
    trainer = assemble(recipe, network, data, folder, keep, settings, listen, world)
    state = checkpoints.load(folder / "checkpoints")
    if state is not None:
        trainer.restore(state)
        if trainer.progress.finished and facts.finished is not None and (folder / "evaluation.json").is_file():
            return Run(folder)  # nothing is left to do, and what run.json says of time and memory stays true
        listen(Said(f"resumed after step {trainer.progress.steps}"))
    speed.reset_peak_memory()
    listen(Started(str(folder), model, recipe.name, settings.epochs, len(rows) // settings.batch, len(rows)))
    begun = time.process_time()
    history = trainer.fit()
    if world.writes:
        measure(folder, material, listen)
        dataclasses.replace(
            facts,
            finished=_now(),
            epochs=len(history),
            images_seen=history[-1].images_seen,
            train_seconds=history[-1].seconds,
            cpu_seconds=None if state is not None else time.process_time() - begun,
            peak_memory_bytes=speed.peak_memory_bytes(),
        ).write(folder)
    world.wait()
    return Run(folder)


def _keeper(folder: Path, facts: RunFacts, spec: InputSpec):  # type: ignore[no-untyped-def]
    """Saves the best weights so far; nothing in the file depends on time, so equal runs give equal files."""
    provenance = {
        "recipe": facts.recipe,
        "seed": facts.seed,
        "data": facts.fingerprint,
        "dataset": facts.dataset,
        "versions": dict(facts.versions),
    }

    def keep(best: nn.Module) -> None:
        found = bundles.Bundle(facts.model, facts.stem, facts.classes, spec, best.state_dict(), provenance)
        bundles.save(folder / "model.safetensors", found)

    return keep


def _facts(
    folder: Path, network: nn.Module, material: Material, model: str, recipe: Recipe, seed: int, world: World
) -> RunFacts:
    """What is known before the first step; of a run that goes on, what its run.json says."""
    dataset = material.store.dataset
    if (folder / "run.json").is_file():
        facts = RunFacts.read(folder)
        if facts.fingerprint != material.fingerprint:
            raise ResumeError(f"{folder}: the data at {dataset.where} changed since the run began; start a new run")
        return facts
    size, split = recipe.input.size, material.split
    found = anatomy.summarise(network, size)
    return RunFacts(
        where=dataset.where,
        dataset=dataset.name,
        fingerprint=material.fingerprint,
        classes=dataset.classes,
        counts={"train": len(split.train), "validation": len(split.validation), "test": len(split.test)},
        model=model,
        stem=resolve_stem(model, size, recipe.input.stem),
        recipe=recipe.name,
        image_size=size,
        seed=seed,
        threads=torch.get_num_threads(),
        processes=world.size,
        precision=_precision(network, material, recipe, model),
        versions=_versions(),
        machine=f"{platform.system()} {platform.machine()}",
        started=_now(),
        parameters=found.parameters,
        flops=found.flops,
        notes=(*(f"left out: {broken.path}: {broken.reason}" for broken in dataset.broken), *split.notes),
    )


def _precision(network: nn.Module, material: Material, recipe: Recipe, model: str) -> str:
    """float32 or bfloat16, as asked for or as measured."""
    asked = recipe.training.precision
    if asked != "auto":
        return asked
    rows = material.split.train[: recipe.training.batch]
    batch = next(iter(Loader(material.store, material.spec, None, recipe.input.size, 0, 0).epoch([rows], 0)))
    key = f"{model}|{recipe.input.stem}|{recipe.input.size} px|batch {len(rows)}"
    return str(precision.choose(network, batch.images, key, cache_folder())).removeprefix("torch.")


def _check_same(folder: Path, model: str, recipe: Recipe, seed: int, resume: bool) -> None:
    """A directory that holds a run may only be used to go on with that run."""
    if not resume:
        raise RunError(f"{folder}: a run is already there; go on with it by --resume, or choose another --out")
    run = Run(folder)
    for key, asked, found in (("model", model, run.facts.model), ("seed", seed, run.facts.seed)):
        if asked != found:
            raise ResumeError(f"{folder}: the run there has {key} {found}, not {asked}; choose another --out")
    if recipe != run.recipe:
        raise ResumeError(f"{folder}: the run there has another recipe (see its recipe.toml); choose another --out")


def _versions() -> dict[str, str]:
    packages = ("facewright", "torch", "numpy", "pillow", "safetensors")
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in packages}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
