"""`facewright weights`: pretrained weights by name, and conversion of a `.pth` to safetensors."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from facewright.cli import options as opt
from facewright.cli.output import check_writable, emit, report, say, show, table
from facewright.cli.progress import counter

if TYPE_CHECKING:
    from facewright.models.released import Weights

app = typer.Typer(no_args_is_help=True, help="List, download and convert pretrained weights.")
KILOBYTE = 1000
FLOAT_BYTES = 4  # of a parameter


@app.command("list")
def list_weights(
    model: Annotated[str | None, typer.Argument(metavar="NAME", help="One architecture. Default: all.")] = None,
    as_json: opt.Json = False,
) -> None:
    """List the pretrained weights known by name, and which are on this machine.

    \b
    Example:
      facewright weights list
      facewright weights list resnet50 --json
    """
    from facewright.models.catalog import describe
    from facewright.models.released import RELEASED, cached_file, released

    rows = RELEASED if model is None else released(model)
    here = {weights: cached_file(weights).is_file() for weights in rows}
    if as_json:
        emit({"weights": [facts(weights) | {"here": here[weights]} for weights in rows]})
        return
    if not rows:
        show(f"no pretrained weights of {model} are known by name; --weights also takes a .safetensors file")
        return
    columns = {
        "weights": [f"{row.architecture}@{row.name}" for row in rows],
        "MB": [f"{describe(row.architecture).parameters * FLOAT_BYTES / 1e6:,.0f}" for row in rows],
        "here": ["yes" if here[row] else "no" for row in rows],
        "licence": [row.licence for row in rows],
        "published score": [row.published for row in rows],
    }
    show(in_columns(columns, words=("licence", "published score")))
    say("`facewright weights get NAME@WEIGHTS` downloads them. The scores are those of the publishers.")


@app.command("get")
def get(
    what: Annotated[str, typer.Argument(metavar="NAME@WEIGHTS", help="For example resnet50@imagenet.")],
    quiet: opt.Quiet = False,
    as_json: opt.Json = False,
) -> None:
    """Download pretrained weights once, check them, and store them as safetensors.

    \b
    Example:
      facewright weights get mobilenet_v2@imagenet
    """
    from facewright.models.weight_files import sha256_of
    from facewright.models.weights import find_weights, get_weights

    weights = find_weights(what)
    with counter(f"{what}, kB", quiet) as count:
        file = get_weights(weights, progress=lambda done, total: count(done // KILOBYTE, total // KILOBYTE))
    report({"weights": facts(weights), "file": str(file), "sha256": sha256_of(file)}, f"{file}", as_json)
    say(f"{weights.licence}; {weights.published}. Use it as --model {what}")


@app.command("convert")
def convert(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="A .pth, .pt or .safetensors.")],
    target: Annotated[Path, typer.Option("--to", metavar="OUT.safetensors", help="File to write.")],
    model: Annotated[str, typer.Option("--model", metavar="NAME", help="Architecture of the weights.")],
    as_json: opt.Json = False,
) -> None:
    """Convert a checkpoint to safetensors with our parameter names.

    A .pth is a pickle, which can hold code: it is read only by PyTorch's reader for tensors (weights_only).

    \b
    Example:
      facewright weights convert resnet101-63fe2227.pth --model resnet101 --to resnet101.safetensors
    """
    check_writable(target)

    from facewright.models import conversion
    from facewright.models.weight_files import sha256_of

    matched = conversion.convert(source, model, target)
    result = {
        "file": str(target),
        "sha256": sha256_of(target),
        "model": model,
        "naming": matched.naming.name,
        "tensors": len(matched.state),
        "classes": matched.classes,
    }
    if as_json:
        emit(result)
        return
    head = f"a classifier of {matched.classes:,} classes" if matched.classes else "no classifier"
    show(f"wrote {target}: {len(matched.state):,} tensors of {model} ({matched.naming.name} names), {head}")


def facts(weights: Weights) -> dict[str, Any]:
    """Return pretrained weights as JSON-ready facts."""
    return asdict(weights) | {"spec": weights.spec.to_dict()}


def in_columns(columns: Mapping[str, Sequence[str]], words: Collection[str]) -> str:
    """Return a table from its columns; those of words are aligned to the left, as the first always is.

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
