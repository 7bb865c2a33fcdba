"""From a recipe and data to what a trainer takes: the network with its objective, and the plan of batches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from facewright.data.sampling import class_weights, derive
from facewright.data.splits import Split
from facewright.data.store import PixelStore
from facewright.errors import UsageError
from facewright.events import EventHandler, Message
from facewright.heads import CosineHead, last_layer, put_head
from facewright.input_spec import InputSpec
from facewright.losses.objective import Objective
from facewright.losses.targets import TaskObjective, starting_bias
from facewright.models.catalog import create_model
from facewright.models.weights import PretrainedWeights, load_into
from facewright.training.distributed import World
from facewright.training.loading import Data, shares
from facewright.training.optimizers import trained_names
from facewright.training.recipe import Recipe
from facewright.training.sharding import ShardedObjective, Sharding
from facewright.training.training_module import CUDA_GRAPHS, TrainingModule

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
        trained_names(network, phase.train)
    return network.to(memory_format=torch.channels_last), messages  # type: ignore[call-overload]


def data_of(recipe: Recipe, store: PixelStore, spec: InputSpec, split: Split, seed: int, world: World) -> Data:
    """Return the training and the validation part, and the plan of batches.

    A batch never exceeds the data and is shared evenly by the processes.

    Raises:
        UsageError: the batch cannot be shared evenly, or the data cannot fill such batches.
    """
    chosen, labels = recipe.sampling, store.dataset.labels[split.train]
    wanted = even_batch(recipe, world)
    batch = min(wanted, len(split.train)) // world.size * world.size
    if batch < 2 * world.size:
        raise UsageError(f"expected at least two images per process in a batch, got {wanted} for {world.size}")
    plan = chosen.batches(split.train, labels, batch, seed)
    first = plan(0)
    check_shares(first, world, chosen.unit, recipe.training.shard_classes)
    return Data(
        store, spec, split.train, split.validation, recipe.augment, plan, batch, len(first), seed, chosen.unit,
        workers=0 if world.device.type == "cpu" else LOADERS, world=world,
    )  # fmt: skip


def even_batch(recipe: Recipe, world: World) -> int:
    """Return the images a batch. Raises UsageError: the processes cannot share it evenly."""
    chosen = recipe.sampling
    wanted = chosen.people * chosen.images if chosen.plan == "identities" else recipe.training.batch
    if wanted % world.size:
        less, numbers = wanted // world.size * world.size, (n for n in range(1, wanted // 2 + 1) if wanted % n == 0)
        fit = " or ".join(str(n) for n in (less, less + world.size) if n >= 2 * world.size)
        raise UsageError(
            f"{world.size} processes cannot share a batch of {wanted} evenly: choose a batch of {fit}, or "
            f"{', '.join(map(str, numbers))} processes"
        )
    return wanted


def check_shares(batches: list[NDArray[np.int64]], world: World, unit: int, even: bool) -> None:
    """Refuse batches of which a process would get too little. Raises UsageError."""
    ranks = [replace(world, rank=rank) for rank in range(world.size if world.size > 1 else 0)]
    for number, batch in enumerate(batches):
        counts = [len(shares([batch], one, unit)[0]) for one in ranks]
        if counts and min(counts) < 2:
            raise UsageError(
                f"batch {number + 1} of an epoch has {len(batch)} images: too few for two in each of {world.size} "
                "processes; choose fewer processes or another sampling.plan"
            )
        if even and len(set(counts)) > 1:
            raise UsageError(
                f"{world.size} processes cannot share a batch of {len(batch)} images evenly, which "
                "training.shard_classes needs: choose another batch or sampling.plan, or set it to false"
            )


def training_module(
    recipe: Recipe, network: nn.Module, data: Data, dtype: torch.dtype, on_event: EventHandler
) -> TrainingModule:
    """Join a network and the objective of a recipe, on the device of the data's world.

    Args:
        data: from `data_of`. dtype: what the backbone computes in.
    """
    world, training = data.world, recipe.training
    objective = (_sharded if training.shard_classes else _objective)(recipe, network, data)
    if training.sync_batch_norm and world.size > 1:
        network = _synchronised(network, world)
    norms = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())
    if training.accumulate > 1 and norms:
        part = data.batch // world.size // training.accumulate
        on_event(Message(f"note: batch norms see {part} images at a time; with --accumulate 1 it is the whole batch"))
    head = None if recipe.head.kind == "native" else str(network.classifier_name)
    return TrainingModule(network, objective, head, dtype, compile_mode(recipe, world)).to(world.device)


def compile_mode(recipe: Recipe, world: World) -> str | None:
    """Choose how torch.compile runs the backbone; None: not at all.

    As CUDA graphs where every step has the same shapes. Not where gradients stay in the graph's memory over several
    batches (accumulation), nor where DistributedDataParallel moves them.
    """
    training = recipe.training
    if not training.compile:
        return None
    fixed = training.accumulate == 1 and not training.stages
    return CUDA_GRAPHS if fixed and world.device.type == "cuda" and world.size == 1 else "default"


def _sharded(recipe: Recipe, network: nn.Module, data: Data) -> ShardedObjective:
    """Leave the head the directions of this process's classes, and return the objective that knows of the others."""
    if recipe.selection.metric == "hter" or any(phase.hard_negatives for phase in recipe.all_phases.values()):
        raise UsageError("HTER and hard negatives are for two classes: set training.shard_classes to false")
    head = network.get_submodule(str(network.classifier_name))
    assert isinstance(head, CosineHead)  # the recipe sees to it
    sharding = Sharding(data.world, data.classes, head.subcentres)
    head.weight = nn.Parameter(sharding.take(head.weight.detach()))
    return ShardedObjective(recipe.objective, sharding, recipe.training.negatives, data.seed)


def _synchronised(network: nn.Module, world: World) -> nn.Module:
    """Let batch norms take their statistics over all processes, which torch can do on CUDA alone."""
    if world.device.type != "cuda":
        raise UsageError(f"training.sync_batch_norm is for CUDA, not for {world.device}: set it to false")
    converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
    return converted


def _objective(recipe: Recipe, network: nn.Module, data: Data) -> Objective | TaskObjective:
    """Return what is minimised; of a task the head's bias is set to where the training part's targets lie."""
    head, smoothing = network.get_submodule(str(network.classifier_name)), recipe.training.label_smoothing
    if recipe.task is not None:
        truth = data.store.dataset.targets[data.train]
        with torch.no_grad():
            last_layer(head).bias.copy_(starting_bias(torch.from_numpy(truth), recipe.task))
        return TaskObjective(recipe.objective, recipe.task, smoothing)
    width = int(getattr(head, "width", 0))  # a native head has none, and no objective that would ask for it
    weights = None
    if recipe.objective.class_weights == "inverse":
        weights = torch.from_numpy(class_weights(data.store.dataset.labels[data.train], data.classes)).float()
    return Objective(recipe.objective, data.classes, width, weights, smoothing)
