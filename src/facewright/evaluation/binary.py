"""From the scores of a binary task to its error rates: the threshold from the validation part, the errors from test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facewright.errors import UsageError
from facewright.metrics.binary import Epc, binary_errors, expected_performance_curve
from facewright.metrics.binary_threshold import choose
from facewright.metrics.intervals import Rate
from facewright.metrics.verification import auc, eer, roc

USUAL = 0.5  # the threshold that scripts take unasked
Sides = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True)
class BinaryResult:
    """A binary task. Rates are Wilson's, each over its own class; the HTER's interval is made of the two."""

    accepted: str  # the positive class: the second in order
    rejected: str
    positives: int  # in the test part
    negatives: int
    rule: str  # how the threshold was chosen on the validation part
    threshold: float
    validation_hter: float  # at that threshold, on the part it was chosen on: too good
    far: Rate  # negatives accepted
    frr: Rate  # positives rejected
    hter: Rate  # n is of all images of the test part
    hter_at_half: Rate  # at 0.5, what a script without a validation part would report
    far_at_half: Rate
    frr_at_half: Rate
    eer: float  # of the test part
    eer_low: float
    eer_high: float
    auc: float
    epc: Epc

    def to_dict(self) -> dict[str, Any]:
        facts = {"task": "binary"} | asdict(self)
        facts["epc"] = {name: list(value) for name, value in asdict(self.epc).items()}
        return facts

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> BinaryResult:
        """The inverse of `to_dict`; raises UsageError where the facts are of another task or incomplete."""
        if facts.get("task") != "binary":
            raise UsageError(f"expected the facts of a binary task, got task {facts.get('task')!r}")
        missing = [field.name for field in fields(cls) if field.name not in facts]
        if missing:
            raise UsageError(f"the facts of a binary task lack {', '.join(missing)}: evaluate the run again")
        values = {field.name: facts[field.name] for field in fields(cls)}
        for name in ("far", "frr", "hter", "hter_at_half", "far_at_half", "frr_at_half"):
            values[name] = Rate.from_dict(values[name])
        values["epc"] = Epc(**{name: tuple(value) for name, value in values["epc"].items()})
        return cls(**values)


def judge_binary(
    validation: tuple[ArrayLike, ArrayLike],
    test: tuple[ArrayLike, ArrayLike],
    rule: str = "min-hter",
    classes: tuple[str, str] = ("negative", "positive"),
) -> BinaryResult:
    """Measure a binary task by HTER, EER and EPC.

    Args:
        validation, test: scores (N,), the higher the likelier positive, and whether each is positive, (N,) bool.
        rule: "min-hter", "eer" or "far=X", on the validation part.
        classes: the negatives' and the positives' name.
    Raises:
        EmptyScores: a part lacks a class. DataError: a score is not finite. UsageError: not the same images.
        UnknownName: no such rule. Undefined: the negatives of the validation part are too few for X.
    Source: docs/protocols.md, "Binary tasks and HTER".
    """
    chosen_on, scored_on = _sides(validation, "validation"), _sides(test, "test")
    threshold = choose(*chosen_on, rule, classes, "validation")
    errors, usual = binary_errors(*scored_on, threshold.value), binary_errors(*scored_on, USUAL)
    curve = roc(*scored_on)
    equal = eer(curve)
    return BinaryResult(
        accepted=threshold.accepted,
        rejected=threshold.rejected,
        positives=curve.genuine,
        negatives=curve.impostors,
        rule=threshold.rule,
        threshold=threshold.value,
        validation_hter=threshold.hter.value,
        far=errors.far,
        frr=errors.frr,
        hter=errors.hter,
        hter_at_half=usual.hter,
        far_at_half=usual.far,
        frr_at_half=usual.frr,
        eer=equal.value,
        eer_low=equal.low,
        eer_high=equal.high,
        auc=auc(curve),
        epc=expected_performance_curve(chosen_on, scored_on),
    )


def _sides(part: tuple[ArrayLike, ArrayLike], name: str) -> Sides:
    scores, positive = np.asarray(part[0], dtype=np.float64), np.asarray(part[1])
    if scores.ndim != 1 or scores.shape != positive.shape:
        raise UsageError(f"{name}: expected scores and labels (N,), got {scores.shape} and {positive.shape}")
    if not np.isin(positive, (0, 1)).all():
        raise UsageError(f"{name}: expected labels that say yes or no (true or false, 1 or 0)")
    truth = positive.astype(bool)
    return scores[truth], scores[~truth]
