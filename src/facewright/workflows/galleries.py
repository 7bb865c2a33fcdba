"""Filling a gallery: from a folder per person, photos or a film of one person, an exported gallery."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from facewright.data.records import Broken, merge_broken
from facewright.errors import DataError, OtherModel, UsageError
from facewright.events import EventHandler, counted, ignore_event
from facewright.faces.selection import one_of
from facewright.files import write_atomic
from facewright.gallery import exists, open_store
from facewright.gallery.entries import MAX_TEXT
from facewright.gallery.gallery import Gallery
from facewright.gallery.results import Enrollment, Identification, Photo, PhotoIdentification
from facewright.images import Pixels, images_below, none_found, png_of
from facewright.names import checked_name
from facewright.public_names import select_face_was_policy
from facewright.recognition import Face, Recognizer, SelectFace
from facewright.records import Record

BEST = 5  # frames of a film
APART = 0.5  # seconds between two of them
KEPT = 20  # candidates that are in memory
EVERY = 3  # frames


class ImportResult(Record):
    """The number of entries imported into a gallery."""

    task: Literal["import"] = "import"
    source: str
    new: int
    already: int  # the same photo of the same person was there


@select_face_was_policy
def enroll(
    gallery: Gallery,
    photos: Sequence[Photo],
    *,
    broken: Sequence[Broken] = (),
    metadata: Mapping[str, str] | None = None,
    keep_crops: bool = False,
    select_face: SelectFace | None = None,
    min_quality: float = 0.0,
    on_event: EventHandler = ignore_event,
) -> Enrollment:
    """Enroll photos, and of films the best frames, with progress events; the other arguments are of `Gallery.enroll`.

    Args:
        photos: as `photos_of` lists them.
        broken: likewise.
    Raises:
        UsageError: select_face for a model that takes whole photos.
    """
    from facewright.video.frames import is_film

    chosen = gallery.recognizer.face_selection(select_face)
    known = gallery.threshold or gallery.recognizer.threshold()
    films: list[Broken] = []

    def unpacked() -> Iterator[Photo]:
        for photo in counted("enrolling", photos, on_event):
            if is_film(photo.name):
                try:
                    frames, reason = _photos_of_film(
                        Path(photo.name),
                        photo.person,
                        gallery.recognizer,
                        chosen,
                        None if known is None else known.value,
                    )
                except DataError as error:
                    frames, reason = [], str(error).removeprefix(f"{photo.name}: ")
                films.extend([] if reason is None else [Broken(photo.name, reason)])
                yield from frames
            else:
                yield photo

    result = gallery.enroll(
        unpacked(), metadata=metadata, keep_crops=keep_crops, select_face=chosen, min_quality=min_quality
    )
    return result.model_copy(update={"failed": merge_broken((*broken, *films), result.failed)})


def _photos_of_film(
    path: Path, person: str, recognizer: Recognizer, select_face: SelectFace, same: float | None
) -> tuple[list[Photo], str | None]:
    """Return the best frames of a film, at most 5, each cut to the face and its surroundings; and why none or fewer."""
    from facewright.video.frames import Reading
    from facewright.video.frames import read as read_film

    if recognizer.takes_photos_whole:
        raise UsageError(f"{path}: to find the person in a film a model needs a detector; add --detector")
    best: dict[int, tuple[float, Photo, Face]] = {}
    several = 0
    for frame in read_film(path, Reading(), every=EVERY):
        faces = recognizer.faces(frame.pixels)
        picked = one_of(faces, frame.pixels.shape[:2], select_face)
        several += picked.face is None and len(faces) > 1
        if picked.face is None:
            continue
        (quality,), place = recognizer.qualities([picked.face]), int(frame.seconds / APART)
        if quality.value > best.get(place, (-1.0,))[0]:
            name = f"{path}@{frame.seconds:.2f}s"
            best[place] = (quality.value, Photo(name, _around(frame.pixels, picked.face), person), picked.face)
        if len(best) > KEPT:
            del best[min(best, key=lambda one: best[one][0])]
    if not best:
        return [], "several faces in each frame" if several else "no face was found in any frame"
    chosen = sorted(best.values(), key=lambda one: -one[0])[:BEST]
    agreeing = _agreeing(recognizer.embed([face for _, _, face in chosen]), same)
    photos = [photo for (_, photo, _), agrees in zip(chosen, agreeing, strict=True) if agrees]
    left = len(chosen) - len(photos)
    return photos, f"{left} of {len(chosen)} frames show another face than the others" if left else None


def _around(pixels: Pixels, face: Face) -> Pixels:
    """The face and as much again on each side."""
    x, y, width, height = face.box
    top, left = max(0, round(y - height)), max(0, round(x - width))
    return pixels[top : round(y + 2 * height), left : round(x + 2 * width)].copy()


def _agreeing(vectors: NDArray[np.float32], same: float | None) -> Sequence[bool]:
    """Tell for each face if it is that of the face whose similarity to all is highest."""
    cosines = vectors @ vectors.T
    middle = int(cosines.sum(axis=1).argmax())
    return [same is None or place == middle or value >= same for place, value in enumerate(cosines[middle].tolist())]


def photos_of(people: Sequence[str]) -> tuple[list[Photo], tuple[Broken, ...]]:
    """List the photos to enroll, and files that are no photos.

    Args:
        people: a folder with a folder per person; or a name, and photos or folders of photos of that person.
    Raises:
        UsageError: neither of the two, or a name that cannot be enrolled (every name is checked). DataError: the folder
        holds no photos.
    """
    if len(people) >= 2:
        name = checked_name(people[0], "a person's name", MAX_TEXT)
        return [Photo.of(path, name) for path in photos_in([Path(one) for one in people[1:]])], ()
    folder = Path(people[0]) if people else None
    if folder is None or not folder.is_dir():
        raise UsageError("expected a folder with a folder per person, or a name and the photos of that person")
    from facewright.data.sources import open_dataset

    data = open_dataset(folder)
    root = folder.resolve()
    photos = [
        Photo.of(root / record.path, checked_name(person, "a person's name", MAX_TEXT))
        for record, person in zip(data.records, data.people, strict=True)
        if person is not None
    ]
    return photos, data.broken


@select_face_was_policy
def identify(
    gallery: Gallery,
    paths: Sequence[str | Path],
    *,
    threshold: float | None = None,
    where: Mapping[str, str] | None = None,
    select_face: SelectFace | None = None,
    every_face: bool = False,
    draw: str | Path | None = None,
) -> list[Identification] | list[PhotoIdentification]:
    """Identify the people in photos and in folders of photos; the other arguments are of `Gallery.identify`.

    Args:
        every_face: every face of a photo, not one.
        draw: a folder for the photos with a box and the name at each face; implies every_face.
    Raises:
        UsageError: no photo. Undefined: as `Gallery.identify`.
    """
    photos = [Photo.of(path) for path in photos_in(paths)]
    if not every_face and draw is None:
        return gallery.identify(
            photos, threshold=threshold, where=where, select_face=gallery.recognizer.face_selection(select_face)
        )
    results, draw = [], None if draw is None else Path(draw)
    for number, photo in enumerate(photos):
        results.append(gallery.identify_faces(photo, threshold=threshold, where=where))
        if draw is not None and results[-1].error is None:
            draw.mkdir(parents=True, exist_ok=True)
            write_atomic(draw / f"{number + 1:04d}-{Path(photo.name).stem}.png", _draw_identified(photo, results[-1]))
    return results


def _draw_identified(photo: Photo, result: PhotoIdentification) -> bytes:
    """Draw a box and the name, or "unknown", at each face of a photo. Returns a PNG."""
    from facewright.report.faces import draw_boxes

    pixels = photo.read(None)
    if isinstance(pixels, str):
        raise DataError(f"{photo.name}: {pixels}")
    boxes = [face.box for face in result.faces]
    return png_of(draw_boxes(pixels, boxes, [face.person or "unknown" for face in result.faces]))


def photos_in(paths: Sequence[str | Path]) -> list[Path]:
    """List photos and those in folders; one that is missing is reported with the others that cannot be read.

    Raises:
        UsageError: there is none.
    """
    places = [Path(path) for path in paths]
    photos = [photo for path in places for photo in (images_below(path) if path.is_dir() else [path])]
    if not photos:
        raise UsageError(none_found(places))
    return photos


def import_gallery(location: str | Path, source: str | Path) -> ImportResult:
    """Import an exported gallery; a missing gallery is created, with the threshold of the exported one.

    Args:
        location: the file or the address of the gallery. source: the exported one.
    Raises:
        DataError: the file is not what was exported; nothing is imported. OtherModel: its vectors are of another model
        than the gallery's.
    """
    source = Path(source)
    from facewright.gallery import transfer

    header = transfer.read_header(source)
    for _ in transfer.read(source, header.signature.width):  # before anything is created
        pass
    created = not exists(location)
    with Gallery(open_store(location, header.signature)) as gallery:
        signature = gallery.store.header().signature
        if signature.fingerprint != header.signature.fingerprint:
            raise OtherModel(
                f"{source}: was enrolled with {header.signature.model} (fingerprint "
                f"{header.signature.fingerprint[:8]}), {gallery.store.location} with {signature.model} "
                f"({signature.fingerprint[:8]}); reembed one of them first"
            )
        new, already = transfer.fill(gallery.store, source)
        if created and header.threshold is not None:
            gallery.store.set_threshold(header.threshold)
    return ImportResult(source=str(source), new=new, already=already)


def export_gallery(location: str | Path, out: str | Path, *, crops: bool = True) -> int:
    """Write a gallery as JSON lines; return the number of entries.

    Args:
        location: the file or the address of the gallery. out: the file to write. crops: with the face crops it keeps.
    Raises:
        GalleryError: the gallery changed meanwhile; no file is written.
    """
    from facewright.gallery import transfer

    with Gallery.open(location) as gallery:
        return transfer.export(gallery.store, Path(out), crops=crops)
