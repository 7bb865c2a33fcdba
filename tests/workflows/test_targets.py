"""Attributes from end to end on small coloured images: what is learned, what is unknown, and how a run resumes."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facewright import bundle as bundles
from facewright import compare, evaluate, predict, train, train_all
from facewright.cli.main import main
from facewright.data.sources import open_dataset
from facewright.errors import BundleError, DataError, FacewrightError, ResumeError, UnknownName, UsageError
from facewright.evaluation.targets import TargetPredictions, TaskResult
from facewright.events import Event, Message, StepFinished
from facewright.inference import Classifier
from facewright.metrics.intervals import mcnemar_exact
from facewright.report.model_card import markdown
from facewright.runs import Run
from facewright.specs import TaskSpec
from facewright.workflows import exportation, training_runs
from facewright.workflows.explanation import explain
from facewright.workflows.exportation import export
from facewright.workflows.model_card import model_card
from fixtures.targets import SMALL

DATA = Path(__file__).parents[3] / "shared"
PEOPLE, IMAGES = 24, 5


def write_images(folder: Path, header: str = "path,identity,red,bright,age,tint,v_dark,v_light", seed: int = 0) -> Path:
    """A table beside images: red ones are red, bright ones bright; every seventh row leaves `bright` empty."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    lines = [header]
    for number in range(PEOPLE * IMAGES):
        red, bright = bool(random.random() < 0.25), bool(random.random() < 0.5)
        pixels = random.integers(0, 60, (32, 32, 3)) + (120 if bright else 20)
        pixels[:, :, 0] += 70 if red else 0
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number:04}.png")
        known = "" if number % 7 == 0 else str(int(bright))
        cells = {"path": f"{number:04}.png", "identity": f"p{number // IMAGES}", "red": "yes" if red else "no"}
        level = int(pixels.mean())
        cells |= {"bright": known, "age": "" if number % 11 == 0 else str(level)}
        cells |= {
            "tint": "reddish" if red else "grey",
            "v_dark": str(1 if bright else 4),
            "v_light": str(4 if bright else 1),
        }
        lines.append(",".join(cells[name] for name in header.split(",")))
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    return folder / "table.csv"


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def run(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("runs") / "a"
    return train(table, model="plain_cnn", task="attributes", out=out, overrides=SMALL, report=False)


def result_of(run: Run) -> TaskResult:
    assert isinstance(run.evaluation, TaskResult)
    return run.evaluation


def test_columns_of_yes_and_no_are_the_targets_and_unknown_ones_are_left_out(run: Run, table: Path) -> None:
    assert run.recipe.task == TaskSpec.from_dict(
        {"targets": [{"name": n, "kind": "attribute"} for n in ("red", "bright")]}
    )
    predictions = run.predictions
    assert isinstance(predictions, TargetPredictions)
    with table.open(newline="") as lines:
        truth = {row["path"]: row["bright"] for row in csv.DictReader(lines)}
    expected = [np.nan if truth[path] == "" else float(truth[path]) for path in predictions.paths]
    np.testing.assert_array_equal(predictions.truth[:, 1], expected)
    bright = result_of(run).attributes.attributes[1]
    assert bright.n == np.isfinite(expected).sum() and bright.unknown == np.isnan(expected).sum() > 0


def test_it_learns_them_beyond_the_baseline(run: Run) -> None:
    for row in result_of(run).attributes.attributes:
        assert row.auc is not None and row.auc.value > 0.95
    assert result_of(run).attributes.mean_gain > 0.15


def test_no_person_is_in_two_parts(run: Run) -> None:
    with (run.folder / "split.csv").open(newline="") as lines:
        parts: dict[int, set[str]] = {}
        for row in csv.DictReader(lines):
            parts.setdefault(int(row["path"][:4]) // IMAGES, set()).add(row["part"])
    assert all(len(found) == 1 for found in parts.values())
    assert set.union(*parts.values()) == {"train", "validation", "test"}


def test_the_thresholds_are_of_the_validation_part_and_decide(run: Run, table: Path) -> None:
    held = {one.accepted: one for one in bundles.load(run.folder / "model.safetensors").thresholds}
    rows = {row.name: row for row in result_of(run).attributes.attributes}
    assert {name: one.value for name, one in held.items()} == {name: row.threshold for name, row in rows.items()}
    answers = predict(run.folder, table.parent / "0003.png")[0].targets
    assert answers is not None
    for name, answer in answers.items():
        assert answer.yes == (answer.probability >= held[name].value == answer.threshold)


def test_rates_by_group(run: Run, table: Path) -> None:
    """Groups of one attribute are measured at its threshold; an image where it is unknown is in none."""
    found = evaluate(run.folder, table, by="identity", attributes=_groups(table))
    assert isinstance(found, TaskResult) and found.by == "identity" and set(found.groups) == {"red", "bright"}
    first = found.groups["bright"].groups[0]
    known = [number for number in range(IMAGES) if number % 7]
    assert first.group == "p0" and first.accuracy is not None and first.accuracy.n == len(known)
    whole = evaluate(run.folder, table)
    assert isinstance(whole, TaskResult) and whole.attributes is not None
    right = sum(row.accuracy.value * row.accuracy.n for row in found.groups["bright"].groups if row.accuracy)
    of_all = whole.attributes.attributes[1].accuracy
    assert right == pytest.approx(of_all.value * of_all.n)
    tested = evaluate(run.folder, by="identity", attributes=_groups(table))
    assert isinstance(tested, TaskResult) and len(tested.groups["red"].groups) < PEOPLE


def _groups(table: Path) -> Path:
    groups = table.parent / "groups.tsv"
    lines = (f"{number:04}.png\tp{number // IMAGES}" for number in range(PEOPLE * IMAGES))
    groups.write_text("path\tidentity\n" + "\n".join(lines) + "\n")
    return groups


def test_a_bundle_alone_predicts_and_evaluates(run: Run, table: Path, tmp_path: Path) -> None:
    model = tmp_path / "copy.safetensors"
    model.write_bytes((run.folder / "model.safetensors").read_bytes())
    predictions = run.predictions
    assert isinstance(predictions, TargetPredictions)
    answers = predict(model, [table.parent / path for path in predictions.paths])
    found = [[one.targets[name].probability for name in ("red", "bright")] for one in answers if one.targets]
    np.testing.assert_allclose(found, predictions.values, atol=1e-5)
    other = evaluate(model, table)
    assert isinstance(other, TaskResult) and other.n == PEOPLE * IMAGES and not other.seen
    seen = evaluate(run, table)
    assert isinstance(seen, TaskResult) and seen.seen["train"] > 0
    assert seen.attributes == other.attributes


def test_stopped_and_resumed_it_ends_in_the_same_bits(run: Run, table: Path, tmp_path: Path) -> None:
    def stop(event: Event) -> None:
        if isinstance(event, StepFinished) and event.epoch == 3:
            raise KeyboardInterrupt

    changed = {**SMALL, "training.checkpoint_steps": "5"}
    options = {"model": "plain_cnn", "task": "attributes", "out": tmp_path / "b", "overrides": changed, "report": False}
    with pytest.raises(KeyboardInterrupt):
        train(table, **options, on_event=stop)
    again = train(table, **options, resume=True)
    assert (again.folder / "model.safetensors").read_bytes() == (run.folder / "model.safetensors").read_bytes()
    with pytest.raises(ResumeError):
        train(table, **{**options, "task": "attributes:red"}, resume=True)


def test_a_probe_and_focal_loss_learn_them_too(run: Run, table: Path, tmp_path: Path) -> None:
    probe = train(
        table,
        model=str(run.folder),
        task="attributes:bright",
        recipe="probe",
        out=tmp_path / "p",
        overrides={"input.size": "32", "probe.strengths": "[1.0]"},
        report=False,
    )
    assert [row.name for row in result_of(probe).attributes.attributes] == ["bright"]
    assert result_of(probe).attributes.attributes[0].accuracy.value > 0.9
    focal = train(
        table,
        model="plain_cnn",
        task="attributes:red",
        out=tmp_path / "f",
        overrides={**SMALL, "objective.kind": "focal", "training.label_smoothing": "0", "head.kind": "hidden-256"},
        report=False,
    )
    assert result_of(focal).attributes.attributes[0].auc.value > 0.9  # type: ignore[union-attr]
    assert bundles.load(focal.folder / "model.safetensors").head.kind == "hidden-256"  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def several(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Five targets in one network, their losses weighed by uncertainty."""
    task = "age:number,tint:classes,red:attribute"
    out = tmp_path_factory.mktemp("runs") / "several"
    changed = {**SMALL, "objective.weighting": "uncertainty", "training.checkpoint_steps": "5"}
    return train(table, model="plain_cnn", task=task, out=out, overrides=changed, report=False)


def test_one_network_learns_several_targets(several: Run, table: Path) -> None:
    result = result_of(several)
    (age,) = result.numbers
    assert age.mean_absolute_error.value < 0.5 * age.baseline_mean_absolute_error.value
    assert age.interval is not None or age.n
    assert result.classes["tint"].accuracy.value > 0.9 and result.classes["tint"].classes == ("grey", "reddish")
    assert result.attributes is not None and result.attributes.attributes[0].auc.value > 0.9  # type: ignore[union-attr]
    answers = predict(several.folder, table.parent / "0003.png")[0].targets
    assert answers is not None and list(answers) == ["age", "tint", "red"]
    assert answers["tint"].to_dict().keys() == {"name", "probability", "probabilities"}
    stored = bundles.load(several.folder / "model.safetensors").task
    assert stored is not None and stored.targets[0].number is not None
    with table.open(newline="") as lines:
        ages = {row["path"]: float(row["age"]) for row in csv.DictReader(lines) if row["age"]}
    with (several.folder / "split.csv").open(newline="") as lines:
        training = [
            ages[row["path"]] for row in csv.DictReader(lines) if row["part"] == "train" and row["path"] in ages
        ]
    assert stored.targets[0].number.median == pytest.approx(np.median(training))
    again = evaluate(several, table)
    assert isinstance(again, TaskResult) and again.numbers[0].baseline == stored.targets[0].number.median


def test_several_targets_resume_to_the_same_bits(several: Run, table: Path, tmp_path: Path) -> None:
    def stop(event: Event) -> None:
        if isinstance(event, StepFinished) and event.epoch == 2:
            raise KeyboardInterrupt

    options = {"model": "plain_cnn", "recipe": several.folder / "recipe.toml", "out": tmp_path / "b", "report": False}
    with pytest.raises(KeyboardInterrupt):
        train(table, **options, on_event=stop)
    again = train(table, **options, resume=True)
    assert (again.folder / "model.safetensors").read_bytes() == (several.folder / "model.safetensors").read_bytes()


def test_votes_are_learned_measured_beside_the_annotators_and_resume_to_the_same_bits(
    table: Path, tmp_path: Path
) -> None:
    def stop(event: Event) -> None:
        if isinstance(event, StepFinished) and event.epoch == 3:
            raise KeyboardInterrupt

    changed = {**SMALL, "training.checkpoint_steps": "5"}
    options = {"model": "plain_cnn", "task": "votes:v_dark,v_light", "overrides": changed, "report": False}
    run = train(table, out=tmp_path / "a", **options)
    with pytest.raises(KeyboardInterrupt):
        train(table, out=tmp_path / "b", **options, on_event=stop)
    again = train(table, out=tmp_path / "b", **options, resume=True)
    assert (again.folder / "model.safetensors").read_bytes() == (run.folder / "model.safetensors").read_bytes()
    votes = result_of(run).votes["votes"]
    assert votes.accuracy is not None and votes.accuracy.value > 0.9
    assert votes.annotators_agree is not None and votes.annotators_agree.value == pytest.approx(12 / 20)
    assert run.predictions.truth.shape[1] == 2  # type: ignore[union-attr]


def test_a_probe_fits_numbers_and_classes(run: Run, table: Path, tmp_path: Path) -> None:
    changed = {"input.size": "32", "probe.strengths": "[1.0, 100.0]"}
    probe = train(
        table,
        model=str(run.folder),
        task="age:number,tint:classes",
        recipe="probe",
        out=tmp_path / "p",
        overrides=changed,
        report=False,
    )
    (age,) = result_of(probe).numbers
    assert age.mean_absolute_error.value < 0.5 * age.baseline_mean_absolute_error.value
    assert result_of(probe).classes["tint"].n > 10
    with pytest.raises(UsageError, match="probe"):
        train(
            table,
            model=str(run.folder),
            task="votes:v_dark,v_light",
            recipe="probe",
            out=tmp_path / "q",
            overrides=changed,
        )


def test_a_table_without_labels_opens_for_a_task_only(tmp_path: Path) -> None:
    table = write_images(tmp_path, "path,red,bright")
    with pytest.raises(DataError, match="label"):
        open_dataset(table)
    data = open_dataset(table, labels=False)
    assert data.classes == () and data.columns == ("red", "bright") and len(data) == PEOPLE * IMAGES


def test_the_fingerprint_knows_the_targets(table: Path) -> None:
    data = open_dataset(table)
    task = TaskSpec.from_dict({"targets": [{"name": "red", "kind": "attribute"}]})
    other = data.with_task(TaskSpec.from_dict({"targets": [{"name": "bright", "kind": "attribute"}]}))
    digests = ["x"] * len(data)
    assert len({one.fingerprint(digests) for one in (data, other, data.with_task(task))}) == 3


@pytest.mark.parametrize(
    ("task", "changed", "error", "said"),
    [
        ("attributes:hat", {}, UnknownName, "hat"),
        ("attributes:age", {}, DataError, "age"),
        ("number:red", {}, DataError, "red"),
        ("age:number,red:hat", {}, UsageError, "hat"),
        ("votes:v_dark", {}, UsageError, "two classes"),
        ("number:age", {"objective.kind": "focal", "training.label_smoothing": "0"}, UsageError, "attributes"),
        ("attributes:", {}, UsageError, "attributes"),
        ("colours", {}, UsageError, "attributes"),
        ("attributes", {"training.mixup": "0.2"}, UsageError, "mixup"),
        (
            "attributes",
            {"objective.kind": "arcface", "head.kind": "cosine", "head.scale": "32", "training.label_smoothing": "0"},
            UsageError,
            "arcface",
        ),
        ("attributes", {"sampling.plan": "over"}, UsageError, "over"),
    ],
)
def test_refusals(
    table: Path, tmp_path: Path, task: str, changed: dict[str, str], error: type[FacewrightError], said: str
) -> None:
    with pytest.raises(error, match=said):
        train(table, model="plain_cnn", task=task, out=tmp_path / "a", overrides={**SMALL, **changed})


def test_an_attribute_that_is_always_yes_is_refused(tmp_path: Path) -> None:
    table = write_images(tmp_path)
    table.write_text(table.read_text().replace(",no,", ",yes,"))
    with pytest.raises(DataError, match="no training image has no for red"):
        train(table, model="plain_cnn", task="attributes:red", out=tmp_path.parent / "always", overrides=SMALL)


def test_what_needs_classes_refuses_a_model_of_targets(run: Run, table: Path, tmp_path: Path) -> None:
    classifier = Classifier.load(run.folder)
    with pytest.raises(UsageError, match="red, bright"):
        classifier.probabilities(np.zeros((1, 32, 32, 3), np.uint8))
    bundle = bundles.load(run.folder / "model.safetensors")
    path = tmp_path / "wrong.safetensors"
    bundles.save(path, bundles.replace(bundle, classes=("red", "dark")))
    with pytest.raises(BundleError, match="red, bright"):
        bundles.load(path)


def test_a_model_file_whose_number_has_no_range_is_refused(several: Run, tmp_path: Path) -> None:
    bundle = bundles.load(several.folder / "model.safetensors")
    table = bundle.task.to_dict()  # type: ignore[union-attr]
    table["targets"][0]["number"] |= {"low": None}
    bundles.save(tmp_path / "a.safetensors", bundles.replace(bundle, task=TaskSpec.from_dict(table)))
    with pytest.raises(BundleError, match="range"):
        bundles.load(tmp_path / "a.safetensors")


def test_the_command_line_prints_answers(run: Run, table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = str(table.parent / "0001.png")
    assert main(["predict", str(run.folder), image]) == 0
    assert "red yes" in (out := capsys.readouterr().out) or "red no" in out
    assert main(["predict", str(run.folder), image, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)["predictions"][0]
    assert answer["targets"].keys() == {"red", "bright"} and answer["targets"]["red"].keys() >= {"yes", "probability"}
    assert main(["evaluate", str(run.folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["attributes"]["attributes"][0]["name"] == "red"


def test_two_models_are_compared_by_attribute_with_mcnemar_and_holm(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = {**SMALL, "training.epochs": "1", "optimizer.learning_rate": "1e-4"}
    weak, good = (
        train(
            table,
            model="plain_cnn",
            task="attributes:red,bright",
            out=tmp_path / name,
            overrides=changed,
            report=name == "good",
        )
        for name, changed in (("weak", few), ("good", SMALL))
    )
    compared = compare([weak, good]).comparison
    assert [pair.attribute for pair in compared.pairs] == ["red", "bright"]
    for place, pair in enumerate(compared.pairs):
        right = []
        for run in (weak, good):
            limit = result_of(run).attributes.attributes[place].threshold
            known = ~np.isnan(run.predictions.truth[:, place])
            right.append(((run.predictions.values >= limit) == (run.predictions.truth == 1))[known, place])
        assert pair.p_value == pytest.approx(mcnemar_exact(*right))
        assert pair.holm_p_value >= pair.p_value
    page = (good.folder / "report.html").read_text()
    assert "bright" in page and "average precision" in page and "<script" not in page
    assert main(["compare", str(weak.folder), str(good.folder), "--out", str(tmp_path / "both")]) == 0
    assert "red: weak - good" in capsys.readouterr().out
    assert "Differences by attribute" in (tmp_path / "both/report.html").read_text()
    other = train(table, model="plain_cnn", task="number:age", out=tmp_path / "c", overrides=few)
    assert "Root mean square" in (other.folder / "report.html").read_text()
    with pytest.raises(UsageError):
        compare([weak, other])


def test_several_models_are_trained_on_a_table_without_labels_and_compared(tmp_path: Path) -> None:
    table = write_images(tmp_path / "data", "path,red,bright")
    few = {**SMALL, "training.epochs": "1"}
    options = {"task": "attributes", "out": tmp_path / "both", "overrides": few}
    compared = train_all(table, ["plain_cnn", "squeezenet1_1"], **options)
    assert [entry.name for entry in compared.comparison.models] == ["plain_cnn", "squeezenet1_1"]
    assert (tmp_path / "both/report.html").is_file() and len(compared.comparison.pairs) == 2


def test_a_budget_gives_targets_the_epochs_that_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = write_images(tmp_path / "data", "path,red,bright")
    told: list[Message] = []
    own = training_runs.dry_run
    monkeypatch.setattr(training_runs, "dry_run", lambda *a, **b: own(*a, **b).replace(seconds=1e6))
    options = {"task": "attributes", "overrides": SMALL, "out": tmp_path / "one", "on_event": told.append}
    compared = train_all(table, ["plain_cnn"], budget=100.0, **options)
    assert compared.runs[0].facts.epochs == 1
    assert any(re.search(r"1 of \d+ epochs fit", one.text) for one in told if isinstance(one, Message))


def test_an_exported_model_gives_the_same_answers(several: Run, table: Path, tmp_path: Path) -> None:
    out = tmp_path / "several.onnx"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(exportation, "FEWEST", 24)
        done = export(several.folder, out=out)
    assert done.agreement.problem is None and done.agreement.decisions >= 2 * 24
    image = table.parent / "0003.png"
    ours, theirs = (predict(model, image)[0].targets for model in (several.folder, out))
    assert ours is not None and theirs is not None
    assert theirs["age"].value == pytest.approx(ours["age"].value, abs=1e-3)  # type: ignore[union-attr]
    assert theirs["red"].to_dict() == pytest.approx(ours["red"].to_dict(), abs=1e-4)


def test_int8_is_measured_target_by_target_at_the_same_thresholds(
    several: Run, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other, out = write_images(tmp_path / "other", "path,red", seed=1), tmp_path / "small.onnx"
    command = ["export", str(several.folder), "--quantise", "int8", "--calibration", str(other), "--check", str(table)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(exportation, "FEWEST", 24)
        assert main([*command, "--out", str(out), "--json"]) == 0
    costs = json.loads(capsys.readouterr().out)["quantised"]["targets"]
    age, tint, red = costs
    ours, theirs = (evaluate(model, table) for model in (several, out))
    assert isinstance(ours, TaskResult) and isinstance(theirs, TaskResult)
    for key, result in (("float32", ours), ("int8", theirs)):
        assert age[key]["value"] == pytest.approx(result.numbers[0].mean_absolute_error.value, rel=1e-3)
        assert tint[key]["value"] == result.classes["tint"].accuracy.value
        assert red[key]["value"] == result.attributes.attributes[0].accuracy.value  # type: ignore[union-attr]
    assert Classifier.load(out).limits == Classifier.load(several.folder).limits != {}
    images = sorted(table.parent.glob("*.png"))
    answers = [[one.targets for one in predict(model, images)] for model in (several.folder, out)]
    pairs = list(zip(*answers, strict=True))
    apart = max(abs(one["red"].probability - other["red"].probability) for one, other in pairs)  # type: ignore[index, union-attr]
    assert red["furthest"] == pytest.approx(apart, abs=1e-5) and 0 < apart < 0.3
    changed = sum(one["red"].yes != other["red"].yes for one, other in pairs)  # type: ignore[index, union-attr]
    assert red["changed"]["value"] == changed / len(images) and age["changed"] is None
    with pytest.raises(UnknownName, match="age"):
        export(several.folder, tmp_path / "a.onnx", quantise="int8", calibration=table, check=other)


def test_the_card_holds_each_target_beside_its_baseline(several: Run) -> None:
    result, card = result_of(several), model_card(several.folder)
    text = markdown(card)
    rates = {one.what: one.rate for one in card.measured}
    assert result.attributes is not None
    assert rates["red: accuracy"] == result.attributes.attributes[0].accuracy
    assert rates["red: always the majority"] == result.attributes.attributes[0].baseline
    assert rates["tint: accuracy"] == result.classes["tint"].accuracy
    assert rates["age: mean absolute error"] == result.numbers[0].mean_absolute_error
    assert "3 targets: age, tint, red" in text and "| attribute red | " in text


def test_a_map_shows_what_speaks_for_an_attribute_and_for_a_class(several: Run, table: Path) -> None:
    image = table.parent / "0003.png"
    for name in ("red", "tint: grey"):
        (shown,) = explain(several.folder, [image], name=name).photos
        assert shown.error is None and shown.heat is not None and 0 <= shown.probability <= 1
    with pytest.raises(UnknownName, match="age"):
        explain(several.folder, [image], name="age")


@pytest.mark.realdata
def test_a_probe_on_faces_of_known_people_beats_the_baseline(tmp_path: Path) -> None:
    table, weights = DATA / "data/lfw_view1_train/attributes.csv", DATA / "weights/mobilefacenet_arcface.safetensors"
    if not (table.is_file() and weights.is_file()):
        pytest.skip("needs ../shared/data/lfw_view1_train and ../shared/weights/mobilefacenet_arcface.safetensors")
    run = train(table, model=f"mobilefacenet@{weights}", recipe="probe", task="attributes", out=tmp_path / "a")
    for row in result_of(run).attributes.attributes:
        assert row.accuracy.low > row.baseline.high
