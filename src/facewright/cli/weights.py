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
from facewright.errors import UsageError

if TYPE_CHECKING:
    from facewright.models.released import Weights

KILOBYTE = 1000
ASKS = " *"  # behind a licence that has to be accepted
FLOAT_BYTES = 4  # of a parameter

app = typer.Typer(no_args_is_help=True, help="List, download and convert pretrained weights.")


@app.command("list")
def list_weights(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="An architecture, or a face network, in full. Default: all.")
    ] = None,
    as_json: opt.Json = False,
) -> None:
    """List the pretrained weights known by name, and which are on this machine.

    Face recognizers and detectors first; then those of architectures.

    \b
    Example:
      facewright weights list
      facewright weights list sface
      facewright weights list resnet50 --json
    """
    from facewright.models.face_weights import FACE_WEIGHTS, face_weights
    from facewright.models.released import RELEASED, cached_file, released

    one = None if name is None else face_weights(name)
    rows = (*FACE_WEIGHTS, *RELEASED) if name is None else released(name) if one is None else (one,)
    here = {weights: cached_file(weights).is_file() for weights in rows}
    if as_json:
        emit({"weights": [facts(weights) | {"here": here[weights]} for weights in rows]})
        return
    if not rows:
        show(f"no pretrained weights of {name} are known by name; --weights also takes a .safetensors file")
        return
    if name is not None:
        show("\n\n".join(in_full(row) for row in rows))
        return
    columns: dict[str, list[str]] = {
        "weights": [row.title for row in rows],
        "kind": [row.kind for row in rows],
        "MB": [_megabytes(row) for row in rows],
        "here": ["yes" if here[row] else "no" for row in rows],
        "licence": [row.licence + ASKS * row.asks for row in rows],
        "training data": [row.data for row in rows],
        "published score": [row.published for row in rows],
    }
    show(in_columns(columns, words=("kind", "licence", "training data", "published score")))
    say(
        f"`facewright weights list NAME` shows one in full, with the source of each claim; `weights get NAME` downloads"
        f" it.{ASKS}: accept it with --accept-licence. The scores are those of the publishers."
    )


@app.command("get")
def get(
    what: Annotated[str, typer.Argument(metavar="NAME", help="For example sface, yunet or resnet50@imagenet.")],
    licence: Annotated[
        str | None,
        typer.Option("--accept-licence", metavar="NAME", help="Accept the licence of these weights; asked for once."),
    ] = None,
    quiet: opt.Quiet = False,
    as_json: opt.Json = False,
) -> None:
    """Download pretrained weights once, and check them.

    PyTorch's files are stored as safetensors.

    \b
    Example:
      facewright weights get mobilenet_v2@imagenet
      facewright weights get w600k_r50 --accept-licence w600k_r50
    """
    from facewright.models.downloads import sha256_of
    from facewright.models.face_weights import accept, face_weights, file_of

    row = face_weights(what)
    if licence is not None:
        if licence != what or row is None or not row.asks:
            raise UsageError(f"--accept-licence {licence}: {what} asks for no licence of this name")
        accept(row)
    with counter(f"{what}, kB", quiet) as count:
        progress = lambda done, total: count(done // KILOBYTE, total // KILOBYTE)  # noqa: E731
        if row is not None and row.of is None:
            file = file_of(row, progress=progress)
        else:
            from facewright.models.weights import find_weights, get_weights

            row = find_weights(what)
            file = get_weights(row, progress=progress)
    report({"weights": facts(row), "file": str(file), "sha256": sha256_of(file)}, f"{file}", as_json)
    say(f"{row.licence}; {row.published}. Use it as {'--detector' if row.kind == 'detector' else '--model'} {what}")


@app.command("convert")
def convert(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="A .pth, .pt or .safetensors.")],
    target: Annotated[Path, typer.Option("--to", metavar="OUT.safetensors", help="File to write.")],
    model: Annotated[str, typer.Option(metavar="NAME", help="Architecture of the weights.")],
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
    from facewright.models.downloads import sha256_of

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
    return asdict(weights) | {"spec": None if weights.spec is None else weights.spec.to_dict()}


def in_full(row: Weights) -> str:
    """Return every fact about pretrained weights, one on each line, with the address that a claim is from."""
    spec, whole = row.spec, len(row.sha256) == 64
    rows = [
        ("kind", row.kind, ""),
        ("score", row.published, row.published_source),
        ("licence", row.licence + ASKS * row.asks, row.licence_source),
        ("data", row.data, row.data_source),
        ("source", row.source, ""),
        ("sha256", row.sha256 if whole else f"{row.sha256}… (its beginning)", row.sha256_source),
    ]
    if row.bytes is not None:
        rows.append(("bytes", f"{row.bytes:,}", ""))
    if row.template is not None:
        rows.append(("crops", row.template, ""))
    if spec is not None:
        size = f"{spec.height}×{spec.width} px"
        rows.append(("expects", f"{size}, mean {_three(spec.mean)}, std {_three(spec.std)}, {spec.colour_order}", ""))
    return "\n".join([row.title, *(f"  {what:<8} {value}{_from(source)}" for what, value, source in rows)])


def _from(source: str) -> str:
    if not source:
        return ""
    lines = source.split() if all(part.startswith("https") for part in source.split()) else [source]
    return "".join(f"\n{'':11}{line}" for line in lines)


def _three(values: tuple[float, float, float]) -> str:
    """Return a number for each channel, or one where they are equal.

    >>> _three((0.5, 0.5, 0.5)), _three((0.485, 0.456, 0.406))
    ('0.5', '0.485 0.456 0.406')
    """
    return " ".join(f"{value:.3g}" for value in (values[:1] if len(set(values)) == 1 else values))


def _megabytes(row: Weights) -> str:
    from facewright.models.catalog import describe

    if row.bytes is None and not (row.architecture or row.of):
        return "?"
    architecture = row.architecture or str(row.of).partition("@")[0]
    size = row.bytes or describe(architecture).parameters * FLOAT_BYTES
    return f"{size / 1e6:,.1f}" if size < 1e7 else f"{size / 1e6:,.0f}"


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
