"""A model as one ONNX file: the graph, the proof that it answers as PyTorch does, and what int8 costs.

>>> from facewright import bundle as bundles                                            # doctest: +SKIP
>>> graph = plain(to_onnx(bundles.load(Path("model.safetensors"))))                     # doctest: +SKIP
>>> graph.outputs                                                                       # doctest: +SKIP
{'logits': 12, 'embedding': 2048}
"""

from typing import TYPE_CHECKING

from facewright.lazy import lazy_names

if TYPE_CHECKING:
    from facewright.exportation.agreement import (
        Agreement,
        ImageSubset,
        ModelOutputs,
        StoredThresholds,
        compare_outputs,
        compute_outputs,
    )
    from facewright.exportation.cost import Int8Cost, TargetCost, measure_int8_cost
    from facewright.exportation.network import to_onnx
    from facewright.exportation.quantization import to_int8
    from facewright.exportation.results import Export, Int8Report

__all__ = [
    "Agreement",
    "Export",
    "ImageSubset",
    "Int8Cost",
    "Int8Report",
    "ModelOutputs",
    "StoredThresholds",
    "TargetCost",
    "compare_outputs",
    "compute_outputs",
    "measure_int8_cost",
    "to_int8",
    "to_onnx",
]

__getattr__ = lazy_names(
    __name__,
    {
        "facewright.exportation.agreement": "Agreement ImageSubset ModelOutputs StoredThresholds "
        "compare_outputs compute_outputs",
        "facewright.exportation.cost": "Int8Cost TargetCost measure_int8_cost",
        "facewright.exportation.network": "to_onnx",
        "facewright.exportation.quantization": "to_int8",
        "facewright.exportation.results": "Export Int8Report",
    },
)
