"""Which number format trains faster here: measured once, not assumed.

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


def choose(model: nn.Module, images: Tensor, key: str, cache: Path) -> torch.dtype:
    """float32 or bfloat16, whichever takes the shorter median training step.

    Args:
        model: left as it was; a copy is timed.
        images: (B, 3, H, W) float32, a batch of the size to be trained with.
        key: names model and batch in the cache.
        cache: folder that keeps answers, one JSON file for all.
    """
    known = _known(cache / "precision.json")
    place = f"{platform.node()}|torch {torch.__version__}|{torch.get_num_threads()} threads|{images.device}|{key}"
    if place not in known:
        seconds = {name: _step_seconds(model, images, getattr(torch, name)) for name in ("float32", "bfloat16")}
        known[place] = min(seconds, key=lambda name: seconds[name])
        cache.mkdir(parents=True, exist_ok=True)
        write_atomic(cache / "precision.json", json.dumps(known, indent=1))
    return torch.bfloat16 if known[place] == "bfloat16" else torch.float32


def _known(path: Path) -> dict[str, str]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _step_seconds(model: nn.Module, images: Tensor, dtype: torch.dtype) -> float:
    twin = copy.deepcopy(model).train()
    taken = []
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        with torch.autocast(images.device.type, dtype, enabled=dtype is not torch.float32):
            scores = twin(images)
        loss = functional.cross_entropy(scores.float(), torch.zeros(len(images), dtype=torch.long, device=images.device))
        torch.autograd.backward(loss)
        loss.item()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[1:])
