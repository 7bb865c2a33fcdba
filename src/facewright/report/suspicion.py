"""Labels that look wrong, with their pictures: a section of a run's report, and a page of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from facewright.evaluation.suspicion import PartedClass, Stranger, Suspect, Suspicion
from facewright.files import write_atomic
from facewright.report import pages, words
from facewright.report.pictures import Album

SHOWN = 48  # images of a list; suspicious.json has all
SHOWN_OF_PART = 12
SURE = 0.9  # out-of-fold accuracy; below it, the reader is warned of the judge


@dataclass(frozen=True)
class Doubt:
    """One picture, the label it has, and what speaks against it."""

    path: str
    name: str  # of the file alone
    uri: str | None  # None: the image cannot be shown
    label: str
    other: str  # the class it looks like; "" where none
    note: str


@dataclass(frozen=True)
class Part:
    """Pictures of one of the two parts of a class."""

    title: str
    pictures: tuple[Doubt, ...]


@dataclass(frozen=True)
class Halves:
    """A class that falls in two."""

    label: str
    note: str
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class SuspicionSection:
    """The label issues, ready to be laid out."""

    found: Suspicion
    sentences: tuple[str, ...]
    suspects: tuple[Doubt, ...]
    strangers: tuple[Doubt, ...]
    parted: tuple[Halves, ...]
    more_suspects: int  # that are not shown
    more_strangers: int


@dataclass(frozen=True)
class LabelContext:
    """The facts beside the label issues on a page of their own. Nothing is looked up: the caller says the time."""

    created: str
    command: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    thumbnail: Callable[[str], bytes | None] | None = None  # an image file's bytes by its path in the dataset


def suspicion_section(found: Suspicion, album: Album) -> SuspicionSection:
    """Choose the images and put the numbers into words."""
    strangers = () if found.likeness is None else found.likeness.strangers
    parted = () if found.likeness is None else found.likeness.parted
    return SuspicionSection(
        found=found,
        sentences=tuple(in_words(found)),
        suspects=tuple(_suspect(row, album) for row in found.suspects[:SHOWN]),
        strangers=tuple(_stranger(row, album) for row in strangers[:SHOWN]),
        parted=tuple(_halves(row, album) for row in parted),
        more_suspects=max(0, len(found.suspects) - SHOWN),
        more_strangers=max(0, len(strangers) - SHOWN),
    )


def in_words(found: Suspicion) -> list[str]:
    """Return what was found and how, in sentences."""
    said = [
        f"{_count(len(found.suspects), 'picture')} of {found.n:,} {_verb(len(found.suspects), 'looks', 'look')} "
        "mislabelled: judged unseen, the model is confident of another class. In all, "
        f"{_count(round(found.estimated_errors), 'wrong label')} estimated.",
        f"Judged by {found.source}; given and most probable class agree for {words.percent(found.accuracy.value)} "
        f"({words.span(found.accuracy.low, found.accuracy.high)}) of the pictures.",
    ]
    if found.accuracy.value < SURE:
        said.append(
            "A judge that is wrong this often makes many of these mistakes itself: trust the first of the list more "
            "than the rest, and the estimate little. Public weights that know faces (--weights) judge better."
        )
    likeness = found.likeness
    if likeness is None:
        said.append("No public weights were at hand to compare each picture with the rest of its class.")
    elif likeness.refused is not None:
        said.append(f"Pictures were not compared with the rest of their class: {likeness.refused}.")
    else:
        strangers, parted = len(likeness.strangers), len(likeness.parted)
        said.append(
            f"{_count(strangers, 'picture')} {_verb(strangers, 'is', 'are')} no more like the rest of the class than "
            f"strangers are; {_count(parted, 'class', 'classes')} {_verb(parted, 'falls', 'fall')} in two, as if two "
            "people had been sorted into one."
        )
    return [*said, *found.notes, "Nothing was changed: look, and correct the labels where you agree."]


def write_label_page(path: Path, found: Suspicion, context: LabelContext) -> None:
    """Write the page; the file is replaced in one step.

    Raises:
        FacewrightError: the file could not be written; an old one is untouched.
    """
    write_atomic(path, label_page(found, context))


def label_page(found: Suspicion, context: LabelContext) -> str:
    """The whole page as HTML."""
    return pages.render(
        "label_page.html", {"context": context, "section": suspicion_section(found, Album(context.thumbnail))}
    )


def _suspect(row: Suspect, album: Album) -> Doubt:
    note = f"{words.percent(row.suggested_probability)}, own label {words.percent(row.probability)}"
    return _doubt(row.path, row.label, row.suggested, note, album)


def _stranger(row: Stranger, album: Album) -> Doubt:
    other = row.nearest if row.nearest != row.label else ""
    return _doubt(row.path, row.label, other, f"likeness {words.number(row.likeness, 2)}", album)


def _halves(row: PartedClass, album: Album) -> Halves:
    note = (
        f"Pairs inside a part have a cosine of {words.number(row.within, 2)} (median), pairs across "
        f"{words.number(row.across, 2)}; a pair inside is more alike than one across in "
        f"{words.percent(row.separation)} of cases."
    )
    parts = (("smaller", row.smaller), ("larger", row.larger))
    return Halves(row.label, note, tuple(_part(size, paths, row.label, album) for size, paths in parts))


def _part(size: str, paths: Sequence[str], label: str, album: Album) -> Part:
    """The images of a part that are nearest to its middle."""
    title = f"The {size} part, {_count(len(paths), 'picture')}"
    return Part(title, tuple(_doubt(path, label, "", "", album) for path in paths[:SHOWN_OF_PART]))


def _doubt(path: str, label: str, other: str, note: str, album: Album) -> Doubt:
    return Doubt(path, Path(path).name, album.uri(path), label, other, note)


def _count(count: int, one: str, many: str = "") -> str:
    """A count and its noun.

    >>> _count(1, "picture"), _count(2, "class", "classes")
    ('1 image', '2 classes')
    """
    return f"{count:,} {one if count == 1 else many if many else one + 's'}"


def _verb(count: int, one: str, many: str) -> str:
    return one if count == 1 else many
