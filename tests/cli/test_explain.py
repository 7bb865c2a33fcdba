"""`facewright explain` from the outside: what is printed where, and with which exit status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from facewright.cli.main import main
from fixtures.faces import draw_people, saved


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = draw_people(tmp_path_factory.mktemp("photos"), people=1, photos=2)
    (folder / "broken.jpg").write_bytes(b"no image")
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return saved(tmp_path)


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    status = main([str(word) for word in words])
    out, err = capsys.readouterr()
    return status, out, err


def test_a_line_a_photo(model: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "explain", model, photos, "--out", tmp_path / "why", "--class", "bob")
    assert status == 0 and len(out.splitlines()) == 2
    assert "bob " in out and "0.png -> " not in out and str(tmp_path / "why/0.png") in out
    assert "broken.jpg" in err and f"wrote {tmp_path / 'why/report.html'}" in err


def test_json(model: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("explain", model, photos, "--out", tmp_path / "why", "--method", "grad-cam++", "--json")
    status, out, _ = run(capsys, *words)
    told = json.loads(out)
    assert status == 0 and told["task"] == "explain" and told["method"] == "grad-cam++" and len(told["photos"]) == 3


def test_a_pair(model: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair = (photos / "person_00/0.png", photos / "person_00/1.png", "--pair", "--out", tmp_path / "pair")
    status, out, _ = run(capsys, "explain", model, *pair)
    assert status == 0 and out.startswith("similarity ") and "falls by" in out
    status, out, _ = run(capsys, "explain", model, *pair, "--json")
    assert status == 0 and json.loads(out)["task"] == "explain-pair"
    assert (tmp_path / "pair/report.html").is_file()


def test_without_out_a_free_folder_of_runs_is_taken(
    model: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for number in (1, 2):
        assert run(capsys, "explain", model, photos / "person_00/0.png")[0] == 0
        assert (tmp_path / f"runs/explain-{number}/report.html").is_file()


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["person_00/0.png", "--pair"], 1, "--pair"),
        (["person_00/0.png", "person_00/1.png", "--pair", "--class", "ann"], 1, "--class"),
        (["person_00/0.png", "--class", "dora"], 1, "unknown class 'dora'"),
        (["person_00/0.png", "--method", "lime"], 2, "lime"),
        (["broken.jpg"], 1, "broken.jpg"),
        (["absent.jpg"], 1, "no such file or folder"),
    ],
)
def test_refusals(
    words: list[str], status: int, said: str, model: Path, photos: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    given = [str(photos / word) if "." in word else word for word in words]
    found, _, err = run(capsys, "explain", model, *given, "--out", tmp_path / "why")
    assert found == status and said in err
