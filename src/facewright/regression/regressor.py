"""One .safetensors file that is a fitted function: a small network, its columns and how they are standardized.

The metadata is one JSON text under the key `facewright`. Nothing is unpickled. Weights are float64, as fitted.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray
from pydantic import Field

from facewright.errors import BundleError, UsageError
from facewright.files import model_file, parse_json, write_atomic
from facewright.records import Record

Array = NDArray[np.float64]
Activation = Literal["relu", "gelu", "silu", "tanh"]

FORMAT = 1
TASK: Literal["regression"] = "regression"
_CHUNK = 65_536  # rows that go through the network at once


def _share(name: Literal["expit", "ndtr"], x: Array) -> Array:
    from scipy import special  # of the extra `train`: what asks whether a file is a regression does without

    return np.asarray(getattr(special, name)(x))


# Each activation with its derivative.
ACTIVATIONS: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "relu": (lambda x: np.maximum(x, 0), lambda x: (x > 0).astype(np.float64)),
    "gelu": (
        lambda x: x * _share("ndtr", x),
        lambda x: _share("ndtr", x) + x * np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi),
    ),
    "silu": (lambda x: x * _share("expit", x), lambda x: _share("expit", x) * (1 + x * _share("expit", -x))),
    "tanh": (np.tanh, lambda x: 1 - np.tanh(x) ** 2),
}


@dataclass(frozen=True)
class Perceptron:
    """Linear layers with an activation after each but the last; the weights are one flat float64 vector.

    Linear layer k is called `layers.{2k}`: activations count as layers, as in PyTorch. Source: Rumelhart, Hinton,
    Williams, "Learning representations by back-propagating errors", Nature 323, 1986; the initialization is Glorot and
    Bengio's for tanh (AISTATS 2010, eq. 16) and Kaiming He et al.'s for ReLU, GELU and SiLU (arXiv:1502.01852, eq. 10).
    """

    inputs: int
    hidden: tuple[int, ...]
    outputs: int
    activation: Activation

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of each weight and bias, in the order of the flat vector."""
        widths = (self.inputs, *self.hidden, self.outputs)
        shapes: dict[str, tuple[int, ...]] = {}
        for number, (before, width) in enumerate(itertools.pairwise(widths)):
            shapes |= {f"layers.{2 * number}.weight": (width, before), f"layers.{2 * number}.bias": (width,)}
        return shapes

    @property
    def size(self) -> int:
        """Number of weights."""
        return sum(int(np.prod(shape)) for shape in self.shapes.values())

    def initialize(self, seed: int) -> Array:
        """Return random weights and zero biases."""
        random, parts = np.random.default_rng(seed), []
        for shape in self.shapes.values():
            fan_out, fan_in = shape if len(shape) == 2 else (1, 1)
            std = np.sqrt(2 / (fan_in + fan_out) if self.activation == "tanh" else 2 / fan_in)
            parts.append(random.normal(0, std, shape).ravel() if len(shape) == 2 else np.zeros(shape))
        return np.concatenate(parts)

    def named(self, weights: Array) -> dict[str, Array]:
        """Split the flat vector into the arrays that `shapes` names."""
        ends = np.cumsum([int(np.prod(shape)) for shape in self.shapes.values()])[:-1]
        parts = np.split(weights, ends)
        return {name: part.reshape(shape) for part, (name, shape) in zip(parts, self.shapes.items(), strict=True)}

    def flat(self, named: Mapping[str, Array]) -> Array:
        """Join named arrays to the flat vector; the inverse of `named`."""
        return np.concatenate([np.asarray(named[name], np.float64).ravel() for name in self.shapes])

    def __call__(self, weights: Array, rows: Array) -> Array:  # (P,), (N, inputs) -> (N, outputs)
        return self._forward(weights, rows)[0]

    def jacobian(self, weights: Array, rows: Array) -> Array:
        """Differentiate every output of every row by every weight: (P,), (N, inputs) -> (N * outputs, P)."""
        _, layers = self._forward(weights, rows)
        back = np.broadcast_to(np.eye(self.outputs), (len(rows), self.outputs, self.outputs))  # (N, K, width)
        blocks: list[Array] = []
        for matrix, given, slope in reversed(layers):
            back = back if slope is None else back * slope[:, None, :]
            blocks += [back, (back[..., None] * given[:, None, None, :]).reshape(*back.shape[:2], -1)]
            back = back @ matrix
        return np.concatenate(blocks[::-1], axis=2).reshape(len(rows) * self.outputs, -1)

    def loss_and_gradient(self, weights: Array, rows: Array, targets: Array) -> tuple[float, Array]:
        """Return the mean squared error, and its gradient (P,)."""
        outputs, layers = self._forward(weights, rows)
        error = outputs - targets
        back, blocks = 2 * error / error.size, []
        for matrix, given, slope in reversed(layers):
            back = back if slope is None else back * slope
            blocks += [back.sum(axis=0), (back.T @ given).ravel()]
            back = back @ matrix
        return float(np.mean(error**2)), np.concatenate(blocks[::-1])

    def _forward(self, weights: Array, rows: Array) -> tuple[Array, Sequence[tuple[Array, Array, Array | None]]]:
        """Return the outputs, and of each linear layer its matrix, its inputs and the slope of what follows it."""
        function, derivative = ACTIVATIONS[self.activation]
        arrays, layers, values = list(self.named(weights).values()), [], rows
        for number in range(0, len(arrays), 2):
            matrix, given = arrays[number], values
            values = given @ matrix.T + arrays[number + 1]
            last = number == len(arrays) - 2
            layers.append((matrix, given, None if last else derivative(values)))
            values = values if last else function(values)
        return values, layers


class Column(Record):
    """An input or a target: standardized is (value − mean) / scale; low and high bound the training rows."""

    name: str
    mean: float
    scale: float = Field(gt=0)
    low: float
    high: float


class Header(Record):
    """The metadata of the file."""

    format: int = FORMAT
    task: Literal["regression"] = TASK
    hidden: tuple[int, ...] = Field(max_length=64)
    activation: Activation
    inputs: tuple[Column, ...] = Field(min_length=1)
    targets: tuple[Column, ...] = Field(min_length=1)
    provenance: dict[str, Any]  # recipe, seed, data fingerprint, versions

    @property
    def network(self) -> Perceptron:
        """The network between standardized inputs and targets."""
        return Perceptron(len(self.inputs), self.hidden, len(self.targets), self.activation)


@dataclass(frozen=True)
class Regressor:
    """A fitted function that can be used without the run that made it."""

    header: Header
    weights: Array  # (P,), of the header's network

    @property
    def inputs(self) -> tuple[Column, ...]:
        """The input columns, in the order that `predict` expects."""
        return self.header.inputs

    @property
    def targets(self) -> tuple[Column, ...]:
        """The target columns."""
        return self.header.targets

    def predict(self, rows: Array) -> Array:
        """Predict targets (N, K) of inputs (N, D), both in their own units.

        Raises:
            UsageError: another number of columns.
        """
        inputs, targets = self.inputs, self.targets
        if rows.ndim != 2 or rows.shape[1] != len(inputs):
            names = ", ".join(column.name for column in inputs)
            raise UsageError(f"expected rows of {len(inputs)} inputs ({names}), got shape {rows.shape}")
        network, answers = self.header.network, [np.zeros((0, len(targets)))]
        mean, scale = np.array([[column.mean, column.scale] for column in targets]).T
        for start in range(0, len(rows), _CHUNK):
            chunk = standardize(rows[start : start + _CHUNK], inputs)
            answers.append(network(self.weights, chunk) * scale + mean)
        return np.concatenate(answers)

    def beyond(self, rows: Array) -> NDArray[np.bool_]:
        """Return (N,) True for a row outside the box of the training rows, where a fit promises nothing."""
        low, high = np.array([[column.low, column.high] for column in self.inputs]).T
        outside: NDArray[np.bool_] = np.any((rows < low) | (rows > high), axis=1)
        return outside


def standardize(values: Array, columns: tuple[Column, ...]) -> Array:
    """Scale (N, D) values to mean 0 and standard deviation 1 of the training rows."""
    mean, scale = np.array([[column.mean, column.scale] for column in columns]).T
    standard: Array = (values - mean) / scale
    return standard


def save(path: Path, regressor: Regressor) -> None:
    """Write a fitted function, atomically. Raises FacewrightError: it could not be written whole."""
    tensors = regressor.header.network.named(regressor.weights)
    write_atomic(path, safetensors.numpy.save(tensors, {"facewright": regressor.header.model_dump_json()}))


def load(path: Path) -> Regressor:
    """Read a fitted function from its file, or from the run directory that holds it.

    Raises:
        BundleError: no such file, not safetensors, or not a fitted function's.
    """
    file = model_file(path)
    try:
        with safetensors.safe_open(file, framework="np") as opened:
            metadata = opened.metadata() or {}
            weights = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a mapping
    except FileNotFoundError:
        raise BundleError(f"{path}: no fitted function; expected a run directory of `fit`, or its file") from None
    except (safetensors.SafetensorError, OSError, ValueError, TypeError) as error:
        raise BundleError(f"{file}: not a safetensors file that can be trusted ({error})") from None
    header = parse_json(
        metadata.get("facewright", ""), Header, f"{file}: metadata of a fitted function", error=BundleError
    )
    if header.format != FORMAT:
        raise BundleError(f"{file}: format {header.format}, this version reads {FORMAT}; use a newer Facewright")
    network = header.network
    if min((1, *header.hidden)) < 1 or network.shapes != {name: array.shape for name, array in weights.items()}:
        raise BundleError(f"{file}: the weights are not those of a network with hidden layers {list(header.hidden)}")
    return Regressor(header, network.flat(weights))


def is_regression(path: Path) -> bool:
    """Return True if a run directory or a file holds a fitted function; False for whatever cannot be read."""
    file = model_file(path)
    if not file.is_file():  # opening a pipe would wait
        return False
    try:
        with safetensors.safe_open(file, framework="np") as opened:
            facts = json.loads((opened.metadata() or {}).get("facewright", "{}"))
    except (safetensors.SafetensorError, OSError, ValueError, RecursionError):
        return False
    return isinstance(facts, dict) and facts.get("task") == TASK
