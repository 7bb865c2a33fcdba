"""Fitting a small network to points: the loop, with early stopping on the validation part.

An epoch is a pass over the training rows, of whatever kind: for Levenberg-Marquardt the Jacobian is one and every
trial of a step is one, so that 500 epochs mean as much reading of the points for both. Equal settings, seed, machine,
versions and thread count give equal weights.
"""

from __future__ import annotations

import copy
import csv
import io
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor, nn

from facewright.errors import NonFiniteLoss
from facewright.events import EventHandler, Progress
from facewright.models.mlp import MLP, create_mlp
from facewright.training.fit_recipe import FitRecipe
from facewright.training.least_squares import CHEAP, LevenbergMarquardt, cost
from facewright.training.schedule import Schedule
from facewright.training.seeds import derive


class Rows(NamedTuple):
    """Standardised rows, float64."""

    inputs: Tensor  # (N, D)
    targets: Tensor  # (N, K)


@dataclass(frozen=True)
class FitRow:
    """One row of metrics.csv. Losses are mean squared errors of the standardised targets."""

    epoch: int  # passes over the training rows so far
    train_loss: float  # adam: mean over the epoch, while the weights moved
    validation_loss: float
    step: float  # adam: learning rate at the end of the epoch; levenberg-marquardt: damping
    seconds: float  # since the start of the fit
    best: bool  # the lowest validation loss so far


@dataclass(frozen=True)
class Fitted:
    """The weights with the lowest validation loss, and how it went."""

    weights: dict[str, Tensor]
    history: tuple[FitRow, ...]
    stopped_early: bool


@dataclass(frozen=True)
class _Taken:
    """The weights after some passes."""

    passes: int
    loss: float
    step: float
    weights: dict[str, Tensor]


def fresh_network(inputs: int, outputs: int, recipe: FitRecipe, seed: int) -> MLP:
    """The network with its first weights, float64; PyTorch's global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "weights"))
        return create_mlp(inputs, recipe.network.hidden, outputs, activation=recipe.network.activation).double()


def resolved(recipe: FitRecipe, network: nn.Module, rows: int, outputs: int) -> FitRecipe:
    """The recipe with `auto` replaced: Levenberg-Marquardt where a step of it is cheap, else Adam.

    Args:
        rows: of the training part. outputs: targets a row.
    """
    if recipe.optimizer.name != "auto":
        return recipe
    weights = sum(parameter.numel() for parameter in network.parameters())
    name = "levenberg-marquardt" if cost(rows * outputs, weights) <= CHEAP else "adam"
    return recipe.model_copy(update={"optimizer": recipe.optimizer.model_copy(update={"name": name})})


def fit(network: MLP, train: Rows, validation: Rows, recipe: FitRecipe, seed: int, on_event: EventHandler) -> Fitted:
    """Fit a network to points.

    Args:
        network: with its first weights; left as it is.
        train, validation: standardised by the training part.
        recipe: with a resolved optimizer.
        seed: of the order of the rows (adam).
    Raises:
        NonFiniteLoss: the loss is no number any more.
    """
    epochs, patience, begun = recipe.training.epochs, recipe.selection.patience, time.perf_counter()
    history: list[FitRow] = []
    start = {name: weight.detach().clone() for name, weight in network.named_parameters()}
    best, at, kept = _loss(network, start, validation), 0, start  # the first weights compete, too
    early = False
    walk = _walk(network, train, recipe, seed)
    for taken in walk:
        loss = _loss(network, taken.weights, validation)
        if not (math.isfinite(taken.loss) and math.isfinite(loss)):
            raise NonFiniteLoss(f"the loss is no number after {taken.passes} passes; lower optimizer.learning_rate")
        better = loss < best
        if better:
            best, at, kept = loss, taken.passes, {name: weight.clone() for name, weight in taken.weights.items()}
        history.append(FitRow(taken.passes, taken.loss, loss, taken.step, time.perf_counter() - begun, better))
        on_event(Progress("fitting", taken.passes, epochs))
        early = patience > 0 and taken.passes - at >= patience
        if early:
            break
    on_event(Progress("fitting", epochs, epochs))
    return Fitted(kept, tuple(history), early)


def to_csv(rows: Iterable[FitRow]) -> str:
    """The rows as CSV with a header; floats keep every bit."""
    out = io.StringIO()
    writer = csv.DictWriter(out, [field.name for field in fields(FitRow)], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({**asdict(row), "best": int(row.best)})
    return out.getvalue()


def _walk(network: MLP, train: Rows, recipe: FitRecipe, seed: int) -> Iterator[_Taken]:
    if recipe.optimizer.name == "levenberg-marquardt":
        second = LevenbergMarquardt(network, train.inputs, train.targets, recipe.optimizer.damping)
        for step in second.steps(recipe.training.epochs):
            yield _Taken(step.passes, step.loss, step.damping, step.weights)
    else:
        yield from _adam(network, train, recipe, seed)


def _adam(network: MLP, train: Rows, recipe: FitRecipe, seed: int) -> Iterator[_Taken]:
    """Small batches in an order of their own each epoch; the last batch of an epoch may be smaller."""
    settings, base = recipe.training, recipe.optimizer.learning_rate
    moving = copy.deepcopy(network)
    optimizer = torch.optim.Adam(moving.parameters(), lr=base, fused=True)
    count = len(train.inputs)
    batches = math.ceil(count / settings.batch)
    schedule = Schedule(settings.schedule, settings.epochs * batches, batches)
    for epoch in range(settings.epochs):
        order = torch.randperm(count, generator=torch.Generator().manual_seed(derive(seed, "order", epoch)))
        total = 0.0
        for number, rows in enumerate(torch.split(order, settings.batch)):
            for group in optimizer.param_groups:
                group["lr"] = base * schedule.at(epoch * batches + number)
            loss = nn.functional.mse_loss(moving(train.inputs[rows]), train.targets[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += float(loss.detach()) * len(rows)
        weights = {name: weight.detach() for name, weight in moving.named_parameters()}
        yield _Taken(epoch + 1, total / count, float(optimizer.param_groups[0]["lr"]), weights)


def _loss(network: MLP, weights: dict[str, Tensor], rows: Rows) -> float:
    """Mean squared error with these weights."""
    with torch.no_grad():
        said = torch.func.functional_call(network, weights, (rows.inputs,))
        return float(nn.functional.mse_loss(said, rows.targets))
