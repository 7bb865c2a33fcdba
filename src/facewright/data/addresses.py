"""Addresses of data sets: a path or a scheme, and its options, as `faces.npz?range=unit`; runs keep them."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from urllib.parse import parse_qsl, quote

from facewright.errors import UnknownName, UsageError

# What can be said about data in files: cli options of the same names set them.
OPTIONS = ("colour-order", "columns", "label-from", "layout", "names", "range")


def parse_query(address: str, query: str, known: Iterable[str], what: str) -> dict[str, str]:
    """Return the keys and values of `key=value&key=value`.

    Raises UnknownName: a key that is not known; names the nearest. UsageError: a key without a value, or given twice.
    """
    try:
        pairs = parse_qsl(query.replace("+", "%2B"), keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        raise UsageError(f"{address}: expected key=value after the ?, joined by &, got {query!r}") from None
    known = list(known)
    for key, _ in pairs:
        if key not in known:
            raise UnknownName(f"key of {what}", key, known)
    if len(dict(pairs)) != len(pairs):
        raise UsageError(f"{address}: a key is given twice")
    return dict(pairs)


def split_address(address: str) -> tuple[str, dict[str, str]]:
    """Return the file of an address and its options.

    >>> split_address("faces.npz?range=unit")
    ('faces.npz', {'range': 'unit'})
    """
    path, mark, query = address.partition("?")
    if "://" in path and not any(re.search(rf"(^|&){key}=", query) for key in OPTIONS):
        return address, {}  # the query, if any, is the server's
    if not mark or _exists(address) or not (_exists(path) or "=" in query):
        return address, {}
    return path, parse_query(address, query, OPTIONS, "a data set")


def with_options(address: str, options: Mapping[str, str | None]) -> str:
    """Return the address that says some options too; None leaves one as it is.

    Raises UsageError: the address says another value.

    >>> with_options("faces.npz", {"colour-order": "bgr"})
    'faces.npz?colour-order=bgr'
    """
    added = {key: value for key, value in options.items() if value is not None}
    if not added:
        return address
    if "colour-order" in added and not address.partition("?")[0].lower().endswith(".npz"):
        raise UsageError(f"{address}: a colour order is for the arrays of an .npz; images in files say it themselves")
    path, there = split_address(address)
    for key, value in added.items():
        if there.get(key, value) != value:
            raise UsageError(f"{address}: says {key}={there[key]} and not {value}; leave out one of the two")
    return join_address(path, there | added)


def join_address(path: str, options: Mapping[str, str]) -> str:
    """Return path and options as one text."""
    query = "&".join(f"{key}={quote(options[key], safe=_PLAIN)}" for key in sorted(options))
    return f"{path}?{query}" if query else path


_PLAIN = "/:,=@ ^$*.|()[]{}<>\\?!~"  # stays readable in an address; & % + and # do not


def refuse_options(address: str, options: Mapping[str, str], known: Container[str], what: str) -> None:
    """Raise UsageError at the first option that says nothing about this kind of data."""
    for key in options:
        if key not in known:
            raise UsageError(f"{address}: {key} does not apply to {what}; leave it out")


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False
