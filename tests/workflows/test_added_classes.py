"""A run that starts from a run: the backbone is kept, old classes stay first, and stopping changes nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from facewright import bundle as bundles
from facewright import evaluate, resume, train, train_all
from facewright.cli.main import main
from facewright.errors import BundleError, UnknownName, UsageError
from facewright.events import Event, Message
from facewright.runs import Run
from facewright.workflows.comparison import Compared
from facewright.workflows.label_issues import find_label_issues
from fixtures.faces import draw_people, saved, small_bundle

SMALL = {"input.size": "40", "training.epochs": "1", "training.batch": "8", "training.precision": "float32"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four people; the run knows the second and the fourth, and a fifth who is not there any more."""
    return draw_people(tmp_path_factory.mktemp("data") / "faces", 4, 10)


@pytest.fixture(scope="module")
def old(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("old")
    for name, given in (("person_01", "person_01"), ("person_03", "person_03"), ("person_00", "gone")):
        shutil.copytree(data / name, folder / "data" / given)
    return train(folder / "data", model="patchnet", out=folder / "run", overrides=SMALL, report=False)


@pytest.fixture(scope="module")
def added(data: Path, old: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, list[Event]]:
    said: list[Event] = []
    out = tmp_path_factory.mktemp("new") / "run"
    return train(data, model=str(old.folder), out=out, report=False, on_event=said.append), said


def test_old_classes_are_first_and_the_backbone_is_kept(added: tuple[Run, list[Event]], old: Run) -> None:
    run, said = added
    assert old.facts.classes == ("gone", "person_01", "person_03")
    assert run.facts.classes == ("person_01", "person_03", "person_00", "person_02")
    assert run.recipe.probe is not None and run.recipe.input.size == 40
    before, after = (bundles.load(one.folder / "model.safetensors") for one in (old, run))
    assert after.classes == run.facts.classes and after.spec == before.spec
    backbone = [name for name in after.weights if name in before.weights and "classifier" not in name]
    same = [name for name in backbone if torch.equal(before.weights[name], after.weights[name])]
    assert len(same) >= len(before.weights) - 2 and len(same) > 4
    lines = [event.text for event in said if isinstance(event, Message)]
    (line,) = [line for line in lines if line.startswith("classes ")]
    assert "kept: 2" in line and "person_00, person_02" in line and "(gone)" in line


def test_labels_follow_the_order(added: tuple[Run, list[Event]], data: Path) -> None:
    run, _ = added
    for path, label in zip(run.predictions.paths, run.predictions.labels, strict=True):
        assert path.startswith(f"{run.facts.classes[label]}/")
    result = evaluate(run.folder, data)
    assert sum(row.n for row in result.per_class) == 40  # type: ignore[union-attr]
    assert find_label_issues(run.folder, folds=2).fingerprint == run.facts.fingerprint


def test_it_resumes_from_what_is_stored(added: tuple[Run, list[Event]]) -> None:
    run, _ = added
    kept = (run.folder / "model.safetensors").read_bytes()
    assert resume(run.folder).facts.classes == run.facts.classes
    assert (run.folder / "model.safetensors").read_bytes() == kept


def test_from_a_model_file(data: Path, tmp_path: Path) -> None:
    model = saved(tmp_path, small_bundle(("person_02", "person_01")))
    run = train(data, model=str(model), out=tmp_path / "run", report=False)
    assert run.facts.classes == ("person_02", "person_01", "person_00", "person_03")


def test_a_comparison_of_runs_has_one_class_order(old: Run, data: Path, tmp_path: Path) -> None:
    shutil.copytree(old.folder, tmp_path / "other" / old.folder.name)  # a base name twice
    runs = [str(old.folder), str(tmp_path / "other" / old.folder.name)]
    compared = train_all(data, runs, out=tmp_path / "out")
    assert isinstance(compared, Compared)
    assert [run.facts.classes for run in compared.runs] == [("person_01", "person_03", "person_00", "person_02")] * 2
    assert [run.folder.name for run in compared.runs] == ["patchnet-run", "patchnet-run-2"]
    assert len({entry.name for entry in compared.comparison.entries}) == 2
    whole = train_all(data, [runs[0], "patchnet"], recipe="scratch", overrides=SMALL, out=tmp_path / "whole")
    assert [run.facts.classes[:2] for run in whole.runs] == [("person_01", "person_03")] * 2


def test_a_run_whose_classes_do_not_fit(
    old: Run, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = saved(tmp_path, small_bundle(("person_02", "person_01")))
    models = f"{old.folder},{other}"
    assert main(["compare", str(data), "--models", models, "--out", str(tmp_path / "out"), "-q"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "person_02" in said and not (tmp_path / "out").exists()
    with pytest.raises(UsageError, match="distinct"):
        train_all(data, [str(old.folder), f"{old.folder}/"], out=tmp_path / "out")


def test_what_cannot_be_started_from(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    for model, error in ((tmp_path / "empty", BundleError), (tmp_path / "none", UnknownName)):
        with pytest.raises(error):
            train(data, model=str(model), out=tmp_path / "run")
    with pytest.raises(UsageError, match="classifier"):
        train(data, model=str(saved(tmp_path, small_bundle(()))), out=tmp_path / "run")
    assert main(["train", str(data), "--model", str(tmp_path / "empty"), "--out", str(tmp_path / "run"), "-q"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
