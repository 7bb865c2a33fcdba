"""`facewright inspect` and `facewright cache`: what is in a dataset, and what is kept of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facewright.cli.datasets import OrderOption, address
from facewright.cli.labels import inspect_labels
from facewright.cli.output import emit, number_of, place_for, say, show, table
from facewright.cli.progress import listener
from facewright.errors import UnknownName, UsageError
from facewright.files import write_atomic

if TYPE_CHECKING:
    from facewright.data.audit import Audit

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


SHOWN = 10  # cases of a kind; --json has all


class CacheAction(StrEnum):
    """What to do with the cache."""

    LIST = "list"
    CLEAR = "clear"


def inspect(
    where: Annotated[
        str | None, typer.Argument(metavar="DATA", help="A folder, .csv, .zip, .npz, or synthetic:faces?...")
    ] = None,
    sheet: Annotated[Path | None, typer.Option("--sheet", help="Write a contact sheet to this PNG file.")] = None,
    labels: Annotated[
        Path | None,
        typer.Option("--labels", metavar="RUN", help="Instead of DATA: which labels of a run look wrong."),
    ] = None,
    folds: Annotated[
        int, typer.Option("--folds", min=2, help="With --labels: a picture is judged by a model of the other folds.")
    ] = 5,
    weights: Annotated[
        str | None,
        typer.Option("--weights", "-w", help="With --labels: judge by these public weights; none: train the run anew."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="With --labels: also write this page.")] = None,
    order: OrderOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
    as_json: Json = False,
) -> None:
    """Look at a dataset before it is used.

    Counts per class, sizes, broken files, exact and near duplicates, leakage, balance, mean and deviation.
    With --labels, instead: pictures of a run's data that look mislabelled. Nothing is ever dropped.

    \b
    Example:
      facewright inspect photos/ --sheet sheet.png
      facewright inspect --labels runs/a --out suspicious.html
    """
    if labels is not None:
        if where is not None or sheet is not None or order is not None:
            raise UsageError("--labels inspects the data of a run: leave out DATA, --sheet and --colour-order")
        inspect_labels(labels, folds, weights, out, quiet, as_json)
        return
    if where is None:
        raise UsageError("nothing to inspect: give DATA, or --labels RUN")
    if weights is not None or out is not None:
        raise UsageError("--weights and --out belong to --labels RUN")
    place_for(sheet)
    where = address(where, order)

    from facewright import workflows

    with listener(quiet) as on_event:
        audit, picture = workflows.inspect(where, on_event=on_event)
    if sheet is not None:
        write_atomic(sheet, picture)
        say(f"wrote {sheet}")
    if as_json:
        emit(audit.to_dict())
    else:
        show(describe(audit))


def describe(audit: Audit) -> str:
    """What an audit found, in words and one table."""
    small, middle, large = (shape(size) for size in (audit.sizes.smallest, audit.sizes.median, audit.sizes.largest))
    mean, deviation = three(audit.statistics.mean), three(audit.statistics.std)
    lines = [
        f"{audit.name}: {audit.images:,} images in {len(audit.counts)} classes, from {audit.where}",
        "",
        table(["class", "images"], [[name, f"{count:,}"] for name, count in audit.counts.items()]),
        "",
        f"height x width   smallest {small}, median {middle}, largest {large}",
        f"mean, deviation  {mean}, {deviation} (red green blue, 0 to 1)",
        f"broken files     {len(audit.broken):,}",
        f"equal pictures   {number_of(len(audit.exact), 'group')}",
        f"near duplicates  {number_of(len(audit.near), 'pair')}",
    ]
    lines += [f"broken: {broken.path}: {broken.reason}" for broken in audit.broken[:SHOWN]]
    lines += [f"equal: {', '.join(picture.path for picture in group.pictures)}" for group in audit.exact[:SHOWN]]
    lines += [f"alike: {pair.first.path}, {pair.second.path} ({pair.similarity:.3f})" for pair in audit.near[:SHOWN]]
    lines += [f"warning: {warning}" for warning in audit.warnings]
    return "\n".join(lines)


def shape(size: tuple[float, float]) -> str:
    """Height and width in pixels.

    >>> shape((112, 96.5))
    '112x96.5'
    """
    return f"{size[0]:g}x{size[1]:g}"


def three(values: Sequence[float]) -> str:
    """One number a channel.

    >>> three((0.5, 0.25, 0.125))
    '0.500 0.250 0.125'
    """
    return " ".join(f"{value:.3f}" for value in values)


def cache(
    action: Annotated[
        CacheAction, typer.Argument(metavar="list|clear", help="Show what is kept, or remove it.")
    ] = CacheAction.LIST,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="One entry, by its name; else all.")] = None,
    as_json: Json = False,
) -> None:
    """Show or clear the decoded pixels that are kept.

    \b
    Example:
      facewright cache list
      facewright cache clear
    """
    from facewright.data.cache import cache_clear, cache_entries, cache_folder

    every = cache_entries()
    entries = [entry for entry in every if name in (None, entry.name)]
    if name is not None and not entries:
        raise UnknownName("cache entry", name, [entry.name for entry in every])
    kept = sum(entry.bytes for entry in entries)
    freed = cache_clear(name) if action is CacheAction.CLEAR else 0
    if as_json:
        listed = [asdict(entry) for entry in entries]
        emit({"folder": str(cache_folder()), "action": action.value, "bytes": kept, "freed": freed, "entries": listed})
    elif action is CacheAction.CLEAR:
        show(f"{cache_folder()}: {freed / 1e6:.1f} MB freed")
    else:
        rows = [
            [entry.name, entry.where, f"{entry.images:,}", f"{entry.height}x{entry.width}", f"{entry.bytes / 1e6:.1f}"]
            for entry in entries
        ]
        show(table(["name", "dataset", "images", "size", "MB"], rows) if rows else "nothing is kept")
        show(f"{cache_folder()}: {kept / 1e6:.1f} MB")
