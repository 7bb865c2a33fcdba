"""synthetic:faces: the address, the data set behind it, and that the same request draws the same bytes."""

from __future__ import annotations

import hashlib
import math
import pickle
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from facewright.data.portrait import draw_face, scene
from facewright.data.portrait.head import HeadPose
from facewright.data.portrait.identity import Attributes, Moment, RandomStream, attributes_of, identity_of, moment_of
from facewright.data.records import Record
from facewright.data.synthetic import TASKS, FacesSpec, open_synthetic
from facewright.errors import DataError, UnknownName, UsageError


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("synthetic:faces", FacesSpec()),  # everything has a default
        ("synthetic:faces?identities=3&images=2", FacesSpec(identities=3, images=2)),
        ("synthetic:faces?task=mask&size=64&seed=9", FacesSpec(task="mask", size=64, seed=9)),  # any order
        ("synthetic:faces?size=16", FacesSpec(size=16)),  # the ends of the ranges belong to them
        ("synthetic:faces?size=1024", FacesSpec(size=1024)),
    ],
)
def test_an_address_is_read(where: str, expected: FacesSpec) -> None:
    assert FacesSpec.parse(where) == expected
    assert FacesSpec.parse(expected.where()) == expected


@pytest.mark.parametrize(
    ("where", "error", "message"),
    [
        ("synthetic:faces?identitys=3", UnknownName, "did you mean 'identities'"),  # the nearest key is named
        ("synthetic:faces?task=glases", UnknownName, "did you mean 'glasses'"),
        ("synthetic:face", UnknownName, "did you mean 'faces'"),
        ("synthetic:faces?identities=0", UsageError, "identities must be from 1 to 10000, not 0"),
        ("synthetic:faces?size=15", UsageError, "size must be from 16 to 1024"),
        ("synthetic:faces?size=1025", UsageError, "size must be from 16 to 1024"),
        ("synthetic:faces?seed=-1", UsageError, "seed must be from 0"),
        ("synthetic:faces?size=big", UsageError, "must be a whole number, not 'big'"),
        ("synthetic:faces?size=", UsageError, "must be a whole number, not ''"),
        ("synthetic:faces?size=64&size=64", UsageError, "size=64"),
        ("synthetic:faces?size", UsageError, "expected key=value"),
        ("faces?size=64", UsageError, "expected synthetic:faces"),
    ],
)
def test_a_wrong_address_is_refused(where: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        open_synthetic(where)


def test_records_are_sorted_labelled_and_readable() -> None:
    data = open_synthetic("synthetic:faces?identities=11&images=2&size=24")
    assert [record.path for record in data.records] == sorted(record.path for record in data.records)
    assert replace(data.records[21], values=()) == Record("person_10/00001.png", 10, identity="person_10")
    assert data.classes == tuple(f"person_{k:02d}" for k in range(11))
    image = data.source.read(data.records[21], None)
    assert image.shape == (24, 24, 3)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous


@pytest.mark.parametrize("task", TASKS)
def test_columns_say_what_an_image_shows(task: str) -> None:
    data = open_synthetic(f"synthetic:faces?identities=4&images=25&size=16&task={task}")
    for k, record in enumerate(data.records):
        person, index = identity_of(0, k // 25), k % 25
        shown = data.source.attributes(person, index)  # type: ignore[attr-defined]
        moment = moment_of(person, 0, index, shown)
        values = {name: data.column(name)[k] for name in data.columns}
        for name in ("glasses", "hat", "beard", "mask"):
            assert values[name] == ("yes" if getattr(shown, name) else "no")
        assert values["smile"] == ("" if shown.mask else "yes" if shown.smile else "no")  # a mask hides it
        assert float(values["yaw"]) == pytest.approx(moment.yaw * 180 / math.pi, abs=0.005)
        if task != "identity":
            assert values[task] in ("", "yes" if data.classes[record.label or 0] == task else "no")
    yaws = np.array(data.column("yaw"), float)
    assert -42 < yaws.min() < -15 and 15 < yaws.max() < 42


def test_brightness_is_the_brightness_of_the_image() -> None:
    """Of one person, the brighter the light the brighter the skin; the columns change no pixel."""
    data = open_synthetic("synthetic:faces?identities=1&images=30&size=48")
    cheeks = [float(data.source.read(record, None)[20:30, 19:29].mean()) for record in data.records]
    assert np.corrcoef(cheeks, np.array(data.column("brightness"), float))[0, 1] > 0.5
    digest = hashlib.sha256(data.source.read(data.records[5], None).tobytes()).hexdigest()
    assert digest == "1f7c3a2f415190bb4e12c9535344654c1cbd60ce473ca69dd09c81ca54a740d4"


@pytest.mark.parametrize("task", [task for task in TASKS if task != "identity"])
def test_an_attribute_makes_two_classes_of_about_equal_size(task: str) -> None:
    data = open_synthetic(f"synthetic:faces?identities=10&images=20&size=16&task={task}")
    assert data.classes == tuple(sorted((task, f"no_{task}")))  # classes stand in the order of their names
    counts = Counter(record.label for record in data.records)
    assert min(counts.values()) > 70


def test_the_label_is_what_is_drawn() -> None:
    """Turning one attribute on changes the image; the data set draws the one that its label says."""
    data = open_synthetic("synthetic:faces?identities=2&images=4&size=32&task=mask")
    for record in data.records:
        index = int(record.path[-9:-4])
        person = identity_of(0, int(record.path[7:9]))
        own = attributes_of(person, 0, index)
        drawn = {
            mask: draw_face(person, 0, index, 32, Attributes(own.glasses, own.hat, own.beard, mask, own.smile))[0]
            for mask in (False, True)
        }
        assert not np.array_equal(drawn[False], drawn[True])
        expected = drawn[data.classes[record.label or 0] == "mask"]
        np.testing.assert_array_equal(data.source.read(record, None), expected)


def test_the_source_pickles_and_its_keys_follow_the_content() -> None:
    data = open_synthetic("synthetic:faces?identities=2&images=2&size=24")
    copy = pickle.loads(pickle.dumps(data.source))  # noqa: S301 - our own bytes, as a worker process gets them
    np.testing.assert_array_equal(copy.read(data.records[3], None), data.source.read(data.records[3], None))
    larger = open_synthetic("synthetic:faces?identities=2&images=2&size=32").source
    keys = {source.content_key(record) for source in (data.source, larger) for record in data.records}
    assert len(keys) == 8
    assert data.source.stamp(data.records[0]) == data.source.stamp(data.records[1])


@pytest.mark.parametrize("path", ["person_02/00000.png", "person_00/00002.png", "../person_00/00000.png", "a.png"])
def test_a_record_of_another_data_set_is_refused(path: str) -> None:
    source = open_synthetic("synthetic:faces?identities=2&images=2&size=24").source
    with pytest.raises(DataError, match="not an image of synthetic:faces"):
        source.read(Record(path, 0), None)


_DIGESTS = """
import hashlib, sys
from facewright.data.portrait import draw_face
from facewright.data.portrait.identity import identity_of
from facewright.data.portrait import scene
order = [(k, i) for k in range(4) for i in range(3)]
if sys.argv[1] == "backwards":
    order.reverse()
digests = {at: hashlib.sha256(draw_face(identity_of(5, at[0]), 5, at[1], 48)[0].tobytes()).hexdigest() for at in order}
digests["scene"] = hashlib.sha256(scene(5, 1, 80, 60, 2)[0].tobytes()).hexdigest()
print(sorted(map(str, digests.items())))
"""


def test_two_processes_draw_the_same_bytes_in_any_order() -> None:
    forwards, backwards = (
        subprocess.run([sys.executable, "-c", _DIGESTS, order], capture_output=True, text=True, check=True).stdout
        for order in ("forwards", "backwards")
    )
    assert forwards == backwards
    here = hashlib.sha256(draw_face(identity_of(5, 2), 5, 1, 48)[0].tobytes()).hexdigest()
    assert here in forwards


def test_the_stream_never_changes() -> None:
    """Its integers are NumPy's promise; a change here would redraw every image."""
    stream = RandomStream(0, 7)
    assert [round(stream.unit(), 12) for _ in range(3)] == [0.186718973495, 0.011696279102, 0.086081877259]
    assert int(RandomStream(3).bell(4).sum() * 1000) == -3274
    assert abs(float(RandomStream(1).bell(20_001).mean())) < 0.02
    assert abs(float(RandomStream(1).bell(20_001).std()) - 1.0) < 0.02


def test_images_of_a_person_differ_and_so_do_people() -> None:
    digests = {draw_face(identity_of(0, k), 0, i, 24)[0].tobytes() for k in range(4) for i in range(4)}
    assert len(digests) == 16
    assert not np.array_equal(draw_face(identity_of(0, 1), 0, 0, 24)[0], draw_face(identity_of(1, 1), 1, 0, 24)[0])


@pytest.mark.parametrize("index", range(4))
def test_any_size_is_the_same_image(index: int) -> None:
    """Drawn small, a face is what it is drawn large and reduced, but for noise and the grain of the edges."""
    person = identity_of(0, index)
    small = draw_face(person, 0, index, 32)[0].astype(float)
    large = Image.fromarray(draw_face(person, 0, index, 160)[0]).reduce(5)
    assert np.abs(small - np.asarray(large, float)).mean() < 8.0


@pytest.mark.parametrize("k", range(12))
def test_every_kind_of_hair_takes_every_attribute(k: int) -> None:
    """All hair styles (they follow one another) with everything worn, at the smallest size: no error, never blank."""
    everything = Attributes(glasses=True, hat=True, beard=True, mask=k % 2 == 0, smile=True)
    image, shown = draw_face(identity_of(2, k), 2, k, 16, everything)
    assert shown == everything
    assert image.std() > 5


def test_a_turned_nose_moves_further_than_the_cheeks() -> None:
    """Parallax: what stands out of the face moves with the turn, and features stay inside the silhouette."""
    person = identity_of(0, 3)
    moment = moment_of(person, 0, 0, Attributes())
    ahead, turned = (HeadPose(person, _with(moment, yaw), 100) for yaw in (0.0, 0.5))
    nose = [(0.0, 0.3)]
    assert turned.flat(nose, 0.2)[0, 0] > turned.flat(nose)[0, 0] > ahead.flat(nose)[0, 0] == 0.0
    edge = turned.outline()
    cheek = turned.flat([(0.6, 0.1), (-0.6, 0.1)])
    assert edge[:, 0].min() <= cheek[:, 0].min() < cheek[:, 0].max() <= edge[:, 0].max()


def _with(moment: Moment, yaw: float) -> Moment:
    return replace(moment, yaw=yaw, pitch=0.0, roll=0.0)


@pytest.mark.parametrize(("width", "height", "faces"), [(96, 64, 0), (96, 64, 1), (64, 128, 3), (200, 120, 6)])
def test_a_scene_has_its_faces_in_their_boxes(width: int, height: int, faces: int) -> None:
    image, boxes = scene(1, faces, width, height, faces)
    assert image.shape == (height, width, 3)
    assert boxes.shape == (faces, 4)
    x, y, w, h = boxes.T
    assert (boxes[:, 2:] >= 4).all()
    assert (x >= 0).all() and (y >= 0).all() and (x + w <= width).all() and (y + h <= height).all()
    for a in range(faces):
        for b in range(a):
            across = min(x[a] + w[a], x[b] + w[b]) - max(x[a], x[b])
            down = min(y[a] + h[a], y[b] + h[b]) - max(y[a], y[b])
            assert max(0, across) * max(0, down) <= 0.3 * min(w[a] * h[a], w[b] * h[b])


def test_the_box_is_where_the_person_changes_the_image() -> None:
    """Scenes with and without people share their background: what differs in a box is nearly all of the box."""
    empty, people = scene(1, 7, 160, 120, 0)[0], scene(1, 7, 160, 120, 1)
    x, y, w, h = people[1][0]
    changed = np.abs(people[0].astype(int) - empty).max(axis=2) > 24
    assert changed[y + h // 4 : y + 3 * h // 4, x + w // 4 : x + 3 * w // 4].mean() > 0.8


@pytest.mark.parametrize(("width", "height", "faces"), [(31, 64, 1), (64, 5000, 1), (64, 64, 41), (64, 64, -1)])
def test_a_scene_out_of_range_is_refused(width: int, height: int, faces: int) -> None:
    with pytest.raises(UsageError, match="a scene has sides of 32 to 4096"):
        scene(0, 0, width, height, faces)
