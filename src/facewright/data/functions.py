"""`function:monkey-saddle` and others: points of a known function, drawn at random inside a box.

`function:monkey-saddle?points=500&noise=0&seed=0` is read as a web address is; what is left out has the value shown
here. The noise is normal, its deviation in the units of the target.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qsl

import numpy as np
from numpy.typing import NDArray

from facewright.errors import UnknownName, UsageError

SCHEME = "function:"
_DEFAULTS = {"points": "500", "noise": "0", "seed": "0"}
_MOST = {"points": 1_000_000, "noise": 1e12, "seed": 2**32 - 1}


@dataclass(frozen=True)
class Function:
    """A function and the box its points come from, evenly spread."""

    formula: str
    inputs: tuple[str, ...]
    target: str
    box: tuple[tuple[float, float], ...]  # lowest and highest value of each input
    of: Callable[[NDArray[np.float64]], NDArray[np.float64]]  # (N, D) -> (N,)


def _monkey_saddle(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    x, y = rows[:, 0], rows[:, 1]
    z: NDArray[np.float64] = x**3 - 3 * x * y**2
    return z


def _friedman(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    a, b, c, d, e = (rows[:, column] for column in range(5))
    y: NDArray[np.float64] = 10 * np.sin(np.pi * a * b) + 20 * (c - 0.5) ** 2 + 10 * d + 5 * e
    return y


FUNCTIONS = {
    "monkey-saddle": Function(
        "z = x³ − 3xy²", ("x", "y"), "z", ((-10.0, 10.0), (-50.0, 50.0)), _monkey_saddle
    ),
    "sinc": Function("y = sin(x) / x", ("x",), "y", ((-15.0, 15.0),), lambda rows: np.sinc(rows[:, 0] / np.pi)),
    # J. H. Friedman, "Multivariate adaptive regression splines", Annals of Statistics 19 (1991), eq. 61
    "friedman": Function(
        "y = 10 sin(πab) + 20(c − ½)² + 10d + 5e", tuple("abcde"), "y", ((0.0, 1.0),) * 5, _friedman
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Drawn:
    """Points of a function."""

    name: str
    where: str  # with every parameter written out
    function: Function
    inputs: NDArray[np.float64]  # (N, D)
    target: NDArray[np.float64]  # (N,), noise included


def draw(where: str) -> Drawn:
    """Points of a function, by its address.

    Raises:
        UnknownName: a function or key that is not known; the nearest one is named.
        UsageError: a key given twice, no number, or out of its range.
    >>> drawn = draw("function:monkey-saddle?points=50&seed=1")
    >>> drawn.inputs.shape, drawn.where
    ((50, 2), 'function:monkey-saddle?points=50&noise=0&seed=1')
    """
    name, _, query = where.removeprefix(SCHEME).partition("?")
    if name not in FUNCTIONS:
        raise UnknownName("function", name, FUNCTIONS)
    function, values = FUNCTIONS[name], _values(where, query)
    points, noise, seed = int(values["points"]), values["noise"], int(values["seed"])
    stream = np.random.default_rng(seed)
    low, high = np.array(function.box).T
    inputs = stream.uniform(low, high, (points, len(low)))
    target = function.of(inputs) + noise * stream.standard_normal(points)
    return Drawn(name, f"{SCHEME}{name}?points={points}&noise={noise:.12g}&seed={seed}", function, inputs, target)


def _values(where: str, query: str) -> dict[str, float]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        raise UsageError(f"{where!r}: expected key=value, several joined by &") from None
    given: dict[str, str] = {}
    for key, text in pairs:
        if key not in _DEFAULTS:
            raise UnknownName("key of function", key, _DEFAULTS)
        if key in given:
            raise UsageError(f"{where!r}: {key} is given twice")
        given[key] = text
    return {key: _value(key, text) for key, text in (_DEFAULTS | given).items()}


def _value(key: str, text: str) -> float:
    low = 1 if key == "points" else 0
    try:
        value = float(text) if key == "noise" else float(int(text))
    except (ValueError, OverflowError):
        kind = "a number" if key == "noise" else "a whole number"
        raise UsageError(f"function: {key} must be {kind}, not {text!r}") from None
    if not (math.isfinite(value) and low <= value <= _MOST[key]):
        raise UsageError(f"function: {key} must be from {low} to {_MOST[key]:,g}, not {text}")
    return value
