"""index.json of a store of decoded images: what its rows are, and the checksum that tells whether they still are it."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from hashlib import blake2b, file_digest
from pathlib import Path
from typing import Literal

from facewright.data.pixel_sources import stamp_of
from facewright.data.records import Dataset
from facewright.errors import BadImage, DataError, FacewrightError
from facewright.files import read_json, write_atomic
from facewright.input_spec import InputSpec
from facewright.records import Record as Facts

FORMAT = 2  # raised when the bytes of a store, or how they are made, change
_INDEX_BYTES = 2**30  # a million images take 90 MB


class StoredFile(Facts):
    """A file of a store."""

    name: str
    bytes: int
    checksum: str  # of all its bytes
    stamp: str  # its size and times when the checksum was last found right


class Index(Facts):
    """The contents of index.json: what the rows of a store are, raw in one pixel file or encoded in shards."""

    format: Literal[2] = 2
    dataset: str  # name, for people
    where: str
    height: int
    width: int
    created: float  # seconds since 1970
    digests: tuple[str, ...]  # (N,) pixel digests
    sizes: tuple[tuple[int, int], ...]  # (N,) height and width in the file, upright
    broken: tuple[tuple[int, str], ...]  # number among the records that were given, and why it has no row
    checksum: str = ""  # raw: of all bytes of the pixel file
    stamp: str = ""  # raw: size and times of the pixel file when the checksum was last found right
    shards: tuple[StoredFile, ...] = ()  # encoded: the shards, and the file of their entries

    @property
    def files(self) -> tuple[StoredFile, ...]:
        """The files that hold the images."""
        raw = len(self.digests) * self.height * self.width * 3
        return self.shards or (StoredFile(name="pixels.u8", bytes=raw, checksum=self.checksum, stamp=self.stamp),)

    @property
    def pixel_bytes(self) -> int:
        """Bytes of these files."""
        return sum(file.bytes for file in self.files)


def index_of(
    dataset: Dataset,
    spec: InputSpec,
    digests: Sequence[str],
    sizes: Sequence[tuple[int, int]],
    broken: Sequence[tuple[int, str]],
) -> Index:
    """Return the index of a store of these images. Raises DataError: there is none."""
    if not digests:
        first = f"{dataset.records[0].path}: {broken[0][1]}" if broken else "it lists no record"
        raise DataError(f"{dataset.where}: not one image can be read (the first: {first})")
    return Index(
        dataset=dataset.name,
        where=dataset.where,
        height=spec.height,
        width=spec.width,
        created=time.time(),
        digests=tuple(digests),
        sizes=tuple(sizes),
        broken=tuple(broken),
    )


def read_index(folder: Path, records: int | None = None) -> Index | None:
    """Return the index of a store; None where there is none or it is not whole (cut file, other format, other length).

    Args:
        records: how many it must account for, readable or broken; None for any number.
    """
    try:
        index = read_json(folder / "index.json", Index, limit=_INDEX_BYTES)
        whole = all((folder / file.name).stat().st_size == file.bytes for file in index.files)
        whole = whole and len(index.sizes) == len(index.digests)
    except (OSError, FacewrightError):
        return None
    accounted = records is None or records == len(index.digests) + len(index.broken)
    return index if whole and accounted and index.digests else None


def sound_index(folder: Path, records: int | None = None, *, fully: bool = False) -> Index | None:
    """Return the index of a store whose pixels are as they were written; None where there is none, or they are not.

    While size and times of the pixel file stay (its ctime cannot be set back) they are not read, unless `fully`.
    """
    index = read_index(folder, records)
    if index is None:
        return None
    try:
        stamps = [stamp_of(folder / file.name, str(folder / file.name)) for file in index.files]
        for file, stamp in zip(index.files, stamps, strict=True):
            if (fully or stamp != file.stamp) and checksum_of(folder / file.name) != file.checksum:
                return None
    except (BadImage, OSError):
        return None
    if stamps != [file.stamp for file in index.files]:
        pairs = zip(index.shards, stamps, strict=False)
        shards = tuple(file.model_copy(update={"stamp": stamp}) for file, stamp in pairs)
        index = index.model_copy(update={"shards": shards} if shards else {"stamp": stamps[0]})
        with suppress(FacewrightError):  # a cache that may only be read is still a cache
            write_index(folder, index)
    return index


def checksum_of(file: Path) -> str:
    """Return 32 hex characters that stand for all bytes of a file."""
    with file.open("rb") as content:
        return file_digest(content, lambda: blake2b(digest_size=16)).hexdigest()


def write_index(folder: Path, index: Index) -> None:
    """Write index.json, flushed to the disk."""
    write_atomic(folder / "index.json", index.model_dump_json(), mode=0o600)


def mark_used(folder: Path) -> None:
    """Set the time of the last use: the index's modification time."""
    with suppress(OSError):  # a cache that may only be read is still a cache
        os.utime(folder / "index.json")
