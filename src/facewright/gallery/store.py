"""What every store of enrolled faces can do, and what passes in and out of it.

A store is the truth: what `add` has returned for is kept, whatever happens to the process afterwards. It is pinned to
one network and its preprocessing (`Pin`), for vectors of two cannot be compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from facewright.errors import DataError, UsageError

LONGEST = 1_000  # characters of a name, of a photo's, of a key or value of the metadata
MOST_METADATA = 100  # keys of an entry
UNIT = 1e-3  # how far a unit vector's length may be from 1


@dataclass(frozen=True)
class Pin:
    """What made a gallery's vectors."""

    fingerprint: str  # `Recognizer.fingerprint`, 32 hex characters
    model: str  # as it was named, so that it need not be named again; or "built-in"
    crop: float  # of its InputSpec
    flip: bool
    width: int  # D
    detector: str = "none"  # as `Recognizer` takes it; galleries of before had photos taken whole

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Entry:
    """One photo of one person."""

    person: str
    vector: NDArray[np.float32]  # (D,) of unit length
    digest: str  # of the photo's pixels: the same photo of a person is enrolled once
    photo: str = ""  # what the photo was called
    metadata: Mapping[str, str] = field(default_factory=dict)
    crop: bytes | None = None  # the face as the network saw it, a PNG, where it is kept


@dataclass(frozen=True, eq=False)
class Row:
    """An entry in a store. Its crop is left where it is; ask `GalleryStore.crop` for it."""

    number: int  # given once, never again
    entry: Entry
    has_crop: bool


@dataclass(frozen=True)
class Match:
    """A person that a search found, by the best of his entries."""

    person: str
    score: float  # cosine in [-1, 1], computed in float64
    number: int  # of that entry
    photo: str
    metadata: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class State:
    """What is true of a gallery as a whole. Each change raises the revision."""

    pin: Pin
    revision: int
    erased: int  # the revision of the last change that was more than adding
    entries: int
    threshold: Mapping[str, Any] | None  # as `Threshold.to_dict` gives it, and what it was chosen on


class GalleryStore(Protocol):
    """Enrolled faces, kept. Every method may be called from any thread, and while other processes write."""

    where: str

    def state(self) -> State:
        """What is true now."""
        ...

    def add(self, entries: Sequence[Entry]) -> list[int | None]:
        """Enrol all of them or none; once it returns they are kept.

        Returns:
            The number of each; None for a photo that this person was already enrolled with.
        Raises:
            UsageError, DataError: an entry that `checked` refuses. GalleryError: it could not be written.
        """
        ...

    def rows(self, people: Sequence[str] = ()) -> Iterator[Row]:
        """The entries of some people, or all, by their numbers."""
        ...

    def crop(self, number: int) -> bytes | None:
        """The PNG kept with an entry, or None."""
        ...

    def people(self) -> dict[str, int]:
        """How many entries each person has, by name."""
        ...

    def nearest(self, vectors: NDArray[np.float32], k: int, where: Mapping[str, str]) -> list[list[Match]]:
        """The people most like each probe, best first; of equals the first by name.

        Args:
            vectors: (Q, D) unit vectors. k: how many people, at least 1.
            where: only entries with all these keys and values in their metadata.
        """
        ...

    def delete(self, people: Sequence[str] = (), numbers: Sequence[int] = ()) -> int:
        """Remove people, or single entries, and every byte of theirs from every file. Returns how many entries.

        Raises:
            GalleryError: it is deleted, but another process still reads, so that bytes remain; `erase` finishes it.
        """
        ...

    def erase(self) -> None:
        """Overwrite whatever deletions have left behind. Done by `delete` already, unless it was interrupted."""
        ...

    def reembed(self, pin: Pin, vectors: Mapping[int, NDArray[np.float32]]) -> None:
        """Take other vectors, of another model, for all entries; a threshold goes, for it means nothing any more.

        Raises:
            GalleryError: the numbers are not those of all entries.
        """
        ...

    def keep_threshold(self, facts: Mapping[str, Any] | None) -> None:
        """Store a threshold, or none."""
        ...

    def check(self) -> None:
        """Read and verify everything, crops too.

        Raises:
            GalleryDamaged: something is not what was written.
        """
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


def checked(entry: Entry, width: int) -> Entry:
    """The entry, if it can be enrolled.

    Raises:
        UsageError: a name or metadata that cannot be kept. DataError: no unit vector of the gallery's width.
    """
    checked_name(entry.person)
    if len(entry.metadata) > MOST_METADATA:
        raise UsageError(f"expected at most {MOST_METADATA} keys of metadata, got {len(entry.metadata)}")
    for key, value in entry.metadata.items():
        if not key or "=" in key:
            raise UsageError(f"expected metadata as key=value, the key without '=', got {key!r}")
        _checked_text(key, "a key of the metadata")
        _checked_text(value, f"the metadata's {key}")
    _checked_text(entry.photo, "a photo's name")
    _checked_text(entry.digest, "a digest")
    vector = entry.vector
    if vector.shape != (width,) or vector.dtype != np.float32:
        raise DataError(f"{entry.photo}: expected a vector ({width},) float32, got {vector.shape} {vector.dtype}")
    length = float(np.linalg.norm(vector.astype(np.float64)))
    if not abs(length - 1) <= UNIT:
        raise DataError(f"{entry.photo}: expected a vector of length 1, got {length:g}")
    return entry


def checked_name(person: str) -> str:
    """The name, if a person can be called so.

    Raises:
        UsageError: it is empty, too long or no text.
    """
    if not person or person != person.strip():
        raise UsageError(f"expected a person's name without space around it, got {person!r}")
    return _checked_text(person, "a person's name")


def _checked_text(text: str, what: str) -> str:
    if len(text) > LONGEST:
        raise UsageError(f"expected {what} of at most {LONGEST} characters, got {len(text)}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"expected {what} that is UTF-8, got {text!r}") from None
    if "\0" in text:
        raise UsageError(f"expected {what} without a zero character, got {text!r}")
    return text
