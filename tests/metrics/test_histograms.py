"""Scores counted in equal bins: every score once, ends included, kept and read again."""

from __future__ import annotations

import numpy as np
import pytest

from facewright.errors import DataError, EmptyScores, FacewrightError, UsageError
from facewright.files import as_record
from facewright.metrics.impostor_tail import Histograms, histograms


@pytest.mark.parametrize(
    ("genuine", "impostor", "bins", "expected"),
    [
        # the lower end belongs to a bin, the upper one to the next; the last bin has both
        ([0.5, 1.0], [0.0, 0.25], 4, Histograms(low=0.0, high=1.0, genuine=(0, 0, 1, 1), impostor=(1, 1, 0, 0))),
        ([-1.0], [1.0], 2, Histograms(low=-1.0, high=1.0, genuine=(1, 0), impostor=(0, 1))),  # all of the cosine
        (
            [0.903],
            [0.897],
            2,
            Histograms(low=0.89, high=0.91, genuine=(0, 1), impostor=(1, 0)),
        ),  # outward to hundredths
        (
            [0.5, 0.5],
            [0.5],
            1,
            Histograms(low=0.5, high=0.51, genuine=(2,), impostor=(1,)),
        ),  # one value still has a range
        (
            [0.29],
            [0.1],
            1,
            Histograms(low=0.1, high=0.29, genuine=(1,), impostor=(1,)),
        ),  # 0.29 * 100 is less than 29 in binary
    ],
)
def test_by_hand(genuine: list[float], impostor: list[float], bins: int, expected: Histograms) -> None:
    assert histograms(genuine, impostor, bins) == expected


def test_every_score_is_counted_once() -> None:
    drawn = np.random.default_rng(0)
    genuine, impostor = drawn.normal(0.6, 0.2, 1_000).clip(-1, 1), drawn.normal(0.1, 0.2, 3_000).clip(-1, 1)
    found = histograms(genuine, impostor)
    assert sum(found.genuine) == 1_000 and sum(found.impostor) == 3_000
    edges = np.linspace(found.low, found.high, len(found.genuine) + 1)
    for place in (0, 20, 40):
        inside = (genuine >= edges[place]) & (genuine < edges[place + 1])
        assert found.genuine[place] == inside.sum()
    assert as_record(found.to_dict(), Histograms, "a test", error=DataError) == found


@pytest.mark.parametrize(
    ("genuine", "impostor", "bins", "error"),
    [([], [0.1], 5, EmptyScores), ([0.1], [], 5, EmptyScores), ([0.1], [0.2], 0, UsageError),
     ([float("nan")], [0.1], 5, DataError)],
)  # fmt: skip
def test_undefined(genuine: list[float], impostor: list[float], bins: int, error: type[FacewrightError]) -> None:
    with pytest.raises(error):
        histograms(genuine, impostor, bins)


@pytest.mark.parametrize(
    "change",
    [
        {"low": 2.0},  # above the high end
        {"high": float("inf")},
        {"low": None},
        {"genuine": []},
        {"genuine": [1]},  # not as many as the other side
        {"impostor": [1, -1]},
        {"impostor": 3},
        {"genuine": ["x", "y"]},
    ],
)
def test_what_is_no_histogram_is_refused(change: dict[str, object]) -> None:
    facts = Histograms(low=0.0, high=1.0, genuine=(1, 2), impostor=(3, 4)).to_dict()
    with pytest.raises(DataError, match="a test: damaged"):
        as_record(facts | change, Histograms, "a test", error=DataError)
