"""Presentation attack detection: the rates by a loop over the rows, the threshold from other scores, bad files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from facewright import evaluate
from facewright.cli.main import main
from facewright.errors import DataError, EmptyScores, FacewrightError, UsageError
from facewright.evaluation.binary import AttackResult, evaluate_attacks


def written(path: Path, seed: int) -> list[tuple[float, str]]:
    rng = np.random.default_rng(seed)
    kinds = ["bona fide", "print", "replay", "3D mask"]
    rows = [(float(rng.normal(1.5 * (kind == "bona fide"), 1)), kind) for kind in rng.choice(kinds, 200)]
    path.write_text("id,score,attack\n" + "".join(f"{n},{score!r},{kind}\n" for n, (score, kind) in enumerate(rows)))
    return rows


def test_rates_of_each_type(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = written(tmp_path / "test.csv", 0)
    result = evaluate(tmp_path / "test.csv", task="attack", threshold=0.75)
    assert isinstance(result, AttackResult)
    for row in result.attacks:
        of_type = [score for score, kind in rows if kind == row.attack]
        hits = sum(score >= 0.75 for score in of_type)
        interval = binomtest(hits, len(of_type)).proportion_ci(method="wilson")
        assert (row.apcer.value, row.apcer.n) == (hits / len(of_type), len(of_type))
        assert (row.apcer.low, row.apcer.high) == pytest.approx((interval.low, interval.high))
    real = [score for score, kind in rows if kind == "bona fide"]
    assert result.bpcer.value == sum(score < 0.75 for score in real) / len(real) and result.bona_fide == len(real)
    worst = max(result.attacks, key=lambda row: row.apcer.value)
    assert (result.worst, result.apcer.value) == (worst.attack, worst.apcer.value)
    assert result.apcer.low == max(row.apcer.low for row in result.attacks)
    assert result.apcer.high == max(row.apcer.high for row in result.attacks)
    assert result.acer.value == (worst.apcer.value + result.bpcer.value) / 2
    assert len(result.to_dict()["attacks"]) == 3
    assert main(["evaluate", str(tmp_path / "test.csv"), "--task", "attack", "--threshold", "0.75"]) == 0
    out = capsys.readouterr().out
    assert "3D mask" in out and f"max. APCER ({worst.attack})" in out and "ACER" in out


def test_the_threshold_comes_from_other_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path / "test.csv", 0)
    rows = written(tmp_path / "dev.csv", 1)
    words = ["evaluate", str(tmp_path / "test.csv"), "--task", "attack", "--validation", str(tmp_path / "dev.csv")]
    assert main([*words, "--json"]) == 0
    threshold = json.loads(capsys.readouterr().out)["threshold"]
    real = np.array([score for score, kind in rows if kind == "bona fide"])
    attack = np.array([score for score, kind in rows if kind != "bona fide"])

    def gap(at: float) -> float:
        return abs(float((attack >= at).mean() - (real < at).mean()))

    every = np.sort(np.concatenate([real, attack]))
    assert gap(threshold) == pytest.approx(min(gap(at) for at in (every[1:] + every[:-1]) / 2))


@pytest.mark.parametrize("name", ["", "Bona-Fide", "bonafide", "real", "LIVE"])
def test_names_of_bona_fide(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.csv").write_text(f"attack,score\n{name},0.5\nprint,0.4\n")
    result = evaluate(tmp_path / "a.csv", task="attack", threshold=0.5)
    assert isinstance(result, AttackResult) and result.bona_fide == 1 and result.acer.value == 0


@pytest.mark.parametrize(
    ("text", "error", "key"),
    [
        ("score,attack\n0.5,print\n", EmptyScores, "bona fide"),
        ("score,attack\n0.5,real\n", EmptyScores, "attack"),
        ("score,attack\nnan,real\n1,print\n", DataError, "line 2"),
        ("score,attack\n0.5,real\nhigh,print\n", DataError, "line 3"),
        ("score,label\n0.5,real\n", DataError, "score,attack"),
        ("", DataError, "score,attack"),
    ],
)
def test_bad_files(tmp_path: Path, text: str, error: type[FacewrightError], key: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(error, match=key):
        evaluate(tmp_path / "a.csv", task="attack", threshold=0.5)


def test_exactly_one_threshold(tmp_path: Path) -> None:
    written(tmp_path / "a.csv", 0)
    for options in ({}, {"threshold": 0.5, "validation": tmp_path / "b.csv"}, {"validation": tmp_path / "a.csv"}):
        with pytest.raises(UsageError):
            evaluate(tmp_path / "a.csv", task="attack", **options)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="photos"):
        evaluate(tmp_path / "a.csv", "photos", task="attack", threshold=0.5)
    with pytest.raises(UsageError, match="attack"):
        evaluate("built-in", tmp_path, threshold=0.5)
    with pytest.raises(UsageError):
        evaluate_attacks([0.5], [None, "print"], 0.5, "given")
