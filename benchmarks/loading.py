"""Loading: a warm pixel store against opening and augmenting each JPEG anew, as the notebooks do.

    python benchmarks/loading.py [--size 112] [--images 256] [--rounds 7] [--threads 2] [--json]

Draws a folder of JPEGs (quality 95, 112 px) into a temporary place, then times whole epochs of the ways in turn,
several rounds, and compares medians of images a second:

    notebook            decode, random resized crop, mirror, to float, normalise, stack: one image after another
    store               gather from the warm store, normalise
    store, augmented    the same with the augmentation of the notebook
    store, all of it    the same with geometry, colour and erasing

Both sides end with the same thing: normalised float32 batches of the same size. The first ratio is the one the
project promises (at least 20).
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import notebook_loop
import numpy as np
import torch
from PIL import Image

from facewright.data.loaders import Loader
from facewright.data.sampling import plan
from facewright.data.sources import open_dataset
from facewright.data.store import PixelStore
from facewright.input_spec import InputSpec
from facewright.specs import Augment

BATCH = 32
STORED = 112  # pixels: side of the JPEGs and of the stored images
AUGMENTS = {
    "store": None,
    "store, augmented": Augment(area=(0.08, 1.0), aspect=math.log(4 / 3), crop="inside"),
    "store, all of it": Augment(
        area=(0.7, 1.1),
        aspect=0.1,
        rotation=10,
        translate=0.06,
        brightness=0.3,
        contrast=0.3,
        saturation=0.3,
        erase=0.25,
    ),
}


def draw_folder(folder: Path, images: int, side: int = STORED) -> None:
    """Draws synthetic faces of eight people as JPEGs of `side` pixels, a folder per person."""
    drawn = open_dataset(f"synthetic:faces?identities=8&images={max(1, images // 8)}&size={side}")
    for record in drawn.records:
        path = (folder / record.path).with_suffix(".jpg")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(drawn.source.read(record, None)).save(path, quality=95)


def rate(epoch: Callable[[], Iterable[object]], images: int, at_least: float = 0.3) -> float:
    """Images a second over whole epochs, for at least some seconds."""
    done, start = 0, time.perf_counter()
    while True:
        done += sum(1 for _ in epoch())
        elapsed = time.perf_counter() - start
        if elapsed >= at_least:
            return done * min(BATCH, images) / elapsed


def measure(folder: Path, size: int, rounds: int) -> dict[str, list[float]]:
    """Images a second of each way, a number a round; the ways take turns."""
    paths, labels = notebook_loop.list_folder(folder)
    dataset = open_dataset(folder)
    store = PixelStore.open(
        dataset, InputSpec(STORED, STORED, notebook_loop.MEAN, notebook_loop.STD), folder / ".cache"
    )
    indices = np.arange(len(dataset.records))
    ways: dict[str, Callable[[], Iterable[object]]] = {
        "notebook": lambda: notebook_loop.batches(paths, labels, size, BATCH, seed=0)
    }
    for name, augment in AUGMENTS.items():
        loader = Loader(store, store.spec, augment, size, seed=0)
        ways[name] = lambda loader=loader: loader.epoch(plan(indices, BATCH, 0, 0), 0)  # type: ignore[misc]
    for epoch in ways.values():
        sum(1 for _ in epoch())  # warm caches of files and memory
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, epoch in ways.items():
            rates[name].append(rate(epoch, len(paths)))
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=STORED, help="side of the network's input, pixels")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        photos = Path(folder) / "photos"
        draw_folder(photos, arguments.images)
        rates = measure(photos, arguments.size, arguments.rounds)
    medians = {name: statistics.median(values) for name, values in rates.items()}
    ratios = {name: value / medians["notebook"] for name, value in medians.items()}
    if arguments.json:
        print(json.dumps({"size": arguments.size, "images_per_second": medians, "ratio": ratios}))
        return
    for name, value in medians.items():
        spread = f"{min(rates[name]):,.0f} to {max(rates[name]):,.0f}"
        sys.stdout.write(f"{name:<18}{value:>10,.0f} images/s ({spread}) {ratios[name]:>6.1f} x\n")


if __name__ == "__main__":
    main()
