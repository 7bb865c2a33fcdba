"""Runs from end to end on a few drawn faces: what lies in the directory, who may use it, and how it goes on."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from facewright import bundle as bundles
from facewright import evaluate, predict, resume, train
from facewright.data import sampling
from facewright.data.records import Dataset
from facewright.data.sources import open_dataset
from facewright.errors import DataError, FacewrightError, ResumeError, RunError, RunLocked, UnknownName
from facewright.events import EpochFinished, Event, Message
from facewright.models import catalog
from facewright.runs import Run, owned
from facewright.training import assembly
from facewright.workflows import training_requests

WHERE = "synthetic:faces?identities=3&images=12&size=32"
SMALL = {"input.size": "32", "training.epochs": "2", "training.batch": "8", "training.precision": "float32"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(WHERE, model="mobilenet_v1_x0_25", out=tmp_path_factory.mktemp("runs") / "a", overrides=SMALL)


def test_everything_lies_in_the_directory(run: Run) -> None:
    found = {path.name for path in run.folder.iterdir()} - {".lock"}
    assert found == {
        "recipe.toml", "split.csv", "metrics.csv", "model.safetensors", "checkpoints", "evaluation.json",
        "predictions.csv", "report.html", "events", "run.json", "manifest.json",
    }  # fmt: skip
    assert not list(run.folder.rglob("*.tmp"))


def test_the_end_of_a_run_uses_what_is_in_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dataset of one's own, whose address opens nothing: its images are in the report, and nothing is done twice."""
    opened = open_dataset(WHERE)
    dataset = replace(opened, where="made in a notebook")
    calls: Counter[str] = Counter()

    def counted(module: Any, name: str) -> None:
        original = getattr(module, name)

        def call(*args: Any, **options: Any) -> Any:
            calls[name] += 1
            return original(*args, **options)

        monkeypatch.setattr(module, name, call)

    counted(bundles, "load")
    counted(Run, "open_dataset")
    counted(training_requests, "open_dataset")
    counted(training_requests, "check_model")
    counted(catalog, "create_model")  # as the bundle imports it
    counted(assembly, "create_model")
    counted(sampling, "plan")
    changes = {**SMALL, "training.epochs": "1"}
    run = train(dataset, model="plain_cnn", out=tmp_path / "own", overrides=changes)
    assert calls == {"load": 1, "check_model": 1, "create_model": 2, "plan": 2}  # plan: the check, and the one epoch
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert "data:image/png" in page, "the images of the dataset are shown"


def test_the_facts_are_those_of_the_run(run: Run) -> None:
    facts = run.facts
    assert (facts.model, facts.recipe, facts.seed, facts.image_size, facts.stem) == (
        "mobilenet_v1_x0_25",
        "scratch",
        0,
        32,
        "medium",
    )
    assert sum(facts.counts.values()) == 36
    assert facts.images_seen == run.history[-1].images_seen == 2 * (facts.counts["train"] // 8) * 8
    assert facts.parameters == sum(
        p.numel() for p in bundles.load(run.folder / "model.safetensors").model().parameters()
    )
    assert facts.finished is not None and facts.train_seconds is not None and facts.train_seconds > 0


def test_the_parts_are_disjoint_and_the_test_part_is_what_was_tested(run: Run) -> None:
    with (run.folder / "split.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    tested = {row["path"] for row in rows if row["part"] == "test"}
    assert {row["part"] for row in rows} == {"train", "validation", "test"}
    assert len(rows) == len({row["path"] for row in rows}) == 36
    assert set(run.predictions.paths) == tested
    assert run.evaluation.n == len(tested)


def test_the_numbers_follow_from_the_predictions(run: Run) -> None:
    said = run.predictions
    assert run.evaluation.accuracy.value == np.mean(said.probabilities.argmax(1) == said.labels)
    np.testing.assert_allclose(said.probabilities.sum(1), 1)
    printed = json.loads(json.dumps(run.summary(), allow_nan=False))
    assert printed["test"]["n"] == run.evaluation.n and printed["test"]["task"] == "classification"


def test_the_bundle_alone_says_the_same_of_a_file(run: Run, tmp_path: Path) -> None:
    dataset = open_dataset(WHERE)
    by_path = {record.path: record for record in dataset.records}
    path = run.predictions.paths[0]
    Image.fromarray(dataset.source.read(by_path[path], None)).save(tmp_path / "face.png")
    (prediction,) = predict(run.folder / "model.safetensors", [tmp_path / "face.png"], top_k=3)
    said = dict(zip(prediction.names, prediction.probabilities, strict=True))
    expected = dict(zip(dataset.classes, run.predictions.probabilities[0], strict=True))
    assert said == pytest.approx(expected, abs=1e-5)
    assert list(prediction.probabilities) == sorted(prediction.probabilities, reverse=True)


def test_predict_takes_folders_and_names_what_is_broken(run: Run, tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    Image.new("RGB", (40, 50)).save(tmp_path / "below" / "b.jpg")
    (tmp_path / "a.png").write_bytes(b"no image")
    (tmp_path / "notes.txt").write_text("ignored")
    predictions = predict(run.folder, [tmp_path])
    assert [Path(p.path).name for p in predictions] == ["a.png", "b.jpg"]
    assert predictions[0].error and not predictions[0].names
    assert predictions[1].error is None and len(predictions[1].names) == 3


def test_evaluate_other_data_counts_unknown_classes(run: Run) -> None:
    assert evaluate(run.folder) == run.evaluation
    assert evaluate(run.folder, WHERE).n == 36
    other = evaluate(run.folder, "synthetic:faces?identities=4&images=3&size=32")
    assert other.unknown_classes == {"person_03": 3}


def test_equal_runs_are_equal_files_and_other_seeds_are_not(run: Run, tmp_path: Path) -> None:
    again = train(WHERE, model="mobilenet_v1_x0_25", out=tmp_path / "a", overrides=SMALL, report=False)
    other = train(WHERE, model="mobilenet_v1_x0_25", out=tmp_path / "b", overrides=SMALL, report=False, seed=1)
    model = (run.folder / "model.safetensors").read_bytes()
    assert (again.folder / "model.safetensors").read_bytes() == model
    assert (other.folder / "model.safetensors").read_bytes() != model
    assert (other.folder / "split.csv").read_text() != (run.folder / "split.csv").read_text()


def test_a_directory_with_a_run_is_not_overwritten(run: Run) -> None:
    before = (run.folder / "run.json").read_text()
    with pytest.raises(RunError, match="--resume"):
        train(WHERE, model="mobilenet_v1_x0_25", out=run.folder, overrides=SMALL)
    for changes in ({"model": "resnet34"}, {"seed": 1}, {"overrides": {**SMALL, "training.epochs": "3"}}):
        asked = {"model": "mobilenet_v1_x0_25", "seed": 0, "overrides": SMALL, **changes}
        with pytest.raises(ResumeError, match=r"another|has"):
            train(WHERE, out=run.folder, resume=True, **asked)
    assert (run.folder / "run.json").read_text() == before


def test_resuming_a_finished_run_changes_no_weight(run: Run) -> None:
    model = (run.folder / "model.safetensors").read_bytes()
    assert resume(run.folder).evaluation == run.evaluation
    assert (run.folder / "model.safetensors").read_bytes() == model


def test_an_unknown_model_or_recipe_is_found_before_anything_is_decoded(tmp_path: Path) -> None:
    for asked in ({"model": "resnet19"}, {"recipe": "scrach"}):
        with pytest.raises(UnknownName, match="did you mean"):
            train(str(tmp_path / "nothing here"), out=tmp_path / "run", **asked)
    assert not (tmp_path / "run").exists()


def test_an_unfinished_directory_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not a run directory"):
        Run(tmp_path)
    with pytest.raises(RunError, match="not a run directory"):
        resume(tmp_path)


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from facewright.events import StepFinished
    from facewright import train

    def on_event(event):
        if isinstance(event, StepFinished) and (event.epoch, event.step) == (2, 1):
            os.kill(os.getpid(), signal.SIGKILL)

    train({where!r}, model="mobilenet_v1_x0_25", out=Path(sys.argv[1]), overrides={small!r}, on_event=on_event)
"""


def test_killed_resumed_and_equal_to_the_file(run: Run, tmp_path: Path) -> None:
    small = {**SMALL, "training.checkpoint_steps": "1"}
    code = textwrap.dedent(KILLED.format(where=WHERE, small=small))
    env = {**os.environ, "OMP_NUM_THREADS": str(run.facts.threads)}
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "k")], env=env, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()[-1000:]
    said: list[Event] = []
    again = resume(tmp_path / "k", on_event=said.append)
    assert any(isinstance(event, Message) and "resumed after step" in event.text for event in said)
    assert (again.folder / "model.safetensors").read_bytes() == (run.folder / "model.safetensors").read_bytes()
    assert (again.folder / "predictions.csv").read_text() == (run.folder / "predictions.csv").read_text()


def test_data_that_changed_meanwhile_is_refused(tmp_path: Path) -> None:
    photos = write_faces(tmp_path / "photos", open_dataset(WHERE))

    class Stop(Exception):
        pass

    def on_event(event: Event) -> None:
        if isinstance(event, EpochFinished):
            raise Stop

    with pytest.raises(Stop):
        train(photos, model="mobilenet_v1_x0_25", out=tmp_path / "run", overrides=SMALL, on_event=on_event)
    first = next(iter(sorted(photos.rglob("*.png"))))
    Image.new("RGB", (32, 32), "red").save(first)
    with pytest.raises(FacewrightError, match=r"changed|another|differ"):
        resume(tmp_path / "run")


def test_a_broken_image_is_left_out_named_and_remembered(tmp_path: Path) -> None:
    photos = write_faces(tmp_path / "photos", open_dataset(WHERE))
    cut = sorted(photos.rglob("*.png"))[5]
    cut.write_bytes(cut.read_bytes()[:100])
    said: list[Event] = []
    run = train(photos, model="mobilenet_v1_x0_25", out=tmp_path / "run", overrides=SMALL, on_event=said.append)
    name = cut.relative_to(photos).as_posix()
    assert any(isinstance(event, Message) and name in event.text for event in said)
    assert any(name in note for note in run.facts.notes)
    assert sum(run.facts.counts.values()) == 35


def test_too_little_data_is_one_clear_line(tmp_path: Path) -> None:
    photos = write_faces(tmp_path / "photos", open_dataset("synthetic:faces?identities=2&images=2&size=32"))
    with pytest.raises(DataError, match="at least three"):
        train(photos, model="mobilenet_v1_x0_25", out=tmp_path / "run", overrides=SMALL)


HOLD = """
    import sys, time
    from pathlib import Path
    from facewright.runs import owned

    with owned(Path(sys.argv[1])):
        print("held", flush=True)
        time.sleep(60)
"""


def test_two_processes_one_directory(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLD), str(tmp_path / "run")], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        for _ in range(50):
            with pytest.raises(RunLocked, match="another process"), owned(tmp_path / "run"):
                pass
    finally:
        holder.kill()
        holder.communicate()
    with owned(tmp_path / "run"):  # the lock died with its process
        pass


def write_faces(folder: Path, dataset: Dataset) -> Path:
    for record in dataset.records:
        assert record.label is not None
        place = folder / dataset.classes[record.label]
        place.mkdir(parents=True, exist_ok=True)
        pixels = dataset.source.read(record, None)
        Image.fromarray(pixels).save(place / f"{Path(record.path).stem}.png")
    return folder
