"""Files written at commit d473f1e (synthetic faces only) open today with the answers they gave then.

`d473f1e/` holds a finished run, a run stopped by SIGTERM at step 11, a two-class run, a fitted function, a calibrated
bundle, its ONNX export, a gallery in SQLite, exported, and as a PostgreSQL dump; `answers.json` holds what the commands
of that version printed with `--json`. Do not regenerate these files: they stand for what users have.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facewright.cli.main import main
from facewright.embedding import Embedder

FILES = Path(__file__).parent / "d473f1e"
ANSWERS: dict[str, Any] = json.loads((FILES / "answers.json").read_text())
CLOSE = {"abs": 2e-5}  # processors and thread counts round differently


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the files, the current directory."""
    folder = tmp_path / "old"
    shutil.copytree(FILES, folder)
    monkeypatch.chdir(folder)
    return folder


def run_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    capsys.readouterr()
    assert main([*arguments, "--json"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def probabilities(answer: Any) -> dict[str, dict[str, float]]:
    """{image: {class: probability}}."""
    return {one["path"]: {top["name"]: top["probability"] for top in one["top"]} for one in answer["predictions"]}


@pytest.mark.parametrize(
    ("model", "answer"), [("run", "predict_run"), ("two", "predict_two"), ("verifier.onnx", "predict_onnx")]
)
def test_a_model_predicts_what_it_did(old: Path, capsys: pytest.CaptureFixture[str], model: str, answer: str) -> None:
    now, then = probabilities(run_json(capsys, "predict", model, "probes")), probabilities(ANSWERS[answer])
    assert now.keys() == then.keys()
    for image, classes in then.items():
        assert now[image] == pytest.approx(classes, **CLOSE)


def test_a_stopped_run_resumes_and_ends_where_it_would_have(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "train",
        "faces",
        "--model",
        "patchnet",
        "--out",
        "stopped",
        "--resume",
        "--size",
        "64",
        "--epochs",
        "4",
    ]
    values = ["--precision", "float32", "--set", "training.batch=8", "--set", "training.ema=0.9", "-q"]
    assert main([*arguments, *values]) == 0, capsys.readouterr().err
    now, then = probabilities(run_json(capsys, "predict", "stopped", "probes")), probabilities(ANSWERS["finished"])
    for image, classes in then.items():  # the steps after the checkpoint add to the rounding
        assert now[image] == pytest.approx(classes, abs=1e-3)


@pytest.mark.parametrize("run", ["run", "two"])
def test_a_run_is_evaluated_to_the_same_numbers(old: Path, capsys: pytest.CaptureFixture[str], run: str) -> None:
    now, then = run_json(capsys, "evaluate", run), ANSWERS[f"evaluate_{run}"]
    for key in ("accuracy", "macro_f1", "log_loss"):
        assert now[key] == pytest.approx(then[key], **CLOSE)
    if run == "two":
        assert now["binary"]["threshold"] == then["binary"]["threshold"]


def test_a_fitted_function_predicts_the_same_rows(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    now, then = run_json(capsys, "predict", "fit", "rows.csv"), ANSWERS["predict_fit"]
    values = [[row["predicted"]["y"] for row in answer["predictions"][0]["rows"]] for answer in (now, then)]
    assert values[0] == pytest.approx(values[1], rel=1e-5)


def test_an_export_without_norms_embeds_as_its_model(old: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    (one, norms), (other, none) = (
        Embedder.load(f"verifier.{kind}").embed_with_norms(pixels) for kind in ("safetensors", "onnx")
    )
    np.testing.assert_allclose(one, other, atol=1e-5)
    assert np.isfinite(norms).all() and np.isnan(none).all()


@pytest.mark.parametrize("model", ["verifier.safetensors", "verifier.onnx"])
def test_a_stored_threshold_decides_the_same(old: Path, capsys: pytest.CaptureFixture[str], model: str) -> None:
    pair = ["probes/others_person_05_00000.jpg", "probes/others_person_05_00001.jpg"]
    now = run_json(capsys, "verify", model, *pair)
    then = ANSWERS["verify" if model.endswith(".safetensors") else "verify_onnx"]
    for key in ("threshold", "far_target", "far", "fingerprint"):
        assert now[key] == then[key], key
    assert now["same"] is then["same"]
    for key in ("score", "probability"):
        assert now[key] == pytest.approx(then[key], **CLOSE)


def check_gallery(capsys: pytest.CaptureFixture[str], gallery: str) -> None:
    """The people, the threshold and the answers are those of then."""
    stats = run_json(capsys, "gallery", "stats", "-g", gallery)
    for key in ("people", "entries", "fingerprint", "width"):
        assert stats[key] == ANSWERS["stats"][key], key
    probes = sorted(str(path) for path in Path("probes").iterdir())
    now = run_json(capsys, "gallery", "identify", "-g", gallery, "--model", "verifier.safetensors", *probes)
    for photo, before in zip(now["photos"], ANSWERS["identify"]["photos"], strict=True):
        assert photo["photo"] == before["photo"]
        assert photo["person"] == before["person"]
        assert photo["score"] == pytest.approx(before["score"], **CLOSE)


def test_a_gallery_in_a_file_answers_the_same(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("people.gallery").chmod(0o600)
    check_gallery(capsys, "people.gallery")
    assert main(["gallery", "enroll", "-g", "people.gallery", "new", "probes/others_person_06_00003.jpg", "--model",
                 "verifier.safetensors", "-q"]) == 0  # fmt: skip
    assert main(["gallery", "delete", "-g", "people.gallery", "person_00"]) == 0
    stats = run_json(capsys, "gallery", "stats", "-g", "people.gallery")
    assert (stats["people"], stats["entries"]) == (5, 25)  # one person added, six photos of another deleted


def test_an_exported_gallery_is_imported(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gallery", "import", "-g", "again.gallery", "people.jsonl"]) == 0, capsys.readouterr().err
    assert run_json(capsys, "gallery", "stats", "-g", "again.gallery")["entries"] == ANSWERS["stats"]["entries"]


def test_a_gallery_on_postgresql_answers_the_same(old: Path, capsys: pytest.CaptureFixture[str], server: Any) -> None:
    address = server.address(gallery="old")
    for statement in statements(Path("gallery.sql").read_text()):
        server.say(statement)
    check_gallery(capsys, address)


def statements(dump: str) -> list[str]:
    """The statements of a dump; psql's own commands left out."""
    lines = [line for line in dump.splitlines() if line and not re.match(r"--|\\", line)]
    text = "\n".join(line for line in lines if not line.startswith(("SET ", "SELECT pg_catalog.set_config")))
    return [part for part in text.split(";\n") if part.strip()]
