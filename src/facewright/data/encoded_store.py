"""The encoded form of a store: the bytes of images in shards, decoded whenever a batch asks for them.

    shard-00000.bin    encoded images of 4,096 records, one after the other
    shard-00000.json   while it is built: what became of each of these records; written last, so its shard is complete
    shard-00000.lock   held by the process that builds the shard
    entries.i64        (N, 4): shard, start, length, whether the pixels were fitted before they were encoded

An image keeps its own bytes where these are fewer than its pixels at the size of the store; else its fitted pixels
are stored as lossless WebP: the pixels of the raw form, bit for bit. Processes that share the cache folder build one
store together: each takes shards that no other has; one that is killed loses the shard it was at.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from PIL import Image

from facewright import images
from facewright.data.cache import locked, make_private
from facewright.data.decoding import Chunk, decode_all, read_record, smallest_side
from facewright.data.pixel_sources import PixelSource, digest, reason_of, stamp_of
from facewright.data.records import Dataset
from facewright.data.store_index import Index, StoredFile, checksum_of, index_of, write_index
from facewright.errors import BadImage, FacewrightError
from facewright.events import EventHandler, Progress
from facewright.files import read_json, sync_folder, write_atomic
from facewright.images import pixel_digest
from facewright.input_spec import InputSpec
from facewright.platforms import usable_cores
from facewright.records import Record as Facts

SHARD = 4096  # records
_TASK = 4  # images a thread decodes at once


class EncodedPixels:
    """(N, H, W, 3) uint8 that are decoded when they are read; indexed by a number, a slice or an array of rows."""

    def __init__(self, folder: Path, shards: Sequence[str], count: int, spec: InputSpec) -> None:
        self.shape = (count, spec.height, spec.width, 3)
        self.dtype = np.dtype(np.uint8)
        self._spec = spec
        self._entries = np.memmap(folder / "entries.i64", np.int64, mode="r", shape=(count, 4))
        self._shards = [np.memmap(folder / name, np.uint8, mode="r") for name in shards]
        self._pool: ThreadPoolExecutor | None = None  # Pillow lets other threads run while it decodes

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int | slice | NDArray[np.int64]) -> NDArray[np.uint8]:
        rows = np.arange(len(self), dtype=np.int64)[index]
        if rows.ndim == 0:
            return self._decoded(int(rows))
        result = np.empty((len(rows), *self.shape[1:]), np.uint8)

        def fill(start: int) -> None:
            for place in range(start, min(start + _TASK, len(rows))):
                result[place] = self._decoded(int(rows[place]))

        if len(rows) <= _TASK:
            fill(0)
            return result
        if self._pool is None:
            self._pool = ThreadPoolExecutor(usable_cores(), "facewright-decode")
        list(self._pool.map(fill, range(0, len(rows), _TASK)))
        return result

    def _decoded(self, row: int) -> NDArray[np.uint8]:
        shard, start, length, fitted = self._entries[row].tolist()
        content = self._shards[shard][start : start + length].tobytes()
        if not fitted:
            image, _ = images.read_sized(content, name=f"row {row}", at_least=smallest_side(self._spec))
            return self._spec.fit(image)
        return np.asarray(Image.open(io.BytesIO(content)))


class ShardRow(Facts):
    """One record of a shard; without bytes it is broken."""

    start: int = 0
    length: int = 0
    fitted: bool = False
    digest: str = ""
    size: tuple[int, int] = (0, 0)
    reason: str = ""


class ShardFacts(Facts):
    """shard-*.json: what became of each record of a shard."""

    rows: tuple[ShardRow, ...]
    checksum: str


def build(folder: Path, dataset: Dataset, spec: InputSpec, workers: int, on_event: EventHandler) -> None:
    """Build the encoded store of a dataset in `folder`, together with whoever else does so.

    Raises:
        DataError: no image can be read. FacewrightError: the disk is full or refuses.
    """
    partial = folder.with_suffix(".shards")
    if folder.is_dir():  # another process has built it meanwhile
        return
    try:
        make_private(partial)
        count = len(dataset.records)
        numbers = range(-(-count // SHARD))
        done = 0
        for blocking in (False, True):  # first what nobody is at, then what others left or are still at
            for number in numbers:
                before = done
                done += _shard(partial, number, dataset, spec, workers, blocking=blocking)
                if done > before:
                    on_event(Progress("encoding", min(done * SHARD, count), count))
        with locked(folder):
            if partial.is_dir():  # else another process has finished it
                write_index(partial, _joined(partial, dataset, spec, len(numbers)))
                partial.rename(folder)
                sync_folder(folder.parent)
    except FileNotFoundError:
        if not (folder / "index.json").is_file():
            raise
    except OSError as error:
        raise FacewrightError(
            f"{folder.parent}: the encoded images cannot be stored ({error.strerror or error}); what is done is kept: "
            "free some space and start again, or set FACEWRIGHT_CACHE to a larger disk"
        ) from error


def _shard(partial: Path, number: int, dataset: Dataset, spec: InputSpec, workers: int, *, blocking: bool) -> int:
    """Build one shard unless it is there, or another process is at it and `blocking` is false; return 1 if it was."""
    facts = partial / f"shard-{number:05d}.json"
    if facts.is_file() or not partial.is_dir():
        return 0
    try:
        with FileLock(facts.with_suffix(".lock"), mode=0o600, timeout=-1 if blocking else 0):
            if facts.is_file():
                return 0
            records = dataset.records[number * SHARD : (number + 1) * SHARD]
            rows, checksum = _write(facts.with_suffix(".bin"), dataset.source, records, spec, workers)
            write_atomic(facts, ShardFacts(rows=rows, checksum=checksum).model_dump_json(), mode=0o600)
            return 1
    except Timeout:
        return 0


def _write(
    path: Path, source: PixelSource, records: Chunk, spec: InputSpec, workers: int
) -> tuple[tuple[ShardRow, ...], str]:
    rows: list[ShardRow] = []
    content = bytearray()
    for row, encoded in decode_all(source, records, spec, workers, encode):
        rows.append(row.replace(start=len(content), length=len(encoded)))
        content += encoded
    write_atomic(path, bytes(content), mode=0o600)
    return tuple(rows), digest(content)


def encode(source: PixelSource, records: Chunk, spec: InputSpec) -> list[tuple[ShardRow, bytes]]:
    """Read some records and return what becomes of each, and the bytes to keep of it."""
    results = []
    for record in records:
        try:
            image, size = read_record(source, record, smallest_side(spec))
        except (BadImage, OSError) as error:
            results.append((ShardRow(reason=reason_of(error)), b""))
            continue
        own = source.content(record.path) if hasattr(source, "content") else None
        fitted = own is None or len(own) > spec.height * spec.width * 3
        content = _lossless(spec.fit(image)) if own is None or fitted else own
        results.append((ShardRow(fitted=fitted, digest=pixel_digest(image), size=size), content))
    return results


def _lossless(pixels: NDArray[np.uint8]) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "WEBP", lossless=True, quality=0, method=0)
    return out.getvalue()


def _joined(partial: Path, dataset: Dataset, spec: InputSpec, shards: int) -> Index:
    """Make one index of all shards; write the file of entries."""
    entries: list[tuple[int, int, int, int]] = []
    digests, sizes, broken, files = list[str](), list[tuple[int, int]](), list[tuple[int, str]](), list[StoredFile]()
    for number in range(shards):
        facts = read_json(partial / f"shard-{number:05d}.json", ShardFacts)
        file = partial / f"shard-{number:05d}.bin"
        files.append(_stored(file, facts.checksum))
        for place, row in enumerate(facts.rows):
            if not row.length:
                broken.append((number * SHARD + place, row.reason))
                continue
            entries.append((number, row.start, row.length, int(row.fitted)))
            digests.append(row.digest)
            sizes.append(row.size)
    index = index_of(dataset, spec, digests, sizes, broken)
    write_atomic(partial / "entries.i64", np.array(entries, np.int64).tobytes(), mode=0o600)
    files.append(_stored(partial / "entries.i64", checksum_of(partial / "entries.i64")))
    return index.model_copy(update={"shards": tuple(files)})


def _stored(file: Path, checksum: str) -> StoredFile:
    return StoredFile(name=file.name, bytes=file.stat().st_size, checksum=checksum, stamp=stamp_of(file, file.name))
