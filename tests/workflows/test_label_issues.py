"""Labels of a run's data that look wrong, from end to end, with labels that were made wrong on purpose.

The public weights are random ones: what such a body makes of a picture still tells these coarse patterns apart.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from facewright import train
from facewright.data.cache import cache_folder
from facewright.data.sources import open_dataset
from facewright.data.store import PixelStore
from facewright.errors import DataError, FacewrightError, RunError, UsageError
from facewright.evaluation.label_issues import LabelIssues, compare_with_classes
from facewright.events import Event, Message
from facewright.files import as_record
from facewright.models.catalog import create_model
from facewright.models.weights import open_weights
from facewright.runs import Run
from facewright.training import recipe as recipes
from facewright.training.assembly import starting_network
from facewright.training.loading import FeatureInputs, features_of
from facewright.workflows import label_issues
from facewright.workflows.label_issues import find_label_issues, write_page

SHARED = Path(__file__).parents[2] / "../shared"
CLASSES, IMAGES, WRONG = 4, 15, (3, 22, 41)
COARSE = 8  # pixels a side: pictures as features of themselves
SMALL = {"input.size": "32", "training.epochs": "2", "training.batch": "8", "training.precision": "float32"}


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV of four coloured kinds of picture, with three labels moved on by one and one picture there twice."""
    folder, random = tmp_path_factory.mktemp("faces"), np.random.default_rng(0)
    rows = [["path", "label"]]
    for number in range(CLASSES * IMAGES):
        kind = number // IMAGES
        label = (kind + 1) % CLASSES if number in WRONG else kind
        picture = random.integers(0, 200, (COARSE, COARSE, 3)).astype(np.float64)
        picture[:6] = 255 * np.array([kind < 2, kind % 2, 0.5])  # most of it in the colour of its kind
        pixels = Image.fromarray(picture.astype(np.uint8)).resize((32, 32), Image.Resampling.NEAREST)
        pixels.save(folder / f"{number:02}.png")
        rows.append([f"{number:02}.png", f"kind{label}"])
    (folder / "copy.png").write_bytes((folder / "00.png").read_bytes())
    rows.append(["copy.png", "kind0"])
    with (folder / "faces.csv").open("w", newline="") as out:
        csv.writer(out).writerows(rows)
    return folder / "faces.csv"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "public.safetensors"
    save_file(create_model("tinydarknet", 10, input_size=32).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def public(faces: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("runs") / "public"
    model = f"tinydarknet@{weights}"
    return train(faces, model=model, recipe="probe", out=out, overrides={"input.size": "32"}, report=False)


@pytest.fixture(scope="module")
def fresh(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("runs") / "fresh"
    return train(faces, model="tinydarknet", out=out, overrides=SMALL, report=False)


def test_wrong_labels_are_found_from_public_features(public: Run) -> None:
    found = find_label_issues(public.folder, folds=4)
    named = [row.path for row in found.suspects]
    assert set(named[: len(WRONG)]) == {f"{number:02}.png" for number in WRONG}
    assert len(named) <= len(WRONG) + 2
    first = found.suspects[0]
    assert int(first.path[:2]) // IMAGES == int(first.suggested[-1])
    assert (found.n, found.folds, found.classes) == (61, 4, ("kind0", "kind1", "kind2", "kind3"))
    assert found.estimated_errors == pytest.approx(len(WRONG), abs=2)
    assert "features of tinydarknet@public" in found.source and found.likeness is not None


def test_it_is_kept_in_the_run_and_shown_in_its_report(public: Run, tmp_path: Path) -> None:
    found = find_label_issues(public.folder, folds=4)
    assert Run(public.folder).label_issues == found
    assert (
        as_record(
            json.loads((public.folder / "suspicious.json").read_text("utf-8")), LabelIssues, "a test", error=RunError
        )
        == found
    )
    assert "These look mislabelled" in (public.folder / "report.html").read_text("utf-8")
    write_page(public.folder, tmp_path / "labels.html")
    assert "41.png" in (tmp_path / "labels.html").read_text("utf-8")


def test_a_copy_is_never_on_the_side_that_learns(public: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The picture that is there twice is learned from twice or not at all."""
    sizes, kept = [], label_issues.probe.fit

    def fit(features, labels, groups, chosen, seed):  # type: ignore[no-untyped-def]
        sizes.append((len(groups), len(set(groups.tolist()))))
        return kept(features, labels, groups, chosen, seed)

    monkeypatch.setattr(label_issues.probe, "fit", fit)
    find_label_issues(public.folder, folds=4)
    assert len(sizes) == 4 and sum(pictures - units for pictures, units in sizes) == 3  # in three of four folds' rests


def test_a_fresh_run_is_trained_anew_on_each_fold_and_goes_on(fresh: Run) -> None:
    said: list[Event] = []
    found = find_label_issues(fresh.folder, folds=2, on_event=said.append)
    texts = [event.text for event in said if isinstance(event, Message)]
    assert any("retrained 2 times" in text for text in texts)
    folds = [Run(fresh.folder / "folds" / f"{number}-of-2") for number in (1, 2)]
    tested = [path for fold in folds for path in fold.predictions.paths]
    assert sorted(tested) == sorted({*tested}) and len(tested) == found.n == 61
    parts = [{*fold.predictions.paths} for fold in folds]
    assert any({"00.png", "copy.png"} <= part for part in parts)  # copies are judged together
    assert found.likeness is None and "2 trainings of tinydarknet" in found.source
    for fold in folds:
        assert fold.recipe == fresh.recipe
    stamps = [(fold.folder / "model.safetensors").stat().st_mtime_ns for fold in folds]
    assert find_label_issues(fresh.folder, folds=2) == found  # nothing is trained twice
    assert [(fold.folder / "model.safetensors").stat().st_mtime_ns for fold in folds] == stamps


def test_a_fresh_run_may_be_judged_by_public_weights(fresh: Run, weights: Path) -> None:
    found = find_label_issues(fresh.folder, folds=3, weights=str(weights))
    assert "features of tinydarknet@public" in found.source
    assert {f"{number:02}.png" for number in WRONG} <= {row.path for row in found.suspects}
    other = find_label_issues(fresh.folder, folds=3, weights=f"tinydarknet@{weights}")
    assert other == found


@pytest.mark.parametrize(
    ("sizes", "folds", "judged"),
    [
        ([1, 1, 1, 1], 2, True),
        ([1, 1, 1], 3, True),
        ([1, 1], 2, False),  # one is left to learn from
        ([1], 5, False),
        ([], 5, False),
        ([9], 5, False),  # nine copies are one picture
        ([5, 1, 1, 1], 5, True),
    ],
)
def test_a_class_is_judged_where_two_pictures_are_always_left(sizes: list[int], folds: int, judged: bool) -> None:
    groups = [f"unit{unit}" for unit, size in enumerate(sizes) for _ in range(size)]
    members = np.ones(len(groups), np.bool_)
    assert label_issues._can_be_evaluated(members, groups, folds, seed=0) is judged


def test_refusals(public: Run, faces: Path, tmp_path: Path) -> None:
    cases: list[tuple[Path, int, str | None, type[FacewrightError], str]] = [
        (tmp_path, 5, None, RunError, "not a run directory"),
        (public.folder, 1, None, UsageError, "expected 2 or more"),
        (public.folder, 5, "nowhere.safetensors", FacewrightError, "nowhere"),
    ]
    for folder, folds, weights, error, words in cases:
        with pytest.raises(error, match=words):
            find_label_issues(folder, folds=folds, weights=weights)
    faces.write_text(faces.read_text("utf-8").replace("10.png,kind0", "10.png,kind3"), "utf-8")
    with pytest.raises(DataError, match="changed since the run"):
        find_label_issues(public.folder)


def test_a_page_wants_labels_that_were_inspected(fresh: Run, tmp_path: Path) -> None:
    (fresh.folder / "suspicious.json").unlink(missing_ok=True)
    with pytest.raises(RunError, match="inspect --labels"):
        write_page(fresh.folder, tmp_path / "labels.html")
    (fresh.folder / "suspicious.json").write_text("{}", "utf-8")
    with pytest.raises(RunError, match="damaged"):
        write_page(fresh.folder, tmp_path / "labels.html")


@pytest.mark.realdata
def test_a_second_woman_in_a_real_class_is_found_and_only_there() -> None:
    """Of `Gwyneth_Paltrow` about two thirds show an older woman who resembles her: looked at one by one."""
    photos, weights = SHARED / "data/celebrities12", SHARED / "weights/mobilefacenet_arcface.safetensors"
    if not (photos.is_dir() and weights.is_file()):
        pytest.skip("needs the photos of ../shared/data/celebrities12 and the weights in ../shared/weights")
    loaded = open_weights("mobilefacenet", weights)
    network, _ = starting_network("mobilefacenet", loaded.stem, 2, recipes.load("probe"), 0, loaded)
    names = ("Gwyneth_Paltrow", "Jennifer_Aniston", "Tina_Fey", "Victoria_Beckham")
    dataset = open_dataset(photos)
    chosen = [row for row, label in enumerate(dataset.labels) if dataset.classes[label] in names]
    store = PixelStore.open(dataset.subset(chosen), loaded.spec)
    pictures = FeatureInputs(store, loaded.spec, np.arange(len(chosen)), None, loaded.spec.height, 0)
    found = features_of(network, pictures, torch.float32, cache_folder()).values[0]
    labels = np.unique(store.dataset.labels, return_inverse=True)[1]
    paths = [record.path for record in store.dataset.records]
    said = compare_with_classes(paths, labels, names, np.array(found), store.digests)
    (parted,) = said.parted
    assert parted.label == "Gwyneth_Paltrow"
    assert 30 <= len(parted.smaller) <= 40 and 70 <= len(parted.larger) <= 80
    assert {"Gwyneth_Paltrow/1767.png", "Gwyneth_Paltrow/1783.png"} <= set(parted.smaller)
    assert {"Gwyneth_Paltrow/1266.png", "Gwyneth_Paltrow/1920.png"} <= set(parted.larger)
