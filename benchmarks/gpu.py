"""One device against the CPU and against a plain loop, in under six minutes.

    python benchmarks/gpu.py [--device auto] [--model iresnet50] [--batch 256] [--classes 100000] [--seconds 15]

First each computation on the device beside the CPU's in float32: batches, classes, vectors, heat maps, a scan, training
steps. Then images a second of a training step (ArcFace, the chosen precision):

    fixed batch         one batch that lies on the device: what the step alone takes
    pixels on device    batches gathered and augmented there
    pixels on the CPU   batches of four threads, copied from pinned memory
    plain loop          PIL opens and flips each JPEG in the workers of a DataLoader
    Partial FC          the fixed batch, a tenth of `--people` classes a step; and all of them

and of embedding. Last, a run that is broken off and resumed with `--deterministic`, compared bit by bit.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from loading import draw_folder
from PIL import Image
from torch import Tensor

from facewright import devices
from facewright.bundle import Bundle
from facewright.data.loaders import Loader
from facewright.data.resident import ResidentStore
from facewright.data.sampling import plan
from facewright.data.sources import open_dataset
from facewright.data.store import PixelStore
from facewright.embedding import Embedder
from facewright.events import EpochFinished
from facewright.explanation import Explainer
from facewright.faces.scan import Scanner
from facewright.heads import put_head
from facewright.inference import Classifier
from facewright.input_spec import InputSpec
from facewright.losses.objective import Objective
from facewright.models.catalog import create_model
from facewright.specs import Augment, HeadSpec, ObjectiveSpec
from facewright.training import freezing, optimizers, precision
from facewright.training.distributed import World
from facewright.training.recipe_parts import OptimizerSpec
from facewright.training.sharding import ShardedObjective, Sharding
from facewright.training.training_module import TrainingModule
from facewright.workflows.training_runs import train

CPU = torch.device("cpu")
AUGMENT = Augment(flip=0.5, area=(0.9, 1.0), brightness=0.1)
FEATURES = 64  # classes of the small network that is compared
BROKEN = "synthetic:faces?identities=3&images=16&size=40"
Rows = list[tuple[str, str, str]]


class Stopped(Exception):
    """The run is broken off."""


class Step:
    """A training step of ArcFace on a device."""

    def __init__(self, name: str, size: int, classes: int, device: torch.device, dtype: torch.dtype) -> None:
        torch.manual_seed(0)
        network = create_model(name, 2, input_size=size)
        put_head(network, HeadSpec(kind="cosine", scale=64.0, embedding=512), classes)
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        spec = ObjectiveSpec(kind="arcface")
        self.module = TrainingModule(network, Objective(spec, classes, 512), network.classifier_name, dtype).to(device)
        self.rule, self.number = OptimizerSpec(name="sgd", learning_rate=0.01), 0
        self.classes, self.device = classes, device
        self.build()

    def build(self) -> None:
        self.optimizer = optimizers.build(self.rule, freezing.rate_groups(self.module.network, 1.0), 0.01)

    def sample(self, negatives: float) -> None:
        """Take only a share of the classes a step, as Partial FC does."""
        sharding = Sharding(World(device=self.device), self.classes)
        self.module.objective = ShardedObjective(ObjectiveSpec(kind="arcface"), sharding, negatives).to(self.device)

    def __call__(self, images: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(self.number)
        labels = devices.moved(torch.randint(self.classes, (len(images),), generator=generator), self.device)
        self.optimizer.zero_grad(set_to_none=True)
        loss, _ = self.module(images, labels, self.number)
        torch.autograd.backward(loss)
        self.optimizer.step()
        self.number += 1
        detached: Tensor = loss.detach()
        return detached


def wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def speed(step: Callable[[Tensor], object], batches: Iterator[Tensor], device: torch.device, seconds: float) -> float:
    """Images a second; the first three batches do not count."""
    for _ in range(3):
        step(next(batches))
    wait(device)
    began, images = time.perf_counter(), 0
    while not images or time.perf_counter() - began < seconds:
        batch = next(batches)
        step(batch)
        images += len(batch)
    wait(device)
    return images / (time.perf_counter() - began)


def ours(loader: Loader, rows: np.ndarray, batch: int) -> Iterator[Tensor]:
    """Batches of one epoch after the other."""
    for epoch in count():
        for one in loader.epoch(plan(rows, batch, 0, epoch), epoch):
            yield one.images


class Jpegs(torch.utils.data.Dataset[Tensor]):
    """What a plain loop does to a JPEG."""

    def __init__(self, paths: list[Path], size: int) -> None:
        self.paths, self.size = paths, size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        with Image.open(self.paths[index]) as image:
            photo = image.convert("RGB").resize((self.size, self.size))
        if torch.rand(()) < AUGMENT.flip:
            photo = photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return (torch.from_numpy(np.array(photo)).permute(2, 0, 1).float() / 255 - 0.5) / 0.5


def plain(paths: list[Path], size: int, batch: int, workers: int, device: torch.device) -> Iterator[Tensor]:
    loader = torch.utils.data.DataLoader(
        Jpegs(paths, size), batch, shuffle=True, drop_last=True, num_workers=workers,
        pin_memory=device.type == "cuda", persistent_workers=workers > 0,
    )  # fmt: skip
    while True:
        for images in loader:
            yield images.to(device, non_blocking=True)


def agreement(store: PixelStore, spec: InputSpec, device: torch.device) -> Rows:
    """Largest differences between the device and the CPU, in float32."""
    rows, names = np.arange(min(16, len(store.dataset))), (str(device), "cpu")
    torch.manual_seed(0)
    network = create_model("plain_cnn", FEATURES, input_size=spec.height)
    classes = ("face", *(f"c{number}" for number in range(1, FEATURES)))
    bundle = Bundle("plain_cnn", "imagenet", classes, spec, network.state_dict())
    pixels = store.batch(rows)
    there, here = (
        Loader(one, spec, AUGMENT, spec.height, 0, device=place).epoch([rows], 0)
        for one, place in ((ResidentStore(store, rows, device), device), (store, CPU))
    )
    level = 1 / (255 * spec.std[0])
    found = {"batches, levels of 255": (next(there).images.cpu() - next(here).images).abs().max().item() / level}
    logits, vectors, heat = (
        [compute(name) for name in names]
        for compute in (
            lambda name: Classifier(bundle, name).logits(pixels),
            lambda name: Embedder(bundle, device=name).embed(pixels),
            lambda name: Explainer(Classifier(bundle, name)).maps(pixels[:2], [0, 1]),
        )
    )
    found["predict, logits"] = float(np.abs(logits[0] - logits[1]).max())
    found["embed, verify, pairs, 1 - cosine"] = float(1 - (vectors[0] * vectors[1]).sum(1).min())
    found["explain, heat"] = float(np.abs(heat[0] - heat[1]).max())
    photo = np.random.default_rng(0).integers(0, 256, (3 * spec.height, 3 * spec.height, 3), np.uint8)
    chances = [Scanner(bundle.model().to(name), spec, 0).probabilities(photo) for name in names]
    found["scan, probability"] = float(np.abs(chances[0] - chances[1]).max())
    images = Loader(store, spec, None, spec.height, 0).epoch([rows], 0)
    batch = next(images).images
    losses = []
    for name in names:
        step = Step("plain_cnn", spec.height, FEATURES, torch.device(name), torch.float32)
        losses.append([float(step(batch.to(name))) for _ in range(3)])
    found["train, loss of 3 steps"] = float(np.abs(np.subtract(losses[0], losses[1])).max())
    limits = (4.001, 1e-3, 1e-4, 1e-2, 1e-3, 1e-2)
    return [
        (name, f"{value:.1e}", "yes" if value <= limit else f"NO, over {limit:g}")
        for (name, value), limit in zip(found.items(), limits, strict=True)
    ]


def training_speeds(arguments: argparse.Namespace, store: PixelStore, folder: Path, device: torch.device) -> Rows:
    spec, batch = store.spec, arguments.batch
    half = precision.half_of(device) if arguments.precision == "auto" else arguments.precision
    dtype = precision.dtype_of(half or "float32", device)
    rows, seconds = np.arange(len(store.dataset)), arguments.seconds
    resident = ResidentStore(store, rows, device)
    step = Step(arguments.model, arguments.size, arguments.classes, device, dtype)
    fixed = next(ours(Loader(resident, spec, AUGMENT, arguments.size, 0, device=device), rows, batch))
    ways = {
        "fixed batch": iter(lambda: fixed, None),
        "pixels on device": ours(Loader(resident, spec, AUGMENT, arguments.size, 0, device=device), rows, batch),
        "pixels on the CPU": ours(
            Loader(store, spec, AUGMENT, arguments.size, 0, 0 if device.type == "cpu" else 4, device), rows, batch
        ),
        "plain loop": plain(sorted(folder.rglob("*.jpg")), arguments.size, batch, arguments.workers, device),
    }
    rates = {name: speed(step, batches, device, seconds) for name, batches in ways.items()}
    del step
    if arguments.people:
        step = Step(arguments.model, arguments.size, arguments.people, device, dtype)
        for negatives in (0.1, 1.0):
            step.sample(negatives)
            try:
                name = f"{arguments.people:,} people, Partial FC {negatives:g}"
                rates[name] = speed(step, iter(lambda: fixed, None), device, seconds)
            except RuntimeError as error:
                if not devices.is_out_of_memory(error):
                    raise
        if device.type != "cpu":
            rates["peak memory, GB"] = torch.accelerator.max_memory_allocated(device) / 1e9
    best = rates["fixed batch"]
    return [(name, f"{value:,.1f}", f"{value / best:.2f}") for name, value in rates.items()]


def embedding_speed(arguments: argparse.Namespace, spec: InputSpec, device: torch.device) -> Rows:
    network = create_model(arguments.model, 2, input_size=arguments.size, stem="imagenet")
    embedder = Embedder(Bundle(arguments.model, "imagenet", ("a", "b"), spec, network.state_dict()), device=str(device))
    images = np.random.default_rng(0).integers(0, 256, (arguments.batch, spec.height, spec.width, 3), np.uint8)
    rate = speed(lambda batch: embedder.embed(batch.numpy()), iter(lambda: torch.from_numpy(images), None), device,
                 arguments.seconds / 3)  # fmt: skip
    return [("embed", f"{rate:,.1f}", "")]


def resumed_bits(folder: Path, device: torch.device) -> Rows:
    """Break a run off after its first epoch, resume it, and compare the weights with those of one that went through."""

    def stop(event: object) -> None:
        if isinstance(event, EpochFinished):
            raise Stopped

    changes = {"training.epochs": "2", "training.batch": "8", "training.deterministic": "true", "input.size": "40"}
    changes |= {"training.precision": "float32", "training.checkpoint_steps": "1"}
    options: dict[str, Any] = {"overrides": changes, "report": False, "device": str(device)}
    train(BROKEN, model="resnet18", out=folder / "whole", **options)
    with suppress(Stopped):
        train(BROKEN, model="resnet18", out=folder / "broken", on_event=stop, **options)
    train(BROKEN, model="resnet18", out=folder / "broken", resume=True, **options)
    same = len({(folder / name / "model.safetensors").read_bytes() for name in ("whole", "broken")}) == 1
    return [("resume with --deterministic", "", "bit-identical" if same else "NOT bit-identical")]


def main() -> None:
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
    arguments = parser.parse_args()
    device, began = devices.choose(arguments.device), time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        photos = Path(place) / "photos"
        draw_folder(photos, arguments.images, arguments.size)
        spec = InputSpec(arguments.size, arguments.size, (0.5,) * 3, (0.5,) * 3)
        store = PixelStore.open(open_dataset(photos), spec, cache=Path(place) / "cache")
        tables = {
            ("computation", "difference from the CPU", "within"): agreement(store, spec, device),
            (f"{arguments.model}, batch {arguments.batch}", "images/s", "of the fixed batch"): [
                *training_speeds(arguments, store, photos, device),
                *embedding_speed(arguments, spec, device),
                *resumed_bits(Path(place), device),
            ],
        }
    for header, rows in tables.items():
        lines = [header, ("---",) * 3, *rows]
        sys.stdout.write("\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n\n")
    sys.stdout.write(f"on {devices.describe(device) or device}, {time.perf_counter() - began:.0f} s in all\n")


if __name__ == "__main__":
    main()
