"""`facewright models`: the zoo, and the layers of one architecture."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facewright.cli.output import emit, place_for, say, show, table
from facewright.errors import UsageError
from facewright.files import write_atomic

if TYPE_CHECKING:
    from facewright.models.anatomy import Anatomy
    from facewright.models.families import Model

CLASSES = 1000  # of the published networks, whose counts these are


def models(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="One architecture; else all are listed.")] = None,
    size: Annotated[int | None, typer.Option(help="Side of the pictures, px; default: the paper's.")] = None,
    stem: Annotated[str, typer.Option(help="coarse, imagenet, medium, small, or auto: by the size.")] = "auto",
    every: Annotated[bool, typer.Option("--all", help="Every layer instead of every block.")] = False,
    plot: Annotated[Path | None, typer.Option("--plot", help="Draw the architecture to this SVG file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """List the architectures, or show one: shapes, parameters, FLOPs, and a drawing.

    \b
    Example:
      facewright models
      facewright models resnet50 --size 112 --plot resnet50.svg
    """
    if name is not None:
        _one(name, size, stem, every=every, plot=plot, as_json=as_json)
    elif size is None and plot is None and not every:
        _list(as_json)
    else:
        raise UsageError("--size, --plot and --all need the NAME of an architecture")


def _list(as_json: bool) -> None:
    from facewright.models import catalog

    facts = [catalog.describe(name) for name in catalog.names()]
    if as_json:
        emit({"models": [asdict(row) for row in facts]})
        return
    header = ("model", "family", "parameters", "GFLOPs", "at px", "paper")
    lines = [
        (row.name, row.family, f"{row.parameters:,}", f"{row.flops / 1e9:.2f}", str(row.native_size), row.paper)
        for row in facts
    ]
    show(table(header, lines))
    say("With 1,000 classes; a multiply-add is 2 FLOPs. `facewright models NAME` shows the layers of one.")


def _one(name: str, size: int | None, stem: str, *, every: bool, plot: Path | None, as_json: bool) -> None:
    place_for(plot)

    import torch

    from facewright.models import anatomy, catalog
    from facewright.report.drawing import draw_architecture

    side = catalog.describe(name).native_size if size is None else size
    resolved = catalog.resolve_stem(name, side, stem)
    with torch.device("meta"):  # shapes are all that is needed
        model = catalog.create_model(name, CLASSES, input_size=side, stem=resolved)
    layers = anatomy.summarise(model, side)
    if plot is not None:
        write_atomic(plot, draw_architecture(model, name, side))
        say(f"wrote {plot}")
    if as_json:
        rows = [asdict(row) for row in layers.rows]
        totals = {"parameters": layers.parameters, "flops": layers.flops}
        emit({"name": name, "size": side, "stem": resolved, "classes": CLASSES, **totals, "layers": rows})
        return
    show(_by_layer(layers) if every else _by_block(model, layers))
    say(f"{name} at {side} px with the {resolved} stem and {CLASSES:,} classes; a multiply-add is 2 FLOPs.")


def _by_layer(layers: Anatomy) -> str:
    rows = [(row.name, row.kind, _shape(row.output_shape), row.parameters, row.flops) for row in layers.rows]
    return _layer_table(rows, layers)


def _by_block(model: Model, layers: Anatomy) -> str:
    from facewright.models.anatomy import by_block, gather_alike

    rows = [
        (
            row.name if repeat == 1 else f"{row.name} ×{repeat}",
            row.kind,
            _shape(row.output_shape),
            row.parameters * repeat,
            row.flops * repeat,
        )
        for row, repeat in gather_alike(by_block(model, layers))
    ]
    return _layer_table(rows, layers)


def _layer_table(rows: list[tuple[str, str, str, int, int]], layers: Anatomy) -> str:
    cells = [
        (name, kind, shape, f"{parameters:,}", f"{flops / 1e6:,.1f}") for name, kind, shape, parameters, flops in rows
    ]
    total = ("total", "", "", f"{layers.parameters:,}", f"{layers.flops / 1e6:,.1f}")
    return table(("layer", "kind", "output C×H×W", "parameters", "MFLOPs"), [*cells, total])


def _shape(shape: tuple[int, ...]) -> str:
    """A shape as people write it.

    >>> _shape((64, 56, 56))
    '64×56×56'
    """
    return "×".join(str(length) for length in shape)
