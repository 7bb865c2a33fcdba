"""`facewright weights`, and where it is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from facewright.cli.main import app, main
from facewright.models import catalog
from facewright.models.face_weights import FACE_WEIGHTS
from facewright.models.released import RELEASED

NAME = "mobilenet_v1_x0_25"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FACEWRIGHT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def call(*words: str) -> Result:
    return CliRunner().invoke(app, ["weights", *words])


def test_lists_what_is_known_and_what_is_here(own_cache: Path) -> None:
    (own_cache / "weights").mkdir(parents=True)
    (own_cache / "weights" / "resnet18@imagenet.safetensors").touch()
    lines = call("list").stdout.splitlines()
    assert len(lines) == 1 + len(RELEASED) + len(FACE_WEIGHTS)
    cells = {line.split()[0]: line.split()[2:4] for line in lines}
    assert (cells["resnet18@imagenet"], cells["resnet34@imagenet"]) == (["47", "yes"], ["87", "no"])


def test_lists_one_as_json() -> None:
    rows = json.loads(call("list", "vit_b_16", "--json").stdout)["weights"]
    assert [(row["name"], row["here"]) for row in rows] == [("imagenet", False), ("deit", False)]
    assert set(rows[0]) >= {"source", "sha256", "licence", "spec", "published", "rule"}
    assert call("list", "alexnet").stdout.startswith("no pretrained weights of alexnet")


def test_converts(tmp_path: Path) -> None:
    torch.save(catalog.create_model(NAME, 5).state_dict(), tmp_path / "net.pth")
    words = [str(tmp_path / "net.pth"), "--model", NAME, "--to", str(tmp_path / "net.safetensors")]
    shown = call("convert", *words).stdout
    assert "164 tensors of mobilenet_v1_x0_25 (facewright names), a classifier of 5 classes" in shown
    result = json.loads(call("convert", *words, "--json").stdout)
    assert (result["model"], result["classes"], len(result["sha256"])) == (NAME, 5, 64)


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["weights", *words]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and len(error.splitlines()) == 1
    return error


def test_refusals_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean 'imagenet'" in refusal(capsys, "get", "resnet18@imagene")
    assert "resnet18: imagenet" in refusal(capsys, "get", "resnet18")
    assert "alexnet" in refusal(capsys, "get", "alexnet")
    assert "unknown model" in refusal(capsys, "list", "resnet19")
    out = str(tmp_path / "o.safetensors")
    assert "no such file" in refusal(capsys, "convert", str(tmp_path / "a.pth"), "--model", NAME, "--to", out)
    lost = str(tmp_path / "none" / "o.safetensors")
    assert "none" in refusal(capsys, "convert", "a.pth", "--model", NAME, "--to", lost)


def test_the_zoo_as_markdown() -> None:
    result = CliRunner().invoke(app, ["models", "--markdown"])
    lines = result.stdout.splitlines()
    assert len(lines) == 2 + len(catalog.names())
    cells = next(line for line in lines if line.startswith("| resnet50 ")).split(" | ")
    assert cells[1:4] == ["25,557,032", "25,557,032", "torchvision"]
    assert all(line.split(" | ")[1] == line.split(" | ")[2] for line in lines[2:])
    assert main(["models", "resnet50", "--markdown"]) == 1


def test_one_model_shows_its_weights_in_full() -> None:
    shown = CliRunner().invoke(app, ["models", "resnest50"]).stdout
    assert "resnest50@imagenet" in shown and "sha256   528c19ca…" in shown
    facts = json.loads(CliRunner().invoke(app, ["models", "resnest50", "--json"]).stdout)
    assert [row["name"] for row in facts["weights"]] == ["imagenet"]


@pytest.mark.parametrize(
    ("content", "named"),
    [(b"", "empty"), (b"<!DOCTYPE html><html>", "web page"), (b"version https://git-lfs.github.com/spec/v1\n", "LFS")],
)
def test_what_a_download_may_hold_in_place_of_weights(
    content: bytes, named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.pth").write_bytes(content)
    words = (str(tmp_path / "a.pth"), "--model", NAME, "--to", str(tmp_path / "o.safetensors"))
    assert named in refusal(capsys, "convert", *words)
