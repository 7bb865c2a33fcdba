"""Plans: which images form which batch of an epoch, and the counter-based random numbers behind them.

Everything here is a pure function of (seed, epoch): a plan can be made again after a kill, in another process, or by
every rank of a distributed run, and is the same.
"""

from __future__ import annotations

import hashlib
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
        drop_last: leave out the last batch where it is short (another epoch leaves out other images). Where there
            are fewer images than one batch holds, the short batch stays: a plan is never empty.
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

    Each use of an image draws another augmentation (`Loader` sees to it), so this is the class augmented ×factor.

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


def class_weights(labels: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    """Compute what a mistake costs by class, (C,) > 0: inversely as frequent as the class, on average 1.

    Raises:
        UsageError: a label outside 0 … C - 1, or a class without images.

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

    Each part of the key is folded in and mixed before the next, so keys that differ in one bit of any part give
    unrelated words (tested: uniformity, neighbours in each part, avalanche).

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
