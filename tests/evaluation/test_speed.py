"""The stopwatch: what it reports and what it leaves as it found it. No test asserts how fast anything is."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from facewright.errors import UsageError
from facewright.evaluation.results import FEWEST, latency
from facewright.platforms import peak_memory_bytes, reset_peak_memory


class Watched(nn.Module):
    """Remembers how it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3)
        self.calls: list[tuple[tuple[int, ...], bool, bool, bool]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        last = x.is_contiguous(memory_format=torch.channels_last)
        self.calls.append((tuple(x.shape), last, torch.is_inference_mode_enabled(), self.training))
        return self.convolution(x).mean(dim=(2, 3))


def test_a_model_is_timed_on_single_images_and_batches() -> None:
    model = Watched().train()
    weights = model.convolution.weight.detach().clone()
    timed = latency(model, size=16, batch=4, seconds=0.1)
    assert 0 < timed.median_ms <= timed.p95_ms
    assert timed.images_per_second > 0
    assert (timed.batch, timed.threads) == (4, torch.get_num_threads())
    shapes = [call[0] for call in model.calls]
    assert set(shapes) == {(1, 3, 16, 16), (4, 3, 16, 16)}
    assert shapes.count((1, 3, 16, 16)) > FEWEST  # warm-up besides
    assert shapes.count((4, 3, 16, 16)) >= 2
    assert all(last and inference and not training for _, last, inference, training in model.calls)
    assert model.training  # as it was
    assert torch.equal(model.convolution.weight, weights)


def test_a_slow_model_is_timed_as_often_as_it_must_be() -> None:
    model = Watched()
    latency(model, size=16, batch=2, seconds=1e-9)
    shapes = [call[0][0] for call in model.calls]
    assert (shapes.count(1), shapes.count(2)) == (FEWEST + 1, 2)  # one warms up, for each


def test_a_model_that_fails_is_left_as_it_was() -> None:
    model = nn.Sequential(nn.Linear(7, 1)).train()
    with pytest.raises(RuntimeError):
        latency(model, size=16, seconds=0.1)
    assert model.training


@pytest.mark.parametrize(("size", "batch", "seconds"), [(0, 1, 1.0), (16, 0, 1.0), (16, 1, 0.0)])
def test_nothing_to_time_is_refused(size, batch, seconds) -> None:
    with pytest.raises(UsageError, match="above 0"):
        latency(Watched(), size, batch, seconds)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not tell; None is returned there")
def test_peak_memory_never_falls() -> None:
    before = peak_memory_bytes()
    block = torch.ones(30_000_000)  # 120 MB
    held = peak_memory_bytes()
    del block
    assert before is not None
    assert held is not None
    assert 10_000_000 < before <= held
    assert held >= 120_000_000
    assert peak_memory_bytes() >= held - 8_000_000  # the kernel counts pages in batches


def test_peak_memory_can_start_anew() -> None:
    before = peak_memory_bytes()
    held = torch.ones(200_000_000, dtype=torch.uint8)
    peak = peak_memory_bytes()
    assert before is not None and peak is not None
    assert held[-1] == 1 and peak >= before
    del held
    reset_peak_memory()
    after = peak_memory_bytes()
    assert after is not None and after <= peak
    if Path("/proc/self/clear_refs").exists():
        assert after < peak - 100_000_000
