"""What recipes of every kind share: shipped ones by name, files, single values changed, errors that help."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from facewright.errors import UnknownName, UsageError

Table = dict[str, Any]


@dataclass(frozen=True)
class Shelf:
    """The recipes of one kind that are shipped with the package."""

    folder: str  # in the package
    kind: str  # in errors: "recipe"
    package: str = "facewright.training"

    def names(self) -> list[str]:
        """Their names, sorted."""
        found = resources.files(self.package).joinpath(self.folder).iterdir()
        return sorted(item.name.removesuffix(".toml") for item in found if item.name.endswith(".toml"))

    def text(self, name: str | Path) -> tuple[str, str]:
        """The text of a shipped recipe, or of a file; and what errors call it.

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
            return path.read_text(encoding="utf-8"), str(path)
        except (OSError, UnicodeDecodeError) as error:
            why = (isinstance(error, OSError) and error.strerror) or "it is not UTF-8"
            shipped = f"name a TOML file that exists, or a shipped recipe: {', '.join(self.names())}"
            raise UsageError(f"{name}: the recipe cannot be read ({why}); {shipped}") from None


def table_of(text: str, origin: str) -> Table:
    """TOML as a table.

    Raises:
        UsageError: it is not TOML.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{origin}: not TOML ({error})") from None


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


def explained(error: ValidationError, origin: str, complete: Table) -> UsageError:
    """The first thing wrong, in one line.

    Args:
        complete: a table with every key that there is, for the nearest to an unknown one.
    """
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return UnknownName(f"key of {origin}", where, dotted(complete) if "." in where else complete)
    got = "" if first["type"] == "missing" else f" (got {first['input']!r})"
    return UsageError(f"{origin}: {where}: {first['msg']}{got}")


def dotted(table: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Every key of a table of tables.

    >>> dotted({"name": "a", "input": {"size": 64}})
    ['name', 'input.size']
    """
    keys: list[str] = []
    for key, value in table.items():
        keys += dotted(value, f"{prefix}{key}.") if isinstance(value, dict) else [f"{prefix}{key}"]
    return keys


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
