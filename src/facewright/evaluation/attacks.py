"""Error rates of presentation attack detection: APCER of each attack type, BPCER, ACER."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike

from facewright.data.text_tables import read_table
from facewright.errors import DataError, EmptyScores, UsageError
from facewright.metrics.binary import choose_binary_threshold, mean_of
from facewright.metrics.intervals import Rate, wilson
from facewright.records import Record

BONA_FIDE = ("", "bonafide", "genuine", "live", "real")  # without space, - and _
Scores = tuple[list[float], list[str | None]]


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

    APCER is taken for each attack type, and the highest counts: a mean over types hides the attack that works. Rates
    have Wilson intervals. The lower bound of the highest APCER is the highest lower bound of all types, the upper
    likewise; the ACER's interval combines the two rates' as that of the HTER does.

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
        UsageError: not exactly one of the two is given, or both files are one. DataError, EmptyScores: as
        `read_scores`, `evaluate_attacks`.
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
