"""`facewright embed`: the vector of every image of a data set, in one Parquet file, made in parts (part_tables.py).

Columns: id, path, label, digest, vector, model. Vectors of faces are biometric data: the files are the user's alone.
An .npz holds the same columns as arrays and needs no pyarrow, but is made in memory and in one go.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from facewright import platforms, records
from facewright.data.decoding import Decoded, decode_all
from facewright.data.records import Broken, Dataset, Record, merge_broken
from facewright.data.remote_files import writable
from facewright.data.sources import open_images
from facewright.embedding import BATCH
from facewright.errors import DataError, UsageError, require_extra
from facewright.events import EventHandler, Progress, ignore_event
from facewright.files import replacing
from facewright.public_names import select_face_was_policy
from facewright.recognition import Recognizer, SelectFace
from facewright.workflows.part_tables import PRIVATE, TableJob, check_cluster, label_of, write_table
from facewright.workflows.scores import picked_faces

ROWS = 2_048  # images a part; a run that is stopped loses at most so many


class VectorsWritten(records.Record):
    """A file of vectors."""

    task: Literal["embed"] = "embed"
    path: str
    rows: int
    width: int  # D
    model: str
    fingerprint: str
    resumed: int  # images that an earlier, stopped run had done
    broken: tuple[Broken, ...]


@select_face_was_policy
def embed(
    model: str | Path,
    where: str | Path,
    out: str | Path,
    *,
    crop: float | None = None,
    flip: bool | None = None,
    detector: str | None = None,
    select_face: SelectFace | None = None,
    device: str | None = None,
    on: str | None = None,
    on_event: EventHandler = ignore_event,
) -> VectorsWritten:
    """Embed every image of a data set into a Parquet or .npz file; what cannot be read is listed and left out.

    Columns: id (int64, the image's number in the list), path, label (null where unknown), digest (of the decoded
    pixels), vector (D float32, unit length), model (the fingerprint); the schema's metadata say the same of the model
    and the input it was fed.

    Args:
        model: a run directory, a bundle file, architecture@weights or "built-in".
        where: what `open_dataset` knows, or a folder of images without labels.
        out: the file, here or in a bucket (s3://…); replaced where it exists. A stopped run goes on when it is started
            again with the same model, input and images. One that ends in .npz holds the columns as arrays (an unknown
            label is ""); it is made in memory, and from the beginning.
        crop: share of each side to keep, in place of the model's own.
        flip: average with the mirror image, in place of the model's own.
        detector: what finds the faces, as of `Recognizer`; an image without a face is left out.
        select_face: which of several faces is used, as of `Recognizer`.
        on: "ray" or "ray://HOST:PORT": embed on a cluster, whose workers can read the images; the same bytes.
    Raises:
        UsageError: pyarrow is not installed, or a cluster is to make an .npz. DataError: not one image can be read.
        FacewrightError: another process writes this file, or it cannot be written.
    """
    as_arrays = str(out).endswith(".npz")
    if not as_arrays and not str(out).endswith(".parquet"):
        raise UsageError(f"expected an --out that ends in .parquet or .npz, got {out}")
    if as_arrays and on is not None:
        raise UsageError(f"expected an --out that ends in .parquet with --on {on}, got {out}")
    if not as_arrays:
        require_extra("data", "embed to Parquet (an --out that ends in .npz does not)")
    check_cluster(on)
    recognizer = Recognizer.load(model, detector=detector, crop=crop, flip=flip, device=device)
    chosen = recognizer.face_selection(select_face)
    dataset = open_images(where)
    plan = {"model": recognizer.fingerprint} | ({} if recognizer.takes_photos_whole else {"policy": chosen})
    loading = partial(Recognizer.load, model, detector=detector, crop=crop, flip=flip, device=device)
    make = partial(rows_of, select_face=chosen)
    with writable(out) as file:
        if as_arrays:
            rows, broken, resumed = *_write_arrays(file, recognizer, dataset, chosen, on_event), 0
        else:
            job = TableJob(file, dataset, plan, _schema_of(recognizer, dataset), make, "embedding", ROWS)
            rows, broken, resumed = write_table(job, recognizer, loading, on, on_event)
        if rows == 0:
            first = f" (the first: {broken[0].path}: {broken[0].reason})" if broken else ""
            raise DataError(f"{where}: not one image can be read{first}")
    everything = merge_broken(dataset.broken, broken)
    return VectorsWritten(
        path=str(out), rows=rows, width=recognizer.width, model=str(model), fingerprint=recognizer.fingerprint,
        resumed=resumed, broken=everything,
    )  # fmt: skip


def rows_of(
    recognizer: Recognizer, dataset: Dataset, start: int, stop: int, *, select_face: SelectFace
) -> tuple[Any, list[Broken]]:
    """Embed the records from `start` to `stop`; return their table, and what was left out."""
    columns, vectors, broken = _embedded(recognizer, dataset, start, stop, select_face)
    return _table(columns, vectors, recognizer.fingerprint, _schema_of(recognizer, dataset)), broken


def _write_arrays(
    file: Path, recognizer: Recognizer, dataset: Dataset, select_face: SelectFace, on_event: EventHandler
) -> tuple[int, list[Broken]]:
    """Embed all records into an .npz, where there is any vector; return their number, and what was left out."""
    columns: dict[str, list[Any]] = defaultdict(list)
    vectors, broken = [], list[Broken]()
    for start in range(0, len(dataset), ROWS):
        stop = min(start + ROWS, len(dataset))
        on_event(Progress("embedding", start, len(dataset)))
        more, part, left_out = _embedded(recognizer, dataset, start, stop, select_face)
        for name, values in more.items():
            columns[name] += values
        vectors.append(part)
        broken += left_out
    rows = sum(map(len, vectors))
    if rows:
        columns["label"] = [label or "" for label in columns["label"]]
        columns["model"] = [recognizer.fingerprint] * rows
        with replacing(file, mode=PRIVATE) as opened:
            arrays: dict[str, Any] = {name: np.array(values) for name, values in columns.items()}
            np.savez(opened, vector=np.concatenate(vectors), **arrays)
    return rows, broken


def _embedded(
    recognizer: Recognizer, dataset: Dataset, start: int, stop: int, select_face: SelectFace
) -> tuple[dict[str, list[Any]], NDArray[np.float32], list[Broken]]:
    """Embed the records from `start` to `stop`: their columns, their vectors (N, D), and what was left out."""
    records = tuple(dataset.records[start:stop])
    columns: dict[str, list[Any]] = {name: [] for name in ("id", "path", "label", "digest")}
    vectors: list[NDArray[np.float32]] = []
    waiting: list[NDArray[np.uint8]] = []
    broken: list[Broken] = []

    def flush() -> None:
        if waiting:
            vectors.append(recognizer.embed_crops(waiting))
            waiting.clear()

    seen = _seen(recognizer, dataset, records, select_face)
    for number, (record, found) in enumerate(zip(records, seen, strict=True), start):
        if found.pixels is None:
            broken.append(Broken(record.path, found.reason))
            continue
        row = (number, record.path, label_of(record, dataset), found.digest)
        for column, value in zip(columns.values(), row, strict=True):
            column.append(value)
        waiting.append(found.pixels)
        if len(waiting) == BATCH:
            flush()
    flush()
    stacked = np.concatenate(vectors) if vectors else np.zeros((0, recognizer.width), np.float32)
    return columns, stacked, broken


def _seen(
    recognizer: Recognizer, dataset: Dataset, records: Sequence[Record], select_face: SelectFace
) -> Iterator[Decoded]:
    if recognizer.takes_photos_whole:
        yield from decode_all(dataset.source, records, recognizer.spec, platforms.usable_cores())
        return
    for _, digest, picked in picked_faces(recognizer, replace(dataset, records=records), select_face):
        chip = None if picked.face is None else picked.face.chip
        yield Decoded(chip, digest, (0, 0), picked.reason or "")


def _schema_of(recognizer: Recognizer, dataset: Dataset) -> Any:
    """Return the columns of the file, and its metadata: the model and the input it was fed."""
    import pyarrow as pa  # type: ignore[import-untyped]

    facts = {
        "facewright.fingerprint": recognizer.fingerprint,
        "facewright.model": recognizer.name,
        "facewright.input": json.dumps(recognizer.spec.to_dict()),
        "facewright.data": dataset.name,
    }
    columns = [
        pa.field("id", pa.int64(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("digest", pa.string(), nullable=False),
        pa.field("vector", pa.list_(pa.float32(), recognizer.width), nullable=False),
        pa.field("model", pa.string(), nullable=False),
    ]
    return pa.schema(columns, metadata=facts)


def _table(columns: Mapping[str, list[Any]], vectors: NDArray[np.float32], fingerprint: str, schema: Any) -> Any:
    import pyarrow as pa

    arrays = [pa.array(columns[name], schema.field(name).type) for name in ("id", "path", "label", "digest")]
    arrays += [pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1), pa.float32()), vectors.shape[1])]
    arrays += [pa.array([fingerprint] * len(vectors), pa.string())]
    return pa.Table.from_arrays(arrays, schema=schema)
