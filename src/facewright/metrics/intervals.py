"""Rates with their 95 % intervals."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Rate:
    """A share with its 95 % interval and the count it rests on.

    >>> Rate(0.91, 0.87, 0.94, 257).to_dict()
    {'value': 0.91, 'low': 0.87, 'high': 0.94, 'n': 257}
    """

    value: float
    low: float
    high: float
    n: int

    def to_dict(self) -> dict[str, float | int]:
        return asdict(self)
