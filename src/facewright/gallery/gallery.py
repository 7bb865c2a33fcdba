"""A gallery of people: enroll their photos, search for others in it, and identify people or call them unknown.

Without a model's name, the built-in networks find the face in each photo. A model of your own takes photos as aligned
face crops, as its InputSpec wants them, unless a detector is named.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from types import TracebackType

import numpy as np

from facewright.data.records import Broken
from facewright.errors import UsageError
from facewright.gallery import editing, exists, open_store, signatures
from facewright.gallery.calibration import Decisions
from facewright.gallery.entries import Entry, Match
from facewright.gallery.results import (
    EmbeddedPhoto,
    EnrolledPhoto,
    Enrollment,
    GalleryStats,
    Identification,
    IdentifiedFace,
    Photo,
    PhotoIdentification,
    SearchResult,
    about_quality,
    assign_nearest,
    embed_photos,
    threshold_of,
)
from facewright.gallery.store import GalleryStore
from facewright.images import ImageLike, png_of
from facewright.metrics.thresholds import Threshold
from facewright.public_names import select_face_was_policy
from facewright.recognition import DEFAULT_SELECTION, Recognizer, SelectFace

TOP = 5  # people in a search result
SAME_PHOTO = 0.999  # similarity of copies, for a model without a threshold


class Gallery(editing.People):
    """A store, and the recognizer that its vectors are of.

    Args:
        store: the enrolled people. recognizer: None: loaded by the name in the store when needed.
    Raises:
        OtherModel: the recognizer is not the one that the gallery was enrolled with.
    """

    def __init__(self, store: GalleryStore, recognizer: Recognizer | None = None, device: str | None = None) -> None:
        self.store = store
        self._device = device
        self._recognizer = recognizer
        self._decisions = Decisions(store, lambda: self.recognizer)
        if recognizer is not None:
            signatures.check_same(store.location, store.header().signature, recognizer)

    @classmethod
    def open(
        cls,
        location: str | Path,
        model: str | Path | None = None,
        *,
        detector: str | None = None,
        crop: float | None = None,
        flip: bool | None = None,
        device: str | None = None,
    ) -> Gallery:
        """Open a gallery, or create one if there is none and a model is named.

        Args:
            location: a file, or the address of a gallery on a server (docs/galleries.md).
            model: a run directory, a bundle file, architecture@weights or "built-in"; default: the gallery's own.
            detector: as `Recognizer`. crop, flip: of the input; default: those of the gallery.
            device: what computes, as for `devices.choose`.
        Raises:
            GalleryError: no such gallery and no model. GalleryDamaged: it is not what was written. OtherModel: it was
                created with another model or preprocessing. As `Recognizer.load` for the model.
        """
        if model is not None and not exists(location):
            return cls.for_enrolling(location, model, detector=detector, crop=crop, flip=flip, device=device)
        store = open_store(location)
        try:
            if model is None and detector is None and crop is None and flip is None:
                return cls(store, device=device)
            signature = store.header().signature
            chosen = signatures.load(signature, model, detector=detector, crop=crop, flip=flip, device=device)
            return cls(store, chosen, device)
        except BaseException:
            store.close()
            raise

    @classmethod
    @select_face_was_policy
    def for_enrolling(
        cls,
        location: str | Path,
        model: str | Path | None = None,
        *,
        detector: str | None = None,
        crop: float | None = None,
        flip: bool | None = None,
        select_face: SelectFace | None = None,
        device: str | None = None,
    ) -> Gallery:
        """Open a gallery, or create one: with the built-in networks if no model is named.

        Args:
            select_face: refused before a gallery is created, if the model takes whole photos.
        """
        if exists(location):
            return cls.open(location, model, detector=detector, crop=crop, flip=flip, device=device)
        recognizer = Recognizer.load(model, detector=detector, crop=crop, flip=flip, device=device)
        recognizer.face_selection(select_face)
        return cls(open_store(location, signatures.signature_of(recognizer)), recognizer, device)

    def __enter__(self) -> Gallery:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the store."""
        self.store.close()

    @property
    def recognizer(self) -> Recognizer:
        """The recognizer that makes the vectors. Raises OtherModel: another network has the stored name now."""
        if self._recognizer is None:
            signature = self.store.header().signature
            recognizer = signatures.load(signature, device=self._device)
            signatures.check_same(self.store.location, signature, recognizer)
            self._recognizer = recognizer
        return self._recognizer

    @select_face_was_policy
    def enroll(
        self,
        photos: Iterable[Photo],
        *,
        metadata: Mapping[str, str] | None = None,
        keep_crops: bool = False,
        select_face: SelectFace = DEFAULT_SELECTION,
        min_quality: float = 0.0,
    ) -> Enrollment:
        """Enroll photos, a batch at a time: each batch is kept once the next one begins.

        Args:
            photos: with the names of the people; the same photo of a person is enrolled once.
            metadata: of all these entries, to filter a search by.
            keep_crops: keep the aligned crops as PNG too, which `reembed` needs.
            select_face: which of several faces is the person.
            min_quality: in [0, 1]; a face below it fails, see `faces.quality`.
        Raises:
            UsageError: the quality is not in [0, 1].
        """
        if not 0 <= min_quality <= 1:
            raise UsageError(f"expected a min. quality in [0, 1], got {min_quality}")
        enrolled: list[EnrolledPhoto] = []
        failed: list[Broken] = []
        names: dict[str, str] = {}  # as given -> as enrolled
        warnings: list[str] = []
        for batch in _batches(photos):
            for name in {photo.person for photo in batch} - set(names):
                names[name], warning = editing.name_for(self.store, name)
                warnings += warning
            entries, kept = list[Entry](), list[EmbeddedPhoto]()
            results = embed_photos(self.recognizer, batch, select_face, min_quality)
            for photo, embedded in zip(batch, results, strict=True):
                if isinstance(embedded, str):
                    failed.append(Broken(photo.name, embedded))
                    continue
                crop = png_of(embedded.face.chip) if keep_crops else None
                tags = dict(metadata or {})
                entries.append(Entry(names[photo.person], embedded.vector, embedded.digest, photo.name, tags, crop))
                kept.append(embedded)
            numbers = self.store.add(entries)
            for entry, number, one, similar in zip(entries, numbers, kept, self._similar(entries), strict=True):
                facts = {"number": number, "message": one.picked.said, "similar": similar, "quality": one.quality}
                enrolled.append(EnrolledPhoto(person=entry.person, photo=entry.photo, **facts))
        return Enrollment(photos=tuple(enrolled), failed=tuple(failed), warnings=tuple(warnings))

    def _similar(self, entries: Sequence[Entry]) -> list[Match | None]:
        """For each entry just enrolled, another person so similar that it may be the same one."""
        if not entries:
            return []
        threshold = self.threshold or self.recognizer.threshold()
        value = SAME_PHOTO if threshold is None else threshold.value
        results = self.store.nearest(np.stack([entry.vector for entry in entries]), 2, {})
        return [
            next((one for one in matches if one.person != entry.person and one.score >= value), None)
            for entry, matches in zip(entries, results, strict=True)
        ]

    @select_face_was_policy
    def search(
        self,
        photos: Iterable[Photo | ImageLike],
        *,
        k: int = TOP,
        where: Mapping[str, str] | None = None,
        select_face: SelectFace = DEFAULT_SELECTION,
    ) -> list[SearchResult]:
        """Find the nearest people to each photo, best first, whatever their scores.

        Args:
            photos: photos, paths, H x W x 3 uint8 arrays or PIL images. k: number of people. where: only entries with
                all these in their metadata. select_face: which of several faces.
        """
        results = []
        for batch in _batches(map(Photo.of, photos)):
            embedded = embed_photos(self.recognizer, batch, select_face)
            vectors = [one.vector for one in embedded if not isinstance(one, str)]
            matches = iter(self.store.nearest(np.stack(vectors), k, where or {}) if vectors else ())
            for photo, one in zip(batch, embedded, strict=True):
                if isinstance(one, str):
                    results.append(SearchResult(photo=photo.name, error=one))
                    continue
                selected = {"faces": one.picked.faces, "box": one.face.box, "message": one.picked.said}
                matched = tuple(next(matches))
                results.append(SearchResult(photo=photo.name, matches=matched, quality=one.quality, **selected))
        return results

    @select_face_was_policy
    def identify(
        self,
        photos: Iterable[Photo | ImageLike],
        *,
        threshold: float | None = None,
        k: int = TOP,
        where: Mapping[str, str] | None = None,
        select_face: SelectFace = DEFAULT_SELECTION,
    ) -> list[Identification]:
        """Identify the person on each photo: the nearest one, if the score reaches the threshold; else unknown.

        Args:
            threshold: accept iff score >= threshold; default: the gallery's own. k, where, select_face: as `search`.
        Raises:
            Undefined: none is given, the gallery has no threshold, and there is no default.
        """
        value, poor = self._decisions.for_faces(threshold)
        found = self.search(photos, k=k, where=where, select_face=select_face)
        return [result.identified(value, poor) for result in found]

    def identify_faces(
        self,
        photo: Photo | ImageLike,
        *,
        threshold: float | None = None,
        k: int = TOP,
        where: Mapping[str, str] | None = None,
    ) -> PhotoIdentification:
        """Identify every face of a photo; each person at most once.

        Args, Raises: as `identify`.
        """
        (value, poor), photo = self._decisions.for_faces(threshold), Photo.of(photo)
        pixels = photo.read(self.recognizer.at_least)
        if isinstance(pixels, str):
            return PhotoIdentification(photo=photo.name, threshold=value, error=pixels)
        faces, searched = self.recognizer.search(pixels)
        vectors, qualities = self.recognizer.embed_with_quality(faces)
        limits = [threshold_of(quality, value, poor) for quality in qualities]
        results, answers = assign_nearest(
            lambda some, count: self.store.nearest(vectors[list(some)], count, where or {}), limits, k
        )
        identified = tuple(
            IdentifiedFace(
                box=face.box,
                score=face.score,
                person=person,
                matches=tuple(matches[:k]),
                reason=None if reason is None else reason + about_quality(quality),
                quality=quality,
                threshold=limit,
            )
            for face, matches, (person, reason), quality, limit in zip(
                faces, results, answers, qualities, limits, strict=True
            )
        )
        height, width = pixels.shape[:2]
        size = {"width": width, "height": height, "searched": searched}
        return PhotoIdentification(photo=photo.name, **size, threshold=value, faces=identified)

    def decision_threshold(self) -> Threshold:
        """The stored threshold; else a conservative default, see `calibration.Decisions`. Raises Undefined: neither."""
        return self._decisions.threshold()

    @property
    def threshold(self) -> Threshold | None:
        """The threshold that `calibrate` has stored."""
        return self._decisions.stored

    def calibrate(self, fpir: float, confidence: float | None = None) -> Threshold:
        """Choose the threshold from the enrolled people and store it; see `Decisions.calibrate`."""
        return self._decisions.calibrate(fpir, confidence)

    def stats(self) -> GalleryStats:
        """Read and verify everything, and count it."""
        self.store.check()
        header = self.store.header()
        return GalleryStats(
            location=self.store.location,
            signature=header.signature,
            people=len(self.store.people()),
            entries=header.entries,
            crops=sum(row.has_crop for row in self.store.rows()),
            revision=header.revision,
            threshold=self.threshold,
            advice=editing.advice_for(self.store.people(), self.threshold),
        )

    def reembed(
        self,
        model: str | Path,
        *,
        detector: str | None = None,
        crop: float | None = None,
        flip: bool | None = None,
    ) -> int:
        """Move all entries to another model, from the crops that were kept; count them. The threshold is removed.

        Args:
            detector: default: that of the gallery.
        Raises:
            GalleryError: an entry has no crop; nothing is changed. UsageError: the model takes other crops.
        """
        signature = self.store.header().signature
        detector = detector or signature.detector
        recognizer = Recognizer.load(model, detector=detector, crop=crop, flip=flip, device=self._device)
        count = signatures.reembed(self.store, recognizer)
        self._recognizer = recognizer
        return count


def _batches(photos: Iterable[Photo]) -> Iterator[list[Photo]]:
    remaining = iter(photos)
    while batch := list(islice(remaining, signatures.BATCH)):
        yield batch
