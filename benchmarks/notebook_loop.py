"""The peer of the benchmarks: the plain training loop of the notebooks our users come from.

A folder of JPEGs or PNGs; each image opened, converted, cropped at random, resized and mirrored by Pillow in the main
process, each time it is needed; to a float tensor in [0, 1]; normalised; stacked. The model is float32 in contiguous
(B, C, H, W) memory, the loss is read after every step. Written as fast as that style allows: no needless copies.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

MEAN = (0.485, 0.456, 0.406)  # what such notebooks write, whatever the data
STD = (0.229, 0.224, 0.225)


def list_folder(folder: Path) -> tuple[list[Path], list[int]]:
    """The images of a folder per class and their labels, by name."""
    classes = sorted(entry for entry in folder.iterdir() if entry.is_dir())
    found = [(path, label) for label, part in enumerate(classes) for path in sorted(part.iterdir()) if path.is_file()]
    return [path for path, _ in found], [label for _, label in found]


def batches(
    paths: Sequence[Path], labels: Sequence[int], size: int, batch: int, seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """One shuffled epoch of (batch, 3, size, size) float32 images and (batch,) labels; a short last batch goes.

    Args:
        paths: the images.
        labels: the class of each.
        size: side of an image, pixels.
        batch: images a batch.
        seed: of the order and the crops.
    """
    generator = random.Random(seed)
    order = list(range(len(paths)))
    generator.shuffle(order)
    for start in range(0, len(order) - batch + 1, batch):
        chosen = order[start : start + batch]
        images = torch.stack([load(paths[index], size, generator) for index in chosen])
        yield images, torch.tensor([labels[index] for index in chosen])


def load(path: Path, size: int, generator: random.Random) -> Tensor:
    """One image: decoded, a random resized crop of it, mirrored every second time, normalised (3, size, size)."""
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    image = image.crop(random_box(image.width, image.height, generator))
    image = image.resize((size, size), Image.Resampling.BILINEAR)
    if generator.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div_(255)
    return pixels.sub_(torch.tensor(MEAN)[:, None, None]).div_(torch.tensor(STD)[:, None, None])


def random_box(width: int, height: int, generator: random.Random) -> tuple[int, int, int, int]:
    """A box of 8 to 100 % of the area and a ratio of 3/4 to 4/3, anywhere inside; after ten misses all of it."""
    for _ in range(10):
        area = generator.uniform(0.08, 1.0) * width * height
        ratio = math.exp(generator.uniform(math.log(3 / 4), math.log(4 / 3)))
        across, down = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < across <= width and 0 < down <= height:
            left, top = generator.randint(0, width - across), generator.randint(0, height - down)
            return left, top, left + across, top + down
    return 0, 0, width, height


def train_epoch(
    model: nn.Module, optimizer: torch.optim.Optimizer, loaded: Iterable[tuple[Tensor, Tensor]]
) -> tuple[float, float, int]:
    """One epoch of plain training; returns the mean loss, the accuracy on the batches as trained, and images seen."""
    model.train()
    total, correct, seen = 0.0, 0, 0
    for images, labels in loaded:
        optimizer.zero_grad()
        logits = model(images)
        loss = F.cross_entropy(logits, labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        total += loss.item() * len(labels)
        correct += int((logits.argmax(1) == labels).sum().item())
        seen += len(labels)
    return total / max(seen, 1), correct / max(seen, 1), seen
