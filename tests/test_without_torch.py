"""What uses models runs without the packages of the extra `train`: in a process in which they cannot be imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facewright.errors import EXTRAS
from fixtures.plain_graph import saved

CHILD = f"""
import contextlib, importlib.abc, io, json, sys
class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {EXTRAS["train"]!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocked())
import uvicorn
from facewright.cli.main import main
def run(server, sockets):  # in place of waiting for requests: one of each kind
    from starlette.testclient import TestClient
    with TestClient(server.config.app, f"http://127.0.0.1:{{sockets[0].getsockname()[1]}}") as client:
        for path in ("embed", "predict"):
            print(client.post("/v1/" + path, files={{"photo": open(sys.argv[1], "rb")}}).text)
uvicorn.Server.run = run
for line in sys.stdin:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(json.loads(line))
    print(json.dumps([status, out.getvalue(), err.getvalue()]), flush=True)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six images of three people, pairs of them, and an exported model of two classes."""
    folder = tmp_path_factory.mktemp("use")
    rng = np.random.default_rng(0)
    rows = []
    for person in "abc":
        (folder / "photos" / person).mkdir(parents=True)
        face = rng.integers(0, 256, (60, 60, 3))
        for number in (1, 2):
            pixels = np.clip(face + rng.integers(-9, 10, face.shape), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"photos/{person}/{number}.png")
        rows += [f"{person}/1.png,{person}/2.png,1", f"{person}/1.png,{'bca'['abc'.index(person)]}/2.png,0"]
    (folder / "pairs.csv").write_text("a,b,same\n" + "\n".join(rows) + "\n")
    saved(folder / "model.onnx")
    return folder


@pytest.fixture(scope="module")
def child(folder: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"FACEWRIGHT_CACHE": str(folder / "cache")}
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder / "photos/a/1.png")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    with process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def run(child: subprocess.Popen[str], *words: str) -> tuple[int, str, str]:
    assert child.stdin is not None and child.stdout is not None
    child.stdin.write(json.dumps(words) + "\n")
    child.stdin.flush()
    status, out, err = json.loads(child.stdout.readline())
    return status, out, err


@pytest.mark.parametrize(
    "command",
    [
        "faces photos --detector dlib --smallest 20",
        "pairs built-in pairs.csv --images photos --detector none",
        "pairs model.onnx pairs.csv --images photos",
        "calibrate model.onnx --pairs pairs.csv --images photos --far 0.5",
        "verify model.onnx photos/a/1.png photos/a/2.png",
        "embed built-in photos --out vectors.parquet --detector none",
        "embed model.onnx photos --out own.npz",
        "predict model.onnx photos/a/1.png",
        "scan model.onnx photos/a/1.png --class red",
        "gallery enroll --gallery people.gallery --model model.onnx photos",
        "gallery search --gallery people.gallery photos/a/1.png",
        "gallery identify --gallery people.gallery --threshold 0.5 photos/a/1.png",
        "gallery stats --gallery people.gallery",
        "models",
        "recipes",
        "weights list",
    ],
)
def test_a_command_that_uses_models_needs_nothing_of_the_extra(
    child: subprocess.Popen[str], folder: Path, command: str
) -> None:
    words = [str(folder / word) if "/" in word or "." in word or word == "photos" else word for word in command.split()]
    words = [word if not word.endswith("/0.5") else "0.5" for word in words]
    status, _, err = run(child, *words)
    assert status == 0, err


def test_a_server_needs_nothing_of_the_extra(child: subprocess.Popen[str], folder: Path) -> None:
    status, out, err = run(child, "serve", str(folder / "model.onnx"), "--detector", "none", "--port", "0")
    assert status == 0, err
    embedded, predicted = map(json.loads, out.splitlines()[-2:])
    assert len(embedded["faces"][0]["vector"]) == 3 and len(predicted["top"]) == 2


def test_what_trains_names_the_extra(child: subprocess.Popen[str], folder: Path) -> None:
    status, out, err = run(child, "train", str(folder / "photos"), "--out", str(folder / "run"))
    assert (status, out) == (1, "") and "facewright[train]" in err and err.count("\n") == 1
