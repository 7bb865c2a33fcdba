"""A fit from end to end, by the functions and by the command line; the page; new rows; what is refused."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facewright.cli.main import main
from facewright.errors import DataError, RunError, UsageError
from facewright.evaluation.number_metrics import mean_absolute_error
from facewright.regression import fitting
from facewright.regression.points import open_points
from facewright.regression.regressor import load
from facewright.regression.run import Fit, fit, predict_rows

QUICK = {"network.hidden": "[6]", "training.epochs": "30"}
SET = ["--set", "network.hidden=[6]", "--epochs", "30", "--quiet"]
WHERE = "function:monkey-saddle?points=80&seed=1"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Fit:
    return fit(WHERE, out=tmp_path_factory.mktemp("fit") / "run", overrides=QUICK)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def test_a_run_holds_everything(run: Fit) -> None:
    assert {path.name for path in run.folder.iterdir()} - {".lock"} == {
        "recipe.toml", "split.csv", "metrics.csv", "model.safetensors", "evaluation.json", "predictions.csv",
        "report.html", "run.json",
    }  # fmt: skip
    recipe = fitting.load(run.folder / "recipe.toml")
    assert (recipe.optimizer.name, recipe.network.hidden) == ("levenberg-marquardt", (6,))  # auto is resolved
    parts = [row["part"] for row in rows_of(run.folder / "split.csv")]
    assert {part: parts.count(part) for part in set(parts)} == run.facts.counts == {
        "train": 56, "validation": 12, "test": 12
    }  # fmt: skip
    assert run.facts.finished is not None
    assert run.facts.epochs == int(rows_of(run.folder / "metrics.csv")[-1]["epoch"]) <= 30
    assert Fit(run.folder).facts == run.facts


def test_the_numbers_are_those_of_the_predictions_of_the_file(run: Fit) -> None:
    rows, points = rows_of(run.folder / "predictions.csv"), open_points(WHERE)
    numbers = [int(row["row"]) - 1 for row in rows]
    np.testing.assert_array_equal([float(row["z"]) for row in rows], points.targets[numbers, 0])
    said = np.array([float(row["predicted_z"]) for row in rows])
    np.testing.assert_array_equal(said, load(run.folder).predict(points.inputs)[numbers, 0])
    assert run.evaluation.mean_absolute_error == mean_absolute_error(points.targets[numbers, 0], said)
    assert run.evaluation.average_l2_error == run.evaluation.mean_absolute_error
    tested = {int(row["row"]) for row in rows_of(run.folder / "split.csv") if row["part"] == "test"}
    assert tested == {number + 1 for number in numbers}


def test_only_training_rows_are_standardised_by(run: Fit) -> None:
    points = open_points(WHERE)
    train = points.inputs[points.split(0, 0.15, 0.15).train]
    for column, values in zip(run.regressor.header.inputs, train.T, strict=True):
        assert (column.mean, column.scale) == pytest.approx((values.mean(), values.std()))
        assert (column.low, column.high) == (values.min(), values.max())


def test_equal_seeds_give_equal_files(run: Fit, tmp_path: Path) -> None:
    again = fit(WHERE, out=tmp_path / "again", overrides=QUICK)
    for name in ("model.safetensors", "evaluation.json", "predictions.csv", "split.csv"):
        assert (again.folder / name).read_bytes() == (run.folder / name).read_bytes()
    other = fit(WHERE, out=tmp_path / "other", overrides=QUICK, seed=1)
    assert (other.folder / "split.csv").read_bytes() != (run.folder / "split.csv").read_bytes()


def test_the_page_stands_alone(run: Fit) -> None:
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert not re.findall(r"(?:src|href)=\"(?!#|data:)[^\"]*\"|@import|url\((?!#)", page)
    assert "default-src 'none'" in page
    assert "<script" not in page
    assert page.count('<svg class="plot"') == 5  # surface, learning, and three of the errors
    assert "z = x³ − 3xy²" in page
    assert not re.search(r"\bnan\b|\bNone\b|#f1d0", page)
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(("where", "figures"), [("function:sinc?points=40", 5), ("function:friedman?points=40", 4)])
def test_one_input_gives_a_curve_and_five_none(tmp_path: Path, where: str, figures: int) -> None:
    page = (fit(where, out=tmp_path / "run", overrides=QUICK).folder / "report.html").read_text(encoding="utf-8")
    assert page.count('<svg class="plot"') == figures
    assert ("fitted function and the points" in page) == (figures == 5)


def hostile(folder: Path) -> Path:
    """Two targets, a column that stands still, and a name that would be markup."""
    random = np.random.default_rng(0)
    rows = [(a, b, 7, a + b, a - 2 * b) for a, b in random.normal(size=(60, 2)).tolist()]
    path = folder / "rows.csv"
    path.write_text("<b>a</b>,b,still,u,v\n" + "\n".join(",".join(map(str, row)) for row in rows), encoding="utf-8")
    return path


def test_two_targets_and_foreign_names(tmp_path: Path) -> None:
    run = fit(hostile(tmp_path), targets=["u", "v"], out=tmp_path / "run", overrides=QUICK)
    assert [target.name for target in run.evaluation.targets] == ["u", "v"]
    assert run.evaluation.average_l2_error.value > run.evaluation.mean_absolute_error.value
    assert len(run.facts.notes) == 1 and "still" in run.facts.notes[0]
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert "<b>a</b>" not in page
    assert "&lt;b&gt;a&lt;/b&gt;" in page
    (said,) = predict_rows(run.folder, [tmp_path / "rows.csv"])
    assert said.predicted.shape == (60, 2)


def test_new_rows(run: Fit, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("y,x\n10,5\n-20,-3\n10,500\n")
    (said,) = predict_rows(run.folder / "model.safetensors", [path])
    np.testing.assert_array_equal(said.predicted, run.regressor.predict(np.array([[5.0, 10], [-3, -20], [500, 10]])))
    assert said.beyond.tolist() == [False, False, True]
    back = list(csv.DictReader(said.to_csv().splitlines()))
    assert [float(row["predicted_z"]) for row in back] == said.predicted[:, 0].tolist()


def ask(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = main(words)
    said = capsys.readouterr()
    return status, said.out, said.err


def test_fit_by_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = str(tmp_path / "run")
    status, said, told = ask(capsys, "fit", WHERE, "--out", out, "--json", *SET)
    facts: dict[str, Any] = json.loads(said)
    assert (status, facts["task"], facts["run"]) == (0, "regression", out)
    assert facts["test"]["mean_absolute_error"]["n"] == facts["test"]["n"] == 12
    assert facts["test"]["always_the_mean"]["mean_absolute_error"]["value"] > 0
    assert f"run: {out}" in told
    rows = tmp_path / "rows.tsv"
    rows.write_text("x\ty\n1\t2\n")
    status, said, _ = ask(capsys, "predict", out, str(rows), "--json")
    assert status == 0
    (row,) = json.loads(said)["predictions"][0]["rows"]
    assert row.keys() == {"row", "predicted", "beyond"}
    status, said, _ = ask(capsys, "predict", out, str(rows))
    assert said.splitlines()[0] == "x,y,predicted_z,beyond"
    status, said, told = ask(capsys, "predict", out, str(rows), "--csv", str(tmp_path / "said.csv"))
    assert (status, said) == (0, "")
    assert rows_of(tmp_path / "said.csv")[0]["predicted_z"] == str(row["predicted"]["z"])


def test_fit_says_its_numbers_to_people(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rows = str(hostile(tmp_path))
    status, said, told = ask(capsys, "fit", rows, "--target", "u, v", "--out", str(tmp_path / "run"), *SET)
    assert status == 0
    assert re.search(r"^average L2 error +\S+ \(\S+ to \S+, n=9\)$", said, re.MULTILINE)
    assert "v: mean absolute error" in said
    assert "note: " in told and "still" in told


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["fit", "rows.csv", "--target", "w"], "unknown column of"),
        (["fit", "rows.csv", "--set", "training.epoch=3"], "did you mean 'training.epochs'?"),
        (["fit", "rows.csv", "--recipe", "adm"], "did you mean 'adam'?"),
        (["fit", "absent.csv"], "no such file"),
        (["predict", "run", "absent.csv"], "no such file"),
        (["predict", "run", "rows.csv"], "column 'x' is missing"),
        (["fit", "rows.csv", "--out", "run"], "a run is already there"),
    ],
)
def test_refusals_are_one_line(
    run: Fit, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    words: list[str], said: str,
) -> None:  # fmt: skip
    hostile(tmp_path)
    (tmp_path / "run").symlink_to(run.folder)
    monkeypatch.chdir(tmp_path)
    status, out, told = ask(capsys, *words)
    assert (status, out) == (1, "")
    assert told.startswith("error: ")
    assert told.count("\n") == 1
    assert said in told


def test_what_cannot_be_fitted(tmp_path: Path) -> None:
    big = tmp_path / "big.csv"
    big.write_text("a,b\n" + "\n".join(f"{i},{i}e300" for i in range(30)))
    with pytest.raises(DataError, match=r"big\.csv"):
        fit(big, out=tmp_path / "run")
    lone = tmp_path / "lone.csv"
    lone.write_text("a,b\n" + "\n".join(f"{i},{int(i == 3)}" for i in range(20)))
    held_out = next(seed for seed in range(99) if 3 not in open_points(lone).split(seed, 0.15, 0.15).train)
    with pytest.raises(DataError, match="target b is 0"):
        fit(lone, out=tmp_path / "run", seed=held_out)
    assert not (tmp_path / "run").exists()


def test_what_is_no_fit(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"run\.json"):
        Fit(tmp_path).facts  # noqa: B018
    (tmp_path / "run.json").write_text('{"classes": []}')
    with pytest.raises(RunError, match=r"run\.json"):
        Fit(tmp_path).facts  # noqa: B018
    with pytest.raises(UsageError, match="unknown recipe"):
        fit(WHERE, recipe="scratch", out=tmp_path / "run")
