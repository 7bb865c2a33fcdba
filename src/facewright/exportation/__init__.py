"""A model as one ONNX file: the graph, the proof that it answers as PyTorch does, and what int8 costs.

>>> from facewright import bundle as bundles                                            # doctest: +SKIP
>>> graph = plain(to_onnx(bundles.load(Path("model.safetensors"))))                     # doctest: +SKIP
>>> graph.outputs                                                                       # doctest: +SKIP
{'logits': 12, 'embedding': 2048}
"""

from typing import TYPE_CHECKING

from facewright.lazy import lazy_names

if TYPE_CHECKING:
    from facewright.exportation.agreement import Agreement, Answers, Lines, Part, agree, answers_of
    from facewright.exportation.cost import Cost, cost_of
    from facewright.exportation.network import to_onnx
    from facewright.exportation.quantisation import to_int8
    from facewright.exportation.results import Export, Quantised

__all__ = [
    "Agreement",
    "Answers",
    "Cost",
    "Export",
    "Lines",
    "Part",
    "Quantised",
    "agree",
    "answers_of",
    "cost_of",
    "to_int8",
    "to_onnx",
]

__getattr__ = lazy_names(
    __name__,
    {
        "facewright.exportation.agreement": "Agreement Answers Lines Part agree answers_of",
        "facewright.exportation.cost": "Cost cost_of",
        "facewright.exportation.network": "to_onnx",
        "facewright.exportation.quantisation": "to_int8",
        "facewright.exportation.results": "Export Quantised",
    },
)
