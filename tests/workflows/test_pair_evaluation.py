"""What `pairs` says about the pairs that a number leaves out."""

from types import SimpleNamespace

from facewright.metrics.intervals import Rate
from facewright.workflows.pair_evaluation import _about_halves


def test_pairs_across_the_halves_are_said():
    def notes(fold, n):
        scored = SimpleNamespace(pairs=type("Pairs", (), {"fold": fold, "__len__": lambda self: 120})())
        return _about_halves(scored, SimpleNamespace(accuracy=n and Rate(value=0.9, low=0.8, high=0.95, n=n)))

    (note,) = notes(None, 89)
    assert "31 of 120" in note and "89" in note
    assert notes(None, 120) == notes([0], 89) == notes(None, None) == []
