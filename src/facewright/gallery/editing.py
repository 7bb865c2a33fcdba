"""Changes of the people in a gallery: their names, entries that go, and what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from facewright.errors import UsageError
from facewright.gallery.entries import MAX_TEXT
from facewright.gallery.results import Expired
from facewright.gallery.store import GalleryStore
from facewright.metrics.thresholds import Threshold
from facewright.names import checked_name, same_names, similar_names

FEW_PHOTOS = 3  # of a person; with more, more probes are found


class People:
    """The people of a store, and changes of them."""

    store: GalleryStore

    def people(self) -> dict[str, int]:
        """The number of entries of each person."""
        return self.store.people()

    def delete(self, people: Sequence[str] = (), numbers: Sequence[int] = ()) -> int:
        """Remove people, or single entries, and all their bytes; count them. Raises UsageError: one is not enrolled."""
        names = self.resolve(people)
        existing = {row.number for row in self.store.rows()} if numbers else set()
        missing = [str(number) for number in numbers if number not in existing]
        if missing:
            raise UsageError(f"{self.store.location}: not enrolled: {', '.join(missing)}; nothing was deleted")
        return self.store.delete(names, numbers)

    def resolve(self, people: Sequence[str]) -> list[str]:
        """The enrolled names that names mean, whatever Unicode form they are in. Raises UsageError: there is none."""
        enrolled = list(self.store.people()) if people else []
        resolved = {name: same_names(name, enrolled) for name in people}
        missing = [name for name, found in resolved.items() if not found]
        if missing:
            close = [other for name in missing for other in similar_names(name, enrolled)]
            hint = f"; did you mean {', '.join(map(repr, close))}?" if close else ""
            raise UsageError(f"{self.store.location}: not enrolled: {', '.join(map(repr, missing))}{hint}")
        return list(dict.fromkeys(name for found in resolved.values() for name in found))

    def rename(self, person: str, name: str) -> int:
        """Rename a person, and count the entries. Raises UsageError: not enrolled, or the new name is another's."""
        old, new = self.resolve([person]), checked_name(name, "a person's name", MAX_TEXT)
        taken = [other for other in same_names(new, self.store.people()) if other not in old]
        if taken:
            raise UsageError(f"{self.store.location}: {taken[0]!r} is enrolled; to make two people one, merge them")
        return self.store.rename(old, new)

    def merge(self, people: Sequence[str], into: str) -> int:
        """Give the entries of several people to one. Returns the number of entries that changed their name."""
        (target, *more), others = self.resolve([into]), self.resolve(people)
        return self.store.rename([name for name in (*more, *others) if name != target], target)

    def expire(self, older_than: timedelta, *, at: datetime | None = None) -> Expired:
        """Delete the entries that were enrolled longer than `older_than` before `at` (now), and all their bytes."""
        limit = (datetime.now(UTC) if at is None else at) - older_than
        enrolled = [one for one in self.store.log() if one.action == "enroll" and one.first is not None]
        spans = [(datetime.fromisoformat(one.time), one.first or 0, one.last or 0) for one in enrolled]
        old, unknown = list[int](), 0
        for row in self.store.rows():
            time = next((time for time, first, last in spans if first <= row.number <= last), None)
            unknown += time is None
            if time is not None and time < limit:
                old.append(row.number)
        deleted = self.store.delete(numbers=old, action="expire") if old else 0
        return Expired(entries=deleted, unknown=unknown)


def advice_for(people: Mapping[str, int], threshold: Threshold | None) -> tuple[str, ...]:
    """Advise what would make the answers of a gallery better."""
    single = [name for name, count in people.items() if count < FEW_PHOTOS]
    advice = list[str]()
    if single:
        shown = ", ".join(map(repr, single[:3])) + (", ..." if len(single) > 3 else "")
        advice.append(f"{len(single):,} people have fewer than {FEW_PHOTOS} photos ({shown}): enroll more of each")
    if threshold is not None and threshold.people is not None and len(people) > threshold.people:
        advice.append(f"calibrate again: {threshold.people:,} people then, {len(people):,} now")
    return tuple(advice)


def name_for(store: GalleryStore, name: str) -> tuple[str, list[str]]:
    """The enrolled form of a name, and a warning if another one differs in case only."""
    normal, enrolled = checked_name(name, "a person's name", MAX_TEXT), list(store.people())
    same = same_names(normal, enrolled)
    others = [] if same else similar_names(normal, enrolled)
    return (same or [normal])[0], [f"{normal!r} is new; {other!r} is enrolled: one person?" for other in others]
