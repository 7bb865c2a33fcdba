"""A network from an ONNX file as a recogniser's detector: its own points for ArcFace's crops, squares for dlib's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import find_objects, label

from facewright.errors import UnknownName, WeightsError
from facewright.faces import onnx_detectors
from facewright.faces.detectors import Searching, detector_of
from facewright.faces.onnx_detectors import FAMILIES, dlib_squares
from facewright.recognition import Recognizer

BOX = np.array([[50.0, 40.0, 60.0, 80.0]])
POINTS = np.array([[[65.0, 70.0], [95.0, 70.0], [80.0, 85.0], [68.0, 100.0], [92.0, 100.0]]])
BLANK = np.zeros((200, 200, 3), np.uint8)


class FakeYuNet:
    """Finds one face, where it is asked for faces as small as that."""

    digest, family = "f" * 64, FAMILIES[0]

    def __init__(self) -> None:
        self.asked = list[float]()

    def find(self, photo: np.ndarray, smallest: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        self.asked.append(smallest)
        count = int(smallest <= 60)
        return BOX[:count], np.array([0.9])[:count], POINTS[:count]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeYuNet:
    found = FakeYuNet()
    monkeypatch.setattr(onnx_detectors.OnnxDetector, "load", lambda path, device: found)
    return found


def test_boxes_points_and_squares(fake: FakeYuNet) -> None:
    detector = detector_of("some/where.ONNX")
    located = detector.locate(BLANK, (80, 40, 20))
    assert (detector.name, detector.digest) == ("yunet", fake.digest)
    assert fake.asked == [80, 40] and located.scores == (0.9,)
    np.testing.assert_array_equal(located.boxes, BOX)
    np.testing.assert_array_equal(located.squares, dlib_squares(BOX))
    assert located.points is not None and located.points.tolist() == POINTS.tolist()


def test_a_photo_without_a_face_and_one_that_is_too_small(fake: FakeYuNet) -> None:
    detector = detector_of("yunet.onnx")
    assert len(detector.locate(BLANK, (80,)).boxes) == 0 and fake.asked == [80]
    assert len(detector.locate(BLANK[:19], (20,)).boxes) == 0 and fake.asked == [80]


def test_a_large_photo_is_searched_for_larger_faces(fake: FakeYuNet) -> None:
    large = np.zeros((3000, 4000, 3), np.uint8)
    recognizer = Recognizer(detector="yunet.onnx")
    assert recognizer._detector.searchable(large, 20) == 23 and recognizer._detector.searchable(BLANK, 40) == 40
    assert Recognizer(detector="none")._detector.searchable(large, 40) == 40  # nothing is searched
    detector_of("yunet.onnx").locate(large, (20,))
    detector_of("yunet.onnx").locate(BLANK, (None,))  # as small as the photo's size allows
    assert fake.asked == [56, 10]


def squares_in(photo: np.ndarray, smallest: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the white squares of at least `smallest` px on black; of one at the border what is to be seen."""
    places = [(x.start, y.start, x.stop - x.start, y.stop - y.start) for y, x in find_objects(label(photo[..., 0])[0])]
    found = np.array([box for box in places if max(box[2:]) >= smallest], float).reshape(-1, 4)
    points = found[:, None, :2] + np.arange(5)[None, :, None]
    return found, 0.8 + found[:, 2] / 10_000, points


def test_a_large_photo_is_searched_in_parts_and_each_face_found_once() -> None:
    """Squares of 30 to 90 px on a grid, so that seams of the parts go through some of them."""
    photo, expected = np.zeros((2400, 3600, 3), np.uint8), set()
    for row, y in enumerate(range(3, 2300, 131)):
        for column, x in enumerate(range(2, 3500, 131)):
            side = 30 + (row + column) % 7 * 10
            photo[y : y + side, x : x + side] = 255
            expected.add((x, y, side, side))
    detector = Searching("seams", lambda: squares_in, lambda: "0" * 32, 80, 1_000_000)
    vars(detector).update(_reach=10**9)
    found = detector.every(photo, 30)
    assert found.searched == 30 and found.points is not None
    whole = {box for box in map(tuple, found.boxes.astype(int).tolist()) if box in expected}
    assert whole == expected and len(found.boxes) == len(expected)
    np.testing.assert_array_equal(found.points[:, 0], found.boxes[:, :2])
    assert list(found.scores) == sorted(found.scores, reverse=True)


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("haar", UnknownName, "none"),
        ("absent.onnx", WeightsError, "absent.onnx"),
    ],
)
def test_no_such_detector(tmp_path: Path, name: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        detector_of(str(tmp_path / name) if name.endswith(".onnx") else name)
