"""A stream of random numbers that is the same on every platform and NumPy version.

NumPy promises the raw integers of a bit generator for ever, but not what its distributions make of them;
so the few distributions needed here are made from the raw integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")


class RandomStream:
    """Numbers that depend on the key and on nothing else.

    >>> RandomStream(0, 7).unit() == RandomStream(0, 7).unit()
    True
    """

    def __init__(self, *key: int) -> None:
        self._generator = np.random.Philox(np.random.SeedSequence(list(key)))
        self._waiting: list[int] = []

    def unit(self) -> float:
        """One number in [0, 1) with 53 random bits."""
        if not self._waiting:
            self._waiting = self._generator.random_raw(96).tolist()
        return (self._waiting.pop() >> 11) * 2.0**-53

    def between(self, low: float, high: float) -> float:
        """One number, uniform in [low, high)."""
        return low + (high - low) * self.unit()

    def around(self, centre: float, reach: float) -> float:
        """One number in centre ± reach, the middle more often than the ends (triangular)."""
        return centre + reach * (self.unit() + self.unit() - 1.0)

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.unit() < probability

    def pick(self, choices: Sequence[T]) -> T:
        """One of the choices, each as likely."""
        return choices[int(self.unit() * len(choices))]

    def units(self, *shape: int) -> NDArray[np.float64]:
        """An array of numbers in [0, 1) with 53 random bits each."""
        raw: NDArray[np.uint64] = self._generator.random_raw(int(np.prod(shape)))
        return np.asarray((raw >> np.uint64(11)).reshape(shape) * 2.0**-53, np.float64)

    def bell(self, count: int) -> NDArray[np.float32]:
        """(count,) numbers of mean 0 and standard deviation 1, nearly normal: sums of four bytes."""
        raw: NDArray[np.uint64] = self._generator.random_raw((count + 1) // 2)
        quads = raw.view(np.uint32)[:count]
        # Bytes are taken by shifting, not by viewing, so that the order of bytes in memory plays no part.
        total = (quads & 255) + (quads >> 8 & 255) + (quads >> 16 & 255) + (quads >> 24)
        return np.asarray((total.astype(np.float32) - 510.0) * (1.0 / 147.8), np.float32)
