"""`facewright gallery`: enrol people, find them again, say who somebody is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facewright.cli import gallery_keeping as keeping
from facewright.cli.gallery_options import Crop, Filter, Flip, Json, Model, People, Photos, Quiet, Where
from facewright.cli.gallery_words import answer, described, everybody
from facewright.cli.output import emit, number_of, say, show
from facewright.cli.progress import listener
from facewright.cli.recognition import DetectorOption, Policy, PolicyOption, name_of
from facewright.errors import UsageError

if TYPE_CHECKING:
    from facewright.gallery.gallery import Gallery
    from facewright.gallery.results import Found, Identified, PeopleFound

app = typer.Typer(
    no_args_is_help=True, help="Enrol people, find them again, say who somebody is or that he is unknown."
)

TOP = 5


@app.command("enroll")
def enroll(
    where: Where,
    who: Annotated[
        list[str],
        typer.Argument(metavar="PEOPLE | NAME PHOTO...", help="A folder per person in a folder; or a name."),
    ],
    model: Model = None,
    detector: DetectorOption = None,
    policy: PolicyOption = None,
    crop: Crop = None,
    flip: Flip = None,
    meta: Annotated[
        list[str] | None, typer.Option("--meta", metavar="KEY=VALUE", help="To filter by; may be repeated.")
    ] = None,
    keep_crops: Annotated[bool, typer.Option("--keep-crops", help="Keep the faces too; `reembed` needs them.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Enrol photos of people.

    The gallery is made where there is none, and pinned to the model and the detector. The built-in networks find the
    face in each photo; a model of your own takes photos that are cropped already, or any with --detector. The same
    photo of a person is enrolled once.

    \b
    Example:
      facewright gallery enroll -g people.gallery people/
      facewright gallery enroll -g people.gallery Ann ann1.jpg ann2.jpg --meta team=a
      facewright gallery enroll -g "postgresql://me@host/faces?gallery=staff" --model runs/a people/
    """
    from facewright.gallery.gallery import Gallery
    from facewright.workflows import galleries

    metadata = pairs_of(meta, "--meta")
    galleries.photos_of(who)  # before a file is made
    chosen = name_of(policy)
    opened = Gallery.for_enrolling(where, model, detector=detector, crop=crop, flip=flip, policy=chosen)
    with opened as gallery, listener(quiet) as on_event:
        found = galleries.enroll(
            gallery, who, metadata=metadata, keep_crops=keep_crops, policy=chosen, on_event=on_event
        )  # fmt: skip
    for broken in found.failed:
        say(f"left out: {broken.path}: {broken.reason}")
    for photo in found.photos:
        if photo.said is not None:
            say(f"{photo.photo}: {photo.said}")
    if as_json:
        emit(found.to_dict())
    else:
        already = len(found.photos) - found.new
        known = f", {already:,} were enrolled already" if already else ""
        show(f"enrolled {number_of(found.new, 'photo')} in {gallery.store.where}{known}")
    if not found.photos:
        say("error: no photo could be enrolled")
        raise typer.Exit(1)


@app.command("search")
def search(
    where: Where,
    photos: Photos,
    model: Model = None,
    detector: DetectorOption = None,
    policy: PolicyOption = None,
    k: People = TOP,
    filters: Filter = None,
    as_json: Json = False,
) -> None:
    """Show the people most like each photo, whether or not they are alike enough.

    \b
    Example:
      facewright gallery search -g people.gallery someone.jpg --top 3 --where team=a
    """
    from facewright.gallery.gallery import Gallery
    from facewright.gallery.photos import Photo

    with Gallery.open(where, model, detector=detector) as gallery:
        chosen, only = gallery.recognizer.policy(name_of(policy)), pairs_of(filters, "--where")
        found = gallery.search([Photo.of(path) for path in photos], k=k, where=only, policy=chosen)
    if as_json:
        emit({"task": "search", "gallery": gallery.store.where, "photos": [one.to_dict() for one in found]})
    else:
        show("\n".join(line for one in found for line in described(one)))
    leave_unless_some(found)


@app.command("identify")
def identify(
    where: Where,
    photos: Photos,
    model: Model = None,
    detector: DetectorOption = None,
    policy: PolicyOption = None,
    every_face: Annotated[
        bool, typer.Option("--every-face", help="Of every face in a photo, in place of one by --policy.")
    ] = False,
    threshold: Annotated[
        float | None, typer.Option("--threshold", help="Least cosine to be somebody; that of `calibrate` if left out.")
    ] = None,
    filters: Filter = None,
    as_json: Json = False,
) -> None:
    """Say who is on each photo, or that he is unknown.

    \b
    Example:
      facewright gallery identify -g people.gallery someone.jpg
      facewright gallery identify -g people.gallery group.jpg --every-face
    """
    from facewright.gallery.gallery import Gallery

    if every_face and policy is not None:
        raise UsageError("--policy takes one of several faces, --every-face takes all; give one of them")
    only = pairs_of(filters, "--where")
    with Gallery.open(where, model, detector=detector) as gallery:
        stored = None if threshold is not None else gallery.threshold
        found = _identified(gallery, photos, (threshold, only), policy, every_face)
        people, shown = len(gallery.people()), gallery.store.where
    if as_json:
        calibrated, listed = None if stored is None else stored.to_dict(), [one.to_dict() for one, _ in found]
        emit({"task": "identify", "gallery": shown, "calibrated": calibrated, "people": people, "photos": listed})
    else:
        show("\n".join(line for _, lines in found for line in lines))
    if stored is not None and people > stored.people:
        say(
            f"the threshold was chosen among {stored.people:,} people, now there are {people:,}: strangers are taken "
            "for somebody more often; calibrate again"
        )
    leave_unless_some([one for one, _ in found])


for name, command in (
    ("list", keeping.list_people),
    ("delete", keeping.delete),
    ("export", keeping.export),
    ("import", keeping.import_),
    ("stats", keeping.stats),
    ("calibrate", keeping.calibrate),
    ("reembed", keeping.reembed),
):
    app.command(name)(command)


def _identified(
    gallery: Gallery,
    paths: Sequence[Path],
    asked: tuple[float | None, dict[str, str]],
    policy: Policy | None,
    every_face: bool,
) -> list[tuple[Identified | PeopleFound, list[str]]]:
    """Who is on each photo, and how it is told; asked: the threshold, and what entries must have as metadata."""
    from facewright.gallery.photos import Photo

    photos, (threshold, only) = [Photo.of(path) for path in paths], asked
    if every_face:
        all_of_them = [gallery.people_in(photo, threshold=threshold, where=only) for photo in photos]
        return [(one, everybody(one)) for one in all_of_them]
    chosen = gallery.recognizer.policy(name_of(policy))
    return [(one, answer(one)) for one in gallery.identify(photos, threshold=threshold, where=only, policy=chosen)]


def pairs_of(words: Sequence[str] | None, option: str) -> dict[str, str]:
    """What was given as KEY=VALUE.

    >>> pairs_of(["team=a", "note=x=y"], "--meta")
    {'team': 'a', 'note': 'x=y'}
    """
    pairs: dict[str, str] = {}
    for word in words or ():
        key, sign, value = word.partition("=")
        if not key or not sign or key in pairs:
            raise UsageError(f"expected {option} KEY=VALUE, each key once, got {word!r}")
        pairs[key] = value
    return pairs


def leave_unless_some(found: Sequence[Found | Identified | PeopleFound]) -> None:
    """Exit with 1 where not one photo could be used."""
    if found and all(one.error is not None for one in found):
        raise typer.Exit(1)
