"""Made-up models with believable numbers: what the page looks like does not depend on training."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from PIL import Image

from facewright.evaluation.classification import Predictions, classify
from facewright.evaluation.compare import compare
from facewright.evaluation.results import Comparison, Entry, Latency
from facewright.events import EpochRow

Build = Callable[..., Comparison]


def history(epochs: int, skill: float, images: int = 900) -> tuple[EpochRow, ...]:
    """A run that learns for two thirds of its epochs, with a smaller image size in its first third."""
    rows = []
    for epoch in range(1, epochs + 1):
        done = 1 - np.exp(-3 * min(1.0, 1.5 * epoch / epochs))
        accuracy = float(skill * done + 0.02 * np.sin(epoch * 1.7))
        rows.append(
            EpochRow(
                epoch=epoch,
                phase="warm-up" if epoch <= epochs // 3 else "whole",
                images_seen=images * epoch,
                steps=28 * epoch,
                image_size=64 if epoch <= epochs // 3 else 112,
                learning_rate=float(1e-3 * np.sin(np.pi * (epoch - 0.5) / epochs) + 1e-6),
                train_loss=float(2.5 * (1 - 0.85 * done)),
                train_accuracy=0.9 * accuracy,
                validation_loss=float(2.5 * (1 - 0.8 * done * skill) + 0.05 * np.cos(epoch)),
                validation_accuracy=accuracy,
                validation_score=0.0,
                seconds=41.0 * epoch / skill,
                images_per_second=22.0,
                best=epoch == max(1, epochs - 2),
            )
        )
    return tuple(rows)


def entry(name: str, classes: tuple[str, ...], per_class: int, skill: float, epochs: int, number: int) -> Entry:
    """One model whose predictions are right about as often as `skill` says; neighbouring classes are confused most."""
    random = np.random.default_rng(number + 1)
    shared = np.random.default_rng(0)
    labels = np.repeat(np.arange(len(classes)), per_class)
    difficulty = shared.normal(size=labels.size)
    logits = random.normal(scale=0.9, size=(labels.size, len(classes)))
    logits[np.arange(labels.size), labels] += 6 * skill - 1.1 - 1.5 * difficulty
    logits[np.arange(labels.size), (labels + 1) % len(classes)] += 1.2
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    predictions = Predictions(
        tuple(f"{classes[label][:40]}/{index:05}.jpg" for index, label in enumerate(labels)),
        labels,
        powers / powers.sum(axis=1, keepdims=True),
    )
    rows = history(epochs, skill)
    return Entry(
        name=name,
        run=f"runs/{number}",
        model=name,
        recipe="scratch",
        image_size=112,
        parameters=int((23.5e6, 20.8e6, 7.0e6)[number % 3]),
        flops=int((2.05e9, 2.2e9, 1.4e9)[number % 3]),
        images_seen=rows[-1].images_seen if rows else 0,
        epochs=len(rows),
        train_seconds=rows[-1].seconds if rows else 0.0,
        peak_memory_bytes=None,
        file_bytes=int((94.1e6, 83.4e6, 28.4e6)[number % 3]),
        latency=Latency(
            median_ms=(21.4, 34.9, 16.2)[number % 3],
            p95_ms=(23.8, 39.5, 22.1)[number % 3],
            images_per_second=61.0 - 9 * (number % 3),
            batch=32,
            threads=2,
        ),
        test=classify(predictions, classes, "test"),
        predictions=predictions,
        history=rows,
    )


@pytest.fixture(scope="session")
def build() -> Build:
    """A comparison of made-up models: build(classes, models, per_class=…, epochs=…)."""

    def made(
        classes: Sequence[str], models: Sequence[str], per_class: int = 8, epochs: int = 6, skill: float = 0.75
    ) -> Comparison:
        names = tuple(classes)
        entries = [
            entry(name, names, per_class, skill - 0.04 * number, epochs, number) for number, name in enumerate(models)
        ]
        counts = {"train": 7 * per_class * len(names), "validation": per_class, "test": per_class * len(names)}
        return compare(entries, "made-up faces", "0123456789abcdef", names, counts)

    return made


@pytest.fixture(scope="session")
def thumbnail() -> Callable[[str], np.ndarray]:
    """A small picture for any path."""

    def drawn(path: str) -> np.ndarray:
        random = np.random.default_rng(sum(path.encode()))
        picture = Image.fromarray(random.integers(0, 255, (6, 5, 3), dtype=np.uint8))
        return np.asarray(picture.resize((120, 150)))

    return drawn
