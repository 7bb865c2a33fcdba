"""`facewright inspect` and `facewright cache`: what is in a dataset, and what is kept of it."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from facewright.cli.output import emit, nested, say, show, table

Data = Annotated[str, typer.Argument(metavar="DATA", help="A folder, a CSV file, or synthetic:faces?...")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


class CacheAction(StrEnum):
    """What to do with the cache."""

    LIST = "list"
    CLEAR = "clear"


def inspect(
    where: Data,
    sheet: Annotated[Path | None, typer.Option("--sheet", help="Write a contact sheet to this PNG file.")] = None,
    as_json: Json = False,
) -> None:
    """Look at a dataset before it is used.

    Counts per class, sizes, broken files, exact and near duplicates, leakage, balance, mean and deviation.

    \b
    Example:
      facewright inspect photos/ --sheet sheet.png
    """
    from facewright import workflows

    audit, picture = workflows.inspect(where)
    if sheet is not None:
        sheet.write_bytes(picture)
        say(f"wrote {sheet}")
    if as_json:
        emit(audit.to_dict())
    else:
        show(nested(audit.to_dict()))


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

    entries = [entry for entry in cache_entries() if name in (None, entry.name)]
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
