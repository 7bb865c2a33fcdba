"""Which pictures make the batches of an epoch, as a recipe says."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from facewright.data import sampling
from facewright.data.identity_sampling import identities, pair_plan, triplet_plan
from facewright.training.recipe_parts import Sampling

Plan = Callable[[int], list[NDArray[np.int64]]]
"""The batches of an epoch (rows of a store), a pure function of its number."""


def planner(chosen: Sampling, rows: NDArray[np.int64], labels: NDArray[np.int64], batch: int, seed: int) -> Plan:
    """The plan that a recipe asks for.

    Args:
        rows: (N,) rows of the store, of the training part.
        labels: (N,) the class of each.
        batch: pictures a batch, rounded down to whole pairs (an even number of them) or triplets; with `identities` it
            is people x images instead.
        seed: of the run.
    Raises:
        UsageError: the data cannot fill such batches.
    """
    if chosen.plan == "identities":
        return lambda epoch: identities(rows, labels, chosen.people, chosen.images, seed, epoch)
    if chosen.plan == "pairs":
        return lambda epoch: pair_plan(rows, labels, max(2, batch // 4 * 2), seed, epoch)
    if chosen.plan == "triplets":
        return lambda epoch: triplet_plan(rows, labels, max(1, batch // 3), seed, epoch)
    if chosen.plan == "repeat":
        every = sampling.repeated(rows, labels, chosen.times)
        return lambda epoch: sampling.plan(every, batch, seed, epoch)
    if chosen.plan == "shuffle":
        return lambda epoch: sampling.plan(rows, batch, seed, epoch)
    balance = chosen.plan
    return lambda epoch: sampling.balanced(rows, labels, batch, seed, epoch, balance)
