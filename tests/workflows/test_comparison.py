"""Several models on one split: what is compared, what is kept, and what cannot be compared."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from facewright import compare, train, train_all
from facewright.errors import ResumeError, RunError, UsageError
from facewright.events import Event, RunStarted, ignore_event
from facewright.runs import Run
from facewright.training.recipe import override
from facewright.workflows import training_runs
from facewright.workflows.comparison import Compared
from facewright.workflows.dry_runs import DryRun

WHERE = "synthetic:faces?identities=3&images=12&size=32"
SMALL = {"input.size": "32", "training.epochs": "1", "training.batch": "8", "training.precision": "float32"}
MODELS = ("mobilenet_v1_x0_25", "squeezenet1_1")


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Compared, Path]:
    out = tmp_path_factory.mktemp("sweep") / "out"
    return train_all(WHERE, MODELS, out=out, overrides=SMALL), out


def test_one_split_for_all(compared: tuple[Compared, Path]) -> None:
    runs = compared[0].runs
    assert [run.facts.model for run in runs] == list(MODELS)
    assert len({(run.folder / "split.csv").read_text() for run in runs}) == 1
    assert len({run.facts.images_seen for run in runs}) == 1


def test_what_is_written_is_the_contract(compared: tuple[Compared, Path]) -> None:
    written = json.loads((compared[1] / "comparison.json").read_text())
    assert [model["name"] for model in written["models"]] == list(MODELS)
    for model, run in zip(written["models"], compared[0].runs, strict=True):
        assert {"name", "run", "parameters", "flops", "images_seen", "train_seconds", "latency_ms", "test"} <= set(
            model
        )
        assert model["test"] == run.evaluation.to_dict()
    (pair,) = written["pairs"]
    assert (pair["a"], pair["b"]) == MODELS and 0 <= pair["p_value"] <= 1
    assert written["advice"]


def test_the_page_names_the_models(compared: tuple[Compared, Path]) -> None:
    page = (compared[1] / "report.html").read_text()
    assert all(name in page for name in MODELS)
    assert "http://" not in page.replace("http://www.w3.org", "") and "https://" not in page


@pytest.mark.slow
def test_called_again_it_keeps_what_is_finished(compared: tuple[Compared, Path]) -> None:
    out = compared[1]
    models = {name: (out / name / "model.safetensors").stat().st_mtime_ns for name in MODELS}
    said: list[Event] = []
    again = train_all(WHERE, (*MODELS, "mobilenet_v1_x0_5"), out=out, overrides=SMALL, on_event=said.append)
    assert len(again.runs) == 3
    assert {name: (out / name / "model.safetensors").stat().st_mtime_ns for name in MODELS} == models
    assert [event.model for event in said if isinstance(event, RunStarted)][-1] == "mobilenet_v1_x0_5"


def test_called_again_with_another_recipe_it_refuses(compared: tuple[Compared, Path]) -> None:
    with pytest.raises(ResumeError, match="another recipe"):
        train_all(WHERE, MODELS, out=compared[1], overrides={**SMALL, "training.epochs": "2"})


@pytest.mark.parametrize("models", [(), ("mobilenet_v1_x0_25", "mobilenet_v1_x0_25")])
def test_models_are_distinct_and_some(models: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="distinct models"):
        train_all(WHERE, models, out=tmp_path / "out", overrides=SMALL)


def test_runs_on_other_splits_cannot_be_compared(compared: tuple[Compared, Path], tmp_path: Path) -> None:
    other = train(WHERE, model="mobilenet_v1_x0_25", out=tmp_path / "other", overrides=SMALL, seed=1, report=False)
    with pytest.raises(UsageError):
        compare([compared[0].runs[0], other])


def test_an_unfinished_run_cannot_be_compared(compared: tuple[Compared, Path], tmp_path: Path) -> None:
    source, copy = compared[0].runs[0].folder, tmp_path / "run"
    copy.mkdir()
    facts = json.loads((source / "run.json").read_text())
    facts.update(finished=None, epochs=None, images_seen=None, train_seconds=None)
    (copy / "run.json").write_text(json.dumps(facts))
    (copy / "model.safetensors").write_bytes((source / "model.safetensors").read_bytes())
    with pytest.raises(RunError, match="not finished"):
        compare([Run(copy)])


def test_equal_models_are_told_apart_by_recipe_or_folder(compared: tuple[Compared, Path], tmp_path: Path) -> None:
    first = compared[0].runs[0]
    second = train(WHERE, model="mobilenet_v1_x0_25", out=tmp_path / "b", overrides=SMALL, report=False)
    names = [entry.name for entry in compare([first, second]).comparison.entries]
    assert names == [first.folder.name, "b"]


def test_runs_on_other_pictures_of_the_same_names_cannot_be_compared(
    compared: tuple[Compared, Path], tmp_path: Path
) -> None:
    other = train(f"{WHERE}&seed=7", model="mobilenet_v1_x0_5", out=tmp_path / "other", overrides=SMALL, report=False)
    with pytest.raises(UsageError, match="different data"):
        compare([compared[0].runs[0], other])


def test_both_files_are_written(compared: tuple[Compared, Path], tmp_path: Path) -> None:
    page = compared[0].write(tmp_path / "new" / "folder")
    assert page.read_text().startswith("<!doctype html>")
    assert json.loads((page.parent / "comparison.json").read_text())["models"]


def test_a_budget_gives_each_model_the_epochs_that_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []
    now = [0.0]

    def train(data: object, *, model: str, overrides: dict[str, str], **options: object) -> str:
        asked.append((model, overrides["training.epochs"]))
        now[0] += {"resnet18": 20.0, "xception": 50.0, "vgg11": 0.0}[model]
        return model

    monkeypatch.setattr(training_runs.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(training_runs, "train", train)
    monkeypatch.setattr(training_runs, "compare", lambda runs: SimpleNamespace(write=lambda folder: None))
    # 20 epochs of the recipe `scratch` would take so many seconds
    takes = {"resnet18": 100.0, "xception": 40.0, "vgg11": 10_000.0}
    monkeypatch.setattr(
        training_runs, "dry_run", lambda data, *, model, **options: SimpleNamespace(seconds=takes[model])
    )
    data = "synthetic:faces?identities=2&images=4&size=32"
    train_all(data, list(takes), out=tmp_path / "x", budget=90)
    # 0.85 * 90 / 3 = 25.5 s of 100 s; then 0.85 * 70 / 2 = 29.75 s of 40 s; then 0.85 * 20 s of 10,000 s
    assert asked == [("resnet18", "5"), ("xception", "14"), ("vgg11", "1")]


def test_a_run_that_is_begun_keeps_its_epochs(compared: tuple[Compared, Path]) -> None:
    run = compared[0].runs[0]
    asked = override(run.recipe, {"training.epochs": "99"})

    def never() -> DryRun:
        raise AssertionError("it was timed before")

    assert training_runs._fitted("plain_cnn", asked, run.folder, 10.0, never, ignore_event) == run.recipe
