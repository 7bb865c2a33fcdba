"""An ONNX face recognizer from elsewhere as a model file: its graph gets preprocessing and an L2 norm.

The wrapped graph reads `pixels`, uint8 (B, H, W, 3) RGB, and gives `embedding` (B, D) of unit length, as `graphs` says.
It is refused where it loops, branches, brings operators of its own or keeps numbers outside the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from facewright.errors import BundleError, UsageError
from facewright.graphs import (
    EMBEDDING,
    NORM,
    NORMS,
    PIXELS,
    Graph,
    Session,
    check_memory,
    check_plain,
    image_input,
    import_onnx,
    parse,
    plain,
)
from facewright.input_spec import InputSpec

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto

MOST_NUMBERS = 65_536  # of an embedding


@dataclass(frozen=True)
class Layout:
    """The form in which a graph takes an image."""

    name: str  # of the input
    channels_last: bool
    batch: int | None  # None: any
    height: int | None  # px; None: any
    width: int | None
    uint8: bool


def layout_of(model: ModelProto) -> Layout:
    """Describe the one image input of a graph. Raises BundleError: it has another input, or more than one."""
    kinds = import_onnx().TensorProto
    image = image_input(model, "an image")
    kind = image.type.tensor_type
    sides = [one.dim_value if one.dim_value > 0 else None for one in kind.shape.dim]
    if len(sides) != 4 or kind.elem_type not in (kinds.FLOAT, kinds.UINT8) or 3 not in (sides[1], sides[3]):
        raise BundleError(f"expected an input (B, 3, H, W) or (B, H, W, 3), float32 or uint8; got {sides}")
    last = sides[1] != 3
    height, width = (sides[1], sides[2]) if last else (sides[2], sides[3])
    return Layout(image.name, last, sides[0], height, width, kind.elem_type == kinds.UINT8)


def wrap(content: bytes, spec: InputSpec, output: str | None = None) -> Graph:
    """Put the preprocessing and the L2 norm around a face recognizer's graph.

    Args:
        content: the ONNX file. spec: what it is fed; with `flip` the mirror image's vector is added.
        output: the name of the output with the embedding; None: the only one of two axes.
    Raises:
        BundleError: the graph is not plain, takes or gives something else, or fails on a grey image.
        UsageError: the output has to be named, or the size is not the graph's.
    """
    model = parse(content)
    check_plain(model)
    layout = layout_of(model)
    for have, asked, what in ((layout.height, spec.height, "height"), (layout.width, spec.width, "width")):
        if have not in (None, asked):
            raise UsageError(f"the graph takes images of a {what} of {have} px, not {asked}")
    if layout.batch not in (None, 1) or (layout.batch == 1 and spec.flip):
        layout = _opened(model, layout)
    sides = (1, spec.height, spec.width, 3) if layout.channels_last else (1, 3, spec.height, spec.width)
    check_memory(model, layout.name, sides)
    chosen, width = _output(model, layout, spec, output)
    wrapped = _wrapped(model, layout, spec, chosen, width)
    graph = plain(wrapped)
    grey = np.full((1, spec.height, spec.width, 3), 128, np.uint8)
    if not np.isfinite(graph.run(EMBEDDING)(grey)).all():
        raise BundleError("the graph gives NaN or infinity for a grey image")
    return graph


def _opened(model: ModelProto, layout: Layout) -> Layout:
    """The batch of a graph made open; whether the graph follows is tried by running it."""
    (value,) = [one for one in model.graph.input if one.name == layout.name]
    side = value.type.tensor_type.shape.dim[0]
    side.Clear()
    side.dim_param = "B"
    return Layout(layout.name, layout.channels_last, None, layout.height, layout.width, layout.uint8)


def _output(model: ModelProto, layout: Layout, spec: InputSpec, name: str | None) -> tuple[str, int]:
    """The embedding's output and width, by running the graph on a grey image."""
    names = [one.name for one in model.graph.output]
    if name is not None and name not in names:
        raise UsageError(f"the graph has no output {name!r}; it has {', '.join(names[:12])}")
    shape = (1, spec.height, spec.width, 3) if layout.channels_last else (1, 3, spec.height, spec.width)
    kind = np.uint8 if layout.uint8 else np.float32
    results = Session(model.SerializeToString()).run(
        {layout.name: np.full(shape, 0 if not layout.uint8 else 128, kind)}
    )
    fitting = {
        one: int(values[0].size)
        for one, values in zip(names, results, strict=True)
        if values.ndim >= 2 and values.shape[0] == 1 and 1 < values[0].size == max(values.shape[1:])
    }
    chosen = [name] if name is not None else list(fitting)
    if len(chosen) != 1 or chosen[0] not in fitting:
        shapes = ", ".join(f"{one} {values.shape}" for one, values in zip(names, results, strict=True))
        raise UsageError(f"expected one output (B, D) with the embedding, name it with --output; got {shapes[:300]}")
    if not 2 <= fitting[chosen[0]] <= MOST_NUMBERS:
        raise BundleError(f"expected an embedding of 2 to {MOST_NUMBERS:,} numbers, got {fitting[chosen[0]]:,}")
    return chosen[0], fitting[chosen[0]]


class _Nodes:
    """Nodes that are put before or behind a graph; their constants are among its weights."""

    def __init__(self, graph: GraphProto) -> None:
        self._graph, self.nodes = graph, list[Any]()

    def constant(self, name: str, values: Any, kind: type) -> str:
        held = import_onnx().numpy_helper.from_array(np.array(values, kind), f"facewright/constant/{name}")
        self._graph.initializer.append(held)
        return str(held.name)

    def add(self, kind: str, inputs: Sequence[str], result: str, **attributes: Any) -> str:
        self.nodes.append(import_onnx().helper.make_node(kind, inputs, [result], **attributes))
        return result


def _before(graph: GraphProto, layout: Layout, spec: InputSpec) -> list[Any]:
    """From `pixels` to the graph's input."""
    made, x = _Nodes(graph), PIXELS
    if not layout.uint8:
        mean, std = 255 * np.array(spec.mean), 255 * np.array(spec.std)
        x = made.add("Cast", [x], "facewright/float", to=import_onnx().TensorProto.FLOAT)
        x = made.add("Sub", [x, made.constant("mean", mean, np.float32)], "facewright/centred")
        x = made.add("Div", [x, made.constant("std", std, np.float32)], "facewright/scaled")
    if spec.colour_order == "bgr":
        x = made.add("Gather", [x, made.constant("bgr", [2, 1, 0], np.int64)], "facewright/bgr-image", axis=3)
    if spec.flip:
        mirror = made.constant("mirror", np.arange(spec.width)[::-1], np.int64)
        x = made.add(
            "Concat", [x, made.add("Gather", [x, mirror], "facewright/flipped", axis=2)], "facewright/both", axis=0
        )
    if layout.channels_last:
        made.add("Identity", [x], layout.name)
    else:
        made.add("Transpose", [x], layout.name, perm=[0, 3, 1, 2])
    return made.nodes


def _behind(graph: GraphProto, spec: InputSpec, output: str, width: int) -> list[Any]:
    """From the graph's output to `embedding`: unit vectors, of both sides their sum."""
    made = _Nodes(graph)
    ones = made.constant("ones", np.ones((width, 1)), np.float32)

    def unit(vectors: str, name: str, norm: str) -> str:
        squares = made.add("Mul", [vectors, vectors], f"{name}-squares")
        length = made.add("Sqrt", [made.add("MatMul", [squares, ones], f"{name}-sum")], norm)
        return made.add("Div", [vectors, length], name)

    flat = made.add("Reshape", [output, made.constant("flat", [-1, width], np.int64)], "facewright/vectors")
    if spec.flip:
        parts = unit(flat, "facewright/units", NORMS)
        halves = made.add("Reshape", [parts, made.constant("halves", [2, -1, width], np.int64)], "facewright/halves")
        sides = [
            made.add("Gather", [halves, made.constant(f"side-{k}", k, np.int64)], f"facewright/half-{k}", axis=0)
            for k in (0, 1)
        ]
        flat = made.add("Add", sides, "facewright/sum")
    made.add("Identity", [unit(flat, "facewright/unit", NORM)], EMBEDDING)
    return made.nodes


def _wrapped(model: ModelProto, layout: Layout, spec: InputSpec, output: str, width: int) -> ModelProto:
    """The graph from `pixels` to `embedding`; of operators that mean the same in every version of ONNX."""
    onnx = import_onnx()
    helper, kinds, graph = onnx.helper, onnx.TensorProto, model.graph
    before, after = _before(graph, layout, spec), _behind(graph, spec, output, width)
    inner = list(graph.node)
    held = {tensor.name for tensor in graph.initializer}
    del graph.node[:], graph.output[:], graph.value_info[:]
    graph.node.extend([*before, *inner, *after])
    kept = [one for one in graph.input if one.name in held]
    del graph.input[:]
    batch = "batch" if layout.batch is None else layout.batch
    graph.input.extend([helper.make_tensor_value_info(PIXELS, kinds.UINT8, [batch, spec.height, spec.width, 3]), *kept])
    graph.output.append(helper.make_tensor_value_info(EMBEDDING, kinds.FLOAT, [batch, width]))
    del model.metadata_props[:]
    model.ir_version = max(model.ir_version, 8)  # from 4 on, weights need not be inputs
    return model
