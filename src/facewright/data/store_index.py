"""index.json of a store of decoded images: what its rows are, and the checksum that tells whether they still are it."""

from __future__ import annotations

import os
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Literal

from facewright.data.pixel_sources import stamp_of
from facewright.errors import BadImage, FacewrightError
from facewright.files import read_json, write_atomic
from facewright.records import Record as Facts

FORMAT = 2  # raised when the bytes of a store, or how they are made, change
_INDEX_BYTES = 2**30  # a million images take 90 MB
_BLOCK = 2**22


class Index(Facts):
    """The contents of index.json: what the rows of a pixel file are."""

    format: Literal[2] = 2
    dataset: str  # name, for people
    where: str
    height: int
    width: int
    created: float  # seconds since 1970
    digests: tuple[str, ...]  # (N,) pixel digests
    sizes: tuple[tuple[int, int], ...]  # (N,) height and width in the file, upright
    broken: tuple[tuple[int, str], ...]  # number among the records that were given, and why it has no row
    checksum: str  # of all bytes of the pixel file
    stamp: str  # size and times of the pixel file when the checksum was last found right

    @property
    def pixel_bytes(self) -> int:
        """Bytes of the pixel file."""
        return len(self.digests) * self.height * self.width * 3


def read_index(folder: Path, records: int | None = None) -> Index | None:
    """Return the index of a store; None where there is none or it is not whole (cut file, other format, other length).

    Args:
        folder: of one store.
        records: how many it must account for, readable or broken; None for any number.
    """
    try:
        index = read_json(folder / "index.json", Index, limit=_INDEX_BYTES)
        whole = (folder / "pixels.u8").stat().st_size == index.pixel_bytes and len(index.sizes) == len(index.digests)
    except (OSError, FacewrightError):
        return None
    accounted = records is None or records == len(index.digests) + len(index.broken)
    return index if whole and accounted and index.digests else None


def sound_index(folder: Path, records: int | None = None, *, fully: bool = False) -> Index | None:
    """Return the index of a store whose pixels are as they were written; None where there is none, or they are not.

    While size and times of the pixel file stay (its ctime cannot be set back) they are not read.

    Args:
        folder, records: as `read_index`.
        fully: compare the checksum of all bytes in any case.
    """
    index = read_index(folder, records)
    if index is None:
        return None
    file = folder / "pixels.u8"
    try:
        stamp = stamp_of(file, str(file))
        if not fully and stamp == index.stamp:
            return index
        if checksum_of(file) != index.checksum:
            return None
    except (BadImage, OSError):
        return None
    if stamp != index.stamp:
        index = index.model_copy(update={"stamp": stamp})
        with suppress(FacewrightError):  # a cache that may only be read is still a cache
            write_index(folder, index)
    return index


def checksum_of(file: Path) -> str:
    """Return 32 hex characters that stand for all bytes of a file."""
    state = blake2b(digest_size=16)
    with file.open("rb") as content:
        while block := content.read(_BLOCK):
            state.update(block)
    return state.hexdigest()


def write_index(folder: Path, index: Index) -> None:
    """Write index.json, flushed to the disk."""
    write_atomic(folder / "index.json", index.model_dump_json(), mode=0o600)


def mark_used(folder: Path) -> None:
    """Set the time of the last use: the index's modification time."""
    with suppress(OSError):  # a cache that may only be read is still a cache
        os.utime(folder / "index.json")
