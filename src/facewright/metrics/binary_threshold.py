"""The threshold of a two-class model together with how it was chosen, as it is stored in a model file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from numpy.typing import ArrayLike

from facewright.errors import DataError
from facewright.metrics.binary import binary_errors, choose_binary_threshold
from facewright.metrics.intervals import Rate

KIND = "binary"  # tells these records from thresholds of pairs, which lie in the same list of a model file
DIRECTION = "accept iff score >= value"


@dataclass(frozen=True)
class BinaryThreshold:
    """Where a picture is taken for the accepted class. The rates are of the data the threshold was chosen on."""

    kind: str  # KIND, and no other
    value: float  # of the probability of the accepted class; may lie a bit above 1: accept nothing
    score: str  # "probability"
    direction: str  # DIRECTION, and no other
    accepted: str  # the class that a score at or above `value` means
    rejected: str
    rule: str  # "min-hter", "eer" or "far=X"
    far: Rate  # Wilson, over the rejected class
    frr: Rate  # Wilson, over the accepted class
    hter: Rate
    data: str  # what it was chosen on

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def decide(self, score: float) -> str:
        """The class of a picture whose probability of the accepted class is `score`."""
        return self.accepted if score >= self.value else self.rejected

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> BinaryThreshold:
        """The inverse of `to_dict`.

        Raises:
            DataError: the facts lack a field, have one too many, or hold what no threshold can.
        """
        known = [field.name for field in fields(cls)]
        missing, extra = [name for name in known if name not in facts], sorted(set(facts) - set(known))
        if missing or extra:
            raise DataError(f"no binary threshold: it lacks {missing or 'nothing'}, has {extra or 'nothing'} too many")
        values = dict(facts)
        for name in ("kind", "score", "direction", "accepted", "rejected", "rule", "data"):
            if not isinstance(values[name], str):
                raise DataError(f"no binary threshold: expected text as {name}, got {values[name]!r}")
        if (values["kind"], values["direction"]) != (KIND, DIRECTION):
            raise DataError(f"no binary threshold: expected {KIND!r}, {DIRECTION!r}, got {values['direction']!r}")
        value = values["value"]
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise DataError(f"no binary threshold: expected a finite number as value, got {value!r}")
        for name in ("far", "frr", "hter"):
            values[name] = _rate(values[name], name)
        return cls(**values)


def choose(genuine: ArrayLike, impostor: ArrayLike, rule: str, classes: tuple[str, str], data: str) -> BinaryThreshold:
    """Choose the threshold by a rule and note what it does to the data it is chosen on.

    Args:
        genuine: (P,) probabilities of the accepted class where it is the true one. impostor: (Q,) where it is not.
        rule: as `choose_binary_threshold`.
        classes: the rejected and the accepted class. data: what the scores are of, for the record.
    Raises:
        As `choose_binary_threshold`.
    >>> choose([0.75, 0.5], [0.25, 0.0], "min-hter", ("bare", "masked"), data="a doctest").decide(0.4)
    'masked'
    """
    value = choose_binary_threshold(genuine, impostor, rule)
    errors = binary_errors(genuine, impostor, value)
    return BinaryThreshold(
        kind=KIND,
        value=value,
        score="probability",
        direction=DIRECTION,
        accepted=classes[1],
        rejected=classes[0],
        rule=rule,
        far=errors.far,
        frr=errors.frr,
        hter=errors.hter,
        data=data,
    )


def stored(thresholds: Sequence[Mapping[str, Any]], classes: Sequence[str]) -> BinaryThreshold | None:
    """The one among a model file's thresholds that decides between its two classes; None where there is none.

    Raises:
        DataError: the record is damaged, or is about other classes.
    """
    found = next((facts for facts in thresholds if facts.get("kind") == KIND), None)
    if found is None:
        return None
    record = BinaryThreshold.from_dict(found)
    if sorted((record.rejected, record.accepted)) != sorted(classes):
        raise DataError(
            f"no binary threshold: expected one between {' and '.join(classes)}, "
            f"got one between {record.rejected} and {record.accepted}"
        )
    return record


def _rate(facts: Any, name: str) -> Rate:
    if not isinstance(facts, Mapping) or set(facts) != {"value", "low", "high", "n"}:
        raise DataError(f"no binary threshold: expected value, low, high and n as {name}, got {facts!r}")
    if not all(isinstance(number, int | float) and not isinstance(number, bool) for number in facts.values()):
        raise DataError(f"no binary threshold: expected numbers in {name}, got {facts!r}")
    rate = Rate(**facts)
    if not 0 <= rate.low <= rate.value <= rate.high <= 1:
        raise DataError(f"no binary threshold: {name} is no rate: {facts!r}")
    return rate
