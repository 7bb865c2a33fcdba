"""Plans: which images form which batch of an epoch, and the counter-based random numbers behind them.

Everything here is a pure function of (seed, epoch): the same after a kill, in another process, and for every rank. Of
people, what belongs together lies side by side: `batch.reshape(-1, K)` is one person a row, `batch.reshape(-1, 2)` one
pair, `batch.reshape(-1, 3)` one triplet.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from facewright.errors import UsageError

Balance = Literal["over", "under"]
_GOLDEN = 0x9E3779B97F4A7C15  # 2^64 / golden ratio: SplitMix64's step, so that consecutive counters lie far apart
_WORD = 2**64 - 1


class Stream(IntEnum):
    """Purposes of random numbers. Uses that shared a stream would move together: early images always mirrored."""

    ORDER = 1
    BALANCE = 2
    AUGMENT = 3
    MIX = 4
    GROUP = 5
    ANCHOR = 6
    PARTNER = 7
    OTHER_PERSON = 8


def plan(
    indices: NDArray[np.int64], batch: int, seed: int, epoch: int, drop_last: bool = True
) -> list[NDArray[np.int64]]:
    """Shuffle the images of one epoch and cut them into batches, (batch,) int64 each.

    Args:
        indices: (N,) positions in the store, N >= 1; each is used once.
        epoch: counted from 0; each has another order.
        drop_last: leave out the last batch where it is short, unless it is the only one.
    Raises:
        UsageError: no images, or a batch below 1.

    >>> [part.tolist() for part in plan(np.arange(5), batch=2, seed=0, epoch=0, drop_last=False)]
    [[3, 4], [2, 0], [1]]
    """
    return cut(shuffled(np.asarray(indices, np.int64), seed, epoch, Stream.ORDER), batch, drop_last)


def balanced(
    indices: NDArray[np.int64], labels: NDArray[np.int64], batch: int, seed: int, epoch: int, balance: Balance
) -> list[NDArray[np.int64]]:
    """A plan in which every class has as many images, shuffled over the classes.

    Args:
        indices, batch, seed, epoch: as in `plan`; a short last batch is left out as there. labels: (N,) classes.
        balance: "over" brings every class to the size of the largest: each image is used equally often but for a
            remainder, another each epoch. "under" takes as many of each class as the smallest has, others each epoch.
    Raises:
        UsageError: no images, a batch below 1, labels of another length, or an unknown balance.
    """
    indices, labels = labelled(indices, labels)
    if balance not in ("over", "under"):
        raise UsageError(f"balance is 'over' or 'under', got {balance!r}")
    members = [indices[labels == label] for label in np.unique(labels)]
    counts = [len(part) for part in members]
    wanted = max(counts) if balance == "over" else min(counts)
    sampled = [np.resize(shuffled(part, seed, epoch, Stream.BALANCE), wanted) for part in members]
    return cut(shuffled(np.concatenate(sampled), seed, epoch, Stream.ORDER), batch, drop_last=True)


def repeated(
    indices: NDArray[np.int64], labels: NDArray[np.int64], factor: int, label: int | None = None
) -> NDArray[np.int64]:
    """The images of one epoch where those of one class come several times: `plan(repeated(…), …)`.

    Args:
        factor: how often an image of that class comes, >= 1. label: the class; None for the rarest that occurs.
    Raises:
        UsageError: no images, a factor below 1, labels of another length, or a class without images.

    >>> repeated(np.array([4, 5, 6]), np.array([0, 0, 1]), factor=3).tolist()
    [4, 5, 6, 6, 6]
    """
    indices, labels = labelled(indices, labels)
    if factor < 1:
        raise UsageError(f"an image comes at least once: expected a factor of 1 or more, got {factor}")
    found, counts = np.unique(labels, return_counts=True)
    chosen = int(found[np.argmin(counts)]) if label is None else label
    if chosen not in found:
        raise UsageError(f"expected the number of a class that has images, got {chosen}")
    return np.concatenate([indices, np.tile(indices[labels == chosen], factor - 1)])


def identities(
    indices: NDArray[np.int64], labels: NDArray[np.int64], people: int, images: int, seed: int, epoch: int
) -> list[NDArray[np.int64]]:
    """Batches of P people with K images each, as losses that compare within a batch need them.

    Each person's images are shuffled and cut into groups of K; those left over have their turn in another epoch. A
    person with fewer than K images gives one group, in which they repeat. As many batches come about as can without a
    person twice in one; of a person with very many images, groups may be left out.

    Args:
        indices: (N,) positions in the store. labels: (N,) who is shown on each.
        people: P, different people a batch, >= 1. images: K, images a person, >= 1.
        epoch: counted from 0; each has other groups and another order.
    Returns:
        The batches, (P * K,) int64 each, person by person; at least one.
    Raises:
        UsageError: fewer than P people, P or K below 1, no images, or labels of another length.
    Source: Hermans, Beyer, Leibe, "In Defense of the Triplet Loss for Person Re-Identification", 2017, section 2 (PK).

    >>> [batch.tolist() for batch in identities(np.arange(6), np.array([0, 0, 0, 1, 1, 2]), 2, 2, seed=0, epoch=0)]
    [[5, 5, 0, 1]]
    """
    indices, labels = labelled(indices, labels)
    if people < 1 or images < 1:
        raise UsageError(f"expected at least 1 person and 1 image of each a batch, got {people} and {images}")
    chance = random_words(Stream.GROUP, seed, epoch, indices, 1)[:, 0]
    shuffled_images = indices[np.lexsort((chance, labels))]  # person by person, each person's shuffled
    _, counts = np.unique(labels, return_counts=True)
    if len(counts) < people:
        raise UsageError(f"expected at least {people} people, as a batch shows, got {len(counts)}; set sampling.people")
    groups = np.maximum(1, counts // images)  # (people in all,)
    seats = _seats(groups, people, seed, epoch)  # (batches, P, 2)
    person, group = seats[..., 0, None], seats[..., 1, None]
    starts = np.cumsum(counts) - counts
    places = starts[person] + (group * images + np.arange(images)) % counts[person]  # (batches, P, K)
    return list(shuffled_images[places].reshape(len(seats), -1))


def _seats(groups: NDArray[np.int64], people: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Seat people in batches: (batches, P, 2) person and group (of `groups`, >= 1 each); no one twice in a batch.

    Seats are dealt in P rounds, each over all batches in a random order, to people in a random order with all their
    groups. A person whom the end of a round interrupts goes on in batches that they are not in yet.
    """
    batches = _most_batches(groups, people)
    order = shuffled(np.arange(len(groups)), seed, epoch, Stream.ORDER)
    given = np.minimum(groups[order], batches)
    person = np.repeat(order, given)[: people * batches]
    group = (np.arange(given.sum()) - np.repeat(np.cumsum(given) - given, given))[: people * batches]
    seats = np.empty((batches, people, 2), np.int64)
    before = np.empty(0, np.int64)  # batches in the order of the last round
    for number in range(people):
        chance = random_words(Stream.GROUP, seed, epoch, np.array([~number]), batches)[0]  # ~: no image's number
        now = np.argsort(chance, kind="stable")
        dealt = slice(number * batches, (number + 1) * batches)
        if number:
            last = person[dealt.start - batches : dealt.start]
            taken = np.isin(now, before[last == person[dealt.start]])
            now = np.concatenate([now[~taken], now[taken]])
        seats[now, number, 0], seats[now, number, 1] = person[dealt], group[dealt]
        before = now
    return seats


def _most_batches(groups: NDArray[np.int64], people: int) -> int:
    """The largest B with sum(min(groups, B)) >= people * B; there is one above 0 where there are enough people."""
    low, high = 1, int(groups.sum()) // people
    while low < high:
        middle = (low + high + 1) // 2
        if np.minimum(groups, middle).sum() >= people * middle:
            low = middle
        else:
            high = middle - 1
    return low


def pair_plan(
    indices: NDArray[np.int64], labels: NDArray[np.int64], batch: int, seed: int, epoch: int
) -> list[NDArray[np.int64]]:
    """Batches of pairs, half of one person and half of two.

    An image is the first of at most one pair an epoch; the second is sampled uniformly from the person's other images
    or from all images of others. People with one image occur in pairs of two people only.

    Args:
        indices, labels, seed, epoch: as in `identities`. batch: pairs a batch, even.
    Returns:
        The batches, (2 * batch,) int64 each; `reshape(-1, 2)` is a pair a row, the two kinds shuffled. A short last
        batch is left out, unless it is the only one.
    Raises:
        UsageError: an odd batch or one below 2, one person only, no person with two images, no images, or labels of
            another length.
    Source: Hadsell, Chopra, LeCun, "Dimensionality Reduction by Learning an Invariant Mapping", 2006; our balance.
    """
    if batch < 2 or batch % 2:
        raise UsageError(f"half of the pairs are of one person: expected an even batch of 2 pairs or more, got {batch}")
    crowd = _Crowd.of(indices, labels)
    order = shuffled(np.arange(len(crowd.indices)), seed, epoch, Stream.ANCHOR)  # places in the crowd
    able = order[crowd.has_other[order]]
    same = able[: len(order) // 2]
    different = order[~np.isin(order, same)][: len(same)]
    same = same[: len(different)]
    pairs = np.stack(  # (kind, pair, 2)
        [
            np.stack([crowd.indices[same], crowd.same_person(same, seed, epoch)], axis=1),
            np.stack([crowd.indices[different], crowd.other_people(different, seed, epoch)], axis=1),
        ]
    )
    batches = []
    for part in cut(np.arange(len(same)), batch // 2, drop_last=True):
        both = pairs[:, part].reshape(-1, 2)
        batches.append(both[shuffled(np.arange(len(both)), seed, epoch, Stream.ORDER)].ravel())
    return batches


def triplet_plan(
    indices: NDArray[np.int64], labels: NDArray[np.int64], batch: int, seed: int, epoch: int
) -> list[NDArray[np.int64]]:
    """Batches of triplets: an anchor, another image of the same person, one of another person.

    Each image of a person with two or more is the anchor once an epoch; the others are sampled as in `pair_plan`.

    Args:
        indices, labels, seed, epoch: as in `identities`. batch: triplets a batch, >= 1.
    Returns:
        The batches, (3 * batch,) int64 each; `reshape(-1, 3)` is anchor, positive, negative; a short last one as there.
    Raises:
        UsageError: as in `pair_plan`, but for odd batches, which are well.
    Source: Schroff, Kalenichenko, Philbin, "FaceNet", 2015, section 3.1.
    """
    if batch < 1:
        raise UsageError(f"a batch holds at least 1 triplet, got {batch}")
    crowd = _Crowd.of(indices, labels)
    order = shuffled(np.arange(len(crowd.indices)), seed, epoch, Stream.ANCHOR)
    anchors = order[crowd.has_other[order]]
    triplets = np.stack(
        [crowd.indices[anchors], crowd.same_person(anchors, seed, epoch), crowd.other_people(anchors, seed, epoch)],
        axis=1,
    )
    return [triplets[part].ravel() for part in cut(np.arange(len(anchors)), batch, drop_last=True)]


@dataclass(frozen=True)
class _Crowd:
    """Images sorted by person, so that "another of the same" and "one of the others" are arithmetic on places."""

    indices: NDArray[np.int64]  # (N,) positions in the store, person by person
    start: NDArray[np.int64]  # (N,) where the block of this image's person begins
    count: NDArray[np.int64]  # (N,) how long it is

    @classmethod
    def of(cls, indices: NDArray[np.int64], labels: NDArray[np.int64]) -> _Crowd:
        indices, labels = labelled(indices, labels)
        order = np.argsort(labels, kind="stable")
        _, first, member, counts = np.unique(labels[order], return_index=True, return_inverse=True, return_counts=True)
        if len(counts) < 2:
            raise UsageError("to tell people apart takes two or more; the data shows one")
        if counts.max() < 2:
            raise UsageError("expected a person with two images or more; every person has one")
        return cls(indices[order], first[member].astype(np.int64), counts[member].astype(np.int64))

    @property
    def has_other(self) -> NDArray[np.bool_]:
        return self.count > 1

    def same_person(self, places: NDArray[np.int64], seed: int, epoch: int) -> NDArray[np.int64]:
        """For each place another image of that person, each of them as likely."""
        start, count = self.start[places], self.count[places]
        step = 1 + self._draw(Stream.PARTNER, places, count - 1, seed, epoch)
        return self.indices[start + (places - start + step) % count]

    def other_people(self, places: NDArray[np.int64], seed: int, epoch: int) -> NDArray[np.int64]:
        """For each place an image of another person, each of them as likely."""
        start, count = self.start[places], self.count[places]
        sampled = self._draw(Stream.OTHER_PERSON, places, len(self.indices) - count, seed, epoch)
        return self.indices[np.where(sampled < start, sampled, sampled + count)]

    def _draw(
        self, stream: Stream, places: NDArray[np.int64], below: NDArray[np.int64], seed: int, epoch: int
    ) -> NDArray[np.int64]:
        words = random_words(stream, seed, epoch, self.indices[places], 1)[:, 0]
        return (words % below.astype(np.uint64)).astype(np.int64)


def class_weights(labels: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    """Compute what a mistake costs by class, (C,) > 0: inversely as frequent as the class, on average 1.

    Raises UsageError: a label outside 0 … C - 1, or a class without images.

    >>> class_weights(np.array([0, 0, 0, 1]), classes=2).tolist()
    [0.5, 1.5]
    """
    labels = np.asarray(labels, np.int64)
    if labels.size and not 0 <= labels.min() <= labels.max() < classes:
        raise UsageError(f"expected labels from 0 to {classes - 1}, got {labels.min()} to {labels.max()}")
    counts = np.bincount(labels, minlength=classes)
    absent = np.flatnonzero(counts == 0)
    if classes < 1 or absent.size:
        which = f"class {absent[0]} has none" if absent.size else "there is no class"
        raise UsageError(f"expected images of each of the {classes} classes to weigh them; {which}")
    rarity = 1.0 / counts
    weights: NDArray[np.float64] = rarity / rarity.mean()
    return weights


def labelled(indices: NDArray[np.int64], labels: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return both as int64 arrays, (N,) each. Raises UsageError: they differ in length, or are empty."""
    indices, labels = np.asarray(indices, np.int64), np.asarray(labels, np.int64)
    if indices.shape != labels.shape:
        raise UsageError(f"expected one label for each of the {indices.size} images, got {labels.size}")
    if indices.size == 0:
        raise UsageError("there are no images to make batches of")
    return indices, labels


def shard(batch: NDArray[np.int64], rank: int, world: int) -> NDArray[np.int64]:
    """The part of a batch that one of `world` processes computes; all parts in rank order are the batch again.

    >>> [shard(np.arange(5), rank, 2).tolist() for rank in (0, 1)]
    [[0, 1], [2, 3, 4]]
    """
    if not 0 <= rank < world:
        raise UsageError(f"rank must lie in 0 … world - 1, got rank {rank} of {world}")
    return batch[rank * len(batch) // world : (rank + 1) * len(batch) // world]


def random_words(stream: Stream, seed: int, epoch: int, items: NDArray[np.int64], slots: int) -> NDArray[np.uint64]:
    """Independent 64-bit words, each a function of (stream, seed, epoch, item, slot) and of nothing else: (B, slots).

    Keys that differ in one bit of any part give unrelated words (tested: uniformity, neighbours, avalanche).

    Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014 (the mixing function).
    """
    key = np.array([seed & _WORD], np.uint64)
    for part in (
        np.array([stream], np.uint64),
        np.array([epoch & _WORD], np.uint64),
        np.asarray(items, np.int64).astype(np.uint64),
    ):
        key = _mix(_mix(key + np.uint64(_GOLDEN)) + part)
    steps = np.arange(1, slots + 1, dtype=np.uint64) * np.uint64(_GOLDEN)
    return _mix(_mix(key)[:, None] + steps[None, :])


def derive(seed: int, *place: str | int) -> int:
    """Derive a seed of 63 bits for one place of a run, so that no two places share a stream.

    >>> derive(0, "step", 1) != derive(0, "step", 2)
    True
    """
    text = "/".join(str(part) for part in (seed, *place))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def _mix(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[np.uint64] = words ^ (words >> np.uint64(31))
    return mixed


def shuffled(indices: NDArray[np.int64], seed: int, epoch: int, stream: Stream) -> NDArray[np.int64]:
    """(N,) the same numbers in another order."""
    # Sorted by a random word for each place: unlike a library's shuffle it is the same in every version of it.
    words = random_words(stream, seed, epoch, np.arange(len(indices), dtype=np.int64), 1)[:, 0]
    return indices[np.argsort(words, kind="stable")]


def cut(order: NDArray[np.int64], batch: int, drop_last: bool) -> list[NDArray[np.int64]]:
    """Cut an order into batches; the last one, if short, is dropped unless it is the only one."""
    if batch < 1:
        raise UsageError(f"a batch holds at least 1 image, got {batch}")
    if order.size == 0:
        raise UsageError("there are no images to make batches of")
    parts = [order[start : start + batch] for start in range(0, len(order), batch)]
    if drop_last and len(parts) > 1 and len(parts[-1]) < batch:
        parts.pop()
    return parts
