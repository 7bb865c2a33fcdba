"""FaceClassifier and FaceVerifier as scikit-learn uses estimators."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import check_estimator

import facewright as fw
from facewright.data.sources import open_dataset
from facewright.errors import FacewrightError, UsageError
from facewright.workflows.estimators import FaceClassifier, FaceVerifier

QUICK = {"input.size": "32", "training.epochs": "2", "training.precision": "float32"}


def faces(count: int, photos: int, size: int = 32) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    data = open_dataset(f"synthetic:faces?identities={count}&images={photos}&size={size}&seed=2")
    return np.stack([data.source.read(record, None) for record in data.records]), data.labels


@pytest.fixture(scope="module")
def images() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    return faces(3, 10)


@pytest.fixture(scope="module")
def fitted(images: tuple[NDArray[np.uint8], NDArray[np.int64]]) -> FaceClassifier:
    pixels, labels = images
    return FaceClassifier("plain_cnn", overrides=QUICK).fit(pixels, labels + 9)  # "10" < "9" as text


def test_columns_follow_the_sorted_classes(fitted: FaceClassifier, images: tuple[NDArray[np.uint8], object]) -> None:
    assert fitted.classes_.tolist() == [9, 10, 11]
    shares = fitted.predict_proba(images[0])
    own = fitted.classifier_.probabilities(images[0])
    names = fitted.classifier_.classes
    assert names == ("10", "11", "9")
    for column, value in enumerate(fitted.classes_):
        assert np.array_equal(shares[:, column], own[:, names.index(str(value))])
    assert np.allclose(shares.sum(axis=1), 1)
    assert np.array_equal(fitted.predict(images[0]), fitted.classes_[shares.argmax(axis=1)])
    assert 0 < fitted.evaluation_.n < len(images[0]) and len(fitted.history_) == 2


def test_a_fit_equals_a_run_of_the_same_images(
    fitted: FaceClassifier, images: tuple[NDArray[np.uint8], NDArray[np.int64]], tmp_path: Path
) -> None:
    data = fw.Dataset.from_arrays(images[0], [str(label + 9) for label in images[1]])
    run = fw.train(data, model="plain_cnn", overrides=QUICK, out=tmp_path / "run", report=False)
    assert run.classifier.fingerprint == fitted.classifier_.fingerprint


def test_paths_frames_and_two_classes(tmp_path: Path, images: tuple[NDArray[np.uint8], NDArray[np.int64]]) -> None:
    pandas = pytest.importorskip("pandas")
    chosen = images[1] < 2
    pixels, labels = images[0][chosen], np.array(["no", "yes"])[images[1][chosen]]
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    order = np.random.default_rng(0).permutation(len(pixels))  # not that of the paths
    pixels, labels = pixels[order], labels[order]
    frame = pandas.DataFrame({"path": [str(tmp_path / f"{n}.png") for n in order], "label": labels})
    found = FaceClassifier("plain_cnn", overrides=QUICK, out=tmp_path / "run").fit(frame, frame["label"])
    assert (tmp_path / "run" / "report.html").is_file()
    by_frame = found.predict_proba(frame)
    assert np.allclose(by_frame, found.predict_proba(pixels)) and np.allclose(by_frame, found.predict_proba(frame.path))
    line = found.classifier_.threshold
    expected = [line.decide(share) for share in by_frame[:, found.classes_.tolist().index(line.accepted)]]
    assert found.predict(frame).tolist() == expected
    assert found.score(frame, labels) == np.mean(np.array(expected) == labels)


def test_a_clone_has_the_parameters_and_no_fit(fitted: FaceClassifier) -> None:
    copy = clone(fitted).set_params(seed=5)
    assert copy.get_params() == {**fitted.get_params(), "seed": 5}
    with pytest.raises(NotFittedError):
        copy.predict(np.zeros((1, 32, 32, 3), np.uint8))


def test_a_search_over_parameters(images: tuple[NDArray[np.uint8], NDArray[np.int64]]) -> None:
    grid = {"overrides": [QUICK | {"training.epochs": "1"}, QUICK | {"training.epochs": "3"}]}
    search = GridSearchCV(FaceClassifier("plain_cnn"), grid, cv=2, error_score="raise").fit(*images)
    assert search.best_params_["overrides"] in grid["overrides"]
    assert search.cv_results_["mean_test_score"].max() == search.best_score_


class Table:
    """Says that an estimator takes a table of numbers, so that scikit-learn runs its checks at all."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        tags.input_tags.two_d_array = True
        return tags


class ClassifierOfTables(Table, FaceClassifier):
    pass


class VerifierOfTables(Table, FaceVerifier):
    pass


PASS = {  # scikit-learn's checks that feed no numbers; all others do, which are no images, and end in our one error
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_estimator_tags_renamed",
    "check_estimators_unfitted",
    "check_get_params_invariance",
    "check_mixin_order",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_set_params",
    "check_valid_tag_types",
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("estimator", [ClassifierOfTables("plain_cnn", overrides=QUICK), VerifierOfTables()])
def test_scikit_learns_checks_pass_as_far_as_images_allow(estimator: Any) -> None:
    rows = check_estimator(estimator, on_fail=None, on_skip=None)
    passed = {row["check_name"] for row in rows if row["status"] == "passed"}
    failed = {row["check_name"]: row["exception"] for row in rows if row["status"] == "failed"}
    assert PASS - passed == set(), {name: failed.get(name) for name in PASS - passed}
    for name, error in failed.items():
        seen = "".join(traceback.format_exception(error))
        assert "UsageError: expected " in seen or name == "check_estimator_sparse_array", (name, seen)


@pytest.mark.parametrize(
    "wrong", [np.zeros((4, 9)), np.zeros((4, 32, 32, 3)), [1, 2], [], [None], np.zeros((0, 8, 8, 3), np.uint8)]
)
def test_what_is_no_image_is_refused(wrong: object) -> None:
    with pytest.raises(UsageError):
        FaceClassifier("plain_cnn").fit(wrong, [0] * len(wrong))  # type: ignore[arg-type]


def test_other_faults_are_one_error(images: tuple[NDArray[np.uint8], NDArray[np.int64]]) -> None:
    with pytest.raises(UsageError, match="29"):
        FaceClassifier("plain_cnn").fit(images[0], images[1][:-1])
    with pytest.raises(FacewrightError, match="no such file"):
        FaceClassifier("plain_cnn").fit(["a.png", "b.png"], [0, 1])
    with pytest.raises(UsageError, match="pairs"):
        FaceVerifier().fit([images[0][:1]], [1])


def test_a_verifier_chooses_its_threshold_on_the_pairs(tmp_path: Path) -> None:
    from fixtures.faces import saved

    pixels, labels = faces(4, 4, 32)
    pairs = [(i, j) for i in range(len(pixels)) for j in range(i)]
    same = np.array([labels[i] == labels[j] for i, j in pairs])
    chosen = [(pixels[i], pixels[j]) for i, j in pairs]
    model = saved(tmp_path)
    verifier = FaceVerifier(model, far=0.05).fit(chosen, same)
    embedder = fw.Embedder.load(model)
    vectors = embedder.embed(np.stack([embedder.spec.fit(image) for image in pixels]))
    scores = np.array([float(vectors[i] @ vectors[j]) for i, j in pairs])
    assert np.allclose(verifier.decision_function(chosen) + verifier.threshold_.value, scores, atol=1e-5)
    assert (scores[~same] >= verifier.threshold_.value).mean() <= 0.05
    decided = verifier.predict(chosen)
    assert np.array_equal(decided, scores >= verifier.threshold_.value)
    assert verifier.score(chosen, same) == (decided == same).mean()
    shares = verifier.predict_proba(chosen)
    assert np.allclose(shares.sum(axis=1), 1) and (np.diff(shares[np.argsort(scores), 1]) >= -1e-12).all()
