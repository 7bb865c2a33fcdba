"""Devices: names that are refused; and the tests on the pretend accelerator, in a process of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from facewright import devices
from facewright.errors import UsageError

TESTS = Path(__file__).parent


@pytest.mark.parametrize(
    "name", ["gpu", "cuda:x", "cuda:-1", "cuda:0:1", "CPU", "cuda:99999", "auto;", "cuda:", "cpu:1", "mps:1"]
)
def test_unknown_devices(name: str) -> None:
    with pytest.raises(UsageError, match="unknown device"):
        devices.choose(name)


def test_the_variable_names_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(devices.VARIABLE, "cpu")
    assert devices.choose() == torch.device("cpu")
    monkeypatch.setenv(devices.VARIABLE, "tpu")
    with pytest.raises(UsageError, match="tpu"):
        devices.choose()
    assert devices.choose("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["cuda", "cuda:3", "xpu", "mps"])
def test_a_device_that_is_not_there(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_count", lambda kind: 0)
    with pytest.raises(UsageError, match=f"no device {name}.*cpu"):
        devices.choose(name)


def test_a_number_beyond_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_count", lambda kind: 2)
    assert devices.choose("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(UsageError, match=r"cuda:2.*has 2"):
        devices.choose("cuda:2")


def test_a_gpu_that_this_torch_cannot_use_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_has_nvidia_gpu", lambda: True)
    monkeypatch.setattr(devices, "_count", lambda kind: 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match=r"NVIDIA.*pytorch\.org"):
        devices.choose("cuda")
    assert "NVIDIA" in (devices.describe(torch.device("cpu")) or "")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cuda:1", ["CUDAExecutionProvider", "CPUExecutionProvider"]),
        ("auto", ["CUDAExecutionProvider", "CPUExecutionProvider"]),
        ("mps", ["CoreMLExecutionProvider", "CPUExecutionProvider"]),
        ("cpu", ["CPUExecutionProvider"]),
    ],
)
def test_providers_of_onnx_runtime(name: str, expected: list[str]) -> None:
    available = ["CoreMLExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    chosen = devices.providers(name, available)
    assert [one if isinstance(one, str) else one[0] for one in chosen] == expected
    if name == "cuda:1":
        assert chosen[0] == ("CUDAExecutionProvider", {"device_id": 1, "use_tf32": 0})


def test_the_fall_back_of_onnx_runtime_is_said_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices._say.cache_clear()
    monkeypatch.setattr(devices, "_has_nvidia_gpu", lambda: False)
    monkeypatch.setattr(devices.LOG, "propagate", True)
    for name in ("cuda", "cuda", "auto"):
        assert devices.providers(name, ["CPUExecutionProvider"]) == ["CPUExecutionProvider"]
    (line,) = {record.getMessage() for record in caplog.records}
    assert "onnxruntime-gpu" in line
    monkeypatch.setattr(devices, "_has_nvidia_gpu", lambda: True)
    devices.providers("auto", ["CPUExecutionProvider"])
    assert len({record.getMessage() for record in caplog.records}) == 2
    with pytest.raises(UsageError):
        devices.providers("tpu", [])


def test_everything_works_on_the_pretend_accelerator() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "0", "-q", "-p", "no:cacheprovider", TESTS / "pretend_accelerator.py"],
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-2000:]
