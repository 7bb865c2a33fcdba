"""From scores of pairs to a result: by hand, failures, where thresholds come from, intervals, the way through JSON."""

import json

import numpy as np
import pytest

from facewright.errors import DataError, EmptyScores, UsageError
from facewright.evaluation.verification import VerificationResult, verify_all_pairs, verify_pairs
from facewright.files import as_record
from facewright.metrics.intervals import clopper_pearson
from facewright.metrics.people import accuracy_over_folds
from facewright.metrics.verification import auc, eer, roc, tar_at_far

NAN = float("nan")
# Pair by pair: 2 is falsely accepted and 5 falsely rejected at 0.5, 3 and 8 sit on a tie.
SCORES = [0.9, 0.1, 0.7, 0.5, 0.3, 0.2, 0.8, 0.0, 0.5, 0.1]
SAME = [True, False, False, True, False, True, True, False, False, True]


def view2(seed: int = 0, pairs: int = 40):
    """Ten folds of people of their own, as in LFW's View 2."""
    generator = np.random.default_rng(seed)
    same = np.tile(np.arange(2 * pairs) < pairs, 10)
    folds = np.repeat(np.arange(1, 11), 2 * pairs)
    first = generator.integers(15, size=same.size)
    second = np.where(same, first, (first + generator.integers(1, 15, size=same.size)) % 15)
    people = np.stack([first, second], axis=1) + 15 * folds[:, None]
    return generator.normal(0.1, 0.15, same.size) + 0.4 * same, same, people, folds


def test_ten_pairs_by_hand() -> None:
    result = verify_pairs(SCORES, SAME, threshold=0.5)
    assert (result.genuine, result.impostors, result.failures, result.chosen) == (5, 5, 0, "given")
    assert result.accuracy == clopper_pearson(6, 10)  # wrong: 2, 5, 8, 9
    assert result.worst_false_accepts == (2, 8)  # the most alike first
    assert result.worst_false_rejects == (9, 5)  # the least alike first
    curve = roc([0.9, 0.5, 0.2, 0.8, 0.1], [0.1, 0.7, 0.3, 0.0, 0.5])
    assert result.auc == auc(curve)
    assert (result.eer, result.eer_threshold) == (eer(curve).value, eer(curve).threshold)
    assert [point.far for point in result.tar_at_far] == []  # five impostors resolve nothing that is asked
    assert (result.people, result.folds, result.accuracy_by_identity, result.eer_by_identity) == (None,) * 4


def test_without_folds_people_or_threshold_there_is_no_accuracy() -> None:
    result = verify_pairs(SCORES, SAME)
    assert (result.accuracy, result.chosen, result.folds) == (None, None, None)
    assert result.worst_false_accepts  # at the threshold of the equal error rate


def test_ten_folds() -> None:
    scores, same, people, folds = view2()
    result = verify_pairs(scores, same, people, folds)
    expected = accuracy_over_folds(scores, same, folds)
    assert result.chosen == "the best of the other folds"
    assert (result.folds.mean, result.folds.standard_error) == (expected.mean, expected.standard_error)
    assert result.folds.standard_error == pytest.approx(result.folds.std / np.sqrt(10))
    assert len(result.folds.accuracies) == len(result.folds.thresholds) == 10
    assert result.accuracy == clopper_pearson(int(expected.correct.sum()), 800)
    assert result.accuracy.value == pytest.approx(result.folds.mean)  # folds of one size
    for point in result.tar_at_far:
        exact = tar_at_far(roc(scores[same], scores[~same]), point.far)
        assert (point.achieved, point.tar, point.threshold) == (exact.far.value, exact.tar, exact.threshold)
        assert (point.achieved_interval, point.impostors) == (exact.far, 400)
    assert [point.far for point in result.tar_at_far] == [0.1, 0.01]


def test_intervals_over_people() -> None:
    scores, same, people, folds = view2()
    result = verify_pairs(scores, same, people, folds)
    assert result.people == len(np.unique(people))
    rates = [result.accuracy_by_identity, result.eer_by_identity, *(p.tar_by_identity for p in result.tar_at_far)]
    values = [result.accuracy.value, result.eer, *(point.tar.value for point in result.tar_at_far)]
    for rate, value in zip(rates, values, strict=True):
        assert rate.value == pytest.approx(value)
        assert rate.low <= value <= rate.high
        assert rate.low < rate.high
        assert rate.n == result.people


def test_the_threshold_of_one_half_of_the_people_is_scored_on_the_other() -> None:
    scores, same, people, _ = view2()
    result = verify_pairs(scores, same, people)
    assert result.chosen == "the best of the other half of the people"
    assert len(result.folds.thresholds) == 2
    assert 400 < result.accuracy.n < 800  # pairs across the halves are in neither
    assert result.genuine + result.impostors == 800  # the rates below are over all pairs


@pytest.mark.parametrize("last", [["b", "b"], ["a", "a"]])  # the second: all within one half
def test_too_few_people_to_part_leave_the_rates(last: list[str]) -> None:
    result = verify_pairs([0.9, 0.2, 0.8], [True, False, True], [["a", "a"], ["a", "b"], last])
    assert (result.accuracy, result.accuracy_by_identity, result.chosen) == (None, None, None)
    assert result.eer == 0.0


def test_failures_count_as_errors_and_have_no_score() -> None:
    scores, same, people, folds = view2()
    failed = [0, 3, 799]
    broken = scores.copy()
    broken[failed] = NAN
    result = verify_pairs(broken, same, people, folds, failed)
    assert (result.failures, result.failed_pairs) == (3, (0, 3, 799))
    assert (result.genuine, result.impostors, result.accuracy.n) == (398, 399, 800)
    assert not set(failed) & {*result.worst_false_accepts, *result.worst_false_rejects}
    lenient = verify_pairs(broken, same, people, folds, failed, leave_failures_out=True)
    assert lenient.accuracy.n == 797
    assert lenient.accuracy.value > result.accuracy.value
    assert lenient.eer == result.eer
    given = verify_pairs([NAN, *SCORES[1:]], SAME, failures=[0], threshold=0.5)
    assert given.accuracy == clopper_pearson(5, 10)


def test_histograms_count_every_score_once() -> None:
    scores, same, _, _ = view2()
    scores[:2] = (1.0000001, -1.0000001)  # cosines in single precision overshoot
    result = verify_pairs(scores, same)
    edges = np.array(result.histogram_edges)
    inside = np.clip(scores, -0.9999, 0.9999)
    assert result.histogram_genuine == tuple(np.histogram(inside[same], edges)[0].tolist())
    assert result.histogram_impostors == tuple(np.histogram(inside[~same], edges)[0].tolist())
    assert (result.thresholds[0], result.far[0], result.tar[0]) == (None, 0.0, 0.0)
    assert (result.far[-1], result.tar[-1]) == (1.0, 1.0)


def test_all_pairs_are_the_pairs() -> None:
    generator = np.random.default_rng(0)
    vectors = (generator.integers(0, 2, (120, 64)) * 2 - 1) / 8
    names = generator.choice(["al", "bo", "cy"], 120)
    upper = np.triu_indices(120, 1)
    scores, same = (vectors @ vectors.T)[upper], names[upper[0]] == names[upper[1]]
    found, expected = verify_all_pairs(vectors, names), verify_pairs(scores, same)
    assert (found.people, found.accuracy, found.worst_false_accepts) == (3, None, ())
    for name in ("genuine", "impostors", "eer", "auc", "tar_at_far", "thresholds", "far", "tar", "histogram_genuine"):
        assert getattr(found, name) == getattr(expected, name)


@pytest.mark.parametrize("what", ["folds", "halves", "given", "nothing", "all pairs"])
def test_a_result_survives_json(what) -> None:
    scores, same, people, folds = view2(pairs=20)
    vectors = np.eye(8, dtype=np.float32)[np.arange(40) % 8]
    result = {
        "folds": lambda: verify_pairs(scores, same, people, folds, failures=[1]),
        "halves": lambda: verify_pairs(scores, same, people),
        "given": lambda: verify_pairs(scores, same, threshold=0.0),
        "nothing": lambda: verify_pairs(scores, same),
        "all pairs": lambda: verify_all_pairs(vectors, np.arange(40) // 2),
    }[what]()
    facts = result.to_dict()
    text = json.dumps(facts, allow_nan=False)
    assert json.loads(text) == facts
    assert as_record(json.loads(text), VerificationResult, "a test", error=UsageError) == result
    assert facts["task"] == "verification"
    if what != "all pairs":  # the contract of `pairs --json`
        assert {"accuracy", "eer", "auc", "tar_at_far", "failures"} <= set(facts)
        assert {"far", "achieved", "tar", "impostors"} <= set(facts["tar_at_far"][0])
        assert set(facts["tar_at_far"][0]["tar"]) == {"value", "low", "high", "n"}


def test_facts_of_something_else_are_refused() -> None:
    facts = verify_pairs(SCORES, SAME).to_dict()
    with pytest.raises(UsageError, match="classification"):
        as_record({**facts, "task": "classification"}, VerificationResult, "a test", error=UsageError)
    del facts["eer"]
    with pytest.raises(UsageError, match="eer"):
        as_record(facts, VerificationResult, "a test", error=UsageError)


# Each row: what is given besides the scores -> the error.
@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"scores": SCORES[:9]}, UsageError, r"\(9,\) and \(10,\)"),
        ({"same": [True] * 10}, EmptyScores, "no impostor"),
        ({"scores": [NAN, *SCORES[1:]]}, DataError, "nan"),
        ({"failures": [10]}, UsageError, r"\[0, 10\)"),
        ({"failures": [0, 3, 5, 6, 9]}, EmptyScores, "no genuine"),
        ({"folds": [0, 1] * 5, "threshold": 0.5}, UsageError, "not both"),
        ({"folds": [0, 2] * 5}, DataError, "missing"),
        ({"folds": [0] * 10}, UsageError, "at least two folds"),
        ({"folds": [0, 1]}, UsageError, "each of 10 pairs"),
        ({"folds": [-1, 1] * 5}, UsageError, "from 0 up"),
        ({"people": [["a", "b"]] * 10}, DataError, "pair 0 is said"),
        ({"threshold": NAN}, UsageError, "nan"),
    ],
)
def test_pairs_that_are_refused(change, error, words) -> None:
    given = {"scores": SCORES, "same": SAME} | change
    with pytest.raises(error, match=words):
        verify_pairs(**given)
