"""One .safetensors file that is a fitted function: a small network, its columns and how they are standardized.

The metadata is one JSON text under the key `facewright`. Nothing is unpickled. Weights are float64, as fitted.
"""

from __future__ import annotations

import json
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
from facewright.files import parse_json, write_atomic
from facewright.records import Record
from facewright.regression.network import Activation, Array, Perceptron

FORMAT = 1
TASK: Literal["regression"] = "regression"
_CHUNK = 65_536  # rows that go through the network at once


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


@dataclass(frozen=True)
class Regressor:
    """A fitted function that can be used without the run that made it."""

    header: Header
    weights: Array  # (P,), of `network`

    @property
    def inputs(self) -> tuple[Column, ...]:
        """The input columns, in the order that `predict` expects."""
        return self.header.inputs

    @property
    def targets(self) -> tuple[Column, ...]:
        """The target columns."""
        return self.header.targets

    @cached_property
    def network(self) -> Perceptron:
        """The network between standardized inputs and targets."""
        return Perceptron(len(self.inputs), self.header.hidden, len(self.targets), self.header.activation)

    def predict(self, rows: Array) -> Array:
        """Predict targets (N, K) of inputs (N, D), both in their own units.

        Raises:
            UsageError: another number of columns.
        """
        if rows.ndim != 2 or rows.shape[1] != len(self.inputs):
            names = ", ".join(column.name for column in self.inputs)
            raise UsageError(f"expected rows of {len(self.inputs)} inputs ({names}), got shape {rows.shape}")
        answers = [np.zeros((0, len(self.targets)))]
        mean, scale = np.array([[column.mean, column.scale] for column in self.targets]).T
        for start in range(0, len(rows), _CHUNK):
            chunk = standardize(rows[start : start + _CHUNK], self.inputs)
            answers.append(self.network(self.weights, chunk) * scale + mean)
        return np.concatenate(answers)

    def beyond(self, rows: Array) -> NDArray[np.bool_]:
        """Return (N,) True for a row outside the box of the training rows, where a fit promises nothing."""
        low = np.array([column.low for column in self.inputs])
        high = np.array([column.high for column in self.inputs])
        outside: NDArray[np.bool_] = np.any((rows < low) | (rows > high), axis=1)
        return outside


def standardize(values: Array, columns: tuple[Column, ...]) -> Array:
    """Scale (N, D) values to mean 0 and standard deviation 1 of the training rows."""
    mean, scale = np.array([[column.mean, column.scale] for column in columns]).T
    standard: Array = (values - mean) / scale
    return standard


def save(path: Path, regressor: Regressor) -> None:
    """Write a fitted function, atomically. Raises FacewrightError: it could not be written whole."""
    tensors = regressor.network.named(regressor.weights)
    write_atomic(path, safetensors.numpy.save(tensors, {"facewright": regressor.header.model_dump_json()}))


def load(path: Path) -> Regressor:
    """Read a fitted function from its file, or from the run directory that holds it.

    Raises:
        BundleError: no such file, not safetensors, or not a fitted function's.
    """
    file = path / "model.safetensors" if path.is_dir() else path
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
    network = Perceptron(len(header.inputs), header.hidden, len(header.targets), header.activation)
    if min((1, *header.hidden)) < 1 or network.shapes != {name: array.shape for name, array in weights.items()}:
        raise BundleError(f"{file}: the weights are not those of a network with hidden layers {list(header.hidden)}")
    return Regressor(header, network.flat(weights))


def is_regression(path: Path) -> bool:
    """Return True if a run directory or a file holds a fitted function; False for whatever cannot be read."""
    file = path / "model.safetensors" if path.is_dir() else path
    if not file.is_file():  # opening a pipe would wait
        return False
    try:
        with safetensors.safe_open(file, framework="np") as opened:
            facts = json.loads((opened.metadata() or {}).get("facewright", "{}"))
    except (safetensors.SafetensorError, OSError, ValueError, RecursionError):
        return False
    return isinstance(facts, dict) and facts.get("task") == TASK
