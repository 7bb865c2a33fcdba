"""Sorting photos by person: faces, vectors, clusters; a folder a person, a contact sheet, and decisions that are kept.

    OUT/sorted/person_0001/PHOTO-KEY.png   the aligned face crops of a person, the largest cluster first
    OUT/unsorted/                          faces that are like no other
    OUT/index.html                         the contact sheet
    OUT/clusters.json                      the faces, their clusters, the decisions
    OUT/vectors.safetensors                the vectors: biometric, readable by this user alone

A further call with the same OUT embeds only new photos, keeps the names of people, and keeps every decision: merged
people are linked as one person, a face that was split off as another one. Two faces of one photo are two people, unless
a decision says otherwise.
"""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from safetensors import SafetensorError
from safetensors.numpy import load, save

from facewright import images
from facewright.clustering import Clusters, cluster
from facewright.errors import DataError, OtherModel, Undefined, UsageError
from facewright.events import EventHandler, Message, counted, ignore_event
from facewright.faces.scaling import of_at_least
from facewright.files import read_json, read_limited, write_atomic, write_json
from facewright.metrics.impostor_tail import scores_of
from facewright.names import checked_name
from facewright.recognition import Recognizer
from facewright.records import Count, Record
from facewright.report.faces import Person, contact_sheet
from facewright.workflows.galleries import photos_in

SMALLEST = 40.0  # px: side of a face
MARGIN = 0.15  # of the way from impostors to the threshold: a face is doubtful if another person is so near
PRIVATE = 0o600
FACES, VECTORS = "clusters.json", "vectors.safetensors"
UNSORTED = "unsorted"


class SortedFace(Record):
    """A face in a photo, and its cluster."""

    key: str = Field(pattern=r"^[0-9a-f]{16}-[0-9]{1,6}$")  # of the photo's content and the face
    photo: str
    box: tuple[float, float, float, float]  # x, y, width, height in px
    score: float | None  # the detector's
    person: str = Field(default=UNSORTED, pattern=r"^[^./\\][^/\\]*$")  # the folder's name
    similarity: float | None = None  # mean cosine with the person's other faces
    doubtful: bool = False  # nearly as similar to another person


class SortedPhotos(Record):
    """Faces sorted by person, as `clusters.json` holds them."""

    task: str = "cluster"
    version: Count = 1
    fingerprint: str
    model: str
    detector: str
    threshold: float | None = None
    faces: tuple[SortedFace, ...] = ()
    photos: dict[str, str] = Field(default_factory=dict)  # content digest -> path
    must: tuple[tuple[str, str], ...] = ()  # keys of faces that are one person
    cannot: tuple[tuple[str, str], ...] = ()  # and that are not
    failed: dict[str, str] = Field(default_factory=dict)  # photo -> reason

    @property
    def people(self) -> dict[str, int]:
        """The number of faces of each person, the most first."""
        return dict(Counter(face.person for face in self.faces if face.person != UNSORTED).most_common())


class _State:
    def __init__(self, out: Path, recognizer: Recognizer, name: str) -> None:
        self.out = out
        self.record = SortedPhotos(fingerprint=recognizer.fingerprint, model=name, detector=recognizer.detector)
        self.vectors = np.zeros((0, recognizer.width), np.float32)
        if not (out / FACES).exists():
            return
        self.record = read_json(out / FACES, SortedPhotos, error=DataError)
        if self.record.fingerprint != recognizer.fingerprint:
            raise OtherModel(
                f"{out}: was sorted with {self.record.model} (detector {self.record.detector}); use these, or "
                "another --out"
            )
        try:
            self.vectors = load(read_limited(out / VECTORS, error=DataError))["vectors"]
        except (SafetensorError, KeyError) as error:
            raise DataError(f"{out / VECTORS}: is damaged ({error}); sort into another folder") from None
        if self.vectors.shape != (len(self.record.faces), recognizer.width) or self.vectors.dtype != np.float32:
            raise DataError(f"{out / VECTORS}: does not belong to {FACES}; sort into another folder")

    def update(self, **changes: Any) -> None:
        self.record = self.record.model_copy(update=changes)


def cluster_photos(
    paths: Sequence[str | Path],
    out: str | Path,
    *,
    model: str | None = None,
    detector: str | None = None,
    smallest: float = SMALLEST,
    threshold: float | None = None,
    device: str | None = None,
    on_event: EventHandler = ignore_event,
) -> SortedPhotos:
    """Sort the faces of photos by person; photos that OUT holds already are not embedded again.

    Args:
        paths: photos and folders of photos; none: those of OUT alone.
        out: the folder to write.
        model: as of `Recognizer.load`.
        detector: likewise.
        smallest: px: side of the smallest face.
        threshold: the average cosine within a person; None: from the model's impostor scores.
    Raises:
        UsageError: no photo. OtherModel: OUT is of another model. Undefined: the model has no impostor scores and no
            threshold is given. DataError: a file of OUT is damaged.
    """
    out = Path(out)
    if model is None and detector is None and (out / FACES).exists():
        before = read_json(out / FACES, SortedPhotos, error=DataError)
        model, detector = before.model, before.detector
    recognizer = Recognizer.load(model, detector=detector, device=device)
    scores = next((one.histograms for one in reversed(recognizer.thresholds()) if one.histograms is not None), None)
    if scores is None and threshold is None:
        raise Undefined(
            f"{model}: has no impostor scores, from which the threshold follows: calibrate it on pairs (facewright "
            "calibrate MODEL --pairs PAIRS), or give --threshold"
        )
    state = _State(out, recognizer, recognizer.name)
    if paths:
        _add_photos(state, recognizer, photos_in(paths), smallest, on_event)
    return _sort(state, scores_of(scores), threshold)


def change_clusters(
    out: str | Path,
    *,
    merge: Sequence[Sequence[str]] = (),
    split: Sequence[str] = (),
    rename: Sequence[tuple[str, str]] = (),
) -> SortedPhotos:
    """Record decisions: people who are one, faces that are not their person, and names of people.

    `cluster_photos` keeps them; call it to sort again.

    Raises:
        UsageError: no such person or face, a name that another person has, or OUT holds no sorted photos.
        DataError: its file is damaged.
    """
    out = Path(out)
    if not (out / FACES).is_file():
        raise UsageError(f"{out}: holds no sorted photos; sort some first: facewright cluster PHOTOS --out {out}")
    record = read_json(out / FACES, SortedPhotos, error=DataError)
    record = _renamed(_linked(record, merge, split, out), rename)
    for old, new in rename:
        (out / "sorted" / old).rename(out / "sorted" / new)
    write_json(out / FACES, record.to_dict())
    return record


def _linked(record: SortedPhotos, merge: Sequence[Sequence[str]], split: Sequence[str], out: Path) -> SortedPhotos:
    faces = {face.key: face for face in record.faces}
    must, cannot = list(record.must), list(record.cannot)
    for people in merge:
        if len(set(people)) < len(people):
            raise UsageError(f"expected different people to merge, got {', '.join(people)}")
        keys = [key for person in people for key in _keys_of(record, person)]
        must += [(keys[0], key) for key in keys[1:]]
        cannot = [pair for pair in cannot if not set(pair) <= set(keys)]
    for key in split:
        if key not in faces:
            raise UsageError(f"{out}: there is no face {key}; the contact sheet shows the keys")
        cannot += [(key, other) for other in _keys_of(record, faces[key].person) if other != key]
        must = [pair for pair in must if key not in pair]
    return record.model_copy(update={"must": tuple(must), "cannot": tuple(cannot)})


def _renamed(record: SortedPhotos, rename: Sequence[tuple[str, str]]) -> SortedPhotos:
    names = {face.key: face.person for face in record.faces}
    taken = {UNSORTED, *record.people}
    for old, new in rename:
        if checked_name(new, "a person's name") in taken or "/" in new or "\\" in new or new.startswith("."):
            raise UsageError(
                f"expected a name for {old} that no other person has and that can be a folder's, got {new!r}"
            )
        taken.add(new)
        names |= dict.fromkeys(_keys_of(record, old), new)
    faces = tuple(face.model_copy(update={"person": names[face.key]}) for face in record.faces)
    return record.model_copy(update={"faces": faces})


def _keys_of(record: SortedPhotos, person: str) -> list[str]:
    keys = [face.key for face in record.faces if face.person == person]
    if not keys or person == UNSORTED:
        raise UsageError(f"there is no person {person!r} among the sorted faces; the contact sheet shows the names")
    return keys


def _add_photos(
    state: _State, recognizer: Recognizer, photos: Sequence[Path], smallest: float, on_event: EventHandler
) -> None:
    faces, vectors = list(state.record.faces), [state.vectors]
    known, failed = dict(state.record.photos), dict(state.record.failed)
    folder = state.out / UNSORTED
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in counted("finding faces", photos, on_event):
        try:
            digest = hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest()
        except OSError as error:
            failed[str(path)] = error.strerror or str(error)
            continue
        if digest in known:
            continue
        pixels = images.try_read(path, name=str(path), at_least=recognizer.at_least)
        if isinstance(pixels, str):
            failed[str(path)] = pixels
            continue
        every, searched = recognizer.search(pixels)
        found = [face for face in every if min(face.box[2:]) >= smallest or recognizer.takes_photos_whole]
        if searched is not None:
            on_event(Message(f"note: {path}: faces {of_at_least(searched)}"))
        known[digest] = str(path)
        if found:
            vectors.append(recognizer.embed(found))
        for number, face in enumerate(found):
            key = f"{digest}-{number}"
            write_atomic(folder / _file_of(key, str(path)), images.png_of(face.chip), mode=PRIVATE)
            faces.append(SortedFace(key=key, photo=str(path), box=face.box, score=face.score))
    state.vectors = np.concatenate(vectors)
    state.update(faces=tuple(faces), photos=known, failed=failed)


def _sort(state: _State, impostors: NDArray[np.float64], threshold: float | None) -> SortedPhotos:
    record, vectors = state.record, state.vectors
    row = {face.key: place for place, face in enumerate(record.faces)}
    must = [(row[a], row[b]) for a, b in record.must]
    cannot = [(row[a], row[b]) for a, b in record.cannot]
    photos = np.unique([face.photo for face in record.faces], return_inverse=True)[1].astype(np.int64)
    result = cluster(vectors, impostors, threshold=threshold, must=must, cannot=cannot, photos=photos)
    people = _names(record, result.labels)
    own, other = _similarities(vectors, result.labels)
    margin = MARGIN * (result.threshold - impostors.mean() if impostors.size else 1 - result.threshold)
    faces = []
    for place, (face, label) in enumerate(zip(record.faces, result.labels.tolist(), strict=True)):
        mean = own[place]
        doubtful = mean is not None and (mean - other[place] < margin or mean < result.threshold)
        changes = {"person": people[label], "similarity": mean, "doubtful": bool(doubtful)}
        faces.append(face.model_copy(update=changes))
    old = {face.key: face for face in record.faces}
    state.update(faces=tuple(faces), threshold=result.threshold)
    _write(state, old, result)
    return state.record


def _names(record: SortedPhotos, labels: NDArray[np.int64]) -> dict[int, str]:
    """The folder of each cluster: of earlier people the one with most of its faces; else the next number."""
    counts = np.bincount(labels, minlength=1)
    shared = Counter((face.person, int(label)) for face, label in zip(record.faces, labels, strict=True))
    names = {int(label): UNSORTED for label in np.flatnonzero(counts == 1)}
    for (person, label), _ in shared.most_common():
        if person != UNSORTED and label not in names and person not in names.values():
            names[label] = person
    taken, number = set(names.values()) | {face.person for face in record.faces}, 0
    for label in range(counts.size):
        while label not in names:
            number += 1
            if f"person_{number:04d}" not in taken:
                names[label] = f"person_{number:04d}"
    return names


def _similarities(
    vectors: NDArray[np.float32], labels: NDArray[np.int64]
) -> tuple[list[float | None], NDArray[np.float64]]:
    """The mean cosine of each face with the others of its cluster (None: no others), and the best with another one."""
    count = np.bincount(labels, minlength=1).astype(np.float64)
    sums = np.zeros((count.size, vectors.shape[1]))
    np.add.at(sums, labels, vectors)
    own: list[float | None] = []
    other = np.full(len(vectors), -1.0)
    large = count > 1
    for place, (vector, label) in enumerate(zip(vectors.astype(np.float64), labels, strict=True)):
        scores = sums @ vector
        own.append(float((scores[label] - 1) / (count[label] - 1)) if large[label] else None)
        rest = large.copy()
        rest[label] = False
        other[place] = (scores[rest] / count[rest]).max(initial=-1.0)
    return own, other


def _write(state: _State, old: dict[str, SortedFace], result: Clusters) -> None:
    out, record = state.out, state.record
    for face in record.faces:
        name = _file_of(face.key, face.photo)
        source, target = _folder(out, old[face.key].person) / name, _folder(out, face.person) / name
        if source != target and source.exists():
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            shutil.move(source, target)
    for folder in (out / "sorted").glob("*") if (out / "sorted").is_dir() else ():
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    write_atomic(out / VECTORS, save({"vectors": state.vectors}), mode=PRIVATE)
    people = []
    for person in [*record.people, UNSORTED]:
        members = [face for face in record.faces if face.person == person]
        members.sort(key=lambda face: (face.doubtful, -(face.similarity or 0)))
        shown = [(_shown(out, face), face.key, face.photo, face.doubtful) for face in members]
        people.append(Person(person, tuple(shown)))
    write_atomic(out / "index.html", contact_sheet(people, result.threshold, str(out)), mode=PRIVATE)
    write_atomic(out / FACES, record.model_dump_json(indent=1), mode=PRIVATE)


def _folder(out: Path, person: str) -> Path:
    return out / UNSORTED if person == UNSORTED else out / "sorted" / person


def _shown(out: Path, face: SortedFace) -> str:
    return (_folder(out, face.person) / _file_of(face.key, face.photo)).relative_to(out).as_posix()


def _file_of(key: str, photo: str) -> str:
    return f"{Path(photo).stem[:60]}-{key}.png"
