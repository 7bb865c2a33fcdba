"""A gallery as JSON lines, for a copy, another machine or another program; checked when it is read.

The first line says what made the vectors; then a line an entry, its vector as base64 of D little-endian float32 and its
crop as base64 of a PNG, or null; the last line has their number and a checksum (BLAKE2b, 16 bytes) of all lines before.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from facewright import images
from facewright.errors import BadImage, DataError, GalleryError, UsageError
from facewright.files import replacing
from facewright.gallery.store import Entry, GalleryStore, Pin, Row, checked

FORMAT, VERSION = "facewright-gallery", 1
LONGEST = 64 * 2**20  # bytes of a line
PRIVATE = 0o600  # what is in it is biometric
BLOCK = 1_000  # entries added at a time


@dataclass(frozen=True)
class Header:
    """The first line."""

    pin: Pin
    threshold: Mapping[str, Any] | None


def export(store: GalleryStore, path: Path, *, crops: bool = True) -> int:
    """Write a gallery to a file that nobody else can read. Returns how many entries.

    Raises:
        GalleryError: somebody changed the gallery meanwhile; no file is written. FacewrightError: it could not be
        written.
    """
    before, count, state = store.state(), 0, hashlib.blake2b(digest_size=16)
    with replacing(path, mode=PRIVATE) as out:
        header = {"format": FORMAT, "version": VERSION, "pin": before.pin.to_dict(), "threshold": before.threshold}
        state.update(line := _line(header))
        out.write(line)
        for count, row in enumerate(store.rows(), 1):  # noqa: B007 - told in the last line
            state.update(line := _line(_facts(row, store.crop(row.number) if crops else None)))
            out.write(line)
        out.write(_line({"entries": count, "checksum": state.hexdigest()}))
        if store.state().revision != before.revision:
            raise GalleryError(f"{store.where}: somebody changed the gallery during the export; do it again")
    return count


def read_header(path: Path) -> Header:
    """What made the vectors of an exported gallery.

    Raises:
        DataError: it is no exported gallery.
    """
    first = next(_lines(path), b"")
    facts = _object(path, 1, first)
    if facts.get("format") != FORMAT or facts.get("version") != VERSION:
        raise DataError(f"{path}: expected an exported gallery, version {VERSION}; the first line says otherwise")
    try:
        pin = Pin(**facts["pin"])
    except (KeyError, TypeError) as error:
        raise DataError(f"{path}: the first line does not say what made the vectors ({error})") from None
    kinds = {"fingerprint": str, "model": str, "crop": float, "flip": bool, "width": int, "detector": str}
    wrong = [name for name, kind in kinds.items() if type(getattr(pin, name)) is not kind]
    threshold = facts.get("threshold")
    if wrong or not 1 <= pin.width <= 65_536 or not (threshold is None or isinstance(threshold, dict)):
        raise DataError(f"{path}: the first line does not say what made the vectors; wrong: {', '.join(wrong)}")
    return Header(pin, threshold)


def read(path: Path, width: int) -> Iterator[Entry]:
    """The entries of an exported gallery, each checked; the sum is checked when the last was taken.

    Raises:
        DataError: a line that is no entry, a wrong sum, or a file that was cut short; says which line.
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
            yield _entry(path, number, facts, width)
            count += 1
    if last is None or last != {"entries": count, "checksum": state.hexdigest()}:
        what = "the file was cut short" if last is None else "its lines are not those that were written"
        raise DataError(f"{path}: {what}; export the gallery anew")


def fill(store: GalleryStore, path: Path) -> tuple[int, int]:
    """Enrol what was exported, after all of it was checked.

    Returns:
        How many entries are new, and how many were there already.
    """
    width = store.state().pin.width
    for _ in read(path, width):
        pass
    new, already, entries = 0, 0, read(path, width)
    while block := list(islice(entries, BLOCK)):
        added = sum(number is not None for number in store.add(block))
        new, already = new + added, already + len(block) - added
    return new, already


def _facts(row: Row, crop: bytes | None) -> dict[str, Any]:
    entry = row.entry
    return {
        "person": entry.person,
        "photo": entry.photo,
        "metadata": dict(entry.metadata),
        "digest": entry.digest,
        "vector": base64.b64encode(entry.vector.astype("<f4").tobytes()).decode(),
        "crop": None if crop is None else base64.b64encode(crop).decode(),
    }


def _entry(path: Path, number: int, facts: Mapping[str, Any], width: int) -> Entry:
    try:
        texts = [facts[name] for name in ("person", "photo", "digest", "vector")]
        metadata, crop = facts["metadata"], facts["crop"]
        if not all(isinstance(text, str) for text in (*texts, *metadata, *metadata.values())) or len(facts) != 6:
            raise DataError("expected person, photo, digest, vector as text, metadata, crop, and nothing else")
        person, photo, digest, vector = texts
        values = np.frombuffer(base64.b64decode(vector, validate=True), "<f4").astype(np.float32)
        png = None if crop is None else base64.b64decode(crop, validate=True)
        if png is not None:
            images.read(png)
        return checked(Entry(person, values, digest, photo, metadata, png), width)
    except (KeyError, TypeError, AttributeError, ValueError, binascii.Error, DataError, UsageError) as error:
        raise DataError(f"{path}:{number}: is no entry of a gallery: {_said(error)}") from None


def _said(error: Exception) -> str:
    if isinstance(error, BadImage):
        return f"its crop {error.reason}"
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)


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
        while line := file.readline(LONGEST + 1):
            if len(line) > LONGEST:
                raise DataError(f"{path}: a line is longer than {LONGEST:,} bytes; it is no exported gallery")
            yield line


def _line(facts: Mapping[str, Any]) -> bytes:
    return json.dumps(facts, allow_nan=False).encode() + b"\n"
