"""Evaluating a run on its own images, on data without some of its classes, and with classes it does not know."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from facewright import calibrate, evaluate, events, train
from facewright import pairs as measure_pairs
from facewright.cli.main import main
from facewright.errors import DataError, OtherClasses, UsageError
from facewright.evaluation import classification
from facewright.evaluation.classification import ClassificationResult, classify
from facewright.events import Event, Message
from facewright.runs import Run
from fixtures.faces import draw_people, write_pairs

PEOPLE, PHOTOS = 4, 10


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_people(tmp_path_factory.mktemp("data") / "faces", PEOPLE, PHOTOS)


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    small = {"input.size": "40", "training.epochs": "1", "training.batch": "8", "training.precision": "float32"}
    return train(data, model="patchnet", out=tmp_path_factory.mktemp("runs") / "a", overrides=small, report=False)


def measured(run: Run, data: Path, **options: str) -> ClassificationResult:
    result = evaluate(run.folder, data, **options)  # type: ignore[arg-type]
    assert isinstance(result, ClassificationResult)
    return result


def test_images_the_run_was_made_with_are_counted_whatever_they_are_called(
    run: Run, data: Path, tmp_path: Path
) -> None:
    counts = {part: run.facts.counts[part] for part in ("train", "validation")}
    assert measured(run, data).seen == counts
    for folder in sorted(data.iterdir()):
        (tmp_path / "copy" / folder.name).mkdir(parents=True)
        for number, photo in enumerate(sorted(folder.iterdir())):
            shutil.copy(photo, tmp_path / "copy" / folder.name / f"other-name-{100 - number}.png")
    result = measured(run, tmp_path / "copy")
    assert result.seen == counts and str(counts["train"]) in result.notes[0]
    fresh = draw_people(tmp_path / "fresh", PEOPLE, 3, seed=9)
    assert measured(run, fresh).seen == {}


def test_a_class_without_images_is_named_and_the_rest_is_classified(run: Run, data: Path, tmp_path: Path) -> None:
    fewer = shutil.copytree(data, tmp_path / "fewer")
    shutil.rmtree(fewer / "person_02")
    result = measured(run, fewer)
    assert result.classes == run.facts.classes and result.n == (PEOPLE - 1) * PHOTOS
    assert [row.name for row in result.per_class if row.n == 0] == ["person_02"]
    assert any("person_02" in note for note in result.notes)
    whole = measured(run, data)
    hits = sum(whole.confusion[place][place] for place in (0, 1, 3))
    assert result.accuracy.value == pytest.approx(hits / result.n)


@pytest.mark.parametrize(("choice", "more"), [("errors", 6), ("leave-out", 0)])
def test_a_class_the_model_does_not_know(run: Run, data: Path, tmp_path: Path, choice: str, more: int) -> None:
    known = measured(run, data)
    both = shutil.copytree(data, tmp_path / "both")
    others = draw_people(tmp_path / "others", 1, 6, seed=5)
    (others / "person_00").rename(both / "zoe")
    result = measured(run, both, unknown_classes=choice)
    right = round(known.accuracy.value * known.n)
    assert result.unknown_classes == {"zoe": 6}
    assert (result.accuracy.n, round(result.accuracy.value * result.accuracy.n)) == (known.n + more, right)
    assert any("zoe" in note for note in result.notes)
    assert ClassificationResult.model_validate(result.to_dict()) == result


def test_data_without_any_class_of_the_model(run: Run, tmp_path: Path) -> None:
    others = draw_people(tmp_path / "others", 2, 2, seed=5)
    for folder in list(others.iterdir()):
        folder.rename(others / f"x{folder.name}")
    with pytest.raises(OtherClasses, match="xperson_00"):
        evaluate(run.folder, others, task="classification")
    assert evaluate(run.folder, others).to_dict()["task"] == "verification"


def test_a_threshold_is_not_chosen_on_training_images(run: Run, data: Path, tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "own.csv", PEOPLE, PHOTOS, 20)
    with pytest.raises(DataError, match=str(run.folder)):
        calibrate(run.folder, pairs, data, 0.2, out=tmp_path / "m.safetensors")
    messages: list[Event] = []
    measured_pairs = measure_pairs(run.folder, pairs, data, on_event=messages.append)
    assert measured_pairs.to_dict()["seen"]["train"] == run.facts.counts["train"]
    assert any("no test of it" in message.text for message in messages if isinstance(message, Message))
    fresh = draw_people(tmp_path / "fresh", 5, 4, seed=9)
    other = write_pairs(tmp_path / "fresh.csv", 5, 4, 40)
    found = calibrate(run.folder, other, fresh, 0.2, confidence=0.9, out=tmp_path / "m.safetensors").threshold
    assert found.confidence == 0.9 and found.bound <= 0.2
    assert measure_pairs(run.folder, other, fresh).to_dict()["seen"] == {}


def test_rates_by_group_of_a_run_and_of_other_data(run: Run, data: Path, tmp_path: Path) -> None:
    paths = [path.relative_to(data).as_posix() for path in sorted(data.glob("*/*.png"))]
    hat = {path: "yes" if int(Path(path).stem) % 2 else "no" for path in paths}
    table = tmp_path / "hats.csv"
    table.write_text("path,hat\n" + "".join(f"{path},{hat[path]}\n" for path in paths))
    own = evaluate(run.folder, by="hat", attributes=table)
    assert isinstance(own, ClassificationResult) and own.subgroups is not None
    for row in own.subgroups.groups:
        mine = [i for i, path in enumerate(run.predictions.paths) if hat[path] == row.group]
        right = run.predictions.probabilities.argmax(axis=1) == run.predictions.labels
        assert row.accuracy is not None and (row.accuracy.n, row.accuracy.value) == (len(mine), right[mine].mean())
    labels = tmp_path / "labels.csv"
    shutil.copytree(data, tmp_path / "faces")
    labels.write_text("path,label,hat\n" + "".join(f"faces/{p},{p.split('/')[0]},{hat[p]}\n" for p in paths))
    column = measured(run, labels, by="hat").subgroups
    assert column is not None and sum(row.accuracy.n for row in column.groups if row.accuracy) == len(paths)
    pairs = evaluate(run.folder, data, task="verification", by="hat", attributes=table)
    assert not isinstance(pairs, ClassificationResult) and pairs.subgroups is not None  # type: ignore[union-attr]
    assert [row.group for row in pairs.subgroups.groups] == ["no", "yes"]  # type: ignore[union-attr]
    page = group_page(tmp_path / "pairs", run.folder, data, task="verification", attributes=table)
    assert "False non-match rate" in page and page.count("<svg") == 2
    out = tmp_path / "page"
    assert main(["evaluate", str(run.folder), "--by", "hat", "--attributes", str(table), "--out", str(out)]) == 0
    page = (out / "report.html").read_text()
    assert json.loads((out / "evaluation.json").read_text())["subgroups"] == own.subgroups.to_dict()
    assert "By hat" in page and page.count("<svg") == 1 and f"{100 * own.accuracy.value:.1f} %" in page
    for row in own.subgroups.groups:
        assert row.accuracy is not None and f"{row.group}: {100 * row.accuracy.value:.2f} %" in page
    with pytest.raises(UsageError, match="--by"):
        evaluate(run.folder, out=out)


def group_page(out: Path, *arguments: Path, **options: object) -> str:
    evaluate(*arguments, by="hat", out=out, **options)  # type: ignore[arg-type]
    return (out / "report.html").read_text()


def test_groups_that_are_nowhere(run: Run, data: Path) -> None:
    for where in (None, data):
        with pytest.raises(UsageError, match="attributes"):
            evaluate(run.folder, where, by="hat")
    with pytest.raises(UsageError):
        evaluate(run.folder, data, by="hat", task="identification")


def test_scores_that_are_too_many_to_keep_change_no_other_number(
    run: Run, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = measured(run, data)
    monkeypatch.setattr(classification, "SCORES", 10)
    monkeypatch.setattr(classification, "FEW", 1)
    monkeypatch.setattr(events, "BLOCK", 7)  # the images come in several blocks
    predicted = []
    monkeypatch.setattr(classification, "classify", lambda said, *rest: predicted.append(said) or classify(said, *rest))
    found = measured(run, data)
    assert [said.probabilities for said in predicted] == [None]
    assert not found.scores_kept and any("AUC" in note for note in found.notes)
    same = {"micro_auc": None, "macro_auc": None, "macro_average_precision": None, "scores_kept": False}
    rows = tuple(row.replace(auc=None, average_precision=None) for row in whole.per_class)
    assert found == whole.replace(**same, per_class=rows)
