"""Latency of a model."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import nn

from facewright.errors import UsageError
from facewright.evaluation.results import Latency

FEWEST = 10  # timed single images, however slow the model
MOST = 1_000


def latency(model: nn.Module, size: int, batch: int = 32, seconds: float = 2.0) -> Latency:
    """Time single images and batches through a model, on the device its weights are on.

    Warmed up, in inference mode, channels last, evaluation behaviour (restored afterwards); images are noise that
    already lies in memory, so decoding is not in it. Repeats until about half of `seconds` is spent on single images
    and half on batches, but at least ten images and one batch. Other load on the machine shows in p95 first.

    Args:
        model: from (B, 3, size, size) float32; its weights are laid out channels last in place (no value changes).
        size: pixels. batch: images in a batch, at least 1. seconds: the budget, warm-up included.
    Returns:
        Milliseconds of one image (median, 95th percentile), images a second in batches, and PyTorch's thread count.
    Raises:
        UsageError: batch, size or seconds is not positive.
    """
    if batch < 1 or size < 1 or seconds <= 0:
        raise UsageError(f"expected batch, size, seconds above 0, got {batch}, {size}, {seconds}")
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    was_training = model.training
    model.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    try:
        with torch.inference_mode():
            single = _timed(model, _noise(1, size, device), seconds / 2, FEWEST)
            batched = _timed(model, _noise(batch, size, device), seconds / 2, 1)
    finally:
        model.train(was_training)
    return Latency(
        median_ms=1000 * float(np.median(single)),
        p95_ms=1000 * float(np.percentile(single, 95)),
        images_per_second=batch / float(np.median(batched)),
        batch=batch,
        threads=torch.get_num_threads(),
    )


def _noise(batch: int, size: int, device: torch.device) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch, 3, size, size, generator=generator)
    return images.to(device).contiguous(memory_format=torch.channels_last)


def _timed(model: nn.Module, images: torch.Tensor, seconds: float, fewest: int) -> list[float]:
    """Wall seconds of each repeat. A fifth of the time, at least one run, warms up and does not count."""
    wait = _synchroniser(images.device)
    begin = time.perf_counter()

    def run() -> float:
        start = time.perf_counter()
        model(images)
        wait()
        return time.perf_counter() - start

    run()
    while time.perf_counter() - begin < seconds / 5:
        run()
    times: list[float] = []
    while len(times) < fewest or (time.perf_counter() - begin < seconds and len(times) < MOST):
        times.append(run())
    return times


def _synchroniser(device: torch.device) -> Callable[[], None]:
    """An accelerator returns before it is done: wait for it."""
    return (lambda: None) if device.type == "cpu" else partial(torch.accelerator.synchronize, device)
