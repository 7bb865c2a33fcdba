"""Recipes of every kind as TOML: shipped ones by name, files, single values changed."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from facewright.errors import UnknownName, UsageError
from facewright.files import read_limited
from facewright.specs import dotted

Table = dict[str, Any]


@dataclass(frozen=True)
class Shelf:
    """The recipes of one kind that are shipped with the package."""

    folder: str  # in the package
    kind: str  # in errors: "recipe"
    package: str = "facewright.training"

    def names(self) -> list[str]:
        """Return their names, sorted."""
        found = resources.files(self.package).joinpath(self.folder).iterdir()
        return sorted(item.name.removesuffix(".toml") for item in found if item.name.endswith(".toml"))

    def text(self, name: str | Path) -> tuple[str, str]:
        """Return the text of a shipped recipe, or of a file; and what errors call it.

        Raises:
            UnknownName: no shipped recipe has this name, and it is no TOML file.
            UsageError: the file cannot be read.
        """
        if str(name) in self.names():
            place = resources.files(self.package).joinpath(self.folder, f"{name}.toml")
            return place.read_text(encoding="utf-8"), f"{self.kind} {name}"
        path = Path(name)
        if path.suffix != ".toml":
            raise UnknownName(self.kind, str(name), self.names())
        try:
            return read_limited(path, error=UsageError).decode(), str(path)
        except (UsageError, UnicodeDecodeError) as error:
            why = error if isinstance(error, UsageError) else f"{path}: not UTF-8"
            raise UsageError(f"{why}; name a TOML file, or a shipped recipe: {', '.join(self.names())}") from None


def table_of(text: str, origin: str) -> Table:
    """Read TOML as a table.

    Raises:
        UsageError: it is not TOML.
    """
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also: a number of too many digits
        raise UsageError(f"{origin}: not TOML ({str(error)[:200]})") from None


def change(table: Table, changes: Mapping[str, str], kind: str) -> Table:
    """Replace values in a table, in place.

    Args:
        table: complete, defaults included.
        changes: dotted key to text as TOML would read it: {"training.epochs": "5"}; bare words are strings.
        kind: in errors.
    Raises:
        UnknownName: a key that the table has not; names the nearest.
    """
    for key, text in changes.items():
        *tables, last = key.split(".")
        place: Any = table
        for name in tables:
            place = place.get(name) if isinstance(place, dict) else None
        if not isinstance(place, dict) or last not in place or isinstance(place[last], dict):
            raise UnknownName(f"{kind} key", key, dotted(table))
        place[last] = _value(text)
    return table


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text
