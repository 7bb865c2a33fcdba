"""Hard negatives: found by the network, kept for a resume, trained on beside the data."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from facewright import train
from facewright.data.augment import Augment
from facewright.data.loaders import ExtendedStore
from facewright.data.sampling import plan
from facewright.data.sources import open_dataset
from facewright.data.store import PixelStore
from facewright.errors import DataError, UsageError
from facewright.events import ignore_event
from facewright.input_spec import InputSpec
from facewright.training.added_images import mine_hard_negatives, with_hard_negatives
from facewright.training.loading import Data
from facewright.training.recipe import Recipe

SPEC = InputSpec(32, 32, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


class Bright(torch.nn.Module):
    """Takes a patch for a face (class 1) where it is bright."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (B, 3, H, W) -> (B, 2)
        light = 20 * (x.mean((1, 2, 3)) - 0.5)
        return torch.stack([-light, light], 1)


@pytest.fixture
def data(tmp_path: Path) -> Data:
    where = "synthetic:faces?identities=4&images=6&size=32&task=glasses"
    store = PixelStore.open(open_dataset(where), SPEC, cache=tmp_path / "cache", workers=1)
    rows = np.arange(len(store.dataset.records))
    return Data(store, SPEC, rows[:16], rows[16:], Augment(), lambda epoch: plan(rows[:16], 4, 0, epoch), 4, 4, seed=0)


def photos(folder: Path) -> Path:
    """One photo with a bright square, one without."""
    folder.mkdir()
    for name, bright in (("lit.png", True), ("dark.png", False)):
        pixels = np.zeros((96, 128, 3), np.uint8)
        if bright:
            pixels[20:80, 30:90] = 255
        Image.fromarray(pixels).save(folder / name)
    (folder / "broken.jpg").write_bytes(b"no image")
    return folder


def with_negatives(data: Data, kept: Path, photos: Path, limit: int = 5, on_event=ignore_event, **mining) -> Data:  # type: ignore[no-untyped-def]
    mining = {"photos": str(photos), "threshold": 0.6, "face": data.store.dataset.classes[1], **mining}
    recipe = Recipe.model_validate({"name": "a", "description": "b", "mining": mining})
    if not kept.is_file():
        mine_hard_negatives(Bright(), data, recipe, limit, kept, on_event)
    return with_hard_negatives(data, recipe, kept, on_event)


def test_false_alarms_join_the_training_part_as_what_they_are(data: Data, tmp_path: Path) -> None:
    found = with_negatives(data, tmp_path / "mined.npy", photos(tmp_path / "p"))
    more = found.train[len(data.train) :]
    assert 1 <= len(more) <= 5
    assert (found.store.dataset.labels[more] == 0).all()
    images = found.store.batch(np.array([more[0], 3, more[-1]]))
    assert images.shape == (3, 3, 32, 32) and images.dtype == torch.uint8
    assert images[0].float().mean() > 255 * 0.5, "an alarm is where it is bright"
    assert torch.equal(images[1], data.store.batch(np.array([3]))[0])
    planned = np.concatenate(found.plan(0))
    assert set(more) & set(planned), "the new ones are planned with the others"
    assert found.validation is data.validation


def test_a_resume_takes_what_was_found_before(data: Data, tmp_path: Path) -> None:
    first = with_negatives(data, tmp_path / "mined.npy", photos(tmp_path / "p"))
    for path in (tmp_path / "p").iterdir():
        path.unlink()
    again = with_negatives(data, tmp_path / "mined.npy", tmp_path / "p")
    assert np.array_equal(first.train, again.train)
    assert torch.equal(first.store.batch(first.train), again.store.batch(again.train))


def test_known_faces_are_no_alarms(data: Data, tmp_path: Path) -> None:
    folder = photos(tmp_path / "p")
    boxes = tmp_path / "boxes.csv"
    boxes.write_text("file,split,x,y,w,h\nlit.png,training,20,10,80,80\ndark.png,testing,,,,\n")
    everywhere = with_negatives(data, tmp_path / "all.npy", folder, 50, boxes=str(boxes))
    without = with_negatives(data, tmp_path / "none.npy", folder, 50)
    assert len(everywhere.train) < len(without.train)
    dark = with_negatives(data, tmp_path / "dark.npy", folder, 50, boxes=str(boxes), part="test")
    assert dark is data or len(dark.train) == len(data.train), "the dark photo fools nobody"


def test_a_folder_without_photos(data: Data, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="expected photos"):
        with_negatives(data, tmp_path / "mined.npy", tmp_path / "empty")


def test_an_extended_store_keeps_the_other_alone(data: Data) -> None:
    more = ExtendedStore(data.store, np.full((2, 32, 32, 3), 7, np.uint8), 1)
    assert len(more.dataset.records) == len(data.store.dataset.records) + 2 == len(more.digests)
    assert torch.equal(more.batch(np.array([0, 5])), data.store.batch(np.array([0, 5])))
    assert (more.batch(np.array([more.first + 1])) == 7).all()


SHORT = {
    "input.size": "32",
    "training.precision": "float32",
    "training.batch": "8",
    "phases.patches.epochs": "1",
    "phases.hard.epochs": "1",
    "phases.hard.hard_negatives": "6",
    "phases.harder.epochs": "1",
    "phases.harder.hard_negatives": "3",
    "mining.threshold": "0.01",
    "mining.face": "glasses",
}
WHERE = "synthetic:faces?identities=6&images=6&size=32&task=glasses"


def test_the_recipe_mines_where_photos_are_given(tmp_path: Path) -> None:
    folder = photos(tmp_path / "p")
    mined = {**SHORT, "mining.photos": str(folder)}
    run = train(WHERE, model="plain_cnn", recipe="face-or-not", out=tmp_path / "a", overrides=mined, report=False)
    assert [row.phase for row in run.history] == ["patches", "hard", "harder"]
    assert (tmp_path / "a" / "mined-hard.npy").is_file() and (tmp_path / "a" / "mined-harder.npy").is_file()
    mined = [len(np.load(tmp_path / "a" / f"mined-{name}.npy")) for name in ("hard", "harder")]
    ends = [0, *(row.images_seen for row in run.history)]
    seen = [later - earlier for earlier, later in pairwise(ends)]
    assert seen == [(seen[0] + more) // 8 * 8 for more in (0, mined[0], sum(mined))], "what was found once stays"
    assert run.history[1].images_seen - run.history[0].images_seen >= run.history[0].images_seen
    plain = train(WHERE, model="plain_cnn", recipe="face-or-not", out=tmp_path / "b", overrides=SHORT, report=False)
    assert [row.phase for row in plain.history] == ["patches"]


def test_mining_wants_a_class_of_faces(tmp_path: Path) -> None:
    changes = {**SHORT, "mining.photos": str(photos(tmp_path / "p")), "mining.face": "nobody"}
    with pytest.raises(UsageError, match="two classes, one of them 'nobody'"):
        train(WHERE, model="plain_cnn", recipe="face-or-not", out=tmp_path / "a", overrides=changes, report=False)


def test_it_is_said_which_patches_were_found(data: Data, tmp_path: Path) -> None:
    events: list[object] = []
    with_negatives(data, tmp_path / "m.npy", photos(tmp_path / "p"), on_event=events.append, threshold=0.999999)
    assert any("false alarms" in str(event) for event in events)
