"""Generated images: they join the training part of the smaller class and nothing else, and a resume finds the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from facewright import dry_run, train
from facewright.data.sources import open_dataset
from facewright.data.splits import Split
from facewright.data.store import PixelStore
from facewright.errors import DataError, UsageError
from facewright.events import Message, Progress, ignore_event
from facewright.input_spec import InputSpec
from facewright.runs import Run
from facewright.training import added_images, diffusion
from facewright.training import recipe as recipes
from facewright.training.added_images import KEPT, nearness, with_generated
from facewright.training.assembly import data_of
from facewright.training.distributed import World
from facewright.training.loading import Data

SPEC = InputSpec(36, 36, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
TINY = {
    "generation.updates": "2",
    "generation.width": "8",
    "generation.batch": "2",
    "generation.sampling_steps": "2",
    "generation.least": "4",
    "training.batch": "4",
}
RECIPE = recipes.override(recipes.load("hter-generate"), TINY)
WHERE = "synthetic:faces?identities=6&images=8&size=36&task=glasses"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEWRIGHT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def data() -> Data:
    """24 + 24 images; 6 of the second class and all of the first are for training, but for four of each."""
    store = PixelStore.open(open_dataset(WHERE), SPEC, workers=1)
    labels = store.dataset.labels
    first, second = (np.flatnonzero(labels == label) for label in (0, 1))
    split = Split(
        np.sort([*first[:16], *second[:6]]), np.sort([*first[16:20], *second[6:10]]), np.sort([first[20], second[10]])
    )
    return data_of(RECIPE, store, SPEC, split, 0, World())


def test_the_smaller_class_is_brought_to_the_size_of_the_other(data: Data, tmp_path: Path) -> None:
    said: list[object] = []
    found = with_generated(data, RECIPE, tmp_path, said.append)
    more = found.train[len(data.train) :]
    assert len(more) == 10 and (found.store.dataset.labels[more] == 1).all()
    assert np.bincount(found.store.dataset.labels[found.train]).tolist() == [16, 16]
    assert np.array_equal(found.train[: len(data.train)], data.train)
    assert found.validation is data.validation and found.steps == 8 == len(found.plan(0))
    assert sorted(np.concatenate(found.plan(0))) == sorted(found.train), "each once an epoch"
    assert {event.task for event in said if isinstance(event, Progress)} == {
        "training the diffusion model",
        "generating images",
    }
    assert any("10 generated images of no_glasses join the 6" in one.text for one in said if isinstance(one, Message))


def test_they_are_marked_and_leave_the_data_alone(data: Data, tmp_path: Path) -> None:
    found = with_generated(data, RECIPE, tmp_path, ignore_event)
    real = len(data.store.dataset.records)
    assert [record.path.startswith("generated/") for record in found.store.dataset.records] == [False] * real + [
        True
    ] * 10
    assert found.store.digests[:real] == data.store.digests
    assert len(data.store.dataset.records) == real == len(data.store.digests)
    rows = np.array([real + 1, 3])
    pixels = found.store.batch(rows)
    assert torch.equal(pixels[1], data.store.batch(rows[1:])[0])
    assert pixels.shape == (2, 3, 36, 36), "enlarged from 32"
    assert np.load(tmp_path / KEPT).shape == (10, 32, 32, 3)


def test_only_the_training_part_of_the_class_is_learned_from(data: Data, tmp_path: Path, monkeypatch) -> None:
    seen: list[torch.Tensor] = []
    real_fit = diffusion.fit
    monkeypatch.setattr(diffusion, "fit", lambda images, *rest: seen.append(images) or real_fit(images, *rest))
    with_generated(data, RECIPE, tmp_path, ignore_event)
    rows = [row for row in data.train if data.store.dataset.labels[row] == 1]
    assert torch.equal(seen[0], added_images.real_images(data.store, np.array(rows), 32))


def test_a_resume_and_another_run_find_the_same(data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [tmp_path / name for name in "abc"]
    for folder in folders:
        folder.mkdir()
    with_generated(data, RECIPE, folders[0], ignore_event)
    made = (folders[0] / KEPT).read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(diffusion, "fit", lambda *_: pytest.fail("trained again"))
        with_generated(data, RECIPE, folders[0], ignore_event)
        with_generated(data, RECIPE, folders[1], ignore_event)
        assert (folders[1] / KEPT).read_bytes() == made, "from the cache"
        for other in (replace(data, seed=1), replace(data, train=np.delete(data.train, -1))):
            with pytest.raises(pytest.fail.Exception):
                with_generated(other, RECIPE, folders[2], ignore_event)
    (folders[0] / KEPT).write_bytes(b"damaged")
    for file in (tmp_path / "cache" / "generated").iterdir():
        assert file.stat().st_mode & 0o077 == 0, "faces are private"
        file.unlink()
    with_generated(data, RECIPE, folders[0], ignore_event)
    assert (folders[0] / KEPT).read_bytes() == made, "made again, bit-identical"


def test_equal_classes_need_none(data: Data, tmp_path: Path) -> None:
    labels = data.store.dataset.labels
    equal = np.concatenate([np.flatnonzero(labels == label)[:6] for label in (0, 1)])
    even = replace(data, train=equal)
    assert with_generated(even, RECIPE, tmp_path, ignore_event) is even


def test_too_few_images_to_learn_from(data: Data, tmp_path: Path) -> None:
    few = recipes.override(RECIPE, {"generation.least": "7"})
    with pytest.raises(DataError, match=r"expected 7 images of 'no_glasses' in the training part .* got 6"):
        with_generated(data, few, tmp_path, ignore_event)


@pytest.mark.parametrize(
    "changes",
    [{"objective.class_weights": "inverse"}, {"generation.size": "60"}, {"generation.updates": "0"}],
)
def test_recipes_that_are_refused(changes: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="generat"):
        recipes.override(RECIPE, changes)


def test_more_than_two_classes_are_refused_before_anything_is_decoded(tmp_path: Path) -> None:
    changes = {"selection.metric": "loss"}
    with pytest.raises(UsageError, match="generate is for two classes, the data has 3"):
        train("synthetic:faces?identities=3", recipe="hter-generate", overrides=changes, out=tmp_path / "r")


def test_distances_one_pair_at_a_time() -> None:
    real = torch.randint(0, 256, (3, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    made = torch.stack([real[1].flip(2), real[2] // 2])
    found = nearness(made, real)

    def distance(a: torch.Tensor, b: torch.Tensor) -> float:
        return float(((a.double() - b.double()) ** 2).mean().sqrt())

    for row, image in enumerate(made):
        rows = [min(distance(image, one), distance(image, one.flip(2))) for one in real]
        assert np.isclose(found.generated[row], min(rows), atol=0.05)
        assert found.nearest[row] == int(np.argmin(rows))
    for row, image in enumerate(real):
        others = [min(distance(image, real[k]), distance(image, real[k].flip(2))) for k in range(3) if k != row]
        assert np.isclose(found.real[row], min(others), atol=0.05)
    assert found.nearest.tolist() == [1, 2] and "2 generated images are nearer" in found.in_words()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACEWRIGHT_CACHE", str(folder / "cache"))
        return train(unequal(folder), model="plain_cnn", recipe="hter-generate", out=folder / "run", overrides=WHOLE)


WHOLE = TINY | {"training.epochs": "1", "input.size": "32", "training.precision": "float32"}


def unequal(folder: Path) -> Path:
    """A folder of 12 and 30 images."""
    from PIL import Image

    random = np.random.default_rng(0)
    for name, count, light in (("covered", 12, 60), ("bare", 30, 160)):
        (folder / "two" / name).mkdir(parents=True)
        for number in range(count):
            pixels = np.clip(random.normal(light, 40, (32, 32, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "two" / name / f"{number}.png")
    return folder / "two"


def test_a_run_counts_real_images_and_shows_both_kinds(run: Run) -> None:
    assert sum(run.facts.counts.values()) == 42
    assert "generated/" not in (run.folder / "split.csv").read_text()
    assert all(not path.startswith("generated/") for path in run.predictions.paths)
    made = len(np.load(run.folder / KEPT))
    assert run.facts.images_seen == (run.facts.counts["train"] + made) // 4 * 4
    page = (run.folder / "report.html").read_text()
    assert "Generated images" in page and "generated images beside" in page


def test_too_few_images_leave_no_run_behind(run: Run, tmp_path: Path) -> None:
    few = WHOLE | {"generation.least": "100"}
    with pytest.raises(DataError, match="expected 100 images of 'covered'"):
        train(run.folder.parent / "two", model="plain_cnn", recipe="hter-generate", out=tmp_path / "r", overrides=few)
    assert not (tmp_path / "r" / "run.json").exists()


def test_a_dry_run_trains_no_diffusion_model(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diffusion, "fit", lambda *_: pytest.fail("trained"))
    found = dry_run(run.folder.parent / "two", model="plain_cnn", recipe="hter-generate", overrides=WHOLE)
    assert found.steps_per_epoch == run.facts.images_seen // 4
