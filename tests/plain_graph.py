"""A tiny ONNX model written by hand: the mean colour of a picture, scored and at unit length."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from facewright import bundle as bundles
from facewright.bundle import Bundle, Exported
from facewright.graphs import EMBEDDING, LOGITS, plain
from facewright.input_spec import InputSpec

SPEC = InputSpec(4, 5, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
CLASSES = ("red", "green")
FINGERPRINTS = {LOGITS: "1" * 32, EMBEDDING: "2" * 32}


def model() -> Any:
    """pixels (B, 4, 5, 3) -> logits (B, 2): twice the mean red and green; embedding (B, 3)."""
    nodes = [
        helper.make_node("Cast", [("pixels")], ["x"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["x", "axes"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "weight"], ["logits"]),
        helper.make_node("ReduceL2", ["mean", "last"], ["length"], keepdims=1),
        helper.make_node("Div", ["mean", "length"], ["embedding"]),
    ]
    weights = {
        "axes": np.array([1, 2]),
        "last": np.array([1]),
        "weight": np.array([[2, 0], [0, 2], [0, 0]], np.float32),
    }
    graph = helper.make_graph(
        nodes,
        "by hand",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["batch", 4, 5, 3])],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2]),
            helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", 3]),
        ],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def exported_bundle(made: Any = None) -> Bundle:
    """A bundle around the graph."""
    exported = Exported(plain(model() if made is None else made), "float32", FINGERPRINTS, {"data": "by hand"})
    return Bundle("patchnet", "imagenet", CLASSES, SPEC, {}, {"seed": 0}, (), None, exported)


def saved(path: Path) -> Path:
    """The bundle as a file."""
    bundles.save(path, exported_bundle())
    return path


def parsed(path: Path) -> Any:
    """What the file holds."""
    return onnx.load_model_from_string(path.read_bytes())
