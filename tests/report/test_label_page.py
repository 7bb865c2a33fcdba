"""Labels that look wrong, on a page: what is shown, what is said, and that no name becomes markup."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from facewright.evaluation.label_issues import EmbeddingEvidence, LabelIssue, LabelIssues, Outlier, PartedClass
from facewright.evaluation.results import Comparison
from facewright.metrics.intervals import Rate
from facewright.provenance import Origin
from facewright.report.html import ReportContext, comparison_page
from facewright.report.label_issues import SHOWN, SHOWN_OF_PART, in_words, label_page

EVIL = "<script>alert(1)</script>"
PARTED = PartedClass(
    label="bo",
    smaller=tuple(f"bo/s{i}.png" for i in range(20)),
    larger=tuple(f"bo/l{i}.png" for i in range(40)),
    within=0.6,
    across=0.2,
    separation=0.97,
)
FOUND = LabelIssues(
    dataset="made-up faces",
    fingerprint="f00d",
    source="logistic regression on features",
    n=200,
    folds=5,
    classes=("ann", "bo"),
    accuracy=Rate(value=0.95, low=0.91, high=0.97, n=200),
    estimated_errors=2.4,
    suspects=(
        LabelIssue(
            path="ann/1.png", label="ann", suggested=EVIL, probability=0.02, suggested_probability=0.95, margin=-0.93
        ),
        LabelIssue(
            path=f"ann/{EVIL}.png", label="ann", suggested="bo", probability=0.2, suggested_probability=0.7, margin=-0.5
        ),
    ),
    likeness=EmbeddingEvidence(
        strangers=(Outlier(path="bo/7.png", label="bo", likeness=0.08, nearest="ann", nearest_likeness=0.1),),
        threshold=0.2,
        chance=0.01,
        parted=(PARTED,),
        refused=None,
    ),
    notes=("not evaluated, for too few different images: gus",),
)
REFUSED = EmbeddingEvidence(strangers=(), threshold=None, chance=0.01, parted=(), refused="too few")
ORIGIN = Origin("1 May 2026", "facewright inspect --labels runs/a", {"facewright": "1"})


def test_the_page_shows_every_list(thumbnail: Callable[[str], np.ndarray]) -> None:
    page = label_page(FOUND, ORIGIN, thumbnail)
    assert page.count("<img ") == 2 + 1 + 2 * SHOWN_OF_PART
    for words in (
        "These look mislabelled",
        "bo: a mixed-identity class",
        "similarity 0.08",
        "95.0 %, own label 2.0 %",
        "gus",
    ):
        assert words in page
    assert "The smaller part, 20 images" in page and "The larger part, 40 images" in page


def test_the_page_loads_nothing_and_no_name_becomes_markup() -> None:
    page = label_page(FOUND, ORIGIN)
    assert "<script" not in page and "&lt;script&gt;" in page
    assert "default-src 'none'" in page
    assert not re.search(r"(src|href)=\"(?!#|data:)", page)


def test_it_is_a_section_of_the_report(
    build: Callable[..., Comparison], thumbnail: Callable[[str], np.ndarray]
) -> None:
    comparison = build(("ann", "bo"), ("resnet18",))
    context = ReportContext("t", ORIGIN, thumbnail=thumbnail, label_issues={"resnet18": FOUND})
    page = comparison_page(comparison, context)
    assert "These look mislabelled" in page and "bo: a mixed-identity class" in page
    assert EVIL not in page
    assert "These look mislabelled" not in comparison_page(comparison, replace(context, label_issues={}))


def test_long_lists_are_cut_and_counted() -> None:
    many = tuple(
        LabelIssue(
            path=f"{i}.png", label="ann", suggested="bo", probability=0.1, suggested_probability=0.9, margin=-0.8
        )
        for i in range(SHOWN + 3)
    )
    page = label_page(FOUND.replace(suspects=many), ORIGIN)
    assert "and 3 more, in suspicious.json" in page
    assert f"{SHOWN - 1}.png" in page and f"{SHOWN}.png" not in page


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (FOUND, "2 images of 200 look"),
        (FOUND, "wrong labels: 2."),
        (FOUND, "1 image is no more similar to the rest of the class than images of other people; 1 class looks like"),
        (FOUND.replace(suspects=FOUND.suspects[:1]), "1 image of 200 looks"),
        (FOUND.replace(suspects=(), estimated_errors=0.0), "0 images of 200 look"),
        (FOUND.replace(likeness=None), "public weights (--weights)"),
        (
            FOUND.replace(
                likeness=EmbeddingEvidence(strangers=(), threshold=None, chance=0.01, parted=(), refused="too few")
            ),
            ": too few.",
        ),
        (FOUND.replace(accuracy=Rate(value=0.7, low=0.6, high=0.8, n=200)), "mistakes of the model"),
        (FOUND, "No label was changed"),
    ],
)
def test_in_words(found: LabelIssues, words: str) -> None:
    assert any(words in sentence for sentence in in_words(found))
    assert label_page(found, ORIGIN)
