"""The gallery behind the server: enroll, identify, browse, delete."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from facewright.errors import GalleryDamaged, GalleryError, OtherModel, UsageError
from facewright.gallery.gallery import Gallery
from facewright.serve.app import create_app
from facewright.serve.server import load
from facewright.serve.settings import Settings
from fixtures.faces import saved
from fixtures.photos import jpeg

NAMES = ["Ann", "Bo Bo", "<img src=x onerror=alert(1)>", "../../etc/passwd", "Zoë", "a/b?c=d&e#f"]


@pytest.fixture(scope="module")
def gallery_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the server's gallery lies."""
    return tmp_path_factory.mktemp("gallery") / "people.gallery"


@pytest.fixture(scope="module")
def server(serving: Callable[..., AbstractContextManager[int]], gallery_file: Path) -> Iterator[httpx.Client]:
    """A server with a gallery."""
    settings = Settings(port=0)
    models = load(str(saved(gallery_file.parent)), str(gallery_file))
    with (
        serving(create_app(models, settings), settings) as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=None) as client,
    ):
        yield client


@pytest.fixture
def client(server: httpx.Client) -> httpx.Client:
    """The server, its gallery empty."""
    for one in server.get("/v1/gallery/people").json()["people"]:
        server.delete("/v1/gallery/people", params={"person": one["person"]})
    return server


def enrol(client: httpx.Client, person: str, *seeds: int, **fields: str) -> httpx.Response:
    photos = [("photo", (f"{seed}.jpg", jpeg(seed))) for seed in seeds]
    return client.post("/v1/gallery/enroll", files=photos, data={"person": person, **fields})


def test_enrolled_people_are_found_again(client: httpx.Client) -> None:
    first = enrol(client, "Ann", 0, 1, metadata='{"team": "a"}').json()
    assert first["enrolled"] == 2 and first["already"] == 0 and first["failed"] == []
    assert enrol(client, "Ann", 0).json()["already"] == 1
    enrol(client, "Bo", 2)
    found = client.post("/v1/gallery/identify", files={"photo": jpeg(2)}, data={"threshold": "0.99"}).json()
    (face,) = found["faces"]
    assert face["person"] == "Bo" and face["matches"][0]["score"] == pytest.approx(1) and found["threshold"] == 0.99
    assert [match["person"] for match in face["matches"]] == ["Bo", "Ann"]
    undecided = client.post("/v1/gallery/identify", files={"photo": jpeg(2)}, data={"top_k": "1"}).json()
    assert undecided["threshold"] is None and undecided["threshold_source"] is None
    assert undecided["faces"][0]["person"] is None
    assert len(undecided["faces"][0]["matches"]) == 1
    about = client.get("/v1/about").json()
    (advice,) = about["gallery"].pop("advice")
    assert advice.startswith("2 people have fewer than 3 photos")
    assert about["gallery"] == {"people": 2, "entries": 3, "threshold": None} and about["can"]["write"]


def test_people_are_listed_in_pages_and_by_a_part_of_the_name(client: httpx.Client) -> None:
    for number, name in enumerate(NAMES):
        assert enrol(client, name, number).status_code == 200
    listed: list[str] = []
    after = ""
    while True:
        page = client.get("/v1/gallery/people", params={"after": after, "limit": 4}).json()
        listed += [one["person"] for one in page["people"]]
        if page["next"] is None:
            break
        after = page["next"]
    assert listed == sorted(NAMES) and page["total"] == len(NAMES)
    like = client.get("/v1/gallery/people", params={"like": "bo b"}).json()
    assert [one["person"] for one in like["people"]] == ["Bo Bo"] and like["total"] == 1


@pytest.mark.parametrize("name", NAMES)
def test_any_name_can_be_shown_and_deleted(client: httpx.Client, name: str) -> None:
    enrol(client, name, 0, 1)
    shown = client.get("/v1/gallery/entries", params={"person": name}).json()
    assert shown["person"] == name and [one["photo"] for one in shown["entries"]] == ["0.jpg", "1.jpg"]
    number = shown["entries"][0]["number"]
    crop = client.get(f"/v1/gallery/entries/{number}/crop")
    assert crop.headers["content-type"] == "image/png" and Image.open(io.BytesIO(crop.content)).size == (40, 40)
    assert client.delete(f"/v1/gallery/entries/{number}").json() == {"deleted": 1, "remains": ""}
    assert client.delete("/v1/gallery/people", params={"person": name}).json() == {"deleted": 1, "remains": ""}
    assert client.get("/v1/gallery/entries", params={"person": name}).status_code == 404
    assert client.get(f"/v1/gallery/entries/{number}/crop").status_code == 404


def test_a_threshold_is_chosen_on_the_enrolled_people(client: httpx.Client, gallery_file: Path) -> None:
    refused = client.post("/v1/gallery/calibrate", json={"fpir": 0.1})
    assert refused.status_code == 409 and refused.json()["error"]["code"] == "undefined"
    for number in range(4):
        photos = [("photo", (f"{quality}.jpg", jpeg(number, quality=quality))) for quality in (75, 85, 95)]
        client.post("/v1/gallery/enroll", files=photos, data={"person": f"person {number}"})
    default = client.post("/v1/gallery/identify", files={"photo": jpeg(0)}).json()
    with Gallery.open(gallery_file) as opened:
        assert default["threshold"] == opened.decision_threshold().value
    assert default["threshold_source"] == "default" and default["faces"][0]["person"] == "person 0"
    given = client.post("/v1/gallery/identify", files={"photo": jpeg(0)}, data={"threshold": "0.5"}).json()
    assert given["threshold_source"] == "request"
    chosen = client.post("/v1/gallery/calibrate", json={"fpir": 0.1}).json()
    assert chosen["threshold"]["people"] == 4 and chosen["threshold"]["few_people"] and "0.1" in chosen["warning"]
    assert client.get("/v1/about").json()["gallery"]["threshold"] == chosen["threshold"]
    found = client.post("/v1/gallery/identify", files={"photo": jpeg(0)}).json()
    assert found["threshold"] == chosen["threshold"]["value"] and found["faces"][0]["person"] == "person 0"
    assert found["threshold_source"] == "calibrated"


# what is asked -> the status, a word of the message
@pytest.mark.parametrize(
    ("person", "fields", "status", "word"),
    [
        ("", {}, 400, "person"),
        (" Ann", {}, 400, "Ann"),
        ("x" * 1_001, {}, 400, "person"),
        ("Ann", {"metadata": "no JSON"}, 400, "metadata"),
        ("Ann", {"metadata": '{"a": 1}'}, 400, "metadata"),
        ("Ann", {"metadata": '{"": "x"}'}, 400, ""),
        ("Ann", {"select_face": "all"}, 400, "select_face"),
        ("Ann", {"crop": "1"}, 400, "crop"),
    ],
)
def test_a_malformed_enrolment_is_refused(
    client: httpx.Client, person: str, fields: dict[str, str], status: int, word: str
) -> None:
    found = enrol(client, person, 0, **fields)
    assert found.status_code == status and word in found.json()["error"]["message"]
    assert client.get("/v1/gallery/people").json()["total"] == 0


def test_a_photo_that_is_none_is_named_and_the_others_are_enrolled(client: httpx.Client) -> None:
    sent = [("photo", ("a.jpg", jpeg(0))), ("photo", ("../b.jpg", b"hello"))]
    found = client.post("/v1/gallery/enroll", files=sent, data={"person": "Ann"}).json()
    assert found["enrolled"] == 1 and [one["photo"] for one in found["failed"]] == ["b.jpg"]


def test_deleting_an_unknown_person_is_a_404(client: httpx.Client) -> None:
    assert client.delete("/v1/gallery/people", params={"person": "Ann"}).status_code == 404
    assert client.delete("/v1/gallery/entries/7").status_code == 404
    for number in ("seven", "0", "-1", "1.5", str(2**63), "9" * 4_400):
        assert client.delete(f"/v1/gallery/entries/{number}").status_code == 400
        assert client.get(f"/v1/gallery/entries/{number}/crop").status_code == 400
    assert client.delete(f"/v1/gallery/entries/{2**63 - 1}").status_code == 404


@pytest.mark.parametrize("body", ["{", "[" * 100_000])
def test_a_body_that_is_no_json_is_refused(client: httpx.Client, body: str) -> None:
    answer = client.post("/v1/gallery/calibrate", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400 and "JSON" in answer.json()["error"]["message"]


@pytest.mark.parametrize("fpir", [0, -1, 5e-324, 1e-300, 1, 2, 1e300, "1e400", None, [], "x", 10**400])
def test_a_rate_that_cannot_be_is_refused(client: httpx.Client, fpir: Any) -> None:
    text = f'{{"fpir": {fpir if fpir == "1e400" else json.dumps(fpir)}}}'
    found = client.post("/v1/gallery/calibrate", content=text, headers={"content-type": "application/json"})
    assert found.status_code == 400


def test_a_path_has_one_list_of_methods(client: httpx.Client) -> None:
    found = client.put("/v1/gallery/people")
    assert found.status_code == 405 and found.headers["allow"] == "DELETE, GET, HEAD"


# what happens to the file of the gallery while it is served
LOSSES: dict[str, Callable[[Path], object]] = {
    "moved": lambda path: path.rename(path.with_suffix(".old")),
    "deleted": lambda path: path.unlink(),
    "replaced": lambda path: (path.unlink(), path.write_bytes(b"x" * 8192)),
    "replaced by a copy": lambda path: (
        shutil.copy(path, path.with_suffix(".copy")), path.with_suffix(".copy").replace(path)
    ),
    "overwritten": lambda path: path.write_bytes(b"x" * 8192),  # in place
    "replaced by a folder": lambda path: (path.unlink(), path.mkdir()),
    "its folder moved": lambda path: path.parent.rename(path.parent.with_name("elsewhere")),
}  # fmt: skip


@pytest.mark.parametrize("loss", LOSSES)
def test_nothing_is_acknowledged_once_the_file_is_lost(loss: str, serving: Any, tmp_path: Path) -> None:
    folder = tmp_path / "secret-folder"
    folder.mkdir()
    settings = Settings(port=0)
    models = load(str(saved(tmp_path)), str(folder / "people.gallery"))
    with (
        serving(create_app(models, settings), settings) as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=None) as client,
    ):
        assert enrol(client, "Ann", 0).status_code == 200
        LOSSES[loss](folder / "people.gallery")
        answers = [
            enrol(client, "Bo", 1),
            client.post("/v1/gallery/identify", files={"photo": jpeg(0)}, data={"threshold": "0.5"}),
            client.delete("/v1/gallery/people", params={"person": "Ann"}),
            client.get("/v1/gallery/people"),
            client.get("/v1/about"),
        ]
        assert {answer.status_code for answer in answers} <= {500, 503}
        assert {answer.json()["error"]["code"] for answer in answers} <= {"gallery_unavailable", "gallery_damaged"}
        assert not any("secret-folder" in answer.text or str(tmp_path) in answer.text for answer in answers)
        assert client.post("/v1/predict", files={"photo": jpeg(0)}).status_code == 200


# what the gallery says -> status, code
@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (GalleryError("/home/me/people.gallery: database or disk is full"), 507, "storage_full"),
        (GalleryError("postgresql://me:pw@db.example/people: No space left on device"), 507, "storage_full"),
        (GalleryError("/home/me/people.gallery: database is locked"), 503, "gallery_unavailable"),
        (GalleryError('server at "db.example": no password for user "me"'), 503, "gallery_unavailable"),
        (GalleryDamaged("/home/me/my people/a.gallery: row 3 is not what was written"), 500, "gallery_damaged"),
        (OtherModel("~/people.gallery: enrolled with /opt/models/x.safetensors"), 409, "other_model"),
        (UsageError("C:\\Users\\me\\people.gallery: expected a name"), 400, "bad_request"),
    ],
)  # fmt: skip
def test_errors_name_no_place_and_no_account(
    error: Exception, status: int, code: str, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(Gallery, "enroll", fail)
    found = enrol(client, "Ann", 0)
    assert (found.status_code, found.json()["error"]["code"]) == (status, code)
    for secret in ("/home", "my people/", "postgres", "db.example", "pw", "/opt", "~", "Users", '"me"'):
        assert secret not in found.json()["error"]["message"]
