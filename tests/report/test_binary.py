"""The part of the page about a yes or no: its numbers, its figures, and what it says of balancing."""

from __future__ import annotations

import numpy as np
import pytest

from facewright.evaluation.advice import advise
from facewright.evaluation.binary import evaluate_two_classes as judge
from facewright.evaluation.classification import Predictions
from facewright.evaluation.compare import compare
from facewright.evaluation.results import Comparison, Entry
from facewright.provenance import Origin
from facewright.report.diagnostics import binary_section
from facewright.report.html import ReportContext, comparison_page
from facewright.report.tables import columns_of
from facewright.training.recipe import balancing_of, load

CLASSES = ("<bare>", "masked")


def part(seed: int, skill: float, negatives: int = 30, positives: int = 200) -> Predictions:
    """Predictions whose scores are the further apart the higher the skill; 0 and 1 occur."""
    random = np.random.default_rng(seed)
    labels = np.repeat([0, 1], [negatives, positives])
    second = np.clip(random.normal(0.5 + skill * (labels - 0.5), 0.2), 0.0, 1.0)
    paths = tuple(f"{seed}/{number}.png" for number in range(labels.size))
    return Predictions(paths, labels, np.stack([1 - second, second], axis=1))


def judged(entry: Entry, skill: float, rule: str = "min-hter", seed: int = 2) -> Entry:
    test = part(seed, skill)
    binary = judge(part(1, skill), test, CLASSES, rule)
    assert binary is not None
    return entry.replace(predictions=test, test=entry.test.replace(binary=binary))


@pytest.fixture
def entry(build) -> Entry:
    found: Entry = build(CLASSES, ["plain"], per_class=8).entries[0]
    return found


# Each row: how far the classes lie apart (1.8: no error at all; -1: always the wrong way round), rule -> its words.
@pytest.mark.parametrize(
    ("skill", "rule", "words"),
    [
        (0.6, "min-hter", "the least HTER"),
        (1.8, "eer", "equal error rates"),
        (0.0, "far=0.1", "a FAR of at most 10 %"),
        (-1.0, "min-hter", "the least HTER"),
    ],
)
def test_figures_hold_for_good_and_bad_models(entry, skill, rule, words) -> None:
    section = binary_section(judged(entry, skill, rule), "m0", None)
    assert section is not None
    assert section["rule"] == words
    for svg in (section["roc"], section["det"], section["epc"], section["histogram"]):
        assert svg.startswith("<svg") and "nan" not in svg.lower() and "inf" not in svg.lower()


def test_a_model_of_other_tasks_has_no_such_part(entry) -> None:
    assert binary_section(entry, "m0", None) is None


def test_the_classes_and_what_an_epoch_makes_of_them(entry) -> None:
    balancing = balancing_of(load("hter-weighted"), {"<bare>": 30, "masked": 1210})
    section = binary_section(judged(entry, 0.6), "m0", balancing)
    assert section is not None
    bare, masked = section["classes"]
    assert (bare["name"], bare["images"], bare["epoch"], bare["weight"], bare["test"]) == (
        "<bare>",
        "30",
        "30",
        "1.95",
        "30",
    )
    assert (masked["images"], masked["epoch"], masked["weight"], masked["test"]) == ("1,210", "1,210", "0.0484", "200")


def test_advice_goes_by_the_error_that_weighs_both_classes_alike(build) -> None:
    plain, other = build(CLASSES, ["plain", "other"], per_class=8).entries
    sentence = advise([judged(plain, 0.3)], [])[0]
    assert "(<bare>: 30, masked: 200 test images), so accuracy rewards the larger one" in sentence
    made = compare([judged(plain, 0.3), judged(other, 0.9)], "masks", "0" * 16, CLASSES, {"test": 230})
    assert "by half total error rate other came first with" in made.advice[0]
    assert "before plain (" in made.advice[0] and "overlap" not in made.advice[0]
    half = judged(plain, 0.3)
    half = half.replace(test=half.test.replace(binary=None))
    assert "unequal" not in compare([half, judged(other, 0.9)], "masks", "0" * 16, CLASSES, {"test": 230}).advice[0]


def test_the_page_says_it_and_names_stay_text(build) -> None:
    entries = [judged(e, 0.6) for e in build(CLASSES, ["plain", "other"], per_class=8).entries]
    made: Comparison = compare(entries, "masks", "0" * 16, CLASSES, {"train": 9, "validation": 9, "test": 230})
    balancing = {"plain": balancing_of(load("hter-undersample"), {"<bare>": 30, "masked": 210})}
    page = comparison_page(made, ReportContext("masks", Origin("today"), balancing=balancing))
    assert page.count("As a yes or no") == 2
    assert "Under-sampling: 30 of 210 a class each epoch, others each time." in page
    assert "share of &lt;bare&gt; taken for masked" in page
    assert "<bare>" not in page
    assert page.count('id="') == len({part.partition('"')[0] for part in page.split('id="')[1:]})


def test_the_table_of_models_has_hter_only_where_there_is_one(build) -> None:
    entries = build(CLASSES, ["plain", "other"], per_class=8).entries
    assert "HTER" not in [column.title for column in columns_of(entries)]
    assert "HTER" in [column.title for column in columns_of([judged(entries[0], 0.6), entries[1]])]
