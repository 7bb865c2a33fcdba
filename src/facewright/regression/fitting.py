"""The settings of `facewright fit`, kept as TOML (shipped ones in `recipes/`), and the fit by them.

Least squares to second order, or Adam; the weights with the lowest validation loss are kept. An epoch is a pass over
the training rows, so that 500 epochs mean as much reading of the points for both. Equal settings, seed, machine,
versions and thread count give equal weights.
Source: the second-order method is SciPy's trust region (Branch, Coleman, Li, SIAM J. Sci. Comput. 21, 1999), without
bounds a Levenberg-Marquardt method; Adam is Kingma and Ba, arXiv:1412.6980, algorithm 1.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tomli_w
from pydantic import Field, model_validator
from scipy.optimize import least_squares

from facewright.data.sampling import derive
from facewright.errors import NonFiniteLoss
from facewright.events import EventHandler, Progress
from facewright.files import csv_text
from facewright.records import Record
from facewright.regression.regressor import Activation, Array, Perceptron
from facewright.specs import checked
from facewright.training import toml_recipes
from facewright.training.recipe_parts import Shares

DEFAULT = "function"
CHEAP = 5e8  # rows × weights × the smaller of both: one second-order step below about half a second
Rows = tuple[Array, Array]  # standardized inputs (N, D) and targets (N, K)
SHELF = toml_recipes.Shelf("recipes", "recipe of fit", "facewright.regression")


class HiddenLayers(Record):
    """The multilayer perceptron between standardized inputs and targets."""

    hidden: tuple[int, ...] = Field((20, 20), max_length=64)  # width of each hidden layer; none: a linear map
    activation: Activation = "silu"


class Optimizer(Record):
    """The update rule. auto: least squares to second order if a step of it is cheap, else Adam."""

    name: Literal["auto", "levenberg-marquardt", "adam"] = "auto"
    learning_rate: float = Field(3e-3, gt=0)  # adam

    @model_validator(mode="before")
    @classmethod
    def _without_damping(cls, table: Any) -> Any:  # written by version 0.1; the trust region replaced it
        return {key: table[key] for key in table if key != "damping"} if isinstance(table, dict) else table


class Training(Record):
    """The loop."""

    epochs: int = Field(500, ge=1)  # passes over the training rows: a Jacobian is one, a trial of a step is one
    batch: int = Field(16, ge=1)  # adam
    schedule: Literal["constant", "cosine"] = "cosine"  # adam


class Selection(Record):
    """Early stopping; the weights with the lowest validation loss are kept."""

    patience: int = Field(100, ge=0)  # passes without a better one before stopping; 0: never stop early


class FitRecipe(Record):
    """Everything but the points and the seed."""

    name: str
    description: str
    network: HiddenLayers = HiddenLayers()
    shares: Shares = Shares(validation=0.15, test=0.15)
    optimizer: Optimizer = Optimizer()
    training: Training = Training()
    selection: Selection = Selection()

    def to_toml(self) -> str:
        """Return the complete recipe; `load` of such a file gives an equal one."""
        return tomli_w.dumps(self.to_dict())


def load(name: str | Path, changes: Mapping[str, str] | None = None) -> FitRecipe:
    """Load a shipped recipe or a TOML file, and change some values.

    Args:
        changes: dotted key to text as TOML would read it: {"network.hidden": "[64, 64]"}; bare words are strings.
    Raises:
        UnknownName: no such recipe or key; names the nearest. UsageError: unreadable, or a value out of range.
    >>> load("function", {"training.epochs": "50"}).training.epochs
    50
    """
    text, origin = SHELF.text(name)
    recipe = _validated(toml_recipes.table_of(text, origin), origin)
    return _validated(toml_recipes.change(recipe.to_dict(), changes, "fit recipe"), "--set") if changes else recipe


def _validated(table: dict[str, Any], origin: str) -> FitRecipe:
    return checked(FitRecipe, table, origin, FitRecipe(name="", description="").to_dict())


class _Ended(Exception):
    """The passes are used up, or patience is."""


@dataclass(frozen=True)
class FitRow:
    """One row of metrics.csv. Losses are mean squared errors of the standardized targets."""

    epoch: int  # passes over the training rows so far
    train_loss: float  # adam: mean over the epoch, while the weights moved
    validation_loss: float
    step: float  # adam: learning rate at the end of the epoch; levenberg-marquardt: length of the step
    seconds: float  # since the start of the fit
    best: bool  # the lowest validation loss so far


def resolved(recipe: FitRecipe, network: Perceptron, rows: int) -> FitRecipe:
    """Replace the optimizer `auto`: second order if one step is cheap, else Adam. `rows`: of the training part."""
    if recipe.optimizer.name != "auto":
        return recipe
    residuals, weights = rows * network.outputs, network.size
    cheap = residuals * weights * min(residuals, weights) <= CHEAP
    optimizer = recipe.optimizer.model_copy(update={"name": "levenberg-marquardt" if cheap else "adam"})
    return recipe.model_copy(update={"optimizer": optimizer})


def fit(
    network: Perceptron, train: Rows, validation: Rows, recipe: FitRecipe, seed: int, on_event: EventHandler
) -> Fitted:
    """Fit a network to points.

    Args:
        train, validation: standardized by the training part.
        recipe: with a resolved optimizer.
        seed: of the first weights and of the order of the rows (adam).
    Raises:
        NonFiniteLoss: the loss is no number any more.
    """
    recorder = Fitted(network, validation, recipe, on_event, network.initialize(derive(seed, "weights")))
    method = _adam if recipe.optimizer.name == "adam" else _second_order
    with contextlib.suppress(_Ended), np.errstate(over="ignore", invalid="ignore"):  # `record` looks for them
        method(network, train, recipe, seed, recorder)
    on_event(Progress("fitting", recipe.training.epochs, recipe.training.epochs))
    return recorder


def to_csv(rows: Iterable[FitRow]) -> str:
    """Write the history as CSV with a header; floats keep every bit."""
    return csv_text([column.name for column in fields(FitRow)], ([*astuple(row)[:-1], int(row.best)] for row in rows))


class Fitted:
    """The weights (P,) with the lowest validation loss, and the history; `record` ends the fit in time."""

    def __init__(
        self, network: Perceptron, validation: Rows, recipe: FitRecipe, on_event: EventHandler, weights: Array
    ) -> None:
        self.network, self.validation, self.on_event, self.weights = network, validation, on_event, weights
        self.history: list[FitRow] = []
        self.stopped_early = False
        self.epochs, self.patience = recipe.training.epochs, recipe.selection.patience
        self.passes, self.best_at, self.best, self.start = 0, 0, math.inf, time.perf_counter()

    def read(self) -> None:
        """Count a pass over the training rows; the one after the last ends the fit."""
        if self.passes == self.epochs:
            raise _Ended
        self.passes += 1

    def record(self, weights: Array, train_loss: float, step: float) -> None:
        loss = float(np.mean((self.network(weights, self.validation[0]) - self.validation[1]) ** 2))
        if not (math.isfinite(train_loss) and math.isfinite(loss)):
            raise NonFiniteLoss(f"the loss is no number after {self.passes} passes; lower optimizer.learning_rate")
        better = loss < self.best
        if better:
            self.best, self.best_at, self.weights = loss, self.passes, weights.copy()
        seconds = time.perf_counter() - self.start
        self.history.append(FitRow(self.passes, train_loss, loss, step, seconds, better))
        self.on_event(Progress("fitting", self.passes, self.epochs))
        if 0 < self.patience <= self.passes - self.best_at:
            self.stopped_early = True
            raise _Ended


def _second_order(network: Perceptron, train: Rows, recipe: FitRecipe, seed: int, recorder: Fitted) -> None:
    """Minimize all residuals at once; the Jacobian is asked for at each accepted step and only there."""
    before = recorder.weights

    def residuals(weights: Array) -> Array:
        recorder.read()
        return (network(weights, train[0]) - train[1]).ravel()

    def jacobian(weights: Array) -> Array:
        nonlocal before
        loss = float(np.mean((network(weights, train[0]) - train[1]) ** 2))
        recorder.record(weights, loss, float(np.linalg.norm(weights - before)))
        before = weights.copy()
        recorder.read()
        return network.jacobian(weights, train[0])

    tiny = float(np.finfo(float).eps)
    least_squares(residuals, before, jacobian, ftol=tiny, xtol=tiny, gtol=tiny, max_nfev=recipe.training.epochs)


def _adam(network: Perceptron, train: Rows, recipe: FitRecipe, seed: int, recorder: Fitted) -> None:
    """Take small batches in an order of their own each epoch; the last batch of an epoch may be smaller."""
    settings, weights, count = recipe.training, recorder.weights.copy(), len(train[0])
    mean, square, step, rate = np.zeros_like(weights), np.zeros_like(weights), 0, recipe.optimizer.learning_rate
    steps = settings.epochs * math.ceil(count / settings.batch)
    for epoch in range(settings.epochs):
        recorder.read()
        order, total = np.random.default_rng(derive(seed, "order", epoch)).permutation(count), 0.0
        for start in range(0, count, settings.batch):
            rows = order[start : start + settings.batch]
            loss, gradient = network.loss_and_gradient(weights, train[0][rows], train[1][rows])
            if settings.schedule == "cosine":
                rate = recipe.optimizer.learning_rate * (1 + math.cos(math.pi * step / steps)) / 2
            step += 1
            mean += 0.1 * (gradient - mean)
            square += 0.001 * (gradient**2 - square)
            scale = np.sqrt(square / (1 - 0.999**step)) + 1e-8
            weights -= rate * mean / (1 - 0.9**step) / scale
            total += loss * len(rows)
        recorder.record(weights, total / count, rate)
