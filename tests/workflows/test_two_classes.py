"""Two classes of unequal size, numbered pictures in a zip: from training to answers by the threshold."""

from __future__ import annotations

import csv
import json
import re
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facewright import bundle as bundles
from facewright import evaluate, predict, train
from facewright.cli.main import main
from facewright.errors import BundleError, FacewrightError, Undefined, UsageError
from facewright.evaluation.binary import labelled_scores
from facewright.evaluation.classification import ClassificationResult
from facewright.inference import Classifier
from facewright.metrics.binary import binary_errors, choose_binary_threshold
from facewright.metrics.thresholds import class_threshold
from facewright.runs import Run, read_predictions

SMALL = {"training.epochs": "3", "input.size": "32", "training.batch": "8", "training.precision": "float32"}


def numbered(folder: Path, rare: int, often: int, seed: int = 0) -> Path:
    """A zip of numbered pictures, one label a line: 0 is reddish and rare, 1 is bluish; hard to tell for some."""
    random = np.random.default_rng(seed)
    labels = random.permutation([0] * rare + [1] * often)
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / "covered.zip", "w") as archive:
        for number, label in enumerate(labels, start=1):
            pixels = random.integers(0, 256, (32, 32, 3)) * 0.6
            pixels[:, :, 2 if label else 0] += random.uniform(10, 100)
            with archive.open(f"train_img/{number:06}.png", "w") as file:
                Image.fromarray(pixels.astype(np.uint8)).save(file, "PNG")
        archive.writestr("label_train.txt", "".join(f"{label}\n" for label in labels))
    return folder / "covered.zip"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return numbered(tmp_path_factory.mktemp("data"), rare=24, often=96)


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("runs") / "a"
    return train(data, model="plain_cnn", recipe="hter-undersample", out=out, overrides=SMALL)


def test_the_threshold_is_of_validation_and_the_rates_of_test(run: Run) -> None:
    result = run.evaluation.binary
    assert result is not None
    validation = read_predictions(run.folder / "validation_predictions.csv", run.facts.classes)
    assert len(validation.paths) == run.facts.counts["validation"]
    assert not set(validation.paths) & set(run.predictions.paths)
    scores, positive = labelled_scores(validation)
    assert result.threshold == choose_binary_threshold(scores[positive], scores[~positive], "min-hter")
    scores, positive = labelled_scores(run.predictions)
    assert result.hter == binary_errors(scores[positive], scores[~positive], result.threshold).hter
    assert (result.accepted, result.positives + result.negatives) == ("1", run.evaluation.n)


def test_the_best_epoch_is_that_of_the_least_validation_hter(run: Run) -> None:
    result = run.evaluation.binary
    assert result is not None
    assert result.validation_hter == pytest.approx(-max(row.validation_score for row in run.history))


def test_the_threshold_travels_with_the_weights(run: Run) -> None:
    bundle = bundles.load(run.folder / "model.safetensors")
    record = class_threshold(bundle.thresholds, bundle.classes)
    assert record is not None and run.evaluation.binary is not None
    assert record.value == run.evaluation.binary.threshold
    assert record.data == f"validation part of covered, {run.facts.counts['validation']} images"
    assert record.hter.value == run.evaluation.binary.validation_hter


def test_a_changed_file_of_a_run_is_named(run: Run, tmp_path: Path) -> None:
    names = ["recipe.toml", "split.csv", "metrics.csv", "evaluation.json", "predictions.csv", "model.safetensors"]
    assert set(json.loads((run.folder / "manifest.json").read_text())) >= {*names, "run.json"}
    for name in names:
        copy = shutil.copytree(run.folder, tmp_path / name)
        content = bytearray((copy / name).read_bytes())
        content[-2] ^= 1
        (copy / name).write_bytes(content)
        with pytest.raises(FacewrightError, match=re.escape(name)):
            _ = Run(copy).classifier


def test_a_threshold_between_other_classes_is_refused(run: Run, tmp_path: Path) -> None:
    bundle = bundles.load(run.folder / "model.safetensors")
    (threshold,) = bundle.thresholds
    bundles.save(tmp_path / "m.safetensors", replace(bundle, thresholds=(threshold.replace(accepted="other"),)))
    with pytest.raises(BundleError, match="other"):
        Classifier.load(tmp_path / "m.safetensors")


def test_pictures_are_answered_by_the_threshold(run: Run, data: Path) -> None:
    said = {row.path.removeprefix(f"{data}/"): row for row in predict(run.folder, [data], top_k=1)}
    assert len(said) == 120
    assert run.evaluation.binary is not None
    threshold = run.evaluation.binary.threshold
    for path, score in zip(run.predictions.paths, run.predictions.probabilities[:, 1], strict=True):
        answer = said[path].answer
        assert answer is not None
        assert answer.score == pytest.approx(score, abs=1e-6)
        assert (answer.accepted, answer.threshold) == ("1", threshold)
        assert answer.name == said[path].names[0] == ("1" if answer.score >= threshold else "0")


def test_a_table_of_unlabelled_pictures_in_the_order_of_their_numbers(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "test_img").mkdir()
    for number in (10, 9, 1):
        Image.new("RGB", (40, 40), (0, 0, 20 * number)).save(tmp_path / "test_img" / f"{number}.png")
    (tmp_path / "test_img" / "2.png").write_bytes(b"no image")
    table = tmp_path / "said.csv"
    assert main(["predict", str(run.folder), str(tmp_path / "test_img"), "--csv", str(table), "-q"]) == 0
    with table.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert [Path(row["path"]).name for row in rows] == ["1.png", "2.png", "9.png", "10.png"]
    assert rows[1]["predicted"] == "" and rows[1]["error"]
    for row in (rows[0], *rows[2:]):
        assert row["predicted"] == ("1" if float(row["score"]) >= float(row["threshold"]) else "0")
    capsys.readouterr()
    assert main(["predict", str(run.folder), str(tmp_path / "test_img" / "9.png"), "--json", "-q"]) == 0
    (printed,) = json.loads(capsys.readouterr().out)["predictions"]
    assert set(printed["answer"]) == {"name", "score", "accepted", "threshold"}


def test_the_command_says_the_hter(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run.folder), "-q"]) == 0
    out = capsys.readouterr().out
    assert "HTER " in out and "FAR " in out and "at 0.5 " in out
    assert main(["evaluate", str(run.folder), "--json", "-q"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert run.evaluation.binary is not None
    assert facts["binary"]["hter"] == run.evaluation.binary.hter.to_dict()


def test_other_data_are_judged_at_the_same_threshold(run: Run, tmp_path: Path) -> None:
    found = evaluate(run.folder, str(numbered(tmp_path, rare=5, often=9, seed=1))).binary
    assert found is not None and run.evaluation.binary is not None
    assert (found.positives, found.negatives) == (9, 5)
    assert found.threshold == run.evaluation.binary.threshold


def test_a_model_file_is_evaluated_at_the_threshold_it_holds(run: Run, tmp_path: Path) -> None:
    other = numbered(tmp_path, rare=10, often=20, seed=1)
    of_run, of_file = (evaluate(model, other) for model in (run.folder, run.folder / "model.safetensors"))
    assert isinstance(of_run, ClassificationResult) and isinstance(of_file, ClassificationResult)
    assert of_run.binary is not None and of_file.binary is not None
    assert of_file.binary == of_run.binary.replace(validation_hter=None, epc=None)


def test_the_report_says_it(run: Run) -> None:
    page = (run.folder / "report.html").read_text()
    assert "As a yes or no" in page
    assert "Under-sampling: " in page
    assert "Expected performance" in page and "DET" in page
    assert (
        ">nan" not in page.lower() and "undefined" not in page.partition("As a yes or no")[2].partition("Mistakes")[0]
    )


def test_what_could_not_be_judged_is_refused_before_training(data: Path, tmp_path: Path) -> None:
    rule = SMALL | {"threshold.rule": "far=0.01"}
    with pytest.raises(Undefined, match="it takes at least 100"):
        train(data, model="plain_cnn", recipe="hter-weighted", out=tmp_path / "a", overrides=rule)
    faces = "synthetic:faces?identities=3&images=6&size=32"
    with pytest.raises(UsageError, match="two classes, the data has 3"):
        train(faces, model="plain_cnn", recipe="hter-weighted", out=tmp_path / "b", overrides=SMALL)
    assert not (tmp_path / "a" / "metrics.csv").exists()
