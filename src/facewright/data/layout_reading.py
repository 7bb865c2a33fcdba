"""Shared parts of the readers of known data sets: lists, and images with several facts each."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from facewright.data.label_files import chosen_columns, class_names
from facewright.data.pixel_rows import pixel_header
from facewright.data.pixel_sources import FileSource
from facewright.data.records import Broken, Dataset, Labelled
from facewright.data.text_tables import decode, parse, text_of
from facewright.data.trees import Tree, unlisted
from facewright.errors import BadImage, DataError, UnknownName

Options = Mapping[str, str]
_HEAD = 2**14  # bytes of a text that are looked at


@dataclass(frozen=True)
class Layout:
    """One way in which a data set lies on a disk.

    recognizes: gives the reason why a tree is one, or None. read: makes a data set of it.
    """

    name: str
    recognizes: Callable[[Tree], str | None]
    read: Callable[[Tree, Options], Dataset]


def packed_alone(tree: Tree, kinds: tuple[str, ...]) -> str | None:
    """Return the first files of these kinds, where a folder holds such files and no image; else None."""
    found = [name for name in tree.packed if name.lower().endswith(kinds)]
    return " and ".join(found[:3]) if found and not tree.files and isinstance(tree.source, FileSource) else None


def text_called(tree: Tree, pattern: str) -> str | None:
    """Return the first text whose file name fits a regular expression, in lower case."""
    return next((text for text in tree.texts if re.fullmatch(pattern, text.rpartition("/")[2].casefold())), None)


def header_of(tree: Tree, text: str) -> list[str]:
    """Return the values of a text's first line, in lower case; none where it cannot be read."""
    try:
        content = tree.source.content(text)[:_HEAD]
    except BadImage:  # of a text that is larger than an image may be
        return pixel_header(Path(tree.source.root, text)) if isinstance(tree.source, FileSource) else []
    lines = text_of(content, "replace").splitlines()
    return [value.strip(' "').casefold() for value in re.split(r"[,;\t]", lines[0])] if lines else []


def rows_of(tree: Tree, text: str, width: int | None = None) -> list[list[str]]:
    """Return the rows of a list. Raises DataError: there is none, or one has another number of values than `width`."""
    rows = [values for _, values in parse(decode(tree.source.content(text), text), f"{tree.where}/{text}").rows]
    wrong = next((values for values in rows if width is not None and len(values) != width), None)
    if not rows or wrong is not None:
        raise DataError(f"{tree.where}/{text}: expected {width or 'some'} values in each row, got {wrong or 'no row'}")
    return rows


def numbered_names(names: Sequence[str], first: int = 0) -> dict[str, str]:
    """Return the number of each name as text → the name."""
    return {str(number): name for number, name in enumerate(names, first)}


def choose_label(tree: Tree, options: Options, columns: Sequence[str], default: str) -> str:
    """The column that is the label: the chosen one, else the default."""
    chosen = chosen_columns(options["columns"]).get("label", default) if "columns" in options else default
    known = {column.casefold(): column for column in columns}
    if chosen.casefold() not in known:
        raise UnknownName(f"column of {tree.where}", chosen, columns)
    return known[chosen.casefold()]


def described(
    tree: Tree,
    options: Options,
    images: Iterable[tuple[str, Mapping[str, str]]],
    columns: Sequence[str],
    default: str,
    *,
    note: str = "",
    names: Mapping[str, Mapping[str, str]] | None = None,
) -> Dataset:
    """Build a data set of images with several facts each.

    Args:
        images: path as the data set's lists write it, and column → value; also "identity" and "split".
        columns: the facts that may be the label, the others are kept.
        default: the label if none is chosen.
        names: column → value → name of the class.
    """
    label = choose_label(tree, options, columns, default)
    others = [column for column in columns if column != label]
    named = class_names(options["names"]) if "names" in options else dict((names or {}).get(label, {}))
    rows: list[Labelled] = []
    broken = list(tree.broken)
    for name, facts in images:
        path = tree.find(name, word=facts.get("split", "")) or name
        reason = tree.reason(path) if path in tree.files or not tree.whole else "no such file"
        value = facts.get(label, "")
        if reason is not None or not value:
            broken.append(Broken(path, reason or f"has no {label}"))
        rows.append(
            Labelled(
                path,
                named.get(value, value),
                facts.get("identity", ""),
                facts.get("split", ""),
                tuple(facts.get(other, "") for other in others),
            )
        )
    if not rows or len({b.path for b in broken} & {row.path for row in rows}) == len(rows):
        first = f"the first: {broken[-1].path}: {broken[-1].reason}" if broken else "there is none"
        raise DataError(f"{tree.where}: not one of its {len(rows):,} images can be used ({first})")
    rest = f"; others: {', '.join(others)} (--columns label=NAME)" if others else ""
    notes = (f"the label is {label}{rest}", *([note] if note else []))
    left = unlisted(tree, (row.path for row in rows), "its lists") if tree.whole else []
    data = Dataset.of(tree.name, tree.where, rows, tree.source, columns=tuple(others), notes=notes)
    return replace(data, label_column=label).without([*broken, *left])
