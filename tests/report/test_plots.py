"""Figures: well-formed, inert, theirs alone in a page; at 2, 12 and 100 classes and with next to no data."""

from __future__ import annotations

import dataclasses
import math
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable

import numpy as np
import pytest

from facewright.evaluation.classification import Predictions
from facewright.evaluation.results import Comparison
from facewright.report import diagnostics, pages, plots

Build = Callable[..., Comparison]
XLINK = 'xmlns:xlink="link"'  # the page's parser knows the prefix; an XML parser wants it declared


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg.replace("<svg ", f"<svg {XLINK} ", 1))


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in parsed(svg).iter("text")]


@pytest.fixture(scope="module")
def three(build: Build) -> Comparison:
    return build([f"person {number}" for number in range(12)], ["alpha", "beta", "gamma"])


def test_colours_become_variables_and_nothing_else_is_coloured(three: Comparison) -> None:
    for svg in (
        plots.accuracy_against_cost(three.entries, "latency", "a"),
        plots.curves_of_models(three.entries, "loss", "seconds", "b"),
        diagnostics.roc_figure(three.entries[0].predictions, "c"),
    ):
        assert "var(--" in svg
        assert not re.findall(r"(?:fill|stroke): #", svg)


def test_ids_start_with_the_key_and_every_reference_has_its_id(three: Comparison) -> None:
    svg = plots.curves_of_models(three.entries, "accuracy", "images", "curves")
    ids = re.findall(r' id="([^"]+)"', svg)
    used = set(re.findall(r'href="#([^"]+)"', svg)) | set(re.findall(r"url\(#([^)]+)\)", svg))
    assert ids and len(ids) == len(set(ids))
    assert set(ids) == used
    assert all(name.startswith("curves-") for name in ids)


def test_the_same_figure_twice_is_the_same_text(three: Comparison) -> None:
    result = three.entries[0].test
    assert diagnostics.confusion_figure(result, "k") == diagnostics.confusion_figure(result, "k")


@pytest.mark.parametrize("classes", [2, 12, 100])
def test_every_figure_is_well_formed(build: Build, classes: int) -> None:
    entry = build([f"name {number}" for number in range(classes)], ["only"], per_class=3).entries[0]
    for svg in (
        diagnostics.confusion_figure(entry.test, "k"),
        diagnostics.roc_figure(entry.predictions, "k"),
        diagnostics.pr_figure(entry.predictions, "k"),
        diagnostics.reliability_figure(entry.predictions, "k"),
        plots.training_curves(entry.history, "loss", "k"),
    ):
        root = parsed(svg)
        assert root.get("role") == "img" and root.get("aria-label")
        assert "http" not in svg and "<style" not in svg and "nan" not in svg.lower().replace("name", "")
        assert len(svg) < 400_000


@pytest.mark.parametrize(
    ("classes", "named", "counted"), [(2, True, True), (12, True, True), (35, True, False), (100, False, False)]
)
def test_confusion_says_names_and_counts_where_they_fit(build: Build, classes: int, named: bool, counted: bool) -> None:
    test = build([f"face{number:03}" for number in range(classes)], ["only"], per_class=3, skill=2.0).entries[0].test
    words = texts(diagnostics.confusion_figure(test, "k"))
    assert ("face000" in words) == named
    diagonal = str(test.confusion[0][0])
    assert (words.count(diagonal) >= classes / 2) == counted


def test_confusion_hue_tells_right_from_wrong_and_alpha_is_the_share() -> None:
    cells = diagnostics._cells(np.array([[9, 1], [0, 0]]))
    assert cells[0, 0, :3].tolist() != cells[0, 1, :3].tolist()
    assert cells[0, 0, 3] > cells[0, 1, 3] > 0
    assert cells[1, :, 3].tolist() == [0, 0]  # a class without an image


@pytest.mark.parametrize("what", ["loss", "accuracy", "learning rate"])
@pytest.mark.parametrize("epochs", [1, 30])
def test_training_curves_of_short_and_long_runs(build: Build, epochs: int, what: str) -> None:
    history = build(["a", "b"], ["only"], epochs=epochs).entries[0].history
    assert texts(plots.training_curves(history, what, "k"))


def test_a_loss_that_is_no_number_leaves_a_gap(build: Build) -> None:
    history = build(["a", "b"], ["only"], epochs=5).entries[0].history
    broken = [dataclasses.replace(row, validation_loss=math.nan, train_loss=math.inf) for row in history[:2]]
    svg = plots.training_curves((*broken, *history[2:]), "loss", "k")
    assert "nan" not in svg.lower() and "inf" not in svg.lower()
    nothing = plots.training_curves(
        [dataclasses.replace(row, learning_rate=0.0) for row in history], "learning rate", "k"
    )
    parsed(nothing)


def test_stretches_name_what_changes(build: Build) -> None:
    history = build(["a", "b"], ["only"], epochs=6).entries[0].history
    assert plots.stretches(history) == (plots.Stretch(1, 2, "warm-up, 64 px"), plots.Stretch(3, 6, "whole, 112 px"))
    assert plots.stretches(history[2:]) == ()
    assert "warm-up, 64 px" not in texts(plots.training_curves(history[:3], "loss", "k"))  # no room: the page says it


@pytest.mark.parametrize("cost", ["latency", "parameters"])
def test_cost_names_up_to_seven_models(build: Build, cost: str) -> None:
    for models, named in ((1, True), (7, True), (8, False)):
        entries = build(["a", "b"], [f"net{number}" for number in range(models)], per_class=3).entries
        words = [word.strip() for word in texts(plots.accuracy_against_cost(entries, cost, "k"))]
        assert ("net0" in words) == named


def test_costs_that_differ_much_get_a_logarithmic_axis(three: Comparison) -> None:
    wide = [entry.replace(parameters=10 ** (4 + 2 * n)) for n, entry in enumerate(three.entries)]
    assert {"10 k", "1 M", "100 M"} <= set(texts(plots.accuracy_against_cost(wide, "parameters", "k")))


def test_a_class_without_images_has_no_curve_and_one_class_alone_draws_none() -> None:
    scores = np.full((4, 3), 1 / 3)
    some = Predictions(("a", "b", "c", "d"), np.array([0, 0, 1, 1]), scores)
    one = Predictions(("a", "b", "c", "d"), np.array([0, 0, 0, 0]), np.eye(3)[[0, 0, 0, 0]])
    for predictions in (some, one):
        parsed(diagnostics.roc_figure(predictions, "k"))
        parsed(diagnostics.pr_figure(predictions, "k"))
        parsed(diagnostics.reliability_figure(predictions, "k"))


def test_thinned_curves_keep_their_ends() -> None:
    random = np.random.default_rng(0)
    curve = diagnostics.roc_curve(random.random(5000) < 0.5, random.random(5000))
    x, y = diagnostics._thinned(curve, 100)
    assert x.size <= 101
    assert (x[0], y[0], x[-1], y[-1]) == (0.0, 0.0, 1.0, 1.0)


@pytest.mark.parametrize(
    "name",
    ["<script>alert(1)</script>", "$x^2$", "a]]>b", "q\"u'o", "日本", "line\nbreak", "\x00\x1b[0m", "&amp;", "url(#x)"],
)
def test_names_stay_text(name: str) -> None:
    figure, axes = pages.canvas(200, 100)
    axes.set_title(pages.plain(name, limit=40))
    svg = pages.inline_svg(figure, "k", name.replace("\x00", "").replace("\x1b", ""))
    visible = " ".join("".join(letter for letter in name if letter.isprintable() or letter == "\n").split())
    assert visible in texts(svg)
    assert not list(parsed(svg).iter("script"))


def test_embedded_drawings_get_their_own_ids() -> None:
    drawing = '<svg xmlns="http://www.w3.org/2000/svg"><path id="p" d=""/><use href="#p"/><text>url(#p)</text></svg>'
    first, second = pages.embedded(drawing, "a"), pages.embedded(drawing, "b")
    assert 'id="a-0"' in first and 'href="#a-0"' in first and 'id="b-0"' in second
    assert "url(#p)" in first  # text is not touched
    assert "http" not in first
