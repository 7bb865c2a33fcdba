"""An ONNX graph out of a file: taken apart as data, refused unless it is plain, and only then run by ONNX Runtime.

A plain graph is one file without a part outside it, of standard operators from the list below and nothing that loops,
branches or calls. It reads `pixels`, uint8 (B, H, W, 3) RGB, and gives `logits` (B, C), `embedding` (B, D) of unit
length, or both, float32. What is run is what was checked: the bytes in memory, not the file.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facewright import devices
from facewright.errors import BundleError, UsageError
from facewright.files import not_the_file
from facewright.platforms import usable_cores

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto
    from torch import Tensor

SUFFIX = ".onnx"
PIXELS, LOGITS, EMBEDDING = "pixels", "logits", "embedding"
NORM, NORMS = "facewright/unit-length", "facewright/units-length"  # tensors inside: (B, 1), with mirror images (2 B, 1)
KEY = "facewright"  # of our metadata
MAX_THREADS = 256
MOST_BYTES = 2**31 - 1  # protobuf reads no more
MOST_VALUES = 2**28  # of a tensor inside, for one image
MOST_METADATA = 16 * 2**20  # bytes
STANDARD = ("", "ai.onnx")  # the two names of ONNX's own operators

# What the networks of the catalogue are written in, and quantised ones. Not in it: If, Loop, Scan (time without end),
# random numbers, text, and whatever is of no use here.
# fmt: off
OPERATORS = frozenset((
    "Add", "AveragePool", "BatchNormalization", "Cast", "Clip", "Concat", "Constant", "Conv", "DequantizeLinear", "Div",
    "Einsum", "Expand", "Flatten", "Gather", "GatherND", "Gelu", "Gemm", "GlobalAveragePool", "Greater", "Identity",
    "LayerNormalization", "LeakyRelu", "MatMul", "MaxPool", "Mul", "PRelu", "Pad", "Pow", "QuantizeLinear", "Range",
    "Reciprocal", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceSum", "Relu", "Reshape", "Resize", "Shape", "Sigmoid",
    "Slice", "Softmax", "Split", "Sqrt", "Squeeze", "Sub", "Tanh", "Transpose", "Unsqueeze", "Where",
))
# fmt: on

Both = tuple[NDArray[np.float64], NDArray[np.float64]]
Run = Callable[[NDArray[np.uint8]], NDArray[np.float64]]  # (B, H, W, 3) RGB -> (B, W) of one output


class Session:
    """A graph run by ONNX Runtime; may be used from several threads. Its idle threads sleep.

    Args:
        content: an ONNX file that holds all of its numbers.
        device: as for `devices.choose`; where ONNX Runtime cannot use it the CPU computes, which is said.
    Raises:
        BundleError: ONNX Runtime does not take it. UsageError: ONNX Runtime is not installed.
    """

    def __init__(self, content: bytes, device: str | None = "cpu") -> None:
        try:
            import onnxruntime
        except ImportError:
            raise UsageError("running an .onnx file needs ONNX Runtime: pip install onnxruntime") from None
        onnxruntime.disable_telemetry_events()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = thread_count()
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 4  # errors are raised, not logged too
        wanted = devices.providers(device, onnxruntime.get_available_providers())
        if devices.PROVIDERS["cuda"] in wanted[0] and hasattr(onnxruntime, "preload_dlls"):
            # CUDA's libraries as pip installs them; those that it lacks it prints
            with redirect_stdout(io.StringIO()):
                onnxruntime.preload_dlls()
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=wanted)
        except Exception as error:  # its exceptions have no class in common
            raise BundleError(f"ONNX Runtime does not take the graph ({first_line(error)})") from None
        if len(self._session.get_providers()) < len(wanted):  # its library is there, but CUDA's own are not
            devices.say_fallback(device)

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(one.name for one in self._session.get_inputs())

    def run(self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None) -> list[NDArray[Any]]:
        """Compute outputs, all where None. Raises BundleError: the graph fails on these inputs."""
        try:
            return list(self._session.run(outputs, dict(feeds)))
        except Exception as error:  # its exceptions have no class in common
            raise BundleError(f"ONNX Runtime cannot run the graph ({first_line(error)})") from None


def thread_count() -> int:
    """Return how many threads ONNX Runtime uses: $FACEWRIGHT_THREADS, else $OMP_NUM_THREADS, else all cores."""
    for name in ("FACEWRIGHT_THREADS", "OMP_NUM_THREADS"):
        if (value := os.environ.get(name, "")).isdecimal() and int(value) > 0:
            return min(int(value), MAX_THREADS)
    return usable_cores()


@dataclass(frozen=True, eq=False)
class Graph:
    """A plain graph."""

    content: bytes = field(repr=False)  # the ONNX file without its metadata
    height: int  # px, of `pixels`
    width: int
    outputs: Mapping[str, int]  # `LOGITS` and `EMBEDDING`, those it has -> how many numbers an image
    batch: int | None = None  # images that it takes at once; None: any number
    norms: str | None = None  # the tensor inside with the norms before the scaling to unit length; None: there is none

    @property
    def digest(self) -> str:
        """Return 32 hex characters: equal where graph and weights are."""
        return hashlib.blake2b(self.content, digest_size=16).hexdigest()

    def with_metadata(self, text: str) -> bytes:
        """Return the file with our metadata in it."""
        model = import_onnx().load_model_from_string(self.content)
        model.metadata_props.add(key=KEY, value=text)
        return bytes(model.SerializeToString(deterministic=True))

    def run(self, output: str, device: str | None = "cpu") -> Run:
        """Return one output of the graph as a function of images, (B, H, W, 3) uint8 RGB -> (B, W) float64.

        Raises:
            BundleError: ONNX Runtime does not take the graph; of the function, that it does not run.
        """
        return partial(self._run, Session(self.content, device), output)

    def run_with_norms(self, device: str | None = "cpu") -> Callable[[NDArray[np.uint8]], Both]:
        """Return the embedding as `run`, (B, D), and its norms (B,); those of mirror images are left out."""
        inner, onnx = self.norms or "", import_onnx()
        model = onnx.load_model_from_string(self.content)
        model.graph.output.append(onnx.helper.make_tensor_value_info(inner, onnx.TensorProto.FLOAT, None))
        session, sides = Session(model.SerializeToString(), device), 1 + (self.norms == NORMS)

        def both(images: NDArray[np.uint8]) -> Both:
            parts = np.split(images, len(images)) if self.batch == 1 and len(images) else [images]
            results = [session.run({PIXELS: part}, [EMBEDDING, inner]) for part in parts]
            if any(norms.size != sides * len(part) for part, (_, norms) in zip(parts, results, strict=True)):
                raise BundleError(f"the graph gives another number of norms than {sides} for an image")
            vectors = np.concatenate([vectors for vectors, _ in results])
            norms = np.concatenate([norms.reshape(sides, -1)[0] for _, norms in results])
            return np.asarray(vectors, np.float64), np.asarray(norms, np.float64)

        return both

    def _run(self, session: Session, output: str, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        if self.batch == 1 and len(images) != 1:
            rows = [self._run(session, output, images[index : index + 1]) for index in range(len(images))]
            return np.concatenate([np.zeros((0, self.outputs[output])), *rows])
        (values,) = session.run({PIXELS: images}, [output])
        expected = (len(images), self.outputs[output])
        if values.shape != expected:
            raise BundleError(
                f"the graph says that {output} is {expected[0]} x {expected[1]}, and gives {values.shape}"
            )
        return np.asarray(values, np.float64)


def as_rows(images: NDArray[np.uint8] | Tensor) -> NDArray[np.uint8]:
    """Return images (B, H, W, 3) uint8 as they are, a tensor (B, 3, H, W) as such an array. Raises UsageError."""
    rows = images if isinstance(images, np.ndarray) else images.detach().cpu().permute(0, 2, 3, 1).numpy()
    if rows.ndim != 4 or rows.shape[3] != 3 or rows.dtype != np.uint8:
        raise UsageError(f"expected images (B, H, W, 3) of uint8, got {rows.shape} of {rows.dtype}")
    return rows


def fitted(rows: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Scale images (B, H, W, 3) to a height and width, bilinear and antialiased; the same where they fit."""
    if rows.shape[1:3] == (height, width):
        return rows
    scaled = [Image.fromarray(row).resize((width, height), Image.Resampling.BILINEAR) for row in rows]
    return np.array(scaled, np.uint8).reshape(-1, height, width, 3)


def read(path: Path) -> tuple[Graph, str]:
    """Read the graph of a file, and our metadata in it, which the caller has to check.

    Raises:
        BundleError: no such file, no ONNX, too large, not plain (says what), or without our metadata.
    """
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise BundleError(f"{path}: has {size:,} bytes; the limit is {MOST_BYTES:,}")
        content = path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror or error})") from None
    if (instead := not_the_file(content[:64])) is not None:
        raise BundleError(f"{path}: {instead}")
    try:
        model = parse(content)
    except BundleError as error:
        raise BundleError(f"{path}: {error}") from None
    held = [entry.value for entry in model.metadata_props if entry.key == KEY]
    if len(held) != 1 or len(held[0]) > MOST_METADATA:
        raise BundleError(
            f"{path}: ONNX, but not a file of `facewright export` or `models import` (no metadata under '{KEY}')"
        )
    try:
        return plain(model), held[0]
    except BundleError as error:
        raise BundleError(f"{path}: {error}") from None


def plain(model: ModelProto) -> Graph:
    """Return a model as a plain graph, without its metadata. Raises BundleError: it is not; says what is in the way."""
    check_plain(model)
    graph = model.graph
    pixels = image_input(model, PIXELS)
    (batch, height, width, channels), kind = _shape(pixels, 4)
    if pixels.name != PIXELS:
        raise BundleError(f"expected one input, {PIXELS}; got {_short(pixels.name)}")
    if kind != import_onnx().TensorProto.UINT8 or channels != 3 or height is None or width is None:
        raise BundleError(f"expected {PIXELS} as uint8 (B, H, W, 3); got other numbers or another shape")
    outputs: dict[str, int] = {}
    for one in graph.output:
        (_, numbers), kind = _shape(one, 2)
        if one.name not in (LOGITS, EMBEDDING) or kind != import_onnx().TensorProto.FLOAT or numbers is None:
            raise BundleError(f"expected outputs {LOGITS} (B, C), {EMBEDDING} (B, D) in float32; got {_names([one])}")
        outputs[one.name] = numbers
    if not outputs:
        raise BundleError(f"expected an output {LOGITS} or {EMBEDDING}; got none")
    del model.metadata_props[:]
    made = {name for node in graph.node for name in node.output}
    norms = next((name for name in (NORMS, NORM) if name in made), None)
    return Graph(model.SerializeToString(deterministic=True), height, width, outputs, batch, norms)


def open_sides(content: bytes) -> tuple[bytes, tuple[int, int] | None]:
    """Make the batch, height and width of a graph's one image input, (B, 3, H, W) float32, open.

    Returns:
        The file; and the height and width it was closed to, px, None where they were open.
    Raises:
        BundleError: no ONNX, an operator that is not run here, or another input.
    """
    model = parse(content)
    check_plain(model)
    image = image_input(model, "float32 (B, 3, H, W)")
    sides, kind = _shape(image, 4)
    if kind != import_onnx().TensorProto.FLOAT or sides[1] not in (3, None):
        raise BundleError(f"expected one input of float32 (B, 3, H, W); got {_short(image.name)}")
    for axis in (0, 2, 3):
        side = image.type.tensor_type.shape.dim[axis]
        side.Clear()
        side.dim_param = "BCHW"[axis]
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    del model.graph.value_info[:]
    closed = None if sides[2] is None or sides[3] is None else (sides[2], sides[3])
    check_memory(model, image.name, (1, 3, *(closed or (64, 96))))
    return bytes(model.SerializeToString()), closed


def image_input(model: ModelProto, expected: str) -> Any:
    """Return the one input of a graph that is no weight. Raises BundleError: it has none, or several."""
    held = {tensor.name for tensor in model.graph.initializer}
    inputs = [one for one in model.graph.input if one.name not in held]
    if len(inputs) != 1:
        raise BundleError(f"expected one input, {expected}; got {_names(inputs)}")
    return inputs[0]


def check_memory(model: ModelProto, name: str, shape: Sequence[int]) -> None:
    """Refuse a graph that makes huge tensors of one image, whose input has this shape, as far as can be inferred.

    Raises:
        BundleError: a tensor has more than `MOST_VALUES` numbers, or the shapes do not fit.
    """
    onnx = import_onnx()
    copy = type(model)()
    copy.CopyFrom(model)
    (value,) = [one for one in copy.graph.input if one.name == name]
    for side, length in zip(value.type.tensor_type.shape.dim, shape, strict=True):
        side.Clear()
        side.dim_value = length
    for one in [*copy.graph.output, *copy.graph.value_info]:
        if any(side.dim_value > MOST_VALUES for side in one.type.tensor_type.shape.dim):
            raise BundleError(f"the output {_short(one.name)} has more than {MOST_VALUES:,} numbers")
        one.type.tensor_type.ClearField("shape")
    try:
        inferred = onnx.shape_inference.infer_shapes(copy, data_prop=True)
    except Exception as error:  # its errors have no class in common
        raise BundleError(f"the shapes of the graph do not fit ({first_line(error)})") from None
    for one in [*inferred.graph.output, *inferred.graph.value_info]:
        lengths = [side.dim_value for side in one.type.tensor_type.shape.dim if side.dim_value > 0]
        if lengths and np.prod(np.array(lengths, np.float64)) > MOST_VALUES:
            raise BundleError(f"{_short(one.name)} has more than {MOST_VALUES:,} numbers for an image")


def check_plain(model: ModelProto) -> None:
    """Raise BundleError where a model loops, branches, or brings operators or numbers from elsewhere."""
    for foreign in _foreign(model):
        raise BundleError(f"a graph that is not run here: {foreign}")


def parse(content: bytes) -> ModelProto:
    """Read an ONNX file. Raises BundleError: it is none."""
    onnx = import_onnx()
    try:
        model: ModelProto = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's DecodeError is at another place in each of its versions
        raise BundleError(f"not an ONNX file ({first_line(error)})") from None
    if not model.HasField("graph"):
        raise BundleError("not an ONNX file (it holds no graph)")
    return model


def _foreign(model: ModelProto) -> Iterator[str]:
    """Yield what a plain graph must not have."""
    if len(model.functions) or len(model.training_info):
        yield "it brings functions of its own"
    yield from (f"operators of {_short(one.domain)}" for one in model.opset_import if one.domain not in STANDARD)
    if len(model.graph.sparse_initializer):
        yield "sparse weights"
    for node in model.graph.node:
        if node.domain not in STANDARD or node.op_type not in OPERATORS:
            yield f"operator {_short(node.domain)} {_short(node.op_type)}"
        for attribute in node.attribute:
            if attribute.HasField("g") or len(attribute.graphs) or attribute.HasField("sparse_tensor"):
                yield f"a graph inside operator {_short(node.op_type)}"
            if attribute.HasField("t") and _outside(attribute.t):
                yield "numbers outside the file"
            if any(_outside(tensor) for tensor in attribute.tensors):
                yield "numbers outside the file"
    yield from (f"weight {_short(t.name)} is outside the file" for t in model.graph.initializer if _outside(t))


def _outside(tensor: TensorProto) -> bool:
    """Tell if a tensor's numbers are elsewhere: another file, or an address in memory."""
    return bool(tensor.HasField("data_location") and tensor.data_location != 0) or len(tensor.external_data) > 0


def _shape(value: Any, axes: int) -> tuple[list[int | None], int]:
    """Return the sides of an input or output, None where they are open, and the kind of its numbers."""
    kind = value.type.tensor_type
    sides = [one.dim_value if one.HasField("dim_value") and one.dim_value > 0 else None for one in kind.shape.dim]
    if len(sides) != axes:
        raise BundleError(f"expected {_short(value.name)} with {axes} axes, got {len(sides)}")
    return sides, kind.elem_type


def import_onnx() -> Any:
    """Return the onnx package. Raises UsageError: it is not installed."""
    try:
        import onnx
    except ImportError:
        raise UsageError("reading an .onnx file needs the onnx package: pip install onnx") from None
    return onnx


def _names(values: Any) -> str:
    return ", ".join(_short(value.name) for value in values) or "none"


def _short(text: str) -> str:
    """A name out of a file in a message."""
    return repr(text[:60])


def first_line(error: Exception) -> str:
    """Return the first line of an error's text, for a message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
