"""A threshold and its record: chosen, written, read back, refused where it is none."""

import json

import pytest

from facewright.errors import DataError, Undefined
from facewright.metrics.intervals import Rate, clopper_pearson
from facewright.metrics.thresholds import DIRECTION, Threshold, choose_threshold

IMPOSTOR = [i / 10 - 0.5 for i in range(10)]
CHOSEN = choose_threshold([0.9, 0.45, -0.2], IMPOSTOR, far=0.2, data="ten pairs")


def test_the_record_says_what_it_rests_on() -> None:
    assert (
        Threshold(
            value=pytest.approx(0.3),
            score="cosine",
            direction=DIRECTION,
            far_target=0.2,
            far=clopper_pearson(2, 10),
            tar=clopper_pearson(2, 3),
            impostors=10,
            genuine=3,
            data="ten pairs",
            method=CHOSEN.method,
        )
        == CHOSEN
    )


@pytest.mark.parametrize("record", [CHOSEN, Threshold(**{**CHOSEN.__dict__, "value": 0.0, "tar": None})])
def test_the_record_survives_json(record) -> None:
    assert Threshold.from_dict(json.loads(json.dumps(record.to_dict(), allow_nan=False))) == record


def test_what_the_count_cannot_resolve_is_refused() -> None:
    with pytest.raises(Undefined, match=r"10 impostor pairs .* at least 1000"):
        choose_threshold([0.9], IMPOSTOR, far=1e-3, data="ten pairs")


def test_a_threshold_that_accepts_nobody_is_none() -> None:
    with pytest.raises(Undefined, match="share the highest score of all 4"):
        choose_threshold([0.5], [0.5] * 4, far=0.5, data="four pairs")


# Each row: a change to a good record -> what is said.
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"value": float("nan")}, "finite value"),
        ({"value": "0.3"}, "a number as value"),
        ({"value": True}, "a number as value"),
        ({"direction": "accept iff score <= value"}, "direction"),
        ({"far_target": 0}, "far_target"),
        ({"impostors": 11}, "far is no rate over 11 pairs"),
        ({"impostors": -1}, "count"),
        ({"genuine": 2.5}, "count"),
        ({"far": {"value": 0.2, "low": 0.3, "high": 0.4, "n": 10}}, "far is no rate"),
        ({"far": {"value": 0.2}}, "value, low, high and n as far"),
        ({"far": None}, "as far"),
        ({"data": 7}, "text as data"),
        ({"colour": "red"}, r"has \['colour'\] too many"),
    ],
)
def test_records_that_are_none(change, words) -> None:
    with pytest.raises(DataError, match=words):
        Threshold.from_dict({**CHOSEN.to_dict(), **change})


def test_a_record_that_lacks_something() -> None:
    facts = CHOSEN.to_dict()
    del facts["data"]
    with pytest.raises(DataError, match=r"lacks \['data'\]"):
        Threshold.from_dict(facts)


def test_rates_are_rates() -> None:
    assert isinstance(Threshold.from_dict(CHOSEN.to_dict()).far, Rate)
