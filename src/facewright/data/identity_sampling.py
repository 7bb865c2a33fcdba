"""Plans for learning who is who: P people × K images, pairs, triplets.

Like all plans (sampling.py) these are pure functions of (seed, epoch), and a batch is an array of positions in the
store, so that a `Loader` can make it. What belongs together lies side by side: `batch.reshape(-1, K)` is one person a
row, `batch.reshape(-1, 2)` one pair, `batch.reshape(-1, 3)` one triplet; labels[batch] says who is who.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facewright.data.sampling import Stream, cut, labelled, random_words, shuffled
from facewright.errors import UsageError


def identities(
    indices: NDArray[np.int64], labels: NDArray[np.int64], people: int, images: int, seed: int, epoch: int
) -> list[NDArray[np.int64]]:
    """Batches of P people with K images each, as losses that compare within a batch need them.

    Each person's images are shuffled and cut into groups of K; no image comes twice in an epoch, and those left
    over (fewer than K) have their turn in another epoch. A person with fewer than K images gives one group, in which
    they repeat as evenly as possible. As many batches come about as can without a person twice in one; of a person
    with very many images, groups may be left out.

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
        raise UsageError(
            f"expected at least {people} people, as many as a batch shows, got {len(counts)}; set sampling.people"
        )
    groups = np.maximum(1, counts // images)  # (people in all,)
    seats = _seats(groups, people, seed, epoch)  # (batches, P, 2)
    person, group = seats[..., 0, None], seats[..., 1, None]
    starts = np.cumsum(counts) - counts
    places = starts[person] + (group * images + np.arange(images)) % counts[person]  # (batches, P, K)
    return list(shuffled_images[places].reshape(len(seats), -1))


def _seats(groups: NDArray[np.int64], people: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Seat people in batches: (batches, P, 2) person and group (of `groups`, >= 1 each); no one twice in a batch.

    B batches come about where no person gives more than B groups and P * B remain; the largest such B is taken. Seats
    are dealt in P rounds, each over all batches in a random order, and people follow one another in a random order with
    all their groups. A person whom the end of a round interrupts goes on in batches that they are not in yet.
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
        batch is left out; where there are fewer pairs than one batch holds, it stays (and still is half and half).
    Raises:
        UsageError: an odd batch or one below 2, one person only, no person with two images, no images, or labels of
            another length.
    Source: Hadsell, Chopra, LeCun, "Dimensionality Reduction by Learning an Invariant Mapping", 2006 (pairs); the
        balance of both kinds is ours.
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
        The batches, (3 * batch,) int64 each; `reshape(-1, 3)` is anchor, positive, negative. A short last batch is left
        out; where there are fewer triplets than one batch holds, it stays.
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
