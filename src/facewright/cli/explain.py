"""`facewright explain`: which image regions support a class, or a match of two faces."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facewright.cli import options as opt
from facewright.cli.output import report, say
from facewright.cli.progress import event_printer
from facewright.errors import UsageError

if TYPE_CHECKING:
    from facewright.explanation import Explained, ExplainedPair, ExplainedPhoto


class Method(StrEnum):
    """Method of a heat map."""

    GRAD_CAM = "grad-cam"
    GRAD_CAM_PLUS_PLUS = "grad-cam++"
    ROLLOUT = "rollout"


def explain(
    model: opt.Model,
    photos: opt.Photos,
    name: Annotated[str | None, typer.Option("--class", help="Class to explain. Default: the predicted one.")] = None,
    method: Annotated[
        Method | None, typer.Option(help="Default: rollout for vision transformers, grad-cam for all others.")
    ] = None,
    detector: opt.Detector = None,
    pair: Annotated[
        bool, typer.Option("--pair", help="Show which regions of two photos contribute to their similarity.")
    ] = False,
    out: opt.Out = None,
    device: opt.Device = None,
    quiet: opt.Quiet = False,
    as_json: opt.Json = False,
) -> None:
    """Show which image regions a prediction depends on.

    Writes each photo with its heat map, and a page of all. A photo that cannot be read is named on standard error; the
    exit status is 1 if none could be read. --detector: for --pair as in `facewright verify`, else as in `predict`.

    \b
    Example:
      facewright explain runs/a someone.jpg
      facewright explain runs/a holiday/ --class Tina_Fey --method grad-cam++ --out why/
      facewright explain built-in a.jpg b.jpg --pair
    """
    if pair:
        check_pair(photos, name, method)

    from facewright.explanation import Explained
    from facewright.workflows import explanation
    from facewright.workflows.training_requests import free_folder

    folder = free_folder("explain") if out is None else out
    with event_printer(quiet) as on_event:
        found: Explained | ExplainedPair
        if pair:
            found = explanation.explain_pair(
                model, photos[0], photos[1], detector=detector, out=folder, device=device, on_event=on_event
            )
        else:
            how = None if method is None else method.value
            found = explanation.explain(
                Path(model),
                photos,
                name=name,
                method=how,
                detector=detector,
                out=folder,
                device=device,
                on_event=on_event,
            )
    broken = [photo for photo in found.photos if photo.error is not None] if isinstance(found, Explained) else []
    for photo in broken:
        say(f"error: {photo.path}: {photo.error}")
    report(
        found.to_dict(), describe_explained(found) if isinstance(found, Explained) else describe_pair(found), as_json
    )
    say(f"wrote {found.page}")
    if broken and len(broken) == len(found.photos):
        raise typer.Exit(1)


def check_pair(photos: list[Path], name: str | None, method: Method | None) -> None:
    """Refuse options that do not go with --pair.

    Raises:
        UsageError: other than two photos, or a class or method.
    """
    if len(photos) != 2:
        raise UsageError(f"--pair needs two photos, got {len(photos)}")
    if name is not None or method is not None:
        raise UsageError("--pair has no class and one method: remove --class and --method")


def describe_explained(found: Explained) -> str:
    """Return a line for each photo: the class, its probability, the file that was written."""
    return "\n".join(map(describe_photo, (photo for photo in found.photos if photo.error is None)))


def describe_photo(photo: ExplainedPhoto) -> str:
    """Return the explained class, and the file that shows its regions."""
    text = f"{photo.name} {100 * photo.probability:.1f} %"
    text += f" (predicted: {photo.predicted})" if photo.predicted != photo.name else ""
    text += "" if photo.peak is not None else "; no region supports it"
    return f"{photo.path}: {text} -> {photo.overlay}"


def describe_pair(found: ExplainedPair) -> str:
    """Return the decision, if there is one, the similarity, and its largest drop when a region is covered."""
    lines = [
        f"similarity {found.occlusion.score:.4f}, falls by {found.occlusion.drop:.4f} at most when a region is covered"
    ]
    if found.same is not None and found.threshold is not None:
        lines.insert(0, f"{'match' if found.same else 'no match'} (threshold {found.threshold:.4f})")
    return "\n".join([*lines, *(f"{a} -> {b}" for a, b in zip(found.paths, found.overlays, strict=True))])
