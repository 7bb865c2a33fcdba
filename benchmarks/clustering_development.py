"""BCubed F of `facewright cluster` on the development sets that its constants were chosen on.

    python benchmarks/clustering_development.py CACHE.npz [--impostors CACHE.npz] [--draws 4] [--seed 0]
        [--poor CACHE.npz] [--others CACHE.npz] [--held-out] [--set EXPECTED=0.1 ...]

CACHE.npz holds the vectors of LFW, as `benchmarks/clustering.py --cache` writes them. Of its people the second half, by
name, is drawn from; --held-out: the first. The impostor scores are those of --impostors, or 1,100 pairs of the second
half. --set gives a constant of `facewright.clustering` another value.

all, two   700 people; 70 % of those with 2 photos or more
piles      2 to 6 people with 4 photos or more, up to 3 people with one
parts      5 to 60 people with 2 photos or more, up to 10 % of others
many       5 to 20 people with 20 to 120 photos, 5 % of others
crowd      100 people with 10 to 39 photos, 100 others
album      4 to 8 people with 30 to 150 photos, 20 to 60 with 1 to 10, 30 to 100 others
poor       parts, and the same photos made small or blurred (--poor)
others     4 to 40 people of another set (--others), 2 to 10 photos each, 10 % of LFW's

LFW's people here have 8 photos at most. More photos are made: the mean of a person's vectors, and away from it, by the
angle of another person's photo times `spread`, in a direction mixed of four such photos and, by the share `era`, of one
of up to four times of life. The last row is the mean of the sets, with its standard error over the draws.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clustering import Labels, Vectors, impostor_scores
from facewright import clustering
from facewright.metrics.identification import cluster_scores

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

    def made(
        self,
        rng: np.random.Generator,
        photos: NDArray[np.int64],
        others: int,
        spread: float,
        era: float,
        least: int = 4,
    ) -> Pile:
        faces, who = self.of(rng.permutation(self.with_photos(1, 1))[:others])
        vectors, people = [faces], rng.permutation(self.with_photos(least))[: photos.size]
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
    known = rng.choice(known, min(count, known.size), replace=False, p=weights / weights.sum())
    share = rng.uniform(0, 0.1)
    others = round(share / (1 - share) * int(people.photos[known].sum()))
    return people.of(np.concatenate([known, rng.permutation(people.with_photos(1, 1))[:others]]))


def many(people: People, rng: np.random.Generator, spread: float, era: float) -> Pile:
    photos = rng.integers(20, 121, size=rng.integers(5, 21))
    return people.made(rng, photos, round(0.05 / 0.95 * int(photos.sum())), spread, era)


def crowd(people: People, rng: np.random.Generator) -> Pile:
    return people.made(rng, rng.integers(10, 40, size=100), 100, 1.1, 0.3, 3)


def album(people: People, rng: np.random.Generator) -> Pile:
    few = np.minimum(rng.geometric(0.3, size=rng.integers(20, 61)), 10)
    photos = np.concatenate([rng.integers(30, 151, size=rng.integers(4, 9)), few])
    return people.made(rng, photos, int(rng.integers(30, 101)), 1.1, 0.3, 3)


def some(people: People, rng: np.random.Generator, least: int) -> Pile:
    known = rng.permutation(people.with_photos(least))
    return people.of(known[: 700 if least == 1 else int(0.7 * known.size)])


def with_poor(people: People, poor: Vectors, who: Labels, rng: np.random.Generator) -> Pile:
    faces, known = part(people, rng)
    added = np.isin(who, known)
    return np.concatenate([faces, poor[added]]), np.concatenate([known, who[added]])


def mixed(people: People, vectors: Vectors, names: NDArray[np.str_], rng: np.random.Generator) -> Pile:
    """People of another set, and 10 % of LFW."""
    _, who = np.unique(names, return_inverse=True)
    known = rng.permutation(who.max() + 1)[: rng.integers(4, 41)]
    rows = [rng.permutation(np.flatnonzero(who == person))[: rng.integers(2, 11)] for person in known]
    chosen = np.concatenate(rows)
    faces, unknown = people.of(rng.permutation(people.with_photos(1, 1))[: max(1, round(0.1 * chosen.size))])
    return np.concatenate([vectors[chosen], faces]), np.concatenate([who[chosen], unknown + who.max() + 1])


def _read(path: Path) -> tuple[Vectors, NDArray[np.str_], NDArray[np.float64]]:
    with np.load(path, allow_pickle=False) as kept:
        return kept["vectors"], kept["names"], kept["impostors"] if "impostors" in kept else np.zeros(0)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cache", type=Path)
    for name in ("--impostors", "--poor", "--others"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--draws", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--held-out", action="store_true")
    parser.add_argument("--set", nargs="*", default=())
    asked = parser.parse_args(words)
    for name, value in (one.split("=") for one in asked.set):
        setattr(clustering, name, float(value))
    vectors, names, _ = _read(asked.cache)
    kept = np.unique(names)
    second = np.isin(names, kept[kept.size // 2 :])
    impostors = _read(asked.impostors)[2] if asked.impostors else impostor_scores(vectors[second], names[second])
    chosen = ~second if asked.held_out else second
    people = People(vectors[chosen], names[chosen])
    draws = asked.draws
    sets: dict[str, tuple[Callable[[np.random.Generator], Pile], int]] = {
        "all": (lambda rng: some(people, rng, 1), max(1, draws - 1)),
        "two": (lambda rng: some(people, rng, 2), max(1, draws - 1)),
        "piles": (lambda rng: pile(people, rng), 5 * draws),
        "parts": (lambda rng: part(people, rng), 3 * draws),
        **{name: (lambda rng, how=how: many(people, rng, *how), draws) for name, how in MANY.items()},  # type: ignore[misc]
        "crowd": (lambda rng: crowd(people, rng), max(1, draws // 2)),
        "album": (lambda rng: album(people, rng), draws),
    }
    if asked.poor:
        poor, of, _ = _read(asked.poor)
        known = np.unique(names[chosen])
        poor, of = poor[np.isin(of, known)], of[np.isin(of, known)]
        sets["poor"] = (lambda rng: with_poor(people, poor, np.searchsorted(known, of), rng), draws)
    if asked.others:
        others, who, _ = _read(asked.others)
        sets["others"] = (lambda rng: mixed(people, others, who, rng), 2 * draws)
    print("| set | draws | BCubed P | R | **F** | ± |\n|---|---|---|---|---|---|")
    means, errors = [], []
    for name, (of_set, count) in sets.items():
        piles = [of_set(np.random.default_rng((asked.seed, draw))) for draw in range(count)]
        scores = [cluster_scores(clustering.cluster(given, impostors).labels, who) for given, who in piles]
        rows = np.array([(one.bcubed_precision, one.bcubed_recall, one.bcubed_f) for one in scores])
        means.append(rows.mean(axis=0))
        errors.append(rows[:, 2].std(ddof=1) / count**0.5 if count > 1 else 0.0)
        print(_row(name, count, means[-1], errors[-1]), flush=True)
    total = sum(count for _, count in sets.values())
    print(_row("mean of the sets", total, np.mean(means, axis=0), float(np.linalg.norm(errors)) / len(errors)))


def _row(name: str, draws: int, mean: NDArray[np.float64], error: float) -> str:
    return f"| {name} | {draws} | {mean[0]:.3f} | {mean[1]:.3f} | **{mean[2]:.4f}** | {error:.4f} |"


if __name__ == "__main__":
    main()
