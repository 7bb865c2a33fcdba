"""`facewright models` and `weights`: the architectures, the layers of one of them, and pretrained weights."""

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
from facewright.files import write_atomic

if TYPE_CHECKING:
    from facewright.models.blocks import Model
    from facewright.models.released import Weights
    from facewright.models.summary import ModelSummary


CLASSES = 1000  # of the published networks, whose counts these are
KILOBYTE = 1000
ASKS = " *"  # behind a licence that has to be accepted
FLOAT_BYTES = 4  # of a parameter

weights_app = typer.Typer(no_args_is_help=True, help="List, download and convert pretrained weights.")


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
        show(f"\n{_in_full(entry)}")
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


@weights_app.command("list")
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
        show("\n\n".join(_in_full(row) for row in rows))
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


@weights_app.command("get")
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


@weights_app.command("convert")
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


def _in_full(row: Weights) -> str:
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
