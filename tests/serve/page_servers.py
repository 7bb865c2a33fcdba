"""Servers for the tests of the page: a small network that takes photos whole, told where the faces of one group are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from browsing import PAYLOADS

from faces import small_bundle
from facewright import bundle as bundles
from facewright.data.portrait.scene import scene
from facewright.decision import VERIFICATION, Decision, with_decision
from facewright.embedding import Embedder
from facewright.gallery.gallery import Gallery
from facewright.images import Pixels
from facewright.inference import Classifier
from facewright.metrics.histograms import histograms
from facewright.metrics.score_calibration import calibrate_scores
from facewright.metrics.thresholds import choose_threshold
from facewright.recognition import Face, Recognizer
from facewright.recognition.people import Picked, one_of
from facewright.serve.app import create_app
from facewright.serve.service import Models
from facewright.serve.settings import Limits, Settings

GROUP, BOXES = scene(seed=0, index=1, width=600, height=400, faces=3)
GENUINE, IMPOSTOR = np.linspace(0.91, 1.0, 50), np.linspace(0.2, 0.89, 50)  # around what drawn faces get
DATA = "drawn pairs <b>bold</b>"
LIMITS = Limits(bytes=400_000)
TOKEN = "only-for-this-test-0123456789"

Serve = Callable[..., AbstractContextManager[int]]


def judged(bundle: bundles.Bundle) -> bundles.Bundle:
    """With a threshold between the same photo and another one."""
    embedder = Embedder(bundle)
    threshold = choose_threshold(GENUINE, IMPOSTOR, 0.02, DATA)
    chance = calibrate_scores([*GENUINE, *IMPOSTOR], [True] * 50 + [False] * 50, DATA)
    facts = {"far_by_identity": None, "people": None, "failures": 0, "digest": "d" * 32}
    spread = histograms(GENUINE, IMPOSTOR)
    pinned = {"fingerprint": embedder.fingerprint, "crop": embedder.spec.crop, "flip": embedder.spec.flip}
    return with_decision(bundle, Decision(VERIFICATION, threshold, chance, **facts, **pinned, histograms=spread))


def told(recognizer: Recognizer) -> Recognizer:
    """Finds the three faces of the group; any other photo is taken whole."""
    whole = recognizer.faces

    def faces(pixels: Pixels, **_: Any) -> tuple[Face, ...]:
        if pixels.shape != GROUP.shape:
            return whole(pixels)
        crops = [pixels[y : y + h, x : x + w] for x, y, w, h in BOXES]
        boxes = [tuple(float(length) for length in box) for box in BOXES]
        return tuple(
            Face(box, 1.0, np.zeros((0, 2)), recognizer.spec.fit(np.ascontiguousarray(crop)))  # type: ignore[arg-type]
            for box, crop in zip(boxes, crops, strict=True)
        )

    def pick(pixels: Pixels, policy: Any = "centre") -> Picked:
        return one_of(faces(pixels), pixels.shape[:2], policy)

    recognizer.faces, recognizer.pick = faces, pick  # type: ignore[method-assign, assignment]
    return recognizer


@dataclass
class Server:
    """A server that runs, and a way past the page."""

    address: str
    client: httpx.Client

    def enrol(self, person: str, *files: dict[str, Any], **fields: str) -> None:
        sent = [("photo", (one["name"], one["buffer"])) for one in files]
        answer = self.client.post("v1/gallery/enroll", files=sent, data={"person": person, **fields})
        assert answer.status_code == 200 and not answer.json()["failed"], answer.text

    def people(self) -> dict[str, int]:
        found = self.client.get("v1/gallery/people").json()["people"]
        return {one["person"]: one["entries"] for one in found}


@contextmanager
def with_gallery(serving: Serve, folder: Path) -> Iterator[Server]:
    """A model without classes, and an empty gallery."""
    bundles.save(folder / "model.safetensors", judged(small_bundle(())))
    held = Gallery.open(folder / "people.gallery", folder / "model.safetensors")
    recognizer = told(Recognizer(Embedder(bundles.load(folder / "model.safetensors"))))
    with _server(serving, Models("small", recognizer, None, held)) as server:
        yield server


@contextmanager
def with_classes(serving: Serve, token: str | None = None) -> Iterator[Server]:
    """A classifier whose name and classes are hostile, and no gallery."""
    bundle = judged(small_bundle(PAYLOADS[:3]))
    models = Models(PAYLOADS[3], told(Recognizer(Embedder(bundle))), Classifier(bundle))
    with _server(serving, models, token) as server:
        yield server


@contextmanager
def _server(serving: Serve, models: Models, token: str | None = None) -> Iterator[Server]:
    settings = Settings(port=0, limits=LIMITS, token=token)
    with serving(create_app(models, settings), settings) as port:
        address = f"http://127.0.0.1:{port}/"
        with httpx.Client(base_url=address, timeout=30) as client:
            yield Server(address, client)
