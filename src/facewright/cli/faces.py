"""`facewright faces`, `scan` and `cluster`: the faces in photos, and whose they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from facewright.cli import options as opt
from facewright.cli.output import (
    check_writable,
    exit_if_all_failed,
    named,
    number_of,
    percent,
    report,
    say,
    say_errors,
    say_left_out,
    table,
    write_csv,
)
from facewright.cli.progress import with_progress
from facewright.errors import UsageError, require_extra
from facewright.files import csv_text

if TYPE_CHECKING:
    from facewright.workflows.face_detection import FoundFaces
    from facewright.workflows.face_scan import Scanned, ScannedPhoto


LARGEST = 50_000  # pixels: the longest side of a smallest face


def faces(
    photos: Annotated[
        list[str], typer.Argument(metavar="PHOTO...", help="Photos or folders; for a .parquet file, one dataset.")
    ],
    out: Annotated[
        str | None,
        typer.Option("--out", "-o", help="Folder for crops, faces.json and faces.csv; or one .parquet file."),
    ] = None,
    smallest: Annotated[
        float | None,
        opt.bounded(low=8, high=LARGEST, help="Smallest face, px. Default: 10 to 40, by the size of the photo."),
    ] = None,
    template: Annotated[
        Literal["dlib", "arcface"], typer.Option(help="Crops of 150 px with a margin (dlib), or of 112 px (arcface).")
    ] = "dlib",
    select_face: Annotated[Literal["all", "center", "largest", "error"], typer.Option(help="Faces to keep.")] = "all",
    size: Annotated[
        int | None, typer.Option(min=8, max=2048, help="Side of the crops, px. Default: the template's.")
    ] = None,
    margin: Annotated[
        float, opt.bounded(low=0, high=2, help="Margin to add around the template, in shares of its side.")
    ] = 0.0,
    detector: opt.Detector = None,
    draw: Annotated[bool, typer.Option("--draw", help="Also write the photos with boxes and points to --out.")] = False,
    device: opt.Device = None,
    on: opt.Cluster = None,
    quiet: opt.Quiet = False,
    as_json: opt.Json = False,
) -> None:
    """Detect faces: boxes, five points each, and aligned crops.

    Nothing has to be trained. A photo without a face gives an empty list; one that cannot be read gets an error of its
    own, and the others are still processed.

    Of one folder, archive or dataset, --out FILE.parquet writes one row per face with its crop; the photos may be
    larger than memory, and a stopped command resumes where it was when it is given again. --on ray runs it on a
    cluster.

    \b
    Example:
      facewright faces group.jpg --out found/ --draw
      facewright faces people/ --out crops/ --select-face largest --template arcface
      facewright faces photos/ --out faces.parquet --on ray
    """
    selection = None if select_face == "all" else select_face
    elsewhere = on is not None or any("://" in photo for photo in photos)
    table_at = out if out is not None and (elsewhere or out.endswith(".parquet")) else None
    if elsewhere and out is None:
        raise UsageError(
            "--on, and photos at an address, make a table of faces: give --out FILE.parquet or --out FOLDER"
        )
    if table_at is not None:
        if len(photos) != 1 or draw:
            raise UsageError("a table of faces takes one folder, archive or dataset, and no --draw")
        _write_table(
            photos[0], table_at, as_json, quiet, smallest=smallest, template=template, size=size, margin=margin,
            detector=detector or "dlib", select_face=selection, device=device, on=on,
        )  # fmt: skip
        return

    from facewright.workflows import face_detection

    found = with_progress(face_detection.faces, quiet)(
        photos, out=out, smallest=smallest, template=template, detector="dlib" if detector is None else detector,
        select_face=selection, size=size, margin=margin, draw=draw, device=device,
    )  # fmt: skip
    say_errors(found.photos)
    report(found.to_dict(), describe_faces(found), as_json)
    if out is not None:
        crops = sum(len(photo.crops) for photo in found.photos)
        say(f"wrote {number_of(crops, 'crop')} with faces.json and faces.csv to {out}")
    exit_if_all_failed(found.photos)


def _write_table(where: str, out: str, as_json: bool, quiet: bool, **asked: Any) -> None:
    """Write the faces of a data set to a table; `asked` as of `write_faces`."""
    check_writable(Path(out) if out.endswith(".parquet") and "://" not in out else None)
    require_extra("data", "facewright faces --out FILE.parquet")

    from facewright.workflows.face_detection import write_faces

    written = with_progress(write_faces, quiet)(where, out, **asked)
    say_left_out(written.broken)
    failed = f", {number_of(written.failures, 'photo')} with an error" if written.failures else ""
    faces, photos = number_of(written.faces, "face"), number_of(written.photos, "photo")
    report(written.to_dict(), f"wrote {faces} of {photos} to {out}{failed}", as_json)
    if written.failures == written.photos:
        raise typer.Exit(1)


def scan(
    model: opt.Classifier,
    photos: opt.Photos,
    boxes: Annotated[
        Path | None, typer.Option(help="True boxes, a CSV file,[split,]x,y,w,h: evaluate against them.")
    ] = None,
    threshold: Annotated[
        float | None,
        opt.bounded(low=0, high=1, help="Min. face probability. Default: chosen with --boxes on non-test photos; 0.9."),
    ] = None,
    smallest: Annotated[float, opt.bounded(low=8, high=LARGEST, help="Side of the smallest patch to scan, px.")] = 32,
    suppress: Annotated[
        Literal["hard", "soft"], typer.Option(help="Drop overlapping boxes (hard), or lower their scores (soft).")
    ] = "hard",
    frame: Annotated[
        str | None,
        typer.Option(metavar="LEFT,TOP,WIDTH,HEIGHT", help="Where the face lies in a patch, in shares of its side."),
    ] = None,
    face: Annotated[str, typer.Option("--class", help="The class that is the face.")] = "face",
    csv_file: opt.CsvFile = None,
    draw: Annotated[Path | None, typer.Option(help="Folder for the photos with their boxes.")] = None,
    device: opt.Device = None,
    quiet: opt.Quiet = False,
    as_json: opt.Json = False,
) -> None:
    """Detect faces by scanning photos with a face/non-face classifier.

    Every position and size is scanned; a photo without a face gives an empty list. Where --boxes has a split, the
    threshold and the place of the face in its patch are chosen on the non-test photos.

    \b
    Example:
      facewright scan runs/face-or-not group.jpg --draw found/
      facewright scan runs/face-or-not groups/ --boxes boxes.csv --threshold 0.9
    """
    check_writable(csv_file)

    from facewright.faces.boxes import Frame
    from facewright.faces.scan import Search
    from facewright.workflows import face_scan

    scanned = with_progress(face_scan.scan, quiet)(
        model, photos, boxes=boxes, threshold=threshold, search=Search(smallest=smallest, suppression=suppress),
        frame=None if frame is None else Frame(*four_numbers(frame)), face=face, draw=draw, device=device,
    )  # fmt: skip
    say_errors(scanned.photos)
    write_csv(csv_file, _box_table(scanned.photos))
    if draw is not None:
        say(f"wrote {number_of(len(scanned.drawn), 'image')} to {draw}")
    report(scanned.to_dict(), _describe_scan(scanned), as_json)
    exit_if_all_failed(scanned.photos)


def describe_faces(found: FoundFaces) -> str:
    """Return a line for each photo and for each face in it, from left to right."""
    from facewright.faces.scaling import of_at_least

    lines = []
    for photo in found.photos:
        if photo.error is not None:
            continue
        larger = "" if photo.searched is None else f" {of_at_least(photo.searched)}"
        lines.append(f"{named(photo.path)}: {number_of(len(photo.faces), 'face')}{larger}")
        lines += [_face_line(dict(zip("xywh", face.box, strict=True)) | {"score": face.score}) for face in photo.faces]
    return "\n".join(lines)


def _describe_scan(scanned: Scanned) -> str:
    lines = []
    for photo in scanned.photos:
        if photo.found is not None:
            lines.append(f"{named(photo.path)}: {number_of(len(photo.found), 'face')}")
            lines += [_face_line(face) for face in photo.found.to_list()]
    if scanned.detection:
        header = ["photos", "n", "faces", "average precision", "precision", "recall"]
        rows = [
            [
                name,
                f"{result.photos}",
                f"{result.faces}",
                f"{result.average_precision:.3f}",
                "undefined" if result.precision is None else percent(result.precision),
                percent(result.recall),
            ]
            for name, result in scanned.detection.items()
        ]
        lines += ["", table(header, rows), f"threshold {scanned.threshold:.3f}: {scanned.threshold_from}"]
        lines.append(f"place of the face in its patch: {scanned.frame_from}")
    return "\n".join(lines)


def _face_line(face: Mapping[str, float | None]) -> str:
    """Return the box of a face in pixels, and its score.

    >>> _face_line({"x": 10.2, "y": 7, "w": 40, "h": 41.6, "score": 0.98765, "hits": 9})
    '  x 10  y 7  w 40  h 42  score 0.988'
    """
    place = "  " + "  ".join(f"{name} {face[name]:.0f}" for name in "xywh")
    return place if face["score"] is None else f"{place}  score {face['score']:.3f}"


def _box_table(photos: Sequence[ScannedPhoto]) -> str:
    """Return one CSV row for each face: path, x, y, w, h in pixels, score, hits, error; a broken photo has its own."""
    return csv_text(
        ["path", "x", "y", "w", "h", "score", "hits", "error"], (row for photo in photos for row in _box_rows(photo))
    )


def _box_rows(photo: ScannedPhoto) -> Iterator[list[object]]:
    if photo.error is not None:
        yield [photo.path, "", "", "", "", "", "", photo.error]
    for face in [] if photo.found is None else photo.found.to_list():
        yield [photo.path, *(face[name] for name in "xywh"), f"{face['score']:.6f}", face["hits"], ""]


def four_numbers(text: str) -> tuple[float, float, float, float]:
    """Read left,top,width,height.

    >>> four_numbers("0.1,0.15,0.8,0.8")
    (0.1, 0.15, 0.8, 0.8)
    """
    try:
        left, top, width, height = (float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"expected four numbers left,top,width,height, as 0.1,0.1,0.8,0.8, got {text!r}") from None
    return left, top, width, height


def cluster(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write, or to add photos to.")],
    photos: Annotated[
        list[Path] | None, typer.Argument(metavar="[PHOTO...]", help="Photos, or folders of photos.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="A run, a model file or architecture@weights. Default: built-in."),
    ] = None,
    detector: opt.Detector = None,
    min_face: Annotated[float, opt.bounded(low=20, high=10_000, help="Side of the smallest face, in pixels.")] = 40,
    threshold: Annotated[
        float | None, opt.bounded(low=-1, high=1, help="Average similarity within a person. Default: from the model.")
    ] = None,
    merge: Annotated[
        list[str] | None, typer.Option(metavar="NAME,NAME", help="Merge these people into one. Repeatable.")
    ] = None,
    split: Annotated[
        list[str] | None, typer.Option(metavar="KEY", help="Take this face out of its person. Repeatable.")
    ] = None,
    name: Annotated[list[str] | None, typer.Option(metavar="NAME=NEW", help="Name a person. Repeatable.")] = None,
    device: opt.Device = None,
    quiet: opt.Quiet = False,
    as_json: opt.Json = False,
) -> None:
    """Sort the faces of photos by person, without knowing who or how many they are.

    Writes a folder a person with the face crops, and a contact sheet, index.html. A further call with the same --out
    adds photos, keeps names, and keeps decisions (--merge, --split, --name).

    \b
    Example:
      facewright cluster photos/ --out people/
      facewright cluster --out people/ --merge person_0001,person_0004 --name person_0002=Ann
      facewright gallery enroll -g people.gallery people/sorted
    """
    from facewright.workflows import clusters

    names = list(opt.key_values(name, "--name").items())
    if merge or split or names:
        groups = [group.split(",") for group in merge or ()]
        if any(len(group) < 2 for group in groups):
            raise UsageError("expected --merge NAME,NAME: two people or more")
        clusters.change_clusters(out, merge=groups, split=split or (), rename=names)
    elif not photos:
        raise UsageError("nothing to do: give photos, or --merge, --split or --name")
    result = with_progress(clusters.cluster_photos, quiet)(
        photos or (), out, model=model, detector=detector, smallest=min_face, threshold=threshold, device=device
    )
    for path, reason in result.failed.items():
        say(f"left out: {path}: {reason}")
    alone = sum(face.person == clusters.UNSORTED for face in result.faces)
    doubtful = sum(face.doubtful for face in result.faces)
    rows = [[person, f"{count:,}"] for person, count in result.people.items()]
    text = (
        f"{number_of(len(result.faces), 'face')} of {number_of(len(result.photos), 'photo')}: {len(rows):,} people, "
        f"{alone:,} faces like no other, {doubtful:,} doubtful; see {out / 'index.html'}"
    )
    report(result.to_dict(), "\n".join([table(["person", "faces"], rows), text]) if rows else text, as_json)
