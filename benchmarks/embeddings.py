"""Verification by loss function: trained from random initialization on some people, evaluated on others.

    python benchmarks/embeddings.py PHOTOS [--unseen 3] [--model resnet18] [--epochs 20] [--seed 0] [--out FOLDER]

PHOTOS is a folder per person. Some people, chosen by the seed, are kept out of training; each loss trains on the rest
by the same recipe and split. Measured are all pairs of images of the people kept out: AUC, EER, and TAR at FAR 1 %. The
accuracy is at the threshold that is best on pairs of the *validation* images of the people trained on. Intervals are
bootstraps over images within each person (200 resamples, seeded): with three people, one over people says nothing.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facewright import bundle, train
from facewright.data.records import Dataset
from facewright.data.sources import open_dataset
from facewright.data.splits import Split
from facewright.data.store import PixelStore
from facewright.embedding import Embedder
from facewright.files import write_json
from facewright.metrics import verification
from facewright.runs import Run

RESAMPLES = 200
COMMON = {
    "training.batch": "16",
    "training.label_smoothing": "0",
    "head.kind": "linear",
    "head.embedding": "128",
    "input.size": "112",
}
COSINE = {"head.kind": "cosine", "head.scale": "16"}
GROUPS = {"sampling.plan": "identities", "sampling.people": "4", "sampling.images": "4"}
LOSSES: dict[str, dict[str, str]] = {
    "cross-entropy": {},
    "centre": {"objective.weight": "0.01"},
    "triplet": {**GROUPS, "objective.mining": "batch-hard"},
    "a-softmax": COSINE,
    "cosface": COSINE,
    "arcface": COSINE,
    "contrastive": GROUPS,
    "pairwise": GROUPS,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos")
    parser.add_argument("--unseen", type=int, default=3)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--losses", default=",".join(LOSSES))
    parser.add_argument("--out", type=Path, default=None)
    asked = parser.parse_args()
    whole = open_dataset(asked.photos)
    left_out = sorted(np.random.default_rng(asked.seed).permutation(whole.classes)[: asked.unseen].tolist())
    print(f"never seen: {', '.join(left_out)}\n")
    print("| loss | AUC | EER | TAR at FAR 1 % | accuracy | images seen | trained |\n|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        for loss in asked.losses.split(","):
            changes = COMMON | LOSSES[loss] | {"objective.kind": loss, "training.epochs": str(asked.epochs)}
            folder = (asked.out or Path(scratch)) / loss
            seen = _people(whole, left_out, keep=False)
            run = train(
                seen, model=asked.model, out=folder, seed=asked.seed, overrides=changes, resume=True, report=False
            )
            found = _judge(run, seen, _people(whole, left_out, keep=True), asked.seed)
            write_json(folder / "unseen.json", found)
            print(_row(loss, run, found), flush=True)


def _people(dataset: Dataset, names: list[str], keep: bool) -> Dataset:
    """The dataset of these people alone, or of all the others."""
    classes = tuple(name for name in dataset.classes if (name in names) == keep)
    records = tuple(
        dataclasses.replace(record, label=classes.index(dataset.classes[record.label]))
        for record in dataset.records
        if record.label is not None and dataset.classes[record.label] in classes
    )
    return dataclasses.replace(dataset, classes=classes, records=records)


def _judge(run: Run, seen: Dataset, unseen: Dataset, seed: int) -> dict[str, list[float]]:
    """AUC, EER, TAR at FAR 1 % and accuracy, each with the ends of its interval."""
    embedder = Embedder(bundle.load(run.folder / "model.safetensors"))
    vectors, labels = _embedded(embedder, seen)
    validation = _validation_rows(run, seen)
    threshold = verification.best_threshold(verification.roc(*_sides(vectors[validation], labels[validation])))
    vectors, labels = _embedded(embedder, unseen)
    random = np.random.default_rng(seed)
    drawn = [_numbers(vectors, labels, threshold, _resampled(labels, random)) for _ in range(RESAMPLES)]
    centre = _numbers(vectors, labels, threshold, np.arange(len(labels)))
    low, high = np.percentile(np.array(drawn), [2.5, 97.5], axis=0)
    names = ("auc", "eer", "tar", "accuracy")
    return {name: [float(centre[i]), float(low[i]), float(high[i])] for i, name in enumerate(names)}


def _embedded(embedder: Embedder, dataset: Dataset) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    store = PixelStore.open(dataset, embedder.spec)
    rows = np.arange(len(store.dataset.records))
    return embedder.embed(store.batch(rows)), store.dataset.labels


def _validation_rows(run: Run, dataset: Dataset) -> NDArray[np.int64]:
    """Rows of the images that chose the best epoch."""
    store = PixelStore.open(dataset, run.classifier.spec)
    return Split.load(run.folder / "split.csv", store.dataset, store.digests).validation


def _sides(vectors: NDArray[np.float32], labels: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Scores of pairs of one person and of two."""
    first, second = np.triu_indices(len(labels), 1)
    scores = (vectors @ vectors.T)[first, second]
    same = labels[first] == labels[second]
    return scores[same], scores[~same]


def _resampled(labels: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.int64]:
    """As many images of each person, drawn with replacement."""
    return np.concatenate(
        [random.choice(np.flatnonzero(labels == label), np.sum(labels == label)) for label in np.unique(labels)]
    )


def _numbers(
    vectors: NDArray[np.float32], labels: NDArray[np.int64], threshold: float, rows: NDArray[np.int64]
) -> tuple[float, float, float, float]:
    first, second = np.triu_indices(len(rows), 1)
    apart = rows[first] != rows[second]  # an image drawn twice makes no pair with itself
    scores = (vectors @ vectors.T)[rows[first[apart]], rows[second[apart]]]
    same = labels[rows[first[apart]]] == labels[rows[second[apart]]]
    curve = verification.roc(scores[same], scores[~same])
    right = ((scores >= threshold) == same).mean()
    return (
        verification.auc(curve),
        verification.eer(curve).value,
        verification.tar_at_far(curve, 0.01).tar.value,
        float(right),
    )


def _row(loss: str, run: Run, found: dict[str, list[float]]) -> str:
    shown = [f"{found['auc'][0]:.3f} ({found['auc'][1]:.3f} to {found['auc'][2]:.3f})"]
    shown += ["{:.1%} ({:.1%} to {:.1%})".format(*found[name]) for name in ("eer", "tar", "accuracy")]
    facts = run.facts
    return f"| {loss} | {' | '.join(shown)} | {facts.images_seen:,} | {facts.train_seconds:.0f} s |"


if __name__ == "__main__":
    main()
