"""Evaluate presentation attack detection from CSV files of scores."""

from __future__ import annotations

from pathlib import Path

from facewright.data.text_tables import read_table
from facewright.errors import DataError, UsageError
from facewright.evaluation.attacks import AttackResult, evaluate_attacks
from facewright.metrics.binary import choose_binary_threshold

BONA_FIDE = ("", "bonafide", "genuine", "live", "real")  # without space, - and _
Scores = tuple[list[float], list[str | None]]


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
            raise DataError(f"{path}: line {line}: expected a number as score, got {row['score'][:40]!r}") from None
        plain = "".join(letter for letter in row["attack"].lower() if letter not in " -_")
        attacks.append(None if plain in BONA_FIDE else row["attack"])
    return scores, attacks
