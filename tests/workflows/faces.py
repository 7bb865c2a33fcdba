"""A small network with fresh weights and a few drawn faces on disk, for the tests of verification."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from facewright import bundle as bundles
from facewright.bundle import Bundle, put_head
from facewright.data.sources import open_dataset
from facewright.heads import HeadSpec
from facewright.input_spec import InputSpec
from facewright.models.catalog import create_model

SIDE = 40  # px; PatchNet takes no less than 36
SPEC = InputSpec(SIDE, SIDE, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


CLASSES = ("ann", "bob", "cid")


def small_bundle(classes: tuple[str, ...] = CLASSES, head: HeadSpec | None = None, seed: int = 0) -> Bundle:
    """An untrained PatchNet; equal seeds give equal weights. Without classes it only embeds."""
    count = len(classes or CLASSES)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = create_model("patchnet", count, input_size=SIDE)
        put_head(model, head, count)
    weights = model.state_dict()
    if not classes:
        weights = {name: tensor for name, tensor in weights.items() if not name.startswith(f"{model.classifier_name}.")}
    return Bundle("patchnet", "imagenet", classes, SPEC, weights, {}, (), head)


def saved(folder: Path, bundle: Bundle | None = None) -> Path:
    """A bundle as a file."""
    path = folder / "model.safetensors"
    bundles.save(path, small_bundle() if bundle is None else bundle)
    return path


def draw_people(folder: Path, people: int, photos: int, seed: int = 0, size: int = 40) -> Path:
    """A folder a person with drawn faces as PNG: `person_00/0.png` …"""
    data = open_dataset(f"synthetic:faces?identities={people}&images={photos}&size={size}&seed={seed}")
    counted: dict[int | None, int] = {}
    for record in data.records:
        number = counted.get(record.label, 0)
        counted[record.label] = number + 1
        name = data.classes[record.label] if record.label is not None else "nobody"
        (folder / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(data.source.read(record, None)).save(folder / name / f"{number}.png")
    return folder


def write_pairs(path: Path, people: int, photos: int, impostors: int, folds: int = 0) -> Path:
    """Every genuine pair of `draw_people`'s photos, and so many of two people; in folds, or in none."""
    genuine = [
        (f"person_{who:02d}/{i}.png", f"person_{who:02d}/{j}.png", 1)
        for who in range(people)
        for i in range(photos)
        for j in range(i)
    ]
    draws = np.random.default_rng(0)
    different = []
    for _ in range(impostors):
        a, b = draws.choice(people, 2, replace=False)
        i, j = draws.integers(photos, size=2)
        different.append((f"person_{a:02d}/{i}.png", f"person_{b:02d}/{j}.png", 0))
    rows = [*genuine, *different]
    header, fold = (
        ("a,b,same,fold", [f",{i % folds}" for i in range(len(rows))]) if folds else ("a,b,same", [""] * len(rows))
    )
    lines = [f"{a},{b},{same}{part}" for (a, b, same), part in zip(rows, fold, strict=True)]
    path.write_text("\n".join([header, *lines]) + "\n")
    return path
