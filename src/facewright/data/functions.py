"""Random points of a known function: `function:monkey-saddle?points=500&noise=0&seed=0`; these are the defaults."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facewright.data.addresses import parse_query
from facewright.errors import UnknownName, UsageError

Array = NDArray[np.float64]

FUNCTION = "function:"
DEFAULTS = {"points": "500", "noise": "0", "seed": "0"}
MOST = {"points": 1_000_000, "noise": 1e12, "seed": 2**32 - 1}


@dataclass(frozen=True)
class Function:
    """A known function, and the box that its points are drawn from uniformly."""

    formula: str
    names: tuple[str, ...]  # of the inputs, then of the target
    box: tuple[tuple[float, float], ...]
    of: Callable[..., Array]  # one array (N,) an input


FUNCTIONS = {
    "monkey-saddle": Function(
        "z = x³ − 3xy²", ("x", "y", "z"), ((-10, 10), (-50, 50)), lambda x, y: x**3 - 3 * x * y**2
    ),
    "sinc": Function("y = sin(x) / x", ("x", "y"), ((-15, 15),), lambda x: np.sinc(x / np.pi)),
    # J. H. Friedman, "Multivariate adaptive regression splines", Annals of Statistics 19 (1991), eq. 61
    "friedman": Function(
        "y = 10 sin(πab) + 20(c − ½)² + 10d + 5e", (*"abcde", "y"), ((0, 1),) * 5,
        lambda a, b, c, d, e: 10 * np.sin(np.pi * a * b) + 20 * (c - 0.5) ** 2 + 10 * d + 5 * e,
    ),
}  # fmt: skip


def draw_points(source: str) -> tuple[str, str, tuple[str, ...], Array, str]:
    """Draw the points of a function's address: name, complete address, columns, values (N, columns), formula.

    Raises:
        UnknownName: no such function or key. UsageError: a key given twice, or a value out of range.
    """
    name, _, query = source.removeprefix(FUNCTION).partition("?")
    if name not in FUNCTIONS:
        raise UnknownName("function", name, FUNCTIONS)
    function, given = FUNCTIONS[name], dict(DEFAULTS)
    given |= parse_query(source, query, DEFAULTS, "function")
    points, noise, seed = (_value(key, given[key]) for key in DEFAULTS)
    random = np.random.default_rng(int(seed))
    low, high = np.array(function.box, float).T
    inputs = random.uniform(low, high, (int(points), len(low)))
    target = function.of(*inputs.T) + noise * random.standard_normal(int(points))
    address = f"{FUNCTION}{name}?points={int(points)}&noise={noise:.12g}&seed={int(seed)}"
    return name, address, function.names, np.c_[inputs, target], function.formula


def _value(key: str, text: str) -> float:
    low = 1 if key == "points" else 0
    try:
        value = float(text) if key == "noise" else float(int(text))
    except (ValueError, OverflowError):
        value = math.nan
    if not low <= value <= MOST[key]:
        kind = "a number" if key == "noise" else "a whole number"
        raise UsageError(f"function: {key}: expected {kind} from {low} to {MOST[key]:,g}, got {text!r}")
    return value
