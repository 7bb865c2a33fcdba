"""InsightFace's verification sets, `lfw.bin`, `cfp_fp.bin`, `agedb_30.bin`: encoded images, two a pair, and the truth.

Such a file is a pickle of (images, truths). It is never unpickled: its operations are walked, and only those that build
lists and tuples of bytes and booleans are known; anything else is refused. The images stay in the file and are read
from there. Pair k is of images 2k and 2k + 1.

Source: Python's `pickletools`; https://github.com/deepinsight/insightface,
recognition/arcface_torch/eval/verification.py.
"""

from __future__ import annotations

import mmap
import pickletools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from facewright.data.packed import PackedSource
from facewright.data.pixel_sources import reason_of
from facewright.errors import DataError

_MOST = 8_000_000  # operations: two million images take three each, at most
_IGNORED = ("PROTO", "FRAME", "STOP")
# Operation → bytes before the content: its own code and the length.
_BYTES = {"SHORT_BINBYTES": 2, "BINBYTES": 5, "BINBYTES8": 9, "SHORT_BINSTRING": 2, "BINSTRING": 5}
_MARK = object()
Run = tuple[int, int]  # start and length in the file


def read_verification_set(path: Path) -> tuple[PackedSource, list[bool]]:
    """Read a .bin file: the source of its images, called 0000000, 0000001 …, and whether each pair shows one person.

    Raises:
        DataError: damaged, cut short, or holding anything but lists of bytes and booleans.
    """
    images, truths = _lists(path)
    if len(images) != 2 * len(truths):
        raise DataError(f"{path}: expected two images a pair, got {len(images):,} images and {len(truths):,} pairs")
    return PackedSource([str(path)], {f"{number:07d}": (0, *run) for number, run in enumerate(images)}), truths


def _lists(path: Path) -> tuple[list[Run], list[bool]]:
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            value = _built(path, pickletools.genops(mapped))  # type: ignore[arg-type]
    except DataError:
        raise
    except (OSError, ValueError, LookupError) as error:  # an empty file cannot be mapped
        raise DataError(
            f"{path}: expected a verification set (.bin); it cannot be read ({reason_of(error)})"
        ) from error
    both = value if isinstance(value, (list, tuple)) else ()
    if len(both) == 2 and all(isinstance(part, list) and part for part in both):
        images, truths = both
        if all(type(run) is tuple and len(run) == 2 for run in images) and all(type(one) is bool for one in truths):
            return images, truths
    raise DataError(f"{path}: expected a list of encoded images and a list of booleans, each with an entry")


def _built(path: Path, operations: Iterator[tuple[Any, Any, int | None]]) -> Any:
    """Build the one value, with the places of bytes in their stead."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    for number, (operation, argument, place) in enumerate(operations):
        name = operation.name
        if number == _MOST:
            raise DataError(f"{path}: has more than {_MOST:,} operations, which is the limit")
        if name in _BYTES:
            stack.append((int(place or 0) + _BYTES[name], len(argument)))
        elif name in ("NEWTRUE", "NEWFALSE") or (name == "INT" and isinstance(argument, bool)):
            stack.append(argument if name == "INT" else name == "NEWTRUE")
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if name == "MEMOIZE" else argument] = stack[-1]
        elif name not in _IGNORED:
            _collect(path, name, stack, place)
    if len(stack) != 1:
        raise DataError(f"{path}: expected one value, got {len(stack):,}")
    return stack[0]


def _collect(path: Path, name: str, stack: list[Any], place: int | None) -> None:
    """Take an operation on lists and tuples."""
    if name == "MARK":
        stack.append(_MARK)
    elif name == "EMPTY_LIST":
        stack.append([])
    elif name in ("APPEND", "TUPLE2"):
        last = stack.pop()
        if name == "TUPLE2":
            stack[-1] = [stack[-1], last]
        else:
            _list(path, stack[-1]).append(last)
    elif name in ("APPENDS", "LIST", "TUPLE"):
        start = _last_mark(stack)
        values = stack[start + 1 :]
        del stack[start:]
        if name == "APPENDS":
            _list(path, stack[-1]).extend(values)
        else:
            stack.append(values)
    else:
        raise DataError(
            f"{path}: byte {place}: expected lists of bytes and booleans only, got the operation {name}, which could "
            "run code; nothing was run"
        )


def _last_mark(stack: list[Any]) -> int:
    start = len(stack) - 1
    while stack[start] is not _MARK:
        start -= 1
        if start < 0:
            raise ValueError("values without a mark")
    return start


def _list(path: Path, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise DataError(f"{path}: expected a list to append to")
    return value
