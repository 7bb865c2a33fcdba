"""Many at once (fault 26): every answer is right, or says to come again."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager

import httpx
import pytest
import torch

from facewright import images
from facewright.embedding import Embedder
from facewright.inference import Classifier
from facewright.recognition import Recognizer
from facewright.serve.app import create_app
from facewright.serve.service import Models
from facewright.serve.settings import Limits, Settings
from fixtures.faces import small_bundle
from fixtures.photos import jpeg

CLIENTS = 200
PHOTOS = [jpeg(seed) for seed in range(10)]


async def ask_at_once(port: int) -> list[tuple[int, httpx.Response]]:
    most = httpx.Limits(max_connections=CLIENTS)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=None, limits=most) as client:

        async def one(number: int) -> tuple[int, httpx.Response]:
            which = number % len(PHOTOS)
            return which, await client.post("/v1/predict", files={"photo": PHOTOS[which]})

        return await asyncio.gather(*(one(number) for number in range(CLIENTS)))


@pytest.mark.parametrize("waiting", [5, 1_000])
def test_two_hundred_clients(serving: Callable[..., AbstractContextManager[int]], waiting: int) -> None:
    bundle = small_bundle()
    classifier = Classifier(bundle)
    spec = classifier.spec
    logits = [
        classifier.logits(torch.from_numpy(spec.fit(images.read(photo))).permute(2, 0, 1)[None])[0] for photo in PHOTOS
    ]
    expected = [classifier.prediction("", row, 3) for row in logits]
    settings = Settings(port=0, limits=Limits(waiting=waiting))
    models = Models("small", Recognizer(Embedder(bundle)), Classifier(bundle))
    with serving(create_app(models, settings), settings) as port:
        answers = asyncio.run(ask_at_once(port))
        assert httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=None).status_code == 200
    counted = Counter(found.status_code for _, found in answers)
    assert set(counted) <= {200, 503} and counted[200] >= min(waiting, CLIENTS)
    if waiting >= CLIENTS:
        assert counted[200] == CLIENTS
    for which, found in answers:
        if found.status_code == 503:
            assert found.headers["retry-after"] == "1" and found.json()["error"]["code"] == "busy"
            continue
        top = found.json()["top"]
        assert [one["name"] for one in top] == list(expected[which].names)
        assert [one["probability"] for one in top] == pytest.approx(expected[which].probabilities, abs=1e-5)
