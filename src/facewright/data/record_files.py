"""Images in .rec files, as MXNet's im2rec and InsightFace write them: `train.rec`, mostly with a `train.idx`.

    record   0xced7230a · length in the low 29 bits, which piece of a record it is in the upper 3 · bytes · padding to 4
    header   flag (uint32) · label (float32) · id, id2 (uint64) · `flag` further labels (float32) · the image

InsightFace's record 0 has flag 2 and no image: its labels are the first key after the images and the last of the
identity records, each of which has the range of its images. Keys are those of the .idx where it is there, else the ids
of the headers; each becomes the path of an image. A .lst (`key<tab>labels…<tab>file`) names the files: they become the
column `file`, and where each label is one folder of theirs, it names the class.
Sources: dmlc-core `recordio.h`; MXNet `python/mxnet/recordio.py`; InsightFace `recognition/arcface_torch/dataset.py`.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np

from facewright.data.archives import ArchiveLimits
from facewright.data.image_records import FileSource, reason_of
from facewright.data.label_files import ROLES, part_of
from facewright.data.layout_reading import Options, described, noted
from facewright.data.packed import LIMITS, PackedSource
from facewright.data.records import Broken, Dataset
from facewright.data.trees import Tree, folder_of
from facewright.errors import BadArchive, BadImage, DataError
from facewright.files import parse_json, read_text

_MAGIC = struct.pack("<I", 0xCED7230A)
_HEADER = struct.Struct("<IfQQ")
_MOST_LABELS = 64
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)
_MOST_LABEL_BYTES = 2**16  # bytes of a .cls or .json
_SAMPLE = (".cls", ".json")


@dataclass(frozen=True)
class _Record:
    """One record: where it begins, its header, and start and length of the image's pieces."""

    place: int
    key: int
    labels: tuple[float, ...]
    pieces: tuple[int, ...]
    size: int  # bytes of the image


def read_rec(tree: Tree, options: Options) -> Dataset:
    """Read .rec files: one, or several in a folder, each of which may be a part of the split (train.rec, val.rec).

    Raises BadArchive: no .rec, cut short, damaged, or over the limits. DataError: an .idx that does not fit.
    """
    assert isinstance(tree.source, FileSource)
    names = [name for name in tree.packed if name.lower().endswith(".rec")]
    files = [Path(tree.source.root, name) for name in names]
    runs: dict[str, tuple[int, ...]] = {}
    rows: list[tuple[str, dict[str, str]]] = []
    notes = []
    files_of = [_listed(file) for file in files]
    folders = _folders(files_of)
    for number, (name, file) in enumerate(zip(names, files, strict=True)):
        records, note = _images(file, _keys(file))
        notes += note
        width = max(7, len(str(max((record.key for record in records), default=0))))
        split = part_of(name) if len(names) > 1 else ""
        for record in records:
            path = f"{name[:-4]}/{record.key:0{width}d}" if len(names) > 1 else f"{record.key:0{width}d}"
            runs[path] = (number, *record.pieces)
            rows.append((path, _facts(record, split, files_of[number].get(record.key), folders)))
    packed = Tree(tree.where, tree.name, PackedSource([str(file) for file in files], runs, _MAGIC), sorted(runs))
    most = max((sum(key.startswith("label") for key in facts) for _, facts in rows), default=1)
    columns = ["label", *(f"label_{number}" for number in range(2, most + 1)), *(["file"] if any(files_of) else [])]
    return noted(described(packed, options, rows, columns, "label"), "; ".join(notes))


_Listed = dict[int, tuple[tuple[float, ...], str]]  # key → labels and file


def _facts(
    record: _Record, split: str, listed: tuple[tuple[float, ...], str] | None, folders: dict[float, str]
) -> dict[str, str]:
    facts = {"label" if n == 1 else f"label_{n}": _text(value) for n, value in enumerate(record.labels, 1)}
    if len(record.labels) == 1 and record.labels[0] in folders:
        facts["label"] = folders[record.labels[0]]
    return facts | ({"split": split} if split else {}) | ({"file": listed[1]} if listed else {})


def _listed(file: Path) -> _Listed:
    """Read the .lst beside the .rec; empty where there is none. Raises DataError."""
    path = file.with_suffix(".lst")
    if not path.is_file():
        return {}
    found: _Listed = {}
    for number, line in enumerate(read_text(path, error=DataError, limit=2**31).splitlines(), 1):
        key, *labels, name = line.split("\t") if line.count("\t") >= 2 else ("", "")
        try:
            values = tuple(map(float, labels))
        except ValueError:
            values = ()
        if not (key.isascii() and key.isdigit() and len(key) < 20 and values and name):
            raise DataError(f"{path}: line {number}: expected KEY<tab>LABEL<tab>FILE, got {line[:60]!r}")
        if found.setdefault(int(key), (values, name)) != (values, name):
            raise DataError(f"{path}: line {number}: key {key} is listed twice")
    return found


def _folders(listed: Sequence[_Listed]) -> dict[float, str]:
    """Label → the last folder of its files, where each label has one folder and each folder one label."""
    pairs = {(labels[0], PurePosixPath(name).parent.name) for one in listed for labels, name in one.values()}
    folders = dict(pairs)
    fits = len(folders) == len(pairs) == len(set(folders.values())) and all(folders.values())
    return folders if fits else {}


def _text(value: float) -> str:
    return str(int(value)) if value.is_integer() else f"{value:.6g}"


def _keys(file: Path) -> dict[int, int]:
    """Place → key of an .idx; empty where there is none. Raises DataError."""
    index = file.with_suffix(".idx")
    keys: dict[int, int] = {}
    try:
        if not index.exists():
            return {}
        with index.open("rb") as lines:
            for number, line in enumerate(iter(lambda: lines.readline(256), b""), 1):
                key, _, place = line.partition(b"\t")
                if not (key.isdigit() and place.strip().isdigit() and len(line) < 48) or number > LIMITS.entries:
                    raise DataError(f"{index}: line {number}: expected KEY<tab>PLACE, got {line[:40]!r}")
                keys[int(place)] = int(key)
    except OSError as error:
        raise DataError(f"{index}: cannot be read ({reason_of(error)})") from error
    if len(set(keys.values())) < len(keys):
        raise DataError(f"{index}: a key is listed twice; write the index again with im2rec")
    return keys


def _images(file: Path, keys: dict[int, int]) -> tuple[list[_Record], list[str]]:
    try:
        with file.open("rb") as opened:
            records = list(_scan(opened, file, keys))
    except OSError as error:
        raise BadArchive(f"{file}: cannot be read ({reason_of(error)})") from error
    lost = set(keys) - {record.place for record in records}
    if lost:
        raise DataError(f"{file.with_suffix('.idx')}: byte {min(lost):,} of {file.name} begins no record")
    if not records:
        raise BadArchive(f"{file}: has no record")
    if len({record.key for record in records}) < len(records):  # ids that were never set
        records = [replace(record, key=number) for number, record in enumerate(records)]
    head = next((record for record in records if record.key == 0), records[0])
    if head.size or len(head.labels) != 2:
        return records, []
    return _of_insightface(file, head, records)


def _of_insightface(file: Path, head: _Record, records: list[_Record]) -> tuple[list[_Record], list[str]]:
    """The images of InsightFace's form, after the ranges of its identities were found to fit."""
    first, end = head.labels
    image_records = [record for record in records if record.size and 0 < record.key < first]
    identities = [record for record in records if first <= record.key < end]
    for record in identities:
        if len(record.labels) != 2 or not 1 <= record.labels[0] <= record.labels[1] <= first:
            raise BadArchive(f"{file}: record {record.key}: expected a range of images, got {record.labels}")
    note = f"InsightFace's form: {len(image_records):,} images, {len(identities):,} identity records"
    beside = file.with_name("property")  # the number of classes, height, width
    if beside.is_file():
        note += f"; property says {read_text(beside, error=DataError, limit=1024).strip()[:60]}"
    # Of several labels the first is the class.
    return [replace(record, labels=record.labels[:1]) for record in image_records], [note]


def _scan(opened: IO[bytes], file: Path, keys: dict[int, int], limits: ArchiveLimits = LIMITS) -> Iterator[_Record]:
    """Every record in the order of the file; of each only the headers are read."""
    end = opened.seek(0, os.SEEK_END)
    place = count = 0
    while place < end:
        count += 1
        if count > limits.entries:
            raise BadArchive(f"{file}: has more than {limits.entries:,} records, which is the limit")
        pieces, after = _pieces(opened, file, place, end)
        yield _record(opened, file, place, pieces, keys)
        place = after


def _pieces(opened: IO[bytes], file: Path, place: int, end: int) -> tuple[list[int], int]:
    """Start and length of each piece of a record, and where the next record begins."""
    found: list[int] = []
    while True:
        opened.seek(place)
        head = opened.read(8)
        if head[:4] != _MAGIC:
            raise BadArchive(f"{file}: expected a record at byte {place:,}; the file is no .rec, or damaged there")
        word = int.from_bytes(head[4:], "little")
        which, length = word >> 29, word & (2**29 - 1)
        if len(head) < 8 or place + 8 + length > end:
            raise BadArchive(f"{file}: the record at byte {place:,} declares {length:,} bytes; the file is cut short")
        if which > _LAST or (which in (_WHOLE, _FIRST)) == bool(found):
            raise BadArchive(f"{file}: the record at byte {place:,} is a piece without the others; the file is damaged")
        found += [place + 8, length]
        place += 8 + (length + 3) // 4 * 4
        if which in (_WHOLE, _LAST):
            return found, place


def _record(opened: IO[bytes], file: Path, place: int, pieces: list[int], keys: dict[int, int]) -> _Record:
    start, length = pieces[:2]
    where = f"{file}: the record at byte {place:,}"
    opened.seek(start)
    head = opened.read(min(length, _HEADER.size + 4 * _MOST_LABELS))
    if len(head) < _HEADER.size:
        raise BadArchive(f"{where} has {length} bytes; expected a header of {_HEADER.size}")
    flag, label, key, _ = _HEADER.unpack_from(head)
    if flag > _MOST_LABELS or len(head) < _HEADER.size + 4 * flag:
        raise BadArchive(f"{where} declares {flag:,} labels; expected up to {_MOST_LABELS} within {length:,} bytes")
    labels = tuple(np.frombuffer(head, "<f4", flag, _HEADER.size).tolist()) if flag else (label,)
    if not all(map(math.isfinite, labels)):
        raise BadArchive(f"{where} has a label that is no number")
    skip = _HEADER.size + 4 * flag
    runs = (start + skip, length - skip, *pieces[2:])
    if keys and place not in keys:
        raise DataError(f"{file.with_suffix('.idx')}: lacks the record at byte {place:,}; remove the .idx to read all")
    return _Record(place, keys.get(place, key), labels, runs, sum(runs[1::2]))


def is_webdataset(tree: Tree) -> str | None:
    """Tell why a tree is a set of WebDataset shards, or None."""
    found = _samples(tree)
    if not found:
        return None
    lacking = sum(_key(path) not in found for path in tree.files)
    return f"{len(tree.files) - lacking:,} of {len(tree.files):,} images have a .cls or .json of their name"


def read_webdataset(tree: Tree, options: Options) -> Dataset:
    """Read WebDataset shards: the class is the `.cls`, else what the `.json` calls label, class, identity …"""
    found = _samples(tree)
    images: list[tuple[str, dict[str, str]]] = []
    lost: list[Broken] = []
    known = {"cls": 0}
    for path in tree.files:
        facts: dict[str, str] = {}
        for name in found.get(_key(path), ()):
            try:
                facts |= _sample_facts(tree, name)
            except (DataError, UnicodeDecodeError) as error:
                lost.append(Broken(path, f"the label {name} cannot be read ({error})"))
        known |= dict.fromkeys(facts, 0)
        split = facts.pop("split", "") or part_of(folder_of(path).replace("/", "-"))
        images.append((path, facts | ({"split": split} if split else {})))
    usual = next((name for name in ("cls", *ROLES["label"], *ROLES["identity"]) if _fills(name, images)), "cls")
    columns = [name for name in known if name != "split" and (name != "cls" or _fills("cls", images))]
    if usual not in columns:
        raise DataError(
            f"{tree.where}: expected a .cls beside each image, or a .json with {', '.join(ROLES['label'][:3])} …; "
            f"found {', '.join(columns) or 'nothing'}; choose one with --columns label=NAME"
        )
    return described(tree, options, images, columns, usual).without(lost)


def _samples(tree: Tree) -> dict[str, list[str]]:
    """Sample → its .cls and .json; none where the tree is no tar."""
    found: dict[str, list[str]] = {}
    if isinstance(tree.source, PackedSource) and tree.files:
        for name in tree.source.names:
            if name.endswith(_SAMPLE):
                found.setdefault(_key(name), []).append(name)
    return found


def _key(path: str) -> str:
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}{name.partition('.')[0]}"


def _fills(name: str, images: Sequence[tuple[str, Mapping[str, str]]]) -> bool:
    return any(facts.get(name) for _, facts in images)


def _sample_facts(tree: Tree, name: str) -> dict[str, str]:
    """Name → value as text of a sample's .cls or .json; what is no plain value is left out."""
    try:
        content = tree.source.content(name)
    except BadImage as error:
        raise DataError(error.reason) from None
    if len(content) > _MOST_LABEL_BYTES:
        raise DataError(f"has {len(content):,} bytes; the limit is {_MOST_LABEL_BYTES:,}")
    if name.endswith(".cls"):
        return {"cls": content.decode().strip()}
    values: dict[str, Any] = parse_json(content, dict[str, Any], name, error=DataError)
    return {key: str(value).strip() for key, value in values.items() if isinstance(value, (str, int, float))}
