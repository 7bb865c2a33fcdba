"""`facewright embed`: the vector of every image of a data set, in one Parquet file.

    vectors.parquet              id, path, label, digest, vector, model; written in one step once everything is there
    .vectors.parquet.parts/      while the work goes on: plan.json (which model, which images) and a part for every
                                 2,048 images, each whole or absent; the next run with the same plan goes on with it

In memory lie the list of images and one part. Vectors of faces are biometric data: the files are the user's alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from facewright import platforms
from facewright.data.decoding import Decoded, decode_all
from facewright.data.pixel_sources import FileSource
from facewright.data.records import Broken, Dataset, Record, merge_broken
from facewright.data.sources import open_dataset
from facewright.data.trees import list_folder
from facewright.embedding import BATCH
from facewright.errors import BadImage, DataError, FacewrightError, require_extra
from facewright.events import EventHandler, Message, Progress, ignore_event
from facewright.files import replacing, write_atomic, write_json
from facewright.old_keywords import select_face_was_policy
from facewright.recognition import Recognizer, SelectFace
from facewright.workflows.ray_embedding import parts_on
from facewright.workflows.scores import picked_faces

FORMAT = 1
ROWS = 2_048  # images a part; a run that is stopped loses at most so many
PRIVATE = 0o600


@dataclass(frozen=True)
class VectorsWritten:
    """A Parquet file of vectors."""

    path: str
    rows: int
    width: int  # D
    model: str
    fingerprint: str
    resumed: int  # images that an earlier, stopped run had done
    broken: tuple[Broken, ...]

    def to_dict(self) -> dict[str, Any]:
        """As `embed --json` prints it."""
        facts = {name: getattr(self, name) for name in ("path", "rows", "width", "model", "fingerprint", "resumed")}
        broken = [{"path": item.path, "reason": item.reason} for item in self.broken]
        return {"task": "embed"} | facts | {"broken": broken}


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
    """Embed every image of a data set into a Parquet file; what cannot be read is listed and left out.

    Columns: id (int64, the image's number in the list), path, label (null where unknown), digest (of the decoded
    pixels), vector (D float32, unit length), model (the fingerprint); the schema's metadata say the same of the model
    and the input it was fed.

    Args:
        model: a run directory, a bundle file, architecture@weights or "built-in".
        where: what `open_dataset` knows, or a folder of images without labels.
        out: the file; replaced where it exists. A stopped run goes on when it is started again with the same model,
            input and images.
        crop: share of each side to keep, in place of the model's own.
        flip: average with the mirror image, in place of the model's own.
        detector: what finds the faces, as of `Recognizer`; an image without a face is left out.
        select_face: which of several faces is used, as of `Recognizer`.
        device: as for `train`.
        on: "ray" or "ray://HOST:PORT": embed on a cluster, whose workers can read the images; the same bytes.
    Raises:
        UsageError: pyarrow is not installed. DataError: not one image can be read.
        FacewrightError: another process writes this file, or it cannot be written.
    """
    out = Path(out)
    require_extra("data", "embed")
    if on is not None:
        require_extra("ray", "embed --on")
    arrow = _Arrow()
    recognizer = Recognizer.load(model, detector=detector, crop=crop, flip=flip, device=device)
    chosen = recognizer.face_selection(select_face)
    dataset = open_images(where)
    plan = _plan(recognizer, dataset) | ({} if recognizer.takes_photos_whole else {"policy": chosen})
    with _parts_folder(out, plan, on_event) as folder:
        schema = arrow.schema(recognizer, dataset)
        parts = [folder / f"{number:06d}.parquet" for number in range(-(-len(dataset) // ROWS))]
        left = [number for number, part in enumerate(parts) if not part.is_file()]
        resumed = sum(_length(dataset, number) for number, part in enumerate(parts) if part.is_file())
        done = resumed
        make = partial(make_part, rows=ROWS, select_face=chosen)
        if on is None:
            made: Iterator[tuple[int, None]] = (
                (number, make(parts[number], number, dataset, recognizer)) for number in left
            )
        else:
            loading = {"model": model, "detector": detector, "crop": crop, "flip": flip, "device": device}
            made = _fetched(parts, parts_on(on, loading, dataset, make, left))
        for number, _ in made:
            done += _length(dataset, number)
            on_event(Progress("embedding", done, len(dataset)))
        rows, broken = arrow.join(sorted(folder.glob("*.parquet")), out, schema)
        if rows == 0:
            first = f" (the first: {broken[0].path}: {broken[0].reason})" if broken else ""
            raise DataError(f"{where}: not one image can be read{first}")
        platforms.remove_locked(folder)
    everything = merge_broken(dataset.broken, broken)
    return VectorsWritten(str(out), rows, recognizer.width, str(model), recognizer.fingerprint, resumed, everything)


def make_part(
    path: Path, number: int, dataset: Dataset, recognizer: Recognizer, rows: int, select_face: SelectFace
) -> None:
    """Embed the images of one part, `rows` of them, into one file, whole or not at all."""
    arrow, start = _Arrow(), number * rows
    records = tuple(dataset.records[start : start + rows])
    seen = zip(records, _seen(recognizer, dataset, records, select_face), strict=True)
    _write_part(path, start, seen, dataset, recognizer, arrow, arrow.schema(recognizer, dataset))


def _fetched(parts: Sequence[Path], made: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, None]]:
    for number, content in made:
        write_atomic(parts[number], content, mode=PRIVATE)
        yield number, None


def _length(dataset: Dataset, number: int) -> int:
    return min(ROWS, len(dataset) - number * ROWS)


def open_images(where: str | Path, *, labels: bool = True) -> Dataset:
    """Open a dataset; a folder of images without class folders is a dataset without labels.

    Args:
        labels: as of `open_dataset`.
    """
    folder = Path(where)
    if not folder.is_dir():
        return open_dataset(where, labels=labels)
    listing = list_folder(folder.resolve())
    if listing.folders or listing.texts or not listing.files:
        return open_dataset(where, labels=labels)
    records = tuple(Record(path, None) for path in sorted(listing.files))
    root = str(folder.resolve())
    return Dataset(folder.resolve().name, root, (), records, FileSource(root), merge_broken(listing.broken, ()))


def _plan(recognizer: Recognizer, dataset: Dataset) -> dict[str, Any]:
    """Return the facts that must be equal to reuse parts of an earlier run."""
    state = hashlib.blake2b(digest_size=16)
    for record in dataset.records:
        try:
            stamp = dataset.source.stamp(record)
        except BadImage as error:
            stamp = f"broken: {error.reason}"
        state.update(json.dumps([record.path, _label(record, dataset), stamp]).encode())
    return {"format": FORMAT, "model": recognizer.fingerprint, "pictures": len(dataset), "data": state.hexdigest()}


@contextmanager
def _parts_folder(out: Path, plan: Mapping[str, Any], on_event: EventHandler) -> Iterator[Path]:
    """The folder of the parts, held by this process; parts made by another plan are removed."""
    folder = out.with_name(f".{out.name}.parts")
    folder.mkdir(mode=0o700, exist_ok=True)
    lock = FileLock(folder / ".lock", timeout=0, mode=PRIVATE)
    try:
        lock.acquire()
    except Timeout:
        raise FacewrightError(f"{out}: another process is writing it; wait for it or choose another --out") from None
    try:
        left = [path for path in folder.iterdir() if path.name != ".lock"]
        if left and _read_plan(folder) != plan:
            on_event(Message(f"{folder}: of another model or other images; started again"))
            for path in left:
                path.unlink()
            left = []
        if not left:
            write_json(folder / "plan.json", plan)
        yield folder
    finally:
        lock.release()


def _read_plan(folder: Path) -> object:
    try:
        return json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _seen(
    recognizer: Recognizer, dataset: Dataset, records: Sequence[Record], select_face: SelectFace
) -> Iterator[Decoded]:
    """Each image as the network sees it, or why it cannot be seen."""
    if recognizer.takes_photos_whole:
        yield from decode_all(dataset.source, records, recognizer.spec, platforms.usable_cores())
        return
    for _, digest, picked in picked_faces(recognizer, replace(dataset, records=records), select_face):
        chip = None if picked.face is None else picked.face.chip
        yield Decoded(chip, digest, (0, 0), picked.reason or "")


def _write_part(
    path: Path,
    start: int,
    seen: Iterable[tuple[Record, Decoded]],
    dataset: Dataset,
    recognizer: Recognizer,
    arrow: _Arrow,
    schema: Any,
) -> None:
    """Embed some records; `start` is the number of the first."""
    columns: dict[str, list[Any]] = {name: [] for name in ("id", "path", "label", "digest")}
    vectors: list[NDArray[np.float32]] = []
    waiting: list[NDArray[np.uint8]] = []
    broken: list[Broken] = []

    def flush() -> None:
        if waiting:
            vectors.append(recognizer.embed_chips(waiting))
            waiting.clear()

    for number, (record, found) in enumerate(seen, start):
        if found.pixels is None:
            broken.append(Broken(record.path, found.reason))
            continue
        row = (number, record.path, _label(record, dataset), found.digest)
        for column, value in zip(columns.values(), row, strict=True):
            column.append(value)
        waiting.append(found.pixels)
        if len(waiting) == BATCH:
            flush()
    flush()
    stacked = np.concatenate(vectors) if vectors else np.zeros((0, recognizer.width), np.float32)
    arrow.write(path, columns, stacked, recognizer.fingerprint, schema, broken)


def _label(record: Record, dataset: Dataset) -> str | None:
    return None if record.label is None else dataset.classes[record.label]


class _Arrow:
    """The use of pyarrow, which is an extra: it is loaded here and nowhere else."""

    def __init__(self) -> None:
        import pyarrow  # type: ignore[import-untyped]
        import pyarrow.parquet  # type: ignore[import-untyped]

        self.pyarrow, self.parquet = pyarrow, pyarrow.parquet

    def schema(self, recognizer: Recognizer, dataset: Dataset) -> Any:
        pa = self.pyarrow
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

    def write(
        self,
        path: Path,
        columns: Mapping[str, list[Any]],
        vectors: NDArray[np.float32],
        fingerprint: str,
        schema: Any,
        broken: list[Broken],
    ) -> None:
        """One part, whole or not at all; the list of broken images travels in its metadata."""
        pa = self.pyarrow
        flat = pa.array(vectors.reshape(-1), pa.float32())
        arrays = [pa.array(columns[name], schema.field(name).type) for name in ("id", "path", "label", "digest")]
        arrays += [pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])]
        arrays += [pa.array([fingerprint] * len(vectors), pa.string())]
        listed = json.dumps([[item.path, item.reason] for item in broken])
        table = pa.Table.from_arrays(arrays, schema=schema.with_metadata({"broken": listed}))
        with replacing(path, mode=PRIVATE) as file:
            self.parquet.write_table(table, file)

    def join(self, parts: list[Path], out: Path, schema: Any) -> tuple[int, list[Broken]]:
        """The parts as one file, a row group each; how many rows, and the images that were left out."""
        rows, broken = 0, list[Broken]()
        with replacing(out, mode=PRIVATE) as file, self.parquet.ParquetWriter(file, schema) as writer:
            for part in parts:
                table = self.parquet.read_table(part)
                broken += [Broken(*item) for item in json.loads(table.schema.metadata[b"broken"])]
                if table.num_rows:
                    writer.write_table(table.replace_schema_metadata(schema.metadata))
                    rows += table.num_rows
        return rows, broken
