"""The commands of verification from the outside: what is printed where, and with which exit status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from facewright.cli.main import main
from facewright.errors import OtherClasses
from facewright.workflows import evaluation
from fixtures.faces import draw_people, saved, small_bundle, write_pairs


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = draw_people(tmp_path_factory.mktemp("data") / "photos", people=8, photos=3)
    write_pairs(folder.parent / "dev.csv", 8, 3, 40)
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return saved(tmp_path)


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    status = main([str(word) for word in words])
    out, err = capsys.readouterr()
    return status, out, err


def test_from_a_score_to_a_decision(photos: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = photos / "person_00/0.png", photos / "person_00/1.png"
    status, out, err = run(capsys, "verify", model, a, b)
    assert status == 1 and out.startswith("score ") and "facewright calibrate" in err
    status, out, err = run(capsys, "verify", model, a, b, "--json")
    assert status == 1 and json.loads(out)["same"] is None

    status, out, err = run(
        capsys, "calibrate", model, "--pairs", photos.parent / "dev.csv", "--images", photos, "--far", "0.1"
    )
    assert status == 0 and "0.1" in out and f"wrote {model}" in err
    status, out, err = run(capsys, "verify", model, a, b)
    assert (status, err) == (0, "") and out.splitlines()[0] == json.loads(
        run(capsys, "verify", model, a, b, "--json")[1]
    )["verdict"]
    status, out, _ = run(capsys, "verify", model, a, b, "--json")
    answer = json.loads(out)
    assert status == 0 and answer["same"] is (answer["score"] >= answer["threshold"])
    assert answer["far"]["n"] == 40
    status, _, err = run(capsys, "verify", model, a, b, "--far", "0.01")
    assert status == 1 and err.count("\n") == 1 and "0.1" in err


def test_pairs(photos: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("pairs", model, photos.parent / "dev.csv", "--images", photos, "--crop", "0.8")
    status, out, err = run(capsys, *words, "--json", "--out", tmp_path / "report")
    assert status == 0
    result = json.loads(out)
    assert {"accuracy", "eer", "auc", "tar_at_far", "failures"} <= set(result)
    assert result["input"]["crop"] == 0.8
    assert (tmp_path / "report" / "report.html").is_file() and "report.html" in err
    status, out, _ = run(capsys, *words)
    assert status == 0 and "EER" in out and "achieved" in out


def test_a_rate_beyond_the_pairs_is_one_clear_line(
    photos: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("calibrate", model, "--pairs", photos.parent / "dev.csv", "--images", photos, "--far", "1e-3", "-q")
    status, out, err = run(capsys, *words)
    assert (status, out) == (1, "")
    assert err.startswith("error: ") and "40" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        ("--far", "0.1"),
        ("--far", "0.1", "--unknown-people", "x", "--pairs", "x.csv"),
        ("--far", "0.1", "--pairs", "x.csv"),  # no --images
        ("--far", "0.1", "--unknown-people", "x", "--crop", "0.5"),
    ],
)
def test_calibrate_wants_pairs_or_strangers(
    words: tuple[str, ...], model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = run(capsys, "calibrate", model, *words)
    assert (status, out) == (1, "") and err.startswith("error: ") and err.count("\n") == 1


def test_embed(photos: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pyarrow", reason="needs the extra `data` (pyarrow)")
    status, out, _ = run(capsys, "embed", model, photos, "--out", tmp_path / "v.parquet", "--json")
    assert status == 0 and json.loads(out)["rows"] == 24
    status, out, err = run(capsys, "embed", model, photos, "--out", tmp_path / "none" / "v.parquet")
    assert status == 1 and "none" in err


def test_unknown_from_calibration_to_prediction(
    photos: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, err = run(capsys, "predict", model, photos, "--unknown-at", "0.1", "-q")
    assert status == 1 and "--unknown-people" in err
    status, out, _ = run(capsys, "calibrate", model, "--unknown-people", photos, "--far", "0.1", "--json")
    assert status == 0 and json.loads(out)["threshold"]["impostors"] == 24
    status, out, _ = run(capsys, "predict", model, photos, "--unknown-at", "0.1", "--json")
    unknown = [one["unknown"] for one in json.loads(out)["predictions"]]
    assert status == 0 and unknown.count(False) == 2  # of the strangers it was chosen on, at most a tenth
    table = tmp_path / "p.csv"
    status, out, _ = run(capsys, "predict", model, photos, "--unknown-at", "0.1", "--csv", table)
    assert table.read_text().count(",1,unknown,,") == 22
    status, out, _ = run(capsys, "predict", model, photos, "--unknown-at", "0.1")
    assert out.count(": unknown (") == 22


def test_evaluate_as_a_recogniser(
    photos: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, _ = run(capsys, "evaluate", model, photos, "--json", "-q")
    assert status == 0 and json.loads(out)["task"] == "verification"
    status, out, _ = run(capsys, "evaluate", model, photos, "--task", "identification", "--seed", "2", "--json")
    assert status == 0 and (json.loads(out)["task"], json.loads(out)["seed"]) == ("identification", 2)
    status, out, _ = run(capsys, "evaluate", model, photos, "--task", "identification")
    assert status == 0 and "rank 1" in out
    status, out, err = run(capsys, "evaluate", model, "--task", "verification")
    assert status == 1 and "DATA" in err


def test_a_run_with_other_classes_is_evaluated_as_verification_unless_classification_is_asked_for(
    photos: Path, model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OtherClasses("expected the classes the run was trained on")

    monkeypatch.setattr(evaluation, "_classify", refuse)
    status, out, err = run(capsys, "evaluate", model.parent, photos, "--json", "-q")
    result = json.loads(out)
    assert status == 0 and result["task"] == "verification" and str(photos) in result["note"] and result["note"] in err
    status, out, err = run(capsys, "evaluate", model.parent, photos, "--task", "classification", "-q")
    assert (status, out) == (1, "") and err.startswith("error: expected the classes")


def test_a_model_without_classes_names_nobody(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = run(capsys, "predict", saved(tmp_path, small_bundle(())), photos, "-q")
    assert status == 1 and err.startswith("error: ")
