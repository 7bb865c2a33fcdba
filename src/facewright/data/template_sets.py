"""Sets of templates, as IJB-B and IJB-C are laid out: the images of each template, pairs, galleries and probes.

A folder holds templates.csv (template_id, subject_id, media_id, filename), pairs.csv (two template ids, and 1 or 0),
gallery*.csv and probe*.csv (template_id) and images/, or InsightFace's files of the same content, in it or in `meta/`.
Pairs or a gallery may be missing, not both; so may points. Source: Whitelam et al., "IARPA Janus Benchmark-B", CVPR
Workshops 2017; Maze et al., "IARPA Janus Benchmark - C", ICB 2018.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facewright.data.archives import path_inside
from facewright.data.image_records import FileSource
from facewright.data.records import Dataset, Record
from facewright.data.text_tables import parse, read_table, read_text
from facewright.errors import DataError

LINES = 1_000_000  # of a list of pairs, read at a time
MOST_PAIRS = 200_000_000
_TEMPLATES = ("templates.csv", "*face_tid_mid.txt")
_PAIRS = ("pairs.csv", "*template_pair_label.txt")
_IMAGES = ("images", "loose_crop")
_FARTHEST = 1e6  # px, of a point


@dataclass(frozen=True, eq=False)
class Templates:
    """Some templates of a set: a gallery, or the probes."""

    name: str
    rows: NDArray[np.int64]  # (K,) positions in `TemplateSet.ids`
    subjects: NDArray[np.str_]  # (K,)


@dataclass(frozen=True, eq=False)
class TemplateSet:
    """T templates made of R listed images, of F files."""

    name: str
    images: Path
    ids: NDArray[np.int64]  # (T,) rising
    subjects: NDArray[np.str_] | None  # (T,) who each shows; None: the files do not say it
    paths: tuple[str, ...]  # (F,) each once
    image: NDArray[np.int64]  # (R,) position in `paths`
    template: NDArray[np.int64]  # (R,) position in `ids`
    media: NDArray[np.int64]  # (R,) number of its media
    pairs: Path | None
    galleries: tuple[Templates, ...]
    probes: Templates | None
    points: NDArray[np.float64] | None = None  # (F, 5, 2) px: eyes, tip of the nose, corners of the mouth
    weights: NDArray[np.float64] | None = None  # (F,) the detector's scores

    def dataset(self) -> Dataset:
        """Return all images, each once, as a data set without classes."""
        root = str(self.images.resolve())
        return Dataset(self.name, root, (), tuple(Record(path, None) for path in self.paths), FileSource(root))

    def read_pairs(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]]:
        """Read the pairs a part at a time: positions of both templates, and if they show one person.

        Raises DataError: a line is not two ids and perhaps 0 or 1, or names no template; or the list is too long.
        """
        if self.pairs is None:
            return
        done = 0
        try:
            with self.pairs.open(encoding="utf-8-sig") as file:
                first = file.readline()
                comma = "," if "," in first else None
                header = not first.strip()[:1].isdigit()
                lines = file if header else chain([first], file)
                while part := list(islice(lines, LINES)):
                    yield self._pairs_of(part, comma, done + 1 + header)
                    done += len(part)
                    if done > MOST_PAIRS:
                        raise DataError(f"{self.pairs}: has more than {MOST_PAIRS:,} pairs, which is the limit")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{self.pairs}: expected a list of pairs in UTF-8; it cannot be read ({error})") from error
        if not done:
            raise DataError(f"{self.pairs}: expected pairs of template ids, got none")

    def _pairs_of(
        self, lines: list[str], comma: str | None, first: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        try:
            table = np.loadtxt(lines, dtype=np.int64, delimiter=comma, ndmin=2)
        except (ValueError, OverflowError) as error:
            raise DataError(f"{self.pairs}: from line {first}: expected template ids ({error})") from None
        if table.shape[1] not in (2, 3):
            raise DataError(f"{self.pairs}: expected two template ids and perhaps 0 or 1, got {table.shape[1]} columns")
        a, b = (positions(self.ids, table[:, column], self.pairs) for column in (0, 1))
        if table.shape[1] == 3:
            if not np.isin(table[:, 2], (0, 1)).all():
                raise DataError(f"{self.pairs}: from line {first}: expected 0 or 1 as the third value")
            return a, b, table[:, 2] == 1
        if self.subjects is None:
            raise DataError(
                f"{self.pairs}: expected 1 (one person) or 0 as the third value of each row, or a column subject_id of "
                "the templates; found neither"
            )
        return a, b, self.subjects[a] == self.subjects[b]


def is_template_set(where: str | Path) -> bool:
    """Tell if there is a list of templates in a folder."""
    path = Path(where)
    return path.is_dir() and any(_files(path, pattern) for pattern in _TEMPLATES)


def read_template_set(where: str | Path) -> TemplateSet:
    """Read the lists of a folder, but its pairs; no image is decoded.

    Raises DataError: a list is missing, damaged, or names a template or a path that is not there.
    """
    folder = Path(where)
    listed = _one_of(folder, _TEMPLATES)
    images = next((folder / name for name in _IMAGES if (folder / name).is_dir()), None)
    if listed is None or images is None:
        raise DataError(f"{folder}: expected {' or '.join(_TEMPLATES)} and a folder {' or '.join(_IMAGES)}")
    names, ids, media, people = _listed(listed)
    known, template = np.unique(ids, return_inverse=True)
    paths, image = np.unique(names, return_inverse=True)
    subjects = None if people is None else _subject_of(listed, template, people, known)
    probes = _one_of(folder, ("*probe*.csv",))
    galleries = _files(folder, "*gallery*.csv")
    points, weights = _points(_one_of(folder, ("*name_5pts_score.txt",)), paths.tolist())
    pairs = _one_of(folder, _PAIRS)
    if pairs is None and not (galleries and probes):
        raise DataError(f"{folder}: expected {' or '.join(_PAIRS)}, or *gallery*.csv and *probe*.csv")
    return TemplateSet(
        name=folder.name,
        images=images,
        ids=known,
        subjects=subjects,
        paths=tuple(paths.tolist()),
        image=image.astype(np.int64),
        template=template.astype(np.int64),
        media=np.unique(media, return_inverse=True)[1].astype(np.int64),
        pairs=pairs,
        galleries=tuple(_templates(path, known, subjects) for path in galleries) if probes else (),
        probes=_templates(probes, known, subjects) if galleries and probes else None,
        points=points,
        weights=weights,
    )


def positions(ids: NDArray[np.int64], asked: NDArray[np.int64], where: Path | None) -> NDArray[np.int64]:
    """Find template ids among the known, rising ones. Raises DataError for one that is not there."""
    found = np.minimum(np.searchsorted(ids, asked), ids.size - 1)
    missing = np.flatnonzero(ids[found] != asked)
    if missing.size:
        raise DataError(f"{where}: template {asked[missing[0]]} is in no list of templates ({missing.size:,} such)")
    return found.astype(np.int64)


def _files(folder: Path, pattern: str) -> list[Path]:
    """Return the files of a pattern in a folder and in `meta/` in it, by name."""
    return [path for place in (folder, folder / "meta") for path in sorted(place.glob(pattern))]


def _points(path: Path | None, names: list[str]) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None]:
    """Read the five points (F, 5, 2) and the detector's score (F,) of each image file, where there is such a list."""
    if path is None:
        return None, None
    rows = parse(read_text(path, "a list of points"), str(path)).rows
    known: dict[str, NDArray[np.float64]] = {}
    for line, (name, *texts) in rows:
        try:
            values = np.array(texts, np.float64)
        except ValueError:
            values = np.zeros(0)
        if values.shape != (11,) or not (np.abs(values) < _FARTHEST).all() or not np.ptp(values[:10:2]):
            raise DataError(f"{path}: line {line}: expected a filename, five points x y of a face, and a score")
        if not np.array_equal(known.setdefault(path_inside(name, f"{path}: line {line}"), values), values):
            raise DataError(f"{path}: line {line}: {name!r:.200} is listed with other points before")
    missing = [name for name in names if name not in known]
    if missing:
        raise DataError(f"{path}: expected points of each image, {len(missing):,} lack, the first: {missing[0]!r:.200}")
    table = np.array([known[name] for name in names])
    if (table[:, 10] < 0).any() or not table[:, 10].any():
        raise DataError(f"{path}: expected scores from 0 up, not all 0")
    return table[:, :10].reshape(-1, 5, 2), table[:, 10]


def _one_of(folder: Path, patterns: tuple[str, ...]) -> Path | None:
    found = [path for pattern in patterns for path in _files(folder, pattern)]
    if len(found) > 1:
        raise DataError(f"{folder}: expected one {' or '.join(patterns)}, got {', '.join(one.name for one in found)}")
    return found[0] if found else None


def _listed(path: Path) -> tuple[list[str], NDArray[np.int64], list[str], list[str] | None]:
    """Return file names, template ids, media and subjects of a list of templates."""
    if path.suffix == ".csv":
        needs = ("template_id", "subject_id", "media_id", "filename")
        rows = read_table(path, "a list of templates", lambda names: set(needs) <= set(names), ",".join(needs))
        lines = [line for line, _ in rows]
        columns = [[row[name] for _, row in rows] for name in needs]
        people: list[str] | None = columns[1]
        names, ids, media = columns[3], columns[0], columns[2]
    else:
        table = parse(read_text(path, "a list of templates"), str(path))
        wrong = next((line for line, values in table.rows if len(values) != 3), None)
        if wrong is not None:
            raise DataError(f"{path}: line {wrong}: expected filename, template id and media id")
        lines = [line for line, _ in table.rows]
        names, ids, media = ([values[at] for _, values in table.rows] for at in range(3))
        people = None
    if not names:
        raise DataError(f"{path}: expected templates, got none")
    names = [path_inside(name, f"{path}: line {line}") for line, name in zip(lines, names, strict=True)]
    return names, _numbers(path, ids, lines), media, people


def _numbers(path: Path, ids: list[str], lines: list[int]) -> NDArray[np.int64]:
    try:
        return np.array(ids, dtype=np.int64)
    except (ValueError, OverflowError):
        wrong = next(at for at, one in enumerate(ids) if not re.fullmatch(r"-?[0-9]{1,18}", one))
        raise DataError(
            f"{path}: line {lines[wrong]}: expected a whole number as template_id, got {ids[wrong]!r:.100}"
        ) from None


def _subject_of(path: Path, template: NDArray[np.int64], people: list[str], ids: NDArray[np.int64]) -> NDArray[np.str_]:
    names = np.array(people, np.str_)
    subjects = np.empty(ids.size, names.dtype)
    subjects[template] = names
    mixed = np.flatnonzero(subjects[template] != names)
    if mixed.size:
        raise DataError(f"{path}: template {ids[template[mixed[0]]]} has images of two subjects")
    return subjects


def _templates(path: Path, ids: NDArray[np.int64], subjects: NDArray[np.str_] | None) -> Templates:
    needs = ("template_id",) if subjects is not None else ("template_id", "subject_id")
    rows = read_table(path, "a list of templates", lambda names: set(needs) <= set(names), ",".join(needs))
    given = _numbers(path, [row["template_id"] for _, row in rows], [line for line, _ in rows])
    if not given.size:
        raise DataError(f"{path}: expected templates, got none")
    distinct, first = np.unique(given, return_index=True)
    found = positions(ids, distinct, path)
    people = subjects[found] if subjects is not None else np.array([rows[at][1]["subject_id"] for at in first], np.str_)
    return Templates(path.stem, found, people)
