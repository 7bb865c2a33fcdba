"""`facewright cluster`: sort photos by person."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from facewright.cli import options as opt
from facewright.cli.output import number_of, report, say, table
from facewright.cli.progress import event_printer
from facewright.errors import UsageError


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
    min_face: Annotated[
        float, opt.bounded("--min-face", low=20, high=10_000, help="Side of the smallest face, in pixels.")
    ] = 40,
    threshold: Annotated[
        float | None,
        opt.bounded("--threshold", low=-1, high=1, help="Average similarity within a person. Default: from the model."),
    ] = None,
    merge: Annotated[
        list[str] | None, typer.Option("--merge", metavar="NAME,NAME", help="Merge these people into one. Repeatable.")
    ] = None,
    split: Annotated[
        list[str] | None, typer.Option("--split", metavar="KEY", help="Take this face out of its person. Repeatable.")
    ] = None,
    name: Annotated[
        list[str] | None, typer.Option("--name", metavar="NAME=NEW", help="Name a person. Repeatable.")
    ] = None,
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
    with event_printer(quiet) as on_event:
        result = clusters.cluster_photos(
            photos or (),
            out,
            model=model,
            detector=detector,
            smallest=min_face,
            threshold=threshold,
            device=device,
            on_event=on_event,
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
