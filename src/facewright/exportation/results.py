"""Results of an export."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from facewright.bundle import Precision
from facewright.exportation.agreement import Agreement
from facewright.exportation.cost import Int8Cost, TargetCost
from facewright.input_spec import InputSpec
from facewright.records import Record


class Int8Report(Record):
    """The calibration of the int8 file, and its cost."""

    calibration: str  # the data set
    pictures: int  # calibration images used
    float32_bytes: int  # size of the float32 file
    cost: Int8Cost | None  # None: the model has targets in place of classes
    targets: tuple[TargetCost, ...] = ()


class Export(Record):
    """A model that was written as ONNX."""

    task: Literal["export"] = "export"
    model: str
    path: str
    size: int  # bytes
    architecture: str
    spec: InputSpec = Field(serialization_alias="input")
    outputs: Mapping[str, int]  # name -> numbers per image
    precision: Precision
    fingerprints: Mapping[str, str]
    data: str  # what the float32 graph was compared with PyTorch on
    agreement: Agreement  # of the float32 graph, also where the file is int8
    thresholds: int  # in the file
    dropped: int  # thresholds of the model that do not hold for it
    quantised: Int8Report | None = None  # None: float32
