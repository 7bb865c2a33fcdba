"""Numbers out of dlib's serialised files, which hold nothing but numbers and names; and where those files lie.

The files come with the Python package `face_recognition_models` (Davis King's networks, public domain and CC0). They
are found without importing it. Its landmark file of 68 points is not free for every use, and nothing here reads it.

    integer   a control byte (bit 7: negative; the lowest four bits: how many bytes follow), the magnitude, lowest first
    real      mantissa and exponent as two integers, m * 2**e
    text      its length, its bytes
    flag      one digit, "1" or "0"
    tensor    a 2, four sizes (samples, channels, rows, columns), float32 lowest byte first
    matrix    rows and columns, both negated; its numbers as reals

Source: the format as dlib 19 writes it (dlib/serialize.h); checked against dlib itself by the tests.
"""

from __future__ import annotations

import math
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facewright.errors import WeightsError

PACKAGE = "face_recognition_models"
EMBEDDING = "dlib_face_recognition_resnet_model_v1.dat"
FIVE_POINTS = "shape_predictor_5_face_landmarks.dat"
DETECTOR = "mmod_human_face_detector.dat"

MOST_BYTES = 64 * 2**20  # of a file; the largest has 22 MB
_NOT_FINITE = 32_000  # exponents from here on stand for infinity and NaN

Floats = NDArray[np.float32]


def package_file(name: str) -> Path:
    """Return the path of a data file of the package.

    Args:
        name: `EMBEDDING`, `FIVE_POINTS` or `DETECTOR`.
    Raises:
        WeightsError: the package is not installed, or has no such file.
    """
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
        try:
            size = path.stat().st_size
            if size > MOST_BYTES:
                raise WeightsError(f"{path}: has {size:,} bytes; the limit is {MOST_BYTES:,}")
            return cls(path.read_bytes(), str(path))
        except OSError as error:
            raise WeightsError(f"{path}: cannot be read ({error.strerror or error})") from None

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
