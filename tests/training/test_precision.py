"""The choice of a number format: asked of the device, measured in seconds, remembered, told."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from facewright.errors import UsageError
from facewright.training import precision

IMAGES = torch.zeros(40, 3, 8, 8)
CPU = torch.device("cpu")


class Slow(nn.Module):
    """A network whose step moves the clock: by `seconds` in float32, by `short` in bfloat16."""

    def __init__(self, seconds: float, short: float) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.seconds, self.short = seconds, short

    def forward(self, images: Tensor) -> Tensor:
        CLOCK["now"] += self.short if torch.is_autocast_enabled("cpu") else self.seconds
        CLOCK["images"] = len(images)
        CLOCK["steps"] += 1
        scores: Tensor = self.layer(images.mean((2, 3)))
        return scores


CLOCK = {"now": 0.0, "images": 0, "steps": 0}


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    CLOCK.update(now=0.0, images=0, steps=0)
    monkeypatch.setattr(precision.time, "perf_counter", lambda: CLOCK["now"])
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})


def test_a_processor_without_bfloat16_is_not_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": False})
    found = precision.choose(Slow(1, 1), IMAGES, "key", tmp_path)
    assert found.name == "float32" and "instructions" in found.reason
    assert CLOCK["steps"] == 0 and not any(tmp_path.iterdir())


@pytest.mark.parametrize(("seconds", "short", "name"), [(0.2, 0.1, "bfloat16"), (0.1, 0.09, "float32")])
def test_the_faster_format_is_measured_told_and_remembered(
    seconds: float, short: float, name: str, tmp_path: Path
) -> None:
    found = precision.choose(Slow(seconds, short), IMAGES, "key", tmp_path)
    assert found.name == name and f"{1000 * seconds:.0f} ms in float32" in found.reason
    assert CLOCK["images"] == precision.SLICE and CLOCK["steps"] == 2 * (precision.REPEATS + 1)
    assert precision.choose(Slow(9, 9), IMAGES, "key", tmp_path) == (name, "measured before")


def test_measuring_ends_after_five_seconds(tmp_path: Path) -> None:
    found = precision.choose(Slow(2.0, 40.0), IMAGES, "key", tmp_path)
    assert found.name == "float32" and CLOCK["steps"] == 2, "a step of each format passed the time"


def test_tf32_is_for_cuda_and_float32_is_exact() -> None:
    with pytest.raises(UsageError, match="tf32"):
        precision.dtype_of("tf32", CPU)
    assert precision.dtype_of("tf32", torch.device("cuda")) is torch.float32 and torch.backends.cudnn.allow_tf32
    assert precision.dtype_of("float32", CPU) is torch.float32 and not torch.backends.cudnn.allow_tf32
    assert precision.dtype_of("bfloat16", CPU) is torch.bfloat16
