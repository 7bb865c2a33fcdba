"""Error rates of a binary task: the threshold from the validation part, the errors from test; and of attack detection.

Of a model of two classes the second in order is the one to accept; the score is its probability. Presentation attack
detection has APCER of each attack type, BPCER and ACER.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facewright.data.text_tables import read_table
from facewright.errors import DataError, EmptyScores, Undefined, UsageError
from facewright.evaluation.classification import BinaryResult, Predictions
from facewright.metrics.binary import (
    DEFAULT_THRESHOLD,
    binary_errors,
    choose_binary_threshold,
    choose_class_threshold,
    expected_performance_curve,
    mean_of,
)
from facewright.metrics.intervals import Rate, wilson
from facewright.metrics.thresholds import Threshold
from facewright.metrics.verification import auc, eer, roc
from facewright.records import Record

Sides = tuple[NDArray[np.float64], NDArray[np.float64]]
BONA_FIDE = ("", "bonafide", "genuine", "live", "real")  # without space, - and _
Scores = tuple[list[float], list[str | None]]


def evaluate_binary(
    validation: Sides, test: Sides, rule: str = "min-hter", classes: tuple[str, str] = ("negative", "positive")
) -> BinaryResult:
    """Measure a binary task by HTER, EER and EPC.

    Args:
        validation, test: scores of the positives (P,) and of the negatives (Q,).
        rule: "min-hter", "eer" or "far=X", on the validation part.
        classes: the negatives' and the positives' name.
    Raises:
        EmptyScores: a part lacks a class. DataError: a score is not finite. UnknownName: no such rule.
        Undefined: the negatives of the validation part are too few for X.
    Source: docs/protocols.md, "Binary tasks and HTER".
    """
    threshold = choose_class_threshold(*validation, rule, classes, "validation")
    return _rates(threshold, test).replace(
        validation_hter=binary_errors(*validation, threshold.value).hter.value,
        epc=expected_performance_curve(validation, test),
    )


def evaluate_stored_threshold(threshold: Threshold, test: Predictions) -> BinaryResult | None:
    """Measure a model of two classes at the threshold that its file holds; None where the data lack one of the classes.

    Without the validation part there is neither its HTER nor the expected performance curve.
    """
    sides = two_sides_of(test)
    return _rates(threshold, sides) if all(len(side) for side in sides) else None


def _rates(threshold: Threshold, test: Sides) -> BinaryResult:
    errors, usual = binary_errors(*test, threshold.value), binary_errors(*test, DEFAULT_THRESHOLD)
    curve = roc(*test)
    equal = eer(curve)
    return BinaryResult(
        accepted=str(threshold.accepted),
        rejected=str(threshold.rejected),
        positives=curve.genuine,
        negatives=curve.impostors,
        rule=threshold.rule,
        threshold=threshold.value,
        validation_hter=None,
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
        epc=None,
    )


def two_sides_of(predictions: Predictions) -> Sides:
    """The probabilities of the second class, of its own images (P,) and of those of the first (Q,)."""
    scores, positive = labelled_scores(predictions)
    return scores[positive], scores[~positive]


def labelled_scores(predictions: Predictions) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The probability of the second class of each image, (N,), and whether that is its class, (N,)."""
    assert predictions.probabilities is not None  # kept of any number of images
    return predictions.probabilities[:, 1].astype(np.float64), predictions.labels == 1


def class_threshold_of(validation: Predictions, classes: tuple[str, ...], rule: str, data: str) -> Threshold | None:
    """The threshold that a rule chooses on the validation part; None where that part lacks one of the two classes.

    Args:
        classes: of the model; None also where they are not two. data: what these images are, for the record.
    Raises:
        UnknownName: no such rule. DataError: a score is not finite.
        Undefined: no threshold meets the rule's false-accept rate (too few images of the first class, or equal scores).
    """
    genuine, impostor = two_sides_of(validation) if len(classes) == 2 else (np.zeros(0), np.zeros(0))
    if not genuine.size or not impostor.size:
        return None
    return choose_class_threshold(genuine, impostor, rule, (classes[0], classes[1]), data)


def evaluate_two_classes(
    validation: Predictions, test: Predictions, classes: tuple[str, ...], rule: str
) -> BinaryResult | None:
    """HTER, EER and EPC of a model of two classes; None where it is undefined.

    That is where a part lacks one of the classes, where no threshold meets the rule, or where there are other classes.

    Raises: as `class_threshold_of`, without Undefined.
    """
    if len(classes) != 2:
        return None
    try:
        return evaluate_binary(two_sides_of(validation), two_sides_of(test), rule, (classes[0], classes[1]))
    except (EmptyScores, Undefined):
        return None


class AttackRow(Record):
    """The attacks of one type."""

    attack: str
    apcer: Rate  # share that is accepted as bona fide


class AttackResult(Record):
    """Errors of presentation attack detection at one threshold: bona fide iff score >= threshold."""

    frame_rows: ClassVar[str | None] = "attacks"
    task: Literal["attack"] = "attack"
    threshold: float
    chosen: str  # how the threshold was chosen, in words
    bona_fide: int  # presentations
    attacks: tuple[AttackRow, ...]  # by name
    apcer: Rate  # of the worst attack type; the interval is that of a maximum
    worst: str  # the attack type
    bpcer: Rate  # share of bona fide presentations that is rejected
    acer: Rate  # (apcer + bpcer) / 2


def evaluate_attacks(scores: ArrayLike, attacks: Sequence[str | None], threshold: float, chosen: str) -> AttackResult:
    """Measure presentation attack detection.

    The highest APCER of all attack types counts: a mean over types hides the attack that works. Its lower bound is the
    highest lower bound of all types (Wilson's), the upper likewise; the ACER's interval is made as the HTER's.

    Args:
        scores: (N,), the higher the likelier bona fide. attacks: (N,) the type of each attack; None: bona fide.
        threshold: bona fide iff score >= threshold; chosen on other data. chosen: how, for the record.
    Raises:
        EmptyScores: no bona fide presentation, or no attack. DataError: a score is not finite. UsageError: the two
        differ in length, or the threshold is not finite.
    Source: ISO/IEC 30107-3:2017, 13.2; ACER as in Z. Boulkenafet et al., "OULU-NPU: a mobile face presentation attack
    database with real-world variations", FG 2017.
    >>> result = evaluate_attacks([0.9, 0.4, 0.6, 0.1, 0.2], [None, None, "print", "print", "mask"], 0.5, "given")
    >>> result.worst, result.apcer.value, result.bpcer.value, result.acer.value
    ('print', 0.5, 0.5, 0.5)
    """
    values = np.asarray(scores, np.float64)
    if values.shape != (len(attacks),) or not math.isfinite(threshold):
        raise UsageError(f"expected {len(attacks)} scores and a finite threshold, got {values.shape} and {threshold}")
    if not np.isfinite(values).all():
        raise DataError(f"expected finite scores; number {int(np.argmin(np.isfinite(values))) + 1} is not")
    accepted = values >= threshold
    genuine = np.array([attack is None for attack in attacks], bool)
    types = sorted({attack for attack in attacks if attack is not None})
    if not genuine.any() or not types:
        raise EmptyScores("expected bona fide presentations and attacks; one of the two has no score")
    rows = []
    for name in types:
        of_type = np.array([attack == name for attack in attacks], bool)
        rows.append(AttackRow(attack=name, apcer=wilson(int(accepted[of_type].sum()), int(of_type.sum()))))
    worst = max(rows, key=lambda row: row.apcer.value)
    low, high = max(row.apcer.low for row in rows), max(row.apcer.high for row in rows)
    apcer = worst.apcer.replace(low=low, high=high)
    bpcer = wilson(int((~accepted[genuine]).sum()), int(genuine.sum()))
    return AttackResult(
        threshold=threshold,
        chosen=chosen,
        bona_fide=bpcer.n,
        attacks=tuple(rows),
        apcer=apcer,
        worst=worst.attack,
        bpcer=bpcer,
        acer=mean_of(apcer, bpcer),
    )


def evaluate_scores(path: Path, threshold: float | None, validation: Path | None) -> AttackResult:
    """Measure a file of scores at a threshold that is given, or at the EER of other scores.

    Raises:
        UsageError: not exactly one of the two is given, or both files are one. Others: as `read_scores`,
        `evaluate_attacks`.
    """
    if (threshold is None) == (validation is None):
        raise UsageError("--task attack needs --threshold X, or --validation CSV to choose it on")
    scores, attacks = read_scores(path)
    chosen = "as given"
    if validation is not None:
        if validation.resolve() == path.resolve():
            raise UsageError(f"{validation}: the threshold is chosen on other scores than it is measured on")
        others, types = read_scores(validation)
        genuine = [score for score, attack in zip(others, types, strict=True) if attack is None]
        impostor = [score for score, attack in zip(others, types, strict=True) if attack is not None]
        threshold = choose_binary_threshold(genuine, impostor, "eer")
        chosen = f"EER of {len(genuine):,} bona fide presentations and {len(impostor):,} attacks of {validation.name}"
    assert threshold is not None
    return evaluate_attacks(scores, attacks, threshold, chosen)


def read_scores(path: Path) -> Scores:
    """Read scores and the attack type of each (None: bona fide): a table with the columns score and attack.

    Raises:
        DataError: no such table, or a score that is no number; names the line.
    """
    rows = read_table(path, "a table of scores", lambda header: {"score", "attack"} <= set(header), "score,attack")
    scores, attacks = list[float](), list[str | None]()
    for line, row in rows:
        try:
            scores.append(float(row["score"]))
        except ValueError:
            scores.append(math.nan)
        if not math.isfinite(scores[-1]):
            raise DataError(f"{path}: line {line}: expected a finite number as score, got {row['score'][:40]!r}")
        plain = "".join(letter for letter in row["attack"].lower() if letter not in " -_")
        attacks.append(None if plain in BONA_FIDE else row["attack"])
    return scores, attacks
