"""What all tests share: none sees or fills the user's own cache; each face is drawn once, and found once by dlib."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache, lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest

from facewright.data import synthetic
from facewright.faces import detectors
from facewright.faces.dlib.detection import LANDMARKS


@pytest.fixture(autouse=True)
def cache_of_this_test(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, made when it is first written to."""
    folder = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setenv("FACEWRIGHT_CACHE", str(folder))
    return folder


@pytest.fixture(autouse=True, scope="session")
def faces_drawn_once() -> Iterator[None]:
    """A data set of synthetic faces draws each image once a process; `draw_face` itself draws every time."""
    draw = lru_cache(2_000)(synthetic.draw_face)

    def drawn(*given: Any) -> tuple[Any, Any]:
        image, shown = draw(*given)
        return image.copy(), shown

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic, "draw_face", drawn)
        yield


@pytest.fixture(autouse=True, scope="session")
def faces_found_once() -> Iterator[None]:
    """dlib's detector passes each photo once a process through its network; `FaceDetector.find` itself every time."""
    known: dict[tuple[object, ...], tuple[Any, Any]] = {}

    class Once(detectors.FaceDetector):
        def find(self, photo: Any, **options: Any) -> tuple[Any, Any]:
            key = (blake2b(photo.tobytes()).digest(), photo.shape, *options.items())
            if key not in known:
                known[key] = super().find(photo, **options)
            boxes, scores = known[key]
            return boxes.copy(), scores.copy()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detectors, "FaceDetector", Once)
        yield


@pytest.fixture(autouse=True, scope="session")
def landmarks_converted_once() -> Iterator[None]:
    """dlib's five points are converted once a process, whatever cache a test has; another file every time."""
    convert, own = LANDMARKS.convert, cache(LANDMARKS.convert)
    given = LANDMARKS._origin(None)
    vars(LANDMARKS)["convert"] = lambda path: (own if path == given else convert)(path)
    yield
    vars(LANDMARKS)["convert"] = convert


@pytest.fixture(autouse=True, scope="session")
def layers_counted_once() -> Iterator[None]:
    """A training counts the FLOPs of equal networks once a process; `summarize` itself every time."""
    known: dict[tuple[object, ...], Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        if jobs := sys.modules.get("facewright.workflows.training_jobs"):
            summarize = jobs.summarize

            def counted(network: Any, size: int) -> Any:
                shapes = (*((name, one.shape) for name, one in network.state_dict().items()),)
                key = (repr(network), shapes, size)
                if key not in known:
                    known[key] = summarize(network, size)
                return known[key]

            patch.setattr(jobs, "summarize", counted)
        yield
