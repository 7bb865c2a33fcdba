"""Images embedded, and pairs of them scored: what verification, calibration and search share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facewright.data.image_records import reason_of
from facewright.data.pairs import Pairs, read_pairs
from facewright.data.records import Broken, Dataset, Record, merge_broken
from facewright.data.store import PixelStore
from facewright.embedding import similarities
from facewright.errors import BadImage, DataError
from facewright.events import EventHandler, Message, Progress, in_blocks
from facewright.images import Pixels, pixel_digest
from facewright.recognition import Face, Picked, Recognizer, SelectFace

FACES = 64  # embedded at a time
PAIRS = 65_536  # scored at a time


@dataclass(frozen=True, eq=False)
class Vectors:
    """Embedded images of a data set."""

    dataset: Dataset  # broken: what could not be read, or shows no face that could be taken
    vectors: NDArray[np.float32]  # (N, D) unit length, row i is dataset.records[i]
    digests: tuple[str, ...]  # (N,) of the images' pixels
    image: Callable[[int], Pixels]  # what the network saw of record i, (H, W, 3)
    several: int  # images with more than one face
    quality: NDArray[np.float64] | None = None  # (N,) of the faces that were found; None: photos taken whole
    norms: NDArray[np.float64] | None = None  # (N,) of their embeddings, before the scaling to length one; NaN: unknown

    @property
    def people(self) -> NDArray[np.str_]:
        """(N,) who each image shows. Raises: as `people_on`."""
        return people_on(self.dataset)


@dataclass(frozen=True, eq=False)
class ScoredPairs:
    """Pairs with their cosines."""

    pairs: Pairs
    embedded: Vectors
    scores: NDArray[np.float64]  # (P,) NaN where an image could not be used
    failures: NDArray[np.int64]  # the indices of those
    digest: str  # of the pixels, who is who, and the folds: equal for equal data, wherever they lie

    @property
    def scored(self) -> NDArray[np.bool_]:
        """(P,) true where there is a score."""
        return ~np.isnan(self.scores)

    @property
    def quality(self) -> NDArray[np.float64] | None:
        """(P, 2) quality of both faces, NaN where there is none; None where photos are taken whole."""
        if self.embedded.quality is None:
            return None
        rows = self.pairs.rows(self.embedded.dataset.records)
        return np.where(rows >= 0, self.embedded.quality[rows], np.nan)

    @property
    def people(self) -> NDArray[np.str_] | None:
        """(P, 2) who is in each pair; None where that is not known."""
        return None if self.pairs.people is None else np.array(self.pairs.people).reshape(-1, 2)


def people_on(data: Dataset) -> NDArray[np.str_]:
    """(N,) who each image of a data set shows: the identity where the data say it, else the class.

    Raises:
        DataError: of some image neither is known.
    """
    if None in data.people:
        path = data.records[data.people.index(None)].path
        raise DataError(f"{data.where}: expected to know who is on each image; of {path} that is not said")
    return np.array(data.people, dtype=np.str_)


def embed_all(
    recognizer: Recognizer,
    dataset: Dataset,
    on_event: EventHandler,
    select_face: SelectFace | None = None,
    points: Mapping[str, NDArray[np.float64]] | None = None,
) -> Vectors:
    """Every image of a data set, decoded once and embedded; what cannot be read or shows no face is said, left out.

    Args:
        select_face: which of several faces; the default where None.
        points: of the face of each image by its path, (5, 2) as of `Recognizer.pick_at`; nothing is detected then.
    Raises:
        DataError: not one image can be used. UsageError: select_face where photos are taken whole.
    """
    chosen = recognizer.face_selection(select_face)
    if recognizer.takes_photos_whole and points is None:
        found = _whole(recognizer, dataset, on_event)
    else:
        found = _cut_out(recognizer, dataset, on_event, chosen, points)
    for broken in found.dataset.broken:
        on_event(Message(f"left out: {broken.path}: {broken.reason}"))
    if found.several:
        which = "largest" if chosen == "largest" else "one nearest to the centre"
        on_event(Message(f"{found.several:,} images show several faces; took the {which}"))
    return found


def _whole(recognizer: Recognizer, dataset: Dataset, on_event: EventHandler) -> Vectors:
    """Images that are fed to the network as they are, by way of the cache of decoded pixels."""
    store = PixelStore.open(dataset, recognizer.spec, on_event=on_event)
    count = len(store.dataset)
    vectors = np.empty((count, recognizer.width), np.float32)
    for part in in_blocks("embedding", count, on_event):
        vectors[part] = recognizer.embed_crops(list(store.pixels[part]))
    return Vectors(store.dataset, vectors, store.digests, lambda row: np.asarray(store.pixels[row]), 0)


class _Embedded:
    """The vectors of faces, embedded as soon as enough wait."""

    def __init__(self, recognizer: Recognizer) -> None:
        self.recognizer, self.waiting = recognizer, list[Face]()
        self.vectors, self.norms = list[NDArray[np.float32]](), list[NDArray[np.float64]]()
        self.quality: list[float] = []

    def add(self, face: Face) -> None:
        self.waiting.append(face)
        if len(self.waiting) == FACES:
            self.flush()

    def flush(self) -> None:
        found, lengths = self.recognizer.embed_with_norms(self.waiting)
        self.vectors.append(found)
        self.norms.append(lengths)
        self.quality += [one.value for one in self.recognizer.qualities(self.waiting, lengths)]
        self.waiting.clear()


def _cut_out(
    recognizer: Recognizer,
    dataset: Dataset,
    on_event: EventHandler,
    select_face: SelectFace,
    points: Mapping[str, NDArray[np.float64]] | None,
) -> Vectors:
    """Images whose face has to be found first."""
    records, digests, broken = list[Record](), list[str](), list[Broken]()
    embedded, several = _Embedded(recognizer), 0
    for done, (record, digest, picked) in enumerate(picked_faces(recognizer, dataset, select_face, points), 1):
        on_event(Progress("finding faces", done - 1, len(dataset)))
        if picked.face is None:
            broken.append(Broken(record.path, picked.reason or ""))
            continue
        several += picked.faces > 1
        records.append(record)
        digests.append(digest)
        embedded.add(picked.face)
    embedded.flush()
    on_event(Progress("finding faces", len(dataset), len(dataset)))
    left = replace(dataset, records=tuple(records), broken=merge_broken(dataset.broken, broken))
    if not records:
        first = f"{left.broken[0].path}: {left.broken[0].reason}" if left.broken else "it lists none"
        raise DataError(f"{dataset.where}: not one image can be used (the first: {first})")

    def pixels_of(row: int) -> Pixels:  # cut out again: the faces of all images would fill the memory
        ((_, _, picked),) = picked_faces(recognizer, replace(dataset, records=(records[row],)), select_face, points)
        return np.zeros((1, 1, 3), np.uint8) if picked.face is None else picked.face.chip

    vectors, norms = np.concatenate(embedded.vectors), np.concatenate(embedded.norms)
    return Vectors(left, vectors, tuple(digests), pixels_of, several, np.array(embedded.quality), norms)


def picked_faces(
    recognizer: Recognizer,
    dataset: Dataset,
    select_face: SelectFace,
    points: Mapping[str, NDArray[np.float64]] | None = None,
) -> Iterator[tuple[Record, str, Picked]]:
    """Each image with its digest and the face that is taken; or why there is none; `points` as of `embed_all`."""
    for record in dataset.records:
        try:
            photo = dataset.source.read(record, recognizer.at_least if points is None else None)
        except (BadImage, OSError) as error:
            yield record, "", Picked(None, 0, select_face, reason_of(error))
        else:
            at = None if points is None else points[record.path]
            picked = recognizer.pick(photo, select_face) if at is None else recognizer.pick_at(photo, at)
            yield record, pixel_digest(photo), picked


def score_pairs(
    recognizer: Recognizer,
    where: str | Path,
    images: str | Path | None,
    on_event: EventHandler,
    select_face: SelectFace | None = None,
) -> ScoredPairs:
    """Read a list of pairs, embed its images, each once, and compare.

    Args:
        where: the list (`data.pairs.read_pairs`). images: the folder of its images, None for a .bin. select_face: as
            `embed_all`.
    Raises:
        DataError: the list cannot be understood, or none of its images can be used.
    """
    pairs = read_pairs(where, images)
    embedded = embed_all(recognizer, pairs.dataset(images), on_event, select_face)
    rows = pairs.rows(embedded.dataset.records)
    scores = np.full(len(pairs), np.nan)
    usable = np.flatnonzero((rows >= 0).all(axis=1))
    for start in range(0, usable.size, PAIRS):
        part = usable[start : start + PAIRS]
        scores[part] = similarities(embedded.vectors[rows[part, 0]], embedded.vectors[rows[part, 1]])
    digest = _digest(pairs, rows, embedded.digests)
    return ScoredPairs(pairs, embedded, scores, np.flatnonzero(np.isnan(scores)), digest)


def _digest(pairs: Pairs, rows: NDArray[np.int64], digests: Sequence[str]) -> str:
    state = hashlib.blake2b(digest_size=16)
    folds = [-1] * len(pairs) if pairs.fold is None else pairs.fold.tolist()
    for (first, second), same, fold in zip(rows.tolist(), pairs.same.tolist(), folds, strict=True):
        sides = [digests[row] if row >= 0 else "" for row in (first, second)]
        state.update(json.dumps([*sides, same, fold]).encode())
    return state.hexdigest()
