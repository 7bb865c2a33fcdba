"""Networks out of dlib's files: the layers with weights, in order, as arrays.

A file holds a number for each layer from the last to the first, the loss before them and the input behind them; then
the layers from the first to the last, each a name, what it holds, and what it kept for training, which is empty in a
finished network. How layers are wired is not in the file; the classes that take the weights know it.

Source: the format as dlib 19 writes it (dlib/dnn); checked against dlib itself by the tests.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facewright.faces.dlib.files import Floats, Reader

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
    """Read a network of dlib's.

    Raises:
        WeightsError: not such a file, cut short, or with layers that are not known here.
    """
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
