"""The stored threshold of two classes: its way through JSON, what it decides, and what is refused."""

import json

import pytest

from facewright.errors import DataError, EmptyScores, Undefined, UnknownName
from facewright.metrics.binary_threshold import KIND, BinaryThreshold, choose, stored

CLASSES = ("bare", "masked")
RECORD = choose([0.75, 0.5, 0.3], [0.4, 0.25, 0.0, 0.0], "min-hter", CLASSES, "a test")


def test_a_record_survives_json_and_says_what_it_was_chosen_on() -> None:
    facts = json.loads(json.dumps(RECORD.to_dict(), allow_nan=False))
    assert BinaryThreshold.from_dict(facts) == RECORD
    assert (RECORD.kind, RECORD.accepted, RECORD.rejected, RECORD.rule) == (KIND, "masked", "bare", "min-hter")
    assert (RECORD.value, RECORD.far.value, RECORD.frr.value) == (0.275, 0.25, 0.0)
    assert (RECORD.far.n, RECORD.frr.n, RECORD.hter.value) == (4, 3, 0.125)


@pytest.mark.parametrize(("score", "name"), [(0.275, "masked"), (0.2749, "bare"), (1.0, "masked"), (0.0, "bare")])
def test_a_score_at_the_threshold_is_accepted(score, name) -> None:
    assert RECORD.decide(score) == name


# Each row: scores of positives, of negatives, rule -> the error.
@pytest.mark.parametrize(
    ("genuine", "impostor", "rule", "error"),
    [
        ([], [0.1], "eer", EmptyScores),
        ([0.1], [0.1], "best", UnknownName),
        ([0.5], [0.4] * 9, "far=0.1", Undefined),  # too few negatives for one in ten
        ([0.5], [0.5] * 10, "far=0.1", Undefined),  # they tie above every positive
    ],
)
def test_what_cannot_be_chosen(genuine, impostor, rule, error) -> None:
    with pytest.raises(error):
        choose(genuine, impostor, rule, CLASSES, "a test")


# Each row: what is changed in a good record -> what the message says.
DAMAGE = [
    ({"kind": "cosine"}, "expected 'binary'"),
    ({"direction": "accept iff score < value"}, "accept iff score >= value"),
    ({"value": float("nan")}, "finite number as value"),
    ({"value": True}, "finite number as value"),
    ({"value": "0.5"}, "finite number as value"),
    ({"accepted": 1}, "text as accepted"),
    ({"far": {"value": 0.1}}, "value, low, high and n as far"),
    ({"hter": {"value": 0.1, "low": 0.2, "high": 0.3, "n": 7}}, "hter is no rate"),
    ({"frr": {"value": "x", "low": 0.2, "high": 0.3, "n": 7}}, "numbers in frr"),
    ({"more": 1}, "has \\['more'\\] too many"),
]


@pytest.mark.parametrize(("change", "words"), DAMAGE)
def test_a_damaged_record_is_refused(change, words) -> None:
    with pytest.raises(DataError, match=words):
        BinaryThreshold.from_dict(RECORD.to_dict() | change)


def test_a_record_that_lacks_a_field_is_refused() -> None:
    facts = RECORD.to_dict()
    del facts["rule"]
    with pytest.raises(DataError, match="lacks \\['rule'\\]"):
        BinaryThreshold.from_dict(facts)


def test_it_is_found_among_others() -> None:
    other = {"kind": "verification", "threshold": {}}
    assert stored([other, RECORD.to_dict()], CLASSES) == RECORD
    assert stored([other], CLASSES) is None
    assert stored([], ("a", "b", "c")) is None
    with pytest.raises(DataError, match="expected one between cats and dogs"):
        stored([RECORD.to_dict()], ("cats", "dogs"))
