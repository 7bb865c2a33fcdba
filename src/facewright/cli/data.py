"""`facewright inspect` and `facewright cache`: what is in a dataset, and what is kept of it."""

from __future__ import annotations

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
    """Look at a dataset: counts, sizes, broken files, duplicates, leakage, balance.

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
    action: Annotated[CacheAction, typer.Argument(help="Show what is kept, or remove all of it.")] = CacheAction.LIST,
    as_json: Json = False,
) -> None:
    """Show or clear the decoded pixels kept in the user's cache folder.

    \b
    Example:
      facewright cache list
    """
    from facewright.data import store

    entries = store.cache_entries()
    if action is CacheAction.CLEAR:
        store.cache_clear()
    size = sum(entry.bytes for entry in entries)
    if as_json:
        listed = [{"path": str(entry.path), "bytes": entry.bytes} for entry in entries]
        emit({"folder": str(store.cache_folder()), "action": action.value, "bytes": size, "entries": listed})
        return
    if entries and action is CacheAction.LIST:
        show(table(["entry", "MB"], [[str(entry.path), f"{entry.bytes / 1e6:.1f}"] for entry in entries]))
    done = "removed" if action is CacheAction.CLEAR else "in all"
    show(f"{store.cache_folder()}: {len(entries)} entries, {size / 1e6:.1f} MB {done}")
