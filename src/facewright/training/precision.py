"""The number format that trains faster on this device: measured once, not assumed.

CPUs with bfloat16 instructions but no tile unit train slower in bfloat16 than in float32, GPUs mostly faster, and no
flag says which. `choose` times both on the model and batch at hand and remembers the answer for this machine.
"""

from __future__ import annotations

import copy
import json
import platform
import statistics
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from facewright.files import write_atomic

REPEATS = 3
GAIN = 1.25  # how many times faster bfloat16 must be to be worth its rounding; below, a noisy clock decides


def choose(model: nn.Module, images: Tensor, key: str, cache: Path) -> torch.dtype:
    """bfloat16 where a training step takes clearly less time in it, else float32.

    Args:
        model: left as it was; a copy is timed.
        images: (B, 3, H, W) float32, a batch of the size to be trained with.
        key: names model and batch in the cache.
        cache: folder that keeps answers, one JSON file for all.
    """
    known = _known(cache / "precision.json")
    place = f"{platform.node()}|torch {torch.__version__}|{torch.get_num_threads()} threads|{images.device}|{key}"
    if place not in known:
        full, half = _step_seconds(model, images)
        known[place] = "bfloat16" if full > GAIN * half else "float32"
        cache.mkdir(parents=True, exist_ok=True)
        write_atomic(cache / "precision.json", json.dumps(known, indent=1))
    return torch.bfloat16 if known[place] == "bfloat16" else torch.float32


def _known(path: Path) -> dict[str, str]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _step_seconds(model: nn.Module, images: Tensor) -> tuple[float, float]:
    """Median seconds of a step in float32 and in bfloat16, taken in turn; each format's first step does not count."""
    twin = copy.deepcopy(model).to(images.device).train()
    taken: dict[torch.dtype, list[float]] = {torch.float32: [], torch.bfloat16: []}
    labels = torch.zeros(len(images), dtype=torch.long, device=images.device)
    for _ in range(REPEATS + 1):
        for dtype, times in taken.items():
            start = time.perf_counter()
            with torch.autocast(images.device.type, dtype, enabled=dtype is not torch.float32):
                scores = twin(images)
            loss = functional.cross_entropy(scores.float(), labels)
            torch.autograd.backward(loss)
            loss.item()
            times.append(time.perf_counter() - start)
    return statistics.median(taken[torch.float32][1:]), statistics.median(taken[torch.bfloat16][1:])
