"""`facewright explain`: where in a photo a class was seen, and what made two faces alike."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facewright.cli.output import emit, say, show
from facewright.cli.progress import listener
from facewright.errors import UsageError

if TYPE_CHECKING:
    from facewright.explanation import Explained, ExplainedPair, ExplainedPhoto


class Method(StrEnum):
    """How a heat map is made."""

    GRAD_CAM = "grad-cam"
    GRAD_CAM_PLUS_PLUS = "grad-cam++"
    ROLLOUT = "rollout"


def explain(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="A run folder, its model.safetensors; of a pair also architecture@weights, built-in."
        ),
    ],
    photos: Annotated[list[Path], typer.Argument(metavar="PHOTO...", help="Photos, or folders of photos.")],
    name: Annotated[
        str | None, typer.Option("--class", help="The class to ask about; the predicted one if left out.")
    ] = None,
    method: Annotated[
        Method | None, typer.Option(help="rollout for vision transformers, grad-cam for all else, if left out.")
    ] = None,
    detector: Annotated[
        str | None, typer.Option(help="With --pair, what finds the faces: as `facewright verify`.")
    ] = None,
    pair: Annotated[bool, typer.Option("--pair", help="Two photos: which regions made them alike.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The folder to write; runs/explain-... where left out.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show where in photos the network saw what it says.

    Writes for each photo a picture with its heat map, and a page of all. A photo that cannot be read is named on
    standard error; the exit status is 1 only where none could be.

    \b
    Example:
      facewright explain runs/a someone.jpg
      facewright explain runs/a holiday/ --class Tina_Fey --method grad-cam++ --out why/
      facewright explain built-in a.jpg b.jpg --pair
    """
    if pair:
        refuse_for_pair(photos, name, method)
    elif detector is not None:
        raise UsageError("--detector is for --pair: a classifier sees each photo whole, as it was trained")

    from facewright.explanation import Explained
    from facewright.workflows import explanation
    from facewright.workflows.training_runs import free_folder

    folder = free_folder("explain") if out is None else out
    with listener(quiet) as on_event:
        found: Explained | ExplainedPair
        if pair:
            found = explanation.explain_pair(
                model, photos[0], photos[1], detector=detector, out=folder, on_event=on_event
            )
        else:
            how = None if method is None else method.value
            found = explanation.explain(Path(model), photos, name=name, method=how, out=folder, on_event=on_event)
    broken = [photo for photo in found.photos if photo.error is not None] if isinstance(found, Explained) else []
    for photo in broken:
        say(f"error: {photo.path}: {photo.error}")
    if as_json:
        emit(found.to_dict())
    else:
        show(describe_explained(found) if isinstance(found, Explained) else describe_pair(found))
    say(f"wrote {found.page}")
    if broken and len(broken) == len(found.photos):
        raise typer.Exit(1)


def refuse_for_pair(photos: list[Path], name: str | None, method: Method | None) -> None:
    """Of a pair there is no class and one method.

    Raises:
        UsageError: other than two photos, or an option that means nothing for a pair.
    """
    if len(photos) != 2:
        raise UsageError(f"--pair compares two photos, not {len(photos)}")
    if name is not None or method is not None:
        raise UsageError("--pair covers regions of two photos in turn: leave out --class and --method")


def describe_explained(found: Explained) -> str:
    """A line a photo: the class, its probability, the picture that was written."""
    return "\n".join(map(describe_photo, (photo for photo in found.photos if photo.error is None)))


def describe_photo(photo: ExplainedPhoto) -> str:
    """What was asked about, and where it was seen."""
    asked = f"{photo.name} {100 * photo.probability:.1f} %"
    asked += f" (the model says {photo.predicted})" if photo.predicted != photo.name else ""
    where = "" if photo.peak is not None else "; no region speaks for it"
    return f"{photo.path}: {asked}{where} -> {photo.overlay}"


def describe_pair(found: ExplainedPair) -> str:
    """The answer, where there is one, the similarity, and how much of it hangs on one region."""
    lines = [f"similarity {found.found.score:.4f}, falls by {found.found.drop:.4f} at most when a region is covered"]
    if found.same is not None and found.threshold is not None:
        answer = "the same person" if found.same else "two people"
        lines.insert(0, f"{answer} (threshold {found.threshold:.4f})")
    return "\n".join([*lines, *(f"{a} -> {b}" for a, b in zip(found.paths, found.overlays, strict=True))])
