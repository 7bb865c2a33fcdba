"""From labelled embeddings to identification rates, and the way through JSON."""

import json

import numpy as np
import pytest

from facewright.errors import EmptyScores, Undefined, UsageError
from facewright.evaluation.identification import IdentificationResult, identify
from facewright.files import as_record
from facewright.metrics.identification import open_set_split


def people(images: int = 10, count: int = 30, noise: float = 0.6):
    generator = np.random.default_rng(0)
    names = np.repeat(np.arange(count), images)
    vectors = generator.normal(size=(count, 32))[names] + noise * generator.normal(size=(names.size, 32))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), names


def test_people_who_are_easily_told_apart() -> None:
    vectors = np.eye(4, dtype=np.float32)[[0, 0, 1, 1, 2, 2]]
    result = identify(vectors, ["al", "al", "bo", "bo", "cy", "cy"], fpirs=(0.5,))
    assert (result.identities, result.gallery, result.mates, result.strangers) == (2, 2, 2, 2)
    assert [rate.value for rate in result.cmc] == [1.0, 1.0]
    (point,) = result.open_set
    assert (point.fpir.value, point.dir, point.identities) == (0.0, 1.0, 2)  # both non-mated probes tie at 0


def test_rates_against_a_loop() -> None:
    vectors, names = people()
    result = identify(vectors, names, seed=7)
    split = open_set_split(names, seed=7)
    assert (result.gallery, result.mates, result.strangers) == (20, 180, 100)
    scores = vectors @ vectors[split.gallery].T
    first = [names[split.gallery][scores[i].argmax()] == names[i] for i in split.mated]
    assert result.cmc[0].value == np.mean(first)
    assert len(result.cmc) == 20
    assert result.cmc[-1].value == 1.0
    assert [point.target for point in result.open_set] == [0.3, 0.1, 0.01]  # 100 non-mated probes
    for point in result.open_set:
        assert point.fpir.value == np.mean(scores[split.nonmated].max(axis=1) >= point.threshold) <= point.target
        found = [right and scores[i].max() >= point.threshold for i, right in zip(split.mated, first, strict=True)]
        assert point.dir == pytest.approx(np.mean(found))


def test_a_result_survives_json() -> None:
    result = identify(*people(), seed=1)
    facts = result.to_dict()
    text = json.dumps(facts, allow_nan=False)
    assert json.loads(text) == facts
    assert as_record(json.loads(text), IdentificationResult, "a test", error=UsageError) == result
    assert facts["open_set"][0]["dir"] == pytest.approx(1 - facts["open_set"][0]["fnir"]["value"])
    with pytest.raises(UsageError, match="binary"):
        as_record({**facts, "task": "binary"}, IdentificationResult, "a test", error=UsageError)
    del facts["cmc"]
    with pytest.raises(UsageError, match="cmc"):
        as_record(facts, IdentificationResult, "a test", error=UsageError)


@pytest.mark.parametrize(
    ("vectors", "names", "error"),
    [
        (np.eye(3), ["al", "al"], UsageError),
        (np.ones(3), ["al", "al", "bo"], UsageError),
        (np.eye(2), ["al", "al"], Undefined),  # one person
        (np.eye(2), ["al", "bo"], Undefined),  # nobody to be found again
        (np.zeros((0, 2)), [], Undefined),
    ],
)
def test_what_cannot_be_measured(vectors, names, error) -> None:
    with pytest.raises(error):
        identify(vectors, names)


def test_empty_scores_are_undefined_too() -> None:
    assert issubclass(EmptyScores, Undefined)
