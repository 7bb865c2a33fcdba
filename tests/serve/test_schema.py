"""The server and its own description agree: requests made of the description, by schemathesis.

https://schemathesis.readthedocs.io: valid requests are answered as described, invalid ones are refused, no answer is a
5xx, every 405 has its `Allow`, every route needs the token.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import strategies

from facewright import bundle as bundles
from facewright.serve.app import create_app
from facewright.serve.server import load
from facewright.serve.settings import Settings
from fixtures.faces import saved, small_bundle
from fixtures.photos import jpeg
from fixtures.plain_graph import exported_bundle

schemathesis = pytest.importorskip("schemathesis", reason="needs schemathesis (development dependency)")
from schemathesis.config import GenerationConfig, ProjectConfig, ProjectsConfig, SchemathesisConfig  # noqa: E402
from schemathesis.engine import events, from_schema  # noqa: E402

TOKEN = "token-of-this-test-0123456789"
KINDS = ["gallery", "run", "onnx", "token"]


def models_of(kind: str, folder: Path) -> Any:
    if kind == "gallery":
        return load(str(saved(folder, small_bundle(()))), str(folder / "people.gallery"))
    if kind == "onnx":
        bundles.save(folder / "model.onnx", exported_bundle())
        return load(str(folder / "model.onnx"))
    return load(str(saved(folder)))


def failures(address: str, headers: dict[str, str], examples: int) -> tuple[dict[str, str], int]:
    """What the server does that its description does not say, and how many requests were made."""
    schemathesis.openapi.format("binary", strategies.sampled_from([jpeg(seed) for seed in range(3)]))
    names = strategies.text("abcDEF üß-'", min_size=1, max_size=40).map(str.strip).filter(bool)
    schemathesis.openapi.format("person-name", names)
    schemathesis.openapi.format("json", strategies.sampled_from(["{}", '{"team": "a"}']))
    generation = GenerationConfig(max_examples=examples, deterministic=True, no_shrink=True, database="none")
    project = ProjectConfig(base_url=address, headers=headers, continue_on_failure=True, generation=generation)
    config = SchemathesisConfig(seed=1, projects=ProjectsConfig(default=project))
    description = httpx.get(f"{address}/openapi.json", headers=headers, timeout=None).json()
    found: dict[str, str] = {}
    requests = 0
    for event in from_schema(schemathesis.openapi.from_dict(description, config=config)).execute():
        assert not isinstance(event, events.NonFatalError | events.FatalError), event
        if not isinstance(event, events.ScenarioFinished):
            continue
        for identifier, checks in event.recorder.checks.items():
            requests += 1
            operation = event.recorder.cases[identifier].value
            for check in checks:
                if check.failure_info is not None:
                    key = f"{operation.method} {operation.path} {check.name}"
                    found.setdefault(key, check.failure_info.code_sample[:2_000])
    return found, requests


def check(kind: str, examples: int, serving: Callable[..., AbstractContextManager[int]], folder: Path) -> None:
    token = TOKEN if kind == "token" else None
    settings = Settings(port=0, token=token)
    with serving(create_app(models_of(kind, folder), settings), settings) as port:
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        found, requests = failures(f"http://127.0.0.1:{port}", headers, examples)
    assert found == {} and requests > 20


@pytest.mark.filterwarnings("ignore")  # of schemathesis
@pytest.mark.parametrize("kind", KINDS)
def test_the_server_does_what_its_description_says(kind: str, serving: Any, tmp_path: Path) -> None:
    check(kind, 1, serving, tmp_path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_the_server_does_what_its_description_says_at_length(kind: str, serving: Any, tmp_path: Path) -> None:
    check(kind, 30, serving, tmp_path)
