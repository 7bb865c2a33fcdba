"""A served model with targets in place of classes: what it answers, of a photo and of each of its faces."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from PIL import Image

from facewright import images
from facewright.client import Client, ServerError
from facewright.errors import BadImage
from facewright.faces import crops
from facewright.faces.crops import FaceCropper
from facewright.inference import Classifier
from fixtures.browsing import browser, photo, portrait, tab
from fixtures.page_servers import BOXES, GROUP, TASK, Server, ToldCropper, target_bundle, with_targets
from fixtures.photos import jpeg

Serving = Callable[..., AbstractContextManager[int]]


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as started:
        yield started


@pytest.fixture(scope="module", params=[False, True], ids=["whole", "faces"])
def server(request: pytest.FixtureRequest, serving: Serving) -> Iterator[tuple[Server, bool]]:
    with with_targets(serving, faces=request.param) as found:
        yield found, request.param


def test_targets_are_answered_by_name(server: tuple[Server, bool]) -> None:
    client = server[0].client
    found = client.post("v1/predict", files={"photo": jpeg(0)}).json()
    classifier = Classifier(target_bundle())
    fitted = classifier.fit(images.read(jpeg(0)))
    expected = classifier.prediction("a", classifier.logits(fitted[None])[0]).to_dict()["targets"]
    assert found["targets"] == expected and found["top"] == []
    assert found["targets"]["age"]["high"] - found["targets"]["age"]["low"] == 10.0
    mood = f"mood: {TASK.targets[2].classes[1]}"
    shown = client.post("v1/explain/class", files={"photo": jpeg(0)}, data={"class": mood})
    assert shown.status_code == 200
    assert shown.json()["probability"] == found["targets"]["mood"]["probabilities"][mood.removeprefix("mood: ")]
    assert client.post("v1/explain/class", files={"photo": jpeg(0)}, data={"class": "age"}).status_code == 400


def test_every_face_is_answered_where_the_model_was_trained_on_face_crops(server: tuple[Server, bool]) -> None:
    running, faces = server
    with Client(running.address) as client:
        about = client.about()
        assert about.can.predict_faces is faces
        assert about.model.targets == ["age", "hat", "mood"]
        if not faces:
            with pytest.raises(ServerError) as refused:
                client.predict_faces(GROUP)
            assert refused.value.code == "not_served"
            return
        found = client.predict_faces(GROUP)
        assert (found.width, found.height) == (GROUP.shape[1], GROUP.shape[0])
        assert [(one.x, one.y, one.w, one.h) for one in found.faces] == [tuple(box) for box in sorted(BOXES.tolist())]
        for answer, face in zip(found.faces, ToldCropper().every(GROUP)[0], strict=True):
            assert answer.targets is not None
            alone = client.predict(face.chip).targets
            assert alone is not None
            assert answer.targets["age"].value == pytest.approx(alone["age"].value, abs=1e-4)  # type: ignore[union-attr]
        assert client.predict_faces(jpeg(0)).faces == []
    broken = running.client.post("v1/predict/faces", files={"photo": b"no image"})
    assert broken.status_code in (400, 415)
    assert running.client.post("v1/predict/faces", files={"photo": jpeg(0)}, data={"top_k": "0"}).status_code == 400


def test_the_page_shows_a_row_for_each_face(chromium: Any, server: tuple[Server, bool]) -> None:
    running, faces = server
    with tab(chromium, running.address) as shown:
        page = shown.page
        assert "age, hat, mood" in page.locator("#look-lead").inner_text()
        said = shown.look(photo(GROUP, "group.png"))
        if not faces:
            assert said.startswith("age: ") and page.locator(".class-name").count() == 3
            return
        assert said == "3 faces" and page.locator(".face-row").count() == 3
        answers = running.client.post("v1/predict/faces", files={"photo": png(GROUP)}).json()["faces"]
        row = page.locator(".face-row").nth(1)
        row.click()
        hat = "yes" if answers[1]["targets"]["hat"]["yes"] else "no"
        assert f"hat: {hat}" in row.inner_text()
        assert page.locator(".class-name:visible").nth(1).inner_text() == f"hat: {hat}"
        page.get_by_role("button", name="Why hat?").click()
        assert "hat" in page.locator(".heat figcaption").inner_text()
        assert shown.look(portrait(0)) == "No face was found"


@pytest.mark.skipif(find_spec("face_recognition_models") is None, reason="needs face_recognition_models")
def test_a_photo_of_too_many_faces_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crops, "MOST_FACES", 2)
    cropper = FaceCropper("dlib")
    boxes = np.tile([0.0, 0.0, 20.0, 20.0], (3, 1))
    monkeypatch.setattr(cropper._detector, "locate", lambda photo, sizes: crops.Located(boxes, (1.0,) * 3, boxes))
    with pytest.raises(BadImage, match="at most 2"):
        cropper.every(GROUP)
