"""`facewright gallery list|delete|export|import|stats|calibrate|reembed`: what is in it, kept, moved, forgotten."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from facewright.cli.gallery_options import Crop, Flip, Json, Where
from facewright.cli.gallery_words import describe_stats, describe_threshold, tags
from facewright.cli.output import emit, number_of, place_for, say, show, table
from facewright.cli.recognition import DetectorOption
from facewright.errors import UsageError


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


def say_what_remains(places: str) -> None:
    """Tell where a deletion did not reach."""
    if places:
        say(f"bytes of what was deleted may remain in {places}")
