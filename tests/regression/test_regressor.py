"""The file of a fitted function: equal after reading, refused where it is anything else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from facewright.errors import BundleError, UsageError
from facewright.regression import regressor as regressors
from facewright.regression.regressor import Column, Header, Perceptron, Regressor, is_regression

INPUTS = (
    Column(name="x", mean=1.0, scale=2.0, low=-3.0, high=5.0),
    Column(name="y", mean=0.0, scale=1.0, low=-1.0, high=1.0),
)
TARGETS = (Column(name="z", mean=100.0, scale=10.0, low=70.0, high=130.0),)


@pytest.fixture
def regressor() -> Regressor:
    header = Header(hidden=(4,), activation="tanh", inputs=INPUTS, targets=TARGETS, provenance={"seed": 0})
    return Regressor(header, Perceptron(2, (4,), 1, "tanh").initialize(0))


def named(regressor: Regressor) -> dict[str, np.ndarray]:
    return regressor.header.network.named(regressor.weights)


def test_it_standardises_by_itself(regressor: Regressor) -> None:
    w = named(regressor)
    rows = np.array([[3.0, 0.5], [1.0, -1.0]])
    hidden = np.tanh(np.c_[(rows[:, 0] - 1) / 2, rows[:, 1]] @ w["layers.0.weight"].T + w["layers.0.bias"])
    expected = 100 + 10 * (hidden @ w["layers.2.weight"].T + w["layers.2.bias"])
    np.testing.assert_allclose(regressor.predict(rows), expected)
    assert regressor.predict(rows[:0]).shape == (0, 1)


def test_chunks_do_not_show(regressor: Regressor, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(0).normal(size=(10, 2))
    whole = regressor.predict(rows)
    monkeypatch.setattr(regressors, "_CHUNK", 3)
    np.testing.assert_allclose(regressor.predict(rows), whole, rtol=1e-14)


def test_rows_beyond_the_training_rows_are_told(regressor: Regressor) -> None:
    rows = np.array([[0.0, 0.0], [5.0, 1.0], [5.1, 0.0], [0.0, -2.0]])
    assert regressor.beyond(rows).tolist() == [False, False, True, True]


def test_another_number_of_columns_is_refused(regressor: Regressor) -> None:
    with pytest.raises(UsageError, match=r"\(1, 3\)"):
        regressor.predict(np.ones((1, 3)))


def test_saved_and_read_it_says_the_same(regressor: Regressor, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    regressors.save(path, regressor)
    rows = np.random.default_rng(0).normal(size=(10, 2))
    for where in (path, tmp_path):  # the file, or its folder
        back = regressors.load(where)
        assert is_regression(where)
        assert (back.header.inputs, back.header.targets, back.header.provenance) == (INPUTS, TARGETS, {"seed": 0})
        np.testing.assert_array_equal(back.predict(rows), regressor.predict(rows))


def header(**changes: Any) -> dict[str, str]:
    column = INPUTS[0].model_dump()
    facts = {"format": 1, "task": "regression", "hidden": [4], "activation": "tanh", "provenance": {}}
    facts |= {"inputs": [column, column | {"name": "y"}], "targets": [column | {"name": "z"}]}
    return {"facewright": json.dumps(facts | changes)}


# metadata -> what is said
BAD = {
    "none": ({}, "metadata"),
    "no JSON": ({"facewright": "{"}, "metadata"),
    "a classifier": (header(task="classification"), "(task: "),
    "a later format": (header(format=2), "format 2"),
    "an unknown activation": (header(activation="os.system"), "os.system"),
    "other widths": (header(hidden=[5]), "hidden layers"),
    "more layers": (header(hidden=[4, 4]), "hidden layers"),
    "no width": (header(hidden=[0]), "[0]"),
    "too many layers": (header(hidden=[1] * 65), "(hidden: "),
    "a scale of zero": (header(targets=[TARGETS[0].model_dump() | {"scale": 0.0}]), "(targets.0.scale: "),
    "a mean that is no number": (
        {"facewright": header()["facewright"].replace('"mean": 1.0', '"mean": NaN')},
        "(inputs.0.mean: ",
    ),
    "an unknown key": (header(code="x"), "(code: "),
}


@pytest.mark.parametrize("case", BAD)
def test_other_files_are_refused(regressor: Regressor, tmp_path: Path, case: str) -> None:
    metadata, said = BAD[case]
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file(named(regressor), path, metadata or None)
    with pytest.raises(BundleError) as caught:
        regressors.load(path)
    assert said in str(caught.value)


def test_the_same_header_unchanged_is_read(regressor: Regressor, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file(named(regressor), path, header())
    assert regressors.load(path).header.hidden == (4,)


@pytest.mark.parametrize("content", [b"", b"\x80\x04K\x01.", b"\xff" * 100, None])
def test_what_is_no_safetensors_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "model.safetensors"
    if content is not None:
        path.write_bytes(content)
    assert not is_regression(path)
    with pytest.raises(BundleError):
        regressors.load(path)


def test_weights_of_another_shape_are_refused(regressor: Regressor, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file(named(regressor) | {"layers.0.bias": np.zeros(3)}, path, header())
    with pytest.raises(BundleError, match=r"\[4\]"):
        regressors.load(path)
