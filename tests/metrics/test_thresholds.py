"""The record of a threshold: chosen, written, read back (also as earlier versions wrote it), picked, replaced."""

import json
from pathlib import Path

import pytest
from scipy.stats import binom

from facewright.errors import DataError, EmptyScores, RunError, Undefined, UnknownName, UsageError
from facewright.files import as_record
from facewright.metrics.binary import choose_class_threshold
from facewright.metrics.calibration import calibrate_scores
from facewright.metrics.impostor_tail import histograms
from facewright.metrics.intervals import Rate, clopper_pearson
from facewright.metrics.thresholds import (
    UNKNOWN,
    VERIFICATION,
    Threshold,
    allowed_at,
    choose_threshold,
    class_threshold,
    pick,
    thresholds_for,
    with_threshold,
)

IMPOSTOR = [i / 10 - 0.5 for i in range(10)]
CHOSEN = choose_threshold([0.9, 0.45, -0.2], IMPOSTOR, far=0.2, data="ten pairs")
CLASSES = ("bare", "masked")
BINARY = choose_class_threshold([0.75, 0.5, 0.3], [0.4, 0.25, 0.0, 0.0], "min-hter", CLASSES, "a test")
BEFORE = json.loads(Path(__file__).with_name("thresholds_before.json").read_text("utf-8"))


def whole(far: float = 0.25, **change: object) -> Threshold:
    genuine, impostor = [0.9, 0.8, 0.7, 0.4] * 5, [0.5, 0.3, 0.2, 0.1] * 5
    facts = {
        "calibration": calibrate_scores(genuine + impostor, [True] * 20 + [False] * 20, "a test"),
        "histograms": histograms(genuine, impostor),
        "far_by_identity": Rate(value=0.25, low=0.1, high=0.4, n=12),
        "people": 12,
        "failures": 1,
        "fingerprint": "f" * 32,
    }
    return choose_threshold(genuine, impostor, far, "a test").model_copy(update=facts | change)


def test_the_record_holds_what_it_rests_on() -> None:
    assert CHOSEN.value == pytest.approx(0.25)  # midway between 0.3 and 0.2
    assert (CHOSEN.far_target, CHOSEN.confidence, CHOSEN.bound) == (0.2, None, CHOSEN.far.high)
    assert (CHOSEN.far, CHOSEN.tar) == (clopper_pearson(2, 10), clopper_pearson(2, 3))
    assert (CHOSEN.impostors, CHOSEN.genuine, CHOSEN.data) == (10, 3, "ten pairs")
    assert whole().prior == 0.5 and CHOSEN.prior is None


@pytest.mark.parametrize("record", [CHOSEN, BINARY, whole(), CHOSEN.model_copy(update={"value": 0.0, "tar": None})])
def test_the_record_survives_json(record) -> None:
    assert as_record(json.loads(json.dumps(record.to_dict(), allow_nan=False)), Threshold, "a test") == record


def test_what_the_count_cannot_resolve_is_refused() -> None:
    with pytest.raises(Undefined, match="1000"):
        choose_threshold([0.9], IMPOSTOR, far=1e-3, data="ten pairs")


def test_a_threshold_that_accepts_nobody_is_none() -> None:
    with pytest.raises(Undefined, match="4"):
        choose_threshold([0.5], [0.5] * 4, far=0.5, data="four pairs")


@pytest.mark.parametrize(("far", "impostors", "confidence"), [(0.01, 1100, 0.95), (0.1, 200, 0.9), (1e-3, 3000, 0.95)])
def test_the_upper_bound_meets_the_target_and_one_more_impostor_would_not(far, impostors, confidence) -> None:
    allowed = allowed_at(far, impostors, confidence)
    # Independent: the one-sided bound is the rate at which seeing so few is as improbable as 1 - confidence.
    assert binom.cdf(allowed, impostors, far) <= 1 - confidence < binom.cdf(allowed + 1, impostors, far)
    assert allowed < far * impostors  # stricter than the share


def test_the_bound_refuses_what_the_share_resolves() -> None:
    impostor = [i / 2000 for i in range(1100)]
    assert choose_threshold([0.9], impostor, 1e-3, "pairs").bound > 5e-3
    with pytest.raises(Undefined, match="2,995"):
        choose_threshold([0.9], impostor, 1e-3, "pairs", confidence=0.95)
    chosen = choose_threshold([0.9], impostor, 0.01, "pairs", confidence=0.95)
    assert chosen.bound <= 0.01 < CHOSEN.bound and chosen.confidence == 0.95 and "95 %" in chosen.rule
    assert chosen.value > choose_threshold([0.9], impostor, 0.01, "pairs").value
    with pytest.raises(UsageError):
        allowed_at(0.01, 100, 1.0)


@pytest.mark.parametrize(("score", "name"), [(0.275, "masked"), (0.2749, "bare"), (1.0, "masked"), (0.0, "bare")])
def test_a_score_at_the_threshold_of_two_classes_is_accepted(score, name) -> None:
    assert BINARY.decide(score) == name
    assert (BINARY.value, BINARY.far.value, BINARY.hter.value) == (0.275, 0.25, 0.125)


@pytest.mark.parametrize(
    ("genuine", "impostor", "rule", "error"),
    [
        ([], [0.1], "eer", EmptyScores),
        ([0.1], [0.1], "best", UnknownName),
        ([0.5], [0.4] * 9, "far=0.1", Undefined),  # too few negatives for one in ten
        ([0.5], [0.5] * 10, "far=0.1", Undefined),  # they tie above every positive
    ],
)
def test_what_cannot_be_chosen_between_two_classes(genuine, impostor, rule, error) -> None:
    with pytest.raises(error):
        choose_class_threshold(genuine, impostor, rule, CLASSES, "a test")


@pytest.mark.parametrize("kind", BEFORE)
def test_a_threshold_that_an_earlier_version_wrote(kind) -> None:
    facts = BEFORE[kind]
    found = as_record(facts, Threshold, kind, error=RunError)
    inner = facts.get("threshold", facts)
    assert found.value == inner["value"] and found.far.to_dict() == inner["far"]
    assert found.data == inner["data"] and found.rule in (inner.get("method"), inner.get("rule"))
    purposes = {"binary": "binary", "unknown": "unknown", "gallery": "gallery"}
    assert found.purpose == purposes.get(kind, "verification")
    if kind == "binary":
        assert 1 - found.tar.value == pytest.approx(inner["frr"]["value"]) and found.hter.to_dict() == inner["hter"]
        assert found.decide(inner["value"]) == inner["accepted"]
    if kind == "gallery":
        assert found.far_by_identity.to_dict() == facts["fpir_by_people"] and found.people == facts["people"]
        assert [one.to_dict() for one in found.similar_people] == facts["alike"]
    if facts.get("calibration"):
        assert found.calibration.to_dict() == facts["calibration"]
        assert (found.digest, found.crop, found.flip) == (facts["digest"], facts["crop"], facts["flip"])
        assert found.detector == facts.get("detector", "none")
    assert as_record(found.to_dict(), Threshold, kind) == found


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"value": float("nan")}, "value"),
        ({"value": "0.3"}, "value"),
        ({"value": True}, "value"),
        ({"value": 10**400}, "value"),
        ({"direction": "accept iff score <= value"}, "direction"),
        ({"far_target": 0}, "far_target"),
        ({"impostors": 11}, "11"),
        ({"impostors": -1}, "impostors"),
        ({"genuine": 2.5}, "genuine"),
        ({"far": {"value": 0.2, "low": 0.3, "high": 0.4, "n": 10}}, "far"),
        ({"far": {"value": 0.2}}, "far"),
        ({"far": None}, "far"),
        ({"data": 7}, "data"),
        ({"people": "many"}, "people"),
        ({"threshold": {"value": 0.5}}, "threshold|more"),
        ({"threshold": None}, "threshold"),
        ({"calibration": {"method": "logistic"}}, "calibration"),
        ({"histograms": {"low": 1.0, "high": 0.0, "genuine": [1], "impostor": [1]}}, "bins"),
        ({"crop": None}, "crop"),
        ({"frr": 7}, "frr"),
        ({"purpose": "binary"}, "accepted"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_records_that_are_none(change, word) -> None:
    facts = {**CHOSEN.to_dict(), **change}
    if change == {"threshold": {"value": 0.5}}:
        facts["far"] = {"value": 1}
    with pytest.raises(DataError, match=word):
        as_record(facts, Threshold, "a test", error=DataError)


def test_of_a_purpose_and_target_there_is_one_and_the_last_counts() -> None:
    held: tuple[Threshold, ...] = ()
    for one in (whole(0.25), whole(0.5), whole(0.25, purpose=UNKNOWN), whole(0.25)):
        held = with_threshold(held, one)
    mine = thresholds_for(held, VERIFICATION, "f" * 32)
    assert [one.far_target for one in mine] == [0.5, 0.25]
    assert len(thresholds_for(held, UNKNOWN)) == 1
    assert pick(mine, None) == mine[-1] and pick(mine, 0.5) == mine[0]
    assert pick((), 0.5) is None is pick((), None)
    with pytest.raises(Undefined, match=r"0\.5, 0\.25"):
        pick(mine, 0.1)


def test_a_threshold_for_other_weights_is_not_used_and_goes_with_the_next() -> None:
    held = with_threshold((), whole(fingerprint="0" * 32))
    assert thresholds_for(held, VERIFICATION, "f" * 32) == ()
    assert with_threshold(held, whole(0.5)) == (whole(0.5),)


def test_the_threshold_of_another_detector_stays() -> None:
    held = with_threshold((whole(detector="dlib", fingerprint="0" * 32),), whole())
    assert len(held) == 2 and len(thresholds_for(held, VERIFICATION, "f" * 32)) == 1
    held = with_threshold(held, whole(detector="dlib", fingerprint="1" * 32))
    assert [one.fingerprint for one in held] == ["f" * 32, "1" * 32]


def test_the_threshold_between_two_classes_is_found_among_others() -> None:
    assert class_threshold([whole(), BINARY], CLASSES) == BINARY
    assert class_threshold([whole()], CLASSES) is None
    with pytest.raises(DataError, match="cats"):
        class_threshold([BINARY], ("cats", "dogs"))
