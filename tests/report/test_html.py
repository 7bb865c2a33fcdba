"""The page: it parses, loads nothing, cannot be made to run what a name says, and marks the right models."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import math
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from facewright.evaluation import classification
from facewright.evaluation.classification import Predictions
from facewright.evaluation.compare import most_confused
from facewright.evaluation.results import Comparison, Pair
from facewright.metrics.intervals import Rate
from facewright.provenance import Origin
from facewright.report import diagnostics, html, tables, words
from facewright.report.html import DatasetFacts, ReportContext, comparison_page
from facewright.report.pages import Album
from facewright.report.tables import Cell, model_table

Build = Callable[..., Comparison]

PAYLOADS = (
    "<script>document.title='hit'</script>",
    "<img src=x onerror=\"document.title='hit'\">",
    "\"><svg onload=document.title='hit'>",
    "' onmouseover='document.title=1' x='",
    "</title></style></script><b>",
    "javascript:document.title='hit'",
    "{{ 7 * 7 }}{% raw %}",
    "$\\frac{1}{2}$ & 日本 محمد",
)
VOID = {"meta", "img", "link", "br", "hr", "input", "wbr"}


class Page(HTMLParser):
    """Every tag with its attributes; refuses tags that close in the wrong order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert not self._open, self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def context(**changes: object) -> ReportContext:
    return dataclasses.replace(ReportContext("A title", Origin("22 November 2026")), **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def three(build: Build) -> Comparison:
    return build(["ann", "bob", "cid"], ["alpha", "beta", "gamma"])


@pytest.fixture(scope="module")
def page(three: Comparison, thumbnail: Callable[[str], np.ndarray]) -> str:
    facts = DatasetFacts({"ann": 50, "bob": 40, "cid": 0}, (0.5, 0.4, 0.3), (0.2, 0.2, 0.2), ("One file is broken.",))
    drawing = '<svg xmlns="http://www.w3.org/2000/svg"><path id="p" d=""/><use href="#p"/></svg>'
    return comparison_page(
        three,
        context(
            thumbnail=thumbnail,
            facts=facts,
            origin=Origin("22 November 2026", "facewright compare photos/", {"facewright": "0.1.0"}),
            drawings={"alpha": drawing, "beta": drawing},
            recipes={"alpha": "epochs = 6"},
        ),
    )


def test_parses_and_ids_are_unique(page: str) -> None:
    ids = [attributes["id"] for _, attributes in Page(page).tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    linked = {str(attributes["href"])[1:] for attributes in Page(page).all("a")}
    assert linked <= set(ids)


def test_loads_nothing_and_forbids_everything_but_its_script(page: str) -> None:
    assert not re.search(r"https?:|//\w+\.\w|@import|url\((?!#)", page)
    parsed = Page(page)
    policy = next(str(meta["content"]) for meta in parsed.all("meta") if "http-equiv" in meta)
    assert policy.startswith("default-src 'none'; img-src data:;")
    script = page[page.index("<script>") + 8 : page.rindex("</script>")]
    assert "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in policy
    assert page.count("<script") == 1
    assert all(str(image["src"]).startswith("data:image/jpeg;base64,") for image in parsed.all("img"))
    assert not parsed.all("link") and not parsed.all("iframe")


def test_is_accessible_and_fits_a_phone(page: str) -> None:
    parsed = Page(page)
    assert all(image.get("alt") for image in parsed.all("img"))
    assert all(head.get("scope") in {"col", "row"} for head in parsed.all("th"))
    assert all(svg.get("aria-label") or svg.get("aria-hidden") or "class" not in svg for svg in parsed.all("svg"))
    assert any(meta.get("name") == "viewport" for meta in parsed.all("meta"))
    assert "prefers-color-scheme: dark" in page and "@media print" in page


def test_the_words_come_first(page: str, three: Comparison) -> None:
    order = [
        page.index("advice"),
        page.index('class="models'),
        page.index("Accuracy against latency"),
        page.index('id="m0"'),
    ]
    assert order == sorted(order)
    assert three.advice and all(sentence in "".join(Page(page).words) for sentence in three.advice)
    for said in (
        "epochs = 6",
        "One file is broken.",
        "facewright compare photos/",
        "facewright 0.1.0",
        three.fingerprint,
    ):
        assert said in page


def test_each_model_of_several_is_folded_below_its_headline(page: str, build: Build) -> None:
    assert [folded.get("class") for folded in Page(page).all("details")].count("more") == 3
    assert page.index('id="m0"') < page.index('class="tiles"') < page.index('<details class="more"')
    assert 'class="more"' not in comparison_page(build(["no", "yes"], ["only"]), context())


def test_quality_and_cost_are_two_tables_of_every_model(page: str, three: Comparison) -> None:
    tables = page.split('<table class="models sortable">')[1:]
    heads = [re.findall(r'data-better="\w*">([^<]+)</th>', table.split("</thead>")[0]) for table in tables]
    assert heads[0] == ["Accuracy", "Log loss", "Macro-F1", "AUC", "ECE"] and "Latency" in heads[1]
    assert len(heads) == 2 and sorted([*heads[0], *heads[1]]) == sorted(
        column.title for column in model_table(three)[0]
    )
    for head, table in zip(heads, tables, strict=True):
        rows = table.split("<tbody>")[1].split("</tbody>")[0].split("<tr>")[1:]
        assert [row.count("<td") for row in rows] == [len(head)] * 3


def test_a_probe_has_no_course_of_training(build: Build) -> None:
    made = build(["no", "yes"], ["only"], epochs=1)
    rows = tuple(dataclasses.replace(row, phase="probe") for row in made.entries[0].history)
    probe = made.replace(entries=(made.entries[0].replace(history=rows),))
    assert "<h3>Training</h3>" in comparison_page(made, context())
    assert "<h3>Training</h3>" not in comparison_page(probe, context())
    assert "a linear probe" in tables.methods(probe)


def test_a_class_of_few_images_has_no_curve_of_its_own(build: Build) -> None:
    few, many = (build(["ann", "bob", "cid"], ["only"], per_class=count).entries[0].predictions for count in (9, 10))
    for draw in (diagnostics.roc_figure, diagnostics.pr_figure):
        assert draw(few, "k").count("<path") + 3 == draw(many, "k").count("<path")


def test_names_wrap_after_marks_and_stay_text(build: Build) -> None:
    page = comparison_page(build(["ann_b<i>", "cid"], ["only"]), context())
    assert "ann_<wbr>b&lt;i&gt;</th>" in page


def test_what_a_paper_needs(three: Comparison, page: str) -> None:
    said = tables.methods(three)
    assert all(entry.name in said for entry in three.entries) and "fingerprint 0123456789abcdef" in said
    assert "56 for validation" not in said and "8 for validation" in said and "3 pairs" in said
    rows = tables.markdown_table(three).splitlines()
    assert len(rows) == 2 + 3 + 1 and {row.count("|") for row in rows} == {len(tables.HEADER) + 1}
    value = f"{100 * three.entries[0].test.accuracy.value:.1f}"
    assert rows[2].startswith("| alpha | ") and value in rows[2]
    latex = tables.latex_table(three)
    assert latex.count(r"\\") == 1 + 3 + 1 and value in latex and "%" not in latex.replace(r"\%", "")
    assert said in "".join(Page(page).words)


@pytest.mark.parametrize(
    ("given", "expected"),
    [("a_b & c", r"a\_b \& c"), ("\\~^{}", r"\textbackslash{}\textasciitilde{}\textasciicircum{}\{\}")],
)
def test_latex_of_any_name(given: str, expected: str) -> None:
    assert tables.latex(given) == expected


def test_is_light(page: str) -> None:
    assert len(page) < 1_000_000


def test_one_model_is_a_training_report(build: Build) -> None:
    page = comparison_page(build(["no", "yes"], ["only"], epochs=1), context())
    assert "training report" in page
    assert "Table of models" not in page and "Table of pairs" not in page
    Page(page)


@pytest.mark.slow
def test_fifteen_models(build: Build) -> None:
    comparison = build(["no", "yes"], [f"net{number}" for number in range(15)], per_class=4, epochs=0)
    parsed = Page(comparison_page(comparison, context()))
    assert sum("data-better" in head for head in parsed.all("th")) == len(model_table(comparison)[0])


def test_payloads_are_inert(build: Build, thumbnail: Callable[[str], np.ndarray]) -> None:
    page = hostile_page(build, thumbnail)
    parsed = Page(page)
    assert not any(name.startswith("on") for _, attributes in parsed.tags for name in attributes)
    assert page.count("<script") == 1
    links = [str(attributes.get(name)) for _, attributes in parsed.tags for name in ("href", "src", "xlink:href")]
    assert all(link.startswith(("#", "data:image/")) for link in links if link != "None")
    for payload in PAYLOADS:
        assert payload in parsed.words or any(payload in said for said in parsed.words)


def hostile_page(build: Build, thumbnail: Callable[[str], np.ndarray]) -> str:
    """Payloads wherever a name can stand."""
    comparison = build(PAYLOADS, PAYLOADS[:2], per_class=2, epochs=2)
    entries = [e.replace(run=PAYLOADS[2], recipe=PAYLOADS[3], model=PAYLOADS[4]) for e in comparison.entries]
    history = [dataclasses.replace(row, phase=PAYLOADS[row.epoch]) for row in entries[0].history]
    entries[0] = entries[0].replace(history=tuple(history))
    comparison = comparison.replace(
        dataset=PAYLOADS[0], fingerprint=PAYLOADS[1], entries=tuple(entries), advice=PAYLOADS
    )
    hostile = context(
        title=PAYLOADS[4],
        origin=Origin(PAYLOADS[0], PAYLOADS[1], {PAYLOADS[0]: PAYLOADS[2]}),
        facts=DatasetFacts(dict.fromkeys(PAYLOADS, 3), notes=PAYLOADS),
        thumbnail=thumbnail,
        recipes={PAYLOADS[0]: PAYLOADS[4]},
    )
    return comparison_page(comparison, hostile)


@pytest.mark.slow
def test_payloads_are_inert_in_a_browser(build: Build, thumbnail: Callable[[str], np.ndarray], tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("needs Chromium on the PATH")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright (development dependency)")
    path = tmp_path / "report.html"
    path.write_text(hostile_page(build, thumbnail), encoding="utf-8")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        tab = chromium.new_page(viewport={"width": 360, "height": 800})
        asked: list[str] = []
        said: list[str] = []
        tab.on("request", lambda request: asked.append(request.url))
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.goto(path.as_uri())
        before = tab.locator("table.models").first.locator("tbody tr").all_inner_texts()
        tab.locator("table.models thead button", has_text="Log loss").click()
        tab.locator("table.models thead button", has_text="Log loss").click()
        after = tab.locator("table.models").first.locator("tbody tr").all_inner_texts()
        width = tab.evaluate("document.documentElement.scrollWidth")
        title = tab.title()
        chromium.close()
    assert title == PAYLOADS[4]
    assert said == []
    assert all(url.startswith(("file:", "data:")) for url in asked)
    assert after == before[::-1]  # the better one stood first; sorted twice, it stands last
    assert width == 360  # nothing is wider than the phone


def cells(comparison: Comparison, title: str) -> list[Cell]:
    columns, rows = model_table(comparison)
    place = [column.title for column in columns].index(title)
    return [row[place] for row in rows]


def test_best_and_noise_marks(three: Comparison) -> None:
    rates = (
        Rate(value=0.80, low=0.75, high=0.84, n=250),
        Rate(value=0.82, low=0.77, high=0.86, n=250),
        Rate(value=0.60, low=0.54, high=0.66, n=250),
    )
    entries = tuple(
        entry.replace(test=entry.test.replace(accuracy=rate, log_loss=loss, macro_f1=rate))
        for entry, rate, loss in zip(three.entries, rates, (0.5, 0.6, 0.7), strict=True)
    )
    noise, real = Rate(value=-0.02, low=-0.05, high=0.01, n=250), Rate(value=0.2, low=0.1, high=0.3, n=250)
    pairs = (
        Pair(a="alpha", b="beta", p_value=0.4, accuracy_difference=-0.02, macro_f1_difference=real, within_noise=True),
        Pair(
            a="alpha", b="gamma", p_value=0.001, accuracy_difference=0.2, macro_f1_difference=real, within_noise=False
        ),
        Pair(
            a="beta", b="gamma", p_value=0.001, accuracy_difference=0.22, macro_f1_difference=noise, within_noise=False
        ),
    )
    made = three.replace(entries=entries, pairs=pairs)
    assert [(c.best, c.noise) for c in cells(made, "Accuracy")] == [(False, True), (True, False), (False, False)]
    assert [(c.best, c.noise) for c in cells(made, "Macro-F1")] == [(False, False), (True, False), (False, True)]
    assert [(c.best, c.noise, c.text) for c in cells(made, "Log loss")] == [
        (True, False, "0.500"),  # low is good
        (False, False, "0.600"),  # nothing tests it
        (False, False, "0.700"),
    ]
    assert not any(c.best for c in cells(made, "Images seen"))  # neither end is good
    assert [c.interval.low if c.interval else None for c in cells(made, "Accuracy")] == [65.6, 71.9, 0.0]


def test_no_best_without_a_choice(build: Build, three: Comparison) -> None:
    assert not any(cell.best for row in model_table(build(["a", "b"], ["only"]))[1] for cell in row)
    equal = three.replace(entries=tuple(e.replace(parameters=5) for e in three.entries))
    assert not any(cell.best for cell in cells(equal, "Parameters"))
    tied = [e.replace(parameters=n) for e, n in zip(three.entries, (5, 5, 9), strict=True)]
    assert [cell.best for cell in cells(three.replace(entries=tuple(tied)), "Parameters")] == [
        True,
        True,
        False,
    ]


def test_optional_columns_only_where_measured(build: Build, three: Comparison) -> None:
    titles = [column.title for column in model_table(three)[0]]
    assert "Top-5" not in titles and "Memory" not in titles
    many = build([f"c{number}" for number in range(21)], ["only"], per_class=2)
    assert "Top-5" in [column.title for column in model_table(many)[0]]


def test_undefined_is_said_and_never_nan(three: Comparison) -> None:
    entry = three.entries[0]
    rows = tuple(
        row.replace(precision=None, recall=None, f1=None, auc=None, average_precision=None)
        for row in entry.test.per_class
    )
    test = entry.test.replace(macro_auc=None, micro_auc=None, per_class=rows)
    history = tuple(dataclasses.replace(row, train_accuracy=math.nan) for row in entry.history)
    broken = entry.replace(test=test, history=history)
    page = comparison_page(three.replace(entries=(broken,), pairs=()), context())
    assert page.count("undefined") >= 3 * 5 + 2
    assert not re.search(r"\bnan\b|\binf\b|\bNone\b", page)


def test_a_picture_that_cannot_be_shown_is_a_blank(build: Build) -> None:
    page = comparison_page(build(["no", "yes"], ["only"], per_class=4, epochs=0), context())
    assert not Page(page).all("img")
    assert "(no image)" in page


def test_thumbnails_are_small_and_made_once(thumbnail: Callable[[str], np.ndarray]) -> None:
    asked: list[str] = []
    album = Album(lambda path: asked.append(path) or thumbnail(path))  # type: ignore[func-returns-value]
    assert album.uri("a") == album.uri("a")
    assert asked == ["a"]
    assert len(album.uri("a") or "") < 10_000


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (words.percent(math.inf), "undefined"),
        (words.percent(0.99951), "100.0 %"),
        (words.short_count(999_999), "1.00 M"),  # rounds up into the next power
        (words.short_count(0), "0"),
        (words.duration(59.97), "1.0 min"),
        (words.duration(3599.0), "1.00 h"),
        (words.file_size(0), "0 B"),
        (words.chance(0.0), "< 0.001"),
        (words.span(math.nan, 1.0), "undefined"),
        (words.signed_points(math.nan), "undefined"),
        (words.milliseconds(math.nan), "undefined"),
        (words.milliseconds(123.4), "123 ms"),
    ],
)
def test_words(said: str, expected: str) -> None:
    assert said == expected


def test_a_page_of_very_many_classes_says_what_is_not_drawn(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    few = build([f"c{number:02}" for number in range(25)], ["only"], per_class=2)
    page = comparison_page(few, context())
    assert "m0-confusion" in page and "m0-roc" in page and ">a class<" not in page  # of 2 images has no line
    assert ">a class<" in comparison_page(build(["ann", "bob"], ["only"], per_class=10), context())
    monkeypatch.setattr(classification, "MATRIX", 20)
    monkeypatch.setattr(html, "SHOWN", 10)
    said = few.entries[0].predictions
    kept = Predictions(said.paths, said.labels, None, said.ranked)
    test = classification.classify(kept, few.classes, "test")
    many = comparison_page(few.replace(entries=(few.entries[0].replace(test=test, predictions=kept),)), context())
    assert "m0-confusion" not in many and "m0-roc" not in many and "m0-reliability" in many
    assert "25 classes are too many for a confusion matrix" in many and "too many for a confusion matrix" not in page
    assert "AUC and average precision are not measured" in many and "The 10 of 25 classes with the lowest F1" in many
    worst = sorted(row.f1 or 0.0 for row in test.per_class)[9]
    table = html._lowest(test.per_class)
    assert len(table) == 10 and max(row.f1 or 0.0 for row in table) == worst
    assert most_confused(test, 1)[0][0] in many
