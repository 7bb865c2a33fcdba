"""The known face data sets in their own forms, whole and damaged."""

from __future__ import annotations

import io

import numpy as np
import pytest

from facewright.data.addresses import join_address
from facewright.data.sources import KNOWN, open_dataset
from facewright.data.targets import task_of
from facewright.errors import BadImage, DataError, FacewrightError, UnknownName
from fixtures.trees import BOTH, as_folder, images, listed


def pixels(side: int = 4, value: int = 7) -> str:
    return " ".join([str(value)] * side * side)


FER = "emotion,pixels,Usage\n" + "".join(
    f"{label},{pixels(value=label)},{usage}\n"
    for label, usage in ((0, "Training"), (3, "PublicTest"), (6, "PrivateTest"), (0, "Training"))
)
FERPLUS = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF\n"
VOTES = ["8,1,0,0,0,0,0,0,1,0", "0,9,0,0,0,0,0,0,0,1", "5,5,0,0,0,0,0,0,0,0", "0,0,0,0,0,0,0,0,0,10"]


def npy(value: object) -> bytes:
    file = io.BytesIO()
    np.save(file, np.array(value), allow_pickle=False)
    return file.getvalue()


AFFECTNET = images("train_set/images/0.jpg train_set/images/5.jpg val_set/images/2.jpg") | {
    f"{path}_{what}.npy": npy(value)
    for path, expression in (
        ("train_set/annotations/0", "1"),
        ("train_set/annotations/5", "6"),
        ("val_set/annotations/2", "0"),
    )
    for what, value in (("exp", expression), ("val", "0.5"), ("aro", "-0.25"), ("lnd", [0.0] * 136))
}
CELEBA = images("img_align_celeba/000001.jpg img_align_celeba/000002.jpg img_align_celeba/000003.jpg")
ATTRIBUTES = "3\nSmiling Young\n000001.jpg -1  1\n000002.jpg  1  1\n000003.jpg  1 -1\n"
PARTS = "000001.jpg 0\n000002.jpg 1\n000003.jpg 2\n"
SEVEN = range(1, 8)
FAIR = "file,age,gender,race,service_test\n"
PEOPLE = "000001.jpg 2880\n000002.jpg 2880\n000003.jpg 11\n"

# name: files, options, path → label and split
SETS = {
    "ferplus": (
        images("FER2013Train/fer0.png FER2013Train/fer1.png FER2013Test/fer2.png FER2013Test/fer3.png")
        | {
            "FER2013Train/label.csv": f'fer0.png,"(0, 0, 48, 48)",{VOTES[0]}\nfer1.png,"(0, 0, 48, 48)",{VOTES[1]}\n',
            "FER2013Test/label.csv": f'fer2.png,"(0, 0, 48, 48)",{VOTES[2]}\nfer3.png,"(0, 0, 48, 48)",{VOTES[1]}\n',
        },
        {},
        {
            "FER2013Train/fer0.png": "neutral train",
            "FER2013Train/fer1.png": "happiness train",
            "FER2013Test/fer3.png": "happiness test",
        },
    ),
    "raf-db": (
        images("Image/aligned/train_00001_aligned.jpg Image/aligned/test_0001_aligned.jpg")
        | {"EmoLabel/list_patition_label.txt": "train_00001.jpg 4\ntest_0001.jpg 7\n"},
        {},
        {
            "Image/aligned/train_00001_aligned.jpg": "happiness train",
            "Image/aligned/test_0001_aligned.jpg": "neutral test",
        },
    ),
    "raf-db ": (  # as another site keeps it
        images(" ".join(f"DATASET/{part}/{k}/{part}_{k}.jpg" for part in ("train", "test") for k in SEVEN))
        | {
            f"{part}_labels.csv": "image,label\n" + "".join(f"{part}_{k}.jpg,{k}\n" for k in SEVEN)
            for part in ("train", "test")
        },
        {},
        None,
    ),
    "affectnet": (
        AFFECTNET,
        {},
        {
            "train_set/images/0.jpg": "happy train",
            "train_set/images/5.jpg": "anger train",
            "val_set/images/2.jpg": "neutral validation",
        },
    ),
    "celeba": (
        CELEBA | {"identity_CelebA.txt": PEOPLE, "list_eval_partition.txt": PARTS, "list_attr_celeba.txt": ATTRIBUTES},
        {},
        {f"img_align_celeba/00000{k}.jpg": who for k, who in ((1, "2880"), (2, "2880"), (3, "11"))},
    ),
    "celeba ": (
        CELEBA | {"list_eval_partition.txt": PARTS, "list_attr_celeba.txt": ATTRIBUTES},
        {"columns": "label=smiling"},
        {
            "img_align_celeba/000001.jpg": "0 train",
            "img_align_celeba/000002.jpg": "1 validation",
            "img_align_celeba/000003.jpg": "1 test",
        },
    ),
    "celeba  ": (  # as tables
        images("img/img/000001.jpg img/img/000002.jpg")
        | {
            "list_attr_celeba.csv": "image_id,Smiling\n000001.jpg,1\n000002.jpg,-1\n",
            "list_eval_partition.csv": "image_id,partition\n000001.jpg,0\n000002.jpg,0\n",
        },
        {"names": "0=no,1=yes"},
        {"img/img/000001.jpg": "yes train", "img/img/000002.jpg": "no train"},
    ),
    "fairface": (
        images("train/1.jpg train/2.jpg val/1.jpg")
        | {
            "fairface_label_train.csv": f"{FAIR}train/1.jpg,50-59,Male,Black,True\ntrain/2.jpg,3-9,Male,Indian,True\n",
            "fairface_label_val.csv": f"{FAIR}val/1.jpg,3-9,Male,White,False\n",
        },
        {},
        {"train/1.jpg": "50-59 train", "train/2.jpg": "3-9 train", "val/1.jpg": "3-9 validation"},
    ),
    "utkface": (
        images("25_0_2_20170104165055622.jpg 1_1_0_20170109190741112.chip.jpg"),
        {},
        {"25_0_2_20170104165055622.jpg": "male", "1_1_0_20170109190741112.chip.jpg": "female"},
    ),
    "utkface ": (
        images("part1/25_0_2_20170104165055622.jpg part1/1_1_0_20170109190741112.jpg"),
        {"columns": "label=race"},
        {"part1/25_0_2_20170104165055622.jpg": "asian", "part1/1_1_0_20170109190741112.jpg": "white"},
    ),
    "agedb": (
        images("0_MariaCallas_35_f.jpg 1_MariaCallas_40_f.jpg 2_GlennClose_62_f.jpg"),
        {},
        {
            "0_MariaCallas_35_f.jpg": "MariaCallas",
            "1_MariaCallas_40_f.jpg": "MariaCallas",
            "2_GlennClose_62_f.jpg": "GlennClose",
        },
    ),
    "imdb-wiki": (
        images("01/nm0000001_rm124825600_1899-5-10_1968.jpg 02/nm0000002_rm1_1924-9-16_1955.jpg"),
        {},
        {"01/nm0000001_rm124825600_1899-5-10_1968.jpg": "69", "02/nm0000002_rm1_1924-9-16_1955.jpg": "31"},
    ),
    "imdb-wiki ": (
        images("17/10000217_1981-05-05_2009.jpg 48/10000548_1925-04-04_1964.jpg"),
        {"columns": "label=identity"},
        {"17/10000217_1981-05-05_2009.jpg": "10000217", "48/10000548_1925-04-04_1964.jpg": "10000548"},
    ),
    "vggface2": (
        images("train/n000002/0001_01.jpg train/n000003/0001_01.jpg test/n000001/0001_01.jpg")
        | {"identity_meta.csv": 'Class_ID, Name, Sample_Num, Flag, Gender\nn000001, "14th_Dalai_Lama", 424, 0, m\n'},
        {},
        {
            "train/n000002/0001_01.jpg": "n000002",
            "train/n000003/0001_01.jpg": "n000003",
            "test/n000001/0001_01.jpg": "14th_Dalai_Lama",
        },
    ),
    "casia-webface": (
        images("0000045/001.jpg 0000099/001.jpg") | {"list.txt": "0000045/001.jpg 0\n0000099/001.jpg 1\n"},
        {},
        {"0000045/001.jpg": "0000045", "0000099/001.jpg": "0000099"},
    ),
    "lfw": (
        images("lfw/Ann_Lee/Ann_Lee_0001.jpg lfw/Bo/Bo_0001.jpg lfw/Bo/Bo_0002.jpg")
        | {"pairs.txt": "1 1\nBo 1 2\nBo 1 Ann_Lee 1\n"},
        {},
        {"lfw/Ann_Lee/Ann_Lee_0001.jpg": "Ann_Lee", "lfw/Bo/Bo_0001.jpg": "Bo", "lfw/Bo/Bo_0002.jpg": "Bo"},
    ),
}


@BOTH
@pytest.mark.parametrize("name", SETS)
def test_a_known_set_is_recognized_and_read(tmp_path, made, name):
    files, options, expected = SETS[name]
    where = join_address(str(made(tmp_path, files)), options)
    data = open_dataset(where)
    assert data.layout == name.strip()
    assert name.strip() in data.notes[0]
    if expected is None:
        assert set(data.classes) == {"surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral"}
        return
    found = listed(where)
    strip = {path.removeprefix("lfw/").removeprefix("img/"): path for path in expected}
    assert {strip.get(path, path): label for path, label in found.items()} == expected or found == expected
    assert listed(data.where) == found
    assert data.source.read(data.records[0], None).shape == (4, 4, 3)


@pytest.mark.parametrize("alone", [True, False])
def test_fer2013_holds_its_images_in_the_table(tmp_path, alone):
    folder = as_folder(tmp_path, {"fer2013.csv": FER, "README": "x"})
    data = open_dataset(folder / "fer2013.csv" if alone else folder)
    assert data.layout == "fer2013"
    assert [data.classes[r.label] for r in data.records] == ["angry", "happy", "neutral", "angry"]
    assert [r.split for r in data.records] == ["train", "validation", "test", "train"]
    assert [int(data.source.read(r, None).max()) for r in data.records] == [0, 3, 6, 0]
    keys = [data.source.content_key(r) for r in data.records]
    assert keys[0] == keys[3] != keys[1]
    assert listed(data.where) == listed(folder)


@pytest.mark.parametrize(
    "text",
    [
        "pixels,emotion\n" + pixels() + ",1\n",
        f'"emotion","pixels"\n1,"{pixels()}"\n',
        f"emotion;pixels\n1;{pixels()}\n",
        f"\ufeffemotion,pixels\r\n1,{pixels()}\r\n\r\n",
        f"id,pixels,emotion,Usage\n9,{pixels()},1,Training\n",
    ],
)
def test_tables_of_pixels_as_people_write_them(tmp_path, text):
    data = open_dataset(as_folder(tmp_path, {"x.csv": text}) / "x.csv")
    assert len(data) == 1
    assert (data.source.read(data.records[0], None) == 7).all()


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (f"0,{pixels()[:-2]},Training", "15"),  # a pixel too few
        (f"0,{pixels()} 7,Training", "17"),
        (f"0,{pixels()[:-1]}256,Training", "256"),
        (f"0,{pixels()[:-1]}-1,Training", "-1"),
        (f"0,{pixels()[:-1]}x,Training", "whole number"),
        (f"0,{pixels()[:-1]}7.5,Training", "whole number"),
        (f"0,{pixels()[:-1]}{10**400},Training", "whole number"),
        ("0,,Training", "0"),
    ],
)
def test_a_damaged_row_of_pixels_is_one_broken_image(tmp_path, row, reason):
    data = open_dataset(as_folder(tmp_path, {"fer2013.csv": f"{FER}{row}\n"}))
    assert len(data) == 5
    with pytest.raises(BadImage, match=reason):
        data.source.read(data.records[4], None)
    assert data.source.read(data.records[3], None).shape == (4, 4, 3)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("emotion,pixels,Usage\n0,1 2 3 4\n", "line 2"),
        ("emotion,pixels,Usage\n0,1 2 3 4,Trainig\n", "Trainig"),
        ("emotion,pixels,Usage\n", "fer2013.csv"),
        ("a,pixels\n0,1 2 3 4\n", "--columns label"),
    ],
)
def test_a_damaged_table_of_pixels_is_refused(tmp_path, text, word):
    with pytest.raises(DataError, match=word):
        open_dataset(as_folder(tmp_path, {"fer2013.csv": text}))


def test_a_table_of_pixels_is_read_row_by_row_up_to_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr("facewright.data.layout_reading.MOST_ROWS", 3)
    with pytest.raises(DataError, match=r" 3 rows"):
        open_dataset(as_folder(tmp_path, {"fer2013.csv": FER}))
    monkeypatch.setattr("facewright.data.layout_reading.MOST_ROWS", 10)
    monkeypatch.setattr("facewright.data.layout_reading.MOST_LINE", 64)
    with pytest.raises(DataError, match="line 2"):
        open_dataset(as_folder(tmp_path, {"fer2013.csv": f"emotion,pixels\n0,{pixels(8)}\n"}))


def test_votes_beside_the_table_of_pixels_are_its_labels(tmp_path):
    votes = FERPLUS + "".join(
        f"{u},fer{k}.png,{v}\n" for k, (u, v) in enumerate(zip(["Training"] * 4, VOTES, strict=True))
    )
    data = open_dataset(as_folder(tmp_path, {"fer2013.csv": FER, "fer2013new.csv": votes}))
    assert [data.classes[r.label] for r in data.records] == ["neutral", "happiness"]
    assert len(data.broken) == 2  # a tie; no face
    assert data.column("neutral") == ("8", "0")
    with pytest.raises(DataError, match="3"):
        open_dataset(as_folder(tmp_path, {"fer2013new.csv": votes.rsplit("\n", 2)[0] + "\n"}))


def test_celeba_keeps_people_and_attributes(tmp_path):
    files, _, _ = SETS["celeba"]
    data = open_dataset(as_folder(tmp_path, files))
    assert data.columns == ("Smiling", "Young")
    assert data.column("Smiling") == ("0", "1", "1")
    data = open_dataset(f"{tmp_path}?columns=label=Young")
    assert (data.people, data.classes) == (("2880", "2880", "11"), ("0", "1"))


def test_the_attribute_that_is_the_label_is_a_target_too(tmp_path):
    files = {path: text for path, text in SETS["celeba"][0].items() if not path.startswith("identity")}
    data = open_dataset(as_folder(tmp_path, files))
    task = task_of("attributes", data.all_columns, data.column, data.where)
    assert task.names == ("Smiling", "Young")
    assert data.with_task(task).targets.tolist() == [[0.0, 1.0], [1.0, 1.0], [1.0, 0.0]]


@pytest.mark.parametrize("name", ["x.mat", "x.npy", "x.pkl", "x.h5", "x.xlsx"])
def test_files_that_are_not_read_say_what_to_do(tmp_path, name):
    (tmp_path / "a" / name).parent.mkdir()
    (tmp_path / "a" / name).write_bytes(b"\0")
    for where in (tmp_path / "a", tmp_path / "a" / name):
        with pytest.raises(DataError, match="save") as refused:
            open_dataset(where)
        assert name in str(refused.value)


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"list_eval_partition.txt": "990001.jpg 0\n990002.jpg 1\n"}, "list_eval_partition"),  # of another set
        ({"list_attr_celeba.txt": "3\nSmiling Young\n000001.jpg -1\n"}, "list_attr_celeba"),
        ({"list_attr_celeba.txt": "0\n"}, "list_attr_celeba"),
        ({"list_attr_celeba.txt": ATTRIBUTES.replace("000002.jpg  1", "000002.jpg  7")}, "got '7'"),
        ({"identity_CelebA.txt": "000001.jpg\n000002.jpg 7 8\n"}, "identity_CelebA"),
    ],
)
def test_damaged_lists_of_celeba_are_refused(tmp_path, changed, word):
    with pytest.raises(DataError, match=word):
        open_dataset(as_folder(tmp_path, SETS["celeba"][0] | changed))


def test_a_label_without_its_image_is_named(tmp_path):
    files = SETS["celeba"][0] | {"identity_CelebA.txt": PEOPLE + "000009.jpg 11\n"}
    assert [item.path for item in open_dataset(as_folder(tmp_path, files)).broken] == ["000009.jpg"]


def test_affectnet_unpickles_nothing(tmp_path):
    canary = io.BytesIO()
    np.save(canary, np.array([{"a": 1}], object), allow_pickle=True)
    files = AFFECTNET | {"train_set/annotations/0_exp.npy": canary.getvalue()}
    data = open_dataset(as_folder(tmp_path, files))
    assert [item.path for item in data.broken] == ["train_set/images/0.jpg"]


@pytest.mark.parametrize("layout", [layout.name for layout in KNOWN] + ["labels", "numbered", "folders"])
def test_a_layout_that_does_not_fit_is_one_clear_error_or_a_data_set(tmp_path, layout):
    for number, files in enumerate(
        ({}, images("a/1.png b/1.png"), images("x.png"), {"x.csv": "a\n"}, {"label.csv": "\n"})
    ):
        folder = as_folder(tmp_path / str(number), {"notes.md": "x"} | files)
        try:
            assert len(open_dataset(f"{folder}?layout={layout}"))
        except FacewrightError:
            continue


def test_a_layout_may_be_chosen(tmp_path):
    folder = as_folder(tmp_path, images("0000045/001.jpg 0000099/001.jpg"))
    assert open_dataset(f"{folder}?layout=folders").layout == "folders"
    with pytest.raises(UnknownName, match="vggface2"):
        open_dataset(f"{folder}?layout=vggface")


def test_an_unknown_column_of_a_known_set_is_named(tmp_path):
    folder = as_folder(tmp_path, SETS["utkface"][0])
    with pytest.raises(UnknownName, match="gender"):
        open_dataset(f"{folder}?columns=label=sex")
