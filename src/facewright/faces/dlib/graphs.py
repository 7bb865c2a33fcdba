"""dlib's networks as ONNX graphs in the cache: converted once, known by the checksum of the file they come from.

<cache>/weights/<name>-<first 16 digits of the file's SHA-256>.onnx, of the landmarks' trees .safetensors

Layers follow each other in dlib's files; their wiring is written here. Norms and the preprocessing, (x - mean) /
256, become part of the convolutions before and behind them, so a graph takes pixels of 0..255 as they are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from facewright.errors import BundleError, UsageError, WeightsError
from facewright.faces.dlib.files import DETECTOR, EMBEDDING, Affine, Convolution, LayerFile, package_file, read_network
from facewright.files import cache_folder, write_atomic
from facewright.graphs import Session, import_onnx

if TYPE_CHECKING:
    from onnx import NodeProto

Result = TypeVar("Result")
OPSET = 17
DETECTOR_CONVOLUTIONS = 6  # of 5x5; the first three halve the side; the score's, of 9x9, comes behind them
WINDOW = 80  # px: side of the faces that the detector knows
BLOCKS = ((32, 3), (64, 4), (128, 3), (256, 3), (256, 1))  # channels, residual blocks; all but the first level halve
MEANS = (122.782, 117.001, 104.298)  # red, green and blue that both networks take for nothing
SIDE, WIDTH = 150, 128  # px of an aligned crop; numbers of its embedding


@dataclass(frozen=True)
class Source:
    """A file of dlib's and its conversion."""

    name: str  # the beginning of the converted file's name
    file: str  # name in the package
    convert: Callable[[Path], bytes]
    suffix: str = ".onnx"

    def digest(self, file: Path | None = None) -> str:
        """Return what stands for the weights in fingerprints; it was the name of the first version's converted file."""
        return f"{self._stem(self._origin(file))}.safetensors"

    def load(self, read: Callable[[bytes], Result], *, file: Path | None = None, cache: Path | None = None) -> Result:
        """Read the converted file, which is made the first time, and again where it is damaged.

        Args:
            read: from the file's content; raises BundleError or WeightsError where that is damaged.
            file: another copy of dlib's file; default: the package's. cache: the folder; default: `cache_folder()`.
        Raises:
            WeightsError: the package is not installed, or its file is not what it should be; nothing is left behind.
        """
        origin = self._origin(file)
        folder = (cache_folder() if cache is None else cache) / "weights"
        target = folder / f"{self._stem(origin)}{self.suffix}"
        try:
            if target.is_file():
                try:
                    return read(target.read_bytes())
                except (BundleError, WeightsError):
                    target.unlink(missing_ok=True)
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with FileLock(target.with_name(f".{target.name}.lock"), mode=0o600):
                if not target.is_file():
                    write_atomic(target, self.convert(origin), mode=0o600)
                return read(target.read_bytes())
        except OSError as error:
            raise WeightsError(
                f"{target}: could not be written ({error.strerror or error}); set FACEWRIGHT_CACHE to a folder that can"
            ) from error

    def session(self, *, file: Path | None = None, cache: Path | None = None, device: str | None = "cpu") -> Session:
        """Return the graph, ready to run on a device; other arguments and errors as `load`."""
        return self.load(lambda content: Session(content, device), file=file, cache=cache)

    def _origin(self, file: Path | None) -> Path:
        return package_file(self.file) if file is None else file

    def _stem(self, origin: Path) -> str:
        try:
            with origin.open("rb") as content:
                return f"{self.name}-{hashlib.file_digest(content, 'sha256').hexdigest()[:16]}"
        except OSError as error:
            raise WeightsError(f"{origin}: cannot be read ({error.strerror or error})") from None


class _Graph:
    """A graph under construction: each layer takes the name of a tensor and returns that of its result."""

    def __init__(self) -> None:
        self._onnx = import_onnx()
        self._nodes: list[NodeProto] = []
        self._weights: list[Any] = []

    def node(self, kind: str, inputs: Sequence[str], **attributes: Any) -> str:
        name = f"t{len(self._nodes)}"
        self._nodes.append(self._onnx.helper.make_node(kind, inputs, [name], **attributes))
        return name

    def constant(self, values: Any, dtype: type = np.float32) -> str:
        name = f"w{len(self._weights)}"
        self._weights.append(self._onnx.numpy_helper.from_array(np.ascontiguousarray(values, dtype), name))
        return name

    def convolution(self, x: str, layer: Convolution, affine: Affine | None = None) -> str:
        """A convolution with the norm behind it."""
        weight, bias = layer.weight.astype(np.float64), layer.bias.astype(np.float64)
        if affine is not None:
            weight = weight * affine.scale.astype(np.float64)[:, None, None, None]
            bias = bias * affine.scale + affine.shift
        names = [x, self.constant(weight), self.constant(bias)]
        return self.node("Conv", names, strides=[layer.stride] * 2, pads=[layer.padding] * 4)

    def relu(self, x: str) -> str:
        return self.node("Relu", [x])

    def bytes(self, pixels: tuple[str, int, list[Any]], output: tuple[str, list[Any]]) -> bytes:
        """Return the file of an input (name, kind of number, shape) and a result (tensor, shape), float32."""
        helper, kinds = self._onnx.helper, self._onnx.TensorProto
        name, kind, shape = pixels
        self._nodes.append(helper.make_node("Identity", [output[0]], ["result"]))
        graph = helper.make_graph(
            self._nodes,
            "dlib",
            [helper.make_tensor_value_info(name, kind, shape)],
            [helper.make_tensor_value_info("result", kinds.FLOAT, output[1])],
            self._weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
        return bytes(model.SerializeToString(deterministic=True))


def _pairs(network: LayerFile, convolutions: int) -> list[tuple[Convolution, Affine]]:
    """Return the convolutions of a network, each with the norm behind it; the last layer is left out."""
    layers = network.layers[:-1]
    pairs = [
        (convolution, affine)
        for convolution, affine in zip(layers[::2], layers[1::2], strict=False)
        if isinstance(convolution, Convolution) and isinstance(affine, Affine)
    ]
    if len(pairs) != convolutions or len(layers) != 2 * convolutions:
        raise WeightsError(f"expected {convolutions} convolutions, a norm behind each, got {len(layers)} layers")
    return pairs


def _scaled(first: Convolution, means: Sequence[float]) -> Convolution:
    """The first convolution for pixels of 0..255: (x - mean) / 256 becomes part of it, which pads nothing."""
    weight = first.weight.astype(np.float64) / 256
    bias = first.bias - (weight * np.asarray(means)[None, :, None, None]).sum(axis=(1, 2, 3))
    return Convolution(weight.astype(np.float32), bias.astype(np.float32), first.stride, first.padding)


def _detector(path: Path) -> bytes:
    """`image` (1, H, W, 3) float32 of 0..255 -> a face's score at about every eighth pixel, (1, 1, rows, columns)."""
    network = read_network(path)
    score = network.layers[-1]
    if (
        network.loss[:2] != (WINDOW, WINDOW)
        or not np.allclose(network.means, MEANS, atol=1e-4)
        or not isinstance(score, Convolution)
    ):
        raise WeightsError(f"{path}: expected a detector of windows of {WINDOW} px, got {network.loss[:2]}")
    graph = _Graph()
    (first, norm), *others = _pairs(network, DETECTOR_CONVOLUTIONS)
    x = graph.node("Transpose", ["image"], perm=[0, 3, 1, 2])
    for convolution, affine in [(_scaled(first, network.means), norm), *others]:
        x = graph.relu(graph.convolution(x, convolution, affine))
    result = graph.convolution(x, score)
    kinds = import_onnx().TensorProto
    return graph.bytes(("image", kinds.FLOAT, [1, "H", "W", 3]), (result, [1, 1, "rows", "columns"]))


def _resnet(path: Path) -> bytes:
    """`crops` (B, 150, 150, 3) uint8 -> their embeddings (B, 128), of any length; as `face_networks.DlibResNet`."""
    network, depth = read_network(path), sum(blocks for _, blocks in BLOCKS)
    pairs, linear = iter(_pairs(network, 1 + 2 * depth)), network.layers[-1]
    if not isinstance(linear, np.ndarray) or linear.shape[1] != WIDTH:
        raise WeightsError(f"{path}: expected a linear layer of {WIDTH} outputs at the end")
    graph, kinds = _Graph(), import_onnx().TensorProto
    x = graph.node("Transpose", [graph.node("Cast", ["crops"], to=kinds.FLOAT)], perm=[0, 3, 1, 2])
    first, norm = next(pairs)
    x = graph.relu(graph.convolution(x, _scaled(first, network.means), norm))
    x, side, channels = graph.node("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2]), 35, BLOCKS[0][0]
    for level, (width, blocks) in enumerate(BLOCKS):
        for block in range(blocks):
            halves = level > 0 and block == 0
            out = graph.convolution(graph.relu(graph.convolution(x, *next(pairs))), *next(pairs))
            if halves:
                x = graph.node("AveragePool", [x], kernel_shape=[2, 2], strides=[2, 2])
                x = _padded(graph, x, channels=width - channels)
                out = _padded(graph, out, sides=side // 2 - ((side - 3) // 2 + 1))
                side, channels = side // 2, width
            x = graph.relu(graph.node("Add", [out, x]))
    x = graph.node("Flatten", [graph.node("GlobalAveragePool", [x])])
    result = graph.node("MatMul", [x, graph.constant(linear)])
    return graph.bytes(("crops", kinds.UINT8, ["B", SIDE, SIDE, 3]), (result, ["B", WIDTH]))


def _padded(graph: _Graph, x: str, *, channels: int = 0, sides: int = 0) -> str:
    """A map with zeros behind its channels, and below and to the right of it."""
    if not channels and not sides:
        return x
    return graph.node("Pad", [x, graph.constant([0, 0, 0, 0, 0, channels, sides, sides], np.int64)])


MAX_MARGIN = Source("max_margin", DETECTOR, _detector)
RESNET = Source("dlib_resnet29", EMBEDDING, _resnet)


BATCH = 32  # crops at once; more are no faster on two cores


class FaceVectors:
    """The network, loaded; `of` may be called from several threads."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @classmethod
    def load(cls, *, cache: Path | None = None, device: str | None = "cpu") -> FaceVectors:
        """Load the network of the package's file, converted the first time; arguments and errors as `Source.load`."""
        return cls(RESNET.session(cache=cache, device=device))

    def of(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute the vectors of crops, (N, 150, 150, 3) uint8, as `alignment.align_face` gives them for `DLIB`.

        Returns:
            (N, 128) float32, of length about 1.4; not scaled to 1, so that distances are dlib's.
        """
        if crops.dtype != np.uint8 or crops.shape[1:] != (SIDE, SIDE, 3):
            raise UsageError(f"expected crops (N, {SIDE}, {SIDE}, 3) of uint8, got {crops.shape} of {crops.dtype}")
        parts = [self._session.run({"crops": crops[first : first + BATCH]})[0] for first in range(0, len(crops), BATCH)]
        return np.concatenate([np.zeros((0, WIDTH), np.float32), *parts])
