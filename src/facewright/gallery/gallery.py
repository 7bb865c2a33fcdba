"""A gallery of people: enrol their photos, look others up in it, and say who they are or that they are unknown.

>>> gallery = Gallery.for_enrolling("people.gallery")                                  # doctest: +SKIP
>>> gallery.enrol([Photo.of(Path("ann/1.jpg"), "ann")])                                # doctest: +SKIP
>>> gallery.calibrate(fpir=0.01)                                                       # doctest: +SKIP
>>> gallery.identify([Photo.of(Path("someone.jpg"))])[0].person                        # doctest: +SKIP
'ann'

Where no model is named, the built-in networks find the face in each photo. A model of one's own takes photos as faces
that were cropped already, as its InputSpec wants them, unless a detector is named.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np

from facewright.data.records import Broken
from facewright.errors import GalleryError, Undefined, UsageError
from facewright.gallery import migration, pinning
from facewright.gallery.calibration import GalleryThreshold, choose
from facewright.gallery.deciding import decide, person_of
from facewright.gallery.opening import exists, open_store, shown
from facewright.gallery.photos import Photo, batches, look, png_of, read
from facewright.gallery.results import Enrolled, EnrolledPhoto, Found, Identified, KnownFace, PeopleFound, Stats
from facewright.gallery.store import Entry, GalleryStore, checked_name
from facewright.recognition import DEFAULT_POLICY, Policy, Recognizer

MATCHES = 5  # people told of a search


class Gallery:
    """A store, and the recogniser that its vectors are of.

    Args:
        store: what is enrolled. recognizer: None where only the pin's name of it is known; loaded when needed.
    Raises:
        OtherModel: the recogniser is not the one that the gallery was enrolled with.
    """

    def __init__(self, store: GalleryStore, recognizer: Recognizer | None = None) -> None:
        self.store = store
        self._recognizer = recognizer
        if recognizer is not None:
            pinning.check_same(store.where, store.state().pin, recognizer)

    @classmethod
    def open(
        cls,
        where: str | Path,
        model: str | Path | None = None,
        *,
        detector: str | None = None,
        crop: float | None = None,
        flip: bool | None = None,
    ) -> Gallery:
        """Open a gallery, or make a new one where there is none and a model is named.

        Args:
            where: a file, or the address of one on a server (`opening`). model: a run directory, a bundle file,
                architecture@weights or "built-in"; the one it was made with where left out. detector: as `Recognizer`.
                crop, flip: of the input, in place of the model's own; those of the gallery where left out.
        Raises:
            GalleryError: no such gallery and no model. GalleryDamaged: it is not what was written. OtherModel: it was
            made with another model or preprocessing. As `Recognizer.load` for the model.
        """
        if model is None and detector is None and crop is None and flip is None:
            return cls(open_store(where))
        if not exists(where):
            if model is None:
                raise GalleryError(f"{shown(where)}: there is no such gallery; name a model to make one with")
            return cls.for_enrolling(where, model, detector=detector, crop=crop, flip=flip)
        store = open_store(where)
        try:
            wanted = pinning.load(store.state().pin, model, detector=detector, crop=crop, flip=flip)
            return cls(store, wanted)
        except BaseException:
            store.close()
            raise

    @classmethod
    def for_enrolling(
        cls,
        where: str | Path,
        model: str | Path | None = None,
        *,
        detector: str | None = None,
        crop: float | None = None,
        flip: bool | None = None,
        policy: Policy | None = None,
    ) -> Gallery:
        """As `open`; but one that is not there is made with the built-in networks where no model is named.

        Args:
            policy: that is asked for, to be refused before a gallery is made where photos are taken whole.
        """
        if exists(where):
            return cls.open(where, model, detector=detector, crop=crop, flip=flip)
        recognizer = Recognizer.load(model, detector=detector, crop=crop, flip=flip)
        recognizer.policy(policy)
        return cls(open_store(where, pinning.pin_of(recognizer)), recognizer)

    def __enter__(self) -> Gallery:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of it."""
        self.store.close()

    @property
    def recognizer(self) -> Recognizer:
        """What makes the vectors; loaded by the name that the gallery keeps where none was given.

        Raises:
            OtherModel: what has that name now is another network.
        """
        if self._recognizer is None:
            pin = self.store.state().pin
            recognizer = pinning.load(pin)
            pinning.check_same(self.store.where, pin, recognizer)
            self._recognizer = recognizer
        return self._recognizer

    def enrol(
        self,
        photos: Iterable[Photo],
        *,
        metadata: Mapping[str, str] | None = None,
        keep_crops: bool = False,
        policy: Policy = DEFAULT_POLICY,
    ) -> Enrolled:
        """Enrol photos, a batch at a time: each batch is kept once the next one begins.

        Args:
            photos: with the name of the person; the same photo of a person is enrolled once.
            metadata: of all these entries, to filter a search by. keep_crops: keep what the network sees as PNG too,
                without which the gallery cannot be moved to another model. policy: which of several faces is his.
        """
        enrolled: list[EnrolledPhoto] = []
        failed: list[Broken] = []
        for batch in batches(photos):
            for photo in batch:
                checked_name(photo.person)
            entries, said = list[Entry](), list[str | None]()
            for photo, seen in zip(batch, look(self.recognizer, batch, policy), strict=True):
                if isinstance(seen, str):
                    failed.append(Broken(photo.name, seen))
                    continue
                crop = png_of(seen.pixels) if keep_crops else None
                entries.append(Entry(photo.person, seen.vector, seen.digest, photo.name, dict(metadata or {}), crop))
                said.append(seen.taken.said)
            numbers = self.store.add(entries)
            told = zip(entries, numbers, said, strict=True)
            enrolled += [EnrolledPhoto(entry.person, entry.photo, number, which) for entry, number, which in told]
        return Enrolled(tuple(enrolled), tuple(failed))

    def search(
        self,
        photos: Iterable[Photo],
        *,
        k: int = MATCHES,
        where: Mapping[str, str] | None = None,
        policy: Policy = DEFAULT_POLICY,
    ) -> list[Found]:
        """The people most like each photo, best first, whether or not they are alike enough.

        Args:
            k: how many people. where: only entries with all these in their metadata. policy: which of several faces.
        """
        found = []
        for batch in batches(photos):
            seen = look(self.recognizer, batch, policy)
            good = [one.vector for one in seen if not isinstance(one, str)]
            matches = iter(self.store.nearest(np.stack(good), k, where or {}) if good else ())
            for photo, one in zip(batch, seen, strict=True):
                if isinstance(one, str):
                    found.append(Found(photo.name, (), one))
                else:
                    found.append(Found(photo.name, tuple(next(matches)), None, one.taken))
        return found

    def identify(
        self,
        photos: Iterable[Photo],
        *,
        threshold: float | None = None,
        k: int = MATCHES,
        where: Mapping[str, str] | None = None,
        policy: Policy = DEFAULT_POLICY,
    ) -> list[Identified]:
        """Who is on each photo: the person most like it, if alike enough; else unknown.

        Args:
            threshold: accept iff score >= threshold; the gallery's own where left out. k, where, policy: as `search`.
        Raises:
            Undefined: the gallery has no threshold and none is given.
        """
        least = self._threshold(threshold)
        return [decide(found, least) for found in self.search(photos, k=k, where=where, policy=policy)]

    def people_in(
        self,
        photo: Photo,
        *,
        threshold: float | None = None,
        k: int = MATCHES,
        where: Mapping[str, str] | None = None,
    ) -> PeopleFound:
        """Who everybody on a photo is: each face by itself, so that two may be taken for one person.

        Args, Raises: as `identify`.
        """
        least = self._threshold(threshold)
        pixels = read(photo, self.recognizer.at_least)
        if isinstance(pixels, str):
            return PeopleFound(photo.name, 0, 0, least, (), pixels)
        faces = self.recognizer.faces(pixels)
        found = self.store.nearest(self.recognizer.embed(faces), k, where or {}) if faces else []
        known = [
            KnownFace(face.box, face.score, person_of(matches, least), tuple(matches))
            for face, matches in zip(faces, found, strict=True)
        ]
        height, width = pixels.shape[:2]
        return PeopleFound(photo.name, width, height, least, tuple(known), None)

    def _threshold(self, given: float | None) -> float:
        """The one given, or the gallery's."""
        stored = self.threshold if given is None else None
        if given is not None:
            return given
        if stored is None:
            raise Undefined(
                f"{self.store.where}: the gallery has no threshold, so nobody can be told from a stranger; "
                "choose one (facewright gallery calibrate), or give one (--threshold)"
            )
        return stored.threshold.value

    @property
    def threshold(self) -> GalleryThreshold | None:
        """The threshold that `calibrate` has kept."""
        facts = self.store.state().threshold
        return None if facts is None else GalleryThreshold.from_dict(facts)

    def calibrate(self, fpir: float) -> GalleryThreshold:
        """Choose from the enrolled themselves when somebody is unknown, and keep it; see `calibration.choose`."""
        chosen = choose(self.store, fpir)
        self.store.keep_threshold(chosen.to_dict())
        return chosen

    def people(self) -> dict[str, int]:
        """How many entries each person has."""
        return self.store.people()

    def delete(self, people: Sequence[str] = (), numbers: Sequence[int] = ()) -> int:
        """Remove people, or single entries, and every byte of theirs; see `GalleryStore.delete`.

        Returns:
            How many entries there were of them.
        Raises:
            UsageError: one of them is not enrolled; nothing is deleted.
        """
        known = self.store.people()
        held = {row.number for row in self.store.rows()} if numbers else set()
        missing = [repr(name) for name in people if name not in known]
        missing += [str(number) for number in numbers if number not in held]
        if missing:
            raise UsageError(f"{self.store.where}: not enrolled: {', '.join(missing)}; nothing was deleted")
        return self.store.delete(people, numbers)

    def stats(self) -> Stats:
        """What is in it. Reads and verifies everything."""
        self.store.check()
        state, people = self.store.state(), self.store.people()
        crops = sum(row.has_crop for row in self.store.rows())
        return Stats(self.store.where, state.pin, len(people), state.entries, crops, state.revision, self.threshold)

    def reembed(
        self,
        model: str | Path,
        *,
        detector: str | None = None,
        crop: float | None = None,
        flip: bool | None = None,
    ) -> int:
        """Move all entries to another model, from the crops that were kept. The threshold goes.

        Args:
            detector: that of the gallery where left out.
        Returns:
            How many entries.
        Raises:
            GalleryError: an entry has no crop; nothing is changed. UsageError: the model takes another part of a photo
            than the crops are of.
        """
        pin = self.store.state().pin
        found = Recognizer.load(model, detector=pin.detector if detector is None else detector, crop=crop, flip=flip)
        count = migration.reembed(self.store, found)
        self._recognizer = found
        return count
