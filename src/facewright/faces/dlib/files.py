"""Networks and numbers out of dlib's serialised files; and where those files lie.

They come with the Python package `face_recognition_models` (Davis King's networks, public domain and CC0), found
without importing it. Its landmark file of 68 points is not free for every use, and nothing here reads it.

    integer   a control byte (bit 7: negative; the lowest four bits: how many bytes follow), the magnitude, lowest first
    real      mantissa and exponent as two integers, m * 2**e
    tensor    a 2, four sizes (samples, channels, rows, columns), float32 lowest byte first
    matrix    rows and columns, both negated; its numbers as reals
    network   a number for each layer from the last to the first, the loss before them and the input behind them; then
              the layers from the first to the last, each a name, what it holds, and what it kept for training

How layers are wired is not in the file; `graphs` knows it. Source: dlib 19, serialize.h and dnn.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facewright.errors import WeightsError
from facewright.files import read_limited

PACKAGE = "face_recognition_models"
EMBEDDING = "dlib_face_recognition_resnet_model_v1.dat"
FIVE_POINTS = "shape_predictor_5_face_landmarks.dat"
DETECTOR = "mmod_human_face_detector.dat"

MOST_BYTES = 64 * 2**20  # of a file; the largest has 22 MB
_NOT_FINITE = 32_000  # exponents from here on stand for infinity and NaN

Floats = NDArray[np.float32]


def package_file(name: str) -> Path:
    """Return the path of `EMBEDDING`, `FIVE_POINTS` or `DETECTOR`. Raises WeightsError: it is not installed."""
    if name not in (EMBEDDING, FIVE_POINTS, DETECTOR):
        raise WeightsError(f"expected one of the files {EMBEDDING}, {FIVE_POINTS} and {DETECTOR}, got {name!r}")
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise WeightsError(
            f"the package {PACKAGE} is not installed, and the built-in face networks lie in it;"
            " install it: pip install face_recognition_models"
        )
    file = Path(next(iter(spec.submodule_search_locations))) / "models" / name
    if not file.is_file():
        raise WeightsError(f"{file}: no such file; reinstall the package {PACKAGE}, version 0.3.0")
    return file


class Reader:
    """Reads one file from its beginning to its end; every read checks that the bytes are there.

    >>> Reader(b"\\x01\\x05\\x82\\x00\\x01").integer()
    5
    """

    def __init__(self, content: bytes, name: str = "the file") -> None:
        self._content = content
        self._name = name
        self._at = 0

    @classmethod
    def open(cls, path: Path) -> Reader:
        """Raises WeightsError: the file cannot be read, or is larger than any of dlib's."""
        return cls(read_limited(path, error=WeightsError, limit=MOST_BYTES), str(path))

    @property
    def ended(self) -> bool:
        return self._at == len(self._content)

    def integer(self) -> int:
        (control,) = self._take(1)
        length = control & 0x0F
        if control & 0x70 or not 1 <= length <= 8:
            raise self.refusal(f"an integer of {length} bytes")
        magnitude = int.from_bytes(self._take(length), "little")
        return -magnitude if control & 0x80 else magnitude

    def count(self, most: int) -> int:
        """An integer that says how many follow."""
        value = self.integer()
        if not 0 <= value <= most:
            raise self.refusal(f"{value:,} where 0 to {most:,} was expected")
        return value

    def real(self) -> float:
        mantissa, exponent = self.integer(), self.integer()
        if abs(exponent) > 2_000 or exponent >= _NOT_FINITE:
            raise self.refusal("a number that is none")
        return math.ldexp(mantissa, exponent)

    def text(self) -> str:
        try:
            return self._take(self.count(200)).decode("ascii")
        except UnicodeDecodeError:
            raise self.refusal("a name that is no text") from None

    def flag(self) -> bool:
        digit = self._take(1)
        if digit not in (b"0", b"1"):
            raise self.refusal("a flag that is neither 0 nor 1")
        return digit == b"1"

    def expect(self, *values: int) -> int:
        """An integer that must be one of these."""
        value = self.integer()
        if value not in values:
            raise self.refusal(f"{value} where {' or '.join(map(str, values))} was expected")
        return value

    def tensor(self) -> Floats:
        """All numbers of a tensor, (N,) float32."""
        self.expect(2)
        size = math.prod(self.count(MOST_BYTES) for _ in range(4))
        if size * 4 > MOST_BYTES:
            raise self.refusal(f"a tensor of {size:,} numbers")
        numbers = np.frombuffer(self._take(size * 4), "<f4").astype(np.float32)
        if not np.isfinite(numbers).all():
            raise self.refusal("a tensor with NaN or infinity")
        return numbers

    def shape(self) -> tuple[int, int, int, int]:
        """Read the sizes of a part of a tensor."""
        self.expect(1)
        a, b, c, d = (self.count(MOST_BYTES) for _ in range(4))
        return a, b, c, d

    def matrix(self) -> Floats:
        """(rows, columns) float32; dlib writes both sizes negated."""
        rows, columns = -self.integer(), -self.integer()
        if not (0 <= rows <= MOST_BYTES and 0 <= columns <= MOST_BYTES and rows * columns <= MOST_BYTES):
            raise self.refusal(f"a matrix of {rows} x {columns}")
        return np.array([self.real() for _ in range(rows * columns)], np.float32).reshape(rows, columns)

    def _take(self, count: int) -> bytes:
        taken = self._content[self._at : self._at + count]
        if len(taken) != count:
            raise WeightsError(f"{self._name}: cut short: it ends at byte {len(self._content):,}")
        self._at += count
        return taken

    def refusal(self, what: str) -> WeightsError:
        """Return the error for a file that continues in another way than dlib's do."""
        return WeightsError(f"{self._name}: not a file of dlib's that is known here: {what}, near byte {self._at:,}")


MOST_LAYERS = 1_000


@dataclass(frozen=True)
class Convolution:
    """The weights of a convolution."""

    weight: Floats  # (outputs, inputs, rows, columns)
    bias: Floats  # (outputs,)
    stride: int
    padding: int


@dataclass(frozen=True)
class Affine:
    """A norm in inference: a factor and a summand for each channel, (C,)."""

    scale: Floats
    shift: Floats


Layer = Convolution | Affine | Floats
"""A layer with weights; of a linear layer, the matrix (inputs, outputs)."""


@dataclass(frozen=True)
class LayerFile:
    """A file's layers with weights, from the first to the last, and what stands before them."""

    loss: tuple[float, ...]  # the numbers of the loss, in the order of the file
    means: tuple[float, float, float]  # red, green and blue, subtracted from pixels of 0..255, which are then / 256
    layers: tuple[Layer, ...]


def read_network(path: Path) -> LayerFile:
    """Read a network of dlib's. Raises WeightsError: no such file, cut short, or with layers not known here."""
    reader = Reader.open(path)
    reader.expect(1)
    loss = _loss(reader)
    layers = 0
    while reader.expect(1, 2, 3) != 3:  # 3: the layer that the input stands before
        layers += 1
        if layers > MOST_LAYERS:
            raise reader.refusal(f"more than {MOST_LAYERS:,} layers")
    kind = reader.text()
    if kind not in ("input_rgb_image_sized", "input_rgb_image_pyramid"):
        raise reader.refusal(f"an input of the unknown kind {kind!r}")
    means = (reader.real(), reader.real(), reader.real())
    if kind.endswith("sized"):
        reader.integer(), reader.integer()  # rows and columns
    found: list[Layer] = []
    while not reader.ended:
        layer = _layer(reader)
        if layer is not None:
            found.append(layer)
        _bookkeeping(reader)
        if len(found) == 1 and isinstance(layer, Convolution):
            reader.expect(1)  # how many samples the input makes of one
    return LayerFile(loss, means, tuple(found))


def _loss(reader: Reader) -> tuple[float, ...]:
    kind = reader.text()
    if kind == "loss_metric_2":
        return reader.real(), reader.real()
    if kind != "loss_mmod_":
        raise reader.refusal(f"a loss of the unknown kind {kind!r}")
    reader.expect(1)
    window = float(reader.integer()), float(reader.integer())  # width and height
    return *window, *(reader.real() for _ in range(7))


def _layer(reader: Reader) -> Layer | None:
    kind = reader.text()
    if kind not in _LAYERS:
        raise reader.refusal(f"a layer of the unknown kind {kind!r}")
    return _LAYERS[kind](reader)


def _bookkeeping(reader: Reader) -> None:
    """Skip what every layer keeps for training: three flags, three tensors that are empty in a finished network."""
    for _ in range(3):
        reader.flag()
    for _ in range(3):
        reader.tensor()


def _convolution(reader: Reader) -> Convolution:
    numbers = reader.tensor()
    outputs, _, _, stride, other_stride, padding, other_padding = (reader.count(10_000) for _ in range(7))
    shape, bias = reader.shape(), math.prod(reader.shape())
    for _ in range(4):
        reader.real()  # factors of the learning rate and the weight decay
    size = math.prod(shape)
    if stride != other_stride or padding != other_padding or shape[0] != outputs or size + bias != len(numbers):
        raise reader.refusal(f"a convolution of {shape} with {len(numbers):,} numbers does not add up")
    return Convolution(numbers[:size].reshape(shape), numbers[size:], stride, padding)


def _affine(reader: Reader) -> Affine:
    numbers = reader.tensor()
    channels = math.prod(reader.shape())
    reader.shape()
    reader.integer()  # whether a channel or a value has its own
    return _halves(reader, numbers, channels)


def _norm(reader: Reader) -> Affine:
    """A batch norm as it was trained, turned into its factor and summand."""
    numbers = reader.tensor()
    channels = math.prod(reader.shape())
    reader.shape()
    reader.tensor(), reader.tensor()  # mean and deviation of the last batch
    mean, variance = reader.tensor(), reader.tensor()
    reader.integer(), reader.integer()  # updates, and over how many
    for _ in range(4):
        reader.real()
    epsilon = reader.real()
    learned = _halves(reader, numbers, channels)
    scale = learned.scale / np.sqrt(variance + np.float32(epsilon))
    return Affine(scale, learned.shift - scale * mean)


def _halves(reader: Reader, numbers: Floats, channels: int) -> Affine:
    if len(numbers) != 2 * channels:
        raise reader.refusal(f"a norm of {channels:,} channels with {len(numbers):,} numbers does not add up")
    return Affine(numbers[:channels], numbers[channels:])


def _linear(reader: Reader) -> Floats:
    outputs, inputs = reader.count(100_000), reader.count(100_000)
    numbers = reader.tensor()
    reader.shape(), reader.shape()
    reader.integer()  # whether it has a bias
    for _ in range(4):
        reader.real()
    if len(numbers) != inputs * outputs:
        raise reader.refusal(f"a linear layer of {inputs} x {outputs} with {len(numbers):,} numbers does not add up")
    return numbers.reshape(inputs, outputs)


def _nothing(reader: Reader) -> None:
    """A layer that holds nothing."""


def _pool(reader: Reader) -> None:
    for _ in range(6):
        reader.integer()  # window, strides and padding: the architecture says them


_LAYERS: dict[str, Callable[[Reader], Layer | None]] = {
    "con_4": _convolution,
    "affine_": _affine,
    "bn_con2": _norm,
    "fc_2": _linear,
    "relu_": _nothing,
    "add_prev_": _nothing,
    "max_pool_2": _pool,
    "avg_pool_2": _pool,
}
