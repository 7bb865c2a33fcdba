"""From a recipe, a network and data to a trainer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from facewright.data.sampling import class_weights, derive
from facewright.data.splits import Split
from facewright.data.store import PixelStore
from facewright.errors import UsageError
from facewright.events import EventHandler
from facewright.heads import CosineHead, last_layer, put_head
from facewright.input_spec import InputSpec
from facewright.losses.objective import Objective
from facewright.losses.targets import TaskObjective, starting_bias
from facewright.models.catalog import create_model
from facewright.models.weights import PretrainedWeights, load_into
from facewright.training import freezing, history
from facewright.training.distributed import World
from facewright.training.loading import Data
from facewright.training.recipe import Recipe
from facewright.training.sharding import ShardedObjective, Sharding
from facewright.training.trainer import Trainer
from facewright.training.training_module import TrainingModule

LOADERS = 4  # threads that prepare batches while a device computes; on the CPU they would only take its time


def starting_network(
    model: str, stem: str, classes: int, recipe: Recipe, seed: int, loaded: PretrainedWeights | None
) -> tuple[nn.Module, tuple[str, ...]]:
    """Build a network with random weights, a function of the seed alone, or with public ones under a new head.

    Returns:
        The network, and messages about how the public weights fitted.
    Raises:
        FacewrightError: the public weights do not fit, or a phase trains a part that the network has not.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "weights"))
        network = create_model(model, classes, input_size=recipe.input.size, stem=stem)
        messages = () if loaded is None else load_into(network, loaded)
        put_head(network, recipe.head, classes, () if recipe.task is None else recipe.task.tied)
    for phase in recipe.all_phases.values():
        freezing.trained_names(network, phase.train)
    return network.to(memory_format=torch.channels_last), messages  # type: ignore[call-overload]


def data_of(recipe: Recipe, store: PixelStore, spec: InputSpec, split: Split, seed: int, world: World) -> Data:
    """Return the training and the validation part, and the plan of batches.

    A batch never exceeds the data and is shared evenly by the processes.

    Raises:
        UsageError: the batch is smaller than the number of processes, or the data cannot fill such batches.
    """
    chosen, labels = recipe.sampling, store.dataset.labels[split.train]
    wanted = chosen.people * chosen.images if chosen.plan == "identities" else recipe.training.batch
    batch = min(wanted, len(split.train)) // world.size * world.size
    if batch < 2 * world.size:
        raise UsageError(f"expected at least two images a process in a batch, got {wanted} for {world.size}")
    plan = chosen.batches(split.train, labels, batch, seed)
    return Data(store, spec, split.train, split.validation, recipe.augment, plan, batch, len(plan(0)), seed)


def assemble(
    recipe: Recipe,
    network: nn.Module,
    data: Data,
    folder: Path,
    save_best: Callable[[nn.Module], None],
    dtype: torch.dtype,
    on_event: EventHandler,
    world: World,
) -> Trainer:
    """Build a trainer that writes metrics.csv and checkpoints/ into the folder.

    Args:
        data: from `data_of`.
        save_best: called with the best network so far.
    """
    own = recipe.head.kind == "native"
    sharded = recipe.training.shard_classes
    objective = _sharded(recipe, network, data, world) if sharded else _objective(recipe, network, data)
    workers = 0 if world.device.type == "cpu" else LOADERS
    data = replace(data, workers=workers)
    module = TrainingModule(network, objective, None if own else str(network.classifier_name), dtype).to(world.device)
    trainer = Trainer(module, data, recipe, folder, save_best, on_event, world)
    if world.is_main_process:
        table = history.writing_csv(folder / "metrics.csv", lambda: trainer.position)
        trainer.on_event = history.joined_handlers(table, on_event)
    return trainer


def _sharded(recipe: Recipe, network: nn.Module, data: Data, world: World) -> ShardedObjective:
    """Leave the head the directions of this process's classes, and return the objective that knows of the others."""
    head = network.get_submodule(str(network.classifier_name))
    assert isinstance(head, CosineHead)  # the recipe sees to it
    sharding = Sharding(world, data.classes, head.subcentres)
    head.weight = nn.Parameter(sharding.take(head.weight.detach()))
    return ShardedObjective(recipe.objective, sharding, recipe.training.negatives, data.seed)


def _objective(recipe: Recipe, network: nn.Module, data: Data) -> Objective | TaskObjective:
    """Return what is minimised; of a task the head's bias is set to where the training part's targets lie."""
    head, smoothing = network.get_submodule(str(network.classifier_name)), recipe.training.label_smoothing
    truth = data.store.dataset.truth[data.train]
    if recipe.task is not None:
        with torch.no_grad():
            last_layer(head).bias.copy_(starting_bias(torch.from_numpy(truth), recipe.task))
        return TaskObjective(recipe.objective, recipe.task, smoothing)
    width = int(getattr(head, "width", 0))  # a native head has none, and no objective that would ask for it
    inverse = recipe.objective.class_weights == "inverse"
    weights = torch.from_numpy(class_weights(truth, data.classes)).float() if inverse else None
    return Objective(recipe.objective, data.classes, width, weights, smoothing)
