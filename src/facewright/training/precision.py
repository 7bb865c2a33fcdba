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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from facewright import devices, platforms
from facewright.errors import UsageError
from facewright.files import write_atomic
from facewright.training.distributed import World
from facewright.training.training_module import autocast

REPEATS = 3
SECONDS = 5.0  # of measuring; the step that passes it is finished. A device has two choices, each of half of it
SLICE = 16  # images on a CPU, where a step takes as long as its images; a GPU is measured with the whole batch
GAIN = 1.25  # how many times faster the shorter format must be to be worth its rounding; below, a noisy clock decides
COST = 1.10  # times a step may take with deterministic kernels, to be worth resuming to the same bits
Way = TypeVar("Way")
HALVES = {"bfloat16": torch.bfloat16, "float16": torch.float16}

FIRST, MOST = 8, 4096
SHARE = 0.5  # of the free memory of a CPU: beyond it the system ends the process instead of refusing


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
    full, short = _format_seconds(model, images, (torch.float32, HALVES[half]))
    name = half if full > GAIN * short else "float32"
    _remember(cache, place, name)
    took = f"{1000 * full:.0f} ms in float32, {1000 * short:.0f} ms in {half}"
    return Precision(name, f"a step of {len(images)} images takes {took}")


def choose_kernels(step: Callable[[], object], key: str, cache: Path, world: World) -> Kernels:
    """Choose deterministic kernels where a training step with them takes less than `COST` times as long.

    All processes call it and take the steps; the first decides.

    Args:
        step: takes a step of the training to come, and waits for it.
        key: names all that a step depends on, in the cache; cache: as for `choose`.
    """
    place = f"{_place(world.device, key)}|deterministic step"
    known = _known(cache / "precision.json").get(place) if world.is_main_process else None
    if world.all_reduce_sum([float(known is not None)])[0] > 0:
        return Kernels(world.all_reduce_sum([float(known == "on")])[0] > 0, "measured before")

    def timed(exact: bool) -> None:
        with devices.deterministic(world.device, exact):
            step()

    try:
        free, exact = step_seconds(timed, (False, True), SECONDS / 2, world)
    except RuntimeError as error:
        if "does not have a deterministic implementation" not in str(error):
            raise
        return Kernels(False, f"{str(error).split(' does not')[0]} has no deterministic kernel")
    chosen = world.all_reduce_sum([float(world.is_main_process and exact < COST * free)])[0] > 0
    if world.is_main_process:
        _remember(cache, place, "on" if chosen else "off")
    return Kernels(chosen, f"a step takes {1000 * exact:.0f} ms with them, {1000 * free:.0f} ms without")


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


def _format_seconds(model: nn.Module, images: Tensor, formats: Sequence[torch.dtype]) -> list[float]:
    """Median seconds of a step of cross-entropy in each format."""
    twin = copy.deepcopy(model).to(images.device).train()
    seconds = SECONDS if images.device.type == "cpu" else SECONDS / 2
    return step_seconds(lambda dtype: _step(twin, images, dtype), formats, seconds)


def step_seconds(
    step: Callable[[Way], object], ways: Sequence[Way], seconds: float, world: World | None = None
) -> list[float]:
    """Median seconds of a step in each way, in turn while there is time, which all processes of a world agree on.

    The first step of each way does not count, unless it took all the time.
    """
    taken: list[list[float]] = [[] for _ in ways]
    begin = time.perf_counter()
    for _ in range(REPEATS + 1):
        for way, times in zip(ways, taken, strict=True):
            late = time.perf_counter() - begin > seconds
            if times and (late if world is None else world.all_reduce_sum([float(late)])[0] > 0):
                continue
            start = time.perf_counter()
            step(way)
            times.append(time.perf_counter() - start)
    return [statistics.median(times[1:] or times) for times in taken]


def largest_batch(
    network: nn.Module, size: int, device: torch.device, dtype: torch.dtype, most: int, pixels: int
) -> int:
    """Double the batch while a step of AdamW fits.

    Args:
        network: left as it was; a copy is trained on noise. size: side of the images, px.
        most: images that a batch may have; the first batch is not below 2.
        pixels: bytes of the images, which lie on the device beside the network where they fit.
    Raises:
        DeviceFault: not even the first batch fits.
    """
    twin = copy.deepcopy(network).to(device).train()
    optimizer = torch.optim.AdamW(twin.parameters(), lr=0.0)
    memory = devices.memory(device)
    ballast = None
    if memory is not None and device.type != "cpu" and devices.fits(pixels, memory):
        ballast = torch.empty(pixels, dtype=torch.uint8, device=device)
    batch, tried = 0, max(2, min(FIRST, most))
    while tried <= min(most, MOST):
        platforms.reset_peak_memory()
        before = platforms.peak_memory_bytes() or 0
        try:
            optimizer.zero_grad(set_to_none=True)
            _step(twin, torch.randn(tried, 3, size, size, device=device), dtype)
            optimizer.step()
        except RuntimeError as error:
            if not devices.is_out_of_memory(error):
                raise
            if batch == 0:
                raise devices.fault(error, device, tried) from error
            break
        batch, tried = tried, 2 * tried
        grown = (platforms.peak_memory_bytes() or 0) - before
        if device.type == "cpu" and memory is not None and 2 * grown > SHARE * memory.free:
            break
    del twin, optimizer, ballast
    if device.type != "cpu":
        torch.accelerator.empty_cache()
    return batch


def _step(network: nn.Module, images: Tensor, dtype: torch.dtype) -> None:
    """Compute the gradients of cross-entropy, and wait for them."""
    with autocast(images.device, dtype):
        scores: Tensor = network(images)
    loss = functional.cross_entropy(scores.float(), torch.zeros(len(images), dtype=torch.long, device=images.device))
    torch.autograd.backward(loss)
    loss.item()
