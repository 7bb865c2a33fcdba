"""The Python client against a server; and the snippets of docs/serving.md, as they are written there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from facewright.client import Client, ServerError
from facewright.errors import UsageError
from facewright.serve.app import create_app
from facewright.serve.server import load
from facewright.serve.settings import Settings
from fixtures.faces import saved, small_bundle
from fixtures.photos import jpeg

TOKEN = "token-of-this-test-0123456789"
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def address(serving: Any, tmp_path_factory: Any) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("served")
    settings = Settings(port=0, token=TOKEN)
    models = load(str(saved(folder, small_bundle(()))), str(folder / "people.gallery"))
    with serving(create_app(models, settings), settings) as port:
        yield f"http://127.0.0.1:{port}"


def test_every_route_is_a_method_and_every_answer_a_record(address: str, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg(0))
    pixels = np.asarray(Image.open(tmp_path / "a.jpg"))
    with Client(address, TOKEN) as faces:
        assert faces.about().can.gallery
        assert len(faces.faces(tmp_path / "a.jpg").faces) == 1
        vectors = [
            faces.embed(one).faces[0].vector
            for one in (str(tmp_path / "a.jpg"), jpeg(0), pixels, Image.fromarray(pixels))
        ]
        assert vectors[0] == vectors[1] and vectors[2] == vectors[3]
        np.testing.assert_allclose(vectors[0], vectors[2], atol=1e-6)
        assert faces.verify(jpeg(0), jpeg(0)).score == pytest.approx(1)
        assert faces.enroll("Ann", jpeg(0), jpeg(0, quality=90), metadata={"team": "a"}).enrolled == 2
        for person in range(4):
            faces.enroll(f"Person {person}", jpeg(10 + person), jpeg(10 + person, quality=90))
        assert faces.calibrate(0.1).threshold.people == 5
        assert faces.identify(jpeg(0)).faces[0].person == "Ann"
        assert [one.person for one in faces.people("person")] == [f"Person {number}" for number in range(4)]
        assert faces.delete("Ann").deleted == 2


def test_refusals_are_errors_with_a_code(address: str) -> None:
    with Client(address, TOKEN) as faces:
        with pytest.raises(ServerError) as refused:
            faces.faces(b"no image")
        assert (refused.value.status, refused.value.code) == (400, "bad_image")
        with pytest.raises(UsageError, match="float64"):
            faces.faces(np.zeros((3, 4, 3)))  # type: ignore[arg-type]
    with Client(address) as nobody, pytest.raises(ServerError) as refused:
        nobody.about()
    assert refused.value.code == "no_token"


def test_a_busy_server_is_asked_again() -> None:
    answers = [httpx.Response(503, headers={"retry-after": "0"}), httpx.Response(502, text="<html>")]
    transport = httpx.MockTransport(lambda _: answers.pop(0))
    with Client("http://server", transport=transport) as faces, pytest.raises(ServerError) as refused:
        faces.about()
    assert refused.value.status == 502 and answers == []


def snippets(language: str) -> list[str]:
    text = (ROOT / "docs" / "serving.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    ("answer", "status", "code"),
    [
        (httpx.ConnectError("refused"), None, "unreachable"),
        (httpx.Response(200, text="<html>of a proxy"), 200, "unknown"),
        (httpx.Response(404, headers={"retry-after": "Sun, 29 Nov 2026 12:00:00 GMT"}), 404, "unknown"),
    ],
)
def test_an_answer_that_is_none_of_the_api(answer: Any, status: int | None, code: str) -> None:
    def respond(_: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer

    with Client("http://server", transport=httpx.MockTransport(respond)) as faces:
        with pytest.raises(ServerError) as refused:
            faces.about()
        assert (refused.value.status, refused.value.code) == (status, code)


@pytest.mark.parametrize("language", ["bash", "python", "javascript"])
def test_the_snippets_of_the_documentation_run(language: str, address: str, tmp_path: Path) -> None:
    tool = {"bash": "curl", "python": sys.executable, "javascript": "node"}[language]
    if shutil.which(tool) is None:
        pytest.skip(f"needs {tool}")
    for name, seed in (("a.jpg", 0), ("b.jpg", 1), ("group.jpg", 2)):
        (tmp_path / name).write_bytes(jpeg(seed))
    (code,) = snippets(language)
    code = code.replace("http://127.0.0.1:8000", address)
    command = {
        "bash": ["bash", "-euc", code],
        "python": [sys.executable, "-c", code],
        "javascript": ["node", "--input-type=module", "-e", code],
    }[language]
    variables = os.environ | {"FACEWRIGHT_TOKEN": TOKEN, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "score" in done.stdout or "0." in done.stdout
