"""`facewright models`, `models import|default`: the architectures, the layers of one, an ONNX network as a model."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facewright.cli import options as opt
from facewright.cli.output import check_writable, emit, report, say, show, table
from facewright.cli.progress import with_progress
from facewright.cli.weights import facts, in_columns, in_full
from facewright.errors import UsageError
from facewright.files import write_atomic

if TYPE_CHECKING:
    from facewright.models.blocks import Model
    from facewright.models.summary import ModelSummary


CLASSES = 1000  # of the published networks, whose counts these are


def models(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="One architecture. Default: list all.")] = None,
    size: Annotated[
        int | None, typer.Option(min=8, max=opt.MAX_SIDE, help="Side of the images, px. Default: the paper's.")
    ] = None,
    stem: Annotated[str, typer.Option(help="coarse, imagenet, medium, small, or auto (by the size).")] = "auto",
    every: Annotated[bool, typer.Option("--all", help="Show every layer instead of every block.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Draw the architecture to this SVG file.")] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="List all as a Markdown table, counted from the networks.")
    ] = False,
    as_json: opt.Json = False,
) -> None:
    """List the architectures, or show one: its layers, costs and pretrained weights.

    \b
    Example:
      facewright models
      facewright models resnet50 --size 112 --plot resnet50.svg
    """
    if markdown and (name is not None or as_json):
        raise UsageError("--markdown lists every architecture; it takes no NAME and no --json")
    if name is not None:
        _one(name, size, stem, every=every, plot=plot, as_json=as_json)
    elif size is None and plot is None and not every:
        _markdown() if markdown else _list(as_json)
    else:
        raise UsageError("--size, --plot and --all need the NAME of an architecture")


def _list(as_json: bool) -> None:
    from facewright.models import catalog
    from facewright.models.released import released

    known = [catalog.describe(name) for name in catalog.names()]
    if as_json:
        emit({"models": [asdict(row) | {"weights": [facts(entry) for entry in released(row.name)]} for row in known]})
        return
    columns = {
        "model": [row.name for row in known],
        "family": [row.family for row in known],
        "parameters": [f"{row.parameters:,}" for row in known],
        "GFLOPs": [f"{row.flops / 1e9:.2f}" for row in known],
        "at px": [str(row.native_size) for row in known],
        "weights": [", ".join(entry.name for entry in released(row.name)) or "-" for row in known],
        "paper": [row.paper for row in known],
    }
    show(in_columns(columns, words=("family", "weights", "paper")))
    say(
        "With 1,000 classes; one multiply-add is 2 FLOPs. `facewright models NAME` shows the layers and weights of one;"
        " NAME@WEIGHTS is a model initialized from them."
    )


def _markdown() -> None:
    import torch

    from facewright.models import catalog
    from facewright.models.released import released
    from facewright.models.weight_matching import published_stem

    lines = ["| model | parameters | published | by | GFLOPs | at px | weights |", "|---|--:|--:|---|--:|--:|---|"]
    for row in (catalog.describe(name) for name in catalog.names()):
        with torch.device("meta"):
            model = catalog.create_model(row.name, CLASSES, stem=published_stem(row.name))
        counted = sum(parameter.numel() for parameter in model.parameters())
        scores = "; ".join(f"{entry.name}: {entry.published}, {entry.licence}" for entry in released(row.name))
        lines.append(
            f"| {row.name} | {counted:,} | {row.parameters:,} | {row.source} | {row.flops / 1e9:.2f} |"
            f" {row.native_size} | {scores} |"
        )
    show("\n".join(lines))


def _one(name: str, size: int | None, stem: str, *, every: bool, plot: Path | None, as_json: bool) -> None:
    check_writable(plot)

    import torch

    from facewright.models import catalog, summary
    from facewright.models.released import released
    from facewright.report.drawing import draw_architecture

    side = catalog.describe(name).native_size if size is None else size
    resolved = catalog.resolve_stem(name, side, stem)
    with torch.device("meta"):  # shapes are all that is needed
        model = catalog.create_model(name, CLASSES, input_size=side, stem=resolved)
    layers = summary.summarize(model, side)
    if plot is not None:
        write_atomic(plot, draw_architecture(model, name, side))
        say(f"wrote {plot}")
    if as_json:
        listed = [asdict(row) for row in layers.rows]
        totals = {"parameters": layers.parameters, "flops": layers.flops}
        weights = {"weights": [facts(entry) for entry in released(name)]}
        emit({"name": name, "size": side, "stem": resolved, "classes": CLASSES, **totals, "layers": listed} | weights)
        return
    rows = [(row.name, row.kind, _shape(row.output_shape), row.parameters, row.flops) for row in layers.rows]
    show(_layer_table(rows if every else _by_block(model, layers), layers))
    for entry in released(name):
        show(f"\n{in_full(entry)}")
    say(f"{name} at {side} px with the {resolved} stem and {CLASSES:,} classes; a multiply-add is 2 FLOPs.")


def _by_block(model: Model, layers: ModelSummary) -> list[tuple[str, str, str, int, int]]:
    from facewright.models.summary import by_block, group_repeats

    return [
        (
            f"{row.name} ×{n}" if n > 1 else row.name,
            row.kind,
            _shape(row.output_shape),
            row.parameters * n,
            row.flops * n,
        )
        for row, n in group_repeats(by_block(model, layers))
    ]


def _layer_table(rows: list[tuple[str, str, str, int, int]], layers: ModelSummary) -> str:
    cells = [
        (name, kind, shape, f"{parameters:,}", f"{flops / 1e6:,.1f}") for name, kind, shape, parameters, flops in rows
    ]
    total = ("total", "", "", f"{layers.parameters:,}", f"{layers.flops / 1e6:,.1f}")
    return table(("layer", "kind", "output C×H×W", "parameters", "MFLOPs"), [*cells, total])


def _shape(shape: tuple[int, ...]) -> str:
    """Return a shape as text.

    >>> _shape((64, 56, 56))
    '64×56×56'
    """
    return "×".join(str(length) for length in shape)


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE.onnx", help="A face recognition network as ONNX.")],
    name: Annotated[str, typer.Option(help="The model file to write, NAME.onnx.")],
    template: Annotated[
        str, typer.Option(help="Aligned crops: arcface, ffhq, mtcnn, dlib, box:MARGIN or x1,y1,…,x5,y5 in px.")
    ] = "arcface",
    size: Annotated[int, typer.Option(min=8, max=opt.MAX_SIDE, help="Side of its input, px.")] = 112,
    mean: Annotated[str | None, typer.Option(help="Subtracted from pixels in 0..255: a number, or three.")] = None,
    std: Annotated[str | None, typer.Option(help="Pixels are then divided by this: a number, or three.")] = None,
    colour: Annotated[opt.ColourOrder | None, typer.Option(help="Order of the channels.")] = None,
    flip: Annotated[
        bool | None,
        typer.Option("--flip/--no-flip", help="Add the vector of the mirror image. Default: no; tried with --pairs."),
    ] = None,
    output: Annotated[str | None, typer.Option(help="Output with the embedding, where there are several.")] = None,
    licence: Annotated[str | None, typer.Option(help="Licence of the weights.")] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(
            help="Labelled pairs, or a folder a person, to find mean, std and colour; at most 200 photos are used."
        ),
    ] = None,
    photos: Annotated[Path | None, typer.Option("--images", help="Folder of the pairs' photos.")] = None,
    detector: Annotated[str, typer.Option(help="Face detector for those photos.")] = "dlib",
    device: opt.Device = None,
    quiet: opt.Quiet = False,
    as_json: opt.Json = False,
) -> None:
    """Import an ONNX face recognizer: from then on it is a model like any other.

    \b
    Example:
      facewright models import w600k.onnx --name w600k --mean 127.5 --std 127.5 --colour rgb
      facewright models import unknown.onnx --name mine --pairs pairs.csv --images lfw/
    """
    from facewright.workflows.model_import import import_model

    imported = with_progress(import_model, quiet)(
        file, name if name.lower().endswith(".onnx") else f"{name}.onnx", template=template, size=size,
        mean=_numbers("--mean", mean), std=_numbers("--std", std), colour=colour, flip=flip, output=output,
        licence=licence, pairs=pairs, photos=photos, detector=detector, device=device,
    )  # fmt: skip
    rows = [(row.colour, row.scaling, "yes" if row.flip else "no", f"{row.auc:.4f}", f"{row.separation:.2f}",
             "chosen" if row.chosen else "") for row in imported.trials]  # fmt: skip
    lines = [table(("colour", "scaling", "flip", "AUC", "separation", ""), rows)] if rows else []
    lines.append(f"wrote {imported.path}: {imported.width} numbers, {imported.template} crops, {imported.fingerprint}")
    report(imported.to_dict(), "\n".join(lines), as_json)


def default(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="A model, a detector, or built-in.")] = None,
    as_json: opt.Json = False,
) -> None:
    """Set the default model or detector; without NAME, show them.

    A name of `facewright weights list`, a model file, a run, or a detector. built-in resets both.

    \b
    Example:
      facewright models default sface
      facewright models default yunet
      facewright models default built-in
    """
    from facewright.models.face_weights import accepted, face_weights
    from facewright.recognition.networks import read_defaults, set_default

    chosen = read_defaults() if name is None else set_default(name)
    lines = [f"model {chosen.model}; detector {chosen.detector or 'of the model'}"]
    for row in filter(None, map(face_weights, (chosen.model, chosen.detector or ""))):
        state = "" if not row.asks else ", accepted" if row.name in accepted() else ", not accepted yet"
        lines.append(f"{row.name}: licence {row.licence}{state}; training data {row.data}")
    report(chosen.to_dict(), "\n".join(lines), as_json)


def _numbers(option: str, text: str | None) -> tuple[float, float, float] | None:
    if text is None:
        return None
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in (1, 3):
        raise UsageError(f"expected {option} as one number or three, got {text!r}")
    red, green, blue = values * 3 if len(values) == 1 else values
    return red, green, blue
