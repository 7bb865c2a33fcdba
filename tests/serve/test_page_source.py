"""The page's files: nothing in them can make markup of a name, and each names only its neighbours."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from facewright.serve.responses import page_files


class Markup(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def texts(kind: str) -> dict[str, str]:
    return {name: content.decode() for name, content in page_files().items() if Path(name).suffix == kind}


@pytest.mark.parametrize(
    "way",
    [
        r"\b(inner|outer)HTML\b", r"insertAdjacentHTML", r"document\.write", r"DOMParser", r"createContextualFragment",
        r"setHTML", r"srcdoc", r"\beval\s*\(", r"new Function", r"set(Timeout|Interval)\(\s*[\"'`]", r"\bimport\s*\(",
        r"\bstyle\s*:\s*[\"'`]", r"setAttribute\(\s*[\"']style", r"localStorage|sessionStorage|indexedDB|cookie",
    ],
)  # fmt: skip
def test_no_script_can_make_markup_of_a_name_or_keep_a_photo(way: str) -> None:
    assert [name for name, text in texts(".js").items() if re.search(way, text)] == []


def test_the_page_has_no_script_no_style_and_no_address_of_its_own() -> None:
    tags = Markup(texts(".html")["index.html"]).tags
    assert not [tag for tag, attributes in tags for name in attributes if name.startswith("on") or name == "style"]
    assert "style" not in {tag for tag, _ in tags}
    assert [attributes.get("src") for tag, attributes in tags if tag == "script"] == ["static/app.js"]
    assert not [
        name for name, content in page_files().items() if re.search(rb"https?://(?!www\.w3\.org/2000/svg)", content)
    ]


def test_every_file_that_is_named_is_there_and_every_file_is_named() -> None:
    tags = Markup(texts(".html")["index.html"]).tags
    named = {str(a.get(key)).removeprefix("static/") for _, a in tags for key in ("src", "href") if a.get(key)}
    for text in texts(".js").values():
        named |= set(re.findall(r'^import .* from "\./([\w.]+)";$', text, re.MULTILINE))
    for text in texts(".css").values():
        named |= set(re.findall(r'url\("([\w.]+)"\)', text))
    assert {name for name in named if not name.startswith("#")} == set(page_files()) - {"index.html", "entrance.css"}


def test_ids_are_unique_and_everything_that_is_meant_exists() -> None:
    html = texts(".html")["index.html"]
    ids = [str(attributes["id"]) for _, attributes in Markup(html).tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    meant = set(re.findall(r'aria-(?:controls|labelledby)="([\w-]+)"', html))
    for text in texts(".js").values():
        meant |= set(re.findall(r'byId\("([\w-]+)"\)', text))
    assert meant <= set(ids)


def test_files_can_be_read_in_one_sitting() -> None:
    assert {name for name, content in page_files().items() if content.count(b"\n") > 300} == set()
