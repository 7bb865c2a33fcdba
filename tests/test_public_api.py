"""`import facewright as fw`: what every function takes."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image

import facewright as fw
from facewright.cli import main as cli
from facewright.errors import BadImage, UsageError
from fixtures.faces import draw_people, saved

FUNCTIONS = [name for name in fw.__all__ if inspect.isfunction(getattr(fw, name))]

CALLABLES = [
    getattr(owner, name)
    for owner in (fw, fw.Classifier, fw.Embedder, fw.Recognizer, fw.Gallery, fw.FaceVerifier)
    for name in (fw.__all__ if owner is fw else ("load", "open", "for_enrolling"))
    if callable(one := getattr(owner, name, None)) and not (inspect.isclass(one) and issubclass(one, Exception))
]


def test_without_a_device_the_variable_counts_everywhere() -> None:
    """FACEWRIGHT_DEVICE, else auto, is what None means; a default of "cpu" would not ask for it."""
    defaults = [
        (one.__qualname__, inspect.signature(one).parameters["device"].default)
        for one in CALLABLES
        if "device" in inspect.signature(one).parameters
    ]
    assert len(defaults) > 30 and {default for _, default in defaults} == {None}, defaults


PROCESSES = ("serve",)  # commands that run until they are stopped
# Commands whose function has another name.
NAMES = {
    "lr-find": "find_learning_rate",
    "card": "model_card",
    "faces": "detect_faces",
    "models": "describe_model",
    "models import": "import_model",
    "models default": "set_default",
    "recipes": "load_recipe",
    "cache": "cache_entries",
    "data export": "export_dataset",
    "gallery list": "Gallery",
    "gallery log": "Gallery",
    "gallery export": "export_gallery",
    "gallery import": "import_gallery",
    "weights list": "known_weights",
    "weights get": "get_weights",
    "weights convert": "convert_weights",
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_people(tmp_path_factory.mktemp("photos"), people=2, photos=2)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_path_may_be_a_string(name: str) -> None:
    for parameter in inspect.signature(getattr(fw, name)).parameters.values():
        kinds = set(re.findall(r"\w+", str(parameter.annotation)))
        assert "Path" not in kinds or "str" in kinds or parameter.name == "cache", f"{parameter}"


def test_every_command_has_its_function() -> None:
    found = list(commands(typer.main.get_command(cli.app)))
    assert set(NAMES) <= set(found)
    for command in found:
        group, _, name = command.rpartition(" ")
        if command in PROCESSES or (group == "gallery" and hasattr(fw.Gallery, name)):
            continue
        assert NAMES.get(command, command) in fw.__all__, f"no function for `facewright {command}`"


def commands(group: Any, before: str = "") -> Iterator[str]:
    """The words of each command, such as "gallery enroll"."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{before}{name} ")
        else:
            yield before + name


def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)


def test_an_image_may_be_a_path_an_array_or_a_pil_image(tmp_path: Path) -> None:
    image = pixels()
    Image.fromarray(image).save(tmp_path / "a.png")
    sources = (str(tmp_path / "a.png"), tmp_path / "a.png", (tmp_path / "a.png").read_bytes(), image)
    for source in (*sources, Image.fromarray(image), image[:, ::-1][:, ::-1]):
        np.testing.assert_array_equal(fw.as_image(source), image)
    assert fw.as_image(Image.fromarray(image).convert("L")).shape == (40, 30, 3)
    turned = Image.fromarray(image)
    turned.getexif()[274] = 6
    np.testing.assert_array_equal(fw.as_image(turned), np.rot90(image, -1))


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (pixels().transpose(2, 0, 1), "(3, 40, 30)"),
        (pixels() / 255, "float64"),
        (pixels()[..., 0], "(40, 30)"),
        (pixels()[None], "(1, 40, 30, 3)"),
        (pixels()[:0], "(0, 30, 3)"),
        (None, "NoneType"),
        (pixels().tolist(), "list"),
    ],
)
def test_anything_else_is_one_clear_error(wrong: Any, named: str, model: Path) -> None:
    calls: list[Callable[[], object]] = [
        lambda: fw.as_image(wrong),
        lambda: fw.verify(wrong, pixels(), model=model),
        lambda: fw.explain_pair(model, pixels(), wrong),
    ]
    for call in calls:
        with pytest.raises(UsageError, match=re.escape(named)):
            call()


def test_a_file_that_is_missing_is_a_bad_image(tmp_path: Path) -> None:
    with pytest.raises(BadImage, match="none"):
        fw.as_image(str(tmp_path / "none.png"))


def test_functions_answer_alike_for_files_and_images_in_memory(photos: Path, model: Path) -> None:
    a, b = photos / "person_00/0.png", photos / "person_01/1.png"
    expected = fw.verify(a, b, model=model)
    assert fw.verify(str(a), Image.open(b), model=str(model)).score == pytest.approx(expected.score, abs=1e-6)
    assert fw.verify(fw.as_image(a), fw.as_image(b), model=model).score == pytest.approx(expected.score, abs=1e-6)
    files = fw.predict(str(model), [str(a), b])
    images = fw.predict(model, [fw.as_image(a), Image.open(b)])
    assert [one.names for one in files] == [one.names for one in images]
    assert [one.path for one in images] == ["image-1", "image-2"]
    (alone,) = fw.predict(model, str(a))
    assert alone.names == files[0].names
    (shown,) = fw.explain(str(model), fw.as_image(a)).photos
    assert shown.path == "image-1" and shown.error is None
    (found,) = fw.detect_faces(fw.as_image(a), detector="none").photos
    assert len(found.faces) == 1
    assert fw.Recognizer.load(model).faces(str(a))[0].box[2:] == fw.as_image(a).shape[1::-1]


def test_a_gallery_takes_images_in_memory(photos: Path, model: Path, tmp_path: Path) -> None:
    photo = photos / "person_00/0.png"
    with fw.Gallery.for_enrolling(str(tmp_path / "g.gallery"), str(model)) as gallery:
        gallery.enroll([fw.Photo.of(str(photo), "Ann"), fw.Photo.of(fw.as_image(photos / "person_01/0.png"), "Bo")])
        found = gallery.identify([str(photo), Image.open(photo)], threshold=0.9)
    assert [one.person for one in found] == ["Ann", "Ann"]
    assert fw.export_gallery(str(tmp_path / "g.gallery"), str(tmp_path / "g.jsonl")) == 2
    assert fw.import_gallery(tmp_path / "h.gallery", str(tmp_path / "g.jsonl")).new == 2
