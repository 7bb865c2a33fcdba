"""Verification sets measured after each epoch of a training: the best epoch is theirs."""

from __future__ import annotations

import csv
import io
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facewright.data.sources import open_dataset
from facewright.errors import DataError
from facewright.events import Message, StepFinished
from facewright.runs import Run
from facewright.workflows.training_runs import resume, train
from facewright.workflows.verification_benchmark import benchmark

WHERE = "synthetic:faces?identities=4&images=12&size=32"
OTHERS = "synthetic:faces?identities=6&images=4&size=32&seed=9"
SMALL = {
    "input.size": "32", "training.epochs": "3", "training.batch": "8", "training.precision": "float32",
    "shares.validation": "0.2", "head.scale": "16.0", "training.checkpoint_steps": "1",
}  # fmt: skip


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """20 pairs as a .bin, and 6 of them as a table without folds."""
    folder, data = tmp_path_factory.mktemp("sets"), open_dataset(OTHERS)
    images, rows = [], []
    for number, record in enumerate(data.records):
        Image.fromarray(data.source.read(record, None)).save(folder / f"{number:02d}.png")
    for k in range(10):
        rows += [(k // 2 * 4 + k % 2, k // 2 * 4 + 2 + k % 2, True), (k * 2 % 24, (k * 2 + 5) % 24, False)]
    for first, second, _ in rows:
        images += [(folder / f"{number:02d}.png").read_bytes() for number in (first, second)]
    (folder / "held.bin").write_bytes(pickle.dumps((images, [same for *_, same in rows])))
    lines = [f"{a:02d}.png,{b:02d}.png,{int(same)}" for a, b, same in rows[:6]]
    (folder / "few.csv").write_text("\n".join(["a,b,same", *lines, "99.png,00.png,0"]))
    return [str(folder / "held.bin"), f"{folder / 'few.csv'}:{folder}"]


def trained(out: Path, sets: list[str], on_event=lambda event: None, **changes: str) -> Run:
    chosen = {**SMALL, "selection.sets": json.dumps(sets), **changes}
    return train(
        WHERE, model="plain_cnn", recipe="arcface", out=out, overrides=chosen, report=False, on_event=on_event
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(sets: list[str], tmp_path_factory: pytest.TempPathFactory) -> Run:
    return trained(tmp_path_factory.mktemp("run") / "run", sets)


def table_of(run: Run) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((run.folder / "verification.csv").read_text())))


def test_the_mean_over_the_sets_chooses_the_epoch(run: Run) -> None:
    rows = table_of(run)
    assert [(row["epoch"], row["set"], row["pairs"], row["failures"]) for row in rows] == [
        (str(epoch), name, pairs, failures)
        for epoch in (1, 2, 3)
        for name, pairs, failures in (("held", "20", "0"), ("few", "7", "1"))
    ]
    means = [np.mean([float(row["accuracy"]) for row in rows if row["epoch"] == str(k)]) for k in (1, 2, 3)]
    assert [row.validation_score for row in run.history] == pytest.approx(means)
    best = [row.epoch for row in run.history if row.best][-1]
    assert means[best - 1] == max(means)


def test_the_numbers_are_those_of_the_benchmark_of_the_kept_weights(run: Run, sets: list[str]) -> None:
    best = str([row.epoch for row in run.history if row.best][-1])
    (held,) = (row for row in table_of(run) if row["epoch"] == best and row["set"] == "held")
    (measured,) = benchmark([run.folder], sets[:1]).rows
    assert (float(held["accuracy"]), float(held["eer"])) == pytest.approx((measured.mean_accuracy, measured.eer))
    assert float(held["standard_error"]) == pytest.approx(measured.standard_error)


def test_a_run_that_stopped_resumes_to_the_same_table(run: Run, sets: list[str], tmp_path: Path) -> None:
    class Stopped(Exception):
        pass

    def stop(event: object) -> None:
        if isinstance(event, StepFinished) and (event.epoch, event.step) == (3, 2):
            raise Stopped

    with pytest.raises(Stopped):
        trained(tmp_path / "run", sets, stop)
    again = resume(tmp_path / "run")
    assert (again.folder / "verification.csv").read_bytes() == (run.folder / "verification.csv").read_bytes()
    assert (again.folder / "model.safetensors").read_bytes() == (run.folder / "model.safetensors").read_bytes()


def test_without_sets_the_loss_chooses_and_that_is_told(tmp_path: Path) -> None:
    told: list[str] = []
    one = trained(
        tmp_path / "run", [], lambda event: told.append(event.text) if isinstance(event, Message) else None,
        **{"training.epochs": "1"},
    )  # fmt: skip
    assert one.history[0].validation_score == -one.history[0].validation_loss
    assert any("selection.sets" in text for text in told)
    assert not (one.folder / "verification.csv").exists()


def test_a_set_that_cannot_be_read_is_told_before_anything_is_decoded(tmp_path: Path) -> None:
    (tmp_path / "lfw.bin").write_bytes(b"no set")
    with pytest.raises(DataError, match=r"lfw\.bin"):
        trained(tmp_path / "run", [str(tmp_path / "lfw.bin")])
    assert not (tmp_path / "run" / "run.json").exists()
