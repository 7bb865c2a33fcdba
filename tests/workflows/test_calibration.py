"""A threshold chosen on pairs, kept in the model file, and used by `verify`; pairs measured, page and all."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest

from facewright import bundle as bundles
from facewright import calibrate, pairs, verify
from facewright.data.pairs import read_pairs
from facewright.embedding import Embedder, similarity
from facewright.errors import BadImage, RunLocked, Undefined, UsageError
from facewright.evaluation.verification import verify_pairs
from facewright.metrics.thresholds import choose_threshold
from facewright.runs import owned
from fixtures.faces import draw_people, saved, small_bundle, write_pairs

PEOPLE, PHOTOS, IMPOSTORS = 10, 3, 60
SHARED = Path(__file__).parents[2] / "../shared"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_people(tmp_path_factory.mktemp("photos"), PEOPLE, PHOTOS)


@pytest.fixture(scope="module")
def listed(photos: Path) -> Path:
    return write_pairs(photos / "dev.csv", PEOPLE, PHOTOS, IMPOSTORS)


def by_hand(photos: Path, listed: Path, model: Path) -> tuple[np.ndarray, np.ndarray]:
    """Scores and truth of the pairs, photo by photo."""
    found = read_pairs(listed, photos)
    embedder = Embedder.load(model)
    paths = sorted({*found.a, *found.b})
    vector = {one.path: one.vector for one in embedder.of_files([photos / path for path in paths])}
    scores = [
        similarity(vector[str(photos / a)], vector[str(photos / b)]) for a, b in zip(found.a, found.b, strict=True)
    ]
    return np.array(scores), found.same


def test_the_stored_threshold_is_the_one_of_the_pairs(photos: Path, listed: Path, tmp_path: Path) -> None:
    model = saved(tmp_path)
    scores, same = by_hand(photos, listed, model)
    made = calibrate(model, listed, photos, 0.1)
    chosen = made.threshold
    plain = choose_threshold(scores[same], scores[~same], 0.1, "x")
    np.testing.assert_array_equal(scores >= chosen.value, scores >= plain.value)
    assert np.abs(scores - chosen.value).min() > 0
    assert (chosen.impostors, chosen.genuine, chosen.far.value) == (IMPOSTORS, int(same.sum()), 0.1)
    assert chosen.data == f"dev: {same.sum()} genuine and {IMPOSTORS} impostor pairs of {PEOPLE} people"
    assert made.threshold.far_by_identity is not None and made.threshold.far_by_identity.n == PEOPLE
    assert bundles.load(model).thresholds == (made.threshold,)
    assert json.loads(json.dumps(made.to_dict(), allow_nan=False))["threshold"]["value"] == chosen.value


def test_verify_decides_as_the_calibration_did(photos: Path, listed: Path, tmp_path: Path) -> None:
    model = saved(tmp_path)
    made = calibrate(model, listed, photos, 0.1)
    scores, _ = by_hand(photos, listed, model)
    found = read_pairs(listed, photos)
    # The pair nearest to the threshold from above was embedded in another batch then: it must stay accepted.
    nearest = int(np.where(scores >= made.threshold.value, scores, np.inf).argmin())
    for row in (nearest, int(scores.argmin())):
        answer = verify(photos / found.a[row], photos / found.b[row], model=model)
        assert answer.score == pytest.approx(scores[row], abs=5e-7)
        assert answer.same is (row == nearest)
        assert answer.far == made.threshold.far
        calibration = made.threshold.calibration
        expected = None if calibration is None else pytest.approx(calibration.probability(scores[row]), abs=1e-4)
        assert answer.probability == expected
    printed = json.loads(json.dumps(answer.to_dict(), allow_nan=False))
    assert set(printed) >= {"score", "threshold", "same", "far", "probability"}
    assert set(printed["far"]) == {"value", "low", "high", "n"}


def test_without_a_threshold_there_is_a_score_and_no_decision(photos: Path, tmp_path: Path) -> None:
    answer = verify(photos / "person_00/0.png", photos / "person_00/1.png", model=saved(tmp_path))
    assert (answer.same, answer.threshold, answer.far, answer.probability) == (None, None, None, None)
    assert -1 <= answer.score <= 1
    with pytest.raises(BadImage, match="no such file"):
        verify(photos / "person_00/0.png", photos / "nobody.png", model=tmp_path)


def test_equal_data_give_equal_files_wherever_they_lie(photos: Path, listed: Path, tmp_path: Path) -> None:
    elsewhere = draw_people(tmp_path / "elsewhere", PEOPLE, PHOTOS)
    (elsewhere / "dev.csv").write_bytes(listed.read_bytes())
    model = saved(tmp_path)
    for name, folder in (("a", photos), ("b", elsewhere)):
        calibrate(model, folder / "dev.csv", folder, 0.1, out=tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert bundles.load(model).thresholds == ()  # --out left the model's own file alone


def test_a_crop_travels_with_the_threshold(photos: Path, listed: Path, tmp_path: Path) -> None:
    model, new = saved(tmp_path, small_bundle(())), tmp_path / "new.safetensors"
    made = calibrate(model, listed, photos, 0.1, out=new, crop=0.5, flip=True)
    assert (made.threshold.crop, made.threshold.flip) == (0.5, True)
    spec = bundles.load(new).spec
    assert (spec.crop, spec.flip) == (0.5, True)
    assert verify(photos / "person_00/0.png", photos / "person_01/0.png", model=new).same is not None
    measured = pairs(new, listed, photos)
    assert measured.threshold == made.threshold
    assert measured.to_dict()["stored"]["chosen_on_these_pairs"] is True
    assert measured.at_threshold is not None and measured.at_threshold.far == made.threshold.far
    assert pairs(new, listed, photos, crop=0.6).threshold is None  # chosen with another input: not used


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"far": 0.01}, Undefined, "60 impostor pairs cannot resolve .* at least 100"),
        ({"far": 0.1, "crop": 0.5}, UsageError, "another crop or flip makes another model"),
        ({"far": 2.0}, UsageError, "false-accept rate in"),
        ({"far": 0.1, "out": Path("nowhere/at/all")}, UsageError, "expected a file to write"),
    ],
)
def test_what_cannot_be_chosen_or_stored(
    photos: Path, listed: Path, tmp_path: Path, options: dict[str, object], error: type[Exception], message: str
) -> None:
    model = saved(tmp_path)
    before = model.read_bytes()
    with pytest.raises(error, match=message):
        calibrate(model, listed, photos, **options)
    assert model.read_bytes() == before


def test_public_weights_need_a_place(photos: Path, listed: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--out"):
        calibrate(f"patchnet@{saved(tmp_path)}", listed, photos, 0.1)


def test_a_run_in_training_is_not_rewritten(photos: Path, listed: Path, tmp_path: Path) -> None:
    saved(tmp_path)
    (tmp_path / "run.json").write_text("{}")
    with owned(tmp_path), pytest.raises(RunLocked):
        calibrate(tmp_path, listed, photos, 0.1)
    assert bundles.load(tmp_path / "model.safetensors").thresholds == ()


def test_a_value_between_two_scores_decides_the_same() -> None:
    scores = np.array([0.9, 0.7, 0.5, 0.4, 0.2])
    chosen = choose_threshold([0.9, 0.5], [0.7, 0.4, 0.2], 0.34, "x")
    assert chosen.value == 0.45 and (scores >= 0.45).tolist() == (scores >= 0.5).tolist()


# ---- pairs


def test_pairs_are_measured_as_the_protocol_says(photos: Path, listed: Path, tmp_path: Path) -> None:
    model = saved(tmp_path)
    scores, same = by_hand(photos, listed, model)
    measured = pairs(model, listed, photos)
    np.testing.assert_allclose(measured.scored.scores, scores, atol=5e-7)
    expected = verify_pairs(measured.scored.scores, same, read_pairs(listed, photos).people)
    assert measured.result == expected
    printed = json.loads(json.dumps(measured.to_dict(), allow_nan=False))
    assert set(printed) >= {"task", "accuracy", "eer", "auc", "tar_at_far", "failures", "model", "fingerprint", "input"}
    assert printed["input"]["crop"] == 1.0


def test_folds_of_the_list_are_used(photos: Path, tmp_path: Path) -> None:
    with_folds = write_pairs(tmp_path / "folds.csv", PEOPLE, PHOTOS, IMPOSTORS, folds=5)
    result = pairs(saved(tmp_path), with_folds, photos).result
    assert result.folds is not None and len(result.folds.accuracies) == 5
    assert result.accuracy is not None and result.accuracy.n == result.genuine + result.impostors


def test_a_picture_that_fails_is_a_failure_to_acquire_and_the_page_says_so(tmp_path: Path) -> None:
    own = draw_people(tmp_path / "own", PEOPLE, PHOTOS)
    listed = write_pairs(own / "dev.csv", PEOPLE, PHOTOS, IMPOSTORS, folds=2)
    (own / "person_00" / "0.png").write_bytes(b"no image")
    (own / "person_01" / "0.png").unlink()
    out = tmp_path / "report"
    measured = pairs(saved(tmp_path), listed, own, out=out)
    with listed.open() as lines:
        rows = list(csv.DictReader(lines))
    lost = [i for i, row in enumerate(rows) if {row["a"], row["b"]} & {"person_00/0.png", "person_01/0.png"}]
    assert measured.result.failures == len(lost) > 0
    assert list(measured.result.failed_pairs) == lost
    assert {item["path"] for item in measured.to_dict()["broken"]} == {"person_00/0.png", "person_01/0.png"}
    assert measured.result.accuracy is not None and measured.result.accuracy.n == len(rows)  # they count as errors
    with (out / "scores.csv").open() as lines:
        table = list(csv.DictReader(lines))
    assert [i for i, row in enumerate(table) if row["score"] == ""] == lost
    assert json.loads((out / "verification.json").read_text())["failures"] == len(lost)
    page = (out / "report.html").read_text()
    assert f"{len(lost)} pairs have no score" in page
    assert page.count("data:image/jpeg") > 0
    assert not re.search(r"(?:src|href)=\"(?!#|data:)", page)


def test_names_with_markup_stay_text(tmp_path: Path) -> None:
    own = draw_people(tmp_path / "own", 4, 2)
    (own / "person_00").rename(own / "<img src=x onerror=alert(1)>")
    rows = [(f"{name}/0.png", f"{name}/1.png", 1) for name in ("<img src=x onerror=alert(1)>", "person_01")]
    rows += [(f"{a}/{i}.png", f"{b}/{i}.png", 0) for i in (0, 1) for a, b in ((rows[0][0][:-6], "person_01"),)]
    (own / "<b>.csv").write_text("a,b,same\n" + "".join(f"{a},{b},{same}\n" for a, b, same in rows))
    pairs(saved(tmp_path), own / "<b>.csv", own, out=tmp_path / "report")
    page = (tmp_path / "report" / "report.html").read_text()
    assert "<img src=x" not in page and "<b>.csv" not in page and "Same person or not: <b>" not in page


@pytest.mark.realdata
def test_public_weights_on_photos_of_the_wild(tmp_path: Path) -> None:
    if not (SHARED / "data/lfw_view1_train").is_dir() or not (SHARED / "weights").is_dir():
        pytest.skip("needs ../shared/data/lfw_view1_train and ../shared/weights")
    header, *rows = (SHARED / "data/lfw_view1_train/pairs.csv").read_text().splitlines()
    kept = [row for row in rows if row.endswith("1")][::40] + [row for row in rows if row.endswith("0")][::40]
    (tmp_path / "some.csv").write_text("\n".join([header, *kept]) + "\n")
    weights = f"mobilefacenet@{SHARED / 'weights/mobilefacenet_arcface.safetensors'}"
    photos = SHARED / "data/lfw_view1_train/images"
    centre = pairs(weights, tmp_path / "some.csv", photos, crop=0.5).result
    assert (centre.genuine, centre.impostors, centre.failures) == (28, 28, 0)
    assert centre.auc > 0.95 > 0.9 > pairs(weights, tmp_path / "some.csv", photos).result.auc
