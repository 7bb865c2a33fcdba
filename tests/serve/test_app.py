"""What the server answers, against a small model that takes photos whole."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

from facewright import images
from facewright.embedding import Embedder, similarity
from facewright.inference import Classifier
from facewright.recognition import Recognizer
from facewright.serve.app import create_app
from facewright.serve.service import Models
from facewright.serve.settings import Limits, Settings
from fixtures.faces import small_bundle
from fixtures.photos import jpeg

LIMITS = Limits(bytes=1_200_000, pixels=2_000_000, images=3, fields=5)


A, B = jpeg(0), jpeg(1)


@pytest.fixture(scope="module")
def client(serving: Callable[..., AbstractContextManager[int]]) -> Iterator[httpx.Client]:
    bundle = small_bundle()
    models = Models("small", Recognizer(Embedder(bundle)), Classifier(bundle))
    settings = Settings(port=0, limits=LIMITS)
    with (
        serving(create_app(models, settings), settings) as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=None) as client,
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
    assert (found["width"], found["reduced"]) == (550, 2)
    assert client.post("/v1/embed", files={"photo": A}).json()["reduced"] == 1


def test_why(client: httpx.Client) -> None:
    pair = client.post("/v1/explain", files={"a": A, "b": B}).json()
    assert pair["kind"] == "pair" and pair["a"]["overlay"].startswith("data:image/png;base64,")
    shown = client.post("/v1/explain/class", files={"photo": A}, data={"class": small_bundle().classes[0]}).json()
    assert client.post("/v1/explain", files={"photo": A}, data={"class": shown["class"]}).json() == shown  # as in 0.1
    assert shown["kind"] == "class" and shown["class"] == small_bundle().classes[0]
    refused = client.post("/v1/explain", files={"photo": A}, data={"class": "nobody"})
    assert refused.status_code == 400 and "'nobody'" in refused.json()["error"]["message"]


def png(side: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (side, side)).save(out, "PNG")
    return out.getvalue()


MANY = "x" * 1_300_000
PARTS = {f"p{i}": "x" for i in range(10_000)}

BROKEN = {"content-type": "multipart/form-data; boundary=x"}

# what is sent -> the status, and what the one line names
HOSTILE: dict[str, tuple[str, dict[str, Any], int, str]] = {
    "nothing": ("/v1/faces", {}, 415, "multipart/form-data"),
    "JSON": ("/v1/faces", {"json": {"photo": "a.jpg"}}, 415, "application/json"),
    "a text for an image": ("/v1/faces", {"files": {"photo": (None, "hello")}}, 400, "'photo'"),
    "an address": ("/v1/faces", {"files": {"photo": (None, "http://127.0.0.1:1/a.jpg")}}, 400, "'photo'"),
    "a path": ("/v1/faces", {"files": {"photo": (None, "/etc/passwd")}}, 400, "'photo'"),
    "another name": ("/v1/faces", {"files": {"picture": A}}, 400, "'picture'"),
    "one image of two": ("/v1/verify", {"files": {"a": A}}, 400, "'b'"),
    "two of one": ("/v1/faces", {"files": [("photo", A), ("photo", B)]}, 400, "2"),
    "too many images": ("/v1/faces", {"files": [("photo", A)] * 4}, 400, "3"),
    "ten thousand parts": ("/v1/faces", {"files": dict.fromkeys(PARTS, (None, ""))}, 400, "5"),
    "a large form": ("/v1/faces", {"data": {"x": MANY}, "files": {"photo": A}}, 413, "1,200,000"),
    "no image": ("/v1/faces", {"files": {"photo": ("a.jpg", b"hello")}}, 400, "a.jpg"),
    "half an image": ("/v1/faces", {"files": {"photo": ("a.jpg", A[: len(A) // 2])}}, 400, "a.jpg"),
    "an empty one": ("/v1/faces", {"files": {"photo": ("a.jpg", b"")}}, 400, "a.jpg"),
    "too many pixels": ("/v1/faces", {"files": {"photo": png(1_420)}}, 400, "2,000,000"),
    "a broken form": ("/v1/faces", {"content": b"--x\r\nhello", "headers": BROKEN}, 400, "'photo'"),
    "no boundary": (
        "/v1/faces",
        {"content": b"x", "headers": {"content-type": "multipart/form-data"}},
        400,
        "boundary",
    ),
    "an unknown field": ("/v1/predict", {"files": {"photo": A}, "data": {"size": "5"}}, 400, "size"),
    "no number": ("/v1/predict", {"files": {"photo": A}, "data": {"top_k": "many"}}, 400, "top_k"),
    "a huge number": ("/v1/predict", {"files": {"photo": A}, "data": {"top_k": "1" + 4_000 * "0"}}, 400, "top_k"),
    "no rate": ("/v1/verify", {"files": {"a": A, "b": B}, "data": {"far": "2"}}, 400, "far"),
    "a rate near zero": ("/v1/verify", {"files": {"a": A, "b": B}, "data": {"far": "5e-324"}}, 400, "far"),
    "infinity": ("/v1/verify", {"files": {"a": A, "b": B}, "data": {"far": "inf"}}, 400, "far"),
    "NaN": ("/v1/verify", {"files": {"a": A, "b": B}, "data": {"far": "nan"}}, 400, "far"),
    "no such face": ("/v1/verify", {"files": {"a": A, "b": B}, "data": {"select_face": "first"}}, 400, "select_face"),
    "no such route": ("/v1/nowhere", {}, 404, ""),
    "the gallery of a server without one": ("/v1/gallery/identify", {"files": {"photo": A}}, 404, ""),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_cannot_be_answered_is_refused_in_one_line(client: httpx.Client, case: str) -> None:
    where, sent, status, word = HOSTILE[case]
    found = client.post(where, **sent)
    message = found.json()["error"]["message"]
    assert found.status_code == status and word in message and "\n" not in message


def test_the_name_of_select_face_before_is_accepted(client: httpx.Client) -> None:
    files = {"a": A, "b": B}
    new = client.post("/v1/verify", files=files, data={"select_face": "center"}).json()
    assert client.post("/v1/verify", files=files, data={"policy": "centre"}).json() == new


@pytest.mark.parametrize(
    ("path", "allowed"), [("/v1/faces", "POST"), ("/healthz", "GET, HEAD"), ("/metrics", "GET, HEAD")]
)
def test_another_method_is_answered_with_those_that_are_allowed(client: httpx.Client, path: str, allowed: str) -> None:
    found = client.request("PUT", path)
    assert found.status_code == 405 and found.headers["allow"] == allowed


def test_the_api_is_described_as_a_page_without_scripts(client: httpx.Client) -> None:
    page = client.get("/docs").text
    assert "/v1/verify" in page and "<script" not in page and "select_face" in page


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
    assert form["required"] == ["a", "b"] and set(form["properties"]) == {"a", "b", "far", "select_face"}
    assert told["components"]["schemas"]["Verified"]["examples"][0]["same"] is True
    assert {"400", "401", "403", "413", "503"} <= set(verify["responses"])


def test_metrics_count_and_name_nobody(client: httpx.Client) -> None:
    client.post("/v1/faces", files={"photo": ("ann.jpg", A)})
    client.get("/v1/secret-name")
    told = client.get("/metrics").text
    assert 'facewright_requests_total{method="POST",route="/v1/faces",status="200"}' in told
    assert "facewright_batch_size_bucket" in told and "ann" not in told and "secret-name" not in told
