"""The interface of every store of enrolled faces, and all that two databases do alike.

A store keeps what `add` has returned for, whatever happens to the process afterwards. It has four tables: the header in
one row, `entries`, `crops` and `log`. Every row of `entries` carries a checksum over all its fields; the header carries
their sum (exclusive or) and number, and a checksum of its own: a changed, lost or returned row is noticed when read.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from facewright import provenance
from facewright.errors import DataError, GalleryDamaged, GalleryError, UsageError
from facewright.gallery.entries import (
    Content,
    Entry,
    LogRecord,
    Match,
    ModelSignature,
    Row,
    RowFields,
    StoreHeader,
    check_entry,
    serialized,
    total_of,
)

VERSION = 1  # of the tables
PAGE = 4_096  # rows read at a time


class GalleryStore(ABC):
    """A store of enrolled faces. Every method may be called from any thread, and while other processes write.

    A database is a subclass: its constants, and the methods at the end. Statements mark a value by `?`.
    """

    location: str  # for messages: without a password
    remains = ""  # where bytes of deleted entries may remain, out of this store's reach; empty: nowhere
    header_table: ClassVar[str]
    columns: ClassVar[str]  # of `entries`, as `RowFields`
    among: ClassVar[str]  # the condition that a column is one of a list
    vector_type: ClassVar[str]  # of the numbers of a stored vector

    def header(self) -> StoreHeader:
        """The present facts."""
        with self._reading() as header:
            return header

    def add(self, entries: Sequence[Entry]) -> list[int | None]:
        """Enroll all entries or none; once this returns they are kept.

        Returns:
            The number of each; None for a photo that this person was already enrolled with.
        Raises:
            UsageError, DataError: an entry that `check_entry` refuses. GalleryError: it could not be written.
        """
        numbers, rows, crops = list[int | None](), list[RowFields](), list[tuple[int, bytes]]()
        with self._writing() as header:
            for entry in entries:
                check_entry(entry, header.signature.width)
            enrolled, first = self._enrolled(entries), header.next_number
            for entry, metadata in zip(entries, self._metadata(entries), strict=True):
                if (entry.person, entry.digest) in enrolled:
                    numbers.append(None)
                    continue
                enrolled.add((entry.person, entry.digest))
                numbers.append(number := first + len(rows))
                rows.append(
                    self._fields(number, entry, metadata, b"" if entry.crop is None else self._digest(entry.crop))
                )
                if entry.crop is not None:
                    crops.append((number, entry.crop))
            if rows:
                self._insert(rows, crops)
                total, following = total_of((row[7] for row in rows), header.total), first + len(rows)
                counts = {"entries": header.entries + len(rows), "next_number": following, "total": total}
                self._write(header.updated(only_added=True, **counts))
                self._log("enroll", len(rows), first, following - 1)
        return numbers

    def rows(self, people: Sequence[str] = ()) -> Iterator[Row]:
        """The entries of some people, or all, by their numbers."""
        last, chosen, values = 0, f"AND person {self.among}" if people else "", [list(people)] if people else []
        while True:
            with self._reading():
                page = self._select(f"WHERE number > ? {chosen} ORDER BY number LIMIT {PAGE}", (last, *values))
            rows = [self._row(fields) for fields in page]
            yield from rows
            if len(page) < PAGE:
                return
            last = rows[-1].number

    def crop(self, number: int) -> bytes | None:
        """The PNG kept with an entry, or None."""
        with self._reading():
            rows = self._select("LEFT JOIN crops USING (number) WHERE number = ?", (number,), ", png")
        if not rows or not self._row(rows[0][:8]).has_crop:
            return None
        png = rows[0][8]
        if not isinstance(png, bytes) or self._digest(png) != rows[0][6]:
            raise self._damaged(f"the crop of entry {number} is not what was stored")
        return png

    def people(self) -> dict[str, int]:
        """The number of entries of each person, by name."""
        with self._reading():
            counts = self._run("SELECT person, count(*) FROM entries GROUP BY person ORDER BY person")
        return {str(person): int(count) for person, count in counts}

    def nearest(self, vectors: NDArray[np.float32], k: int, where: Mapping[str, str]) -> list[list[Match]]:
        """The nearest k people to each probe, best first; ties by name.

        Args:
            vectors: (Q, D) unit vectors. where: only entries with all these keys and values in their metadata.
        Raises:
            UsageError: vectors of another width, or no k.
        """
        with self._reading() as header:
            width = header.signature.width
            if vectors.ndim != 2 or vectors.shape[1] != width or k < 1:
                raise UsageError(f"expected probes (Q, {width}) and at least one person, got {vectors.shape} and {k}")
            return self._nearest(header, np.ascontiguousarray(vectors, np.float32), k, where)

    def delete(self, people: Sequence[str] = (), numbers: Sequence[int] = (), *, action: str = "delete") -> int:
        """Remove people, or single entries, and all their bytes from every file; count the entries.

        What a server's role cannot reach is named in `remains`.

        Raises:
            GalleryError: deleted, but another process still reads, so that bytes remain; `erase` finishes it.
        """
        with self._writing() as header:
            chosen = f"SELECT number, checksum FROM entries WHERE person {self.among} OR number {self.among}"
            deleted = self._run(chosen, (list(people), list(numbers)))
            if deleted:
                self._remove([row[0] for row in deleted])
                total = total_of((row[1] for row in deleted), header.total)
                left = header.entries - len(deleted)
                self._write(header.updated(only_added=False, entries=left, total=total, erasing=True))
                self._log(action, len(deleted))
        self.erase()
        return len(deleted)

    def rename(self, people: Sequence[str], name: str) -> int:
        """Give the entries of some people one name, and count them; of photos that they share with it, one entry stays.

        Raises:
            GalleryError: as `delete`, about the bytes of the old names.
        """
        with self._writing() as header:
            rows = self._select(f"WHERE person {self.among} AND person <> ? ORDER BY number", (list(people), name))
            taken = {fields[4] for fields in self._select("WHERE person = ?", (name,))}
            renamed, duplicates = list[tuple[str, bytes, int]](), list[int]()
            for fields in rows:
                number, digest = self._row(fields).number, fields[4]
                if digest in taken:  # this photo is enrolled under the new name
                    duplicates.append(number)
                    continue
                taken.add(digest)
                renamed.append((name, self._checksum((number, name, *fields[2:7])), number))
            self._run_many("UPDATE entries SET person = ?, checksum = ? WHERE number = ?", renamed)
            self._remove(duplicates)
            if rows:
                total = total_of([*(fields[7] for fields in rows), *(new for _, new, _ in renamed)], header.total)
                left = header.entries - len(duplicates)
                self._write(header.updated(only_added=False, entries=left, total=total, erasing=True))
                self._log("rename", len(rows))
        self.erase()
        return len(rows)

    def log(self) -> list[LogRecord]:
        """The changes of the gallery, oldest first; of galleries of version 0.1 from their first change on."""
        with self._reading():
            columns = ", ".join(LogRecord.model_fields)
            rows = self._run(f"SELECT {columns} FROM log ORDER BY id") if self._has_log() else []
        return [LogRecord(**dict(zip(LogRecord.model_fields, row, strict=True))) for row in rows]

    def erase(self) -> None:
        """Overwrite what deletions have left behind. `delete` does this, unless it was interrupted."""
        header = self.header()
        if not header.erasing:
            return
        self._overwrite()
        with self._writing() as now:
            if now.erased == header.erased:  # else another process has deleted since, and will erase
                self._write(now.updated(only_added=True, erasing=False))

    def reembed(self, signature: ModelSignature, vectors: Mapping[int, NDArray[np.float32]]) -> None:
        """Replace all vectors by another model's, and remove the threshold. Raises GalleryError: of other entries."""
        with self._writing() as header:
            rows, old_rows = list[RowFields](), self._select("ORDER BY number")
            if {fields[0] for fields in old_rows} != set(vectors):
                raise GalleryError(f"{self.location}: the gallery changed meanwhile, nothing was migrated; try again")
            for old in old_rows:
                entry = replace(self._row(old).entry, vector=vectors[old[0]])
                rows.append(self._fields(old[0], check_entry(entry, signature.width), old[3], old[6]))
            self._replace_vectors(rows, signature.width)
            total = total_of(fields[7] for fields in rows)
            changes = {"signature": signature, "threshold": None, "total": total, "erasing": True}
            self._write(header.updated(only_added=False, **changes))
            self._log("reembed", header.entries)
        self.erase()

    def set_threshold(self, facts: Mapping[str, Any] | None) -> None:
        """Store a threshold, or none."""
        with self._writing() as header:
            self._write(header.updated(only_added=True, threshold=facts))
            self._log("calibrate", header.entries)

    @abstractmethod
    def check(self) -> None:
        """Read and verify everything, crops too. Raises GalleryDamaged: something is not what was written."""

    @abstractmethod
    def close(self) -> None:
        """Close files and connections."""

    def _select(self, rest: str = "", values: Sequence[object] = (), more: str = "") -> list[tuple[Any, ...]]:
        return self._run(f"SELECT {self.columns}{more} FROM entries {rest}", values)

    def _remove(self, numbers: Sequence[int]) -> None:
        for table in ("entries", "crops"):
            self._run(f"DELETE FROM {table} WHERE number {self.among}", (list(numbers),))

    def _fields(self, number: int, entry: Entry, metadata: str, crop_digest: bytes) -> RowFields:
        vector = entry.vector.astype(self.vector_type).tobytes()
        content = (number, entry.person, entry.photo, metadata, entry.digest, vector, crop_digest)
        return (*content, self._checksum(content))

    def _row(self, fields: Sequence[Any]) -> Row:
        number, person, photo, metadata, digest, vector, crop_digest, _ = self._verified(fields)
        values = np.frombuffer(vector, self.vector_type).astype(np.float32)
        return Row(number, Entry(person, values, digest, photo, json.loads(metadata)), bool(crop_digest))

    def _verified(self, fields: Sequence[Any]) -> RowFields:
        number, person, photo, metadata, digest, vector, crop_digest, checksum = fields
        row = (number, person, photo, metadata, digest, vector, crop_digest, checksum)
        try:
            valid = self._checksum(row[:7]) == checksum
        except (TypeError, AttributeError, ValueError):  # a damaged row may hold values of other types
            valid = False
        if not valid:
            raise self._damaged(f"entry {number} is not what was written")
        return row

    def _checksum(self, content: Content) -> bytes:
        return self._digest(serialized(content))

    def _read_header(self, lock: str = "") -> StoreHeader:
        return self._header_of(self._run(f"SELECT body, checksum FROM {self.header_table} {lock}"))

    def _header_of(self, rows: Sequence[tuple[Any, ...]]) -> StoreHeader:
        """The header from the body and checksum of its only row."""
        if len(rows) != 1 or not isinstance(rows[0][0], str) or self._digest(rows[0][0].encode()) != rows[0][1]:
            raise self._damaged("its header is not what was written")
        try:
            return StoreHeader.from_json(rows[0][0])
        except DataError as error:
            raise self._damaged(f"its header holds an invalid value ({error})") from None

    def _write(self, header: StoreHeader) -> None:
        body = header.to_json()
        self._run(f"UPDATE {self.header_table} SET body = ?, checksum = ?", (body, self._digest(body.encode())))

    def _log(self, action: str, entries: int, first: int | None = None, last: int | None = None) -> None:
        if self._has_log(make=True):
            values = (provenance.now(), action, entries, first, last)
            self._run("INSERT INTO log SELECT coalesce(max(id), 0) + 1, ?, ?, ?, ?, ? FROM log", values)

    def _damaged(self, what: str) -> GalleryDamaged:
        return damaged(self.location, what)

    @abstractmethod
    def _reading(self) -> AbstractContextManager[StoreHeader]:
        """Exclusive use of the connection; in a transaction, if the database has more than one statement to repeat."""

    @abstractmethod
    def _writing(self) -> AbstractContextManager[StoreHeader]:
        """Exclusive access; committed when the block succeeds, else rolled back."""

    @abstractmethod
    def _run(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Execute a statement and return its rows; a list among the values is one value."""

    @abstractmethod
    def _run_many(self, statement: str, values: Sequence[tuple[object, ...]]) -> None:
        """Execute a statement with each of the values."""

    @staticmethod
    @abstractmethod
    def _digest(content: bytes) -> bytes:
        """A digest of 16 bytes: of crops, and of what checksums cover."""

    @abstractmethod
    def _enrolled(self, entries: Sequence[Entry]) -> set[tuple[str, str]]:
        """The (person, digest) of those entries that are enrolled already."""

    @abstractmethod
    def _metadata(self, entries: Sequence[Entry]) -> list[str]:
        """The metadata of each entry as the database writes it."""

    @abstractmethod
    def _insert(self, rows: Sequence[RowFields], crops: Sequence[tuple[int, bytes]]) -> None:
        """Insert rows, and crops by the numbers of their rows."""

    @abstractmethod
    def _replace_vectors(self, rows: Sequence[RowFields], width: int) -> None:
        """Put rows in the place of those with their numbers: other vectors, of this width."""

    @abstractmethod
    def _nearest(
        self, header: StoreHeader, vectors: NDArray[np.float32], k: int, where: Mapping[str, str]
    ) -> list[list[Match]]:
        """As `nearest`, inside of `_reading`."""

    @abstractmethod
    def _overwrite(self) -> None:
        """Remove the bytes of deleted rows. Raises GalleryError: another process reads."""

    @abstractmethod
    def _has_log(self, *, make: bool = False) -> bool:
        """Tell if there is a log; galleries of version 0.1 get it with their next change (`make`)."""


def absent(location: object) -> GalleryError:
    """The error that there is no gallery."""
    return GalleryError(f"{location}: there is no such gallery; enroll photos to create it")


def damaged(location: object, what: str) -> GalleryDamaged:
    """The error that a gallery is not what was written."""
    return GalleryDamaged(f"{location}: the gallery is damaged: {what}; restore a backup or an export of it")


def foreign_schema(location: object, objects: Sequence[str]) -> GalleryDamaged:
    """The error about a table, view, trigger or index that is not ours: it could keep deleted bytes, or never end."""
    return damaged(location, f"its schema is not ours; added, changed or removed: {', '.join(objects[:5])}")


def bytes_remain(location: object, where: str) -> GalleryError:
    """The error that a deletion is not finished."""
    return GalleryError(
        f"{location}: deleted, but another process keeps reading, so that bytes of it remain in {where}; end that "
        "process, then delete again"
    )
