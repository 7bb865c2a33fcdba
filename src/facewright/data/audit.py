"""A data set's health: what is in it, and what would spoil a training or make its result a lie; notes about a split."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pydantic import computed_field

from facewright import records
from facewright.data.duplicates import NearPairs, near_pairs
from facewright.data.records import SPLITS as PARTS
from facewright.data.records import Broken, Dataset
from facewright.data.splits import Split, largest_unit, units_by_class
from facewright.data.store import PixelStore, Statistics
from facewright.errors import DataError

FEW_IMAGES = 10  # a class with fewer cannot be tested: at 20 % for test, two images decide its score
IMBALANCE = 5.0  # largest class over smallest, from which plain accuracy hides the small classes
COMMON_SIZES = 8
NAMED = 5  # how many cases or classes a warning names


@dataclass(frozen=True)
class AuditedImage:
    """One of several images that are the same."""

    path: str
    label: str | None  # class name
    split: str | None  # the part that the data prescribes


class ExactDuplicates(records.Record):
    """Images with equal pixels."""

    images: tuple[AuditedImage, ...]  # two or more

    @computed_field  # type: ignore[prop-decorator]
    @property
    def across_classes(self) -> bool:
        """True where at least one of the labels must be wrong."""
        return len({image.label for image in self.images}) > 1

    @computed_field  # type: ignore[prop-decorator]
    @property
    def across_splits(self) -> bool:
        """True where a test image was trained on (leakage)."""
        return len({image.split for image in self.images if image.split is not None}) > 1


@dataclass(frozen=True)
class NearDuplicate:
    """Two images that are the same photo but for encoding, size, brightness or mirroring."""

    first: AuditedImage
    second: AuditedImage
    similarity: float  # cosine of edges, up to 1
    mirrored: bool


@dataclass(frozen=True)
class SizeTable:
    """Sizes in pixels as (height, width), as the files have them."""

    smallest: tuple[int, int]  # by area
    median: tuple[float, float]  # of heights, of widths
    largest: tuple[int, int]
    common: tuple[tuple[int, int, int], ...]  # (height, width, count), the most frequent first


class Audit(records.Record):
    """A dataset's health."""

    name: str
    where: str
    images: int  # readable
    counts: dict[str, int]  # class → readable images
    sizes: SizeTable
    broken: tuple[Broken, ...]
    exact: tuple[ExactDuplicates, ...]
    near: tuple[NearDuplicate, ...]  # the most alike first; exact ones not among them
    imbalance: float | None  # largest class over smallest; None: fewer than two classes
    balance: float | None  # entropy of the class shares over its maximum: 1 is even; None: as above
    statistics: Statistics
    warnings: tuple[str, ...]
    layout: str = ""  # how the data set was read
    notes: tuple[str, ...] = ()  # why, and what to know about it


def audit(store: PixelStore) -> Audit:
    """Audit an opened data set, at any size (near duplicates are compared at 32 px)."""
    dataset, counts = store.dataset, store.dataset.counts()
    exact, near = _copies(store, near_pairs(store.pixels, store.digests))
    filled = np.array([count for count in counts.values() if count > 0], np.float64)
    shares = filled / filled.sum()
    several = len(shares) > 1
    return Audit(
        name=dataset.name,
        where=dataset.where,
        layout=dataset.layout,
        notes=dataset.notes,
        images=len(dataset),
        counts=counts,
        sizes=_sizes(store),
        broken=dataset.broken,
        exact=exact,
        near=near,
        imbalance=float(filled.max() / filled.min()) if several else None,
        balance=float(-(shares * np.log(shares)).sum() / math.log(len(shares))) if several else None,
        statistics=store.statistics(np.arange(len(dataset))),
        warnings=(
            *_about_classes(store, counts),
            *about_given_parts(dataset),
            *_about_files(store),
            *_about_labels(exact, near),
            *_about_leakage(exact, near),
            *_about_copies(exact, near),
        ),
    )


def about_copies(store: PixelStore, near: NearPairs) -> tuple[str, ...]:
    """Tell before training which images are in two classes, and how many repeat another one."""
    copies = _copies(store, near)
    return (*_about_labels(*copies), *_about_copies(*copies))


Exact = tuple[ExactDuplicates, ...]
Near = tuple[NearDuplicate, ...]


def _copies(store: PixelStore, found: NearPairs) -> tuple[Exact, Near]:
    names: dict[int | None, str] = dict(enumerate(store.dataset.classes))
    images = [AuditedImage(one.path, names.get(one.label), one.split) for one in store.dataset.records]
    groups: dict[str, list[AuditedImage]] = defaultdict(list)
    for digest, image in zip(store.digests, images, strict=True):
        groups[digest].append(image)
    exact = tuple(ExactDuplicates(images=tuple(group)) for group in groups.values() if len(group) > 1)
    rows = zip(found.pairs.tolist(), found.similarity.tolist(), found.mirrored.tolist(), strict=True)
    return exact, tuple(NearDuplicate(images[i], images[j], round(like, 4), flip) for (i, j), like, flip in rows)


def _sizes(store: PixelStore) -> SizeTable:
    counts = Counter((int(height), int(width)) for height, width in store.sizes.tolist())
    by_area = sorted(counts, key=lambda size: (size[0] * size[1], size))
    medians = np.median(store.sizes, axis=0).tolist()
    common = tuple((*size, count) for size, count in counts.most_common(COMMON_SIZES))
    return SizeTable(by_area[0], (medians[0], medians[1]), by_area[-1], common)


def _about_classes(store: PixelStore, counts: dict[str, int]) -> list[str]:
    said = []
    if store.dataset.labels.size and (store.dataset.labels < 0).any():
        said.append(f"{int((store.dataset.labels < 0).sum())} images have no label; they cannot be trained on")
    few = {name: count for name, count in counts.items() if count < FEW_IMAGES}
    said += [
        f"class {name!r} has {_number(count, 'image')}; fewer than {FEW_IMAGES} make its test score rest on one or two"
        for name, count in list(few.items())[:NAMED]
    ]
    if len(few) > NAMED:
        said.append(f"and {len(few) - NAMED} more classes have fewer than {FEW_IMAGES} images")
    present = {name: count for name, count in counts.items() if count > 0}
    if len(present) > 1:
        small, large = min(present, key=lambda name: present[name]), max(present, key=lambda name: present[name])
        if present[large] >= IMBALANCE * present[small]:
            said.append(
                f"unbalanced: class {large!r} has {present[large]} images and {small!r} {present[small]}, "
                f"{present[large] / present[small]:.1f} times fewer; look at macro-F1, not at accuracy alone"
            )
    if len(present) == 1:
        said.append("there is only one class; nothing can be told apart")
    return said


def _about_files(store: PixelStore) -> list[str]:
    said = []
    broken = [f"{item.path} ({item.reason})" for item in store.dataset.broken]
    if broken:
        said.append(f"{_number(len(broken), 'file')} cannot be used: {_listed(broken)}")
    short = store.sizes.min(axis=1)
    enlarged = int((short < min(store.spec.height, store.spec.width)).sum())
    if enlarged:
        side = f"{store.spec.height} × {store.spec.width}"
        said.append(f"{_number(enlarged, 'image')} of {len(short)} must be enlarged to {side}; a smaller input may do")
    return said


def _about_labels(exact: Exact, near: Near) -> list[str]:
    said = [
        f"the same image is in {_joined(sorted({repr(image.label) for image in group.images}))}: "
        + _joined([image.path for image in group.images])
        for group in exact
        if group.across_classes
    ]
    said += [
        f"nearly the same image is in {pair.first.label!r} and {pair.second.label!r}: "
        f"{pair.first.path} and {pair.second.path}"
        for pair in near
        if pair.first.label != pair.second.label
    ]
    hidden = len(said) - NAMED
    return [*said[:NAMED], f"and {hidden} more images in two classes"] if hidden > 0 else said


def _about_leakage(exact: Exact, near: Near) -> list[str]:
    said = []
    leaks = [_joined([f"{image.path} ({image.split})" for image in one.images]) for one in exact if one.across_splits]
    if leaks:
        said.append(f"leakage: {_number(len(leaks), 'image')} in more than one of the given parts: {_listed(leaks)}")
    pairs = [
        f"{pair.first.path} ({pair.first.split}) and {pair.second.path} ({pair.second.split})"
        for pair in near
        if None not in (pair.first.split, pair.second.split) and pair.first.split != pair.second.split
    ]
    if pairs:
        said.append(f"likely leakage: {_number(len(pairs), 'near duplicate')} across the given parts: {_listed(pairs)}")
    return said


def _about_copies(exact: Exact, near: Near) -> list[str]:
    said = []
    spare = sum(len(group.images) - 1 for group in exact)
    if spare:
        repeat = f"{_number(spare, 'image')} {'repeats' if spare == 1 else 'repeat'} another one pixel by pixel"
        first = _joined([image.path for image in exact[0].images[:2]])
        said.append(f"{repeat} (such as {first}); kept in the same split")
    if near:
        first = f"{near[0].first.path} and {near[0].second.path}"
        said.append(f"{_number(len(near), 'pair')} of near duplicates (such as {first}); kept in the same split")
    return said


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _joined(items: list[str]) -> str:
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]


def _listed(items: list[str]) -> str:
    hidden = len(items) - NAMED
    return "; ".join(items[:NAMED]) + (f"; and {hidden} more" if hidden > 0 else "")


def explained(split: Split, dataset: Dataset, groups: Sequence[str], test: float) -> Split:
    """Return a split whose notes say which classes are absent from which part, and what that means for its numbers.

    `groups` are (N,) unit names (`groups_of`), `test` the share that was asked for the test part of each class. Raises
    DataError: fewer than two classes have test images, because the others are made of copies.
    """
    counts = {name: _class_counts(dataset, getattr(split, name)) for name in PARTS}
    copies = _made_of_copies(dataset, groups, test)
    tested = int((counts["test"] > 0).sum())
    untested = [name for number, name in enumerate(dataset.classes) if name in copies and not counts["test"][number]]
    if untested and tested < 2:
        raise DataError(
            f"{dataset.where}: no honest test is possible: of {_first_of(untested)} all images are copies or near "
            "copies of one another, which stay in the training part; add other photos, or a test part of your own"
        )
    notes = [
        f"class {name!r}: {large} of {total} images are copies or near copies of one another and stay in training; "
        + (
            f"its test rests on {counts['test'][dataset.classes.index(name)]} of the others"
            if name not in untested
            else "it is not tested, so no number says how well it is recognized"
        )
        for name, (large, total) in list(copies.items())[:NAMED]
    ]
    if len(copies) > NAMED:
        notes.append(f"and {len(copies) - NAMED} more classes hold many copies")
    return replace(split, notes=(*split.notes, *notes, *_about_absent(dataset.classes, counts)))


def _made_of_copies(dataset: Dataset, groups: Sequence[str], test: float) -> dict[str, tuple[int, int]]:
    """Class → size of its largest unit and of the class, where that is larger than a test share."""
    found = {}
    for label, units in units_by_class(dataset.labels, groups).items():
        total, largest = sum(map(len, units.values())), max(map(len, units.values()))
        if label >= 0 and largest > largest_unit(total, 0.0, test) and largest > 2:
            found[dataset.classes[label]] = (largest, total)
    return found


def about_given_parts(dataset: Dataset) -> list[str]:
    """Return which classes are absent from the parts that the data prescribe; nothing where they prescribe none."""
    parts = {name: [i for i, record in enumerate(dataset.records) if record.split == name] for name in PARTS}
    counts = {name: _class_counts(dataset, np.asarray(rows, np.int64)) for name, rows in parts.items()}
    return _about_absent(dataset.classes, counts) if parts["train"] else []


def _class_counts(dataset: Dataset, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    labels = dataset.labels[rows]
    return np.bincount(labels[labels >= 0], minlength=len(dataset.classes))


def _about_absent(classes: Sequence[str], counts: Mapping[str, NDArray[np.int64]]) -> list[str]:
    notes = []
    never = np.flatnonzero((counts["train"] == 0) & (counts["validation"] + counts["test"] > 0))
    if never.size:
        names = _first_of([classes[int(k)] for k in never])
        notes.append(
            f"no training image shows {len(never)} of {len(classes)} classes ({names}); "
            f"the model cannot answer these, so their {counts['test'][never].sum()} test images count as errors"
        )
    for part in ("validation", "test"):
        absent = np.flatnonzero(counts[part] == 0)
        if absent.size and counts[part].any():
            names = _first_of([classes[int(k)] for k in absent])
            notes.append(
                f"the {part} part lacks {len(absent)} of {len(classes)} classes ({names}); "
                f"its numbers rest on {counts[part].sum()} images of the other {len(classes) - len(absent)} and say "
                "nothing about the classes it lacks"
            )
    return notes


def _first_of(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{', '.join(names[:NAMED])}{more}"
