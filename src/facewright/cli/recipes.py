"""`facewright recipes`: how training can be asked for."""

from __future__ import annotations

from typing import Annotated

import typer

from facewright.cli.output import emit, show


def recipes(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Show all of one: every value, as TOML.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """List the shipped recipes, or show every value of one.

    A file of your own may hold any of the values; --set changes single ones.

    \b
    Example:
      facewright recipes
      facewright recipes finetune > mine.toml
      facewright train photos/ --recipe mine.toml
    """
    from facewright.training import recipe

    chosen = [recipe.load(known) for known in (recipe.names() if name is None else [name])]
    if as_json:
        emit({"recipes": [{"name": one.name, "description": one.description, "toml": one.to_toml()} for one in chosen]})
    elif name is not None:
        show(chosen[0].to_toml().rstrip())
    else:
        width = max(len(one.name) for one in chosen)
        show("\n".join(f"{one.name.ljust(width)}  {one.description}" for one in chosen))
