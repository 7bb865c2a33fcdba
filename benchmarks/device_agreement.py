"""What each command computes on a device, beside the CPU in float32, and the limits of the differences. For gpu.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from facewright import pairs
from facewright.bundle import Bundle, save
from facewright.data.loaders import Loader, ResidentStore
from facewright.data.store import PixelStore
from facewright.embedding import Embedder
from facewright.explanation.class_maps import Explainer
from facewright.faces.scan import Scanner
from facewright.inference import Classifier
from facewright.models.catalog import create_model
from facewright.specs import Augment
from facewright.training.loading import FeatureInputs, features_of

CPU = torch.device("cpu")
AUGMENT = Augment(flip=0.5, area=(0.9, 1.0), brightness=0.1)
CLASSES = 64  # of the small network
Train = Callable[[torch.device, Tensor], list[float]]


def comparisons(
    store: PixelStore, device: torch.device, photos: Path, folder: Path, train: Train
) -> Mapping[str, tuple[Callable[[], float], float]]:
    """Return, by the name of what is computed, a function that gives the largest difference, and its limit.

    Args:
        photos: a folder of the store's images. folder: to write to.
        train: the losses of three steps on images (B, 3, H, W), on a device.
    """
    spec, rows = store.spec, np.arange(min(16, len(store.dataset)))
    torch.manual_seed(0)
    network = create_model("plain_cnn", CLASSES, input_size=spec.height)
    classes = ("face", *(f"c{number}" for number in range(1, CLASSES)))
    bundle = Bundle("plain_cnn", "imagenet", classes, spec, network.state_dict())
    pixels, places = store.batch(rows), (device, CPU)

    def between(compute: Callable[[torch.device], object]) -> Callable[[], float]:
        return lambda: float(np.abs(np.subtract(*(np.asarray(compute(place)) for place in places))).max())

    def batches(place: torch.device) -> object:
        held = store if place == CPU else ResidentStore(store, rows, place)
        images = next(iter(Loader(held, spec, AUGMENT, spec.height, 0, device=place).epoch([rows], 0))).images
        return images.cpu().numpy() * 255 * spec.std[0]

    def scores_of_pairs(place: torch.device) -> object:
        save(folder / "small.safetensors", bundle)
        names = [path.relative_to(photos).as_posix() for path in sorted(photos.rglob("*.jpg"))[:12]]
        lines = [f"{names[n]},{names[n + 1]},{n % 4 // 2}" for n in range(0, 12, 2)]
        (folder / "pairs.csv").write_text("\n".join(["a,b,same", *lines]))
        return pairs(folder / "small.safetensors", folder / "pairs.csv", photos, device=str(place)).scored.scores

    def features(place: torch.device) -> object:
        inputs = FeatureInputs(store, spec, rows, None, spec.height, 0)
        return features_of(bundle.model().to(place), inputs, torch.float32, folder / f"of-{place.type}").values

    def cosines() -> float:
        here, there = (Embedder(bundle, device=str(place)).embed(pixels) for place in places)
        return float(1 - (here * there).sum(1).min())

    photo = np.random.default_rng(0).integers(0, 256, (3 * spec.height, 3 * spec.height, 3), np.uint8)
    plain = next(iter(Loader(store, spec, None, spec.height, 0).epoch([rows], 0))).images
    return {
        "batches, levels of 255": (between(batches), 4.001),
        "train, loss of 3 steps": (between(lambda place: train(place, plain.to(place))), 1e-2),
        "features of a frozen backbone": (between(features), 1e-3),
        "predict, evaluate: logits": (between(lambda place: Classifier(bundle, str(place)).logits(pixels)), 1e-3),
        "embed, verify: 1 - cosine": (cosines, 1e-4),
        "pairs, calibrate: scores": (between(scores_of_pairs), 1e-4),
        "explain, heat": (
            between(lambda place: Explainer(Classifier(bundle, str(place))).maps(pixels[:2], [0, 1])),
            1e-2,
        ),
        "scan, probability": (
            between(lambda place: Scanner(bundle.model().to(place), spec, 0).probabilities(photo)),
            1e-3,
        ),
    }
