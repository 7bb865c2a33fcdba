"""What the server answers, against a small model that takes photos whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch

from facewright import images
from facewright.embedding import Embedder, similarity
from facewright.inference import Classifier
from facewright.recognition import Recognizer
from facewright.serve.app import create_app
from facewright.serve.service import Models
from facewright.serve.settings import Limits, Settings
from fixtures.faces import small_bundle
from fixtures.photos import jpeg

LIMITS = Limits(bytes=1_200_000, pixels=2_000_000, photos=3, fields=5)


A, B = jpeg(0), jpeg(1)


@pytest.fixture(scope="module")
def client(serving: Callable[..., AbstractContextManager[int]]) -> Iterator[httpx.Client]:
    bundle = small_bundle()
    models = Models("small", Recognizer(Embedder(bundle)), Classifier(bundle))
    settings = Settings(port=0, limits=LIMITS)
    with (
        serving(create_app(models, settings), settings) as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client,
    ):
        yield client


def vector(photo: bytes) -> Any:
    embedder = Embedder(small_bundle())
    fitted = embedder.spec.fit(images.read(photo))
    return embedder.embed(torch.from_numpy(fitted).permute(2, 0, 1)[None])[0]


def test_health_and_what_it_is(client: httpx.Client) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    about = client.get("/v1/about").json()
    bundle = small_bundle()
    assert about["model"]["classes"] == list(bundle.classes) and about["model"]["kind"] == "classifier"
    assert about["can"]["predict"] and about["can"]["explain"] and not about["can"]["gallery"]
    assert about["threshold"] is None and about["gallery"] is None
    assert about["limits"] == {"bytes": 1_200_000, "pixels": 2_000_000, "photos": 3}


def test_a_photo_is_named_as_the_model_names_it(client: httpx.Client) -> None:
    found = client.post("/v1/predict", files={"photo": A}, data={"top_k": "2"}).json()
    classifier = Classifier(small_bundle())
    logits = classifier.logits(torch.from_numpy(classifier.spec.fit(images.read(A))).permute(2, 0, 1)[None])
    expected = classifier.prediction("a", logits[0], 2)
    assert [one["name"] for one in found["top"]] == list(expected.names)
    np.testing.assert_allclose([one["probability"] for one in found["top"]], expected.probabilities, atol=1e-6)
    assert found["unknown"] is None and found["answer"] is None


def test_two_photos_are_compared_and_without_a_threshold_nothing_is_decided(client: httpx.Client) -> None:
    found = client.post("/v1/verify", files={"a": A, "b": B}).json()
    assert found["score"] == pytest.approx(similarity(vector(A), vector(B)), abs=1e-6)
    assert found["same"] is None and found["threshold"] is None
    assert found["a"]["width"] == 60 and found["a"]["faces"] == 1 and found["a"]["reason"] is None


def test_vectors(client: httpx.Client) -> None:
    found = client.post("/v1/embed", files={"photo": A}).json()
    (face,) = found["faces"]
    np.testing.assert_allclose(face["vector"], vector(A), atol=1e-6)
    assert (face["x"], face["y"], face["w"], face["h"], face["score"]) == (0, 0, 60, 60, None)
    assert client.post("/v1/faces", files={"photo": A}).json()["faces"][0]["w"] == 60


def test_a_large_photo_gives_the_vector_that_its_file_gives(client: httpx.Client, tmp_path: Path) -> None:
    large = tmp_path / "large.jpg"
    large.write_bytes(jpeg(3, 1_100))  # of which the decoder gives the half, so small is what the model sees
    found = client.post("/v1/embed", files={"photo": large.read_bytes()}).json()
    (expected,) = Embedder(small_bundle()).of_files([large])
    np.testing.assert_allclose(found["faces"][0]["vector"], expected.vector, atol=1e-6)
    assert found["width"] == 550


def test_why(client: httpx.Client) -> None:
    pair = client.post("/v1/explain", files={"a": A, "b": B}).json()
    assert pair["kind"] == "pair" and pair["a"]["overlay"].startswith("data:image/png;base64,")
    shown = client.post("/v1/explain", files={"photo": A}, data={"class": small_bundle().classes[0]}).json()
    assert shown["kind"] == "class" and shown["class"] == small_bundle().classes[0]
    refused = client.post("/v1/explain", files={"photo": A}, data={"class": "nobody"})
    assert refused.status_code == 400 and "unknown class 'nobody'" in refused.json()["error"]["message"]


MANY = "x" * 1_300_000
PARTS = {f"p{i}": "x" for i in range(10_000)}

# what is sent -> the status, a word of the message
HOSTILE: dict[str, tuple[str, dict[str, Any], int, str]] = {
    "nothing": ("/v1/faces", {}, 415, "multipart/form-data"),
    "JSON": ("/v1/faces", {"json": {"photo": "a.jpg"}}, 415, "application/json"),
    "a text for a photo": ("/v1/faces", {"files": {"photo": (None, "hello")}}, 400, "as a file"),
    "an address": ("/v1/faces", {"files": {"photo": (None, "http://127.0.0.1:1/a.jpg")}}, 400, "as a file"),
    "a path": ("/v1/faces", {"files": {"photo": (None, "/etc/passwd")}}, 400, "as a file"),
    "another name": ("/v1/faces", {"files": {"picture": A}}, 400, "unexpected file"),
    "one photo of two": ("/v1/verify", {"files": {"a": A}}, 400, "expected a file 'b'"),
    "two of one": ("/v1/faces", {"files": [("photo", A), ("photo", B)]}, 400, "got 2"),
    "too many photos": ("/v1/faces", {"files": [("photo", A)] * 4}, 400, "Too many files"),
    "ten thousand parts": ("/v1/faces", {"files": dict.fromkeys(PARTS, (None, ""))}, 400, "fields"),
    "a large form": ("/v1/faces", {"data": {"x": MANY}, "files": {"photo": A}}, 413, "1,200,000 bytes"),
    "no picture": ("/v1/faces", {"files": {"photo": b"hello"}}, 400, "no picture"),
    "half a picture": ("/v1/faces", {"files": {"photo": A[: len(A) // 2]}}, 400, "cut short"),
    "an empty one": ("/v1/faces", {"files": {"photo": ("a.jpg", b"")}}, 400, "empty"),
    "too many pixels": ("/v1/faces", {"files": {"photo": jpeg(2, 1_420)}}, 400, "limit is 2,000,000"),
    "a broken form": (
        "/v1/faces",
        {"content": b"--x\r\nhello", "headers": {"content-type": "multipart/form-data; boundary=x"}},
        400,
        "got none",
    ),
    "no boundary": (
        "/v1/faces",
        {"content": b"x", "headers": {"content-type": "multipart/form-data"}},
        400,
        "boundary",
    ),
    "an unknown field": ("/v1/predict", {"files": {"photo": A}, "data": {"size": "5"}}, 400, "size"),
    "no number": ("/v1/predict", {"files": {"photo": A}, "data": {"top_k": "many"}}, 400, "top_k"),
    "no rate": ("/v1/verify", {"files": {"a": A, "b": B}, "data": {"far": "2"}}, 400, "far"),
    "no policy": ("/v1/verify", {"files": {"a": A, "b": B}, "data": {"policy": "first"}}, 400, "policy"),
    "no such route": ("/v1/nowhere", {}, 404, "Not Found"),
    "the gallery of a server without one": ("/v1/gallery/identify", {"files": {"photo": A}}, 404, "Not Found"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_cannot_be_answered_is_refused_in_one_line(client: httpx.Client, case: str) -> None:
    where, sent, status, word = HOSTILE[case]
    found = client.post(where, **sent)
    message = found.json()["error"]["message"]
    assert found.status_code == status and word in message and "\n" not in message


@pytest.mark.parametrize(
    "path",
    ["/static/../app.py", "/static/..%2fapp.py", "/static/%2e%2e/guard.py", "/static//etc/passwd", "/static/app.py"],
)
def test_no_other_file_is_given_out(client: httpx.Client, path: str) -> None:
    assert client.get(path).status_code == 404


def test_the_api_tells_of_itself_with_examples(client: httpx.Client) -> None:
    told = client.get("/openapi.json").json()
    verify = told["paths"]["/v1/verify"]["post"]
    form = verify["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert form["required"] == ["a", "b"] and set(form["properties"]) == {"a", "b", "far", "policy"}
    assert told["components"]["schemas"]["Verified"]["examples"][0]["same"] is True
    assert {"400", "401", "403", "413", "503"} <= set(verify["responses"])


def test_metrics_count_and_name_nobody(client: httpx.Client) -> None:
    client.post("/v1/faces", files={"photo": ("ann.jpg", A)})
    client.get("/v1/secret-name")
    told = client.get("/metrics").text
    assert 'facewright_requests_total{method="POST",route="/v1/faces",status="200"}' in told
    assert "facewright_batch_size_bucket" in told and "ann" not in told and "secret-name" not in told
