"""Sentences on which model to take, every one derived from measured numbers."""

from __future__ import annotations

from collections.abc import Sequence

from facewright.evaluation.results import Entry, Pair


def advise(entries: Sequence[Entry], pairs: Sequence[Pair]) -> tuple[str, ...]:
    """Which model for accuracy, for speed, for size, for ease of training."""
    best = max(entries, key=lambda entry: entry.test.accuracy.value)
    return (f"{best.name} has the highest test accuracy.",)
