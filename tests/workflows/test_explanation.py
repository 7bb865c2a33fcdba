"""Explaining end to end: photos in, overlays and a page out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import facewright as fw
from facewright import bundle as bundles
from facewright import images
from facewright.bundle import Bundle
from facewright.errors import BadImage, BundleError, UnknownName, UsageError
from facewright.events import Event, Progress
from facewright.inference import Classifier
from facewright.models.catalog import create_model
from facewright.workflows.explanation import SHOWN_SIDE
from fixtures.faces import CLASSES, SIDE, SPEC, draw_people, saved, small_bundle

DATA = Path(__file__).parents[3] / "shared"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = draw_people(tmp_path_factory.mktemp("photos"), people=2, photos=2, size=60)
    whole = (folder / "person_00/0.png").read_bytes()
    (folder / "person_01/broken.png").write_bytes(whole[: len(whole) // 2])
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return saved(tmp_path)


def vit(folder: Path) -> Path:
    torch.manual_seed(0)
    network = create_model("vit_ti_16", len(CLASSES), input_size=SIDE)
    path = folder / "vit.safetensors"
    bundles.save(path, Bundle("vit_ti_16", "imagenet", CLASSES, SPEC, network.state_dict()))
    return path


def test_a_folder_with_a_broken_photo(model: Path, photos: Path, tmp_path: Path) -> None:
    heard: list[Event] = []
    found = fw.explain(model, [photos], out=tmp_path / "why", on_event=heard.append)
    assert [Path(photo.path).name for photo in found.photos] == ["0.png", "1.png", "0.png", "1.png", "broken.png"]
    assert found.method == "grad-cam" and found.input_size == (SIDE, SIDE)
    said = Classifier.load(model).of_files([Path(photo.path) for photo in found.photos])
    for photo, prediction in zip(found.photos[:4], said[:4], strict=True):
        assert photo.heat is not None and photo.photo is not None and photo.overlay is not None
        assert photo.heat.shape == (SIDE, SIDE) and photo.photo.shape == (SHOWN_SIDE, SHOWN_SIDE, 3)
        assert (photo.name, photo.probability) == (prediction.names[0], pytest.approx(prediction.probabilities[0]))
        assert images.read(Path(photo.overlay)).shape[0] == SHOWN_SIDE
    assert found.photos[4].error and found.photos[4].heat is None
    written = sorted(path.name for path in (tmp_path / "why").iterdir())
    assert written == ["0.png", "0~2.png", "1.png", "1~2.png", "report.html"]
    assert heard[-1] == Progress("explaining", 5, 5)


def test_any_class_can_be_asked_about(model: Path, photos: Path) -> None:
    path = photos / "person_00/0.png"
    asked = {name: fw.explain(model, [path], name=name, method="grad-cam++").photos[0] for name in CLASSES}
    assert {photo.name for photo in asked.values()} == set(CLASSES)
    assert sum(photo.probability for photo in asked.values()) == pytest.approx(1.0)
    heats = [photo.heat for photo in asked.values() if photo.heat is not None]
    assert len(heats) == 3 and not np.array_equal(heats[0], heats[1])
    assert len({photo.predicted for photo in asked.values()}) == 1


def test_what_is_told_is_json(model: Path, photos: Path) -> None:
    told = fw.explain(
        model, [photos / "person_00/0.png", photos / "person_01/broken.png"], method="grad-cam++"
    ).to_dict()
    first, second = told["photos"]
    assert first["overlay"] is None and told["page"] is None  # nothing was to be written
    assert 0 <= first["peak"]["x"] < SIDE and 0 <= first["peak"]["y"] < SIDE and 0 < first["hot"] <= 1
    assert set(second) == {"path", "error"} and second["error"]


def test_a_transformer_is_explained_by_rollout(photos: Path, tmp_path: Path) -> None:
    model, path = vit(tmp_path), photos / "person_00/0.png"
    found = fw.explain(model, [path], out=tmp_path / "why")
    assert found.method == "rollout" and found.points == (3, 3)
    assert "Attention rollout" in (tmp_path / "why/report.html").read_text("utf-8")
    with pytest.raises(UsageError, match="leave the class out"):
        fw.explain(model, [path], name="ann")


def test_a_pair(model: Path, photos: Path, tmp_path: Path) -> None:
    a, b = photos / "person_00/0.png", photos / "person_01/0.png"
    heard: list[Event] = []
    found = fw.explain_pair(model, a, b, out=tmp_path / "pair", on_event=heard.append)
    assert found.occlusion.score == pytest.approx(fw.verify(a, b, model=model).score, abs=1e-6)
    assert found.threshold is None and found.same is None
    assert [Path(path).name for path in found.overlays] == ["0.png", "0~2.png"]
    assert "What made the two alike" in (tmp_path / "pair/report.html").read_text("utf-8")
    assert isinstance(heard[-1], Progress) and heard[-1].done == heard[-1].total
    told = found.to_dict()
    assert max(photo["greatest_drop"] for photo in told["photos"]) == pytest.approx(told["drop"])


def test_the_photo_that_is_shown_is_what_the_network_sees(model: Path, tmp_path: Path) -> None:
    wide = np.zeros((100, 300, 3), np.uint8)
    wide[:, 100:200] = 255  # the middle third, which a square input covers
    Image.fromarray(wide).save(tmp_path / "wide.png")
    shown = fw.explain(model, [tmp_path / "wide.png"]).photos[0].photo
    assert shown is not None and shown[:, 8:-8].min() == 255 and shown.mean() > 250  # blurred at its edges


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"name": "dora"}, UnknownName, "unknown class 'dora'"),
        ({"method": "cam"}, UnknownName, "did you mean 'grad-cam'"),
        ({"method": "rollout"}, UsageError, "is not for PatchNet"),
    ],
)
def test_refusals(model: Path, photos: Path, options: dict[str, str], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        fw.explain(model, [photos], name=options.get("name"), method=options.get("method"))


def test_what_cannot_be_explained(photos: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UsageError, match="jpg"):
        fw.explain(saved(tmp_path), [empty])
    with pytest.raises(BundleError, match="it names none"):
        fw.explain(saved(tmp_path, small_bundle(())), [photos])
    with pytest.raises(BadImage, match=r"broken\.png"):
        fw.explain_pair(saved(tmp_path), photos / "person_00/0.png", photos / "person_01/broken.png")


@pytest.mark.realdata
def test_a_face_is_alike_in_its_middle() -> None:
    weights, faces = DATA / "weights/mobilefacenet_arcface.safetensors", DATA / "data/celebrities12"
    if not (weights.is_file() and faces.is_dir()):
        pytest.skip("needs ../shared/weights and ../shared/data/celebrities12")
    a, b = sorted((faces / "Tina_Fey").glob("*.png"))[:2]
    found = fw.explain_pair(f"mobilefacenet@{weights}", a, b).occlusion
    for heat in (found.heat_a, found.heat_b):
        middle = heat[28:84, 28:84]
        assert middle.mean() > 1.5 * (heat.sum() - middle.sum()) / (heat.size - middle.size)
