"""A float32 graph in int8: each convolution and matrix product between 8-bit numbers, by ONNX Runtime's quantiser.

Weights are signed, with a scale for each output channel; activations are unsigned, with one scale, measured on the
calibration images. Of the 8 bits of a weight 7 are used: processors without VNNI add two products in 16 bits; that
would overflow, and the same file would give other answers there. Preprocessing and the operations after the last layer
stay float32.

Source: B. Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
CVPR 2018 (arXiv:1712.05877), sections 2 and 3, after training.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from facewright.errors import UsageError
from facewright.graphs import PIXELS, Graph

if TYPE_CHECKING:
    from onnx import ModelProto

WEIGHED = ("Conv", "MatMul", "Gemm")  # what has weights; the time goes here
# Between them: in int8 too, so that numbers need not be turned to float32 and back.
BETWEEN = ("Add", "AveragePool", "Clip", "Concat", "GlobalAveragePool", "MaxPool", "Mul", "Relu")


def to_int8(graph: Graph, batches: Iterable[NDArray[np.uint8]]) -> ModelProto:
    """Return the graph with 8-bit weights and activations.

    Args:
        graph: in float32. batches: images (B, H, W, 3) to calibrate on; other ones than it is tested with.
    Raises:
        UsageError: the quantiser cannot do it.
    """
    import onnx
    from onnxruntime import quantization

    model = onnx.load_model_from_string(graph.content)
    with tempfile.TemporaryDirectory(prefix="facewright-") as folder, _quiet():
        target = Path(folder) / "int8.onnx"
        try:
            quantization.quantize_static(
                model,
                target,
                _Reader(batches),
                quant_format=quantization.QuantFormat.QDQ,
                op_types_to_quantize=[*WEIGHED, *BETWEEN],
                nodes_to_exclude=_outside(model),
                per_channel=True,
                reduce_range=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
            )
        except Exception as error:  # it raises whatever comes up
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UsageError(f"the network cannot be written in int8 ({reason[:200]}); leave out --quantise") from None
        made = onnx.load_model(target)
    for unused in [one for one in made.opset_import if one.domain not in {node.domain for node in made.graph.node}]:
        made.opset_import.remove(unused)
    del made.graph.value_info[:]
    return made


class _Reader:
    """The calibration batches, as the library reads them."""

    def __init__(self, batches: Iterable[NDArray[np.uint8]]) -> None:
        self.batches = iter(batches)

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        batch = next(self.batches, None)
        return None if batch is None else {PIXELS: batch}


def _outside(model: ModelProto) -> list[str]:
    """The names of the nodes before the first with weights and after the last."""
    nodes = model.graph.node
    weighed = [index for index, node in enumerate(nodes) if node.op_type in WEIGHED]
    first, last = (weighed[0], weighed[-1]) if weighed else (len(nodes), -1)
    return [node.name for index, node in enumerate(nodes) if index < first or index > last]


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the quantiser's advice, which goes to the root logger."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
