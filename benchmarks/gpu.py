"""One device against the CPU and against a plain loop, in under six minutes.

    python benchmarks/gpu.py [--device auto] [--model iresnet50] [--batch 256] [--classes 100000] [--seconds 15]

Each line is printed once it is known: what was measured, what it must show, and if it does. A line that fails or
takes too long says so, and the next one begins. The last line is all of them as JSON.

First what each command computes on the device beside the CPU's in float32. Then images a second of a training step
(ArcFace, in the number format of the device):

    fixed batch         one batch that lies on the device: what the step alone takes
    pixels on device    batches gathered and augmented there: within 3 % of it
    pixels on the CPU   batches of four threads, copied from pinned memory
    plain loop          PIL opens and flips each JPEG in the workers of a DataLoader: half as fast, or slower
    Partial FC          the fixed batch, a tenth of `--people` classes a step, in 40 GB; and all of them
    deterministic       what deterministic kernels cost
    compiled            the fixed batch with `--compile`, where time is left

and of embedding, with the vectors of the CPU. A run that is broken off is resumed with `--deterministic` and compared
bit by bit, and a batch without memory must be one line.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from device_agreement import AUGMENT, CLASSES, comparisons
from device_steps import Step, ours, plain, speed
from loading import draw_folder
from torch import Tensor

from facewright import devices
from facewright.bundle import Bundle
from facewright.data.loaders import Loader, ResidentStore
from facewright.data.sources import open_dataset
from facewright.data.store import PixelStore
from facewright.embedding import Embedder
from facewright.errors import DeviceFault, FacewrightError
from facewright.events import EpochFinished
from facewright.input_spec import InputSpec
from facewright.models.catalog import create_model
from facewright.training import precision
from facewright.training.training_module import CUDA_GRAPHS, autocast
from facewright.workflows.training_runs import train

ALL = 345.0  # seconds of all lines together
BROKEN = "synthetic:faces?identities=3&images=16&size=40"


class Stopped(Exception):
    """The run is broken off."""


class Overtime(Exception):
    """A line takes longer than it may."""


class Found(NamedTuple):
    """What a line found: a number with its unit, and if it is what it must be; None: nothing was asked of it."""

    value: float
    unit: str
    met: bool | None = None


class Table:
    """Lines that are printed as they are measured, each within its time."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.began, self.rows = time.perf_counter(), list[dict[str, Any]]()
        if hasattr(signal, "SIGALRM"):
            signal.signal(signal.SIGALRM, self._ring)

    def line(self, name: str, wanted: str, seconds: float, measure: Callable[[], Found]) -> float | None:
        """Measure and print; return the number, None where there is none."""
        start = time.perf_counter()
        limit = self.limit * min(seconds, ALL - (start - self.began)) if self.limit else float("inf")
        found, problem = None, "no time left" if limit < 1 else ""
        try:
            if not problem:
                self._set(limit if self.limit else 0)
                found = measure()
        except Overtime:
            problem = f"not done in {limit:.0f} s"
        except Exception as error:  # the next line is measured all the same
            problem = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        finally:
            self._set(0)
        took, met = time.perf_counter() - start, None if found is None else found.met
        verdict = problem or {None: "", True: "yes", False: "NO"}[met]
        text = "" if found is None else f"{found.value:,.4g} {found.unit}".strip()
        sys.stdout.write(f"| {name} | {text} | {wanted} | {verdict} | {took:.0f} s |\n")
        sys.stdout.flush()
        row = {"name": name, "wanted": wanted, "met": met, "problem": problem or None, "seconds": round(took, 1)}
        self.rows.append(row | ({} if found is None else {"value": found.value, "unit": found.unit}))
        return None if found is None else found.value

    def _set(self, seconds: float) -> None:
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, seconds)

    def _ring(self, *_: object) -> None:
        raise Overtime


def training_lines(
    table: Table, asked: argparse.Namespace, store: PixelStore, photos: Path, dtype: torch.dtype
) -> None:
    """Measure the ways of feeding one training step."""
    device, rows, limit = asked.device, np.arange(len(store.dataset)), 3 * asked.seconds + 25
    held: dict[str, Any] = {}

    def loaded(one: Any, workers: int = 0) -> Iterator[Tensor]:
        return ours(Loader(one, store.spec, AUGMENT, asked.size, 0, workers, device), rows, asked.batch)

    def rate(batches: Callable[[], Iterator[Tensor]], share: float, slower: bool = False) -> Found:
        found = speed(held["step"], batches(), device, asked.seconds)
        ratio = found / held.setdefault("fixed", found)
        met = None if not share else ratio <= share if slower else ratio >= share
        return Found(found, f"images/s, {ratio:.3f} of the fixed batch", met)

    def fixed() -> Found:
        held["step"] = Step(asked.model, asked.size, asked.classes, device, dtype)
        held["resident"] = ResidentStore(store, rows, device)
        held["batch"] = next(loaded(held["resident"]))
        return rate(lambda: iter(lambda: held["batch"], None), 0)

    name = f"{asked.model}, {asked.classes:,} classes, batch {asked.batch}, {str(dtype).removeprefix('torch.')}"
    best = table.line(f"{name}: fixed batch", "", limit, fixed)
    there = table.line("pixels on device", "at least 0.97", limit, lambda: rate(lambda: loaded(held["resident"]), 0.97))
    threads = 0 if device.type == "cpu" else 4
    table.line("pixels on the CPU", "", limit, lambda: rate(lambda: loaded(store, threads), 0))
    files = sorted(photos.rglob("*.jpg"))
    loop = table.line(
        "plain loop of PIL and DataLoader", "at most 0.5", limit,
        lambda: rate(lambda: plain(files, asked.size, asked.batch, asked.workers, device), 0.5, slower=True),
    )  # fmt: skip
    if best and there:
        share = max(0.0, 1 - there / best)
        table.line("data path, share of the step", "at most 0.05", 5, lambda: Found(share, "", share <= 0.05))
    if there and loop:
        table.line("times the plain loop", "at least 2", 5, lambda: Found(there / loop, "", there >= 2 * loop))
    held.clear()


def people_lines(table: Table, asked: argparse.Namespace, images: Tensor, dtype: torch.dtype) -> None:
    """Measure a step with very many classes, a share of them and all; each with the memory that it took."""
    for negatives in (0.1, 1.0) if asked.people else ():
        peak: list[int | None] = []

        def measured(negatives: float = negatives, peak: list[int | None] = peak) -> Found:
            devices.reset_peak_memory(asked.device)
            step = Step(asked.model, asked.size, asked.people, asked.device, dtype)
            step.sample(negatives)
            rate = speed(step, iter(lambda: images, None), asked.device, asked.seconds / 2)
            peak.append(devices.peak_memory(asked.device))
            return Found(rate, "images/s")

        name = f"{asked.people:,} people, Partial FC {negatives:g}"
        table.line(name, "", 2 * asked.seconds + 25, measured)
        if peak and peak[0] is not None:
            used, sampled = peak[0] / 1e9, negatives < 1
            met, wanted = (used <= 40, "at most 40 GB") if sampled else (None, "")
            table.line(f"{name}: peak memory", wanted, 5, lambda used=used, met=met: Found(used, "GB", met))  # type: ignore[misc]


def embedding_line(asked: argparse.Namespace, spec: InputSpec) -> tuple[Callable[[], Found], Callable[[], Found]]:
    torch.manual_seed(0)
    network = create_model(asked.model, 2, input_size=asked.size, stem="imagenet")
    bundle = Bundle(asked.model, "imagenet", ("a", "b"), spec, network.state_dict())
    shape = (asked.batch, spec.height, spec.width, 3)
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape, np.uint8))

    def rate() -> Found:
        embedder = Embedder(bundle, device=str(asked.device))
        step = lambda batch: embedder.embed(batch.numpy())  # noqa: E731
        return Found(speed(step, iter(lambda: images, None), asked.device, asked.seconds / 3), "images/s")

    def cosine() -> Found:
        some = images[:16].numpy()
        here, there = (Embedder(bundle, device=name).embed(some) for name in (str(asked.device), "cpu"))
        least = float((here * there).sum(1).min())
        return Found(least, "least cosine with the CPU's vectors", least >= 0.9999)

    return rate, cosine


def resumed(folder: Path, device: torch.device) -> Found:
    """Break a run off after its first epoch, resume it, and compare the weights with those of one that went through."""

    def stop(event: object) -> None:
        if isinstance(event, EpochFinished):
            raise Stopped

    changes = {"training.epochs": "2", "training.batch": "8", "training.deterministic": "true", "input.size": "40"}
    changes |= {"training.precision": "float32", "training.checkpoint_steps": "2"}
    options: dict[str, Any] = {"overrides": changes, "report": False, "device": str(device)}
    train(BROKEN, model="resnet18", out=folder / "whole", **options)
    with suppress(Stopped):
        train(BROKEN, model="resnet18", out=folder / "broken", on_event=stop, **options)
    train(BROKEN, model="resnet18", out=folder / "broken", resume=True, **options)
    files = {(folder / name / "model.safetensors").read_bytes() for name in ("whole", "broken")}
    return Found(len(files), "different model files", len(files) == 1)


def out_of_memory(device: torch.device) -> Found:
    try:
        torch.empty(2**50, dtype=torch.uint8, device=device)
    except RuntimeError as error:
        told = devices.fault(error, device, 64)
        return Found(len(str(told).splitlines()), "line", isinstance(told, DeviceFault) and "batch of 64" in str(told))
    return Found(0, "lines", False)


def kernels(asked: argparse.Namespace, images: Tensor, dtype: torch.dtype) -> Found:
    network = create_model(asked.model, 100, input_size=asked.size).to(asked.device)

    def step(exact: bool) -> None:
        with devices.deterministic(asked.device, exact), autocast(asked.device, dtype):
            loss = network(images).float().logsumexp(1).mean()
            torch.autograd.backward(loss)
            loss.item()

    free, exact = precision.step_seconds(step, (False, True), precision.SECONDS / 2)
    return Found(exact / free, "times as long as a step without")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--model", default="iresnet50", help="an architecture; of the class of ResNet-50")
    parser.add_argument("--size", type=int, default=112, help="px")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--classes", type=int, default=100_000)
    parser.add_argument("--people", type=int, default=1_000_000, help="classes of Partial FC; 0: left out")
    parser.add_argument("--images", type=int, default=1024, help="JPEGs that are drawn")
    parser.add_argument("--workers", type=int, default=8, help="of the plain loop")
    parser.add_argument("--seconds", type=float, default=15.0, help="of each way of training")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--limit", type=float, default=1.0, help="times the time that a line may take; 0: any")
    asked = parser.parse_args()
    try:
        device = devices.choose(asked.device)
    except FacewrightError as error:
        parser.exit(1, f"error: {error}\n")
    if device.type == "cpu" and asked.device == "auto":
        parser.exit(1, f"error: PyTorch {torch.__version__} finds no GPU; to try the script itself, see docs/gpu.md\n")
    asked.device = device
    return asked


def main() -> None:
    asked = parsed()
    table = Table(asked.limit)
    device, spec = asked.device, InputSpec(asked.size, asked.size, (0.5,) * 3, (0.5,) * 3)
    wanted = precision.half_of(device) if asked.precision == "auto" else asked.precision
    dtype = precision.dtype_of(wanted or "float32", device)
    with tempfile.TemporaryDirectory() as place:
        folder, photos = Path(place), Path(place) / "photos"
        draw_folder(photos, asked.images, asked.size)
        store = PixelStore.open(open_dataset(photos), spec, cache=folder / "cache")
        sys.stdout.write(
            f"{devices.describe(device) or device}; images after {time.perf_counter() - table.began:.0f} s\n\n"
        )
        sys.stdout.write("| measured | found | must be | is it | took |\n|---|---|---|---|---|\n")

        def small(where: torch.device, images: Tensor) -> list[float]:
            step = Step("plain_cnn", asked.size, CLASSES, where, torch.float32)
            return [float(step(images)) for _ in range(3)]

        for name, (difference, most) in comparisons(store, device, photos, folder, small).items():

            def compared(difference: Callable[[], float] = difference, most: float = most) -> Found:
                found = difference()
                return Found(found, "off the CPU", found <= most)

            table.line(name, f"at most {most:g}", 20, compared)
        table.line("resume with --deterministic", "1", 60, lambda: resumed(folder, device))
        training_lines(table, asked, store, photos, dtype)
        images = torch.randn(asked.batch, 3, asked.size, asked.size).to(device)
        images = images.contiguous(memory_format=torch.channels_last)
        people_lines(table, asked, images, dtype)
        rate, cosine = embedding_line(asked, spec)
        table.line("embed", "", asked.seconds + 15, rate)
        table.line("embed, as on the CPU", "at least 0.9999", 30, cosine)
        table.line("deterministic kernels", "", 15, lambda: kernels(asked, images, dtype))
        if device.type != "cpu":
            table.line("no memory left", "1", 10, lambda: out_of_memory(device))
        if device.type == "cuda":

            def compiled() -> Found:
                step = Step(asked.model, asked.size, asked.classes, device, dtype, CUDA_GRAPHS)
                return Found(speed(step, iter(lambda: images, None), device, asked.seconds / 2), "images/s")

            table.line("fixed batch, compiled", "", 120, compiled)
    seconds = time.perf_counter() - table.began
    facts = {"device": str(device), "seconds": round(seconds, 1), "torch": torch.__version__, "rows": table.rows}
    sys.stdout.write(f"\n{seconds:.0f} s in all\n{json.dumps(facts)}\n")


if __name__ == "__main__":
    main()
