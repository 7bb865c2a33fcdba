"""What an export says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from facewright.bundle import Precision
from facewright.exportation.agreement import Agreement
from facewright.exportation.cost import Int8Cost
from facewright.input_spec import InputSpec


@dataclass(frozen=True)
class Int8Report:
    """How the int8 file came about, and what it costs."""

    calibration: str  # the data
    pictures: int  # of them, that were used
    float32_bytes: int  # the file that it would have been
    cost: Int8Cost

    def to_dict(self) -> dict[str, Any]:
        facts = {name: getattr(self, name) for name in ("calibration", "pictures", "float32_bytes")}
        return facts | {"cost": self.cost.to_dict()}


@dataclass(frozen=True)
class Export:
    """A model that was written as ONNX."""

    model: str
    path: str
    size: int  # bytes
    architecture: str
    spec: InputSpec
    outputs: Mapping[str, int]  # name -> numbers a picture
    precision: Precision
    fingerprints: Mapping[str, str]
    data: str  # what the float32 graph was compared with PyTorch on
    agreement: Agreement  # of the float32 graph, also where the file is int8
    thresholds: int  # in the file
    dropped: int  # thresholds of the model that do not hold for it
    quantised: Int8Report | None = None  # None: float32

    def to_dict(self) -> dict[str, Any]:
        """As `export --json` prints it."""
        kept = ("model", "path", "size", "architecture", "precision", "data", "thresholds", "dropped")
        return {
            "task": "export",
            **{name: getattr(self, name) for name in kept},
            "input": self.spec.to_dict(),
            "outputs": dict(self.outputs),
            "fingerprints": dict(self.fingerprints),
            "agreement": self.agreement.to_dict(),
            "quantised": None if self.quantised is None else self.quantised.to_dict(),
        }
