"""BCubed F of `facewright cluster` on the development sets that its constants were chosen on.

    python benchmarks/clustering_development.py CACHE.npz [--impostors CACHE.npz] [--draws 6] [--set MOST=0.005 ...]

CACHE.npz holds the vectors of LFW, as `benchmarks/clustering.py --cache` writes them. The impostor scores are those of
--impostors, or 1,100 pairs of CACHE's people. --set gives a constant of `clustering.average_linkage` another value.

all, two   everyone; and people with 2 photos or more
piles      2 to 6 people with 4 photos or more, up to 3 people with one
parts      5 to 60 people with 2 photos or more, up to 10 % of others
many       5 to 20 people with 20 to 120 photos, 5 % of others
crowd      100 people with 10 to 39 photos, 100 others
album      4 to 8 people with 30 to 150 photos, 20 to 60 with 1 to 10, 30 to 100 others

LFW's people here have 8 photos at most. More photos are made: the mean of a person's vectors, and away from it, by the
angle of another person's photo times `spread`, in a direction mixed of four such photos and, by the share `era`, of one
of up to four times of life.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clustering import Labels, Vectors, impostor_scores
from facewright.clustering import average_linkage
from facewright.metrics.clustering import cluster_scores

MANY = {"many": (1.0, 0.3), "many, far": (1.3, 0.3), "many, times": (1.1, 0.6), "many, far, times": (1.3, 0.6)}
Pile = tuple[Vectors, Labels]


class People:
    """LFW's vectors by person, and made ones."""

    def __init__(self, vectors: Vectors, names: NDArray[np.str_]) -> None:
        self.vectors = vectors.astype(np.float64)
        _, self.who, self.photos = np.unique(names, return_inverse=True, return_counts=True)
        tangents, sides = [], []
        for person in np.flatnonzero(self.photos >= 3):
            own = self.vectors[self.who == person]
            others = _unit(own.sum(axis=0) - own)
            cosines = (own * others).sum(axis=1, keepdims=True)
            sides.append(_unit(own - cosines * others))
            tangents.append(np.sqrt(1 - cosines**2) / np.maximum(cosines, 0.05))
        self.sides, self.tangents = np.concatenate(sides), np.concatenate(tangents)

    def of(self, people: NDArray[np.int64]) -> Pile:
        rows = np.flatnonzero(np.isin(self.who, people))
        return self.vectors[rows].astype(np.float32), self.who[rows]

    def with_photos(self, least: int, most: int = 10**9) -> NDArray[np.int64]:
        return np.flatnonzero((self.photos >= least) & (self.photos <= most))

    def made(self, rng: np.random.Generator, photos: NDArray[np.int64], others: int, spread: float, era: float) -> Pile:
        faces, who = self.of(rng.permutation(self.with_photos(1, 1))[:others])
        vectors, people = [faces], rng.permutation(self.with_photos(4))[: photos.size]
        for person, count in zip(people, photos, strict=True):
            middle = _unit(self.vectors[self.who == person].mean(axis=0))
            times = int(rng.integers(1, 5))
            eras = self.sides[rng.integers(len(self.sides), size=times)]
            then = eras[rng.choice(times, count, p=rng.dirichlet(np.full(times, 2.0)))]
            drawn = self.sides[rng.integers(len(self.sides), size=(count, 4))]
            side = np.sqrt(era) * then + np.sqrt(1 - era) * (rng.normal(size=(count, 4, 1)) * drawn).sum(axis=1) / 2
            side = _unit(side - (side @ middle)[:, None] * middle)
            far = spread * self.tangents[rng.integers(len(self.tangents), size=count)]
            vectors.append(_unit(middle + far * side).astype(np.float32))
        return np.concatenate(vectors), np.concatenate([who, np.repeat(people, photos)])


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True))


def pile(people: People, rng: np.random.Generator) -> Pile:
    known = rng.permutation(people.with_photos(4))[: rng.integers(2, 7)]
    return people.of(np.concatenate([known, rng.permutation(people.with_photos(1, 1))[: rng.integers(0, 4)]]))


def part(people: People, rng: np.random.Generator) -> Pile:
    known = people.with_photos(2)
    weights = people.photos[known] ** 1.5
    count = int(np.exp(rng.uniform(np.log(5), np.log(60))))
    known = rng.choice(known, count, replace=False, p=weights / weights.sum())
    share = rng.uniform(0, 0.1)
    others = round(share / (1 - share) * int(people.photos[known].sum()))
    return people.of(np.concatenate([known, rng.permutation(people.with_photos(1, 1))[:others]]))


def many(people: People, rng: np.random.Generator, spread: float, era: float) -> Pile:
    photos = rng.integers(20, 121, size=rng.integers(5, 21))
    return people.made(rng, photos, round(0.05 / 0.95 * int(photos.sum())), spread, era)


def crowd(people: People, rng: np.random.Generator) -> Pile:
    return people.made(rng, rng.integers(10, 40, size=100), 100, 1.1, 0.3)


def album(people: People, rng: np.random.Generator) -> Pile:
    few = np.minimum(rng.geometric(0.3, size=rng.integers(20, 61)), 10)
    photos = np.concatenate([rng.integers(30, 151, size=rng.integers(4, 9)), few])
    return people.made(rng, photos, int(rng.integers(30, 101)), 1.1, 0.3)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cache", type=Path)
    parser.add_argument("--impostors", type=Path)
    parser.add_argument("--draws", type=int, default=6)
    parser.add_argument("--set", nargs="*", default=())
    asked = parser.parse_args(words)
    for name, value in (one.split("=") for one in asked.set):
        setattr(average_linkage, name, float(value))
    with np.load(asked.cache, allow_pickle=False) as kept:
        vectors, names = kept["vectors"], kept["names"]
    impostors = impostor_scores(vectors, names)
    if asked.impostors is not None:
        with np.load(asked.impostors, allow_pickle=False) as kept:
            impostors = kept["impostors"]
    people = People(vectors, names)
    draw: dict[str, tuple[Callable[[np.random.Generator], Pile], int]] = {
        "all": (lambda rng: people.of(people.with_photos(1)), 1),
        "two": (lambda rng: people.of(people.with_photos(2)), 1),
        "piles": (lambda rng: pile(people, rng), 5 * asked.draws),
        "parts": (lambda rng: part(people, rng), 2 * asked.draws),
        **{name: (lambda rng, how=how: many(people, rng, *how), asked.draws) for name, how in MANY.items()},  # type: ignore[misc]
        "crowd": (lambda rng: crowd(people, rng), max(1, asked.draws // 3)),
        "album": (lambda rng: album(people, rng), asked.draws),
    }
    print("| set | BCubed P | R | **F** |\n|---|---|---|---|")
    for name, (of, draws) in draw.items():
        piles = [of(np.random.default_rng(seed)) for seed in range(draws)]
        scores = [cluster_scores(average_linkage.cluster(given, impostors).labels, who) for given, who in piles]
        mean = np.mean([(one.bcubed_precision, one.bcubed_recall, one.bcubed_f) for one in scores], axis=0)
        print(f"| {name} | {mean[0]:.3f} | {mean[1]:.3f} | **{mean[2]:.3f}** |", flush=True)


if __name__ == "__main__":
    main()
