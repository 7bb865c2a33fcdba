"""dlib's way of writing numbers, against bytes put together by hand; and what is no file of its."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from facewright.errors import WeightsError
from facewright.faces.dlib import files as dlib_files
from facewright.faces.dlib.files import Affine, Convolution, Reader, read_network


def integer(value: int) -> bytes:
    length = max(1, (abs(value).bit_length() + 7) // 8)
    return bytes([length | (0x80 if value < 0 else 0)]) + abs(value).to_bytes(length, "little")


def text(value: str) -> bytes:
    return integer(len(value)) + value.encode()


def tensor(*numbers: float) -> bytes:
    sizes = b"".join(map(integer, (len(numbers), 1, 1, 1) if numbers else (0, 0, 0, 0)))
    return integer(2) + sizes + struct.pack(f"<{len(numbers)}f", *numbers)


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b"\x01\x00", 0),
        (b"\x01\xff", 255),
        (b"\x81\x0a", -10),  # bit 7: negative
        (b"\x02\xf4\x01", 500),  # lowest byte first
        (b"\x88\x00\x00\x00\x00\x00\x00\x00\x80", -(2**63)),
    ],
)
def test_integers(content: bytes, value: int) -> None:
    reader = Reader(content)
    assert reader.integer() == value and reader.ended


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b"\x01\x10\x81\x04", 1.0),  # 16 * 2**-4
        (b"\x03\x9a\x99\x99\x81\x18", float(np.float32(0.6))),
        (b"\x81\x03\x01\x02", -12.0),
        (b"\x01\x00\x01\x00", 0.0),
    ],
)
def test_reals(content: bytes, value: float) -> None:
    assert Reader(content).real() == value


def test_what_numbers_are_made_into() -> None:
    assert Reader(text("con_4")).text() == "con_4"
    assert [Reader(digit).flag() for digit in (b"0", b"1")] == [False, True]
    assert Reader(tensor(1.5, -2.0)).tensor().tolist() == [1.5, -2.0]
    column = integer(-2) + integer(-1) + b"\x01\x03\x01\x00" + b"\x01\x05\x81\x01"
    assert Reader(column).matrix().tolist() == [[3.0], [2.5]]


@pytest.mark.parametrize(
    ("content", "read", "said"),
    [
        (b"", Reader.integer, "cut short"),
        (b"\x02\x01", Reader.integer, "cut short"),
        (b"\x00", Reader.integer, "an integer of 0 bytes"),
        (b"\x09" + bytes(9), Reader.integer, "an integer of 9 bytes"),
        (b"\x41\x01", Reader.integer, "an integer of 1 bytes"),  # a control byte with bits that mean nothing
        (b"\x01\x01\x02\x00\x7d", Reader.real, "a number that is none"),  # 32,000: infinity
        (b"\x01\x01\x83\x00\x00\x10", Reader.real, "a number that is none"),
        (b"\x81\x05abcde", Reader.text, "-5 where 0 to 200 was expected"),
        (b"\x01\x02\xff\xff", Reader.text, "a name that is no text"),
        (b"2", Reader.flag, "neither 0 nor 1"),
        (tensor(float("nan")), Reader.tensor, "NaN or infinity"),
        (integer(3), Reader.tensor, "3 where 2 was expected"),
        (integer(2) + 4 * integer(2**20), Reader.tensor, "a tensor of"),
        (integer(2) + integer(2**40), Reader.tensor, "where 0 to"),
        (integer(5) + integer(-1), Reader.matrix, "a matrix of -5 x 1"),
    ],
)
def test_what_dlib_would_not_write_is_refused(content: bytes, read: object, said: str) -> None:
    with pytest.raises(WeightsError, match=said):
        read(Reader(content))  # type: ignore[operator]


KEPT = b"110" + 3 * tensor()
ONES = 4 * b"\x01\x01\x01\x00"


def shape(*sizes: int) -> bytes:
    return integer(1) + b"".join(map(integer, sizes))


def a_network(*layers: bytes, loss: bytes = text("loss_metric_2") + b"\x01\x01\x01\x00" * 2) -> bytes:
    """A convolution of 1x1 from three channels to two, and what comes behind it."""
    numbers = tensor(1, 2, 3, 4, 5, 6, 0.5, -0.5)
    sizes = b"".join(map(integer, (2, 1, 1, 1, 1, 0, 0)))
    first = text("con_4") + numbers + sizes + shape(2, 3, 1, 1) + shape(1, 2, 1, 1) + ONES + KEPT + integer(1)
    levels = b"".join(map(integer, (2, 1, 2, 3)))
    given = text("input_rgb_image_sized") + 3 * b"\x01\x64\x01\x00" + 2 * integer(150)
    return integer(1) + loss + levels + given + first + b"".join(layers)


RELU = text("relu_") + KEPT
AFFINE = text("affine_") + tensor(2, 3, 4, 5) + shape(1, 2, 1, 1) * 2 + integer(0) + KEPT
NORM = (
    text("bn_con2") + tensor(2, 3, 4, 5) + shape(1, 2, 1, 1) * 2
    + 2 * tensor() + tensor(1, 2) + tensor(4, 1) + integer(7) + integer(100) + ONES + b"\x01\x00\x01\x00" + KEPT
)  # fmt: skip


def written(folder: Path, content: bytes) -> Path:
    path = folder / "net.dat"
    path.write_bytes(content)
    return path


def test_a_network_becomes_its_layers_with_weights(tmp_path: Path) -> None:
    network = read_network(written(tmp_path, a_network(AFFINE, RELU, NORM)))
    assert network.loss == (1.0, 1.0) and network.means == (100.0, 100.0, 100.0)
    convolution, affine, norm = network.layers
    assert isinstance(convolution, Convolution) and isinstance(affine, Affine) and isinstance(norm, Affine)
    assert convolution.weight.reshape(2, 3).tolist() == [[1, 2, 3], [4, 5, 6]]
    assert convolution.bias.tolist() == [0.5, -0.5]
    assert (affine.scale.tolist(), affine.shift.tolist()) == ([2, 3], [4, 5])
    # (x - mean) / sqrt(variance) * scale + shift
    assert (norm.scale.tolist(), norm.shift.tolist()) == ([1, 3], [3, -1])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (a_network()[:-5], "cut short"),
        (a_network(RELU)[:-5], "cut short"),
        (a_network(text("softmax_")), "a layer of the unknown kind 'softmax_'"),
        (a_network(loss=text("loss_dot")), "a loss of the unknown kind 'loss_dot'"),
        (integer(9), "9 where 1 was expected"),
        (b"PK\x03\x04" + bytes(100), "not a file of dlib's"),
        (a_network(text("affine_") + tensor(1, 2, 3) + shape(1, 2, 1, 1) * 2 + integer(0)), "does not add up"),
        (a_network().replace(shape(2, 3, 1, 1), shape(2, 3, 1, 2)), "does not add up"),
        (integer(1) + text("loss_metric_2") + b"\x01\x01\x01\x00" * 2 + integer(2) * 1001, "more than 1,000 layers"),
    ],
)
def test_networks_that_are_none(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(WeightsError, match=said):
        read_network(written(tmp_path, content))


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WeightsError, match="no such file"):
        Reader.open(tmp_path / "absent.dat")
    monkeypatch.setattr(dlib_files, "MOST_BYTES", 3)
    with pytest.raises(WeightsError, match="larger than 3 bytes"):
        Reader.open(written(tmp_path, b"1234"))


def test_the_package_is_found_without_being_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for name in (dlib_files.EMBEDDING, dlib_files.FIVE_POINTS, dlib_files.DETECTOR):
        assert dlib_files.package_file(name).is_file()
    assert dlib_files.PACKAGE not in sys.modules
    with pytest.raises(WeightsError, match="expected one of the files"):
        dlib_files.package_file("shape_predictor_68_face_landmarks.dat")
    monkeypatch.setattr(dlib_files, "PACKAGE", "face_recognition_models_that_are_absent")
    with pytest.raises(WeightsError, match="is not installed"):
        dlib_files.package_file(dlib_files.EMBEDDING)
