"""From a recipe to a trainer: the one place where configuration becomes plain values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.optim import Optimizer

from facewright.bundle import put_head
from facewright.data.sampling import class_weights
from facewright.data.splits import Split
from facewright.data.store import PixelStore
from facewright.errors import UsageError
from facewright.events import EventHandler
from facewright.heads import HeadSpec
from facewright.input_spec import InputSpec
from facewright.losses.objective import Head, Objective, ObjectiveSpec
from facewright.models.catalog import create_model
from facewright.models.weights import Loaded, load_into
from facewright.training import callbacks, freezing, optimizers, recipe_parts
from facewright.training.distributed import World
from facewright.training.feeding import Data
from facewright.training.mining import Mine, harden
from facewright.training.optimizers import Rule
from facewright.training.phases import Phase, Settings
from facewright.training.planning import Plan, planner
from facewright.training.recipe import Recipe
from facewright.training.schedule import Plateau, Schedule
from facewright.training.seeds import derive
from facewright.training.trainer import Trainer


def head_of(recipe: Recipe) -> HeadSpec | None:
    """The head to put on the body; None leaves the architecture's own classifier."""
    chosen = recipe.head
    if chosen.kind == "native":
        return None
    return HeadSpec(chosen.kind, chosen.embedding, chosen.dropout, chosen.scale, chosen.subcentres)


def starting_network(
    model: str, stem: str, classes: int, recipe: Recipe, seed: int, loaded: Loaded | None
) -> tuple[nn.Module, tuple[str, ...]]:
    """A network with fresh weights, a function of the seed alone, or with public ones under a fresh head.

    Returns:
        The network, and what is to be said of how the public weights fitted.
    Raises:
        FacewrightError: the public weights do not fit.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "weights"))
        network = create_model(model, classes, input_size=recipe.input.size, stem=stem)
        said = () if loaded is None else load_into(network, loaded)
        put_head(network, head_of(recipe), classes)
    return network.to(memory_format=torch.channels_last), said  # type: ignore[call-overload]


def assemble(
    recipe: Recipe,
    network: nn.Module,
    data: Data,
    folder: Path,
    keep: Callable[[nn.Module], None],
    settings: Settings,
    on_event: EventHandler,
    world: World,
) -> Trainer:
    """A trainer that writes metrics.csv, events/ and checkpoints/ into the folder.

    Args:
        data: from `data_of`.
        settings: from `settings_of`.
        keep: called with the best weights so far.
    """
    trainer = Trainer(
        model=network,
        objective=_objective(recipe, network, data),
        head=None if recipe.head.kind == "native" else str(network.classifier_name),
        phases=_phases(recipe, network, data, folder, settings, on_event, world),
        data=data,
        settings=settings,
        folder=folder,
        keep=keep,
        on_event=on_event,
        world=world,
    )
    if world.writes:
        table = callbacks.to_metrics_csv(folder / "metrics.csv", lambda: trainer.progress.rows)
        trainer.on_event = callbacks.together(table, callbacks.to_tensorboard(folder / "events"), on_event)
    return trainer


def data_of(recipe: Recipe, store: PixelStore, spec: InputSpec, split: Split, settings: Settings) -> Data:
    """The training and the validation part, and the plan of batches.

    Raises:
        UsageError: the data cannot fill the batches that the recipe asks for.
    """
    labels = store.dataset.labels[split.train]
    plan: Plan = planner(recipe.sampling, split.train, labels, settings.batch, settings.seed)
    plan(0)  # what cannot be planned is found before anything is trained
    return Data(store, spec, split.train, split.validation, recipe.augment, plan)


def settings_of(recipe: Recipe, images: int, seed: int, dtype: torch.dtype, world: World) -> Settings:
    """The numbers of the loop; a batch never exceeds the data and is shared evenly by the processes.

    Args:
        images: of the training part.
    Raises:
        UsageError: the batch is smaller than the number of processes.
    """
    numbers, chosen = recipe.training, recipe.sampling
    asked = chosen.people * chosen.images if chosen.plan == "identities" else numbers.batch
    batch = min(asked, images) // world.size * world.size
    if batch < 2 * world.size:
        raise UsageError(f"expected at least two images a process in a batch, got {asked} for {world.size}")
    return Settings(
        batch=batch,
        seed=seed,
        mixup=numbers.mixup,
        cutmix=numbers.cutmix,
        clip=numbers.clip,
        adaptive_clip=numbers.adaptive_clip,
        ema=numbers.ema,
        metric=recipe.selection.metric,
        patience=recipe.selection.patience,
        dtype=dtype,
        checkpoint_seconds=numbers.checkpoint_seconds,
        checkpoint_steps=numbers.checkpoint_steps,
    )


def stage_sizes(recipe: Recipe) -> tuple[int, ...]:
    """Side in pixels for each epoch; below the full size a multiple of 16.

    >>> from facewright.training.recipe import load, override
    >>> stage_sizes(override(load("notebook-adam"), {"training.epochs": "2"}))
    (112, 112)
    """
    full, epochs = recipe.input.size, sum(phase.epochs for phase in recipe.all_phases.values())
    sizes = []
    for epoch in range(epochs):
        scale = next((s.scale for s in recipe.training.stages if (epoch + 1) / epochs <= s.until + 1e-9), 1.0)
        sizes.append(full if scale == 1.0 else max(32, round(full * scale / 16) * 16))
    return tuple(sizes)


def _phases(
    recipe: Recipe,
    network: nn.Module,
    data: Data,
    folder: Path,
    settings: Settings,
    on_event: EventHandler,
    world: World,
) -> tuple[Phase, ...]:
    """The recipe's phases as the trainer wants them; what each trains is settled before any freezes anything."""
    plan, sizes = recipe.schedule, iter(stage_sizes(recipe))
    phases = []
    for name, phase in recipe.all_phases.items():
        steps = len(data.plan(0)) + phase.hard_negatives // settings.batch  # where as many are found as are wanted
        phases.append(
            Phase(
                name=name,
                sizes=tuple(next(sizes) for _ in range(phase.epochs)),
                schedule=Schedule(
                    plan.name, steps * phase.epochs, steps, plan.warmup, plan.floor, plan.every, plan.factor
                ),
                begin=_beginning(recipe, phase, freezing.trained_names(network, phase.train)),
                plateau=Plateau(plan.factor, plan.patience, plan.floor) if plan.name == "plateau" else None,
                draws=phase.draws,
                frozen_norms=phase.frozen_norms,
                extend=_hardening(recipe, phase, data, folder / f"mined-{name}.npy", settings, on_event, world),
            )
        )
    return tuple(phases)


def _hardening(
    recipe: Recipe,
    phase: recipe_parts.Phase,
    data: Data,
    kept: Path,
    settings: Settings,
    on_event: EventHandler,
    world: World,
) -> Callable[[nn.Module, Data], Data] | None:
    """What adds a phase's hard negatives; None where it wants none."""
    if not phase.hard_negatives:
        return None
    chosen, classes = recipe.mining, data.store.dataset.classes
    if len(classes) != 2 or chosen.face not in classes:
        raise UsageError(
            f"hard negatives are for two classes, one of them {chosen.face!r} (mining.face); got {', '.join(classes)}"
        )
    boxes = Path(chosen.boxes) if chosen.boxes else None
    face = classes.index(chosen.face)
    mine = Mine(Path(chosen.photos), boxes, chosen.part, phase.hard_negatives, chosen.threshold, settings.seed, face)

    def plan(rows: NDArray[np.int64], labels: NDArray[np.int64]) -> Plan:
        return planner(recipe.sampling, rows, labels, settings.batch, settings.seed)

    def extend(model: nn.Module, before: Data) -> Data:
        return harden(model, before, mine, kept, plan, on_event, world)

    return extend


def _beginning(recipe: Recipe, phase: recipe_parts.Phase, trained: frozenset[str]) -> Callable[[nn.Module], Optimizer]:
    """What makes a network ready for a phase."""
    chosen = recipe.optimizer
    rule = Rule(chosen.name, chosen.weight_decay, chosen.decay_all, chosen.momentum, chosen.beta2, recipe.head.l2)

    def begin(network: nn.Module) -> Optimizer:
        freezing.freeze(network, trained)
        return optimizers.build(rule, freezing.rate_groups(network, phase.layer_decay), phase.learning_rate)

    return begin


def _objective(recipe: Recipe, network: nn.Module, data: Data) -> Objective:
    """What is minimised."""
    chosen = recipe.objective
    labels = data.store.dataset.labels[data.train]
    classes = len(data.store.dataset.classes)
    weights = torch.from_numpy(class_weights(labels, classes)).float() if chosen.class_weights == "inverse" else None
    spec = ObjectiveSpec(
        kind=chosen.kind,
        smoothing=recipe.training.label_smoothing,
        margin=None if chosen.margin == "paper" else chosen.margin,
        weight=chosen.weight,
        mining=chosen.mining,
        gamma=chosen.gamma,
        centre_rate=chosen.centre_rate,
        blend_start=chosen.blend_start,
        blend_fall=chosen.blend_fall,
        blend_least=chosen.blend_least,
    )
    head = network.get_submodule(str(network.classifier_name))
    width = int(getattr(head, "width", 0))  # a native head has none, and no objective that would ask for it
    objective = Objective(spec, classes, width, weights)
    if recipe.head.kind != "native":
        objective.check(cast(Head, head))
    return objective
