"""Sets of templates in both layouts, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from facewright.data import template_sets
from facewright.data.template_sets import is_template_set, read_template_set
from facewright.errors import DataError

ROWS = ["5,al,1,a.png", "5,al,1,b.png", "5,al,2,c.png", "9,bo,3,sub/d.png", "2,al,2,c.png"]


def folder_of(root: Path, rows: list[str] = ROWS, pairs: str = "5,9\n5,2\n", header: str | None = None) -> Path:
    (root / "images").mkdir(parents=True)
    header = "template_id,subject_id,media_id,filename" if header is None else header
    (root / "templates.csv").write_text("\n".join([header, *rows]) + "\n")
    (root / "pairs.csv").write_text(pairs)
    return root


def test_both_layouts_are_read_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_sets, "LINES", 1)
    ours = folder_of(tmp_path / "ours")
    (ours / "gallery1.csv").write_text("TEMPLATE_ID,SUBJECT_ID\n9,bo\n")
    (ours / "probes.csv").write_text("template_id\n2\n5\n2\n")
    theirs = tmp_path / "theirs"
    (theirs / "loose_crop").mkdir(parents=True)
    lines = [" ".join((row.split(",")[3], row.split(",")[0], row.split(",")[2])) for row in ROWS]
    (theirs / "ijbc_face_tid_mid.txt").write_text("\n".join(lines) + "\n")
    (theirs / "ijbc_template_pair_label.txt").write_text("5 9 0\n5 2 1\n")
    (theirs / "ijbc_1N_gallery_G1.csv").write_text("TEMPLATE_ID,SUBJECT_ID\n9,bo\n")
    (theirs / "ijbc_1N_probe_mixed.csv").write_text("TEMPLATE_ID,SUBJECT_ID\n2,al\n5,al\n2,al\n")
    for folder in (ours, theirs):
        found = read_template_set(folder)
        assert is_template_set(folder) and found.ids.tolist() == [2, 5, 9]
        assert found.paths == ("a.png", "b.png", "c.png", "sub/d.png")
        assert found.template.tolist() == [1, 1, 1, 2, 0] and found.media.tolist() == [0, 0, 1, 2, 1]
        parts = [(a.tolist(), b.tolist(), same.tolist()) for a, b, same in found.read_pairs()]
        assert parts == [([1], [2], [False]), ([1], [0], [True])]
        assert found.probes is not None and found.probes.rows.tolist() == [0, 1]
        assert found.probes.subjects.tolist() == ["al", "al"] and found.galleries[0].subjects.tolist() == ["bo"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rows": []}, "none"),
        ({"rows": ["x,al,1,a.png"]}, "'x'"),
        ({"rows": ["99999999999999999999,al,1,a.png"]}, "9999"),
        ({"rows": ["5,al,1,../a.png"]}, "a.png"),
        ({"rows": ["5,al,1,a.png", "5,bo,1,b.png"]}, "5"),
        ({"header": "template_id,filename"}, "subject_id"),
        ({"pairs": "5,9,2\n"}, "0 or 1"),
        ({"pairs": "5,7\n"}, "7"),
        ({"pairs": "5\n"}, "1 columns"),
        ({"pairs": "5,9\n5,x\n"}, "line 1"),
        ({"pairs": "5,9\n5,9,1\n"}, "line 1"),
        ({"pairs": ""}, "none"),
    ],
)
def test_damaged_lists_are_refused(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    with pytest.raises(DataError, match=said):
        list(read_template_set(folder_of(tmp_path / "set", **changes)).read_pairs())  # type: ignore[arg-type]


FIVE = "10 10 20 10 15 15 11 20 19 20"


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([f"{name} {FIVE}" for name in ("a.png", "b.png", "c.png", "sub/d.png")], "line 1"),  # no score
        (["a.png " + "1 " * 10 + "0.9"], "line 1"),  # all in one place
        ([f"a.png {FIVE} x"], "line 1"),
        ([f"a.png {FIVE.replace('15', 'nan')} 0.9"], "line 1"),
        ([f"a.png {FIVE.replace('15', '1e300')} 0.9"], "line 1"),
        ([f"a.png {FIVE} 0.9", f"a.png {FIVE} 0.8"], "line 2"),
        ([f"a.png {FIVE} 0.9", f"b.png {FIVE} 0.9"], "c.png"),
        ([f"{name} {FIVE} -1" for name in ("a.png", "b.png", "c.png", "sub/d.png")], "scores"),
        ([""], "a.png"),
    ],
)
def test_damaged_points_are_refused(tmp_path: Path, lines: list[str], said: str) -> None:
    folder = folder_of(tmp_path / "set")
    (folder / "meta").mkdir()
    (folder / "meta/ijbc_name_5pts_score.txt").write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=said):
        read_template_set(folder)


def test_missing_lists_are_named(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "set")
    (folder / "pairs.csv").unlink()
    with pytest.raises(DataError, match="pairs"):
        read_template_set(folder)
    (folder / "gallery.csv").write_text("template_id\n7\n")
    (folder / "probe.csv").write_text("template_id\n5\n")
    with pytest.raises(DataError, match="7"):
        read_template_set(folder)
    (folder / "images").rmdir()
    with pytest.raises(DataError, match="images"):
        read_template_set(folder)
    assert not is_template_set(tmp_path) and not is_template_set(folder / "templates.csv")
