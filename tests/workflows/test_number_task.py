"""A number from end to end on small images: three kinds of heads, intervals, a probe, a run that resumes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facewright import bundle as bundles
from facewright import evaluate, predict, train
from facewright.cli.main import main
from facewright.data.sources import open_dataset
from facewright.errors import DataError, FacewrightError, UsageError
from facewright.evaluation.number_metrics import NumberResult
from facewright.evaluation.targets import TaskResult
from facewright.events import Event, Message, StepFinished
from facewright.inference import NumberAnswer
from facewright.report.model_card import markdown
from facewright.runs import Run
from facewright.specs import TaskSpec
from facewright.workflows.model_card import model_card
from fixtures.targets import SMALL as TINY

SMALL = TINY | {"number.bins": "25", "number.tolerance": "10"}
SAID: list[Event] = []  # while the runs of the fixture train
IMAGES = 144


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images whose brightness is the number; every ninth row leaves it empty."""
    folder, random = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    lines = ["path,person,age,word,side"]
    for number in range(IMAGES):
        age = float(random.uniform(-20, 80))
        pixels = np.clip(random.normal(100 + 1.5 * age, 20, (32, 32, 3)), 0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number:04}.png")
        known, side = "" if number % 9 == 0 else round(age, 2), ("left", "right", "")[number % 3]
        lines.append(f"{number:04}.png,p{number // 4},{known},x,{side}")
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    return folder / "table.csv"


@pytest.fixture(scope="module")
def runs(table: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    out = tmp_path_factory.mktemp("runs")
    return {
        head: train(
            table, model="plain_cnn", task="number:age", out=out / head, overrides={**SMALL, "number.head": head},
            on_event=SAID.append, report=False,
        )
        for head in ("huber", "dex", "coral")
    }  # fmt: skip


def number_of(result: object) -> NumberResult:
    assert isinstance(result, TaskResult) and result.attributes is None
    return result.numbers[0]


@pytest.mark.parametrize("head", ["huber", "dex", "coral"])
def test_each_head_beats_the_median(runs: dict[str, Run], head: str) -> None:
    result = number_of(runs[head].evaluation)
    assert result.mean_absolute_error.high < 0.6 * result.baseline_mean_absolute_error.low
    assert result.unknown > 0 and result.n + result.unknown == runs[head].evaluation.n
    assert result.tolerance == 10


def test_range_and_median_are_of_the_training_part_alone(runs: dict[str, Run], table: Path) -> None:
    spec = bundles.load(runs["dex"].folder / "model.safetensors").task.targets[0].number  # type: ignore[union-attr]
    with table.open(newline="") as lines:
        ages = {row["path"]: row["age"] for row in csv.DictReader(lines)}
    with (runs["dex"].folder / "split.csv").open(newline="") as lines:
        train_ages = [ages[row["path"]] for row in csv.DictReader(lines) if row["part"] == "train"]
    known = np.array([float(age) for age in train_ages if age])
    assert spec is not None
    assert (spec.low, spec.high, spec.median) == pytest.approx((known.min(), known.max(), np.median(known)), abs=1e-4)


def test_the_interval_is_of_the_validation_part_and_bounds_predictions(runs: dict[str, Run], table: Path) -> None:
    run = runs["huber"]
    with (run.folder / "validation_predictions.csv").open(newline="") as lines:
        errors = [abs(float(row["age"]) - float(row["true_age"])) for row in csv.DictReader(lines) if row["true_age"]]
    interval = number_of(run.evaluation).interval
    assert interval is not None and interval.coverage is not None
    assert interval.half_width == sorted(errors)[int(np.ceil((len(errors) + 1) * 0.9)) - 1]
    answer = predict(run.folder, table.parent / "0003.png")[0].targets["age"]  # type: ignore[index]
    assert isinstance(answer, NumberAnswer) and answer.low is not None and answer.high is not None
    assert answer.high - answer.low == pytest.approx(2 * interval.half_width)


@pytest.mark.parametrize("head", ["huber", "dex", "coral"])
def test_a_bundle_alone_predicts_and_evaluates(runs: dict[str, Run], table: Path, tmp_path: Path, head: str) -> None:
    model = tmp_path / "copy.safetensors"
    model.write_bytes((runs[head].folder / "model.safetensors").read_bytes())
    predictions = runs[head].predictions
    answers = predict(model, [table.parent / path for path in predictions.paths])
    found = [one.targets["age"].value for one in answers]  # type: ignore[index, union-attr]
    np.testing.assert_allclose(found, predictions.values[:, 0], atol=4.2 if head == "coral" else 1e-3)
    assert number_of(evaluate(model, table)).n == IMAGES - len(range(0, IMAGES, 9))
    assert number_of(evaluate(runs[head])) == number_of(runs[head].evaluation)


def test_ordinal_scores_never_rise(runs: dict[str, Run]) -> None:
    weights = bundles.load(runs["coral"].folder / "model.safetensors").weights
    (layer,) = (one for name, one in weights.items() if name.endswith("classifier.weight") and len(one) == 24)
    assert (layer[1:] == 0).all() and (layer[0] != 0).any()


@pytest.mark.parametrize("head", ["huber", "dex", "coral"])
def test_stopped_and_resumed_it_ends_in_the_same_bits(
    runs: dict[str, Run], table: Path, tmp_path: Path, head: str
) -> None:
    def stop(event: Event) -> None:
        if isinstance(event, StepFinished) and event.epoch == 3:
            raise KeyboardInterrupt

    changed = {**SMALL, "number.head": head, "training.checkpoint_steps": "5"}
    options = {"model": "plain_cnn", "task": "number:age", "out": tmp_path, "overrides": changed, "report": False}
    with pytest.raises(KeyboardInterrupt):
        train(table, **options, on_event=stop)
    again = train(table, **options, resume=True)
    assert (again.folder / "model.safetensors").read_bytes() == (runs[head].folder / "model.safetensors").read_bytes()


def test_fine_tuning_in_two_phases_learns_a_number(runs: dict[str, Run], table: Path, tmp_path: Path) -> None:
    """From the backbone of another run: a new head, then the whole network, which changes."""
    changed = {name: SMALL[name] for name in ("input.size", "training.batch", "training.precision", "number.tolerance")}
    changed |= {"phases.head.epochs": "4", "phases.head.learning_rate": "3e-2", "phases.head.draws": "1"}
    changed |= {"phases.backbone.epochs": "1", "phases.backbone.learning_rate": "1e-4"}
    changed |= {f"augment.{name}": "0" for name in ("brightness", "contrast", "saturation")}
    options = {"recipe": "finetune", "task": "number:age", "out": tmp_path / "a", "overrides": changed, "report": False}
    run = train(table, model=str(runs["huber"].folder), **options)
    result = number_of(run.evaluation)
    assert result.mean_absolute_error.high < 0.6 * result.baseline_mean_absolute_error.low
    assert [row.phase for row in run.history] == ["head"] * 4 + ["backbone"]
    before, after = (bundles.load(one.folder / "model.safetensors").weights for one in (runs["huber"], run))
    assert any((before[name] != after[name]).any() for name in before if "classifier" not in name)


def test_a_probe_of_a_number(runs: dict[str, Run], table: Path, tmp_path: Path) -> None:
    probe = {"input.size": "32", "probe.strengths": "[0.01, 1.0]"}
    options = {"model": str(runs["huber"].folder), "recipe": "probe", "overrides": probe, "report": False}
    run = train(table, task="number:age", out=tmp_path / "p", **options)
    result = number_of(run.evaluation)
    assert result.mean_absolute_error.high < 0.6 * result.baseline_mean_absolute_error.low
    with pytest.raises(UsageError, match=r"number\.head"):
        train(table, task="number:age", out=tmp_path / "q", **{**options, "overrides": {**probe, "number.head": "dex"}})


def test_both_signs_and_mirroring_are_named(runs: dict[str, Run]) -> None:
    assert runs and any("augment.flip" in event.text for event in SAID if isinstance(event, Message))


@pytest.mark.parametrize(
    ("task", "changed", "error", "said"),
    [
        ("number", {}, UsageError, "number:COLUMN"),
        ("number:word", {}, DataError, "word"),
        ("number:size", {}, FacewrightError, "size"),
        ("number:age", {"number.low": "90", "number.high": "10"}, UsageError, "low"),
        ("number:age", {"training.mixup": "0.2"}, UsageError, "mixup"),
    ],
)
def test_refusals(
    table: Path, tmp_path: Path, task: str, changed: dict[str, str], error: type[FacewrightError], said: str
) -> None:
    with pytest.raises(error, match=said):
        train(table, model="plain_cnn", task=task, out=tmp_path / "a", overrides={**SMALL, **changed})


@pytest.mark.parametrize("cell", ["1e10", "inf", "-inf", "12 years", "1,5", "0x10", "1e400"])
def test_a_value_that_is_no_number_is_refused(cell: str, table: Path) -> None:
    data = open_dataset(table, labels=False)
    place = data.columns.index("age")
    row = data.records[3]
    values = (*row.values[:place], cell, *row.values[place + 1 :])
    records = (*data.records[:3], bundles.replace(row, values=values), *data.records[4:])
    task = TaskSpec.from_dict({"targets": [{"name": "age", "kind": "number", "number": {}}]})
    with pytest.raises(DataError, match="age"):
        bundles.replace(data, records=records).with_task(task)


def test_errors_by_group(runs: dict[str, Run], table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = runs["huber"]
    found = number_of(evaluate(run.folder, table, by="side", out=tmp_path / "page"))
    page = (tmp_path / "page/report.html").read_text()
    assert "mean absolute error of age" in page.lower() and all(f">{row.name}<" in page for row in found.groups)
    predictions = {path: value[0] for path, value in predicted_of(run, table).items()}
    with table.open(newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row["age"]]
    for group in found.groups:
        errors = [abs(predictions[row["path"]] - float(row["age"])) for row in rows if row["side"] == group.name]
        assert (group.n, group.mean_absolute_error.value) == (len(errors), pytest.approx(np.mean(errors), rel=1e-3))
    assert [group.name for group in found.groups] == ["left", "right"]
    assert main(["evaluate", str(run.folder), str(table), "--by", "side"]) == 0
    assert "age by side" in capsys.readouterr().out
    with pytest.raises(UsageError, match="sides"):
        evaluate(run.folder, table, by="sides")


def predicted_of(run: Run, table: Path) -> dict[str, list[float]]:
    answers = predict(run.folder, sorted(table.parent.glob("*.png")))
    return {Path(one.path).name: [one.targets["age"].value] for one in answers if one.targets}  # type: ignore[union-attr]


def test_the_card_holds_errors_beside_the_baseline_and_what_it_is_not_for(runs: dict[str, Run]) -> None:
    card = model_card(runs["dex"].folder)
    result = number_of(runs["dex"].evaluation)
    assert card.classes == ("age",)
    assert {one.rate for one in card.measured} >= {result.mean_absolute_error, result.baseline_mean_absolute_error}
    text = markdown(card)
    assert f"| {result.mean_absolute_error.value:.4g} (" in text
    assert "Article 5(1)(f)" in text and "no document" in text


def test_the_command_line_prints_numbers(
    runs: dict[str, Run], table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = str(table.parent / "0001.png")
    assert main(["predict", str(runs["dex"].folder), image, "--csv", str(tmp_path / "a.csv")]) == 0
    with (tmp_path / "a.csv").open(newline="") as lines:
        row = next(csv.DictReader(lines))
    assert row["target"] == "age" and float(row["low"]) < float(row["answer"]) < float(row["high"])
    assert main(["predict", str(runs["dex"].folder), image, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)["predictions"][0]["targets"]["age"]
    assert answer.keys() == {"value", "low", "high", "level"}
    assert main(["evaluate", str(runs["dex"].folder)]) == 0
    assert "always the training median" in capsys.readouterr().out
