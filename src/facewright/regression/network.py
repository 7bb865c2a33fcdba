"""The multilayer perceptron in NumPy: numbers in, numbers out, with the derivatives that fitting needs.

Source: Rumelhart, Hinton, Williams, "Learning representations by back-propagating errors", Nature 323, 1986; the
initialization is Glorot and Bengio's for tanh (AISTATS 2010, eq. 16) and Kaiming He et al.'s for ReLU, GELU and SiLU
(arXiv:1502.01852, eq. 10). Linear layer k is called `layers.{2k}`: activations count as layers, as in PyTorch.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Activation = Literal["relu", "gelu", "silu", "tanh"]


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
    """Linear layers with an activation after each but the last; the weights are one flat float64 vector."""

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
