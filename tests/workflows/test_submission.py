"""A template filled with predictions: the columns and rows of the template, the probabilities of the classifier."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from facewright.cli.main import main
from facewright.errors import DataError
from facewright.inference import Classifier
from facewright.workflows.prediction import fill_template
from fixtures.faces import draw_people, saved, small_bundle

NAMES = ("person_01/0.png", "person_00/1.png", "person_00/0.png")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_people(tmp_path_factory.mktemp("data") / "test", people=2, photos=2)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("two"), small_bundle(("cat", "dog")))


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("three"), small_bundle(("ann", "bo", "cy")))


def table(folder: Path, text: str) -> Path:
    path = folder / "sample_submission.csv"
    path.write_text(text)
    return path


def filled(model: Path, template: Path, photos: Path) -> list[list[str]]:
    return list(csv.reader(fill_template(model, template, photos).text.splitlines()))


def truth(model: Path, photos: Path) -> list[dict[str, float]]:
    """The probabilities of NAMES by class, one image at a time."""
    classifier = Classifier.load(model)
    found = [classifier.of_files([photos / name], 9)[0] for name in NAMES]
    return [dict(zip(one.names, one.probabilities, strict=True)) for one in found]


@pytest.mark.parametrize("cut", ["", ".png"])
def test_a_column_per_class_in_the_order_of_the_template(three: Path, photos: Path, tmp_path: Path, cut: str) -> None:
    ids = [name.removesuffix(cut) for name in NAMES]
    template = table(tmp_path, "image,cy,ann,bo\n" + "".join(f"{name},0,0,0\n" for name in ids))
    header, *rows = filled(three, template, photos)
    assert header == ["image", "cy", "ann", "bo"] and [row[0] for row in rows] == ids
    for row, right in zip(rows, truth(three, photos), strict=True):
        assert [float(cell) for cell in row[1:]] == pytest.approx([right[n] for n in ("cy", "ann", "bo")], abs=1e-5)


@pytest.mark.parametrize(
    ("header", "sample", "of"),
    [("prob", "", "dog"), ("has_dog", "0.5", "dog"), ("label", "0", "dog"), ("cat", "0", "cat")],
)
def test_one_probability(two: Path, photos: Path, tmp_path: Path, header: str, sample: str, of: str) -> None:
    template = table(tmp_path, f"id;{header}\n" + "".join(f"{name};{sample}\n" for name in NAMES))
    text = fill_template(two, template, [photos]).text
    assert text.startswith(f"id;{header}\n")
    shares = [float(line.split(";")[1]) for line in text.splitlines()[1:]]
    assert shares == pytest.approx([right[of] for right in truth(two, photos)], abs=1e-5)


@pytest.mark.parametrize("sample", ["", "bo", "unknown"])
def test_one_label(three: Path, photos: Path, tmp_path: Path, sample: str) -> None:
    template = table(tmp_path, "id,label\n" + "".join(f"{name},{sample}\n" for name in NAMES))
    best = [max(right, key=lambda name: right[name]) for right in truth(three, photos)]
    assert [row[1] for row in filled(three, template, photos)[1:]] == best


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("id,label\nperson_00/7,ann\n", "person_00/7"),  # a missing image
        ("id,label\n0,ann\n", "person_01"),  # two images are called 0.png
        ("id,label\nperson_00/0.jpg,ann\n", "person_00/0.jpg"),
        ("id,label\nperson_00/0,ann\nperson_00/0,bo\n", "line 2"),
        ("id,ann,dora\nperson_00/0,0,0\n", "dora"),
        ("id,ann\n,0\n", "line 2"),
        ("id,usage\nperson_00/0,Public\n", "Public"),
        ('id,label\nperson_00/0,3\n"', "line"),
        ("id\nperson_00/0\n", "header"),
        ("", "header"),
    ],
)
def test_bad_templates(three: Path, photos: Path, tmp_path: Path, text: str, key: str) -> None:
    with pytest.raises(DataError, match=key):
        fill_template(three, table(tmp_path, text), photos)


def test_an_unreadable_image_is_named(three: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "5.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"5\.png"):
        fill_template(three, table(tmp_path, "id,label\n5,ann\n"), [photos, tmp_path])


def test_the_command(three: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    template, out = table(tmp_path, "id,label\nperson_01/1,\n"), tmp_path / "out.csv"
    words = ["predict", str(three), str(photos), "--template", str(template), "-q"]
    assert main([*words, "--csv", str(out), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (
        answer["rows"] == 1
        and answer["text"] == out.read_text()
        and out.read_text().startswith("id,label\nperson_01/1,")
    )
    assert main([*words, "--unknown-at", "0.1"]) == 1
    assert capsys.readouterr().err.startswith("error: --template")
