"""Probabilities from scores: the right map is found, it is calibrated, it survives JSON, and nonsense is refused."""

import json

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from facewright.errors import DataError, EmptyScores, Undefined, UsageError
from facewright.files import as_record
from facewright.metrics.calibration import ScoreCalibration, calibrate_scores


def drawn(chance, n: int = 4000, seed: int = 0):
    """Scores between -1 and 1 that are genuine with a given chance."""
    generator = np.random.default_rng(seed)
    scores = generator.uniform(-1, 1, n)
    return scores, generator.random(n) < chance(scores)


def logistic(scores):
    return expit(8 * scores - 2)


def stairs(scores):
    return np.where(scores < -0.2, 0.1, np.where(scores < 0.3, 0.5, 0.9))


@pytest.mark.parametrize(("chance", "method"), [(logistic, "logistic"), (stairs, "isotonic")])
def test_the_map_that_is_better_on_held_out_pairs_is_taken(chance, method) -> None:
    found = calibrate_scores(*drawn(chance), data="drawn")
    assert found.method == method
    assert found.log_loss[method] == min(found.log_loss.values())
    grid = np.linspace(-0.95, 0.95, 39)
    away = np.abs(grid[:, None] - [-0.2, 0.3]).min(axis=1) > 0.03  # not on a step
    assert np.abs(found.probabilities_of(grid) - chance(grid))[away].max() < 0.08
    assert found.genuine + found.impostors == 4000


def test_the_logistic_map_is_that_of_scikit_learn() -> None:
    scores, same = drawn(logistic)
    found = calibrate_scores(scores, same, data="drawn")
    peer = LogisticRegression(C=1e9).fit(scores[:, None], same)
    # Smoothed targets move it by about one pair in two thousand.
    assert (found.slope, found.intercept) == pytest.approx((peer.coef_[0, 0], peer.intercept_[0]), rel=0.02)


@pytest.mark.parametrize("chance", [logistic, stairs])
def test_a_map_survives_json(chance) -> None:
    found = calibrate_scores(*drawn(chance), data="drawn")
    back = as_record(
        json.loads(json.dumps(found.to_dict(), allow_nan=False)), ScoreCalibration, "a test", error=DataError
    )
    assert back == found
    assert back.probability(0.123) == found.probability(0.123)
    assert isinstance(back.probability(0.123), float)


@pytest.mark.parametrize("chance", [logistic, stairs])
def test_a_map_rises_and_is_never_certain(chance) -> None:
    values = calibrate_scores(*drawn(chance), data="drawn").probabilities_of(np.linspace(-1, 1, 201))
    assert (np.diff(values) >= 0).all()
    assert 0 < values[0] < values[-1] < 1


def test_pairs_that_a_threshold_parts_give_a_finite_map() -> None:
    scores = np.concatenate([np.linspace(0.6, 0.9, 50), np.linspace(-0.2, 0.3, 50)])
    found = calibrate_scores(scores, np.arange(100) < 50, data="apart")
    assert 0 < found.probability(-1) < 0.05
    assert 0.95 < found.probability(1) < 1
    assert all(np.isfinite(list(found.log_loss.values())))


def test_held_out_pairs_share_nobody_with_those_fitted_to(monkeypatch) -> None:
    from facewright.metrics import calibration

    seen = []
    loss = calibration._held_out_loss
    monkeypatch.setattr(calibration, "_held_out_loss", lambda *given: seen.append(given[3]) or loss(*given))
    generator = np.random.default_rng(0)
    people = generator.integers(30, size=(600, 2))
    people[::2, 1] = people[::2, 0]
    same = people[:, 0] == people[:, 1]
    calibrate_scores(generator.normal(size=600) + same, same, data="drawn", people=people)
    for fitted, held in seen[0]:
        assert fitted.any()
        assert held.any()
        assert not set(people[fitted].ravel()) & set(people[held].ravel())


def test_the_result_is_a_function_of_its_seed() -> None:
    scores, same = drawn(logistic, n=300)
    runs = [calibrate_scores(scores, same, data="", seed=seed) for seed in (0, 0, 1)]
    assert runs[0] == runs[1]
    assert runs[0].log_loss != runs[2].log_loss


SIX = [0.9, 0.8, 0.7, 0.2, 0.1, 0.0]


# Each row: scores, same -> the error.
@pytest.mark.parametrize(
    ("scores", "same", "error", "words"),
    [
        (SIX, [True] * 6, EmptyScores, "no impostor"),
        ([], [], EmptyScores, "no genuine"),
        (SIX, [True, True, True, False, False, False], Undefined, "3 genuine and 3 impostor pairs are too few"),
        ([*SIX[:5], float("nan")], [True, True, True, False, False, False], DataError, "nan"),
        (SIX, [True], UsageError, r"\(6,\) and \(1,\)"),
        (np.arange(40) / 40, np.arange(40) < 20, Undefined, "do not score above"),
        (np.full(40, 0.5), np.arange(40) < 20, Undefined, "all scores are 0.5"),
    ],
)
def test_pairs_that_cannot_be_calibrated(scores, same, error, words) -> None:
    with pytest.raises(error, match=words):
        calibrate_scores(scores, same, data="x")


STRAIGHT = calibrate_scores(*drawn(logistic, n=300), data="drawn").to_dict() | {
    "method": "logistic",
    "slope": 2.0,
    "intercept": 0.0,
    "scores": [],
    "probabilities": [],
}
STEPS = STRAIGHT | {
    "method": "isotonic",
    "slope": None,
    "intercept": None,
    "scores": [0.0, 1.0],
    "probabilities": [0.1, 0.9],
}


def test_maps_by_hand() -> None:
    assert as_record(STRAIGHT, ScoreCalibration, "a test", error=DataError).probability(0.0) == 0.5
    steps = as_record(STEPS, ScoreCalibration, "a test", error=DataError)
    assert [steps.probability(score) for score in (-5, 0, 0.5, 1, 5)] == pytest.approx([0.1, 0.1, 0.5, 0.9, 0.9])
    with pytest.raises(DataError, match="finite scores"):
        steps.probability(float("nan"))


# Each row: a good map, a change -> what is said.
@pytest.mark.parametrize(
    ("facts", "change", "words"),
    [
        (STRAIGHT, {"method": "magic"}, "magic"),
        (STRAIGHT, {"slope": None}, "slope None"),
        (STRAIGHT, {"slope": -1.0}, "slope above 0"),
        (STRAIGHT, {"slope": float("inf")}, "slope"),
        (STRAIGHT, {"intercept": float("nan")}, "intercept"),
        (STRAIGHT, {"log_loss": 3}, "log_loss"),
        (STRAIGHT, {"genuine": "many"}, "genuine"),
        (STEPS, {"scores": [1.0, 0.0]}, "rising"),
        (STEPS, {"probabilities": [0.9, 0.1]}, "rising"),
        (STEPS, {"probabilities": [0.0, 1.0]}, r"\(0, 1\)"),
        (STEPS, {"probabilities": [0.5]}, "as many"),
        (STEPS, {"scores": [], "probabilities": []}, "as many"),
    ],
)
def test_maps_that_are_none(facts, change, words) -> None:
    with pytest.raises(DataError, match=words):
        as_record(facts | change, ScoreCalibration, "a test", error=DataError)


def test_a_map_that_lacks_something() -> None:
    with pytest.raises(DataError, match="data"):
        as_record(
            {name: value for name, value in STEPS.items() if name != "data"},
            ScoreCalibration,
            "a test",
            error=DataError,
        )
