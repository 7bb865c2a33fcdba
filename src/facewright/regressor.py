"""One .safetensors file that is a fitted function: a small network, its columns and how they are standardised.

The metadata is one JSON text under the key `facewright` with the task "regression", checked against the types below.
As in bundle.py nothing is unpickled, and a file that is not safetensors is refused, whatever it is called. Weights are
kept in float64, in which they were fitted: the file says exactly what the fit said.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from facewright.errors import BundleError, FacewrightError, UsageError
from facewright.files import write_atomic
from facewright.models.mlp import MLP, create_mlp

FORMAT = 1
TASK: Literal["regression"] = "regression"
_CHUNK = 65_536  # rows that go through the network at once


class Column(BaseModel):
    """An input or a target: standardised is (value − mean) / scale; low and high bound what was learned from."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str
    mean: float
    scale: float = Field(gt=0)
    low: float
    high: float


class Header(BaseModel):
    """The metadata as it stands in the file."""

    model_config = ConfigDict(extra="forbid", strict=True)

    format: int
    task: Literal["regression"]
    hidden: list[int] = Field(max_length=64)
    activation: str
    inputs: list[Column] = Field(min_length=1)
    targets: list[Column] = Field(min_length=1)
    provenance: dict[str, Any]


@dataclass(frozen=True)
class Regressor:
    """A fitted function that can be used without the run that made it."""

    hidden: tuple[int, ...]  # width of each hidden layer
    activation: str  # a name of models/mlp.py
    inputs: tuple[Column, ...]
    targets: tuple[Column, ...]
    weights: Mapping[str, Tensor]  # of the MLP, float64
    provenance: Mapping[str, Any] = field(default_factory=dict)  # recipe, seed, data fingerprint, versions

    @cached_property
    def network(self) -> MLP:
        """The network with these weights: standardised inputs to standardised targets.

        Raises:
            BundleError: the weights are not those of this network.
            UnknownName: no such activation.
        """
        with torch.device("meta"):
            network = create_mlp(len(self.inputs), self.hidden, len(self.targets), activation=self.activation)
        expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
        found = {name: tuple(tensor.shape) for name, tensor in self.weights.items()}
        if expected != found:
            wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
            raise BundleError(f"the weights are not those of an MLP with hidden layers {self.hidden}: see {wrong[0]}")
        weights = {name: tensor.double() for name, tensor in self.weights.items()}
        network.load_state_dict(weights, strict=True, assign=True)
        return network.eval().requires_grad_(False)

    def predict(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """What the function says.

        Args:
            rows: (N, D) inputs in their own units, columns in the order of `inputs`.
        Returns:
            (N, K) targets in their own units.
        Raises:
            UsageError: another number of columns.
        """
        if rows.ndim != 2 or rows.shape[1] != len(self.inputs):
            names = ", ".join(column.name for column in self.inputs)
            raise UsageError(f"expected rows of {len(self.inputs)} inputs ({names}), got shape {rows.shape}")
        said = [np.zeros((0, len(self.targets)))]
        with torch.inference_mode():
            for start in range(0, len(rows), _CHUNK):
                chunk = standardise(rows[start : start + _CHUNK], self.inputs)
                said.append(restore(self.network(torch.from_numpy(chunk)).numpy(), self.targets))
        return np.concatenate(said)

    def beyond(self, rows: NDArray[np.float64]) -> NDArray[np.bool_]:
        """(N,) whether a row lies outside the box of the training rows, where a fit promises nothing."""
        low = np.array([column.low for column in self.inputs])
        high = np.array([column.high for column in self.inputs])
        outside: NDArray[np.bool_] = np.any((rows < low) | (rows > high), axis=1)
        return outside


def standardise(values: NDArray[np.float64], columns: tuple[Column, ...]) -> NDArray[np.float64]:
    """(N, D) values in their units to mean 0 and deviation 1 of the training rows."""
    mean, scale = np.array([[column.mean, column.scale] for column in columns]).T
    standard: NDArray[np.float64] = (values - mean) / scale
    return standard


def restore(standard: NDArray[np.float64], columns: tuple[Column, ...]) -> NDArray[np.float64]:
    """The inverse of `standardise`."""
    mean, scale = np.array([[column.mean, column.scale] for column in columns]).T
    values: NDArray[np.float64] = standard * scale + mean
    return values


def save(path: Path, regressor: Regressor) -> None:
    """Write a fitted function, atomically.

    Raises:
        FacewrightError: it could not be written whole; what was there before is unchanged.
    """
    header = Header(
        format=FORMAT,
        task=TASK,
        hidden=list(regressor.hidden),
        activation=regressor.activation,
        inputs=list(regressor.inputs),
        targets=list(regressor.targets),
        provenance=dict(regressor.provenance),
    )
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in regressor.weights.items()}
    write_atomic(path, safetensors.torch.save(tensors, {"facewright": header.model_dump_json()}))


def load(path: Path) -> Regressor:
    """Read a fitted function; its network is built and checked.

    Args:
        path: the .safetensors file, or a run directory that holds model.safetensors.
    Raises:
        BundleError: no such file, not safetensors, or not a fitted function's.
    """
    file = path / "model.safetensors" if path.is_dir() else path
    try:
        with safetensors.safe_open(file, framework="pt") as opened:
            header = _header(file, opened.metadata() or {})
            weights = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a mapping
    except FileNotFoundError:
        raise BundleError(
            f"{path}: no fitted function; expected a run folder of `facewright fit` or its file"
        ) from None
    except (safetensors.SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise BundleError(f"{file}: not a safetensors file that can be trusted ({error})") from None
    regressor = Regressor(
        tuple(header.hidden),
        header.activation,
        tuple(header.inputs),
        tuple(header.targets),
        weights,
        header.provenance,
    )
    try:
        regressor.network  # noqa: B018 - built now, so that a file that does not fit is named here
    except FacewrightError as error:
        raise BundleError(f"{file}: {error}") from None
    return regressor


def is_regression(path: Path) -> bool:
    """Whether a run directory or a file holds a fitted function; False for whatever cannot be read."""
    try:
        with safetensors.safe_open(path / "model.safetensors" if path.is_dir() else path, framework="pt") as opened:
            facts = json.loads((opened.metadata() or {}).get("facewright", "{}"))
    except (safetensors.SafetensorError, OSError, ValueError, RecursionError):
        return False
    return isinstance(facts, dict) and facts.get("task") == TASK


def _header(path: Path, metadata: Mapping[str, str]) -> Header:
    try:
        header = Header.model_validate(json.loads(metadata.get("facewright", "null")))
    except (ValidationError, ValueError, RecursionError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
        where = ".".join(str(part) for part in first["loc"]) or "all of it"
        raise BundleError(f"{path}: its metadata is not a fitted function's ({where}: {first['msg']})") from None
    if header.format != FORMAT:
        raise BundleError(f"{path}: format {header.format}, this version reads {FORMAT}; use a newer Facewright")
    return header
