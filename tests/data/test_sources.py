"""Listing data sets: layouts, tables, archives; links and dangerous archives (faults 5 and 10)."""

import multiprocessing
import os
import pickle
import re
import stat
import struct
import unicodedata
import zipfile
from pathlib import Path

import numpy as np
import pytest

from facewright.data import archives
from facewright.data.records import Record
from facewright.data.sources import open_dataset
from facewright.errors import BadArchive, BadImage, DataError, EmptyClass
from fixtures.trees import image


def build(root: Path, *paths: str) -> Path:
    """Images at these paths under `root`; a path that ends in / is an empty folder."""
    root.mkdir(parents=True, exist_ok=True)
    for number, path in enumerate(paths):
        target = root / path
        if path.endswith("/"):
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(image(number))
    return root


def zipped(path: Path, *entries: str | zipfile.ZipInfo, body: bytes | None = None) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, entry in enumerate(entries):
            archive.writestr(entry, image(number) if body is None else body)
    return path


def listed(where: Path | str) -> list[tuple[str, str, str | None]]:
    data = open_dataset(where)
    return [(r.path, data.classes[r.label], r.split) for r in data.records]


def test_a_folder_per_class(tmp_path):
    build(tmp_path / "faces", "bob/2.PNG", "bob/10.png", "ann/1.jpg")
    data = open_dataset(tmp_path / "faces")
    assert data.name == "faces"
    assert data.where == str(tmp_path / "faces")
    assert data.classes == ("ann", "bob")
    assert data.records == (Record("ann/1.jpg", 0), Record("bob/10.png", 1), Record("bob/2.PNG", 1))
    assert data.broken == ()
    assert data.source.read(data.records[1], None).tolist() == [[[1] * 3] * 4] * 4
    assert open_dataset(str(tmp_path / "faces")) == data


def test_split_folders_share_their_classes(tmp_path):
    """bob is absent from train, ann from test: nobody's label may shift."""
    build(tmp_path, "train/ann/1.png", "train/cleo/1.png", "valid/ann/2.png", "Test/bob/1.png", "Test/cleo/2.png")
    assert open_dataset(tmp_path).classes == ("ann", "bob", "cleo")
    assert listed(tmp_path) == [
        ("Test/bob/1.png", "bob", "test"),
        ("Test/cleo/2.png", "cleo", "test"),
        ("train/ann/1.png", "ann", "train"),
        ("train/cleo/1.png", "cleo", "train"),
        ("valid/ann/2.png", "ann", "validation"),
    ]


def test_classes_may_be_called_train_and_test_where_that_is_said(tmp_path):
    build(tmp_path, "train/1.png", "test/1.png")  # toy trains and tests: images, not class folders, lie in them
    with pytest.raises(DataError, match="--layout folders"):
        open_dataset(tmp_path)
    assert listed(f"{tmp_path}?layout=folders") == [("test/1.png", "test", None), ("train/1.png", "train", None)]


def test_one_name_in_two_unicode_forms_is_one_class_and_two_in_case_are_two(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "Zoë") for form in ("NFC", "NFD"))
    build(tmp_path, "Ann/1.png", "ann/1.png", f"{composed}/1.png", f"{decomposed}/1.png")
    if len(list(tmp_path.iterdir())) < 4:
        pytest.skip("this file system holds such names to be equal")
    data = open_dataset(tmp_path)
    assert data.classes == ("Ann", composed, "ann")
    assert data.counts() == {"Ann": 1, composed: 2, "ann": 1}
    assert any(composed in note for note in data.notes)
    assert any("Ann, ann" in note for note in data.notes)


@pytest.mark.parametrize("name", ["a\u200bnn", "ann\x07", "\u202eann", "an\u00adn", "ann\ue000"])
def test_a_class_name_that_cannot_be_seen_is_refused(tmp_path, name):
    hidden = next(f"U+{ord(c):04X}" for c in name if not c.isalpha() or ord(c) > 0x2000)
    with pytest.raises(DataError, match=re.escape(hidden)):
        open_dataset(build(tmp_path / "folders", f"{name}/1.png", "bob/1.png"))
    build(tmp_path, "1.png", "2.png")
    with pytest.raises(DataError, match=re.escape(hidden)):
        open_dataset(table(tmp_path, f"path,label\n1.png,{name}\n2.png,bob\n"))
    with pytest.raises(BadArchive, match=re.escape(hidden)):
        open_dataset(zipped(tmp_path / "x.zip", f"{name}/1.png", "bob/1.png"))


def test_what_is_no_image_is_passed_over(tmp_path):
    build(tmp_path, "ann/1.png", "ann/.hidden.png", ".git/x/1.png", "ann/.cache/1.png")
    for name in ("notes.txt", "Thumbs.db", ".DS_Store", "x.png.txt"):
        (tmp_path / "ann" / name).write_text("x")
    (tmp_path / "README.md").write_text("x")
    (tmp_path / "ann" / "not_really.png").write_text("x")  # an image by its name: found broken when it is read
    data = open_dataset(tmp_path)
    assert [r.path for r in data.records] == ["ann/1.png", "ann/not_really.png"]
    assert data.broken == ()
    with pytest.raises(BadImage, match=r"ann/not_really\.png"):
        data.source.read(data.records[1], None)


def test_images_of_kinds_that_are_not_read_are_named(tmp_path):
    build(tmp_path, "ann/1.png", "ann/2.JXL", "bob/1.jxl")
    with pytest.raises(EmptyClass, match=r"bob/ \(bob/1\.jxl"):
        open_dataset(tmp_path)
    build(tmp_path, "bob/2.png")
    assert [b.path for b in open_dataset(tmp_path).broken] == ["ann/2.JXL", "bob/1.jxl"]
    data = open_dataset(zipped(tmp_path / "x.zip", "f/ann/1.png", "f/bob/1.png", "f/bob/2.jxl"))
    assert [b.path for b in data.broken] == ["bob/2.jxl"]


def test_a_relative_path_stays_valid_elsewhere(tmp_path, monkeypatch):
    build(tmp_path / "faces", "ann/1.png")
    zipped(tmp_path / "x.zip", "ann/1.png")
    table(tmp_path, "path,label\nfaces/ann/1.png,ann\n")
    monkeypatch.chdir(tmp_path)
    opened = [open_dataset(where) for where in ("faces", "x.zip", "faces.csv")]
    monkeypatch.chdir("/")
    for data in opened:
        assert data.source.read(data.records[0], None).shape == (4, 4, 3)


def test_images_beside_the_class_folders_are_named(tmp_path):
    build(tmp_path, "ann/1.png", "loose.png")
    assert [b.path for b in open_dataset(tmp_path).broken] == ["loose.png"]


# The tree → what is raised and what it names.
REFUSED = [
    ([], DataError, "no folder"),
    (["1.png", "2.png"], DataError, "2 images"),  # a flat folder
    (["ann/1.png", "bob/"], EmptyClass, "bob/;"),
    (["ann/1.png", "bob/", "cleo/"], EmptyClass, "bob/, cleo/"),
    (["ann/1.png", *(f"empty{number}/" for number in range(9))], EmptyClass, "empty4/ and 4 more"),
    (["train/ann/1.png", "val/ann/1.png", "val/bob/"], EmptyClass, "val/bob/"),
    (["train/ann/1.png", "val/ann/1.png", "test/"], DataError, "/test:"),
    (["train/ann/1.png", "test/1.png"], DataError, "/test:"),  # images without classes
    (["train/ann/1.png", "val/ann/1.png", "valid/ann/1.png"], DataError, "val and valid"),
    (["Train/ann/1.png", "training/ann/1.png"], DataError, "Train and training"),
    (["train/1.png", "test/1.png", "val/1.png"], DataError, "--layout folders"),
    (["Training/1.png", "Testing/1.png"], DataError, "--layout folders"),
    (["train/ann/1.png", "other/ann/1.png"], DataError, "other/ann/"),  # one folder too high
    (["sets/a/ann/1.png"], DataError, "sets/a/ann/"),
    (["ann/1.png", "ann/deeper/2.png"], DataError, "ann/deeper/"),
]


@pytest.mark.parametrize(("paths", "error", "message"), REFUSED)
def test_trees_that_are_no_layout_are_refused_in_words(tmp_path, paths, error, message):
    with pytest.raises(error) as caught:
        open_dataset(build(tmp_path / "faces", *paths))
    assert message in str(caught.value)
    assert str(tmp_path / "faces") in str(caught.value)


def test_what_is_no_data_set_is_refused_in_words(tmp_path):
    (tmp_path / "x.docx").write_text("x")
    (tmp_path / "loop").symlink_to("loop")
    for where in (tmp_path / "absent", tmp_path / "loop", tmp_path / "x.docx", "/dev/null", "a\0b"):
        with pytest.raises(DataError, match=r"absent|loop|x\.docx|null|a.b"):
            open_dataset(where)


def test_an_unreadable_folder_is_named(tmp_path, monkeypatch):
    build(tmp_path, "ann/1.png", "bob/1.png")
    real = os.scandir

    def guarded(path):
        if Path(path).name == "bob":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", guarded)  # root may read everything, so take the right away here
    with pytest.raises(DataError, match=r"bob: .*Permission denied"):
        open_dataset(tmp_path)


def test_links_are_listed_and_never_followed(tmp_path, monkeypatch):
    outside = build(tmp_path / "outside", "secret.png", "deep/secret.png")
    root = build(tmp_path / "faces", "ann/1.png", "bob/1.png")
    (root / "ann" / "out.png").symlink_to(outside / "secret.png")
    (root / "ann" / "loop").symlink_to(root)
    (root / "ann" / "self.png").symlink_to("self.png")
    (root / "ann" / "gone.png").symlink_to("nowhere")
    (root / "ann" / "twin.png").symlink_to("1.png")  # inside, but still a link: the same image twice
    (root / "cleo").symlink_to(outside / "deep")
    (root / "up").symlink_to("..")
    opened = []
    real = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: opened.append(Path(path)) or real(path))
    data = open_dataset(root)
    assert sorted(opened) == [root, root / "ann", root / "bob"]  # each real folder once: no loop, nothing outside
    assert [r.path for r in data.records] == ["ann/1.png", "bob/1.png"]
    names = ["ann/gone.png", "ann/loop", "ann/out.png", "ann/self.png", "ann/twin.png", "cleo", "up"]
    assert [b.path for b in data.broken] == names
    assert all("symbolic link" in b.reason for b in data.broken)


def test_a_class_of_links_only_is_empty_and_says_why(tmp_path):
    root = build(tmp_path / "faces", "ann/1.png", "bob/")
    (root / "bob" / "1.png").symlink_to("../ann/1.png")
    with pytest.raises(EmptyClass, match=r"bob/ \(bob/1\.png is a symbolic link"):
        open_dataset(root)


def test_a_link_that_appears_after_the_listing_is_not_followed(tmp_path):
    outside = build(tmp_path / "outside", "1.png")
    root = build(tmp_path / "faces", "ann/1.png", "bob/1.png")
    data = open_dataset(root)
    (root / "ann" / "1.png").unlink()
    (root / "ann" / "1.png").symlink_to(outside / "1.png")
    (root / "bob" / "1.png").unlink()
    (root / "bob").rmdir()
    (root / "bob").symlink_to(outside)
    for record in data.records:
        with pytest.raises(BadImage, match="symbolic link"):
            data.source.read(record, None)
        with pytest.raises(BadImage, match="symbolic link"):
            data.source.content_key(record)


def test_the_named_folder_itself_may_be_a_link(tmp_path):
    build(tmp_path / "faces", "ann/1.png")
    (tmp_path / "link").symlink_to("faces")
    data = open_dataset(tmp_path / "link")
    assert data.source.read(data.records[0], None).shape == (4, 4, 3)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_no_image(tmp_path):
    root = build(tmp_path / "faces", "ann/1.png")
    os.mkfifo(root / "ann" / "pipe.png")
    assert [item.path for item in open_dataset(root).broken] == ["ann/pipe.png"]


def test_a_name_that_is_not_text_is_listed(tmp_path):
    root = build(tmp_path / "faces", "ann/1.png")
    try:
        Path(os.fsdecode(os.fsencode(root / "ann") + b"/\xff.png")).write_bytes(image())
    except OSError:
        pytest.skip("this file system holds UTF-8 names only")
    assert [item.path for item in open_dataset(root).broken] == ["ann/\\udcff.png"]


def test_stamps_and_keys_follow_the_content(tmp_path):
    root = build(tmp_path / "faces", "ann/1.png", "ann/2.png")
    data = open_dataset(root)
    first, second = data.records
    key, stamp = data.source.content_key(first), data.source.stamp(first)
    assert key != data.source.content_key(second)
    assert (data.source.content_key(first), data.source.stamp(first)) == (key, stamp)
    (root / "ann" / "1.png").write_bytes(image(99) + b"more")
    assert data.source.content_key(first) != key
    assert data.source.stamp(first) != stamp
    (root / "ann" / "1.png").unlink()
    for ask in (data.source.content_key, data.source.stamp):
        with pytest.raises(BadImage, match=r"[Nn]o such file"):
            ask(first)


# --- tables -----------------------------------------------------------------------------------------------------------


def table(root: Path, text: str, name: str = "faces.csv") -> Path:
    (root / name).write_bytes(text.encode())
    return root / name


def test_a_table_of_files(tmp_path):
    build(tmp_path, "b/2.png", "a/1.png", "plain")
    path = table(
        tmp_path, "path,label,identity,split\nb/2.png,smile,x,val\n./a/1.png,none,,train\nplain,smile,y,TEST\n"
    )
    data = open_dataset(path)
    assert data.name == "faces"
    assert data.classes == ("none", "smile")
    assert data.records == (
        Record("a/1.png", 0, None, "train"),
        Record("b/2.png", 1, "x", "validation"),
        Record("plain", 1, "y", "test"),
    )
    assert data.source.read(data.records[0], None).shape == (4, 4, 3)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.csv", "label,path\nann,1.png\n"),  # the order of columns is free
        ("x.csv", '\ufeffpath,label\r\n"1.png","ann"\r\n\r\n'),  # as a spreadsheet writes it
        ("X.TSV", "path\tlabel\n1.png\tann\n"),
        ("x.csv", " path , label \n 1.png , ann \n"),
        ("x.csv", "path,label\n.\\1.png,ann\n"),  # written on Windows
        ("x.csv", "path;label\n1.png;ann\n"),  # by a spreadsheet in Europe
        ("x.csv", "sep\tpath\tlabel\n1\t1.png\tann\n"),
        ("x.csv", "Filename,Emotion\n1.png,ann\n"),
        ("x.csv", "1.png,ann\n"),  # no header
        ("x.tsv", "path,label\n1.png,ann\n"),  # commas after all
        ("x.csv", 'path;label\n"1.png";"ann"\n'),
    ],
)
def test_tables_as_people_write_them(tmp_path, name, text):
    build(tmp_path, "1.png")
    assert listed(table(tmp_path, text, name)) == [("1.png", "ann", None)]


def test_missing_files_of_a_table_are_broken(tmp_path):
    build(tmp_path, "1.png", "folder/")
    (tmp_path / "link.png").symlink_to("1.png")
    rows = "path,label\n1.png,ann\nabsent.png,ann\nfolder,ann\nlink.png,ann\n"
    assert [(b.path, b.reason.split(",")[0]) for b in open_dataset(table(tmp_path, rows)).broken] == [
        ("absent.png", "no such file"),
        ("folder", "is not a regular file"),
        ("link.png", "is a symbolic link"),
    ]
    with pytest.raises(EmptyClass, match=r"bob \(absent\.png: no such file\)"):
        open_dataset(table(tmp_path, "path,label\n1.png,ann\nabsent.png,bob\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "faces.csv"),
        ("path,label\n", "faces.csv"),
        ("path,label,splt\n1.png,ann,train\n", "'splt'"),  # a slip that would mix test into training
        ("path,label,Spilt\n1.png,ann,train\n", "'Spilt'"),
        ("path,label,label\n1.png,ann,bob\n", "--columns"),
        ("path,label\n1.png\n", "line 2: expected 2 values, got 1"),
        ("path,label\n1.png,\n", "line 2: the label of 1.png"),
        ("path,label\n,ann\n", "line 2"),
        ("path,label\n1.png,ann\n./1.png,bob\n", "line 3: 1.png"),
        ("path,label,split\n1.png,ann,part 1\n", "'part 1'"),
        ("path,label,split\n1.png,ann,train\n2.png,ann,\n", "faces.csv"),
        ('path,label\n"1.png,ann\n', "faces.csv"),  # a quote that never ends
        ("path,label\n../1.png,ann\n", "line 2"),
        ("path,label\nann/../../1.png,ann\n", "line 2"),
        ("path,label\n/etc/passwd,ann\n", "line 2"),
        ("path,label\nC:\\1.png,ann\n", "line 2"),
        ("path,label\n..\\1.png,ann\n", "line 2"),
        ("path,label\n\\\\host\\1.png,ann\n", "line 2"),
        ("path,label\n1\0.png,ann\n", "line 2"),
    ],
)
def test_wrong_tables_are_refused_with_the_line(tmp_path, text, message):
    build(tmp_path, "1.png", "2.png")
    with pytest.raises(DataError) as caught:
        open_dataset(table(tmp_path, text))
    assert message in str(caught.value)


def test_a_table_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"path,label\n\xff.png,ann\n")
    with pytest.raises(DataError, match="UTF-8"):
        open_dataset(tmp_path / "x.csv")


# --- archives ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        (["bob/1.png", "ann/1.png"], [("ann/1.png", "ann", None), ("bob/1.png", "bob", None)]),
        # one folder around everything, and what macOS adds
        (["faces/ann/1.png", "faces/bob/1.png", "__MACOSX/faces/ann/._1.png"], "as above"),
        (["x/faces/ann/1.png", "x/faces/bob/1.png", "x/faces/notes.txt"], "as above"),
        (
            ["train/ann/1.png", "test/ann/1.png"],
            [("test/ann/1.png", "ann", "test"), ("train/ann/1.png", "ann", "train")],
        ),
        (["train/ann/1.png"], [("train/ann/1.png", "ann", "train")]),
        (["./bob/1.png", "./ann/1.png"], "as above"),  # zip -r x.zip ./
        (["bob\\1.png", "ann\\1.png"], "as above"),  # made on Windows
        ([".\\bob\\1.png", "./ann/1.png", "./"], "as above"),
        (["faces\\bob\\1.png", "faces\\ann\\1.png", "faces\\"], "as above"),
        (
            ["Training/ann/1.png", "Testing/ann/1.png"],
            [("Testing/ann/1.png", "ann", "test"), ("Training/ann/1.png", "ann", "train")],
        ),
        (
            ["f/train/ann/1.png", "f/val/ann/1.png"],
            [("train/ann/1.png", "ann", "train"), ("val/ann/1.png", "ann", "validation")],
        ),
    ],
)
def test_an_archive_of_class_folders(tmp_path, entries, expected):
    if expected == "as above":
        expected = [("ann/1.png", "ann", None), ("bob/1.png", "bob", None)]
    path = zipped(tmp_path / "faces.zip", *entries)
    assert listed(path) == expected
    data = open_dataset(path)
    assert data.name == "faces"
    for record in data.records:
        shade = next(i for i, entry in enumerate(entries) if entry.replace("\\", "/").endswith(record.path))
        assert (data.source.read(record, None) == shade).all()


def test_an_archive_with_an_empty_class_is_refused(tmp_path):
    with pytest.raises(EmptyClass, match="bob/"):
        open_dataset(zipped(tmp_path / "x.zip", "ann/1.png", "bob/"))


def entry(name: str, mode: int = 0, method: int = zipfile.ZIP_DEFLATED) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    info.compress_type = method
    return info


DANGEROUS = [
    (["ann/1.png", "../out.png"], "out"),
    (["ann/1.png", "ann/../../out.png"], "out"),
    (["ann/1.png", "/tmp/out.png"], "out"),
    (["ann/1.png", "C:/out.png"], "out"),
    (["ann/1.png", "..\\out.png"], "out"),
    (["ann/1.png", "ann//2.png"], "ann//2.png"),
    (["ann/1.png", "ann/./2.png"], "ann/./2.png"),
    (["ann/1.png", "ann\\..\\2.png"], "2.png"),
    (["ann/1.png", "\\\\host\\2.png"], "2.png"),
    (["ann/1.png", "./ann/1.png"], "./ann/1.png"),
    (["ann/1.png", "ann\\1.png"], "1.png"),  # one place in two spellings
    ([unicodedata.normalize("NFC", "Zoë/1.png"), unicodedata.normalize("NFD", "Zoë/1.png")], "1.png"),
    (["ann/1.png", "ann/2\u200b.png"], "U+200B"),
    (["ann/1.png", entry("ann/2.png", stat.S_IFLNK | 0o777)], "ann/2.png"),
    (["ann/1.png", entry("ann/2.png", stat.S_IFIFO | 0o600)], "ann/2.png"),
    (["ann/1.png", entry("ann/2.png", method=zipfile.ZIP_LZMA)], "ann/2.png"),
    (["ann/1.png", "__MACOSX/../../x"], "__MACOSX"),  # hidden parts are looked at too
]


@pytest.mark.parametrize(("entries", "message"), DANGEROUS)
def test_an_archive_with_one_dangerous_entry_is_refused_whole(tmp_path, entries, message):
    inside = tmp_path / "inside"
    inside.mkdir()
    path = zipped(inside / "x.zip", *entries)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(BadArchive) as caught:
        open_dataset(path)
    assert message in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before  # not a byte was written


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("twice", [["ann/1.png", "ann/1.png"], ["ann/1.png", "ann/2.png/", "ann/2.png"]])
def test_an_archive_with_a_name_twice_is_refused(tmp_path, twice):
    with pytest.raises(BadArchive, match=r"ann/[12]\.png"):
        open_dataset(zipped(tmp_path / "x.zip", *twice))


def test_an_encrypted_archive_is_refused(tmp_path):
    path = zipped(tmp_path / "x.zip", "ann/1.png")
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(BadArchive, match=r"ann/1\.png"):
        open_dataset(path)


def test_a_zip_bomb_is_refused(tmp_path):
    path = zipped(tmp_path / "x.zip", "ann/1.png", body=bytes(20_000_000))
    assert path.stat().st_size < 50_000
    with pytest.raises(BadArchive, match=r"20,000,000"):
        open_dataset(path)


def test_overlapping_entries_are_refused(tmp_path):
    """One packed body that many entries point at: the other kind of zip bomb."""
    path = tmp_path / "x.zip"
    body = os.urandom(20_000)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ann/1.png", body)
        for number in range(2, 5):
            twin = zipfile.ZipInfo(f"ann/{number}.png")
            first = archive.filelist[0]
            for name in ("CRC", "compress_size", "file_size", "header_offset", "flag_bits"):
                setattr(twin, name, getattr(first, name))
            archive.filelist.append(twin)
    with pytest.raises(BadArchive, match=r"x\.zip"):
        open_dataset(path)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (archives.ArchiveLimits(entries=1), r"2 .* 1$"),
        (archives.ArchiveLimits(bytes=100), r"100$"),
        (archives.ArchiveLimits(directory=50), r"50$"),
        (archives.ArchiveLimits(ratio=0.5, ratio_from=10), r"ann/1\.png"),
    ],
)
def test_every_limit_of_an_archive_holds(tmp_path, limits, message):
    path = zipped(tmp_path / "x.zip", "ann/1.png", "bob/1.png")
    archives.open_zip(path)
    with pytest.raises(BadArchive, match=message):
        archives.open_zip(path, limits)


def test_what_is_no_archive_is_refused(tmp_path):
    whole = zipped(tmp_path / "x.zip", "ann/1.png", "bob/1.png").read_bytes()
    for data in (b"", b"no zip", whole[: len(whole) // 2], whole[:-30], b"PK\5\6", b"PK\5\6" + b"\xff" * 18):
        (tmp_path / "y.zip").write_bytes(data)
        with pytest.raises(BadArchive, match=r"y\.zip"):
            open_dataset(tmp_path / "y.zip")


def test_a_size_that_lies_costs_the_image_only(tmp_path):
    """The table of contents says 50 bytes, the body unpacks to more: never more than 50 are unpacked."""
    path = zipped(tmp_path / "x.zip", "ann/1.png", "bob/1.png")
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\1\2") + 24
    assert struct.unpack_from("<I", data, at)[0] == len(image())
    struct.pack_into("<I", data, at, 50)
    path.write_bytes(data)
    dataset = open_dataset(path)
    with pytest.raises(BadImage, match=r"ann/1\.png"):
        dataset.source.read(dataset.records[0], None)
    assert dataset.source.read(dataset.records[1], None).shape == (4, 4, 3)


def test_mutated_archives_are_errors_at_worst(tmp_path):
    whole = zipped(tmp_path / "x.zip", *(f"{name}/{i}.png" for name in ("ann", "bob") for i in range(3))).read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(200):
        data = bytearray(whole)
        for at in rng.integers(0, len(data), int(rng.integers(1, 6))):
            data[at] = rng.integers(256)
        (tmp_path / "y.zip").write_bytes(data)
        try:
            dataset = open_dataset(tmp_path / "y.zip")
        except DataError:
            refused += 1
            continue
        for record in dataset.records:
            try:
                assert dataset.source.read(record, None).shape[2] == 3
            except BadImage:
                refused += 1
    assert refused > 50


def read_first(dataset):
    return dataset.source.read(dataset.records[0], None).tolist()


def test_an_archive_can_be_read_by_other_processes(tmp_path):
    dataset = open_dataset(zipped(tmp_path / "x.zip", "ann/1.png", "bob/1.png"))
    expected = read_first(dataset)
    assert read_first(pickle.loads(pickle.dumps(dataset))) == expected  # noqa: S301 - our own bytes
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(read_first, (dataset,)) == expected


def test_a_forked_child_opens_the_archive_anew(tmp_path, monkeypatch):
    """A child that shares its parent's open file would move the parent's position in it."""
    source = open_dataset(zipped(tmp_path / "x.zip", "ann/1.png")).source
    mine = source._open()
    assert source._open() is mine
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert source._open() is not mine


def test_keys_and_stamps_of_an_archive(tmp_path):
    path = zipped(tmp_path / "x.zip", "ann/1.png", "bob/1.png")
    dataset = open_dataset(path)
    first, second = dataset.records
    assert dataset.source.content_key(first) != dataset.source.content_key(second)
    stamp = dataset.source.stamp(first)
    path.unlink()
    zipped(path, "ann/1.png", "bob/1.png", "cleo/1.png")
    assert dataset.source.stamp(first) != stamp


def test_drawn_faces_are_opened_by_name():
    pytest.importorskip("facewright.data.synthetic")
    dataset = open_dataset("synthetic:faces?identities=3&images=2&seed=0&size=32")
    assert len(dataset.classes) == 3
    assert len(dataset.records) == 6


DATA = Path(__file__).parents[2] / "../shared/data"


@pytest.mark.realdata
@pytest.mark.parametrize(("name", "classes", "images"), [("celebrities12", 12, 1281), ("orl40", 40, 400)])
def test_the_photos_are_listed(name, classes, images):
    if not (DATA / name).is_dir():
        pytest.skip(f"needs the photos of ../shared/data/{name}")
    dataset = open_dataset(DATA / name)
    assert (len(dataset.classes), len(dataset.records), dataset.broken) == (classes, images, ())
