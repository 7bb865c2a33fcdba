"""Units: records that must stay on one side of a split, and the order in which units are dealt out.

A unit is a set of images with equal pixels (one digest), of near duplicates where the caller asks for it, or of one
person.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray


def groups_of(digests: Sequence[str], near: Iterable[Sequence[int]] = ()) -> list[str]:
    """Name the unit of each record: equal digests share one, and so do the two sides of each near pair.

    The name is the smallest digest of the unit, thus the digest itself where nothing is near.

    >>> groups_of(["c", "a", "b", "a"], near=[(0, 2)])
    ['b', 'a', 'b', 'a']
    """
    parent = {digest: digest for digest in digests}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]  # path halving
            name = parent[name]
        return name

    for first, second in near:
        low, high = sorted((root(digests[int(first)]), root(digests[int(second)])))
        parent[high] = low
    return [root(digest) for digest in digests]


def people_of(identities: Sequence[str], groups: Sequence[str]) -> list[str]:
    """Name the unit of each record when people must stay together: two people who share a group are one unit.

    >>> people_of(["ann", "bob", "cid"], ["1", "2", "1"])
    ['g1', 'g2', 'g1']
    """
    nodes = [f"i{identity}" for identity in identities] + [f"g{group}" for group in groups]
    return groups_of(nodes, ((row, row + len(groups)) for row in range(len(groups))))[: len(identities)]


def units_by_class(labels: NDArray[np.int64], groups: Sequence[str]) -> dict[int, dict[str, list[int]]]:
    """Class number → group → record numbers; classes ascending. A unit belongs to the class of its first record."""
    units: dict[str, list[int]] = defaultdict(list)
    for index, group in enumerate(groups):
        units[group].append(index)
    classes: dict[int, dict[str, list[int]]] = defaultdict(dict)
    for group, members in units.items():
        classes[int(labels[members[0]])][group] = members
    return dict(sorted(classes.items()))


def in_hash_order(units: Mapping[str, list[int]], seed: str) -> list[list[int]]:
    """The units' members, ordered by a hash of seed and name."""

    def place(group: str) -> str:
        return blake2b(f"{seed}:{group}".encode(), digest_size=8).hexdigest()

    return [units[group] for group in sorted(units, key=place)]
