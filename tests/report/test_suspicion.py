"""Labels that look wrong, on a page: what is shown, what is said, and that no name becomes markup."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from facewright.evaluation.results import Comparison
from facewright.evaluation.suspicion import Likeness, PartedClass, Stranger, Suspect, Suspicion
from facewright.metrics.intervals import Rate
from facewright.report.html import ReportContext, comparison_page
from facewright.report.suspicion import SHOWN, SHOWN_OF_PART, LabelContext, in_words, label_page, write_label_page

EVIL = "<script>alert(1)</script>"
PARTED = PartedClass(
    label="bo",
    smaller=tuple(f"bo/s{i}.png" for i in range(20)),
    larger=tuple(f"bo/l{i}.png" for i in range(40)),
    within=0.6,
    across=0.2,
    separation=0.97,
)
FOUND = Suspicion(
    dataset="made-up faces",
    fingerprint="f00d",
    source="logistic regression on features",
    n=200,
    folds=5,
    classes=("ann", "bo"),
    accuracy=Rate(value=0.95, low=0.91, high=0.97, n=200),
    estimated_errors=2.4,
    suspects=(
        Suspect(
            path="ann/1.png", label="ann", suggested=EVIL, probability=0.02, suggested_probability=0.95, margin=-0.93
        ),
        Suspect(
            path=f"ann/{EVIL}.png", label="ann", suggested="bo", probability=0.2, suggested_probability=0.7, margin=-0.5
        ),
    ),
    likeness=Likeness(
        strangers=(Stranger(path="bo/7.png", label="bo", likeness=0.08, nearest="ann", nearest_likeness=0.1),),
        threshold=0.2,
        chance=0.01,
        parted=(PARTED,),
        refused=None,
    ),
    notes=("not judged, for too few different pictures: gus",),
)
CONTEXT = LabelContext("1 May 2026", "facewright inspect --labels runs/a", {"facewright": "1"})


def test_the_page_shows_every_list(thumbnail: Callable[[str], bytes]) -> None:
    page = label_page(FOUND, replace(CONTEXT, thumbnail=thumbnail))
    assert page.count("<img ") == 2 + 1 + 2 * SHOWN_OF_PART
    for words in ("These look mislabelled", "bo falls in two", "likeness 0.08", "95.0 %, own label 2.0 %", "gus"):
        assert words in page
    assert "The smaller part, 20 pictures" in page and "The larger part, 40 pictures" in page


def test_the_page_loads_nothing_and_no_name_becomes_markup() -> None:
    page = label_page(FOUND, CONTEXT)
    assert "<script" not in page and "&lt;script&gt;" in page
    assert "default-src 'none'" in page
    assert not re.search(r"(src|href)=\"(?!#|data:)", page)


def test_it_is_a_section_of_the_report(build: Callable[..., Comparison], thumbnail: Callable[[str], bytes]) -> None:
    comparison = build(("ann", "bo"), ("resnet18",))
    context = ReportContext("t", "now", thumbnail=thumbnail, suspicions={"resnet18": FOUND})
    page = comparison_page(comparison, context)
    assert "These look mislabelled" in page and "bo falls in two" in page
    assert EVIL not in page
    assert "These look mislabelled" not in comparison_page(comparison, replace(context, suspicions={}))


def test_long_lists_are_cut_and_counted() -> None:
    many = tuple(
        Suspect(path=f"{i}.png", label="ann", suggested="bo", probability=0.1, suggested_probability=0.9, margin=-0.8)
        for i in range(SHOWN + 3)
    )
    page = label_page(FOUND.replace(suspects=many), CONTEXT)
    assert "and 3 more, in suspicious.json" in page
    assert f"{SHOWN - 1}.png" in page and f"{SHOWN}.png" not in page


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (FOUND, "2 pictures of 200 look mislabelled"),
        (FOUND, "2 wrong labels estimated"),
        (FOUND, "1 picture is no more like the rest of the class than strangers are; 1 class falls in two"),
        (FOUND.replace(suspects=FOUND.suspects[:1]), "1 picture of 200 looks mislabelled"),
        (FOUND.replace(suspects=(), estimated_errors=0.0), "0 pictures of 200 look mislabelled"),
        (FOUND.replace(likeness=None), "No public weights were at hand"),
        (
            FOUND.replace(likeness=Likeness(strangers=(), threshold=None, chance=0.01, parted=(), refused="too few")),
            "not compared with the rest of their class: too few",
        ),
        (FOUND.replace(accuracy=Rate(value=0.7, low=0.6, high=0.8, n=200)), "makes many of these mistakes itself"),
        (FOUND, "Nothing was changed"),
    ],
)
def test_in_words(found: Suspicion, words: str) -> None:
    assert any(words in sentence for sentence in in_words(found))
    assert label_page(found, CONTEXT)


def test_the_page_is_written(tmp_path: Path) -> None:
    write_label_page(tmp_path / "labels.html", FOUND, CONTEXT)
    assert (tmp_path / "labels.html").read_text("utf-8").startswith("<!doctype html>")
