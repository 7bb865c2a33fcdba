"""`facewright gallery enroll|search|identify`: enroll people, and find out who is in a photo."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facewright.cli import gallery_records as records
from facewright.cli import options as opt
from facewright.cli.output import emit, exit_if_all_failed, named, number_of, report, say, say_left_out, show
from facewright.cli.progress import event_printer
from facewright.errors import UsageError

if TYPE_CHECKING:
    from facewright.gallery.entries import Match
    from facewright.gallery.results import EnrolledPhoto, Enrollment, Identification, PhotoIdentification, SearchResult

Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="A run directory, a model file, architecture@weights or built-in. Default: the gallery's, or built-in.",
    ),
]
Filter = Annotated[
    list[str] | None, typer.Option("--where", metavar="KEY=VALUE", help="Only entries with this metadata. Repeatable.")
]

app = typer.Typer(no_args_is_help=True, help="Enroll people, and find out who is in a photo.")


@app.command("enroll")
def enroll(
    gallery_at: opt.GalleryAt,
    people: Annotated[
        list[str],
        typer.Argument(metavar="PEOPLE | NAME PHOTO...", help="A folder with a folder per person; or a name."),
    ],
    model: Model = None,
    detector: opt.Detector = None,
    select_face: opt.FaceChoice = None,
    crop: opt.Crop = None,
    flip: opt.Flip = None,
    meta: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Metadata to filter by. Repeatable.")
    ] = None,
    keep_crops: Annotated[
        bool, typer.Option("--keep-crops", help="Keep the face crops too; `reembed` needs them.")
    ] = False,
    min_quality: Annotated[float, opt.bounded(low=0, high=1, help="Leave out faces of lower quality (0.2: poor).")] = 0,
    device: opt.Device = None,
    quiet: opt.Quiet = False,
    as_json: opt.Json = False,
) -> None:
    """Enroll photos of people.

    A missing gallery is created; a gallery belongs to one model and detector. The built-in model finds the face in each
    photo; a model of your own takes cropped photos, or any photo with --detector. The same photo of a person is
    enrolled once. A person's film (.mp4, .mov, ...) gives its best frames.

    \b
    Example:
      facewright gallery enroll -g people.gallery people/
      facewright gallery enroll -g people.gallery Ann ann1.jpg ann2.jpg --meta team=a
      facewright gallery enroll -g people.gallery Bo bo.mp4
      facewright gallery enroll -g "postgresql://me@host/faces?gallery=staff" --model runs/a people/
    """
    from facewright.gallery.gallery import Gallery
    from facewright.workflows import galleries

    metadata = opt.key_values(meta, "--meta")
    photos, broken = galleries.photos_of(people)  # before a file is created
    opened = Gallery.for_enrolling(
        gallery_at, model, detector=detector, crop=crop, flip=flip, select_face=select_face, device=device
    )
    with opened as gallery, event_printer(quiet) as on_event:
        result = galleries.enroll(
            gallery, photos, broken=broken, metadata=metadata, keep_crops=keep_crops, select_face=select_face,
            min_quality=min_quality, on_event=on_event,
        )  # fmt: skip
    for warning in (*result.warnings, *_perhaps_one_person(result, gallery.store.location)):
        say(f"warning: {warning}")
    say_left_out(result.failed)
    for photo in result.photos:
        if photo.message is not None:
            say(f"{named(photo.photo)}: {photo.message}")
    if as_json:
        emit(result.to_dict())
    else:
        already = len(result.photos) - result.new
        known = f", {already:,} already enrolled" if already else ""
        show(f"enrolled {number_of(result.new, 'photo')} in {gallery.store.location}{known}")
    if not result.photos:
        say("error: no photo could be enrolled")
        raise typer.Exit(1)


def _perhaps_one_person(result: Enrollment, gallery: str) -> Iterator[str]:
    """Yield a warning for each two people whose photos are so similar that they may be one person."""
    pairs: dict[frozenset[str], list[tuple[EnrolledPhoto, Match]]] = {}
    for photo in result.photos:
        if photo.similar is not None:
            pairs.setdefault(frozenset((photo.person, photo.similar.person)), []).append((photo, photo.similar))
    for photos in pairs.values():
        most, other = max(photos, key=lambda one: one[1].score)
        yield (
            f"{most.person} may be {other.person}: {number_of(len(photos), 'photo')} with a similarity of up to "
            f"{other.score:.2f}, such as {named(most.photo)}; if they are one person: facewright gallery merge "
            f"-g {shlex.quote(gallery)} {shlex.quote(most.person)} --into {shlex.quote(other.person)}"
        )


@app.command("search")
def search(
    gallery_at: opt.GalleryAt,
    photos: opt.Photos,
    model: Model = None,
    detector: opt.Detector = None,
    select_face: opt.FaceChoice = None,
    top: Annotated[int, typer.Option("--top", "-k", min=1, max=1000, help="Number of people to show.")] = 5,
    filters: Filter = None,
    device: opt.Device = None,
    as_json: opt.Json = False,
) -> None:
    """Show the most similar people for each photo, above the threshold or not.

    \b
    Example:
      facewright gallery search -g people.gallery someone.jpg --top 3 --where team=a
    """
    from facewright.gallery.results import Photo
    from facewright.workflows.galleries import photos_in

    with records.opened(gallery_at, model, detector=detector, device=device) as gallery:
        if gallery.store.header().entries == 0:
            raise UsageError(f"{gallery.store.location}: the gallery is empty; enroll people first")
        selection, only = gallery.recognizer.face_selection(select_face), opt.key_values(filters, "--where")
        found = gallery.search([Photo.of(path) for path in photos_in(photos)], k=top, where=only, select_face=selection)
    report(
        {"task": "search", "gallery": gallery.store.location, "photos": [one.to_dict() for one in found]},
        "\n".join(line for one in found for line in describe_search(one)),
        as_json,
    )
    exit_if_all_failed(found)


@app.command("identify")
def identify(
    gallery_at: opt.GalleryAt,
    photos: opt.Photos,
    model: Model = None,
    detector: opt.Detector = None,
    select_face: opt.FaceChoice = None,
    every_face: Annotated[
        bool, typer.Option("--every-face", help="Identify every face in a photo, not one chosen by --select-face.")
    ] = False,
    threshold: Annotated[
        float | None,
        opt.bounded(low=-2, high=2, help="Min. similarity of a match. Default: chosen by `calibrate`, or a safe one."),
    ] = None,
    draw: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder to write: each photo with names; implies --every-face.")
    ] = None,
    filters: Filter = None,
    device: opt.Device = None,
    as_json: opt.Json = False,
) -> None:
    """Identify the person in each photo, or answer unknown and why.

    A person is in a photo at most once.

    \b
    Example:
      facewright gallery identify -g people.gallery someone.jpg
      facewright gallery identify -g people.gallery holiday/ --draw named/
    """
    from facewright.workflows import galleries

    every_face = every_face or draw is not None
    if every_face and select_face is not None:
        raise UsageError("--select-face uses one of several faces, --every-face and --draw all; give one of them")
    only = opt.key_values(filters, "--where")
    with records.opened(gallery_at, model, detector=detector, device=device) as gallery:
        stored = None if threshold is not None else gallery.threshold
        default = gallery.decision_threshold() if threshold is None and stored is None else None
        value = threshold if default is None else default.value
        found = galleries.identify(
            gallery,
            photos,
            threshold=value,
            where=only,
            select_face=select_face,
            every_face=every_face,
            draw=draw,
        )
        people, shown = len(gallery.people()), gallery.store.location
    calibrated, listed = None if stored is None else stored.to_dict(), [one.to_dict() for one in found]
    facts = {"task": "identify", "gallery": shown, "calibrated": calibrated, "people": people, "photos": listed}
    facts["default_threshold"] = None if default is None else default.to_dict()
    report(facts, "\n".join(line for one in found for line in describe_identified(one)), as_json)
    if default is not None:
        say(records.default_used(shown, default))
    if stored is not None and people > (stored.people or people):
        say(
            f"the threshold was chosen among {stored.people:,} people, now there are {people:,}, so the false-positive "
            "identification rate is higher; recalibrate"
        )
    exit_if_all_failed(found)


app.add_typer(records.app)


def describe_identified(found: Identification | PhotoIdentification) -> list[str]:
    """Return one photo's answers: the decision with the score behind it, for the chosen face or for every face."""
    from facewright.faces.scaling import of_at_least
    from facewright.gallery.results import PhotoIdentification

    if found.error is not None:
        return [f"{named(found.photo)}: cannot be used: {found.error}"]
    if not isinstance(found, PhotoIdentification):
        line = f"{named(found.photo)}: {decision(found.person, found.matches, found.threshold)}"
        return [line] if found.message is None else [line, f"  {found.message}"]
    larger = "" if found.searched is None else f" {of_at_least(found.searched)}"
    lines = [f"{named(found.photo)}: {number_of(len(found.faces), 'face')}{larger}"]
    for face in found.faces:
        x, y, width, height = (round(value) for value in face.box)
        threshold = found.threshold if face.threshold is None else face.threshold
        answer = decision(face.person, face.matches, threshold)
        if face.person is None and face.reason and face.matches and face.matches[0].score >= threshold:
            answer = f"unknown; {face.reason}"
        elif face.person is not None and face.person != face.matches[0].person:
            match = next(match for match in face.matches if match.person == face.person)
            answer = decision(face.person, [match], threshold)
        lines.append(f"  {width} x {height} px at {x}, {y}: {answer}")
    return lines


def decision(person: str | None, matches: Sequence[Match], threshold: float) -> str:
    """Return the person, or unknown with the nearest match, and the score that decided."""
    if not matches:
        return "unknown (the gallery has no entry to compare with)"
    best = matches[0]
    sign, who = (">=", person) if person is not None else ("<", f"unknown; nearest match {best.person}")
    return f"{who} ({best.score:.4f} {sign} {threshold:.4f})"


def describe_search(found: SearchResult) -> list[str]:
    """Return one photo's matches, a line each."""
    if found.error is not None:
        return [f"{named(found.photo)}: cannot be used: {found.error}"]
    note = "" if found.message is None else f" {found.message}"
    lines = [f"{named(found.photo)}:{note}"]
    for one in found.matches:
        where = f"({named(one.photo)}, entry {one.number}){records.tags(one.metadata)}"
        lines.append(f"  {one.score:7.4f}  {one.person}  {where}")
    return lines
