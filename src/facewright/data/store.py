"""PixelStore: images decoded once and kept as uint8, mapped into memory; or kept encoded, where they are too many.

The first use of a dataset at a size decodes every image with all cores and writes the pixels to the user's cache folder
(layout: cache.py); from then on opening takes a glance at each file's size and time, and a batch is a gather.
"""

from __future__ import annotations

import io
import logging
import math
import os
import shutil
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from PIL import Image

from facewright import images, platforms
from facewright.data.cache import (
    Index,
    StoredFile,
    building,
    checksum_of,
    content_keys,
    index_of,
    locked,
    make_private,
    mark_used,
    read_index,
    remove_damaged,
    sound_index,
    store_folder,
    write_index,
)
from facewright.data.decoding import Chunk, Decoded, decode, decode_all, smallest_side
from facewright.data.image_records import PixelSource, digest, stamp_of
from facewright.data.records import Broken, Dataset
from facewright.errors import DataError, FacewrightError, UsageError
from facewright.events import EventHandler, Message, Progress, ignore_event
from facewright.files import read_json, sync_folder, write_atomic
from facewright.input_spec import InputSpec
from facewright.platforms import usable_cores
from facewright.records import Record as Facts

if TYPE_CHECKING:
    import torch
STORE_FORMS = ("auto", "raw", "encoded")
RAW_BYTES = 64 * 2**30  # pixels beyond this are kept encoded, and beyond half of what is free on the disk
STATISTICS_CHUNK = 2**22  # values counted at a time: bounds memory, large enough to be fast
SHARD = 4096  # records
_TASK = 4  # images a thread decodes at once
LOG = logging.getLogger("facewright.data")


@dataclass(frozen=True)
class Statistics:
    """Per channel, over pixels scaled to [0, 1]."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]  # of all pixels (divided by n), not a mean of batch stds


@dataclass(frozen=True)
class PixelStore:
    """The decoded images of one dataset at one size."""

    dataset: Dataset  # the readable records; `dataset.broken` names the others
    spec: InputSpec  # size and rule of fitting (mean and std play no part: the pixels are raw)
    # (N, H, W, 3) uint8 RGB, mapped memory, or decoded when they are read; row i is dataset.records[i]
    pixels: np.memmap[tuple[int, int, int, int], np.dtype[np.uint8]] | EncodedPixels
    digests: tuple[str, ...]  # (N,) pixel digests of the images before fitting; equal pixels, equal digest
    sizes: NDArray[np.int64]  # (N, 2) height and width of the images in their files, upright
    folder: Path  # where it lies in the cache

    @classmethod
    def open(
        cls,
        dataset: Dataset,
        spec: InputSpec,
        cache: Path | None = None,
        workers: int | None = None,
        on_event: EventHandler = ignore_event,
        verify: bool = False,
        form: str | None = "auto",
    ) -> PixelStore:
        """Open the store of a dataset, decoding the images where that has not been done.

        Args:
            cache: the cache folder; `cache_folder()` where None. workers: decoders at work; all cores where None.
            on_event: called after each decoded image; never for a complete store.
            verify: compare the checksum of a complete store in any case, not only where its file has changed.
            form: raw: decoded pixels; encoded: bytes in shards; auto or None: $FACEWRIGHT_STORE, else the one that
                is there, else raw up to 64 GiB and half of what is free. Both give the same batches.
        Raises:
            DataError: no image can be read. EmptyClass: none of a class. UsageError: an unknown form.
            FacewrightError: the cache cannot hold the pixels; nothing is left behind.
        """
        if form in (None, "auto"):
            form = os.environ.get("FACEWRIGHT_STORE") or "auto"
        if form not in STORE_FORMS:
            raise UsageError(f"expected a form of store among {', '.join(STORE_FORMS)}, got {form!r}")
        present, keys = content_keys(dataset, cache)
        raw, encoded = (store_folder(spec.key(), present.records, keys, cache, one) for one in ("raw", "encoded"))
        form = _form(raw, encoded, len(keys), spec) if form == "auto" else form
        folder = raw if form == "raw" else encoded
        index = sound_index(folder, len(keys), fully=verify)
        LOG.info("%s store of %s: %s, %s", form, dataset.where, folder, "decoding" if index is None else "complete")
        if index is None:
            if remove_damaged(folder, len(keys), fully=verify):
                on_event(Message(f"the stored images of {dataset.where} are damaged; storing them again"))
            build = _build if form == "raw" else _build_encoded
            build(folder, present, spec, workers or platforms.usable_cores(), on_event)
            index = read_index(folder, len(keys))
        if index is None:
            raise DataError(f"{folder}: the store was damaged right after it was built; is the disk healthy?")
        mark_used(folder)
        return cls._map(folder, index, present, spec)

    @classmethod
    def _map(cls, folder: Path, index: Index, dataset: Dataset, spec: InputSpec) -> PixelStore:
        broken = [Broken(dataset.records[row].path, reason) for row, reason in index.broken]
        shape = (len(index.digests), index.height, index.width, 3)
        if index.shards:
            *shards, _ = (file.name for file in index.shards)
            pixels: Any = EncodedPixels(folder, shards, len(index.digests), spec)
        else:
            pixels = np.memmap(folder / "pixels.u8", np.uint8, mode="r", shape=shape)
        readable = dataset.without(broken) if broken else dataset
        return cls(readable, spec, pixels, index.digests, np.asarray(index.sizes, np.int64), folder)

    def batch(self, indices: NDArray[np.int64]) -> torch.Tensor:
        """Gather some images, (B, 3, H, W) uint8, channels_last: a view of the only copy. Raises IndexError."""
        import torch  # here, so that `facewright inspect` and `facewright cache` need not wait for it to load

        return torch.from_numpy(self.rows(indices)).permute(0, 3, 1, 2)

    def rows(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Gather some images, (B, H, W, 3) uint8. Raises IndexError."""
        if isinstance(self.pixels, EncodedPixels):
            return self.pixels[indices]
        return np.take(self.pixels.view(np.ndarray), indices, axis=0)

    def statistics(self, indices: NDArray[np.int64]) -> Statistics:
        """Mean and std of all pixels of some images, in one pass over exact whole numbers.

        The standard deviation of all pixels is not the mean of the stds of batches: the latter leaves out how much the
        batches differ from each other. Raises DataError: no rows.
        """
        if len(indices) == 0:
            raise DataError("mean and std of no image: expected at least one row")
        counts = np.zeros((3, 256), np.int64)  # how often each value occurs
        step = max(1, STATISTICS_CHUNK // (self.spec.height * self.spec.width * 3))
        for start in range(0, len(indices), step):
            values = self.pixels[indices[start : start + step]].reshape(-1, 3)  # (pixels, 3)
            for channel in range(3):
                counts[channel] += np.bincount(values[:, channel], minlength=256)
        return _moments(counts)


def _form(raw: Path, encoded: Path, images: int, spec: InputSpec) -> str:
    """Choose the form that is there, else by the size of the pixels."""
    for form, folder in (("raw", raw), ("encoded", encoded)):
        if (folder / "index.json").is_file():
            return form
    there = next(folder for folder in raw.parents if folder.is_dir())
    most = min(RAW_BYTES, shutil.disk_usage(there).free // 2)
    return "raw" if images * spec.height * spec.width * 3 <= most else "encoded"


def _moments(counts: NDArray[np.int64]) -> Statistics:
    """Mean and std from counts of values (3, 256); whole numbers until the last division."""
    levels, n = np.arange(256), int(counts[0].sum())
    red, green, blue = (
        (total / n / 255, math.sqrt((n * squares - total * total) / (n * n)) / 255)
        for total, squares in np.stack([counts @ levels, counts @ levels**2], axis=1).tolist()
    )
    return Statistics((red[0], green[0], blue[0]), (red[1], green[1], blue[1]))


def _build(folder: Path, dataset: Dataset, spec: InputSpec, workers: int, on_event: EventHandler) -> None:
    """Decode everything into a new store; a killed build leaves nothing that could be mistaken for one."""
    with locked(folder), building(folder) as partial:
        if partial is None:  # another process has built it meanwhile
            return
        results = decode_all(dataset.source, dataset.records, spec, workers)
        rows, broken, checksum = _write_pixels(partial / "pixels.u8", results, len(dataset.records), on_event)
        index = index_of(dataset, spec, [row.digest for row in rows], [row.size for row in rows], broken)
        facts = {"checksum": checksum, "stamp": stamp_of(partial / "pixels.u8", "pixels")}
        write_index(partial, index.model_copy(update=facts))


def _write_pixels(
    path: Path, results: Iterable[Decoded], total: int, on_event: EventHandler
) -> tuple[list[Decoded], list[tuple[int, str]], str]:
    """Write the readable images one after the other, flushed to the disk; the checksum is of all their bytes."""
    rows: list[Decoded] = []
    broken: list[tuple[int, str]] = []
    checksum = blake2b(digest_size=16)
    with os.fdopen(os.open(path, platforms.NEW_FILE, 0o600), "wb") as file:
        for number, result in enumerate(results):
            if result.pixels is None:
                broken.append((number, result.reason))
            else:
                content = np.ascontiguousarray(result.pixels).data
                file.write(content)
                checksum.update(content)
                rows.append(replace(result, pixels=None))
            on_event(Progress("decoding", number + 1, total))
        file.flush()
        os.fsync(file.fileno())
    return rows, broken, checksum.hexdigest()


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


def _build_encoded(folder: Path, dataset: Dataset, spec: InputSpec, workers: int, on_event: EventHandler) -> None:
    """Build the encoded store of a dataset in `folder`, together with whoever else does so.

    Raises DataError: no image can be read. FacewrightError: the disk is full or refuses.
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
    for record, one in zip(records, decode(source, records, spec), strict=True):
        if one.pixels is None:
            results.append((ShardRow(reason=one.reason), b""))
            continue
        own = source.content(record.path) if hasattr(source, "content") else None
        fitted = own is None or len(own) > one.pixels.nbytes
        content = _lossless(one.pixels) if own is None or fitted else own
        results.append((ShardRow(fitted=fitted, digest=one.digest, size=one.size), content))
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
