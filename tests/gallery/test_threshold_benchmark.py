"""The benchmark of gallery thresholds runs to its end on a few vectors."""

from __future__ import annotations

import json
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gallery_thresholds.py"


def test_it_measures_every_rule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drawn = np.random.default_rng(0).standard_normal((240, 32)).astype(np.float32)
    vectors = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    np.savez(tmp_path / "v.npz", vectors=vectors, names=np.repeat([f"p{who:02d}" for who in range(80)], 3))
    spec = spec_from_file_location("gallery_thresholds", SCRIPT)
    assert spec is not None and spec.loader is not None
    script = module_from_spec(spec)
    spec.loader.exec_module(script)
    words = [str(tmp_path), "--cache", str(tmp_path / "v.npz"), "--enroll", "12x2", "--unknown", "40", "--draws", "2"]
    script.main([*words, "--fpir", "0.1", "--json"])
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 5 and all(row["draws"] == 2 and 0 <= row["lowest"] <= row["highest"] <= 1 for row in rows)
    script.main([*words, "--fpir", "0.01"])
    assert capsys.readouterr().out.count("\n") == 7  # the table, one rule of it refused
