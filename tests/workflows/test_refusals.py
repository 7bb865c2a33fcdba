"""What a run refuses before it starts, what it leaves then (nothing), and what it says of copies."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from facewright import compare, predict, train
from facewright.data.sources import open_dataset
from facewright.errors import DataError, RunError, UsageError
from facewright.events import Event, Message
from facewright.runs import Run, owned
from facewright.training import recipe as recipes
from facewright.workflows.inspection import prepare

WHERE = "synthetic:faces?identities=2&images=4&size=32"
SMALL = {"input.size": "32", "training.epochs": "1"}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    dataset = open_dataset(WHERE)
    for record in dataset.records:
        file = tmp_path / "photos" / record.path
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(dataset.source.read(record, None)).save(file.with_suffix(".png"))
    return tmp_path / "photos"


def test_a_file_is_no_run_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(RunError, match=r"cannot be used as a run directory .*choose another --out"):
            train(WHERE, out=out, overrides=SMALL)
    with pytest.raises(RunError, match="not a run directory"):
        Run(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_run_inside_its_own_data_is_refused(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos)
    for out in (None, Path("run"), Path()):  # None: runs/…, below the folder one stands in
        with pytest.raises(UsageError, match="lies in the dataset"):
            train(photos, out=out, overrides=SMALL)
    assert sorted(path.name for path in photos.iterdir()) == ["person_00", "person_01"]


def test_one_class_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "photos" / "ann").mkdir(parents=True)
    Image.new("RGB", (40, 40)).save(tmp_path / "photos" / "ann" / "1.png")
    with pytest.raises(DataError, match="at least two classes to tell apart, found ann"):
        train(tmp_path / "photos", out=tmp_path / "run", overrides=SMALL)
    assert not (tmp_path / "run").exists()


def test_a_folder_with_something_in_it_stays(tmp_path: Path) -> None:
    with owned(tmp_path / "mine"):
        (tmp_path / "mine" / "a").touch()
    with owned(tmp_path / "mine"):
        pass
    assert {path.name for path in (tmp_path / "mine").iterdir()} >= {"a"}
    (tmp_path / "empty").mkdir()
    with owned(tmp_path / "empty"):
        pass
    assert (tmp_path / "empty").is_dir()  # somebody else made it


def test_copies_are_named_before_training(photos: Path, tmp_path: Path) -> None:
    first = sorted((photos / "person_00").iterdir())[0]
    (photos / "person_01" / "copy.png").write_bytes(first.read_bytes())
    said: list[Event] = []
    recipe = recipes.override(recipes.load("scratch"), SMALL)
    material = prepare(open_dataset(photos), recipe, 0, tmp_path / "split.csv", said.append)
    told = [event.text for event in said if isinstance(event, Message)]
    copied = f"person_00/{first.name} and person_01/copy.png"
    assert f"the same image is in 'person_00' and 'person_01': {copied}" in told
    assert f"1 image repeats another one pixel by pixel (such as {copied}); kept in the same split" in told
    assert material.split.notes == tuple(told)  # and so they reach run.json and the report


def test_a_run_is_not_compared_with_itself(tmp_path: Path) -> None:
    class Unread(Run):
        def __init__(self, folder: Path) -> None:
            self.folder = folder

    with pytest.raises(UsageError, match="is given twice"):
        compare([Unread(tmp_path / "a"), Unread(tmp_path / "b" / ".." / "a")])


def test_nothing_to_predict(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(UsageError, match=r"\.jpg"):
        predict(tmp_path / "run", [tmp_path])


@pytest.mark.parametrize("recipe", ["finetune", "finetune-strong", "head-only", "finetune-last-stage"])
def test_a_frozen_backbone_wants_public_weights(tmp_path: Path, recipe: str) -> None:
    with pytest.raises(UsageError, match=recipe):
        train(WHERE, model="plain_cnn", recipe=recipe, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_two_classes_are_checked_before_images_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facewright.workflows.training_jobs.prepare", lambda *_: pytest.fail("decoded"))
    where = "synthetic:faces?identities=3&images=4&size=32"
    for changes in (
        {"selection.metric": "hter"},
        {"head.kind": "sigmoid"},
        {"phases.hard.hard_negatives": "5", "mining.photos": "here"},
    ):
        recipe = "face-or-not" if "mining.photos" in changes else "scratch"
        with pytest.raises(UsageError, match=r"two classes"):
            train(where, model="plain_cnn", recipe=recipe, out=tmp_path / "run", overrides=changes)


def test_a_part_that_the_network_has_not_is_found_before_images_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("facewright.workflows.training_jobs.prepare", lambda *_: pytest.fail("decoded"))
    recipe = tmp_path / "mine.toml"
    text = 'name = "mine"\ndescription = ""\n[phases.one]\nepochs = 1\nlearning_rate = 0.1\n'
    recipe.write_text(text + '[phases.two]\nepochs = 1\nlearning_rate = 0.1\ntrain = "from nowhere"')
    with pytest.raises(UsageError, match="nowhere"):
        train(WHERE, model="plain_cnn", recipe=recipe, out=tmp_path / "run")
