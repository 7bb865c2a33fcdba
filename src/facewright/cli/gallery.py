"""`facewright gallery`: enrol people, find them again, say who somebody is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facewright.cli.gallery_words import answer, describe_stats, describe_threshold, described, everybody, tags
from facewright.cli.output import emit, number_of, place_for, say, show, table
from facewright.cli.progress import listener
from facewright.cli.recognition import DetectorOption, Policy, PolicyOption, name_of
from facewright.errors import UsageError

if TYPE_CHECKING:
    from facewright.gallery.gallery import Gallery
    from facewright.gallery.results import Found, Identified, PeopleFound

app = typer.Typer(
    no_args_is_help=True, help="Enrol people, find them again, say who somebody is or that he is unknown."
)

Where = Annotated[
    str,
    typer.Option("--gallery", "-g", metavar="FILE|URL", help="The gallery: one file, or a PostgreSQL address."),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="A run folder, a bundle, architecture@weights or built-in; the gallery's if left out, or built-in.",
    ),
]
Crop = Annotated[
    float | None,
    typer.Option("--crop", help="Share of both sides of a photo to keep, centred; as the model."),
]
Flip = Annotated[bool | None, typer.Option("--flip/--no-flip", help="Average with the mirror image; as the model.")]
Photos = Annotated[list[Path], typer.Argument(metavar="PHOTO...", help="Photos of faces.")]
People = Annotated[int, typer.Option("--top", "-k", min=1, help="How many people to tell of.")]
Filter = Annotated[
    list[str] | None, typer.Option("--where", metavar="KEY=VALUE", help="Only entries with this; may be repeated.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
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
    with opened as gallery, listener(quiet) as listen:
        found = galleries.enroll(
            gallery, who, metadata=metadata, keep_crops=keep_crops, policy=chosen, listen=listen
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


@app.command("list")
def list_people(
    where: Where,
    people: Annotated[list[str] | None, typer.Argument(metavar="[NAME...]", help="These people's entries.")] = None,
    as_json: Json = False,
) -> None:
    """List the people, or the entries of some.

    \b
    Example:
      facewright gallery list -g people.gallery Ann
    """
    from facewright.gallery.gallery import Gallery

    with Gallery.open(where) as gallery:
        counts, shown = gallery.people(), gallery.store.where
        rows = list(gallery.store.rows(people)) if people else []
    missing = [repr(name) for name in people or () if name not in counts]
    if missing:
        raise UsageError(f"{shown}: not enrolled: {', '.join(missing)}")
    if as_json:
        listed = [
            {"number": r.number, "person": r.entry.person, "photo": r.entry.photo}
            | {"metadata": dict(r.entry.metadata), "crop": r.has_crop}
            for r in rows
        ]
        emit({"task": "list", "gallery": shown, "people": counts} | ({"entries": listed} if people else {}))
    elif people:
        show("\n".join(f"{r.entry.person}  entry {r.number}  {r.entry.photo}{tags(r.entry.metadata)}" for r in rows))
    else:
        show(table(["person", "photos"], [[name, f"{n:,}"] for name, n in counts.items()]) if counts else "nobody")


@app.command("delete")
def delete(
    where: Where,
    people: Annotated[list[str] | None, typer.Argument(metavar="[NAME...]", help="People to forget.")] = None,
    entries: Annotated[
        list[int] | None, typer.Option("--entry", help="One entry, by its number in `list NAME`; may be repeated.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Forget people: every byte of their vectors and faces leaves the files.

    Where a server's role cannot reach some of them, that is said.

    \b
    Example:
      facewright gallery delete -g people.gallery Ann
    """
    from facewright.gallery.gallery import Gallery

    if not people and not entries:
        raise UsageError("nobody to delete: give names, or --entry NUMBER")
    with Gallery.open(where) as gallery:
        count = gallery.delete(people or (), entries or ())
    if as_json:
        emit({"task": "delete", "gallery": gallery.store.where, "entries": count, "remains": gallery.store.remains})
    else:
        show(f"deleted {count:,} {'entry' if count == 1 else 'entries'} from {gallery.store.where}")
    say_what_remains(gallery.store.remains)


@app.command("export")
def export(
    where: Where,
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write, JSON lines.")],
    crops: Annotated[bool, typer.Option("--crops/--no-crops", help="With the faces, where they are kept.")] = True,
    as_json: Json = False,
) -> None:
    """Write the gallery as JSON lines.

    Vectors of faces are biometric: keep the file as safe as the gallery.

    \b
    Example:
      facewright gallery export -g people.gallery --out people.jsonl
    """
    place_for(out)
    from facewright.gallery import transfer
    from facewright.gallery.gallery import Gallery

    with Gallery.open(where) as gallery:
        count = transfer.export(gallery.store, out, crops=crops)
    if as_json:
        emit({"task": "export", "gallery": gallery.store.where, "out": str(out), "entries": count})
    else:
        show(f"wrote {count:,} {'entry' if count == 1 else 'entries'} to {out}")


@app.command("import")
def import_(
    where: Where,
    source: Annotated[Path, typer.Argument(metavar="FILE", help="What `gallery export` wrote.")],
    as_json: Json = False,
) -> None:
    """Take in an exported gallery; all of it is checked first.

    \b
    Example:
      facewright gallery import -g other.gallery people.jsonl
    """
    from facewright.gallery.opening import shown
    from facewright.workflows import galleries

    found = galleries.import_gallery(where, source)
    if as_json:
        emit(found.to_dict())
    else:
        show(f"took {number_of(found.new, 'photo')} into {shown(where)}, {found.already:,} were there already")


@app.command("stats")
def stats(where: Where, as_json: Json = False) -> None:
    """Verify the whole gallery and say what is in it.

    \b
    Example:
      facewright gallery stats -g people.gallery
    """
    from facewright.gallery.gallery import Gallery

    with Gallery.open(where) as gallery:
        found = gallery.stats()
    if as_json:
        emit(found.to_dict())
    else:
        show(describe_stats(found))


@app.command("calibrate")
def calibrate(
    where: Where,
    fpir: Annotated[
        float, typer.Option("--fpir", help="The share of strangers that may be taken for somebody, in (0, 1).")
    ],
    as_json: Json = False,
) -> None:
    """Choose, from the enrolled themselves, when somebody is unknown.

    Each enrolled photo is looked up among the other people. A rate that the photos are too few to resolve is refused.

    \b
    Example:
      facewright gallery calibrate -g people.gallery --fpir 0.01
    """
    from facewright.gallery.gallery import Gallery

    with Gallery.open(where) as gallery:
        chosen = gallery.calibrate(fpir)
    if as_json:
        emit({"task": "calibrate", "gallery": gallery.store.where} | chosen.to_dict())
    else:
        show(describe_threshold(chosen))
    if chosen.few_people:
        say(
            f"warning: {chosen.people:,} people say little about a rate of {chosen.threshold.far_target:g}, "
            "however many photos of each; expect more strangers to be taken for somebody, or ask for a higher rate"
        )


@app.command("reembed")
def reembed(
    where: Where,
    model: Annotated[str, typer.Option("--model", "-m", help="The model to move to.")],
    detector: DetectorOption = None,
    crop: Crop = None,
    flip: Flip = None,
    as_json: Json = False,
) -> None:
    """Move the gallery to another model.

    From the faces it keeps (see enroll --keep-crops), so the detector stays, and what is cut out. The threshold goes.

    \b
    Example:
      facewright gallery reembed -g people.gallery --model runs/b
    """
    from facewright.gallery.gallery import Gallery

    with Gallery.open(where) as gallery:
        count = gallery.reembed(model, detector=detector, crop=crop, flip=flip)
    if as_json:
        emit({"task": "reembed", "gallery": gallery.store.where, "model": model, "entries": count})
    else:
        show(f"moved {count:,} {'entry' if count == 1 else 'entries'} of {gallery.store.where} to {model}")
    say_what_remains(gallery.store.remains)
    say("it has no threshold now; choose one with facewright gallery calibrate")


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


def say_what_remains(places: str) -> None:
    """Tell where a deletion did not reach."""
    if places:
        say(f"bytes of what was deleted may remain in {places}")


def leave_unless_some(found: Sequence[Found | Identified | PeopleFound]) -> None:
    """Exit with 1 where not one photo could be used."""
    if found and all(one.error is not None for one in found):
        raise typer.Exit(1)
