"""`facewright faces DATA --out FILE.parquet`, and `--on ray`: the faces of any number of photos in one Parquet table.

A row a face, its aligned crop in it as a PNG; a photo without a face, or that cannot be read, has a row without one.
The table is made in parts (part_tables.py), and is itself a data set that `train` and `embed` open.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import numpy as np

from facewright.data.image_records import reason_of
from facewright.data.records import Broken, Dataset
from facewright.data.remote_files import is_remote, writable
from facewright.data.sources import open_dataset, open_tree, unlabelled
from facewright.errors import BadImage, DataError, UsageError, require_extra
from facewright.events import EventHandler, Message, ignore_event
from facewright.faces.detectors import detector_of
from facewright.faces.selection import Face
from facewright.files import write_atomic
from facewright.images import png_of
from facewright.recognition import Recognizer, SelectFace
from facewright.records import Record
from facewright.workflows.face_detection import FaceSearch, FoundFaces, PhotoFaces, photo_stems, write_lists
from facewright.workflows.part_tables import TableJob, check_cluster, label_of, write_table

PHOTOS = 256  # a part
_NO_PIXELS = np.zeros((0, 0, 3), np.uint8)


class FacesWritten(Record):
    """A Parquet file of faces."""

    task: Literal["faces"] = "faces"
    path: str
    photos: int
    faces: int
    failures: int  # photos with an error
    detector: str
    template: str  # of the crops
    resumed: int  # photos that an earlier, stopped run had done
    broken: tuple[Broken, ...]  # files that were left out when the photos were listed


def write_faces(
    where: str | Path,
    out: str | Path,
    *,
    smallest: float | None = None,
    template: str = "dlib",
    detector: str = "dlib",
    select_face: SelectFace | None = None,
    size: int | None = None,
    margin: float = 0.0,
    device: str | None = None,
    on: str | None = None,
    on_event: EventHandler = ignore_event,
) -> FacesWritten:
    """Find the faces of a data set's photos; write them, cut out upright, to a Parquet file.

    Columns: path, label (null where unknown), width and height of the photo (px, upright), searched (px, as of
    `PhotoFaces`), face (from 1, left to right; null: none), x, y, w, h (px), score, points (x1, y1 … y5), crop (PNG),
    error. A stopped run goes on when it is started again with the same arguments and photos. What is not described here
    is as of `detect_faces`.

    Args:
        where: what `open_dataset` knows, or any folder or archive of photos.
        out: the file, here or in a bucket, which ends in .parquet; or a folder, which gets faces.parquet, and crops,
            faces.json and faces.csv as `detect_faces` writes them.
        on: "ray" or "ray://HOST:PORT": on a cluster, whose workers can read the photos; the same bytes.
    Raises:
        UsageError: pyarrow is not installed, or what `detect_faces` refuses. DataError: no photo.
        FacewrightError: another process writes this file, it cannot be written, or no such cluster.
    """
    require_extra("data", "a table of faces")
    check_cluster(on)
    search = FaceSearch.of(template, size, margin, smallest, select_face)
    loading = partial(Recognizer, detector=detector, device=device)
    recognizer = loading()
    dataset = _photos(where, on_event)
    if not len(dataset):
        raise DataError(f"{where}: found no photo")
    folder = None if str(out).endswith(".parquet") else Path(out)
    if folder is not None:
        if is_remote(out):
            raise UsageError(f"{out}: crops are written to folders of this machine; name a .parquet there")
        folder.mkdir(parents=True, exist_ok=True)
    plan = {"task": "faces", "search": repr(search), "detector": detector_of(detector).digest}
    with writable(out if folder is None else folder / "faces.parquet") as file:
        job = TableJob(file, dataset, plan, _schema(), partial(rows_of, search=search), "finding faces", PHOTOS)
        _, broken, resumed = write_table(job, recognizer, loading, on, on_event)
        faces = failures = 0
        listed = []
        for photo in _photos_in(file) if folder is None else _cut_out(file, folder, str(where), search):
            faces, failures = faces + len(photo.faces), failures + (photo.error is not None)
            if folder is not None:
                listed.append(photo)
    name = recognizer.detector_name
    if folder is not None:
        write_lists(folder, FoundFaces(tuple(listed), name, template))
    return FacesWritten(
        path=str(out), photos=len(dataset), faces=faces, failures=failures, detector=name, template=template,
        resumed=resumed, broken=(*dataset.broken, *broken),
    )  # fmt: skip


def _cut_out(file: Path, folder: Path, where: str, search: FaceSearch) -> Iterator[PhotoFaces]:
    """Write the crops of a table's photos to a folder; yield each photo with the names of its crops."""
    names = photo_stems([(Path(photo.path), Path()) for photo in _photos_in(file)])
    for name, photo in zip(names, _photos_in(file, "crop"), strict=True):
        crops = search.crop_names(folder / name, len(photo.faces))
        for face, crop in zip(photo.faces, crops, strict=True):
            Path(crop).parent.mkdir(parents=True, exist_ok=True)
            write_atomic(Path(crop), face.chip.tobytes())
        faces = tuple(replace(face, chip=_NO_PIXELS) for face in photo.faces)
        yield replace(photo, path=f"{where.rstrip('/')}/{photo.path}", faces=faces, crops=crops)


def _photos(where: str | Path, on_event: EventHandler) -> Dataset:
    """Every photo of a folder or an archive, with labels where it is a data set; of anything else what is listed."""
    tree = open_tree(str(where))
    if tree is None or tree.packed or not tree.files or not tree.whole:
        return open_dataset(where)
    data = unlabelled(tree)
    if not (tree.folders or tree.texts):
        return data
    try:
        labelled = open_dataset(where)
    except DataError as error:
        on_event(Message(f"the faces get no labels: {error}"))
        return data
    labels = {record.path: record for record in labelled.records}
    return replace(data, classes=labelled.classes, records=tuple(labels.get(one.path, one) for one in data.records))


def rows_of(
    recognizer: Recognizer, dataset: Dataset, start: int, stop: int, *, search: FaceSearch
) -> tuple[Any, list[Broken]]:
    """Find the faces of the records from `start` to `stop`; return their table."""
    import pyarrow as pa  # type: ignore[import-untyped]

    rows: list[dict[str, Any]] = []
    for record in dataset.records[start:stop]:
        photo: Any
        try:
            photo = dataset.source.read(record, None)
        except (BadImage, OSError) as error:
            photo = reason_of(error)
        seen = search.in_photo(recognizer, record.path, photo)
        width, height = seen.size or (None, None)
        about: dict[str, Any] = {"path": seen.path, "label": label_of(record, dataset), "width": width}
        about |= {"height": height, "searched": seen.searched, "error": seen.error}
        rows += [about | _cells(number, face) for number, face in enumerate(seen.faces, 1)] or [about]
    return pa.Table.from_pylist(rows, schema=_schema()), []


def _cells(number: int, face: Face) -> dict[str, Any]:
    box = {name: float(value) for name, value in zip("xywh", face.box, strict=True)}
    points = [float(value) for value in face.points.ravel()]
    return {"face": number, **box, "score": face.score, "points": points, "crop": png_of(face.chip)}


def _schema() -> Any:
    import pyarrow as pa

    numbers = {name: pa.float64() for name in ("x", "y", "w", "h", "score")}
    return pa.schema(
        {"path": pa.string(), "label": pa.string(), "width": pa.int32(), "height": pa.int32()}
        | {"searched": pa.float64(), "face": pa.int32()}
        | numbers
        | {"points": pa.list_(pa.float64()), "crop": pa.binary(), "error": pa.string()}
    )


def _photos_in(file: Path, *more: str) -> Iterator[PhotoFaces]:
    """Each photo of a table, one group of rows after the other; with "crop", pixels are the bytes of the PNG."""
    from pyarrow import parquet

    columns = ["path", "width", "height", "searched", "face", *"xywh", "score", "points", "error", *more]
    with parquet.ParquetFile(file) as table:
        for number in range(table.num_row_groups):
            rows = table.read_row_group(number, columns=columns).to_pylist()
            for path, of_photo in groupby(rows, key=lambda row: row["path"]):
                first, *others = of_photo
                size = None if first["width"] is None else (first["width"], first["height"])
                faces = tuple(_face(row) for row in (first, *others) if row["face"] is not None)
                yield PhotoFaces(path, size, first["searched"], faces, error=first["error"])


def _face(row: Mapping[str, Any]) -> Face:
    chip = np.frombuffer(row["crop"], np.uint8) if "crop" in row else _NO_PIXELS
    box = (row["x"], row["y"], row["w"], row["h"])
    return Face(box, row["score"], np.reshape(row["points"], (-1, 2)), chip)
