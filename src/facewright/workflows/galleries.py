"""Filling a gallery: from a folder per person, from single photos, from an exported gallery."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from facewright.data.records import Broken, merge_broken
from facewright.data.sources import open_dataset
from facewright.errors import OtherModel, UsageError
from facewright.events import EventHandler, Progress, ignore_event
from facewright.gallery import transfer
from facewright.gallery.gallery import Gallery
from facewright.gallery.opening import exists, open_store
from facewright.gallery.photos import Photo
from facewright.gallery.results import Enrolled
from facewright.recognition import Policy


@dataclass(frozen=True)
class Imported:
    """What came of an import."""

    source: str
    new: int
    already: int  # the same photo of the same person was there

    def to_dict(self) -> dict[str, Any]:
        return {"task": "import", "source": self.source, "new": self.new, "already": self.already}


def enroll(
    gallery: Gallery,
    who: Sequence[str],
    *,
    metadata: Mapping[str, str] | None = None,
    keep_crops: bool = False,
    policy: Policy | None = None,
    on_event: EventHandler = ignore_event,
) -> Enrolled:
    """Enrol people.

    Args:
        who: a folder with a folder per person; or a name and the photos of that person.
        metadata, keep_crops: as `Gallery.enrol`. policy: which of several faces; the default where left out.
    Raises:
        DataError: the folder holds no photos. UsageError: neither of the two, or a policy where photos are taken whole.
    """
    photos, broken = photos_of(who)
    shown = _counted(photos, on_event)
    chosen = gallery.recognizer.policy(policy)
    found = gallery.enrol(shown, metadata=metadata, keep_crops=keep_crops, policy=chosen)
    return replace(found, failed=merge_broken(broken, found.failed))


def photos_of(who: Sequence[str]) -> tuple[list[Photo], tuple[Broken, ...]]:
    """The photos that are meant, and files that are none. Raises: as `enroll`."""
    if len(who) >= 2:
        return [Photo.of(Path(path), who[0]) for path in who[1:]], ()
    folder = Path(who[0]) if who else None
    if folder is None or not folder.is_dir():
        raise UsageError("expected a folder with a folder per person, or a name and the photos of that person")
    data = open_dataset(folder)
    root = folder.resolve()
    photos = [
        Photo.of(root / record.path, person)
        for record, person in zip(data.records, data.people, strict=True)
        if person is not None
    ]
    return photos, data.broken


def import_gallery(where: str | Path, source: Path) -> Imported:
    """Take in what `gallery export` wrote; a gallery that is not there is made, with the threshold of the other.

    Args:
        where: the file or the address of the gallery. source: the exported one.
    Raises:
        DataError: the file is not what was exported; nothing is taken. OtherModel: its vectors are of another model
        than the gallery's.
    """
    header = transfer.read_header(source)
    for _ in transfer.read(source, header.pin.width):  # before anything is made
        pass
    made = not exists(where)
    with Gallery(open_store(where, header.pin)) as gallery:
        pin = gallery.store.state().pin
        if pin.fingerprint != header.pin.fingerprint:
            raise OtherModel(
                f"{source}: was enrolled with {header.pin.model} (fingerprint {header.pin.fingerprint[:8]}), "
                f"{gallery.store.where} with {pin.model} ({pin.fingerprint[:8]}); reembed one of them first"
            )
        new, already = transfer.fill(gallery.store, source)
        if made and header.threshold is not None:
            gallery.store.keep_threshold(header.threshold)
    return Imported(str(source), new, already)


def _counted(photos: Sequence[Photo], on_event: EventHandler) -> Iterator[Photo]:
    for done, photo in enumerate(photos):
        on_event(Progress("enrolling", done, len(photos)))
        yield photo
    on_event(Progress("enrolling", len(photos), len(photos)))
