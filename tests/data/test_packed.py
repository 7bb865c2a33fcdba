"""Images packed in .tar, .rec, .parquet and .arrow: every form, whole, damaged and hostile."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest

from facewright.data import sources
from facewright.data.cache import cache_clear
from facewright.data.packed import PackedSource, PackedText
from facewright.data.sources import open_dataset
from facewright.errors import BadArchive, BadImage, DataError, FacewrightError
from fixtures.trees import image, images, listed

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
MAGIC = 0xCED7230A


def tarred(path: Path, files: dict, compress: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz" if compress else "w") as archive:
        for name, value in files.items():
            entry = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            content = image(value) if isinstance(value, int) else value
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def piece(content: bytes, which: int = 0, length: int | None = None) -> bytes:
    size = len(content) if length is None else length
    return struct.pack("<II", MAGIC, which << 29 | size) + content + b"\0" * (-len(content) % 4)


def item(key: int, labels: float | list[float], content: bytes) -> bytes:
    several = labels if isinstance(labels, list) else []
    head = struct.pack("<IfQQ", len(several), 0.0 if several else labels, key, 0)
    return head + np.array(several, "<f4").tobytes() + content


def rec(path: Path, items: list[bytes], keys: list[int] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    places, whole = [], b""
    for one in items:
        places.append(len(whole))
        whole += piece(one)
    path.write_bytes(whole)
    if keys is not None:
        path.with_suffix(".idx").write_text("".join(f"{k}\t{p}\n" for k, p in zip(keys, places, strict=True)))
    return path


PLAIN = [item(5, 0, image(1)), item(2, 1, image(2)), item(9, 1, image(3))]
INSIGHT = [
    item(0, [4.0, 6.0], b""),
    item(1, 0, image(1)),
    item(2, [0.0, 0.0], image(2)),
    item(3, 1, image(3)),
    item(4, [1.0, 3.0], b""),
    item(5, [3.0, 4.0], b""),
]
FEATURES = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["ann", "bob"]}}


def table(rows: int = 4, features: dict | None = FEATURES, **columns: object) -> pa.Table:
    cells = [{"bytes": image(n), "path": f"{n}.png"} for n in range(rows)]
    made = pa.table({"image": cells, "label": [n % 2 for n in range(rows)], **columns})
    noted = {"huggingface": json.dumps({"info": {"features": features}})} if features else None
    return made.replace_schema_metadata(noted)


def sent(data):
    """The data set as a worker process gets it."""
    return pickle.loads(pickle.dumps(data))  # noqa: S301 - our own bytes


def shade(data, row: int) -> int:
    return int(data.source.read(data.records[row], None)[0, 0, 0])


@pytest.mark.parametrize("name", ["faces.tar", "faces.tar.gz", "faces.tgz"])
def test_a_tar_is_what_a_folder_of_it_is(tmp_path, name):
    path = tarred(tmp_path / name, {"faces/ann/1.png": 7, "./faces/bob/2.png": 9, "faces/bob/.x.png": 1}, "z" in name)
    data = open_dataset(path)
    assert listed(path) == {"ann/1.png": "ann", "bob/2.png": "bob"}
    assert (data.layout, shade(data, 0), shade(sent(data), 1)) == ("folders", 7, 9)
    assert len({data.source.content_key(record) for record in data.records}) == 2


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return entry


@pytest.mark.parametrize(
    "name",
    [
        *("../1.png", "/etc/1.png", "a/../../1.png", "a//1.png", "a\u200b/1.png", "C:/1.png"),
        *(special("l.png", tarfile.SYMTYPE, "/etc/passwd"), special("l.png", tarfile.LNKTYPE, "ann/1.png")),
        *(special("d.png", tarfile.CHRTYPE), special("f.png", tarfile.FIFOTYPE)),
    ],
    ids=lambda name: repr(name) if isinstance(name, str) else str(name.type),
)
def test_a_tar_with_one_dangerous_entry_is_refused_whole(tmp_path, name):
    path = tarred(tmp_path / "x.tar", {"ann/1.png": 1, "bob/1.png": 2, name: b""})
    with pytest.raises(BadArchive, match="refused whole"):
        open_dataset(path)


def test_a_tar_of_two_entries_of_one_name_is_refused(tmp_path):
    path = tarred(tmp_path / "x.tar", {"ann/1.png": 1, tarfile.TarInfo("./ann/1.png"): 2})
    with pytest.raises(BadArchive, match="twice"):
        open_dataset(path)


@pytest.mark.parametrize("cut", [100, 512, 700, 1024, 1600, 2048])
def test_a_tar_that_is_cut_anywhere_is_refused(tmp_path, cut):
    path = tarred(tmp_path / "x.tar", {"ann/1.png": 1, "bob/1.png": 2})
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(BadArchive):
        open_dataset(path)


def test_a_damaged_header_in_the_middle_does_not_hide_the_rest(tmp_path):
    path = tarred(tmp_path / "x.tar", {"ann/1.png": 1, "ann/2.png": 3, "bob/1.png": 2})
    whole = bytearray(path.read_bytes())
    whole[1024] ^= 255
    path.write_bytes(bytes(whole))
    with pytest.raises(BadArchive, match=r"1,024"):
        open_dataset(path)


def test_a_tar_bomb_is_not_unpacked(tmp_path):
    with gzip.open(tmp_path / "x.tar.gz", "wb") as packed:
        for _ in range(64):
            packed.write(bytes(2**20))
    with pytest.raises(BadArchive, match="zip bomb"):
        open_dataset(tmp_path / "x.tar.gz")


def test_a_header_of_gigabytes_is_not_read(tmp_path):
    entry = tarfile.TarInfo("x")
    entry.type, entry.size = tarfile.XHDTYPE, 2**32
    (tmp_path / "x.tar").write_bytes(entry.tobuf(tarfile.GNU_FORMAT) + bytes(10_240))
    with pytest.raises(BadArchive):
        open_dataset(tmp_path / "x.tar")


def test_webdataset_shards(tmp_path):
    tarred(tmp_path / "wds/train-000.tar", {"a.png": 1, "a.cls": b"3\n", "b.png": 2, "b.cls": b"4"})
    tarred(tmp_path / "wds/val-000.tar", {"a.png": 5, "a.json": b'{"label": "3", "age": 30, "box": [1]}'})
    tarred(tmp_path / "one.tar", {"p/a.jpg": image(1, "JPEG"), "p/a.cls": b"0", "p/b.png": 2, "p/b.cls": b"1"})
    assert listed(tmp_path / "one.tar") == {"p/a.jpg": "0", "p/b.png": "1"}
    data = open_dataset(tmp_path / "wds")
    assert data.layout == "webdataset" and data.classes == ("3", "4")
    assert [(r.path, r.split) for r in data.records] == [("train-000/a.png", "train"), ("train-000/b.png", "train")]
    named = open_dataset(f"{tmp_path / 'wds'}?columns=label=label")
    assert [(r.path, r.split) for r in named.records] == [("val-000/a.png", "validation")]


def test_a_webdataset_label_that_is_no_text_is_named(tmp_path):
    path = tarred(tmp_path / "x.tar", {"a.png": 1, "a.cls": b"0", "b.png": 2, "b.json": b"[" * 10_000, "c.png": 3})
    data = open_dataset(path)
    assert [broken.path for broken in data.broken] == ["b.png", "c.png"]


@pytest.mark.parametrize("keys", [None, [5, 2, 9]])
def test_plain_im2rec(tmp_path, keys):
    data = open_dataset(rec(tmp_path / "x.rec", PLAIN, keys))
    assert data.layout == "rec"
    assert [(r.path, r.label) for r in data.records] == [("0000002", 1), ("0000005", 0), ("0000009", 1)]
    assert [shade(data, row) for row in range(3)] == [2, 1, 3]


def test_a_lst_names_files_and_classes(tmp_path):
    path = rec(tmp_path / "x.rec", PLAIN)
    listing = path.with_suffix(".lst")
    listing.write_text("5\t0.0\tann/a.jpg\n2\t1.0\tbob/b.jpg\n9\t1\tbob/c.jpg\n7\t0\tann/unused.jpg\n")
    data = open_dataset(path)
    found = [(r.path, data.classes[r.label], r.values) for r in data.records]
    assert found == [
        ("0000002", "bob", ("bob/b.jpg",)),
        ("0000005", "ann", ("ann/a.jpg",)),
        ("0000009", "bob", ("bob/c.jpg",)),
    ]
    listing.write_text("5\t0\ta.jpg\n2\t1\tb.jpg\n")  # no folders: the numbers stay
    assert open_dataset(path).classes == ("0", "1")


@pytest.mark.parametrize("line", ["5 0 a.jpg", "x\t0\ta.jpg", "5\tann\ta.jpg", "5\t0\t", "5\t0\ta.jpg\n5\t1\tb.jpg"])
def test_a_lst_that_is_none_is_refused(tmp_path, line):
    path = rec(tmp_path / "x.rec", PLAIN)
    path.with_suffix(".lst").write_text(line)
    with pytest.raises(DataError, match=r"x\.lst: line [12]"):
        open_dataset(path)


def test_a_compressed_tar_is_unpacked_once(tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    monkeypatch.setenv("FACEWRIGHT_CACHE", str(cache))
    path = tarred(tmp_path / "faces.tar.gz", {"ann/1.png": 7, "bob/2.png": 9}, compress=True)
    data = open_dataset(path)
    with monkeypatch.context() as patch:
        patch.setattr(gzip.GzipFile, "read", None)  # whoever unpacks it again fails
        assert shade(sent(data), 1) == 9 and shade(open_dataset(path), 0) == 7
    (copy,) = (cache / "unpacked").glob("*.bin")
    assert copy.stat().st_mode & 0o777 == 0o600
    tarred(path, {"ann/1.png": 8, "bob/2.png": 9}, compress=True)
    assert shade(open_dataset(path), 0) == 8
    cache_clear(cache=cache)
    assert not copy.exists()


def packed_forms(folder: Path) -> list[Path]:
    """Two classes of six images in four forms."""
    names = {f"{name}/{n}.png": 20 * n + 3 * (name == "bob") for name in ("ann", "bob") for n in range(6)}
    rec(folder / "faces.rec", [item(n, float("bob" in key), image(v)) for n, (key, v) in enumerate(names.items())])
    cells = [{"bytes": image(value), "path": key} for key, value in names.items()]
    made = pa.table({"image": cells, "label": [int("bob" in key) for key in names]})
    noted = {"huggingface": json.dumps({"info": {"features": FEATURES}})}
    parquet.write_table(made.replace_schema_metadata(noted), folder / "faces.parquet")
    shards = {}
    for n, (key, value) in enumerate(names.items()):
        shards |= {f"{n:03d}.png": value, f"{n:03d}.cls": b"1" if "bob" in key else b"0"}
    return [
        folder / "faces.rec",
        folder / "faces.parquet",
        tarred(folder / "shards.tar", shards),
        tarred(folder / "faces.tar.gz", names, compress=True),
    ]


def test_a_training_on_each_packed_form_is_the_same(tmp_path):
    from facewright.workflows.training_runs import train

    tiny = {"training.epochs": "1", "input.size": "32", "training.batch": "4", "training.precision": "float32"}
    runs = [
        train(path, model="plain_cnn", out=tmp_path / f"run{n}", overrides=tiny, report=False)
        for n, path in enumerate(packed_forms(tmp_path))
    ]
    for run in runs[1:]:  # the records have other names, but the same order
        assert run.history[0].train_loss == runs[0].history[0].train_loss
        assert (run.folder / "model.safetensors").stat().st_size > 0


def test_insightface_records_with_header_identities_and_property(tmp_path):
    rec(tmp_path / "faces/train.rec", INSIGHT, list(range(6)))
    (tmp_path / "faces/property").write_text("2,112,112")
    data = open_dataset(tmp_path / "faces")
    assert [(r.path, data.classes[r.label]) for r in data.records] == [
        ("0000001", "0"),
        ("0000002", "0"),
        ("0000003", "1"),
    ]
    assert any("2,112,112" in note for note in data.notes)
    assert data.columns == ()


def test_an_image_in_pieces_is_joined_by_the_magic_number(tmp_path):
    content = item(1, 0, b"ab")
    first, second = content[:24] + b"ab", b"cd"
    (tmp_path / "x.rec").write_bytes(piece(first, 1) + piece(second, 3) + piece(item(2, 1, image(2))))
    data = open_dataset(tmp_path / "x.rec")
    assert data.source.content("0000001") == b"ab" + struct.pack("<I", MAGIC) + b"cd"


def test_several_labels_a_record_are_columns(tmp_path):
    data = open_dataset(rec(tmp_path / "x.rec", [item(1, [3, 0.5], image(1)), item(2, [4, 7], image(2))]))
    assert data.classes == ("3", "4") and data.column("label_2") == ("0.5", "7")


DAMAGED = {
    "cut": piece(PLAIN[0])[:-20],
    "magic": piece(PLAIN[0]) + b"\0" * 40,
    "long": piece(PLAIN[0], length=2**29 - 1),
    "short": piece(b"1234"),
    "labels": piece(struct.pack("<IfQQ", 2**31, 0, 1, 0) + bytes(64)),
    "many labels": piece(struct.pack("<IfQQ", 65, 0, 1, 0) + bytes(400)),
    "nan": piece(item(1, float("nan"), image(1))),
    "middle piece": piece(PLAIN[0], 2),
    "no end": piece(PLAIN[0], 1),
    "kind": piece(PLAIN[0], 5),
    "empty": b"",
    "identity outside": b"".join(map(piece, [*INSIGHT[:4], item(4, [1.0, 900.0], b"")])),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_rec_is_refused(tmp_path, what):
    (tmp_path / "x.rec").write_bytes(DAMAGED[what])
    with pytest.raises(BadArchive, match=r"x\.rec"):
        open_dataset(tmp_path / "x.rec")


@pytest.mark.parametrize(
    "text", ["0\t999999\n", "0\t4\n", "x\t0\n", "0\t0\n0\t112\n", "0 0\n", "0\t" + "9" * 300 + "\n", "0\t0\n"]
)
def test_an_idx_that_does_not_fit_is_refused(tmp_path, text):
    path = rec(tmp_path / "x.rec", PLAIN)
    path.with_suffix(".idx").write_text(text)
    with pytest.raises(DataError, match=r"x\.idx"):
        open_dataset(path)


def test_without_pread_the_same_bytes_are_read(tmp_path, monkeypatch):
    data = open_dataset(rec(tmp_path / "x.rec", PLAIN))
    before = [data.source.content(record.path) for record in data.records]
    monkeypatch.delattr("os.pread")  # as on Windows
    assert [sent(data).source.content(record.path) for record in data.records] == before


def test_a_rec_that_changes_while_it_is_read_is_noticed(tmp_path):
    path = rec(tmp_path / "x.rec", PLAIN)
    data = open_dataset(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(BadImage):
        data.source.content("0000009")


def test_hugging_face_parquet_in_parts(tmp_path):
    (tmp_path / "hf/data").mkdir(parents=True)
    parquet.write_table(
        table(4, age=[1, 2, None, 4]), tmp_path / "hf/data/train-00000-of-00001.parquet", row_group_size=3
    )
    parquet.write_table(table(2, age=[5, 6]), tmp_path / "hf/data/test-00000-of-00001.parquet")
    data = open_dataset(tmp_path / "hf")
    assert (data.layout, data.classes, data.columns) == ("parquet", ("ann", "bob"), ("age",))
    assert [record.split for record in data.records] == ["test"] * 2 + ["train"] * 4
    assert [shade(data, row) for row in (5, 0, 4, 3)] == [3, 0, 2, 1]
    assert data.records[4].values == ("",) and shade(sent(data), 5) == 3


@pytest.mark.parametrize("stream", [True, False])
def test_arrow_files_of_both_forms(tmp_path, stream):
    opened = pa.ipc.new_stream if stream else pa.ipc.new_file
    with opened(str(tmp_path / "x.arrow"), table().schema) as writer:
        writer.write_table(table(), max_chunksize=3)
    data = open_dataset(tmp_path / "x.arrow")
    assert data.classes == ("ann", "bob") and [shade(data, row) for row in range(4)] == [0, 1, 2, 3]


def test_plain_parquet_of_bytes(tmp_path):
    made = pa.table({"img": [image(1), None, image(3)], "identity": ["ann", "bob", "bob"]})
    parquet.write_table(made, tmp_path / "x.parquet")
    data = open_dataset(tmp_path / "x.parquet")
    assert data.classes == ("ann", "bob") and shade(data, 2) == 3
    with pytest.raises(BadImage):
        data.source.content("0000001")


@pytest.mark.parametrize(
    "made",
    [
        pa.table({"label": ["a", "b"], "x": [1, 2]}),
        pa.table({"image": ["a.png", "b.png"], "label": ["a", "b"]}),
        pa.table({"u": [b"1", b"2"], "v": [b"1", b"2"], "label": ["a", "b"]}),
        pa.table({"image": [b"1", b"2"], "size": [1, 2]}),
        table(3, {**FEATURES, "label": {"_type": "ClassLabel", "names": ["one"]}}),
    ],
    ids=["no image", "paths only", "two", "no label", "label without name"],
)
def test_a_table_with_a_wrong_column_is_refused(tmp_path, made):
    parquet.write_table(made, tmp_path / "x.parquet")
    with pytest.raises(DataError):
        open_dataset(tmp_path / "x.parquet")


@pytest.mark.parametrize("name", ["x.parquet", "x.arrow", "x.tar", "x.tar.gz", "x.rec"])
@pytest.mark.parametrize("content", [b"", b"PAR1", bytes(2000), b"PAR1" + b"\xff" * 60 + b"\xff\xff\xff\x7fPAR1"])
def test_what_is_no_such_file_is_one_clear_error(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FacewrightError):
        open_dataset(tmp_path / name)


def test_a_column_that_unpacks_too_far_is_refused(tmp_path):
    made = pa.table({"image": [bytes(2**22)], "label": ["a"]})
    parquet.write_table(made, tmp_path / "x.parquet", compression="zstd", use_dictionary=False)
    with pytest.raises(BadArchive, match="zip bomb"):
        open_dataset(tmp_path / "x.parquet")


def test_packed_texts_are_found_by_bisection():
    texts = sorted(["", "a", "ä/1.jpg", "b" * 50, "zz"])
    packed = PackedText(texts)
    assert list(packed) == texts and [packed.place(text) for text in texts] == [0, 1, 2, 3, 4]
    with pytest.raises(BadImage, match="c"):
        packed.place("c")


@pytest.mark.realdata
def test_a_real_im2rec_set():
    folder = Path(__file__).parents[2] / "../shared/data/rec_im2rec"
    if not folder.is_dir():
        pytest.skip("needs ../shared/data/rec_im2rec")
    data = open_dataset(folder)
    assert data.counts() == {"0": 4, "1": 4}
    assert all(data.source.read(record, None).shape == (112, 112, 3) for record in data.records)


def test_images_beside_packed_files_are_read_as_before(tmp_path):
    for name, value in images("ann/1.png bob/1.png").items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(image(value))
    rec(tmp_path / "x.rec", PLAIN)
    assert open_dataset(tmp_path).layout == "folders"


def test_a_field_of_a_struct_may_be_the_label(tmp_path):
    facts = [{"emotion": "happy", "age": 3}, {"emotion": "sad", "age": None}]
    made = pa.table({"image": [image(1), image(2)], "label": facts})
    parquet.write_table(made, tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r"label\.emotion, label\.age"):
        open_dataset(tmp_path / "x.parquet")
    data = open_dataset(f"{tmp_path / 'x.parquet'}?columns=label=label.emotion")
    assert (data.classes, data.column("label.age")) == (("happy", "sad"), ("3", ""))
    with pa.OSFile(str(tmp_path / "y.arrow"), "wb") as sink, pa.ipc.new_file(sink, made.schema) as writer:
        writer.write_table(made)
    assert open_dataset(f"{tmp_path / 'y.arrow'}?columns=label=label.emotion").classes == ("happy", "sad")


def test_captions_beside_images_are_not_read_as_label_files(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "_MOST_TEXTS", 3)
    files = {f"{who}/{n}.png": n for who in "ab" for n in range(2)}
    captions = {f"{who}/{n}.txt": b"path,label\n" for who in "ab" for n in range(2)}
    reads = []
    whole = PackedSource.content
    monkeypatch.setattr(PackedSource, "content", lambda self, name: reads.append(name) or whole(self, name))
    assert open_dataset(tarred(tmp_path / "a.tar", files | captions)).classes == ("a", "b") and not reads
    tables = {f"{who}/{n}.csv": b"path,label\n" for who in "ab" for n in range(2)}
    with pytest.raises(DataError, match="up to 3"):
        open_dataset(tarred(tmp_path / "b.tar", files | tables))


def test_numbers_of_a_table_that_are_none(tmp_path):
    parquet.write_table(table(label=[0.0, 1.0, 0.0, float("nan")], features=None), tmp_path / "nan.parquet")
    data = open_dataset(tmp_path / "nan.parquet")
    assert data.classes == ("0", "1") and [one.path for one in data.broken] == ["0000003"]
    parquet.write_table(table(label=[0.0, 1.0, 0.0, float("inf")], features=None), tmp_path / "inf.parquet")
    with pytest.raises(DataError, match=r"inf\.parquet: a value is inf"):
        open_dataset(tmp_path / "inf.parquet")
    parquet.write_table(table(label=[0, 1, 0, 7]), tmp_path / "seven.parquet")
    with pytest.raises(DataError, match=r"seven\.parquet: a label is 7"):
        open_dataset(tmp_path / "seven.parquet")
