"""`inspect --labels`: what it asks of the workflow, what it prints, what it refuses. The workflow is stood in for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from facewright.cli.main import main
from facewright.errors import RunError
from facewright.evaluation.label_issues import EmbeddingEvidence, LabelIssue, LabelIssues, Outlier, PartedClass
from facewright.files import as_record
from facewright.metrics.intervals import Rate
from facewright.workflows import label_issues

FOUND = LabelIssues(
    dataset="faces",
    fingerprint="f00d",
    source="a probe",
    n=100,
    folds=5,
    classes=("ann", "bo"),
    accuracy=Rate(value=0.95, low=0.9, high=0.98, n=100),
    estimated_errors=1.0,
    suspects=tuple(
        LabelIssue(
            path=f"ann/{row}.png", label="ann", suggested="bo", probability=0.1, suggested_probability=0.9, margin=-0.8
        )
        for row in range(12)
    ),
    likeness=EmbeddingEvidence(
        strangers=(Outlier(path="bo/7.png", label="bo", likeness=0.08, nearest="bo", nearest_likeness=0.08),),
        threshold=0.2,
        chance=0.01,
        parted=(PartedClass(label="bo", smaller=("s",), larger=("l", "m"), within=0.6, across=0.2, separation=0.97),),
        refused=None,
    ),
    notes=(),
)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    calls: list[Any] = []

    def find_label_issues(
        folder: Path, *, folds: int, weights: str | None, device: str | None, on_event: object
    ) -> LabelIssues:
        calls.append((str(folder), folds, weights))
        return FOUND

    def write_page(folder: Path, page: Path) -> None:
        calls.append((str(folder), page.name))

    monkeypatch.setattr(label_issues, "find_label_issues", find_label_issues)
    monkeypatch.setattr(label_issues, "write_page", write_page)
    return calls


def test_it_prints_the_three_lists(asked: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "--labels", "runs/a"]) == 0
    shown = capsys.readouterr()
    assert asked == [("runs/a", 5, None)]
    for words in ("12 ", "ann/0.png", "bo/7.png", "bo is a mixed-identity class: 2 and 1"):
        assert words in shown.out
    assert "ann/9.png" in shown.out and "ann/10.png" not in shown.out
    assert f"wrote {Path('runs/a/suspicious.json')}" in shown.err


def test_json_is_one_object_with_everything(asked: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "--labels", "runs/a", "--json", "--folds", "3", "--weights", "imagenet"]) == 0
    assert asked == [("runs/a", 3, "imagenet")]
    assert as_record(json.loads(capsys.readouterr().out), LabelIssues, "a test", error=RunError) == FOUND


def test_a_page_is_written_where_asked(asked: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "--labels", "runs/a", "--out", str(tmp_path / "labels.html")]) == 0
    assert asked[1] == ("runs/a", "labels.html")
    assert f"wrote {tmp_path / 'labels.html'}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["photos", "--labels", "runs/a"], 1, "--labels"),
        (["--labels", "runs/a", "--sheet", "a.png"], 1, "--labels"),
        (["--labels", "runs/a", "--out", "nowhere/labels.html"], 1, "nowhere"),
        (["--labels", "runs/a", "--folds", "1"], 2, "--folds"),
        (["photos", "--weights", "imagenet"], 1, "--labels"),
        (["photos", "--out", "a.html"], 1, "--labels"),
        ([], 1, "--labels"),
    ],
)
def test_refusals(
    arguments: list[str], status: int, words: str, asked: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", *arguments]) == status
    assert words in capsys.readouterr().err
    assert asked == []
