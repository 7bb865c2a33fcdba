"""The number format that trains faster on this device: the device is asked what it can do, then both are measured.

A CPU without bfloat16 instructions emulates them, which is many times slower; it is not even tried. CPUs with them but
no tile unit train slower in bfloat16 than in float32, GPUs mostly faster, and no flag says which. `choose` times both
on the model and a slice of the batch, at most `SECONDS`, and remembers the answer for this machine.
"""

from __future__ import annotations

import copy
import json
import platform
import statistics
import time
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from facewright.errors import UsageError
from facewright.files import write_atomic

REPEATS = 3
SECONDS = 5.0  # of measuring; the step that passes it is finished
SLICE = 16  # images on a CPU, where a step takes as long as its images; a GPU is measured with the whole batch
GAIN = 1.25  # how many times faster the shorter format must be to be worth its rounding; below, a noisy clock decides
HALVES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class Precision(NamedTuple):
    """A number format, and why it was chosen."""

    name: str
    reason: str


def dtype_of(name: str, device: torch.device) -> torch.dtype:
    """Return what a network computes in; `tf32` is float32 whose products CUDA rounds to 10 bits of mantissa.

    Raises:
        UsageError: tf32 on another device.
    """
    if name == "tf32" and device.type != "cuda":
        raise UsageError(f"training.precision = tf32 is for CUDA, not for {device}: choose float32, bfloat16 or auto")
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = name == "tf32"
    return HALVES.get(name, torch.float32)


def half_of(device: torch.device) -> str | None:
    """Return the shorter format that a device computes in, None where it has none."""
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return "bfloat16" if any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16")) else None
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    return "bfloat16"


def choose(model: nn.Module, images: Tensor, key: str, cache: Path) -> Precision:
    """Choose the shorter format where a training step takes clearly less time in it, else float32.

    Args:
        model: left as it was; a copy is timed.
        images: (B, 3, H, W) float32, a batch of the size to be trained with.
        key: names model and batch in the cache.
        cache: folder that keeps answers, one JSON file for all.
    """
    half = half_of(images.device)
    if half is None:
        return Precision("float32", "this processor has no bfloat16 instructions")
    known = _known(cache / "precision.json")
    place = f"{platform.node()}|torch {torch.__version__}|{torch.get_num_threads()} threads|{images.device}|{key}"
    if place in known:
        return Precision(known[place], "measured before")
    images = images[:SLICE] if images.device.type == "cpu" else images
    full, short = _step_seconds(model, images, HALVES[half])
    name = half if full > GAIN * short else "float32"
    cache.mkdir(parents=True, exist_ok=True)
    write_atomic(cache / "precision.json", json.dumps(known | {place: name}, indent=1))
    took = f"{1000 * full:.0f} ms in float32, {1000 * short:.0f} ms in {half}"
    return Precision(name, f"a step of {len(images)} images takes {took}")


def _known(path: Path) -> dict[str, str]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _step_seconds(model: nn.Module, images: Tensor, half: torch.dtype) -> tuple[float, float]:
    """Median seconds of a step in float32 and in the shorter format, taken in turn while there is time.

    Each format's first step does not count, unless it took all the time.
    """
    twin = copy.deepcopy(model).to(images.device).train()
    taken: dict[torch.dtype, list[float]] = {torch.float32: [], half: []}
    labels = torch.zeros(len(images), dtype=torch.long, device=images.device)
    begin = time.perf_counter()
    for _ in range(REPEATS + 1):
        for dtype, times in taken.items():
            start = time.perf_counter()
            if times and start - begin > SECONDS:
                continue
            with torch.autocast(images.device.type, dtype, enabled=dtype is not torch.float32):
                scores = twin(images)
            loss = functional.cross_entropy(scores.float(), labels)
            torch.autograd.backward(loss)
            loss.item()
            times.append(time.perf_counter() - start)
    full, short = (statistics.median(times[1:] or times) for times in taken.values())
    return full, short
