"""The rows of a gallery as its stores keep them, and the checksums by which a changed, lost or returned one is noticed.

Every row is sealed: it carries a checksum over all it holds. The book carries their sum (exclusive or) and number, and
a checksum of its own. The checksum is BLAKE2b here; a store whose server checks its own rows has the server's
(`postgres_rows`).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Any

from facewright.gallery.store import Entry, Pin, State

COLUMNS = "number, person, photo, metadata, digest, vector, crop_digest, checksum"
Fields = tuple[int, str, str, str, str, bytes, bytes, bytes]  # of COLUMNS
Parts = tuple[int, str, str, str, str, bytes, bytes]  # all but the checksum


@dataclass(frozen=True)
class Book:
    """What all rows of the gallery must add up to; kept as one row, body and checksum."""

    state: State
    next: int  # number
    total: int  # the checksums of all rows, by exclusive or
    erasing: bool  # something was deleted whose bytes may still be there

    def to_json(self) -> str:
        s = self.state
        facts = {"pin": s.pin.to_dict(), "revision": s.revision, "erased": s.erased, "entries": s.entries}
        own = {"next": self.next, "total": f"{self.total:032x}", "erasing": self.erasing}
        return json.dumps(facts | own | {"threshold": s.threshold}, allow_nan=False)

    @classmethod
    def from_json(cls, body: str) -> Book:
        facts = json.loads(body)
        state = State(
            Pin(**facts["pin"]), facts["revision"], facts["erased"], facts["entries"], facts["threshold"]
        )  # fmt: skip
        return cls(state, facts["next"], int(facts["total"], 16), facts["erasing"])

    def changed(self, *, only_added: bool, **state: Any) -> Book:
        """The book of the next revision."""
        revision = self.state.revision + 1
        erased = self.state.erased if only_added else revision
        return replace(self, state=replace(self.state, revision=revision, erased=erased, **state))


def fields_of(number: int, entry: Entry) -> Fields:
    """An entry as it stands in the table `entries`."""
    metadata = json.dumps(dict(sorted(entry.metadata.items())), ensure_ascii=False)
    crop = b"" if entry.crop is None else digest_of(entry.crop)
    vector = entry.vector.astype("<f4").tobytes()
    return sealed((number, entry.person, entry.photo, metadata, entry.digest, vector, crop))


def sealed(parts: Parts) -> Fields:
    """A row with its checksum."""
    return (*parts, seal(parts))


def seal(parts: Parts) -> bytes:
    """The checksum of a row."""
    return digest_of(written_out(parts))


def written_out(parts: Parts) -> bytes:
    """What a row's checksum is of: its number, the length of each other part, and all their bytes.

    >>> written_out((7, "Ann", "a.jpg", "{}", "d", bytes(4), b""))
    b'7,3,5,2,1,4,0:Anna.jpg{}d\\x00\\x00\\x00\\x00'
    """
    number, *texts, vector, crop = parts
    pieces = [text.encode() for text in texts]
    lengths = ",".join(map(str, (number, *map(len, pieces), len(vector), len(crop))))
    return b"".join((lengths.encode(), b":", *pieces, vector, crop))


def as_number(fields: Fields) -> int:
    """A row's checksum, to be added to the total."""
    return int.from_bytes(fields[7], "big")


def checksum_of(body: str) -> bytes:
    """Of the book."""
    return digest_of(body.encode())


def digest_of(content: bytes) -> bytes:
    """BLAKE2b, 16 bytes."""
    return hashlib.blake2b(content, digest_size=16).digest()


def as_bytes(value: object) -> bytes:
    """The bytes, or none where a damaged file holds something else."""
    return value if isinstance(value, bytes) else b""
