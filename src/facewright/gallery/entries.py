"""The records that pass through a store of enrolled faces, what may be enrolled, and what a row's checksum covers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError

from facewright.errors import DataError, UsageError
from facewright.records import Record

MAX_TEXT = 1_000  # characters of a name, of a photo's name, of a key or value of the metadata
MAX_METADATA = 100  # keys of an entry
MAX_WIDTH = 65_536
UNIT = 1e-3  # tolerance of a unit vector's length

Count = Annotated[int, Field(ge=0, lt=2**63)]
Checksum = Annotated[  # 128 bits, hexadecimal in JSON
    int,
    BeforeValidator(lambda value: int(value, 16) if isinstance(value, str) else value),
    PlainSerializer(lambda value: f"{value:032x}", when_used="json"),
    Field(ge=0, lt=2**128),
]


class ModelSignature(Record):
    """The model and preprocessing that made a gallery's vectors."""

    model_config = ConfigDict(strict=True)

    fingerprint: str  # `Recognizer.fingerprint`, 32 hex characters
    model: str  # its name or absolute path; or "built-in"
    crop: float  # of its InputSpec
    flip: bool
    width: int = Field(ge=1, le=MAX_WIDTH)  # D
    detector: str = "none"  # galleries of before version 1 had photos taken whole


class StoreHeader(Record):
    """Facts about a gallery as a whole, stored as one row; each change raises the revision."""

    model_config = ConfigDict(strict=True, validate_by_name=True, validate_by_alias=True)

    signature: ModelSignature = Field(validation_alias="pin", serialization_alias="pin")
    revision: Count = 0
    erased: Count = 0  # the revision of the last change that was more than adding
    entries: Count = 0
    next_number: Count = Field(default=1, validation_alias="next", serialization_alias="next")
    total: Checksum = 0  # the checksums of all rows, by exclusive or
    erasing: bool = False  # something was deleted whose bytes may still be there
    identity: str = Field(default="", max_length=64)  # drawn once a gallery; "" in those of version 0.1
    threshold: dict[str, Any] | None = None  # as `GalleryThreshold.to_dict` gives it

    def to_json(self) -> str:
        """The stored form, read by `from_json`."""
        return json.dumps(self.model_dump(mode="json", by_alias=True), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> StoreHeader:
        """Read the stored form. Raises DataError: it is not what `to_json` writes."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            raise DataError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None

    def updated(self, *, only_added: bool, **changes: Any) -> StoreHeader:
        """The header of the next revision."""
        revision = self.revision + 1
        return self.model_copy(
            update={"revision": revision, "erased": self.erased if only_added else revision, **changes}
        )


@dataclass(frozen=True, eq=False)
class Entry:
    """One photo of one person."""

    person: str
    vector: NDArray[np.float32]  # (D,) of unit length
    digest: str  # of the photo's pixels: the same photo of a person is enrolled once
    photo: str = ""  # name of the photo
    metadata: Mapping[str, str] = field(default_factory=dict)
    crop: bytes | None = None  # the face as the network saw it, a PNG, where it is kept


@dataclass(frozen=True, eq=False)
class Row:
    """An entry in a store, without its crop; see `GalleryStore.crop`."""

    number: int  # given once, never again
    entry: Entry
    has_crop: bool


class Match(Record):
    """A person found by a search, with the best of their entries."""

    person: str
    score: float  # cosine in [-1, 1], computed in float64
    number: int  # of that entry
    photo: str
    metadata: dict[str, str]


class LogRecord(Record):
    """A change of a gallery: when, what kind, how many entries; no name and nothing biometric."""

    time: str  # UTC, ISO 8601
    action: str  # enroll, delete, rename, expire, calibrate or reembed
    entries: int
    first: int | None = None  # numbers of the entries, if they are consecutive
    last: int | None = None


def check_entry(entry: Entry, width: int) -> Entry:
    """Return the entry, if it can be enrolled.

    Raises:
        UsageError: a name or metadata that cannot be kept. DataError: no unit vector of the gallery's width.
    """
    if not entry.person or entry.person != entry.person.strip():
        raise UsageError(f"expected a person's name without space around it, got {entry.person!r}")
    check_text(entry.person, "a person's name")
    if len(entry.metadata) > MAX_METADATA:
        raise UsageError(f"expected at most {MAX_METADATA} keys of metadata, got {len(entry.metadata)}")
    for key, value in entry.metadata.items():
        if not key or "=" in key:
            raise UsageError(f"expected metadata as key=value, the key without '=', got {key!r}")
        check_text(key, "a key of the metadata")
        check_text(value, f"the metadata's {key}")
    check_text(entry.photo, "a photo's name")
    check_text(entry.digest, "a digest")
    vector = entry.vector
    if vector.shape != (width,) or vector.dtype != np.float32:
        raise DataError(f"{entry.photo}: expected a vector ({width},) float32, got {vector.shape} {vector.dtype}")
    length = float(np.linalg.norm(vector.astype(np.float64)))
    if not abs(length - 1) <= UNIT:
        raise DataError(f"{entry.photo}: expected a vector of length 1, got {length:g}")
    return entry


def check_text(text: str, what: str) -> str:
    """Return the text, if it can be stored. Raises UsageError: it is too long, no UTF-8, or has a zero character."""
    if len(text) > MAX_TEXT:
        raise UsageError(f"expected {what} of at most {MAX_TEXT} characters, got {len(text)}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"expected {what} that is UTF-8, got {text!r}") from None
    if "\0" in text:
        raise UsageError(f"expected {what} without a zero character, got {text!r}")
    return text


RowFields = tuple[int, str, str, str, str, bytes, bytes, bytes]  # the table `entries`, in the order of its columns
Content = tuple[int, str, str, str, str, bytes, bytes]  # all but the checksum


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
