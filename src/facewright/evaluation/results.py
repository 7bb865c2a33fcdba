"""The models of a comparison side by side: what `compare --json` prints; and the latency of a model."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from pydantic import Field, SkipValidation, computed_field

from facewright.errors import UsageError
from facewright.evaluation.classification import ClassificationResult, Predictions
from facewright.events import EpochRow
from facewright.metrics.intervals import Rate
from facewright.records import Record

if TYPE_CHECKING:
    import torch
    from torch import nn
FEWEST = 10  # timed single images, however slow the model
MOST = 1_000


class Latency(Record):
    """Of one image (batch of one, warmed up, preprocessed) and of a batch."""

    median_ms: float
    p95_ms: float
    images_per_second: float
    batch: int
    threads: int


class Entry(Record):
    """One model of a comparison."""

    name: str
    run: str
    model: str
    recipe: str
    image_size: int
    parameters: int
    flops: int  # of one image, one multiply-add counted as two
    images_seen: int
    epochs: int
    train_seconds: float
    peak_memory_bytes: int | None
    device_peak_memory_bytes: int | None = None
    file_bytes: int
    latency: Latency
    test: ClassificationResult
    predictions: Annotated[Predictions, SkipValidation, Field(exclude=True, repr=False)]  # in the run's predictions.csv
    history: Annotated[tuple[EpochRow, ...], SkipValidation, Field(exclude=True, repr=False)]  # in its metrics.csv

    @computed_field  # type: ignore[prop-decorator]
    @property
    def latency_ms(self) -> float:
        """The median time of one image."""
        return self.latency.median_ms


class Pair(Record):
    """Two models on the same images."""

    a: str
    b: str
    p_value: float  # exact McNemar test of the two accuracies
    accuracy_difference: float  # a - b
    macro_f1_difference: Rate  # a - b; paired bootstrap over images
    within_noise: bool  # holm_p_value >= 0.05
    holm_p_value: float | None = None  # p_value corrected for the number of pairs; None: not compared as a family


class Comparison(Record):
    """Models trained and tested on the same split, side by side."""

    frame_rows: ClassVar[str | None] = "models"
    dataset: str
    fingerprint: str
    classes: tuple[str, ...]
    counts: dict[str, int]  # images in train, validation, test
    entries: tuple[Entry, ...] = Field(serialization_alias="models")
    pairs: tuple[Pair, ...]
    baseline: float  # accuracy of always naming the class with the most test images
    not_converged: tuple[str, ...]  # their validation loss still fell, or one epoch: no part in the advice
    advice: tuple[str, ...]  # sentences: which to take for accuracy, for speed, for size; and what is noise


def latency(model: nn.Module, size: int, batch: int = 32, seconds: float = 2.0) -> Latency:
    """Time single images and batches through a model, on the device its weights are on.

    Warmed up, in inference mode, channels last, evaluation behaviour (restored afterwards), without decoding. Half of
    `seconds` goes to single images, half to batches, but at least ten images and one batch.

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
    import torch

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
    import torch

    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch, 3, size, size, generator=generator)
    return images.to(device).contiguous(memory_format=torch.channels_last)


def _timed(model: nn.Module, images: torch.Tensor, seconds: float, fewest: int) -> list[float]:
    """Wall seconds of each repeat. A fifth of the time, at least one run, warms up and does not count."""
    import torch

    begin = time.perf_counter()

    def run() -> float:
        start = time.perf_counter()
        model(images)
        if images.device.type != "cpu":  # an accelerator returns before it is done
            torch.accelerator.synchronize(images.device)
        return time.perf_counter() - start

    run()
    while time.perf_counter() - begin < seconds / 5:
        run()
    times: list[float] = []
    while len(times) < fewest or (time.perf_counter() - begin < seconds and len(times) < MOST):
        times.append(run())
    return times
