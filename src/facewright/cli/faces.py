"""`facewright faces`: the faces of photos, found and cut out."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facewright.cli.output import emit, number_of, say, show
from facewright.cli.progress import listener

if TYPE_CHECKING:
    from facewright.recognition import Face
    from facewright.workflows.face_detection import FoundFaces


class ChipTemplate(StrEnum):
    """How a crop lies around its face."""

    DLIB = "dlib"
    ARCFACE = "arcface"


def faces(
    photos: Annotated[list[Path], typer.Argument(metavar="PHOTO...", help="Photos, or folders of photos.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="A folder for the crops and faces.json, made if absent.")
    ] = None,
    smallest: Annotated[
        float | None,
        typer.Option(min=20, help="Side of the smallest face looked for, px; default: 40, and 20 where none is found."),
    ] = None,
    template: Annotated[
        ChipTemplate, typer.Option(help="Crops of 150 px with a margin (dlib), or of 112 px (arcface).")
    ] = ChipTemplate.DLIB,
    detector: Annotated[
        str,
        typer.Option(help="What finds them: dlib; YuNet's .onnx file; none: the photos are cropped, each is one face."),
    ] = "dlib",
    draw: Annotated[bool, typer.Option("--draw", help="Also write the photos with boxes and points to --out.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Find the faces of photos: boxes, five points each, and crops turned upright.

    Nothing has to be trained. A photo without a face gives an empty list; one that cannot be read has its own error,
    and the others are still done.

    \b
    Example:
      facewright faces group.jpg --out found/ --draw
      facewright faces photos/ --json
    """
    from facewright.workflows import face_detection

    with listener(quiet) as on_event:
        found = face_detection.faces(
            photos,
            out=out,
            smallest=smallest,
            template=template.value,
            detector=detector,
            draw=draw,
            on_event=on_event,
        )
    for photo in found.photos:
        if photo.error is not None:
            say(f"error: {photo.path}: {photo.error}")
    if as_json:
        emit(found.to_dict())
    elif told := describe(found):
        show(told)
    if out is not None:
        crops = sum(len(photo.crops) for photo in found.photos)
        say(f"wrote {number_of(crops, 'crop')} and faces.json to {out}")
    if all(photo.error is not None for photo in found.photos):
        raise typer.Exit(1)


def describe(found: FoundFaces) -> str:
    """A line a photo, then one a face, the surest first."""
    lines = []
    for photo in found.photos:
        if photo.error is not None:
            continue
        larger = "" if photo.searched is None else f" of at least {photo.searched:g} px (the photo is large)"
        lines.append(f"{photo.path}: {number_of(len(photo.faces), 'face')}{larger}")
        lines += [to_line(face) for face in photo.faces]
    return "\n".join(lines)


def to_line(face: Face) -> str:
    """One face: where it is, in pixels, and how sure the detector is."""
    place = "  " + "  ".join(f"{name} {value:.0f}" for name, value in zip("xywh", face.box, strict=True))
    return place if face.score is None else f"{place}  score {face.score:.3f}"
