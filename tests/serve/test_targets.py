"""A served model with targets in place of classes: what it answers, and what it shows."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace

import httpx

from facewright import images
from facewright.embedding import Embedder
from facewright.inference import Classifier
from facewright.recognition import Recognizer
from facewright.serve.app import create_app
from facewright.serve.service import Models
from facewright.serve.settings import Settings
from facewright.specs import HeadSpec
from facewright.specs.tasks import TaskSpec
from fixtures.faces import small_bundle
from fixtures.photos import jpeg

TASK = TaskSpec.from_dict(
    {
        "targets": [
            {"name": "age", "kind": "number", "number": {"low": 0.0, "high": 80.0, "median": 30.0, "error": 5.0}},
            {"name": "hat", "kind": "attribute"},
            {"name": "mood", "kind": "classes", "classes": ["glad", "sad"]},
        ]
    }
)


def test_targets_are_answered_by_name(serving: Callable[..., AbstractContextManager[int]]) -> None:
    bundle = replace(small_bundle(TASK.scores, HeadSpec(kind="linear")), task=TASK)
    classifier, settings = Classifier(bundle), Settings(port=0)
    models = Models("small", Recognizer(Embedder(bundle)), classifier)
    with (
        serving(create_app(models, settings), settings) as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=None) as client,
    ):
        found = client.post("/v1/predict", files={"photo": jpeg(0)}).json()
        fitted = classifier.fit(images.read(jpeg(0)))
        expected = classifier.prediction("a", classifier.logits(fitted[None])[0]).to_dict()["targets"]
        assert found["targets"] == expected and found["top"] == []
        assert found["targets"]["age"]["high"] - found["targets"]["age"]["low"] == 10.0
        shown = client.post("/v1/explain/class", files={"photo": jpeg(0)}, data={"class": "mood: sad"})
        assert shown.status_code == 200
        assert shown.json()["probability"] == found["targets"]["mood"]["probabilities"]["sad"]
        assert client.post("/v1/explain/class", files={"photo": jpeg(0)}, data={"class": "age"}).status_code == 400
