"""The user's cache folder: what lies in it, and how a store gets in whole or not at all.

    <cache>/pixels/<name>/pixels.u8    N × H × W × 3 bytes, nothing else
    <cache>/pixels/<name>/index.json   what the rows are; written last, so a folder with one is complete
    <cache>/pixels/<name>/shard-*.bin  in place of pixels.u8: encoded images (store.py)
    <cache>/pixels/<name>.shards/      such a store under way; what is done of it is used by the next build
    <cache>/pixels/<name>.partial/     a build under way, or what a killed one left (swept by the next build)
    <cache>/pixels/<name>.lock         held by the process that builds; the system drops it when that process dies
    <cache>/unpacked/<name>.bin        what is packed in a .tar.gz
    <cache>/fetched/<name>/            copies of files in buckets and on web servers
    <cache>/features/*.npy             of frozen backbones (training/loading.py)
    <cache>/generated/*.npy            images of a diffusion model (training/added_images.py)
    <cache>/stamps/<dataset>.json      path → (stamp, content key): spares reading unchanged files again

Everything is created for the user alone (0700, 0600): these are images of people.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from hashlib import blake2b, file_digest
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from facewright.data.image_records import reason_of, stamp_of
from facewright.data.records import Broken, Dataset, Record
from facewright.errors import BadImage, DataError, FacewrightError
from facewright.files import cache_folder as cache_folder  # its users look for it here
from facewright.files import read_json, sync_folder, write_atomic
from facewright.input_spec import InputSpec
from facewright.records import Record as Facts

FORMAT = 2  # raised when the bytes of a store, or how they are made, change
_INDEX_BYTES = 2**30  # a million images take 90 MB
_UNFINISHED = (".partial", ".shards")


@dataclass(frozen=True)
class CacheEntry:
    """One store, for `facewright cache`. Times in seconds since 1970."""

    name: str
    dataset: str
    where: str
    images: int
    height: int
    width: int
    bytes: int  # on disk
    created: float
    last_used: float


def cache_entries(cache: Path | None = None) -> tuple[CacheEntry, ...]:
    """Return the complete stores in a folder (None: `cache_folder()`), the most recently used first."""
    entries = []
    for folder in _pixel_folder(cache).glob("*/"):
        one = None if folder.suffix in _UNFINISHED else read_index(folder)
        if one is not None:
            used = (folder / "index.json").stat()
            size = one.pixel_bytes + used.st_size
            shape = (len(one.digests), one.height, one.width)
            entries.append(CacheEntry(folder.name, one.dataset, one.where, *shape, size, one.created, used.st_mtime))
    return tuple(sorted(entries, key=lambda entry: -entry.last_used))


def cache_clear(name: str | None = None, cache: Path | None = None) -> int:
    """Remove one store, or all that is in the cache; what another process is building stays.

    Args:
        name: as `CacheEntry.name`; None for everything.
        cache: the folder; `cache_folder()` where None.
    Returns:
        Bytes freed.
    Raises:
        FacewrightError: there is no such store, or it cannot be removed.
    """
    root = _pixel_folder(cache)
    complete = [folder for folder in root.glob("*/") if folder.suffix not in _UNFINISHED]
    chosen = [folder for folder in complete if name in (None, folder.name)]
    if name is not None and not chosen:
        known = ", ".join(folder.name for folder in complete) or "none"
        raise FacewrightError(f"no pixels named {name!r} in {root}; there are: {known}")
    try:
        freed = sum(_remove(folder) for folder in chosen)
        if name is None:
            freed += sum(_sweep(root, kind) for kind in _UNFINISHED)
            names = ("stamps", "unpacked", "fetched", "features", "generated")
            freed += sum(_remove(root.parent / name) for name in names)
        return freed
    except OSError as error:
        raise FacewrightError(f"{error.filename}: cannot be removed ({error.strerror})") from error


def cache_verify(name: str | None = None, cache: Path | None = None) -> dict[str, bool]:
    """Read every byte of one store, or of all, and compare its checksum; a damaged store is removed.

    Args:
        name: as `CacheEntry.name`; None for all.
        cache: the folder; `cache_folder()` where None.
    Returns:
        Name → whether it was sound. What was removed is decoded again when it is needed.
    """
    found = {}
    for entry in cache_entries(cache):
        if name in (None, entry.name):
            folder = _pixel_folder(cache) / entry.name
            found[entry.name] = sound_index(folder, fully=True) is not None
            if not found[entry.name]:
                _remove(folder)
    return found


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
    """Return the index of a store; None where there is none or it is not whole (cut file, other format).

    Nor where it does not account for so many records, readable or broken.
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


def content_keys(dataset: Dataset, cache: Path | None) -> tuple[Dataset, list[str]]:
    """Return the dataset of the readable records and the content key of each; only files of a new stamp are read.

    The others are named in the dataset's `broken`. Raises EmptyClass: nothing of a class is left.
    """
    file = _stamp_file(dataset.where, cache)
    known = _read_stamps(file)
    found: dict[str, tuple[str, str]] = {}
    broken, keys = [], []
    for record in dataset.records:
        try:
            stamp = dataset.source.stamp(record)
            before = known.get(record.path)
            key = before[1] if before is not None and before[0] == stamp else dataset.source.content_key(record)
        except (BadImage, OSError) as error:
            broken.append(Broken(record.path, reason_of(error)))
            continue
        found[record.path] = (stamp, key)
        keys.append(key)
    if found != known:
        with suppress(FacewrightError):  # stamps only save time; whether there is room for pixels shows when they come
            make_private(file.parent)
            write_atomic(file, json.dumps(found), mode=0o600)
    return (dataset.without(broken) if broken else dataset), keys


def store_folder(
    spec_key: str, records: Sequence[Record], keys: Sequence[str], cache: Path | None, form: str = "raw"
) -> Path:
    """Return the folder where the pixels of these contents at this size belong, raw or encoded.

    The name covers relative paths, contents, the InputSpec's key and the format, and not the root: a copy of the folder
    elsewhere shares the store, and a changed file never finds its old pixels.
    """
    kind = "" if form == "raw" else f"{form}\n"
    name = blake2b(f"{FORMAT}\n{kind}{spec_key}\n".encode(), digest_size=12)
    for record, key in zip(records, keys, strict=True):
        name.update(f"{record.path}\0{key}\n".encode(errors="surrogateescape"))
    return _pixel_folder(cache) / name.hexdigest()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let one process at a time build this store; the others wait. Raises FacewrightError: no cache can be written."""
    make_private(folder.parent)
    try:
        held = FileLock(folder.with_suffix(".lock"), mode=0o600).acquire()
    except OSError as error:
        raise _unusable(folder.parent, error) from error
    with held:
        yield


def remove_damaged(folder: Path, records: int, *, fully: bool) -> bool:
    """Remove a store unless it is sound (another process may have built it again); returns whether there was one."""
    with locked(folder):
        return sound_index(folder, records, fully=fully) is None and _remove(folder) > 0


@contextmanager
def building(folder: Path) -> Iterator[Path | None]:
    """Make a new folder that takes the name of `folder` when the block ends well, and vanishes when it does not.

    None: `folder` is there. Raises FacewrightError: the disk is full or refuses; nothing is left behind.
    """
    if folder.is_dir():
        yield None
        return
    partial = folder.with_suffix(".partial")
    _sweep(folder.parent, ".partial")
    try:
        _remove(partial)
        partial.mkdir(mode=0o700)
        yield partial
        partial.rename(folder)
        sync_folder(folder.parent)
    except OSError as error:
        _remove(partial)
        raise FacewrightError(
            f"{folder.parent}: the decoded pixels cannot be stored ({error.strerror or error}); "
            "free some space, clear old ones with `facewright cache clear`, or set FACEWRIGHT_CACHE to a larger disk"
        ) from error
    except BaseException:
        _remove(partial)
        raise


def make_private(folder: Path) -> None:
    """Create a folder, and those above it that are missing, for the user alone. Raises FacewrightError."""
    try:
        for missing in reversed([folder, *folder.parents]):
            if not missing.is_dir():
                missing.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise _unusable(folder, error) from error


def _pixel_folder(cache: Path | None) -> Path:
    return (cache_folder() if cache is None else cache) / "pixels"


def _stamp_file(where: str, cache: Path | None) -> Path:
    # A relative `where` may mean two places; then the stamps (with their inodes) differ, and the files are read again.
    name = blake2b(where.encode(errors="surrogateescape"), digest_size=12).hexdigest()
    return (cache_folder() if cache is None else cache) / "stamps" / f"{name}.json"


def _read_stamps(file: Path) -> dict[str, tuple[str, str]]:
    try:
        return {path: (stamp, key) for path, (stamp, key) in json.loads(file.read_bytes()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}  # absent or damaged: every file is read again


def _unusable(folder: Path, error: OSError) -> FacewrightError:
    reason = error.strerror or str(error)
    return FacewrightError(f"{folder}: no place for decoded pixels ({reason}); set FACEWRIGHT_CACHE to your own folder")


def _sweep(root: Path, kind: str) -> int:
    """Remove the folders of a kind that killed builds left, and no process is at work on; returns their bytes."""
    freed = 0
    for folder in root.glob(f"*{kind}/"):
        with suppress(Timeout), ExitStack() as locks:
            for lock in (folder.with_suffix(".lock"), *folder.glob("*.lock")):
                locks.enter_context(FileLock(lock, mode=0o600, timeout=0))
            freed += _remove(folder)
    return freed


def _remove(folder: Path) -> int:
    """Remove a folder that may be absent; returns its bytes."""
    if not folder.is_dir():
        return 0
    size = sum(file.stat().st_size for file in folder.rglob("*"))
    shutil.rmtree(folder)
    return size
