"""A decision threshold together with what it was chosen on, as it is stored in a model file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from facewright.errors import DataError, Undefined
from facewright.metrics.intervals import Rate
from facewright.metrics.verification import OperatingPoint, roc, tar_at_far

DIRECTION = "accept iff score >= value"
METHOD = "most impostors accepted within the target, no interpolation, ties together"


@dataclass(frozen=True)
class Threshold:
    """Where to draw the line, and how that was decided. `far` and `tar` are of the data it was chosen on."""

    value: float
    score: str  # "cosine"
    direction: str  # DIRECTION, and no other
    far_target: float
    far: Rate  # achieved, Clopper-Pearson
    tar: Rate | None
    impostors: int
    genuine: int
    data: str  # what it was chosen on
    method: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> Threshold:
        """The inverse of `to_dict`.

        Raises:
            DataError: the facts lack a field, have one too many, or hold what no threshold can.
        """
        known = [field.name for field in fields(cls)]
        missing, extra = [name for name in known if name not in facts], sorted(set(facts) - set(known))
        if missing or extra:
            raise DataError(f"no threshold: it lacks {missing or 'nothing'} and has {extra or 'nothing'} too many")
        tar = facts["tar"]
        record = cls(
            value=_number(facts, "value"),
            score=_text(facts, "score"),
            direction=_text(facts, "direction"),
            far_target=_number(facts, "far_target"),
            far=_rate(facts["far"], "far"),
            tar=None if tar is None else _rate(tar, "tar"),
            impostors=_count(facts, "impostors"),
            genuine=_count(facts, "genuine"),
            data=_text(facts, "data"),
            method=_text(facts, "method"),
        )
        _check(record)
        return record


def choose_threshold(
    genuine: ArrayLike, impostor: ArrayLike, far: float, data: str, score: str = "cosine"
) -> Threshold:
    """Choose the threshold that accepts as many impostors as the target allows.

    Args:
        genuine: (P,) scores of pairs of one person. impostor: (Q,) scores of pairs of two.
        far: the target in (0, 1]. data: what the pairs are, for the record. score: the name of the similarity.
    Raises:
        Undefined: the impostors are too few to resolve the target (says how many it takes), or too many of them tie.
        EmptyScores: either side is empty. DataError: a score that is not finite. UsageError: far is no rate.
    Source: docs/protocols.md, "Verification".
    >>> choose_threshold([0.9, 0.5], [0.4, 0.3, 0.2, 0.1], far=0.25, data="a doctest").value
    0.4
    """
    curve = roc(genuine, impostor)
    point = tar_at_far(curve, far)
    refuse_accepting_none(point)
    return Threshold(
        value=point.threshold,
        score=score,
        direction=DIRECTION,
        far_target=point.target,
        far=point.far,
        tar=point.tar,
        impostors=curve.impostors,
        genuine=curve.genuine,
        data=data,
        method=METHOD,
    )


def accepting_at_most(impostor: ArrayLike, allowed: int) -> float:
    """The lowest threshold that accepts at most so many impostors, midway to the next score, so that rounding decides
    nothing; ties move together.

    Args:
        impostor: (Q,) finite scores, Q >= 1.
        allowed: how many may be accepted, at least 0; with Q or more all are.

    >>> accepting_at_most([0.1, 0.5, 0.3, 0.5], allowed=2), accepting_at_most([0.1, 0.5, 0.3, 0.5], allowed=4)
    (0.4, 0.1)
    """
    falling = np.sort(np.asarray(impostor, dtype=np.float64))[::-1]
    if allowed >= falling.size:
        return float(falling[-1])
    refused = float(falling[allowed])
    accepted = falling[falling > refused]
    between = (float(accepted[-1]) + refused) / 2 if accepted.size else refused
    return between if between > refused else math.nextafter(refused, math.inf)


def refuse_accepting_none(point: OperatingPoint) -> None:
    """Raise Undefined where the target can only be met by accepting nothing at all."""
    if math.isinf(point.threshold):
        raise Undefined(
            f"no threshold meets a false-accept rate of {point.target:g}: more impostors than that share the highest "
            f"score of all {point.far.n}; the model tells nobody apart, or the pairs hold duplicates"
        )


def _check(record: Threshold) -> None:
    if not math.isfinite(record.value):
        raise DataError(f"no threshold: expected a finite value, got {record.value}")
    if record.direction != DIRECTION:
        raise DataError(f"no threshold: expected the direction {DIRECTION!r}, got {record.direction!r}")
    if not 0 < record.far_target <= 1:
        raise DataError(f"no threshold: expected a far_target in (0, 1], got {record.far_target}")
    for name, rate, n in (("far", record.far, record.impostors), ("tar", record.tar, record.genuine)):
        if rate is not None and not (0 <= rate.low <= rate.value <= rate.high <= 1 and rate.n == n):
            raise DataError(f"no threshold: {name} is no rate over {n} pairs: {rate}")


def _number(facts: Mapping[str, Any], name: str) -> float:
    value = facts[name]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise DataError(f"no threshold: expected a number as {name}, got {value!r}")
    return float(value)


def _count(facts: Mapping[str, Any], name: str) -> int:
    value = facts[name]
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise DataError(f"no threshold: expected a count as {name}, got {value!r}")
    return value


def _text(facts: Mapping[str, Any], name: str) -> str:
    value = facts[name]
    if not isinstance(value, str):
        raise DataError(f"no threshold: expected text as {name}, got {value!r}")
    return value


def _rate(facts: Any, name: str) -> Rate:
    if not isinstance(facts, Mapping) or set(facts) != {"value", "low", "high", "n"}:
        raise DataError(f"no threshold: expected value, low, high and n as {name}, got {facts!r}")
    return Rate(_number(facts, "value"), _number(facts, "low"), _number(facts, "high"), _count(facts, "n"))
