"""`facewright scan`: a classifier of patches run over whole photos."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facewright.cli.output import emit, number_of, percent, place_for, say, show, table
from facewright.cli.progress import listener
from facewright.errors import UsageError
from facewright.files import write_atomic

if TYPE_CHECKING:
    from facewright.workflows.face_scan import Scanned, ScannedPhoto


class Suppress(StrEnum):
    """How one box a face is chosen."""

    HARD = "hard"
    SOFT = "soft"


def scan(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A run folder, or its model.safetensors.")],
    photos: Annotated[list[Path], typer.Argument(metavar="PHOTO...", help="Photos, or folders of photos.")],
    boxes: Annotated[
        Path | None, typer.Option("--boxes", help="True boxes, a CSV file,[split,]x,y,w,h: measure against them.")
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Least probability of a face; default: chosen with --boxes on photos not for testing, or 0.9."
        ),
    ] = None,
    smallest: Annotated[float, typer.Option(min=8, help="Side of the smallest patch looked at, px.")] = 32,
    suppress: Annotated[Suppress, typer.Option(help="Drop overlapping boxes, or lower their scores.")] = Suppress.HARD,
    frame: Annotated[
        str | None, typer.Option(help="Where the face lies in a patch: left,top,width,height in shares of its side.")
    ] = None,
    face: Annotated[str, typer.Option("--class", help="The class that is the face.")] = "face",
    csv_file: Annotated[Path | None, typer.Option("--csv", help="Write the boxes to this file.")] = None,
    draw: Annotated[Path | None, typer.Option("--draw", help="Write the photos with their boxes here.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Find the faces of whole photos with a face/non-face classifier.

    Looks at every place and size; a photo without a face gives an empty list. Where --boxes has a split, the threshold
    and the place of the face in its patch are chosen on the photos that are not for testing.

    \b
    Example:
      facewright scan runs/face-or-not group.jpg --draw found/
      facewright scan runs/face-or-not groups/ --boxes boxes.csv --threshold 0.9
    """
    place_for(csv_file)

    from facewright.faces.frame import Frame
    from facewright.faces.scan import Search
    from facewright.workflows import face_scan

    search = Search(smallest=smallest, suppression=suppress.value)
    given = None if frame is None else Frame(*four_numbers(frame))
    with listener(quiet) as on_event:
        scanned = face_scan.scan(
            model,
            photos,
            boxes=boxes,
            threshold=threshold,
            search=search,
            frame=given,
            face=face,
            draw=draw,
            on_event=on_event,
        )
    for photo in scanned.photos:
        if photo.error is not None:
            say(f"error: {photo.path}: {photo.error}")
    if csv_file is not None:
        write_atomic(csv_file, to_csv(scanned.photos).encode(errors="backslashreplace"))
        say(f"wrote {csv_file}")
    if draw is not None:
        say(f"wrote {number_of(len(scanned.drawn), 'picture')} to {draw}")
    if as_json:
        emit(scanned.to_dict())
    else:
        show(describe(scanned))
    if all(photo.error is not None for photo in scanned.photos):
        raise typer.Exit(1)


def describe(scanned: Scanned) -> str:
    """The boxes of each photo, then how good they are where that is known."""
    lines = []
    for photo in scanned.photos:
        if photo.found is not None:
            lines.append(f"{photo.path}: {number_of(len(photo.found), 'face')}")
            lines += [to_line(face) for face in photo.found.to_list()]
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


def to_line(face: Mapping[str, float]) -> str:
    """One face: where it is, in pixels, and how sure.

    >>> to_line({"x": 10.2, "y": 7, "w": 40, "h": 41.6, "score": 0.98765, "hits": 9})
    '  x 10  y 7  w 40  h 42  score 0.988'
    """
    return "  " + "  ".join(f"{name} {face[name]:.0f}" for name in "xywh") + f"  score {face['score']:.3f}"


def to_csv(photos: Sequence[ScannedPhoto]) -> str:
    """One row a face: path, x, y, w, h in pixels, score, hits, error; a broken photo has a row of its own."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["path", "x", "y", "w", "h", "score", "hits", "error"])
    for photo in photos:
        if photo.error is not None:
            writer.writerow([photo.path, "", "", "", "", "", "", photo.error])
        for face in [] if photo.found is None else photo.found.to_list():
            writer.writerow([photo.path, *(face[name] for name in "xywh"), f"{face['score']:.6f}", face["hits"], ""])
    return out.getvalue()


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
