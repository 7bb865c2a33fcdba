"""The false-positive identification rate (FPIR) that a gallery's threshold really gives, by today's and by other rules.

    python benchmarks/gallery_thresholds.py FOLDER --model MODEL [--detector FILE] [--enroll 4x2 20x3 200x2]
        [--fpir 0.01] [--confidence 0.9] [--unknown 1000] [--draws 20] [--cache FILE.npz] [--json]
    python benchmarks/gallery_thresholds.py FOLDER --poor --model MODEL ...

FOLDER has a folder per person; every photo is embedded once (and kept in --cache). Each seeded draw enrolls so many
people with so many photos each; of the others, so many are unknown, with a photo each, and the rest give the model's
prior: a histogram of 1,100 impostor pairs of people who are neither enrolled nor unknown. The rules:

    counted      the share of enrolled photos that match another person (the rule of version 0.1)
    tail         the fitted tail of the gallery's own scores, on average and with the confidence
    tail, prior  the same with the prior

Printed: the FPIR that was got (mean, lowest and highest of the draws), in which share of the draws it was above the
target, and the enrolled people's other photos that are identified (DIR).

--poor searches with faces of a quality below 0.2: photos that are made small, blurred, or small and large again. Beside
the threshold for good faces ("tail", on average) stands the one that poor copies of the enrolled crops give (at most
200, as `facewright gallery calibrate` makes them).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from facewright.errors import Undefined
from facewright.images import Pixels
from facewright.metrics.impostor_tail import Comparisons, compare_people, fit, histograms, scores_of, threshold_for
from facewright.metrics.thresholds import accepting_at_most, allowed_at

FACTORS, RADII = (1.0, 5.0), (0.5, 4.0)  # of reductions, and of Gaussian blur in px
COPIES = 200  # of enrolled crops
PAIRS = 1_100  # impostor pairs of the prior
Vectors = NDArray[np.float32]


def embeddings(folder: Path, model: str, detector: str | None, cache: Path | None) -> tuple[Vectors, NDArray[np.str_]]:
    """The vectors of all photos with a face, (N, D), and their people."""
    if cache is not None and cache.is_file():
        with np.load(cache, allow_pickle=False) as kept:
            return kept["vectors"], kept["names"]
    from facewright import images
    from facewright.images import images_below
    from facewright.recognition import Recognizer

    recognizer = Recognizer.load(model, detector=detector)
    found = [(recognizer.vector(images.read(path))[0], path.parent.name) for path in images_below(folder)]
    vectors = np.stack([vector for vector, _ in found if vector is not None])
    names = np.array([name for vector, name in found if vector is not None])
    if cache is not None:
        np.savez(cache, vectors=vectors, names=names)
    return vectors, names


def poor_embeddings(folder: Path, model: str, detector: str | None, cache: Path | None) -> dict[str, NDArray[Any]]:
    """The vectors (N, D) of photos, of a poor version of each, and of a poor copy of its crop (NaN: there is none)."""
    if cache is not None and cache.is_file():
        with np.load(cache, allow_pickle=False) as kept:
            return dict(kept)
    from facewright import images
    from facewright.faces.quality import LOW, quality_of
    from facewright.gallery.calibration import poor_copy
    from facewright.images import images_below
    from facewright.recognition import Recognizer

    recognizer, drawn = Recognizer.load(model, detector=detector), np.random.default_rng(0)
    none = np.full(recognizer.width, np.nan, np.float32)
    rows: dict[str, list[Any]] = {"names": [], "vectors": [], "poor": [], "copies": []}
    for path in images_below(folder):
        photo = images.read(path)
        face = recognizer.pick(photo, "centre").face
        if face is None:
            continue
        degraded = recognizer.pick(degrade(photo, drawn), "centre").face
        copy = poor_copy(face.chip, drawn.uniform(3, 6))
        rows["names"].append(path.parent.name)
        rows["vectors"].append(recognizer.embed([face])[0])
        poor = degraded is not None and quality_of(degraded).value < LOW
        rows["poor"].append(recognizer.embed([degraded])[0] if degraded is not None and poor else none)
        rows["copies"].append(none if copy is None else recognizer.embed_crops([copy])[0])
    found: dict[str, Any] = {name: np.array(values) for name, values in rows.items()}
    if cache is not None:
        np.savez(cache, **found)
    return found


def degrade(photo: Pixels, drawn: np.random.Generator) -> Pixels:
    """Make a photo small, blurred, or small and as large as before."""
    image, way = Image.fromarray(photo), drawn.integers(3)
    factor, radius = drawn.uniform(*FACTORS), drawn.uniform(*RADII)
    if way == 1:
        return np.asarray(image.filter(ImageFilter.GaussianBlur(radius)))
    small = image.resize((max(1, round(image.width / factor)), max(1, round(image.height / factor))))
    return np.asarray(small if way == 0 else small.resize(image.size, Image.Resampling.BICUBIC))


def measure_poor(
    found: dict[str, NDArray[Any]], enroll: tuple[int, int], asked: argparse.Namespace
) -> list[dict[str, Any]]:
    """A row for each of the two thresholds: what poor faces of unknown and of enrolled people get."""
    vectors, (number, photos) = found["vectors"], enroll
    _, people = np.unique(found["names"], return_inverse=True)
    many = np.flatnonzero(np.bincount(people) >= photos)
    rates: dict[str, list[tuple[float, float]]] = {"good faces": [], "poor faces": []}
    for seed in range(asked.draws):
        enrolled = np.random.default_rng(seed).permutation(many)[:number]
        rows = np.concatenate([np.flatnonzero(people == person)[:photos] for person in enrolled])
        gallery, who = vectors[rows], people[rows]
        comparisons = compare_people(gallery, np.repeat(np.arange(number), photos))
        values = [threshold_for(fit(comparisons, np.zeros(0)), number, asked.fpir, None)]
        copies = rows[~np.isnan(found["copies"][rows, 0])][:COPIES]
        others = np.where(people[copies][:, None] == who, -1, found["copies"][copies] @ gallery.T)
        allowed = int(asked.fpir * copies.size)
        values.append(max(values[0], accepting_at_most(others.max(axis=1), allowed)))
        probes = np.setdiff1d(np.flatnonzero(~np.isnan(found["poor"][:, 0])), rows)
        scores = found["poor"][probes] @ gallery.T
        best, known = scores.max(axis=1), np.isin(people[probes], enrolled)
        right = who[scores.argmax(axis=1)] == people[probes]
        for name, value in zip(rates, values, strict=True):
            named = best >= value
            dir_ = float((named & right)[known].mean()) if known.any() else np.nan
            rates[name].append((float(named[~known].mean()), dir_))
    return [
        {
            "enrolled": f"{number}x{photos}",
            "rule": f"threshold for {name}",
            "draws": asked.draws,
            "mean": float(np.mean([rate for rate, _ in rows_])),
            "lowest": min(rate for rate, _ in rows_),
            "highest": max(rate for rate, _ in rows_),
            "above_target": float(np.mean([rate > asked.fpir for rate, _ in rows_])),
            "dir": None if np.isnan([dir_ for _, dir_ in rows_]).all() else float(np.nanmean([d for _, d in rows_])),
        }
        for name, rows_ in rates.items()
    ]


def counted(comparisons: Comparisons, fpir: float) -> float | None:
    """The rule of version 0.1; None: the photos are too few for it."""
    photos, people = int(comparisons.photos.sum()), comparisons.photos.size
    best = comparisons.scores.reshape(photos, people - 1).max(axis=1)
    try:
        return accepting_at_most(best, allowed_at(fpir, photos, None))
    except Undefined:
        return None


def rules(fpir: float, confidence: float) -> dict[str, Callable[[Comparisons, NDArray[np.float64]], float | None]]:
    """A name and how it chooses, from the comparisons of the enrolled and the prior's scores."""

    def tail(asked: float | None, with_prior: bool) -> Callable[[Comparisons, NDArray[np.float64]], float]:
        def choose(comparisons: Comparisons, prior: NDArray[np.float64]) -> float:
            tails = fit(comparisons, prior if with_prior else np.zeros(0))
            return float(threshold_for(tails, comparisons.photos.size, fpir, asked))

        return choose

    named: dict[str, Callable[[Comparisons, NDArray[np.float64]], float | None]] = {}
    named["counted"] = lambda comparisons, prior: counted(comparisons, fpir)
    for asked, at in ((None, "on average"), (confidence, f"{100 * confidence:g} % confidence")):
        named[f"tail, {at}"] = tail(asked, with_prior=False)
        named[f"tail, prior, {at}"] = tail(asked, with_prior=True)
    return named


def one_draw(
    vectors: Vectors, rows: Sequence[NDArray[np.int64]], enroll: tuple[int, int], unknown: int, seed: int
) -> tuple[Comparisons, NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]]:
    """Comparisons, prior scores, unknown people's best scores; if each mated probe's person is first, and its score."""
    rng, (people, photos) = np.random.default_rng(seed), enroll
    many = [person for person, of in enumerate(rows) if of.size >= photos]
    enrolled = rng.permutation(many)[:people]
    others = rng.permutation(np.setdiff1d(np.arange(len(rows)), enrolled))
    gallery = vectors[np.concatenate([rows[person][:photos] for person in enrolled])]
    firsts = vectors[[rows[person][0] for person in others]]
    scores = (firsts[:unknown] @ gallery.T).max(axis=1).astype(np.float64)
    rest = firsts[unknown:] if len(firsts) > unknown + 10 else firsts
    pairs = (rest @ rest.T)[np.triu_indices(len(rest), 1)]
    impostors = rng.choice(pairs, min(PAIRS, pairs.size)).astype(np.float64)
    probes = [(at, row) for at, person in enumerate(enrolled) for row in rows[person][photos : photos + 1]]
    mated = np.array([row for _, row in probes], np.int64)
    best = (vectors[mated] @ gallery.T).reshape(len(probes), people, photos).max(axis=2)
    right = best.argmax(axis=1) == np.array([at for at, _ in probes], np.int64)
    prior = scores_of(histograms(impostors, impostors))
    comparisons = compare_people(gallery, np.repeat(np.arange(people), photos))
    return comparisons, prior, scores, right, best.max(axis=1, initial=-1).astype(np.float64)


def measure(
    vectors: Vectors, names: NDArray[np.str_], enroll: tuple[int, int], asked: argparse.Namespace
) -> list[dict[str, Any]]:
    """A row for each rule."""
    _, people = np.unique(names, return_inverse=True)
    rows = [np.flatnonzero(people == person) for person in range(int(people.max()) + 1)]
    rates: dict[str, list[float]] = {}
    found: dict[str, list[float]] = {}
    for seed in range(asked.draws):
        comparisons, prior, scores, right, best = one_draw(vectors, rows, enroll, asked.unknown, seed)
        for name, choose in rules(asked.fpir, asked.confidence).items():
            value = choose(comparisons, prior)
            if value is not None:
                rates.setdefault(name, []).append(float((scores >= value).mean()))
                found.setdefault(name, []).append(float((right & (best >= value)).mean()) if right.size else np.nan)
    return [
        {
            "enrolled": f"{enroll[0]}x{enroll[1]}",
            "rule": name,
            "draws": len(rates.get(name, ())),
            "mean": float(np.mean(rates[name])) if name in rates else None,
            "lowest": min(rates[name]) if name in rates else None,
            "highest": max(rates[name]) if name in rates else None,
            "above_target": float(np.mean(np.array(rates[name]) > asked.fpir)) if name in rates else None,
            "dir": None if name not in rates or np.isnan(found[name]).all() else float(np.nanmean(found[name])),
        }
        for name in rules(asked.fpir, asked.confidence)
    ]


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="built-in")
    parser.add_argument("--detector")
    parser.add_argument("--enroll", nargs="+", default=["4x2", "20x3", "200x2"])
    parser.add_argument("--fpir", type=float, default=0.01)
    parser.add_argument("--confidence", type=float, default=0.9)
    parser.add_argument("--unknown", type=int, default=1_000)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--poor", action="store_true")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(words)
    where = (asked.folder, asked.model, asked.detector, asked.cache)
    sizes = [(int(people), int(photos)) for people, _, photos in (text.partition("x") for text in asked.enroll)]
    if asked.poor:
        found = poor_embeddings(*where)
        table = [row for size in sizes for row in measure_poor(found, size, asked)]
    else:
        vectors, names = embeddings(*where)
        table = [row for size in sizes for row in measure(vectors, names, size, asked)]
    if asked.json:
        print(json.dumps(table))
        return
    print("| enrolled | rule | FPIR, mean (lowest to highest) | above target | DIR |\n|---|---|---|---|---|")
    for row in table:
        if row["mean"] is None:
            print(f"| {row['enrolled']} | {row['rule']} | refused: too few photos | | |")
            continue
        rate = f"{100 * row['mean']:.2f} % ({100 * row['lowest']:.2f} to {100 * row['highest']:.2f})"
        dir_ = "" if row["dir"] is None else f"{100 * row['dir']:.1f} %"
        print(f"| {row['enrolled']} | {row['rule']} | {rate} | {100 * row['above_target']:.0f} % of draws | {dir_} |")


if __name__ == "__main__":
    main(sys.argv[1:])
