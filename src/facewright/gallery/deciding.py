"""Who it is: the person most like a face, if alike enough."""

from __future__ import annotations

from collections.abc import Sequence

from facewright.gallery.results import Found, Identified
from facewright.gallery.store import Match


def decide(found: Found, threshold: float) -> Identified:
    """Take the best match where it is alike enough.

    >>> decide(Found("a.jpg", (), None), 0.5).person is None  # nobody is enrolled
    True
    """
    person = person_of(found.matches, threshold)
    return Identified(found.photo, person, threshold, found.matches, found.error, found.taken)


def person_of(matches: Sequence[Match], threshold: float) -> str | None:
    """The best match, if it is alike enough."""
    return matches[0].person if matches and matches[0].score >= threshold else None
