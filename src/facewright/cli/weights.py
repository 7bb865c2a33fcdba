"""`facewright weights`: public weights, by name; and a `.pth` made into safetensors."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from facewright.cli.output import emit, place_for, say, show, table
from facewright.cli.progress import counter
from facewright.errors import UsageError

if TYPE_CHECKING:
    from facewright.models.released import Weights

app = typer.Typer(no_args_is_help=True, help="List, download and convert public weights.")
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
KILOBYTE = 1000
FLOAT_BYTES = 4  # of a parameter


@app.command("list")
def list_weights(
    model: Annotated[str | None, typer.Argument(metavar="NAME", help="One architecture; else all.")] = None,
    as_json: Json = False,
) -> None:
    """List the public weights known by name, and which are on this machine.

    \b
    Example:
      facewright weights list
      facewright weights list resnet50 --json
    """
    from facewright.models.catalog import describe
    from facewright.models.released import RELEASED, released
    from facewright.models.weights import cached_file

    rows = RELEASED if model is None else released(model)
    here = {weights: cached_file(weights).is_file() for weights in rows}
    if as_json:
        emit({"weights": [facts(weights) | {"here": here[weights]} for weights in rows]})
        return
    if not rows:
        show(f"no weights of {model} are known by name; --weights takes a .safetensors file as well")
        return
    columns = {
        "weights": [f"{row.architecture}@{row.name}" for row in rows],
        "MB": [f"{describe(row.architecture).parameters * FLOAT_BYTES / 1e6:,.0f}" for row in rows],
        "here": ["yes" if here[row] else "no" for row in rows],
        "licence": [row.licence for row in rows],
        "published score": [row.published for row in rows],
    }
    show(in_columns(columns, words=("licence", "published score")))
    say("`facewright weights get NAME@WEIGHTS` downloads one; the scores are their publishers', none is ours.")


@app.command("get")
def get(
    what: Annotated[str, typer.Argument(metavar="NAME@WEIGHTS", help="As in resnet50@imagenet.")],
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
    as_json: Json = False,
) -> None:
    """Download public weights once, check them, and keep them as safetensors.

    \b
    Example:
      facewright weights get mobilenet_v2@imagenet
    """
    from facewright.models import released
    from facewright.models.weight_files import sha256_of
    from facewright.models.weights import get_weights, parse_model

    architecture, name = parse_model(what)
    if name is None:
        names = ", ".join(row.name for row in released.released(architecture)) or "none are known by name"
        raise UsageError(f"{what}: expected which weights, as in NAME@WEIGHTS; of {architecture}: {names}")
    weights = released.find(architecture, name)
    with counter(f"{what}, kB", quiet) as count:
        file = get_weights(weights, progress=lambda done, total: count(done // KILOBYTE, total // KILOBYTE))
    if as_json:
        emit({"weights": facts(weights), "file": str(file), "sha256": sha256_of(file)})
    else:
        show(f"{file}")
        say(f"{weights.licence}; {weights.published}. Use it as --model {what}")


@app.command("convert")
def convert(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="A public .pth, .pt or .safetensors.")],
    target: Annotated[Path, typer.Option("--to", metavar="OUT.safetensors", help="The file to write.")],
    model: Annotated[str, typer.Option("--model", metavar="NAME", help="The architecture the weights are of.")],
    as_json: Json = False,
) -> None:
    """Make safetensors, under our parameter names, of a public file.

    A .pth is a pickle, which can hold code: it is read by PyTorch's reader of tensors alone, and by nothing else here.

    \b
    Example:
      facewright weights convert resnet101-63fe2227.pth --model resnet101 --to resnet101.safetensors
    """
    place_for(target)

    from facewright.models import conversion
    from facewright.models.weight_files import sha256_of

    fitted = conversion.convert(source, model, target)
    result = {
        "file": str(target),
        "sha256": sha256_of(target),
        "model": model,
        "naming": fitted.naming.name,
        "tensors": len(fitted.state),
        "classes": fitted.classes,
    }
    if as_json:
        emit(result)
        return
    head = f"a classifier of {fitted.classes:,} classes" if fitted.classes else "no classifier"
    show(f"wrote {target}: {len(fitted.state):,} tensors of {model} ({fitted.naming.name} names), {head}")


def facts(weights: Weights) -> dict[str, Any]:
    """A row of public weights as JSON holds it."""
    return asdict(weights) | {"spec": weights.spec.to_dict()}


def in_columns(columns: Mapping[str, Sequence[str]], words: Collection[str]) -> str:
    """A table by its columns; those of words are set to the left, as the first always is.

    >>> print(in_columns({"model": ["a"], "family": ["vit"], "px": ["224"]}, words=["family"]))
    model  family   px
    a      vit     224
    """
    cells = []
    for name, column in columns.items():
        width = max(len(cell) for cell in (name, *column))
        cells.append([cell.ljust(width) if name in words else cell for cell in (name, *column)])
    header, *rows = zip(*cells, strict=True)
    return table(header, rows)
