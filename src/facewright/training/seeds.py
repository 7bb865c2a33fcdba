"""Seeds for the places of a run."""

from __future__ import annotations

import hashlib


def derive(seed: int, *place: str | int) -> int:
    """A seed of 63 bits for one place of a run, so that no two places share a stream.

    >>> derive(0, "step", 1) != derive(0, "step", 2)
    True
    """
    text = "/".join(str(part) for part in (seed, *place))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
