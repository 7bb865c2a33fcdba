"""A gallery of people: enrol their photos, look others up in it, and say who they are or that they are unknown.

>>> gallery = Gallery.open("people.gallery", "mobilefacenet@weights.safetensors")      # doctest: +SKIP
>>> gallery.enrol([Photo.of(Path("ann/1.jpg"), "ann")])                                # doctest: +SKIP
>>> gallery.calibrate(fpir=0.01)                                                       # doctest: +SKIP
>>> gallery.identify([Photo.of(Path("someone.jpg"))])[0].person                        # doctest: +SKIP
'ann'

Photos are taken as faces that were cropped already, as the model's InputSpec wants them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from facewright import images
from facewright.data.records import Broken
from facewright.embedding import BATCH, Embedder
from facewright.errors import GalleryError, OtherModel, Undefined, UsageError
from facewright.gallery.calibration import GalleryThreshold, choose
from facewright.gallery.opening import exists, open_store, shown
from facewright.gallery.photos import Photo, batches, look, png_of, tensor
from facewright.gallery.results import Enrolled, Found, Identified, Stats
from facewright.gallery.store import Entry, GalleryStore, Pin, checked_name

MATCHES = 5  # people told of a search


class Gallery:
    """A store, and the network that its vectors are of.

    Args:
        store: what is enrolled. embedder: None where only the pin's name of it is known; it is loaded when needed.
    Raises:
        OtherModel: the embedder is not the one that the gallery was enrolled with.
    """

    def __init__(self, store: GalleryStore, embedder: Embedder | None = None) -> None:
        self.store = store
        self._embedder = None if embedder is None else self._fitting(embedder)

    @classmethod
    def open(
        cls, where: str | Path, model: str | Path | None = None, *, crop: float | None = None, flip: bool | None = None
    ) -> Gallery:
        """Open a gallery, or make a new one where there is none and a model is named.

        Args:
            where: a file, or the address of one on a server (`opening`). model: a run directory, a bundle file or
                architecture@weights; the one it was made with where left out. crop, flip: of the input, in place of the
                model's own; those of the gallery where left out and it exists.
        Raises:
            GalleryError: no such gallery and no model. GalleryDamaged: it is not what was written. OtherModel: it was
            made with another model or preprocessing. As `Embedder.load` for the model.
        """
        if model is None and crop is None and flip is None:
            return cls(open_store(where))
        if not exists(where):
            if model is None:
                raise GalleryError(f"{shown(where)}: there is no such gallery; name a model to make one with")
            embedder = Embedder.load(model, crop=crop, flip=flip)
            return cls(open_store(where, pin_of(embedder)), embedder)
        store = open_store(where)
        try:
            pin = store.state().pin
            crop, flip = pin.crop if crop is None else crop, pin.flip if flip is None else flip
            return cls(store, Embedder.load(pin.model if model is None else model, crop=crop, flip=flip))
        except BaseException:
            store.close()
            raise

    def __enter__(self) -> Gallery:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of it."""
        self.store.close()

    @property
    def embedder(self) -> Embedder:
        """The network; loaded by the name that the gallery keeps where none was given.

        Raises:
            OtherModel: what has that name now is another network.
        """
        if self._embedder is None:
            pin = self.store.state().pin
            self._embedder = self._fitting(Embedder.load(pin.model, crop=pin.crop, flip=pin.flip))
        return self._embedder

    def enrol(
        self, photos: Iterable[Photo], *, metadata: Mapping[str, str] | None = None, keep_crops: bool = False
    ) -> Enrolled:
        """Enrol photos, a batch at a time: each batch is kept once the next one begins.

        Args:
            photos: with the name of the person; the same photo of a person is enrolled once.
            metadata: of all these entries, to filter a search by. keep_crops: keep what the network sees as PNG too,
                without which the gallery cannot be moved to another model.
        """
        enrolled: list[tuple[str, str, int | None]] = []
        failed: list[Broken] = []
        for batch in batches(photos):
            for photo in batch:
                checked_name(photo.person)
            entries = []
            for photo, seen in zip(batch, look(self.embedder, batch), strict=True):
                if isinstance(seen, str):
                    failed.append(Broken(photo.name, seen))
                    continue
                crop = png_of(seen.pixels) if keep_crops else None
                entries.append(Entry(photo.person, seen.vector, seen.digest, photo.name, dict(metadata or {}), crop))
            numbers = self.store.add(entries)
            enrolled += [(e.person, e.photo, number) for e, number in zip(entries, numbers, strict=True)]
        return Enrolled(tuple(enrolled), tuple(failed))

    def search(
        self, photos: Iterable[Photo], *, k: int = MATCHES, where: Mapping[str, str] | None = None
    ) -> list[Found]:
        """The people most like each photo, best first, whether or not they are alike enough.

        Args:
            k: how many people. where: only entries with all these in their metadata.
        """
        found = []
        for batch in batches(photos):
            seen = look(self.embedder, batch)
            good = [one.vector for one in seen if not isinstance(one, str)]
            matches = iter(self.store.nearest(np.stack(good), k, where or {}) if good else ())
            for photo, one in zip(batch, seen, strict=True):
                refused = one if isinstance(one, str) else None
                found.append(Found(photo.name, () if refused else tuple(next(matches)), refused))
        return found

    def identify(
        self,
        photos: Iterable[Photo],
        *,
        threshold: float | None = None,
        k: int = MATCHES,
        where: Mapping[str, str] | None = None,
    ) -> list[Identified]:
        """Who is on each photo: the person most like it, if alike enough; else unknown.

        Args:
            threshold: accept iff score >= threshold; the gallery's own where left out. k, where: as `search`.
        Raises:
            Undefined: the gallery has no threshold and none is given.
        """
        if threshold is None:
            stored = self.threshold
            if stored is None:
                raise Undefined(
                    f"{self.store.where}: the gallery has no threshold, so nobody can be told from a stranger; "
                    "choose one (facewright gallery calibrate), or give one (--threshold)"
                )
            threshold = stored.threshold.value
        return [decide(found, threshold) for found in self.search(photos, k=k, where=where)]

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

    def reembed(self, model: str | Path, *, crop: float | None = None, flip: bool | None = None) -> int:
        """Move all entries to another model, from the crops that were kept. The threshold goes.

        Returns:
            How many entries.
        Raises:
            GalleryError: an entry has no crop; nothing is changed. UsageError: the model takes another part of a photo
            than the crops are of.
        """
        embedder, pin = Embedder.load(model, crop=crop, flip=flip), self.store.state().pin
        if embedder.spec.crop != pin.crop:
            raise UsageError(
                f"the crops are the central {pin.crop:g} of both sides of the photos and {model} takes "
                f"{embedder.spec.crop:g}: say --crop {pin.crop:g}, or enrol the photos anew"
            )
        rows = list(self.store.rows())
        bare = sum(not row.has_crop for row in rows)
        if bare:
            raise GalleryError(
                f"{self.store.where}: {bare} of {len(rows)} entries were enrolled without their crops; "
                "enrol the photos anew into a new gallery"
            )
        spec = replace(embedder.spec, crop=1.0)  # the crops have been cut already
        vectors: dict[int, NDArray[np.float32]] = {}
        for batch in (rows[start : start + BATCH] for start in range(0, len(rows), BATCH)):
            pixels = [spec.fit(images.read(self.store.crop(row.number) or b"", name=row.entry.photo)) for row in batch]
            found = embedder.embed(tensor(pixels))
            vectors.update(zip((row.number for row in batch), found, strict=True))
        self.store.reembed(pin_of(embedder), vectors)
        self._embedder = embedder
        return len(vectors)

    def _fitting(self, embedder: Embedder) -> Embedder:
        pin = self.store.state().pin
        if embedder.fingerprint != pin.fingerprint:
            raise OtherModel(
                f"{self.store.where}: was enrolled with {pin.model} (crop {pin.crop:g}, fingerprint "
                f"{pin.fingerprint[:8]}), and {embedder.name} (crop {embedder.spec.crop:g}, fingerprint "
                f"{embedder.fingerprint[:8]}) makes other vectors; use that model, or migrate with "
                "facewright gallery reembed"
            )
        return embedder


def decide(found: Found, threshold: float) -> Identified:
    """Take the best match where it is alike enough.

    >>> decide(Found("a.jpg", (), None), 0.5).person is None  # nobody is enrolled
    True
    """
    best = found.matches[0] if found.matches else None
    person = best.person if best is not None and best.score >= threshold else None
    return Identified(found.photo, person, threshold, found.matches, found.error)


def pin_of(embedder: Embedder) -> Pin:
    """What a gallery of this network is pinned to; files are named so that they are found from anywhere."""
    before, at, after = embedder.name.rpartition("@")
    name = f"{before}{at}{Path(after).absolute()}" if Path(after).exists() else embedder.name
    return Pin(embedder.fingerprint, name, embedder.spec.crop, embedder.spec.flip, embedder.width)
