"""Names of people, classes and files: one form, and nothing in them that cannot be seen."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable

from facewright.errors import UsageError

LONGEST = 200  # characters
_INVISIBLE = {"Cc", "Cf", "Co", "Cn", "Cs", "Zl", "Zp"}  # control, format, private, unassigned, surrogate, separators
_BLANK = "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0\ufe0e"  # drawn as nothing
_JOINERS = "\u200c\u200d"  # Persian and Indic words are spelt with them


def checked_name(name: str, what: str = "a name", longest: int = LONGEST) -> str:
    """Return a name in Unicode's form NFC, so that one name typed in two ways is one name; `what` it is in the error.

    Raises:
        UsageError: it is empty, has space around it, is too long, or holds an invisible or control character.
    >>> checked_name("Jose\\u0301") == checked_name("Jos\\u00e9")
    True
    """
    if not name or name != name.strip():
        raise UsageError(f"expected {what} without space around it, got {name!r}")
    if len(name) > longest:
        raise UsageError(f"expected {what} of at most {longest} characters, got {len(name)}")
    hidden = invisible(name)
    if hidden is not None:
        raise UsageError(f"expected {what} of visible characters, got {hidden} in {name!r}; type it again")
    return unicodedata.normalize("NFC", name)


def invisible(name: str) -> str | None:
    """Return the first character of a name that cannot be seen, as U+200B, or None."""
    for position, character in enumerate(name):
        category = unicodedata.category(character)
        if category not in _INVISIBLE and character not in _BLANK and (category != "Zs" or character == " "):
            continue
        inside = 0 < position < len(name) - 1 and name[position - 1].isalpha()
        if character in _JOINERS and inside and ord(name[position - 1]) > 0x5FF:
            continue
        return f"U+{ord(character):04X}"
    return None


def same_names(name: str, names: Iterable[str]) -> list[str]:
    """Return those of some names that are this name, whatever Unicode form they are in."""
    normal = unicodedata.normalize("NFC", name)
    return [other for other in names if unicodedata.normalize("NFC", other) == normal]


def similar_names(name: str, names: Iterable[str]) -> list[str]:
    """Return other names that differ from a name only in case or in compatible forms of characters."""
    return [other for other in names if other != name and _folded(other) == _folded(name)]


def lookalikes(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Return the names that differ only in case or in compatible forms of characters, in groups of two or more."""
    groups: dict[str, set[str]] = defaultdict(set)
    for name in names:
        groups[_folded(name)].add(name)
    return [tuple(sorted(group)) for _, group in sorted(groups.items()) if len(group) > 1]


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()
