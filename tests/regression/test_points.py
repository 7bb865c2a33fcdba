"""Points: what is read, what is refused and how, and who gets which row."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from facewright.data.text_tables import FUNCTIONS
from facewright.errors import DataError, FacewrightError, UnknownName, UsageError
from facewright.regression.points import open_points, read_inputs

ROWS = [(float(i), i * 0.5, i**2) for i in range(24)]


def table(rows: object, header: str = "a,b,c") -> str:
    lines = [",".join(str(cell) for cell in row) for row in rows]  # type: ignore[attr-defined]
    return "\n".join([header] * bool(header) + lines) + "\n"


def write(folder: Path, text: str, name: str = "points.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_the_last_column_is_the_target(tmp_path: Path) -> None:
    points = open_points(write(tmp_path, table(ROWS)))
    assert (points.name, points.input_names, points.target_names) == ("points", ("a", "b"), ("c",))
    np.testing.assert_array_equal(np.c_[points.inputs, points.targets], np.array(ROWS))


def test_named_targets_leave_the_others_as_inputs(tmp_path: Path) -> None:
    points = open_points(write(tmp_path, table(ROWS)), ["c", "a"])
    assert (points.input_names, points.target_names) == (("b",), ("c", "a"))
    np.testing.assert_array_equal(points.targets, np.array(ROWS)[:, [2, 0]])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.tsv", table(ROWS).replace(",", "\t")),
        ("a.csv", "\ufeff" + table(ROWS)),  # a byte order mark
        ("a.CSV", table(ROWS).replace("\n", "\r\n")),
        ("a.csv", table(ROWS).replace("\n", "\n\n")),  # empty lines
        ("a.csv", table(ROWS).replace(",", " , ")),
        ("a.csv", table(ROWS).replace(",", ";")),
        ("a.csv", table(ROWS).replace("a,b,c", '"a","b","c"')),
    ],
)
def test_spellings_of_one_table(tmp_path: Path, name: str, text: str) -> None:
    plain = open_points(write(tmp_path, table(ROWS), "plain.csv"))
    assert open_points(write(tmp_path, text, name)).fingerprint == plain.fingerprint


def test_without_a_header_columns_are_numbered(tmp_path: Path) -> None:
    array = tmp_path / "points.npy"
    np.save(array, np.array(ROWS, np.float32))
    for path in (write(tmp_path, table(ROWS, header="")), array):
        points = open_points(path)
        assert (points.input_names, points.target_names, len(points)) == (("column1", "column2"), ("column3",), 24)
        assert open_points(path, ["column1"]).target_names == ("column1",)


def changed(line: int, text: str) -> str:
    lines = table(ROWS).splitlines()
    lines[line] = text
    return "\n".join(lines)


# text of the file -> what the one line says
REFUSED = {
    "a word": (changed(5, "1,zwei,3"), "line 6: b is 'zwei'"),
    "NaN": (changed(5, "1,nan,3"), "line 6: b is 'nan'"),
    "infinity": (changed(5, "1,2,inf"), "line 6: c is 'inf'"),
    "an empty cell": (changed(5, "1,,3"), "line 6: b is ''"),
    "Python's digits": (changed(5, "1,1_000,3"), "line 6: b is '1_000'"),
    "too few values": (changed(5, "1,2"), "line 6: expected 3 values, got 2"),
    "decimal commas": (changed(5, "1,2,3,4"), "line 6: expected 3 values, got 4"),
    "one column": (table([(i,) for i in range(24)], "a"), "got 'a' alone"),
    "a name twice": (table(ROWS, "a,b,a"), "column 1 is called 'a'"),
    "a nameless column": (table(ROWS, "a,,c"), "column 2 is called ''"),
    "names and numbers": (table(ROWS, "a,1,c"), "line 1: column 2 is called '1'"),
    "a constant target": (table([(i, 2 * i, 7) for i in range(24)]), "target c is 7"),
    "too few rows": (table(ROWS[:19]), "got 19"),
    "a header alone": ("a,b,c\n", "no row"),
    "nothing": ("", "empty"),
    "an open quote": (changed(5, '1,"2,3'), "cannot be read"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_tables_are_refused_in_one_line(tmp_path: Path, case: str) -> None:
    text, said = REFUSED[case]
    with pytest.raises(DataError) as caught:
        open_points(write(tmp_path, text))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "points.csv" in str(caught.value)


def array_file(array: object) -> bytes:
    out = io.BytesIO()
    np.save(out, array)  # type: ignore[call-overload]
    return out.getvalue()


def archive() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as opened:
        opened.writestr("a.npy", array_file(np.ones((3, 2))))
    return out.getvalue()


def promising_much() -> bytes:
    """A header for a billion rows over a file that holds two."""
    content = array_file(np.ones((2, 2)))
    return content.replace(b"'shape': (2, 2), }" + b" " * 12, b"'shape': (1000000000, 2), }".ljust(30))


ARRAYS = {
    "objects": (lambda: array_file(np.array([[1, "a"]] * 30, object)), "never read"),
    "one axis": (lambda: array_file(np.arange(30.0)), "shape (30,)"),
    "complex": (lambda: array_file(np.ones((30, 2), complex)), "complex128"),
    "words": (lambda: array_file(np.full((30, 2), "a")), "<U1"),
    "NaN": (lambda: array_file(np.array([[1.0, 2.0], [np.nan, 3.0]])), "row 2, column 1 is nan"),
    "no rows": (lambda: array_file(np.ones((0, 2))), "no row"),
    "an archive": (archive, "NumPy"),
    "cut off": (lambda: array_file(np.ones((30, 2)))[:200], "NumPy"),
    "more than there is": (promising_much, "NumPy"),
    "no array": (lambda: b"a,b\n1,2\n", "NumPy"),
    "empty": (lambda: b"", "NumPy"),
}


@pytest.mark.parametrize("case", ARRAYS)
def test_bad_arrays_are_refused_in_one_line(tmp_path: Path, case: str) -> None:
    make, said = ARRAYS[case]
    path = tmp_path / "points.npy"
    path.write_bytes(make())
    with pytest.raises(DataError) as caught:
        open_points(path)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("where", "targets", "error", "said"),
    [
        ("points.csv", ["cc"], UnknownName, "did you mean 'c'?"),
        ("points.csv", ["c", "c"], UsageError, "'c' is named twice"),
        ("points.csv", ["a", "b", "c"], UsageError, "at least one input"),
        ("absent.csv", [], DataError, "no such file"),
        ("points.xlsx", [], DataError, "got .xlsx"),
        ("function:monkey-sadle", [], UnknownName, "did you mean 'monkey-saddle'?"),
        ("function:monkey-saddle?point=5", [], UnknownName, "did you mean 'points'?"),
        ("function:monkey-saddle?points=5", [], DataError, "at least 20 rows"),
        ("function:monkey-saddle?points=0", [], UsageError, "points: expected a whole number from 1"),
        ("function:monkey-saddle?points=1e3", [], UsageError, "got '1e3'"),
        ("function:monkey-saddle?noise=nan", [], UsageError, "noise: expected"),
        ("function:monkey-saddle?noise=-1", [], UsageError, "noise: expected"),
        ("function:monkey-saddle?seed=1&seed=2", [], UsageError, "key is given twice"),
        ("function:monkey-saddle?seed", [], UsageError, "expected key=value"),
    ],
)
def test_wrong_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, targets: list[str], error: type, said: str
) -> None:
    write(tmp_path, table(ROWS))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error) as caught:
        open_points(where, targets)
    assert said in str(caught.value)
    assert isinstance(caught.value, FacewrightError)


def test_the_monkey_saddle_is_what_it_says() -> None:
    points = open_points("function:monkey-saddle?points=2000&seed=3")
    x, y = points.inputs.T
    np.testing.assert_allclose(points.targets[:, 0], x**3 - 3 * x * y**2)
    for values, reach in ((x, 10), (y, 50)):
        assert -reach <= values.min() < -0.98 * reach
        assert 0.98 * reach < values.max() <= reach


def test_noise_is_added_to_the_target_alone() -> None:
    plain, noisy = (open_points(f"function:monkey-saddle?points=4000&noise={noise}") for noise in (0, 50))
    np.testing.assert_array_equal(plain.inputs, noisy.inputs)
    assert 48 < float(np.std(noisy.targets - plain.targets)) < 52


@pytest.mark.parametrize("name", FUNCTIONS)
def test_equal_addresses_give_equal_points(name: str) -> None:
    one = open_points(f"function:{name}?points=30")
    assert open_points(one.source).fingerprint == one.fingerprint
    assert open_points(f"function:{name}?points=30&seed=1").fingerprint != one.fingerprint


def test_shares_are_kept_to_the_row() -> None:
    split = open_points("function:monkey-saddle").split(0, 0.15, 0.15)
    assert [len(rows) for rows in (split.train, split.validation, split.test)] == [350, 75, 75]
    assert sorted(np.concatenate([split.train, split.validation, split.test])) == list(range(500))


def test_the_split_does_not_depend_on_the_order_of_the_rows(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(60, 3))
    turned = rows[::-1]
    paths = [write(tmp_path, table(given.tolist()), f"{number}.csv") for number, given in enumerate((rows, turned))]
    tests = []
    for path, given in zip(paths, (rows, turned), strict=True):
        tests.append({tuple(row) for row in given[open_points(path).split(4, 0.2, 0.2).test]})
    assert tests[0] == tests[1]
    assert tests[0] != {tuple(row) for row in rows[open_points(paths[0]).split(5, 0.2, 0.2).test]}


def test_rows_of_equal_inputs_stay_on_one_side(tmp_path: Path) -> None:
    rows = [(i % 30, i % 3, i) for i in range(90)]
    split = open_points(write(tmp_path, table(rows))).split(0, 0.2, 0.2)
    sides = [{row % 30 for row in part.tolist()} for part in (split.train, split.validation, split.test)]
    assert not (sides[0] & sides[1] | sides[0] & sides[2] | sides[1] & sides[2])


def test_too_few_different_rows_cannot_be_split(tmp_path: Path) -> None:
    points = open_points(write(tmp_path, table([(1, 2, i) for i in range(30)])))
    with pytest.raises(DataError, match="1 distinct inputs"):
        points.split(0, 0.15, 0.15)


def test_new_rows_are_found_by_name_or_by_place(tmp_path: Path) -> None:
    named = write(tmp_path, "c,b,other,a\n3,2,9,1\n", "named.csv")
    bare = write(tmp_path, "1,2,3\n", "bare.csv")
    for path in (named, bare):
        assert read_inputs(path, ["a", "b", "c"]).tolist() == [[1.0, 2.0, 3.0]]
    with pytest.raises(DataError, match="column 'd'"):
        read_inputs(named, ["a", "d"])
    with pytest.raises(DataError, match="expected 2 columns"):
        read_inputs(bare, ["a", "b"])
