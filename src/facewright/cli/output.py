"""Output of commands: results on standard output, everything else on standard error."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import typer

from facewright.errors import UsageError
from facewright.files import write_atomic

if TYPE_CHECKING:
    from facewright.data.records import Broken
    from facewright.metrics.intervals import Rate
    from facewright.metrics.thresholds import Threshold


# Control characters, which a file name may hold and a terminal would obey: shown as \x1b. Line ends stay.
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


def is_speaker() -> bool:
    """Return True in the one process that prints: of those that torchrun starts, the first."""
    return os.environ.get("RANK", "0") == "0"


def emit(result: Mapping[str, object]) -> None:
    """Print the result of a command run with `--json`: one object, on standard output; NaN is refused."""
    if is_speaker():
        text = json.dumps(result, allow_nan=False, ensure_ascii=False)
        typer.echo(text if fits(text, sys.stdout) else json.dumps(result, allow_nan=False))


def report(facts: Mapping[str, object], text: str, as_json: bool) -> None:
    """Print a result: as one JSON object, or as text for people."""
    if as_json:
        emit(facts)
    elif text:
        show(text)


def show(text: str) -> None:
    """Print a result for people, on standard output."""
    if is_speaker():
        typer.echo(harmless(text, sys.stdout))


def say(text: str) -> None:
    """Print a message, on standard error."""
    if is_speaker():
        typer.echo(harmless(text, sys.stderr), err=True)


def named(path: object) -> str:
    r"""Return a file's name on one line; a line end in it, which could pass for a line of ours, is shown as \n.

    >>> named("a\nb.jpg")
    'a\\nb.jpg'
    """
    return str(path).replace("\n", "\\n")


def say_left_out(broken: Iterable[Broken]) -> None:
    """Print the files that were left out, and why."""
    for one in broken:
        say(f"left out: {named(one.path)}: {one.reason}")


def say_errors(results: Iterable[Any]) -> None:
    """Print of each image that could not be used why."""
    for one in results:
        if one.error is not None:
            say(f"error: {named(one.path)}: {one.error}")


def exit_if_all_failed(results: Sequence[Any]) -> None:
    """End with status 1 where not one image could be used."""
    if results and all(one.error is not None for one in results):
        raise typer.Exit(1)


def write_csv(path: Path | None, text: str) -> None:
    """Write a table, where one is asked for; a name in it may be no UTF-8."""
    if path is not None:
        write_atomic(path, text.encode(errors="backslashreplace"))
        say(f"wrote {path}")


class _Said(logging.Handler):
    """Prints a log's lines as `say` does."""

    def emit(self, record: logging.LogRecord) -> None:
        say(self.format(record))


def show_log(name: str) -> None:
    """Print what a log of this package says, on standard error."""
    log = logging.getLogger(name)
    log.setLevel(logging.INFO)
    log.propagate = False
    log.handlers = [_Said()]


def log_to_stderr(level: int) -> None:
    """Print the logs of this package from a level on; WARNING: leave them as Python has them."""
    log, quiet = logging.getLogger("facewright"), level >= logging.WARNING
    handler = _Said()
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    log.setLevel(logging.NOTSET if quiet else level)
    log.handlers, log.propagate = [] if quiet else [handler], quiet


def fits(text: str, stream: TextIO) -> bool:
    """Return True if the stream's encoding has every character; a file name may hold some that no encoding has."""
    try:
        text.encode(stream.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def harmless(text: str, stream: TextIO) -> str:
    r"""Escape what a terminal would obey and what the stream's encoding lacks.

    >>> harmless("a\x1b[2Jb", sys.stdout)
    'a\\x1b[2Jb'
    """
    shown = text.translate(_CONTROLS)
    encoding = stream.encoding or "utf-8"
    return shown if fits(shown, stream) else shown.encode(encoding, "backslashreplace").decode(encoding)


def check_writable(path: Path | None) -> None:
    """Refuse, before the work starts, a file that cannot be written; None is no file."""
    if path is not None and not path.parent.is_dir():
        raise UsageError(f"{path}: no folder {path.parent}; create it first")
    if path is not None and path.is_dir():
        raise UsageError(f"{path} is a folder; name a file in it")


def number_of(count: int, what: str, plural: str = "") -> str:
    """Return a count and its noun.

    >>> number_of(1, "pair"), number_of(1200, "pair")
    ('1 pair', '1,200 pairs')
    """
    return f"{count:,} {what if count == 1 else plural or what + 's'}"


def percent(rate: Rate) -> str:
    """Return a rate in percent with its interval and count.

    >>> from facewright.metrics.intervals import Rate
    >>> percent(Rate(value=0.9125, low=0.874, high=0.9405, n=257))
    '91.2 % (87.4 to 94.0, n=257)'
    """
    return f"{100 * rate.value:.1f} % ({100 * rate.low:.1f} to {100 * rate.high:.1f}, n={rate.n:,})"


def precise(rate: Rate) -> str:
    """Return a rate as `percent` does, to hundredths of a percent.

    >>> from facewright.metrics.intervals import Rate
    >>> precise(Rate(value=0.98125, low=0.97, high=0.99, n=1600))
    '98.12 % (97.00 to 99.00, n=1,600)'
    """
    return f"{100 * rate.value:.2f} % ({100 * rate.low:.2f} to {100 * rate.high:.2f}, n={rate.n:,})"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return aligned columns: the first to the left, the others, which are numbers, to the right.

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


def chosen_by(threshold: Threshold) -> str:
    """Return which of the two rules a threshold was chosen by, and the upper bound of its rate."""
    bound = f"upper bound {100 * threshold.bound:.2g} %"
    if threshold.confidence is None:
        return f"chosen by the rate itself, {bound}; --confidence 0.95 chooses by the bound"
    return f"chosen by the {bound} (one-sided, confidence {threshold.confidence:g})"
