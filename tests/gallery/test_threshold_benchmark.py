"""The benchmark of gallery thresholds runs to its end on a few vectors."""

from __future__ import annotations

import json
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gallery_thresholds.py"


def load() -> ModuleType:
    spec = spec_from_file_location("gallery_thresholds", SCRIPT)
    assert spec is not None and spec.loader is not None
    script = module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_it_measures_every_rule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drawn = np.random.default_rng(0).standard_normal((240, 32)).astype(np.float32)
    vectors = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    np.savez(tmp_path / "v.npz", vectors=vectors, names=np.repeat([f"p{who:02d}" for who in range(80)], 3))
    script = load()
    words = [str(tmp_path), "--cache", str(tmp_path / "v.npz"), "--enroll", "12x2", "--unknown", "40", "--draws", "2"]
    script.main([*words, "--fpir", "0.1", "--json"])
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 5 and all(row["draws"] == 2 and 0 <= row["lowest"] <= row["highest"] <= 1 for row in rows)
    script.main([*words, "--fpir", "0.01"])
    assert capsys.readouterr().out.count("\n") == 7  # the table, one rule of it refused


def test_poor_faces_that_all_look_alike_need_a_threshold_of_their_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script, drawn = load(), np.random.default_rng(0)
    vectors = unit(drawn.standard_normal((240, 32)))
    alike = unit(vectors[0] + 0.6 * unit(drawn.standard_normal((480, 32))))  # of all people, like one of them
    names = np.repeat([f"p{who:02d}" for who in range(80)], 3)
    np.savez(tmp_path / "v.npz", vectors=vectors, names=names, poor=alike[:240], copies=alike[240:])
    words = [str(tmp_path), "--cache", str(tmp_path / "v.npz"), "--enroll", "70x2", "--draws", "3", "--poor", "--json"]
    script.main(words)
    good, poor = json.loads(capsys.readouterr().out)
    assert good["mean"] > 0.5 and poor["mean"] < 0.1 and good["dir"] >= poor["dir"]


def test_a_photo_is_made_worse() -> None:
    script, drawn = load(), np.random.default_rng(0)
    photo = drawn.integers(0, 256, (60, 50, 3), np.uint8)
    made = [script.degrade(photo, drawn) for _ in range(12)]
    assert {one.shape[0] < 60 for one in made} == {True, False}
    assert all(one.astype(float).std() < photo.astype(float).std() for one in made)
