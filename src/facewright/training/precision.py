"""The number format that trains faster on this device, and what deterministic kernels cost: asked, then measured.

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
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from facewright import devices
from facewright.errors import UsageError
from facewright.files import write_atomic
from facewright.training.training_module import autocast

REPEATS = 3
SECONDS = 5.0  # of measuring; the step that passes it is finished
SLICE = 16  # images on a CPU, where a step takes as long as its images; a GPU is measured with the whole batch
GAIN = 1.25  # how many times faster the shorter format must be to be worth its rounding; below, a noisy clock decides
COST = 1.10  # times a step may take with deterministic kernels, to be worth resuming to the same bits
HALVES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class Kernels(NamedTuple):
    """Deterministic kernels or not, and why."""

    deterministic: bool
    reason: str


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
    place = _place(images.device, key)
    if place in known:
        return Precision(known[place], "measured before")
    images = images[:SLICE] if images.device.type == "cpu" else images
    full, short = _step_seconds(model, images, ((torch.float32, False), (HALVES[half], False)))
    name = half if full > GAIN * short else "float32"
    _remember(cache, place, name)
    took = f"{1000 * full:.0f} ms in float32, {1000 * short:.0f} ms in {half}"
    return Precision(name, f"a step of {len(images)} images takes {took}")


def choose_kernels(model: nn.Module, images: Tensor, dtype: torch.dtype, key: str, cache: Path) -> Kernels:
    """Choose deterministic kernels where a training step with them takes less than `COST` times as long.

    Args:
        model, images, cache: as for `choose`. dtype: what the model computes in. key: names model, batch and format.
    """
    place = f"{_place(images.device, key)}|deterministic"
    known = _known(cache / "precision.json").get(place)
    if known is not None:
        return Kernels(known == "on", "measured before")
    try:
        free, exact = _step_seconds(model, images, ((dtype, False), (dtype, True)))
    except RuntimeError as error:
        if "does not have a deterministic implementation" not in str(error):
            raise
        return Kernels(False, f"{str(error).split(' does not')[0]} has no deterministic kernel")
    found = Kernels(exact < COST * free, f"a step takes {1000 * exact:.0f} ms with them, {1000 * free:.0f} ms without")
    _remember(cache, place, "on" if found.deterministic else "off")
    return found


def _place(device: torch.device, key: str) -> str:
    return f"{platform.node()}|torch {torch.__version__}|{torch.get_num_threads()} threads|{device}|{key}"


def _remember(cache: Path, place: str, answer: str) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    path = cache / "precision.json"
    write_atomic(path, json.dumps(_known(path) | {place: answer}, indent=1))


def _known(path: Path) -> dict[str, str]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _step_seconds(model: nn.Module, images: Tensor, ways: Sequence[tuple[torch.dtype, bool]]) -> list[float]:
    """Median seconds of a step in each format, with deterministic kernels or without, in turn while there is time.

    The first step of each does not count, unless it took all the time. A device is measured twice, for both choices.
    """
    seconds = SECONDS if images.device.type == "cpu" else SECONDS / 2
    twin = copy.deepcopy(model).to(images.device).train()
    taken: dict[tuple[torch.dtype, bool], list[float]] = {way: [] for way in ways}
    labels = torch.zeros(len(images), dtype=torch.long, device=images.device)
    begin = time.perf_counter()
    for _ in range(REPEATS + 1):
        for (dtype, exact), times in taken.items():
            start = time.perf_counter()
            if times and start - begin > seconds:
                continue
            with devices.deterministic(images.device, exact):
                with autocast(images.device, dtype):
                    scores = twin(images)
                loss = functional.cross_entropy(scores.float(), labels)
                torch.autograd.backward(loss)
                loss.item()
            times.append(time.perf_counter() - start)
    return [statistics.median(times[1:] or times) for times in taken.values()]
