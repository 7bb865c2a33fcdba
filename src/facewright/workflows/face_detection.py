"""The faces of photos: found, cut out upright, drawn; of any number of photos in one Parquet table.

The table has a row a face, its aligned crop in it as a PNG; a photo without a face, or that cannot be read, has a row
without one. It is made in parts (part_tables.py), and is itself a data set that `train` and `embed` open.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import numpy as np

from facewright import images
from facewright.data.image_records import reason_of
from facewright.data.records import Broken, Dataset
from facewright.data.remote_files import is_remote, writable
from facewright.data.sources import open_dataset, open_tree, unlabelled
from facewright.errors import BadImage, DataError, UnknownName, UsageError, require_extra
from facewright.events import EventHandler, Message, counted, ignore_event
from facewright.faces.alignment import framed
from facewright.faces.detectors import detector_of
from facewright.faces.selection import one_of, stored_selection
from facewright.files import csv_text, write_atomic, write_json
from facewright.images import ImageLike, MemoryImage, Pixels, as_list, images_at, none_found, png_of
from facewright.input_spec import Template
from facewright.public_names import select_face_was_policy
from facewright.recognition import SMALLEST_FACE, TEMPLATES, Face, Recognizer, SelectFace
from facewright.records import Record, notebook_display
from facewright.report.faces import draw_boxes
from facewright.workflows.part_tables import TableJob, check_cluster, label_of, write_table

PHOTOS = 256  # a part
_NO_PIXELS = np.zeros((0, 0, 3), np.uint8)


@dataclass(frozen=True, eq=False)
class PhotoFaces:
    """The faces found in one photo."""

    path: str
    size: tuple[int, int] | None = None  # width and height, px, upright; None where it could not be read
    searched: float | None = None  # px: side of the smallest face that a photo this large could be searched for
    faces: tuple[Face, ...] = ()  # from left to right
    crops: tuple[str, ...] = ()  # the file of each face, where they were written
    drawn: str | None = None  # the annotated image
    error: str | None = None  # why the photo could not be read

    def to_dict(self) -> dict[str, Any]:
        """As `faces --json` prints a photo."""
        crops = self.crops or (None,) * len(self.faces)
        return {
            "path": self.path,
            "width": None if self.size is None else self.size[0],
            "height": None if self.size is None else self.size[1],
            "searched": self.searched,
            "faces": [face.to_dict() | {"crop": crop} for face, crop in zip(self.faces, crops, strict=True)],
            "drawn": self.drawn,
            "error": self.error,
        }


@dataclass(frozen=True, eq=False)
class FoundFaces:
    """The faces found in photos."""

    photos: tuple[PhotoFaces, ...]
    detector: str
    template: str  # of the crops

    def to_dict(self) -> dict[str, Any]:
        """As `faces --json` prints it, and as `faces.json` holds it."""
        photos = [photo.to_dict() for photo in self.photos]
        return {"task": "faces", "detector": self.detector, "template": self.template, "photos": photos}

    _repr_html_ = notebook_display


@dataclass(frozen=True)
class FaceSearch:
    """The faces to look for in a photo, and how to cut them out."""

    frame: Template
    smallest: float | None  # px
    select_face: SelectFace | None

    @classmethod
    def of(
        cls, template: str, size: int | None, margin: float, smallest: float | None, select_face: SelectFace | None
    ) -> FaceSearch:
        """Check what was asked for, as `faces` describes it. Raises UsageError, UnknownName."""
        if template not in TEMPLATES:
            raise UnknownName("template", template, TEMPLATES)
        frame = framed(TEMPLATES[template], size, margin)
        if smallest is not None and not smallest >= SMALLEST_FACE:
            raise UsageError(f"expected a smallest face of at least {SMALLEST_FACE} px, got {smallest:g}")
        return cls(frame, smallest, select_face)

    def in_photo(self, recognizer: Recognizer, path: str, photo: Pixels | str) -> PhotoFaces:
        """Return the faces to keep, from left to right; of a photo that cannot be read, the reason.

        Args:
            photo: (H, W, 3) uint8, or why it cannot be read.
        """
        if isinstance(photo, str):
            return PhotoFaces(path, error=photo)
        height, width = photo.shape[:2]
        faces, searched = recognizer.search(photo, smallest=self.smallest, template=self.frame)
        error = None
        if self.select_face is None:
            faces = tuple(sorted(faces, key=lambda face: face.box[:2]))
        elif faces:
            picked = one_of(faces, photo.shape[:2], stored_selection(self.select_face))
            faces, error = () if picked.face is None else (picked.face,), picked.reason
        return PhotoFaces(path, (width, height), searched, faces, error=error)

    def crop_names(self, target: Path, faces: int) -> tuple[str, ...]:
        """Return the file of each face of the photo whose files are called `target`."""
        return tuple(f"{target}-{n}.png" if self.select_face is None else f"{target}.png" for n in range(1, faces + 1))


@select_face_was_policy
def faces(
    paths: ImageLike | Sequence[ImageLike],
    *,
    out: str | Path | None = None,
    smallest: float | None = None,
    template: str = "dlib",
    detector: str = "dlib",
    select_face: SelectFace | None = None,
    size: int | None = None,
    margin: float = 0.0,
    draw: bool = False,
    device: str | None = None,
    on_event: EventHandler = ignore_event,
) -> FoundFaces:
    """Find the faces of photos; cut each out upright.

    Args:
        paths: photos, and folders of photos.
        out: a folder for the crops, `PHOTO-1.png` being the leftmost face of PHOTO, for faces.json and faces.csv;
            sub-folders of a folder are kept.
        smallest: px: side of the smallest face that is looked for. None: as of `Recognizer.faces`.
        template: of the crops: "dlib", 150 px with a margin; or "arcface", 112 px.
        detector: "dlib", an .onnx file, or "none" where each photo is one face already.
        select_face: keep of several faces the "largest" or the one nearest to the "center", as `PHOTO.png`; "error":
            several are an error of that photo; None: all.
        size: px: side of the crops; None: the template's. margin: to add around the template, in shares of its side.
        draw: write also each photo with its boxes and points, `PHOTO-faces.png`.
    Raises:
        UsageError: no photo, a path that does not exist, nowhere to draw, a size under 8. UnknownName: no such
            template or detector. WeightsError: the package of the networks is not installed.
    """
    out = None if out is None else Path(out)
    search = FaceSearch.of(template, size, margin, smallest, select_face)
    if draw and out is None:
        raise UsageError("to draw the faces, say where the images go with --out DIR")
    recognizer = Recognizer(detector=detector, device=device)
    listed = as_list(paths)
    places = [(path, one) for one in listed for path in images_at(one)]
    if not places:
        raise UsageError(none_found(str(one) for one in listed))
    found: list[PhotoFaces] = []
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    for (path, _), name in counted("finding faces", list(zip(places, photo_stems(places), strict=True)), on_event):
        photo = images.try_read(path)
        seen = search.in_photo(recognizer, str(path), photo)
        found.append(seen if out is None or isinstance(photo, str) else _written(seen, photo, out / name, search, draw))
    result = FoundFaces(tuple(found), recognizer.detector_name, template)
    if out is not None:
        _write_lists(out, result)
    return result


def _write_lists(out: Path, found: FoundFaces) -> None:
    write_json(out / "faces.json", found.to_dict())
    write_atomic(out / "faces.csv", _face_table(found).encode(errors="backslashreplace"))


def _face_table(found: FoundFaces) -> str:
    """Return the faces as CSV, one a row: file, face (from 1, left to right), box, score, five points in px, crop."""
    points = [f"{axis}{number}" for number in range(1, 6) for axis in "xy"]
    rows = []
    for photo in found.photos:
        crops = photo.crops or ("",) * len(photo.faces)
        for number, (face, crop) in enumerate(zip(photo.faces, crops, strict=True), 1):
            numbers = [*face.box, *face.points.ravel()] if face.points.size else [*face.box]
            cells = [round(float(value), 2) for value in numbers] + [""] * (14 - len(numbers))
            score = "" if face.score is None else face.score
            rows.append([photo.path, number, *cells[:4], score, *cells[4:], crop])
    return csv_text(["file", "face", "x", "y", "w", "h", "score", *points, "crop"], rows)


def _written(seen: PhotoFaces, photo: Pixels, target: Path, search: FaceSearch, draw: bool) -> PhotoFaces:
    target.parent.mkdir(parents=True, exist_ok=True)
    crops = search.crop_names(target, len(seen.faces))
    for face, crop in zip(seen.faces, crops, strict=True):
        write_atomic(Path(crop), images.png_of(face.chip))
    if not draw:
        return replace(seen, crops=crops)
    boxes, scores = [face.box for face in seen.faces], [face.score for face in seen.faces]
    drawn = Path(f"{target}-faces.png")
    write_atomic(drawn, png_of(draw_boxes(photo, boxes, scores, points=[face.points for face in seen.faces])))
    return replace(seen, crops=crops, drawn=str(drawn))


def photo_stems(places: Sequence[tuple[Path | MemoryImage, Path | MemoryImage]]) -> list[str]:
    """Return a name for each photo's files; photos that would share one, of several folders or kinds, get a number.

    Args:
        places: each photo and the argument that it came from: itself, or a folder whose sub-folders are kept.
    >>> a, b = Path("a"), Path("b")
    >>> photo_stems([(a / "x/1.jpg", a), (a / "y/1.jpg", a), (b / "x/1.jpg", b), (b / "2.jpg", b / "2.jpg")])
    ['x/1', 'y/1', 'x/1~2', '2']
    """
    names: dict[str, None] = {}
    for path, given in places:
        below = isinstance(path, Path) and isinstance(given, Path) and path != given
        folder = path.relative_to(given).parent if below else Path()  # type: ignore[union-attr, arg-type]
        number, name = 1, (folder / path.stem).as_posix()
        while name in names:
            number += 1
            name = (folder / f"{path.stem}~{number}").as_posix()
        names[name] = None
    return list(names)


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
        _write_lists(folder, FoundFaces(tuple(listed), name, template))
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
