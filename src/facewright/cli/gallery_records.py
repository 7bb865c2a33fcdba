"""`facewright gallery list|delete|export|import|stats|calibrate|reembed`: the entries of a gallery."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facewright.cli import options as opt
from facewright.cli.output import check_writable, emit, number_of, percent, report, say, show, table
from facewright.errors import UsageError

if TYPE_CHECKING:
    from facewright.gallery.gallery import Gallery
    from facewright.gallery.results import GalleryStats
    from facewright.metrics.thresholds import Threshold

MAX_DAYS = 36_500

app = typer.Typer()


def opened(
    address: str, model: str | None = None, *, detector: str | None = None, device: str | None = None
) -> Gallery:
    """Open a gallery; its library is loaded now."""
    from facewright.gallery.gallery import Gallery

    return Gallery.open(address, model, detector=detector, device=device)


@app.command("list")
def list_people(
    gallery_at: opt.GalleryAt,
    people: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME...]", help="Show these people's entries.")
    ] = None,
    as_json: opt.Json = False,
) -> None:
    """List the people, or the entries of some.

    \b
    Example:
      facewright gallery list -g people.gallery Ann
    """
    with opened(gallery_at) as gallery:
        counts, shown = gallery.people(), gallery.store.location
        rows = list(gallery.store.rows(gallery.resolve(people))) if people else []
    if as_json:
        listed = [
            {"number": r.number, "person": r.entry.person, "photo": r.entry.photo}
            | {"metadata": dict(r.entry.metadata), "crop": r.has_crop}
            for r in rows
        ]
        emit({"task": "list", "gallery": shown, "people": counts} | ({"entries": listed} if people else {}))
    elif people:
        show("\n".join(f"{r.entry.person}  entry {r.number}  {r.entry.photo}{tags(r.entry.metadata)}" for r in rows))
    elif counts:
        show(table(["person", "photos"], [[name, f"{n:,}"] for name, n in counts.items()]))
    else:
        show("the gallery is empty")


@app.command("delete")
def delete(
    gallery_at: opt.GalleryAt,
    people: Annotated[list[str] | None, typer.Argument(metavar="[NAME...]", help="People to delete.")] = None,
    entries: Annotated[
        list[int] | None,
        typer.Option("--entry", min=1, max=opt.MAX_SEED, help="An entry, by its number in `list NAME`. Repeatable."),
    ] = None,
    as_json: opt.Json = False,
) -> None:
    """Delete people: every byte of their vectors and face crops leaves the files.

    Where the role on a database server cannot erase some of them, the command says so.

    \b
    Example:
      facewright gallery delete -g people.gallery Ann
    """
    if not people and not entries:
        raise UsageError("nothing to delete: give names, or --entry NUMBER")
    with opened(gallery_at) as gallery:
        count = gallery.delete(people or (), entries or ())
    _report_change("delete", gallery, count, f"deleted {_entries(count)} from {gallery.store.location}", as_json)


@app.command("rename")
def rename(
    gallery_at: opt.GalleryAt,
    person: Annotated[str, typer.Argument(metavar="NAME", help="An enrolled person.")],
    name: Annotated[str, typer.Argument(metavar="NEW", help="The new name.")],
    as_json: opt.Json = False,
) -> None:
    """Rename a person; the old name leaves the files.

    \b
    Example:
      facewright gallery rename -g people.gallery Ann "Ann Archer"
    """
    with opened(gallery_at) as gallery:
        count = gallery.rename(person, name)
    _report_change("rename", gallery, count, f"renamed {person} to {name}: {_entries(count)}", as_json)


@app.command("merge")
def merge(
    gallery_at: opt.GalleryAt,
    people: Annotated[list[str], typer.Argument(metavar="NAME...", help="People who are one person.")],
    into: Annotated[str, typer.Option(help="The enrolled person who gets their entries.")],
    as_json: opt.Json = False,
) -> None:
    """Merge people who are one person.

    \b
    Example:
      facewright gallery merge -g people.gallery Anne Annie --into Ann
    """
    with opened(gallery_at) as gallery:
        count = gallery.merge(people, into)
    _report_change("merge", gallery, count, f"merged {', '.join(people)} into {into}: {_entries(count)}", as_json)


@app.command("expire")
def expire(
    gallery_at: opt.GalleryAt,
    older_than: Annotated[str, typer.Option(metavar="DAYS", help="Age of entries, such as 365d.")],
    as_json: opt.Json = False,
) -> None:
    """Delete entries that were enrolled long ago, and every byte of them.

    \b
    Example:
      facewright gallery expire -g people.gallery --older-than 365d
    """
    from datetime import timedelta

    days = older_than.removesuffix("d")
    if not days.isascii() or not days.isdecimal() or not 1 <= int(days[:7]) <= MAX_DAYS or len(days) > 7:
        raise UsageError(f"expected --older-than DAYS such as 365d, 1 to {MAX_DAYS}, got {older_than!r}")
    with opened(gallery_at) as gallery:
        expired = gallery.expire(timedelta(days=int(days)))
    facts = expired.to_dict() | {"remains": gallery.store.remains}
    _report("expire", gallery, facts, f"deleted {_entries(expired.entries)}", as_json)
    if expired.unknown:
        say(f"{_entries(expired.unknown)} stay: version 0.1 did not record when they were enrolled")


@app.command("log")
def log(gallery_at: opt.GalleryAt, as_json: opt.Json = False) -> None:
    """Show the changes of the gallery: time, kind and number of entries.

    It holds no names and nothing biometric.

    \b
    Example:
      facewright gallery log -g people.gallery
    """
    with opened(gallery_at) as gallery:
        records = gallery.store.log()
    rows = [[one.time, one.action, f"{one.entries:,}"] for one in records]
    text = table(["time", "action", "entries"], rows) if rows else "no change is recorded"
    _report("log", gallery, {"changes": [one.to_dict() for one in records]}, text, as_json)


@app.command("export")
def export(
    gallery_at: opt.GalleryAt,
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write, JSON lines.")],
    crops: Annotated[
        bool, typer.Option("--crops/--no-crops", help="Include the face crops that the gallery keeps.")
    ] = True,
    as_json: opt.Json = False,
) -> None:
    """Export the gallery as JSON lines.

    Vectors of faces are biometric data: keep the file as safe as the gallery.

    \b
    Example:
      facewright gallery export -g people.gallery --out people.jsonl
    """
    check_writable(out)
    from facewright.gallery import transfer

    with opened(gallery_at) as gallery:
        count = transfer.export(gallery.store, out, crops=crops)
    _report("export", gallery, {"out": str(out), "entries": count}, f"wrote {_entries(count)} to {out}", as_json)


@app.command("import")
def import_(
    gallery_at: opt.GalleryAt,
    source: Annotated[Path, typer.Argument(metavar="FILE", help="A file of `gallery export`.")],
    as_json: opt.Json = False,
) -> None:
    """Import an exported gallery; the whole file is checked first.

    \b
    Example:
      facewright gallery import -g other.gallery people.jsonl
    """
    from facewright.gallery import shown
    from facewright.workflows import galleries

    result = galleries.import_gallery(gallery_at, source)
    new = number_of(result.new, "photo")
    report(result.to_dict(), f"imported {new} into {shown(gallery_at)}, {result.already:,} already there", as_json)


@app.command("stats")
def stats(gallery_at: opt.GalleryAt, as_json: opt.Json = False) -> None:
    """Verify the whole gallery and show what it holds.

    \b
    Example:
      facewright gallery stats -g people.gallery
    """
    with opened(gallery_at) as gallery:
        found = gallery.stats()
    report(found.to_dict(), _describe_stats(found), as_json)


@app.command("calibrate")
def calibrate(
    gallery_at: opt.GalleryAt,
    fpir: Annotated[float, opt.rate(help="Max. false-positive identification rate (FPIR), in (0, 1).")],
    confidence: Annotated[
        float | None, opt.bounded(low=0.5, high=0.9999, help="Confidence that the FPIR is met. Default: on average.")
    ] = None,
    device: opt.Device = None,
    as_json: opt.Json = False,
) -> None:
    """Choose the gallery's threshold for a match, from its own and impostor scores.

    The FPIR is the share of unknown people who are identified as enrolled ones. With --confidence its upper bound meets
    the target. Ten people, or a model calibrated on pairs, are enough; fewer get a conservative default, which is said.

    \b
    Example:
      facewright gallery calibrate -g people.gallery --fpir 0.01 --confidence 0.9
    """
    with opened(gallery_at, device=device) as gallery:
        chosen = gallery.calibrate(fpir, confidence)
    facts = {"people": chosen.people, "entries": chosen.entries, "threshold": chosen.to_dict()}
    _report("calibrate", gallery, facts, _describe_threshold(chosen), as_json)
    if chosen.poor_value is None:
        say("note: no threshold of its own for blurred and tiny faces; enroll with --keep-crops to get one")
    if chosen.rule.startswith("conservative default"):
        say(f"warning: {chosen.people:,} people are too few to know an FPIR: {chosen.rule}")
    elif chosen.few_people and confidence is None:
        say(
            f"warning: {chosen.people:,} people are few for a rate of {chosen.far_target:g}, however many "
            "photos of each; expect a higher false-positive identification rate, or choose a higher --fpir"
        )


@app.command("reembed")
def reembed(
    gallery_at: opt.GalleryAt,
    model: Annotated[str, typer.Option("--model", "-m", help="The model to move to.")],
    detector: opt.Detector = None,
    crop: opt.Crop = None,
    flip: opt.Flip = None,
    device: opt.Device = None,
    as_json: opt.Json = False,
) -> None:
    """Move the gallery to another model.

    Uses the face crops it keeps (see enroll --keep-crops), so the detector stays the same. The threshold is removed.

    \b
    Example:
      facewright gallery reembed -g people.gallery --model runs/b
    """
    with opened(gallery_at, device=device) as gallery:
        count = gallery.reembed(model, detector=detector, crop=crop, flip=flip)
    text = f"moved {_entries(count)} of {gallery.store.location} to {model}"
    _report("reembed", gallery, {"model": model, "entries": count}, text, as_json)
    say("the gallery has no threshold now; choose one with facewright gallery calibrate")


def _entries(count: int) -> str:
    return f"{count:,} {'entry' if count == 1 else 'entries'}"


def _report(task: str, gallery: Gallery, facts: Mapping[str, object], text: str, as_json: bool) -> None:
    report({"task": task, "gallery": gallery.store.location, **facts}, text, as_json)
    if gallery.store.remains:
        say(f"bytes of what was deleted may remain in {gallery.store.remains}")


def _report_change(task: str, gallery: Gallery, count: int, text: str, as_json: bool) -> None:
    _report(task, gallery, {"entries": count, "remains": gallery.store.remains}, text, as_json)


def tags(metadata: Mapping[str, str]) -> str:
    """Return metadata to append to a line.

    >>> tags({"team": "a"})
    '  team=a'
    """
    return "".join(f"  {key}={value}" for key, value in metadata.items())


def _describe_stats(found: GalleryStats) -> str:
    lines = [
        f"{found.location}: {number_of(found.entries, 'photo')} of {found.people:,} people, verified",
        f"face crops   {found.crops:,}",
        f"model        {found.signature.model}",
        f"fingerprint  {found.signature.fingerprint}, {found.signature.width} numbers, crop {found.signature.crop:g}",
        f"detector     {found.signature.detector}",
    ]
    if found.threshold is None:
        lines.append("threshold    none; choose one with facewright gallery calibrate")
    else:
        lines += _describe_threshold(found.threshold).splitlines()
    return "\n".join([*lines, *(f"advice       {text}" for text in found.advice)])


def _describe_threshold(line: Threshold) -> str:
    target = line.far_target or 0
    lines = [
        f"threshold {line.value:.4f}, for a false-positive identification rate (FPIR) of {100 * target:g} %",
        f"achieved  {percent(line.far)} of searches",
    ]
    if line.far_by_identity is not None:
        lines.append(f"          {percent(line.far_by_identity)} over resampled people")
    if line.tar is not None:
        lines.append(f"finds     {percent(line.tar)} of enrolled photos by other photos of the person")
    if line.poor_value is not None:
        lines.append(
            f"blurred and tiny faces: {line.poor_value:.4f}, on poor copies of {line.poor_searches:,} enrolled faces"
        )
    lines.append(f"chosen on {line.data}; the FPIR rises as the gallery grows")
    lines += [f"most similar people: {one.a} and {one.b} ({one.score:.4f})" for one in line.similar_people]
    return "\n".join(lines)


def default_used(location: str, default: Threshold) -> str:
    """Say that a gallery has no threshold, and which default was used."""
    rate = "the model's own for pairs" if default.purpose != "gallery" else "for a false-positive rate"
    asked = "" if default.far_target is None else f" of {100 * default.far_target:g} %"
    return (
        f"{location}: the gallery has no threshold; used the default {default.value:.4f} ({rate}{asked}, from "
        f"{default.data}). Choose one: facewright gallery calibrate -g {shlex.quote(location)} --fpir 0.01"
    )
