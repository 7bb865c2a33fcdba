"""Label issues with their images: a section of a run's report, and a page of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from facewright.evaluation.label_issues import EmbeddingEvidence, LabelIssues, PartedClass
from facewright.images import Pixels
from facewright.provenance import Origin
from facewright.report import pages, words
from facewright.report.pages import Album

SHOWN = 48  # images of a list; suspicious.json has all
SHOWN_OF_PART = 12
SURE = 0.9  # out-of-fold accuracy; below it, the text warns that the model is weak
Listed = dict[str, str | None]  # path, name of the file, uri (None: it cannot be shown), label, other class or "", note


def label_section(issues: LabelIssues, album: Album) -> dict[str, object]:
    """Choose the images and put the numbers into words."""
    outliers = () if issues.likeness is None else issues.likeness.strangers
    mixed = () if issues.likeness is None else issues.likeness.parted
    confident = []
    for issue in issues.suspects[:SHOWN]:
        note = f"{words.percent(issue.suggested_probability)}, own label {words.percent(issue.probability)}"
        confident.append(_listed(issue.path, issue.label, issue.suggested, note, album))
    unlike = []
    for row in outliers[:SHOWN]:
        other, note = row.nearest if row.nearest != row.label else "", f"similarity {words.number(row.likeness, 2)}"
        unlike.append(_listed(row.path, row.label, other, note, album))
    return {
        "issues": issues,
        "sentences": in_words(issues),
        "confident": confident,
        "outliers": unlike,
        "mixed": [_mixed(one, album) for one in mixed],
        "more_confident": max(0, len(issues.suspects) - SHOWN),
        "more_outliers": max(0, len(outliers) - SHOWN),
    }


def in_words(issues: LabelIssues) -> list[str]:
    """Return the label issues and how they were found, in sentences."""
    count, accuracy = len(issues.suspects), issues.accuracy
    sentences = [
        f"{_count(count, 'image')} of {issues.n:,} {_verb(count, 'looks', 'look')} mislabelled: a model that was not "
        f"trained on {_verb(count, 'it', 'them')} is confident of another class. Estimated number of wrong labels: "
        f"{round(issues.estimated_errors):,}.",
        f"Evaluated by {issues.source}; the most probable class is the label for {words.percent(accuracy.value)} "
        f"({words.span(accuracy.low, accuracy.high)}) of the images.",
    ]
    if accuracy.value < SURE:
        sentences.append(
            "With so low an accuracy, many of these are mistakes of the model: trust the first of the list more than "
            "the rest, and the estimate little. Public weights for faces (--weights) give better results."
        )
    return [
        *sentences,
        _about_likeness(issues.likeness),
        *issues.notes,
        "No label was changed: look at the images, then correct wrong labels.",
    ]


def _about_likeness(evidence: EmbeddingEvidence | None) -> str:
    if evidence is None:
        return "Images were not compared with the rest of their class, for lack of public weights (--weights)."
    if evidence.refused is not None:
        return f"Images were not compared with the rest of their class: {evidence.refused}."
    outliers, mixed = len(evidence.strangers), len(evidence.parted)
    return (
        f"{_count(outliers, 'image')} {_verb(outliers, 'is', 'are')} no more similar to the rest of the class than "
        f"images of other people; {_count(mixed, 'class looks', 'classes look')} like the photos of two people in "
        "one folder."
    )


def label_page(issues: LabelIssues, origin: Origin, thumbnail: Callable[[str], Pixels | None] | None = None) -> str:
    """Return the whole page as HTML; `thumbnail` gives an image by its path in the dataset."""
    return pages.render("label_page.html", {"section": label_section(issues, Album(thumbnail))}, origin)


def _mixed(row: PartedClass, album: Album) -> dict[str, object]:
    note = (
        f"Pairs inside a part have a cosine of {words.number(row.within, 2)} (median), pairs across "
        f"{words.number(row.across, 2)}; a pair inside is more similar than one across in "
        f"{words.percent(row.separation)} of cases."
    )
    parts = []
    for size, paths in (("smaller", row.smaller), ("larger", row.larger)):  # the images nearest to the center of each
        shown = [_listed(path, row.label, "", "", album) for path in paths[:SHOWN_OF_PART]]
        parts.append({"title": f"The {size} part, {_count(len(paths), 'image')}", "images": shown})
    return {"label": row.label, "note": note, "parts": parts}


def _listed(path: str, label: str, other: str, note: str, album: Album) -> Listed:
    name, uri = Path(path).name, album.uri(path)
    return {"path": path, "name": name, "uri": uri, "label": label, "other": other, "note": note}


def _count(count: int, one: str, many: str = "") -> str:
    """A count and its noun.

    >>> _count(1, "image"), _count(2, "class", "classes")
    ('1 image', '2 classes')
    """
    return f"{count:,} {one if count == 1 else many if many else one + 's'}"


def _verb(count: int, one: str, many: str) -> str:
    return one if count == 1 else many
