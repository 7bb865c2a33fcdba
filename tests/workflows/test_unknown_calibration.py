"""Answering "unknown": the promised rate holds for people who were in neither the training nor the calibration."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from facewright import bundle as bundles
from facewright import calibrate_unknown, predict, train
from facewright.bundle import Bundle
from facewright.data.sources import open_dataset
from facewright.data.store import PixelStore
from facewright.embedding import Embedder
from facewright.errors import BundleError, DataError, Undefined, UsageError
from facewright.events import ignore_event
from facewright.inference import Classifier, softmax
from facewright.metrics.people import People, identity_bootstrap, weighted_share
from facewright.metrics.verification import resolvable
from facewright.specs import HeadSpec
from facewright.workflows import calibration
from fixtures.faces import SPEC, draw_people, saved, small_bundle

KNOWN = "synthetic:faces?identities=5&images=10&size=40&seed=11"
CALIBRATION = "synthetic:faces?identities=30&images=4&size=40&seed=12"
OTHERS = "synthetic:faces?identities=30&images=4&size=40&seed=13"
FAR = 0.1


def opened(where: str) -> PixelStore:
    return PixelStore.open(open_dataset(where), SPEC)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Random features with a classifier fitted to five drawn people: a trained network for a hundredth of the time."""
    cache = tmp_path_factory.getbasetemp() / "cache"
    store = PixelStore.open(open_dataset(KNOWN), SPEC, cache)
    names = tuple(f"known_{i}" for i in range(5))  # not called as the synthetic unknown people are
    bundle = small_bundle(names)
    vectors = Embedder(bundle).embed(store.batch(np.arange(50)))
    fitted = LogisticRegression(C=300.0, max_iter=2000).fit(vectors, store.dataset.labels)
    # The network's own features are not of unit length: the classifier is put on the embedding by a cosine head.
    head = HeadSpec(kind="cosine", scale=1.0)
    weights = {name: tensor for name, tensor in bundle.weights.items() if not name.startswith("fc.")}
    directions = torch.from_numpy(fitted.coef_).float()
    return replace(bundle, head=head, weights={**weights, "fc.weight": directions})


@pytest.mark.parametrize("kind", ["cosine", "probability"])
def test_people_never_seen_are_unknown_at_the_promised_rate(trained: Bundle, tmp_path: Path, kind: str) -> None:
    bundle = trained if kind == "cosine" else as_linear(trained)
    model = saved(tmp_path, bundle)
    made = calibrate_unknown(model, CALIBRATION, FAR)
    chosen = made.threshold
    assert (chosen.score, chosen.impostors, made.threshold.people) == (kind, 120, 30)
    assert chosen.far.value == FAR and chosen.far.low <= FAR <= chosen.far.high
    classifier, store = Classifier(bundle), opened(OTHERS)
    accepted = calibration.similarities(classifier, store, np.arange(120), ignore_event) >= chosen.value
    people = People(np.stack([store.dataset.labels] * 2, axis=1), 30)
    (rate,) = identity_bootstrap(weighted_share(accepted, np.ones(120, bool)), people)
    assert rate is not None and rate.low <= FAR <= rate.high
    # Random features tell little, but more of the known people pass than of unknown people.
    known = calibration.similarities(classifier, opened(KNOWN), np.arange(50), ignore_event) >= chosen.value
    assert known.mean() > 1.5 * FAR


def as_linear(bundle: Bundle) -> Bundle:
    """The same directions as the weights of a plain linear classifier."""
    weights = {**bundle.weights, "fc.bias": torch.zeros(len(bundle.classes))}
    return replace(bundle, head=None, weights=weights)


def test_the_similarity_is_the_cosine_or_the_largest_probability() -> None:
    logits = np.array([[2.0, -1.0, 0.5], [-3.0, -2.0, -4.0]])
    cosine = Classifier(small_bundle(head=HeadSpec(kind="cosine", embedding=8, scale=4.0)))
    np.testing.assert_allclose(cosine.similarity(logits), [0.5, -0.5])
    np.testing.assert_allclose(Classifier(small_bundle()).similarity(logits), softmax(logits).max(1))
    assert (cosine.similarity_kind, Classifier(small_bundle()).similarity_kind) == ("cosine", "probability")


def test_predict_says_unknown_where_it_was_asked_to(trained: Bundle, tmp_path: Path) -> None:
    model = saved(tmp_path, trained)
    calibrate_unknown(model, CALIBRATION, FAR)
    photos = draw_people(tmp_path / "photos", 6, 2, seed=14)
    asked, plain = predict(model, [photos], unknown_at=FAR), predict(model, [photos])
    threshold = bundles.load(model).thresholds[0].value
    for one, other in zip(asked, plain, strict=True):
        assert one.likeness is not None and one.unknown is (one.likeness < threshold)
        assert (one.names, one.probabilities, other.unknown) == (other.names, other.probabilities, None)
        assert "unknown" in one.to_dict() and "unknown" not in other.to_dict()
    assert any(one.unknown for one in asked)


@pytest.mark.parametrize("far", [0.05, 0.2])
def test_a_rate_that_was_not_calibrated_is_refused(trained: Bundle, tmp_path: Path, far: float) -> None:
    photos, model = draw_people(tmp_path / "photos", 2, 1), saved(tmp_path, trained)
    with pytest.raises(Undefined, match=r"calibrate .* --unknown-people DATA"):
        predict(model, [photos], unknown_at=far)
    calibrate_unknown(model, CALIBRATION, FAR)
    with pytest.raises(Undefined, match=f"no threshold for .* {far:g}; it has one for 0.1"):
        predict(model, [photos], unknown_at=far)


@pytest.mark.parametrize(
    ("names", "data", "far", "error", "message"),
    [
        (("person_03", "x"), CALIBRATION, 0.1, DataError, "person_03"),  # an unknown person who is a class
        (("x", "y"), CALIBRATION, 0.001, Undefined, "cannot resolve"),
        ((), CALIBRATION, 0.1, BundleError, "no classes"),
        (("x", "y"), CALIBRATION, 1.5, UsageError, "false-accept rate"),
    ],
)
def test_what_cannot_be_calibrated(
    tmp_path: Path, names: tuple[str, ...], data: str, far: float, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        calibrate_unknown(saved(tmp_path, small_bundle(names)), data, far)


# Similarities of unknown people, target -> threshold, share accepted.
CHOICES = [
    ([0.9, 0.5, 0.3, 0.1], 0.25, 0.7, 0.25),
    ([0.9, 0.5, 0.3, 0.1], 0.5, 0.4, 0.5),
    ([0.9, 0.5, 0.3, 0.1], 0.49, 0.7, 0.25),  # never more than the target
    ([0.9, 0.5, 0.5, 0.1], 0.5, 0.7, 0.25),  # the two that tie would be three
    ([0.9, 0.9, 0.5, 0.1], 0.25, np.nextafter(0.9, 1), 0.0),  # one of two that tie cannot be accepted alone
    ([0.9, 0.5], 1.0, 0.5, 1.0),
]


@pytest.mark.parametrize(("scores", "far", "threshold", "achieved"), CHOICES)
def test_the_threshold_by_hand(scores: list[float], far: float, threshold: float, achieved: float) -> None:
    known = np.array([0.95, 0.6, 0.2])
    chosen = calibration.choose_unknown(np.array(scores), known, far, "x")
    assert (chosen.value, chosen.far.value) == (pytest.approx(threshold), achieved)
    assert chosen.tar is not None and chosen.tar.value == np.mean(known >= chosen.value)
    assert resolvable((far,), len(scores)) == (far,)


def test_of_a_run_it_is_told_how_many_known_people_stay_known(tmp_path: Path) -> None:
    small = {"input.size": "40", "training.epochs": "1", "training.batch": "8", "training.precision": "float32"}
    where = "synthetic:faces?identities=3&images=12&size=40&seed=5"
    run = train(where, model="patchnet", out=tmp_path / "run", overrides=small, report=False)
    photos = draw_people(tmp_path / "others", 10, 2, seed=6)
    for folder in photos.iterdir():
        folder.rename(photos / f"other_{folder.name}")
    made = calibrate_unknown(run.folder, photos, 0.1)
    chosen = made.threshold
    assert chosen.tar is not None and chosen.genuine == run.facts.counts["validation"] == chosen.tar.n
    assert json.loads(json.dumps(made.to_dict(), allow_nan=False))["threshold"]["purpose"] == "unknown"
    assert run.evaluation  # the run is whole
    assert len(predict(run.folder, [photos], unknown_at=0.1)) == 20
