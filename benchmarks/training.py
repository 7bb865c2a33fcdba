"""Training: a step and a whole epoch of ours against the plain loop of the notebooks, side by side.

    python benchmarks/training.py [--rounds 3] [--images 160] [--threads 2] [--json]

    step    ResNet-50 at 112 px, batch 32, images ready in memory: forward, loss, backward, AdamW
            plain: float32, contiguous memory, the optimizer as torch builds it
            ours: channels_last, fused optimizer, and the precision that `auto` measures to be faster on this machine
    epoch   ResNet-18 at 64 px (the stem of the paper on both sides), JPEGs of 112 px, then of 250 px (the size of
            LFW's photos), batch 32:
            plain: decode, random resized crop and mirror image by image; ours: warm store, the same augmentation
            on whole batches, then the step as above

The sides take turns; medians are compared. Ours in float32 is a row of its own, so that one sees what the precision
alone is worth. Last, the limit: the convolutions of ResNet-18 at 64 px alone, forward and backward, each on tensors of
its own in channels_last, and nothing else of a step.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import notebook_loop
import numpy as np
import torch
from loading import draw_folder
from torch import Tensor, nn
from torch.nn import functional

from facewright.data.loaders import Loader
from facewright.data.sampling import plan
from facewright.data.sources import open_dataset
from facewright.data.store import PixelStore
from facewright.input_spec import InputSpec
from facewright.models.catalog import create_model
from facewright.specs import Augment
from facewright.training import optimizers, precision
from facewright.training.optimizers import Group
from facewright.training.recipe_parts import OptimizerSpec

BATCH = 32
STEP_MODEL, EPOCH_MODEL = "resnet50", "resnet18"
STEPS = 2  # a round of the step benchmark
SPEC = InputSpec(64, 64, (0.5, 0.45, 0.4), (0.25, 0.25, 0.25))
AUGMENT = Augment(area=(0.08, 1.0), aspect=math.log(4 / 3), crop="inside")


Side = tuple[nn.Module, torch.optim.Optimizer, torch.dtype]
OURS = "ours"
FULL = "ours, float32"


def network(name: str, size: int, side: str, cache: Path) -> Side:
    torch.manual_seed(0)
    model: nn.Module = create_model(name, 8, input_size=size, stem="imagenet").train()
    if side == "plain":
        return model, torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-4), torch.float32
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    rule = OptimizerSpec(name="adamw", weight_decay=1e-4, decay_all=True)
    optimizer = optimizers.build(rule, [Group(tuple(model.parameters()), 1.0, head=False)], 1e-3)
    if side == FULL:
        return model, optimizer, torch.float32
    images = torch.randn(BATCH, 3, size, size).contiguous(memory_format=torch.channels_last)
    chosen = precision.choose(model, images, name, cache)
    return model, optimizer, precision.dtype_of(chosen.name, images.device)


def step(side: Side, images: Tensor, labels: Tensor) -> None:
    model, optimizer, dtype = side
    optimizer.zero_grad(set_to_none=True)
    with torch.autocast("cpu", dtype, enabled=dtype is not torch.float32):
        scores = model(images)
    loss = functional.cross_entropy(scores.float(), labels)
    torch.autograd.backward(loss)
    optimizer.step()
    loss.item()


def step_sides(cache: Path) -> dict[str, Callable[[], None]]:
    labels = torch.arange(BATCH) % 8
    images = torch.randn(BATCH, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    laid = images.contiguous(memory_format=torch.channels_last)
    sides = {side: network(STEP_MODEL, 112, side, cache) for side in ("plain", OURS, FULL)}

    def run(side: str) -> None:
        for _ in range(STEPS):
            step(sides[side], images if side == "plain" else laid, labels)

    return {side: partial(run, side) for side in sides}


def epoch_sides(folder: Path) -> dict[str, Callable[[], None]]:
    paths, labels = notebook_loop.list_folder(folder / "photos")
    cache = folder / "cache"
    store = PixelStore.open(open_dataset(folder / "photos"), SPEC, cache=cache)
    sides = {side: network(EPOCH_MODEL, 64, side, cache) for side in ("plain", OURS, FULL)}
    loader = Loader(store, SPEC, AUGMENT, 64, seed=0)
    truth = torch.from_numpy(store.dataset.labels)

    def ours(side: str) -> None:
        for batch in loader.epoch(plan(np.arange(len(paths)), BATCH, 0, 0), 0):
            step(sides[side], batch.images, truth[batch.indices])

    def plain() -> None:
        model, optimizer, _ = sides["plain"]
        notebook_loop.train_epoch(model, optimizer, notebook_loop.batches(paths, labels, 64, BATCH, 0))

    return {"plain": plain, OURS: partial(ours, OURS), FULL: partial(ours, FULL)}


def measure(sides: dict[str, Callable[[], None]], images: int, rounds: int) -> dict[str, dict[str, float]]:
    """Images a second of each side, the median over rounds in which they take turns, and the ratio to the plain one."""
    for run in sides.values():
        run()  # warm up
    speeds: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side, run in sides.items():
            start = time.perf_counter()
            run()
            speeds[side].append(images / (time.perf_counter() - start))
    found = {}
    for side, values in speeds.items():
        ratios = [value / plain for value, plain in zip(values, speeds["plain"], strict=True)]
        found[side] = {
            "images_per_second": statistics.median(values),
            "ratio": statistics.median(ratios),
            "lowest": min(ratios),
            "highest": max(ratios),
        }
    return found


def convolutions(dtype: torch.dtype) -> Callable[[], None]:
    """All convolutions of ResNet-18 on a batch, forward and backward, with the gradients that a step needs."""
    model = network(EPOCH_MODEL, 64, FULL, Path())[0]
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    seen: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def keep(layer: nn.Module, given: tuple[Tensor, ...], result: Tensor) -> None:
        seen[layer] = given[0], result

    handles = [layer.register_forward_hook(keep) for layer in layers]
    model(torch.randn(BATCH, 3, 64, 64).contiguous(memory_format=torch.channels_last))
    for handle in handles:
        handle.remove()
    calls: list[tuple[Tensor, nn.Conv2d, Tensor]] = []
    for layer in layers:
        images, result = (one.detach().to(dtype) for one in seen[layer])
        images.requires_grad_(images.shape[1] > 3)  # of pixels no gradient is wanted
        calls.append((images, layer.to(dtype=dtype, memory_format=torch.channels_last), torch.randn_like(result)))  # type: ignore[call-overload]

    def run() -> None:
        for images, layer, gradient in calls:
            wanted = [*([images] if images.requires_grad else []), layer.weight]
            torch.autograd.grad(layer(images), wanted, gradient)

    return run


def limits(rounds: int) -> dict[str, float]:
    """Images a second of the convolutions alone, in each precision: the median of rounds in turn."""
    sides = {"plain": convolutions(torch.float32), "bfloat16": convolutions(torch.bfloat16)}
    found = measure(sides, BATCH, 5 * rounds)
    return {name: found[side]["images_per_second"] for name, side in (("float32", "plain"), ("bfloat16", "bfloat16"))}


def compare(rounds: int, images: int) -> dict[str, dict[str, dict[str, float]]]:
    """Measure the step and the epochs; each name of a row of the table with its sides."""
    with tempfile.TemporaryDirectory() as place:
        for side in (112, 250):
            draw_folder(Path(place) / str(side) / "photos", images, side)
        return {
            "training step, ResNet-50, 112 px, batch 32": measure(
                step_sides(Path(place) / "cache"), BATCH * STEPS, rounds
            ),
            "epoch, ResNet-18, 64 px, JPEGs of 112 px": measure(epoch_sides(Path(place) / "112"), images, rounds),
            "epoch, ResNet-18, 64 px, JPEGs of 250 px": measure(epoch_sides(Path(place) / "250"), images, rounds),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=160)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows, limit = compare(arguments.rounds, arguments.images), limits(arguments.rounds)
    if arguments.json:
        facts = {"threads": arguments.threads, "rounds": arguments.rounds, **rows, "convolutions alone": limit}
        print(json.dumps(facts, indent=2))
        return
    for name, sides in rows.items():
        for side, row in sides.items():
            spread = f"({row['lowest']:.2f} to {row['highest']:.2f})"
            print(f"{name:42} {side:14} {row['images_per_second']:8.1f}   {row['ratio']:.2f} x  {spread}")
    for name, speed in limit.items():
        print(f"{'convolutions of ResNet-18 alone, 64 px':42} {name:14} {speed:8.1f}")


if __name__ == "__main__":
    main()
