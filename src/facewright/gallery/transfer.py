"""A gallery as JSON lines: a copy, for another machine or another program; verified when it is read.

The first line describes the model; then a line an entry, its vector as base64 of D little-endian float32, its crop as
base64 of a PNG or null; the last line holds their number and a checksum (BLAKE2b, 16 bytes) of all lines before.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import ConfigDict, Field, ValidationError

from facewright import images
from facewright.errors import BadImage, DataError, GalleryError, UsageError
from facewright.files import replacing
from facewright.gallery.entries import Entry, ModelSignature, check_entry
from facewright.gallery.store import GalleryStore
from facewright.records import Record

MAX_LINE = 64 * 2**20  # bytes
PRIVATE = 0o600  # its content is biometric
BLOCK = 1_000  # entries added at a time


class ExportHeader(Record):
    """The first line."""

    format: Literal["facewright-gallery"] = "facewright-gallery"
    version: Literal[1] = 1
    signature: Annotated[ModelSignature, Field(validation_alias="pin", serialization_alias="pin")]
    threshold: dict[str, Any] | None = None


class ExportedEntry(Record):
    """A line of an entry."""

    model_config = ConfigDict(strict=True)

    person: str
    photo: str
    metadata: dict[str, str]
    digest: str
    vector: str
    crop: str | None

    def to_entry(self, width: int) -> Entry:
        """The entry, checked. Raises: as `check_entry`; ValueError: no base64. BadImage: the crop is no image."""
        vector = np.frombuffer(base64.b64decode(self.vector, validate=True), "<f4").astype(np.float32)
        crop = None if self.crop is None else base64.b64decode(self.crop, validate=True)
        if crop is not None:
            images.read(crop)
        return check_entry(Entry(self.person, vector, self.digest, self.photo, self.metadata, crop), width)


def export(store: GalleryStore, path: Path, *, crops: bool = True) -> int:
    """Write a gallery to a file that only this user can read; count the entries.

    Raises:
        GalleryError: the gallery was changed meanwhile; no file is written.
    """
    before, count, state = store.header(), 0, hashlib.blake2b(digest_size=16)
    with replacing(path, mode=PRIVATE) as out:
        header = ExportHeader(signature=before.signature, threshold=before.threshold)
        state.update(line := _line(header.to_dict()))
        out.write(line)
        for row in store.rows():
            entry, crop = row.entry, store.crop(row.number) if crops else None
            facts = ExportedEntry(
                person=entry.person,
                photo=entry.photo,
                metadata=dict(entry.metadata),
                digest=entry.digest,
                vector=base64.b64encode(entry.vector.astype("<f4").tobytes()).decode(),
                crop=None if crop is None else base64.b64encode(crop).decode(),
            )
            state.update(line := _line(facts.to_dict()))
            out.write(line)
            count += 1
        out.write(_line({"entries": count, "checksum": state.hexdigest()}))
        if store.header().revision != before.revision:
            raise GalleryError(f"{store.location}: the gallery was changed during the export; try again")
    return count


def read_header(path: Path) -> ExportHeader:
    """Read the first line of an exported gallery. Raises DataError: it is none."""
    facts = _object(path, 1, next(_lines(path), b""))
    try:
        return ExportHeader.model_validate(facts)
    except ValidationError as error:
        raise DataError(f"{path}: expected an exported gallery, version 1: {_first(error)}") from None


def read(path: Path, width: int) -> Iterator[Entry]:
    """Read and check the entries of an exported gallery; the checksum is verified after the last one.

    Raises:
        DataError: a line that is no entry, a wrong checksum, or a file that was cut short; names the line.
    """
    state, count, last = hashlib.blake2b(digest_size=16), 0, None
    for number, line in enumerate(_lines(path), 1):
        if last is not None:
            raise DataError(f"{path}:{number}: expected nothing after the line with the checksum")
        facts = _object(path, number, line)
        if "checksum" in facts:
            last = facts
            continue
        state.update(line)
        if number > 1:
            try:
                yield ExportedEntry.model_validate(facts).to_entry(width)
            except (ValidationError, BadImage, DataError, UsageError, ValueError) as error:
                raise DataError(f"{path}:{number}: is no entry of a gallery: {_first(error)}") from None
            count += 1
    if last is None or last != {"entries": count, "checksum": state.hexdigest()}:
        problem = "the file was cut short" if last is None else "its lines are not those that were written"
        raise DataError(f"{path}: {problem}; export the gallery again")


def fill(store: GalleryStore, path: Path) -> tuple[int, int]:
    """Enroll an exported gallery, after all of it was checked; return how many entries are new, and how many old."""
    width = store.header().signature.width
    for _ in read(path, width):
        pass
    new, already, entries = 0, 0, read(path, width)
    while block := list(islice(entries, BLOCK)):
        added = sum(number is not None for number in store.add(block))
        new, already = new + added, already + len(block) - added
    return new, already


def _first(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return f"its crop {error.reason}" if isinstance(error, BadImage) else str(error)


def _object(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        facts = json.loads(line)
    except (ValueError, RecursionError):
        facts = None
    if not isinstance(facts, dict):
        raise DataError(f"{path}:{number}: expected one JSON object a line, as `gallery export` writes them")
    return facts


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while line := file.readline(MAX_LINE + 1):
            if len(line) > MAX_LINE:
                raise DataError(f"{path}: a line is longer than {MAX_LINE:,} bytes; it is no exported gallery")
            yield line


def _line(facts: Mapping[str, Any]) -> bytes:
    return json.dumps(facts, allow_nan=False).encode() + b"\n"
