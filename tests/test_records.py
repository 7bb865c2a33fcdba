"""Frozen facts, and the one reader of files that are read back."""

from __future__ import annotations

import json
import os
import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facewright.errors import BundleError, FacewrightError, RunError, UsageError
from facewright.files import parse_json, parse_toml, read_json, read_toml
from facewright.records import Record
from facewright.workflows.face_detection import FoundFaces, PhotoFaces


class Row(Record):
    name: str
    share: float | None = None


class Table(Record):
    frame_rows = "entries"
    title: str
    counts: tuple[int, ...]
    entries: tuple[Row, ...] = ()


TABLE = Table(title="a<b", counts=(1, 2), entries=(Row(name="x", share=0.5), Row(name="y")))


def test_facts_are_json_and_come_back():
    facts = TABLE.to_dict()
    assert facts == {
        "title": "a<b",
        "counts": [1, 2],
        "entries": [{"name": "x", "share": 0.5}, {"name": "y", "share": None}],
    }
    assert parse_json(json.dumps(facts), Table, "a table") == TABLE


@pytest.mark.parametrize(
    "facts", [{"title": "a"}, {"title": "a", "counts": [1], "more": 1}, {"title": "a", "counts": 3}]
)
def test_other_facts_are_refused(facts):
    with pytest.raises(ValueError, match=r"counts|more"):
        Table(**facts)


def test_a_record_is_frozen_and_has_no_nan():
    with pytest.raises(ValueError, match="frozen"):
        TABLE.title = "b"
    with pytest.raises(ValueError, match="finite"):
        Row(name="x", share=float("nan"))


def test_a_record_as_a_data_frame():
    pytest.importorskip("pandas")
    frame = TABLE.to_frame()
    assert list(frame.columns) == ["name", "share"]
    assert list(frame["name"]) == ["x", "y"]
    assert TABLE.entries[0].to_frame()["share"].tolist() == [0.5]


def test_a_data_frame_without_pandas(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UsageError, match="pandas"):
        TABLE.to_frame()


def unstyled(record):
    return re.sub(r' style="[^"]*"', "", record._repr_html_())


def test_a_record_in_a_notebook_is_escaped():
    page = unstyled(TABLE)
    assert "a&lt;b" in page and "a<b" not in page
    assert "<td>0.5</td>" in page


def test_a_record_in_a_notebook_shows_what_is_there_to_four_digits():
    class Facts(Record):
        share: float = 2 / 3
        absent: float | None = None
        zero: float = 0.0
        matrix: tuple[tuple[int, ...], ...] = ((1, 2), (3, 4))
        many: tuple[int, ...] = tuple(range(30))
        nested: dict[str, float]
        rows: tuple[dict[str, str | None], ...]

    page = unstyled(Facts(nested={"<b>": 0.25}, rows=({"reason": None},)))
    assert "0.6667" in page and "absent" not in page and "zero" in page
    assert "<tr><td>1</td><td>2</td></tr><tr><td>3</td><td>4</td></tr>" in page
    assert "19 … 10 more" in page and "20," not in page
    assert "&lt;b&gt;" in page and "<b>" not in page
    assert "<th>reason</th></tr><tr><td></td></tr>" in page


def test_a_list_of_records_in_a_notebook_has_what_is_a_table_below_its_line():
    class Model(Record):
        name: str
        test: dict[str, dict[str, float]]
        accuracy: dict[str, float | int]

    class Models(Record):
        models: tuple[Model, ...]
        advice: tuple[str, ...] = ("Take a.", "Not b.")

    rate = {"value": 0.5, "low": 0.25, "high": 0.75, "n": 8}
    page = unstyled(Models(models=[Model(name="a/b_c", test={"of_ann": {"f1": 0.5}}, accuracy=rate)]))
    line = "<tr><td>a/<wbr>b_<wbr>c</td><td>0.5 (0.25 to 0.75, n=8)</td></tr>"
    assert f'<tr><th>name</th><th>accuracy</th></tr>{line}<tr><td colspan="2"><table><tr><th>test</th>' in page
    assert "<th>of_<wbr>ann</th>" in page and "Take a.<br>Not b." in page


DAMAGED = {
    "deep": b"[" * 100_000,
    "deep in a table": b'{"title": ' + b"[" * 100_000,
    "null": b"null",
    "a list": b"[]",
    "a list where text is expected": b'{"title": [], "counts": []}',
    "null where a list is expected": b'{"title": "a", "counts": null}',
    "10^400 as a count": b'{"title": "a", "counts": [1' + b"0" * 400 + b".5]}",
    "5,000 digits": b'{"title": "a", "counts": [1' + b"0" * 5_000 + b"]}",
    "10^400 as a share": b'{"title": "a", "counts": [], "entries": [{"name": "x", "share": 1' + b"0" * 400 + b"}]}",
    "1e400": b'{"title": "a", "counts": [], "entries": [{"name": "x", "share": 1e400}]}',
    "NaN": b'{"title": "a", "counts": [], "entries": [{"name": "x", "share": NaN}]}',
    "not UTF-8": b'{"title": "\xff\xfe", "counts": []}',
    "half a character": b'{"title": "\\ud800", "counts": []}',
    "cut off": b'{"title": "a", "cou',
    "empty": b"",
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_damaged_json_is_one_line_that_names_the_file(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(RunError) as raised:
        read_json(path, Table, error=RunError)
    assert str(raised.value).startswith(f"{path}: damaged (")
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 400


@pytest.mark.parametrize(
    "content",
    [b"x = " + b"[" * 100_000, b"counts = 1" + b"0" * 5_000, b"\xff", b"x = ", b"title = 3\ncounts = []", b""],
    ids=["deep", "5,000 digits", "not UTF-8", "cut off", "wrong type", "empty"],
)
def test_damaged_toml_is_one_line_that_names_the_file(tmp_path, content):
    path = tmp_path / "x.toml"
    path.write_bytes(content)
    with pytest.raises(BundleError) as raised:
        read_toml(path, Table, error=BundleError)
    assert str(raised.value).startswith(f"{path}: damaged (")


def test_toml_is_read(tmp_path):
    path = tmp_path / "x.toml"
    path.write_text('title = "é"\ncounts = [1, 2]\n', encoding="utf-8")
    assert read_toml(path, Table) == Table(title="é", counts=(1, 2))


def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b"[" + b"1," * 100 + b"1]")
    for name, limit in [("pipe", 1000), ("large", 50), ("absent", 1000), (".", 1000), ("zero\0byte", 1000)]:
        with pytest.raises(RunError, match=str(tmp_path)):
            read_json(tmp_path / name, list[int], error=RunError, limit=limit)
    assert read_json(tmp_path / "large", list[int]) == [1] * 101


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(ANYTHING, st.sampled_from([Table, Row, dict[str, int], list[str]]))
def test_any_json_is_the_type_or_the_callers_error(facts, model):
    try:
        parse_json(json.dumps(facts), model, "x", error=RunError)
    except FacewrightError as error:
        assert type(error) is RunError


@given(st.binary(max_size=200), st.sampled_from([parse_json, parse_toml]))
def test_any_bytes_are_the_type_or_the_callers_error(content, parse):
    try:
        parse(content, Table, "x", error=RunError)
    except FacewrightError as error:
        assert type(error) is RunError


def test_results_that_are_no_records_are_tables_in_a_notebook() -> None:
    page = FoundFaces((PhotoFaces("<a>.png", (40, 30)),), "yunet", "arcface")._repr_html_()
    assert page.startswith("<table><caption>FoundFaces</caption>") and "&lt;a&gt;.png" in page and "<a>" not in page
