"""The rows of a gallery as its stores keep them, with checksums that reveal a changed, lost or returned row.

Every row carries a checksum over all its fields. The header carries their sum (exclusive or) and number, and a checksum
of its own. The checksum is BLAKE2b here; on a server that checks its own rows it is the server's (`postgres_tables`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

from facewright.gallery.store import Entry

COLUMNS = "number, person, photo, metadata, digest, vector, crop_digest, checksum"
RowFields = tuple[int, str, str, str, str, bytes, bytes, bytes]  # of COLUMNS
Content = tuple[int, str, str, str, str, bytes, bytes]  # all but the checksum


def fields_of(number: int, entry: Entry) -> RowFields:
    """An entry as it stands in the table `entries`."""
    metadata = json.dumps(dict(sorted(entry.metadata.items())), ensure_ascii=False)
    crop = b"" if entry.crop is None else digest_of(entry.crop)
    vector = entry.vector.astype("<f4").tobytes()
    return with_checksum((number, entry.person, entry.photo, metadata, entry.digest, vector, crop))


def with_checksum(content: Content) -> RowFields:
    """A row with its checksum."""
    return (*content, checksum_of(content))


def checksum_of(content: Content) -> bytes:
    """The checksum of a row."""
    return digest_of(serialized(content))


def serialized(content: Content) -> bytes:
    """The bytes that a row's checksum covers: its number, the length of each other field, and all their bytes.

    >>> serialized((7, "Ann", "a.jpg", "{}", "d", bytes(4), b""))
    b'7,3,5,2,1,4,0:Anna.jpg{}d\\x00\\x00\\x00\\x00'
    """
    number, *texts, vector, crop = content
    pieces = [text.encode() for text in texts]
    lengths = ",".join(map(str, (number, *map(len, pieces), len(vector), len(crop))))
    return b"".join((lengths.encode(), b":", *pieces, vector, crop))


def total_of(checksums: Iterable[bytes], start: int = 0) -> int:
    """The exclusive or of checksums."""
    for checksum in checksums:
        start ^= int.from_bytes(checksum, "big")
    return start


def digest_of(content: bytes) -> bytes:
    """BLAKE2b, 16 bytes."""
    return hashlib.blake2b(content, digest_size=16).digest()
