"""`facewright explain`: which image regions support a class, or a match of two faces."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from facewright.cli import options as opt
from facewright.cli.output import report, say, say_errors
from facewright.cli.progress import event_printer
from facewright.errors import UsageError

if TYPE_CHECKING:
    from facewright.explanation.results import Explained, ExplainedPair


Method = Literal["grad-cam", "grad-cam++", "rollout"]


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
    if pair and len(photos) != 2:
        raise UsageError(f"--pair needs two photos, got {len(photos)}")
    if pair and (name is not None or method is not None):
        raise UsageError("--pair has no class and one method: remove --class and --method")

    from facewright.explanation.results import Explained
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
            found = explanation.explain(
                Path(model),
                photos,
                name=name,
                method=method,
                detector=detector,
                out=folder,
                device=device,
                on_event=on_event,
            )
    broken = [photo for photo in found.photos if photo.error is not None] if isinstance(found, Explained) else []
    say_errors(broken)
    text = describe_explained(found) if isinstance(found, Explained) else describe_pair(found)
    report(found.to_dict(), text, as_json)
    say(f"wrote {found.page}")
    if broken and len(broken) == len(found.photos):
        raise typer.Exit(1)


def describe_explained(found: Explained) -> str:
    """Return a line for each photo: the class, its probability, the file that shows its regions."""
    lines = []
    for photo in (photo for photo in found.photos if photo.error is None):
        text = f"{photo.name} {100 * photo.probability:.1f} %"
        text += f" (predicted: {photo.predicted})" if photo.predicted != photo.name else ""
        text += "" if photo.peak is not None else "; no region supports it"
        lines.append(f"{photo.path}: {text} -> {photo.overlay}")
    return "\n".join(lines)


def describe_pair(found: ExplainedPair) -> str:
    """Return the decision, if there is one, the similarity, and its largest drop when a region is covered."""
    lines = [
        f"similarity {found.occlusion.score:.4f}, falls by {found.occlusion.drop:.4f} at most when a region is covered"
    ]
    if found.same is not None and found.threshold is not None:
        lines.insert(0, f"{'match' if found.same else 'no match'} (threshold {found.threshold:.4f})")
    return "\n".join([*lines, *(f"{a} -> {b}" for a, b in zip(found.paths, found.overlays, strict=True))])
