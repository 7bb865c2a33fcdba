"""What commands print: results on standard output, all else on standard error."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from facewright.metrics.intervals import Rate


def is_speaker() -> bool:
    """Whether this process speaks: of the processes that torchrun starts, only the first."""
    return os.environ.get("RANK", "0") == "0"


def emit(result: Mapping[str, object]) -> None:
    """Print the result of a command run with `--json`: one object, on standard output.

    Raises:
        ValueError: the result holds a NaN or an infinity, which JSON cannot say.
    """
    if is_speaker():
        typer.echo(json.dumps(result, allow_nan=False, ensure_ascii=False))


def show(text: str) -> None:
    """Print a result for people, on standard output."""
    if is_speaker():
        typer.echo(text)


def say(text: str) -> None:
    """Print a message, on standard error."""
    if is_speaker():
        typer.echo(text, err=True)


def percent(rate: Rate) -> str:
    """A rate with its interval and count.

    >>> from facewright.metrics.intervals import Rate
    >>> percent(Rate(0.9125, 0.874, 0.9405, 257))
    '91.2 % (87.4 to 94.0, n=257)'
    """
    return f"{100 * rate.value:.1f} % ({100 * rate.low:.1f} to {100 * rate.high:.1f}, n={rate.n:,})"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns aligned by spaces; the first to the left, the others, which are numbers, to the right.

    >>> print(table(["class", "n"], [["ann", "9"], ["bo", "12"]]))
    class   n
    ann     9
    bo     12
    """
    widths = [max(len(cell) for cell in column) for column in zip(header, *rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in (header, *rows)
    )
