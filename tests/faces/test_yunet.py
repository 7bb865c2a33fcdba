"""YuNet: decoding and levels on a network whose answers are known; files that are not it; and the real one."""

from __future__ import annotations

import builtins
import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from facewright import images
from facewright.errors import UsageError, WeightsError
from facewright.faces.alignment import ARCFACE, similarity
from facewright.faces.dlib import detector
from facewright.faces.dlib.detector import FaceDetector
from facewright.faces.dlib.landmarks import FivePoints
from facewright.faces.yunet import KINDS, OUTPUTS, THRESHOLD, WINDOW, YuNet, dlib_squares
from facewright.metrics.detection import iou

SHARED = Path(__file__).parents[2] / "../shared"
FILE = SHARED / "weights/face_detection_yunet_2023mar.onnx"
PHOTOS = SHARED / "data/lfw_view1_train/images"
BLACK = np.zeros((64, 96, 3), np.uint8)


class Net:
    """Sees a face of a given side, in px of what it is fed, wherever a pixel is pure red."""

    def __init__(self, side: float = 40.0, **changed: Any) -> None:
        self.side, self.changed, self.fed = side, changed, list[np.ndarray]()

    def setInput(self, fed: np.ndarray) -> None:  # noqa: N802 (OpenCV's)
        self.fed.append(fed)

    def forward(self, names: Sequence[str]) -> list[np.ndarray]:
        fed = self.fed[-1]
        assert list(names) == list(OUTPUTS) and fed.dtype == np.float32
        answers = {name: self.answer(fed, *name.split("_")) for name in names}
        return [answer.astype(np.float32) for answer in (answers | self.changed).values()]

    def answer(self, fed: np.ndarray, kind: str, spacing: str) -> np.ndarray:
        stride = int(spacing)
        rows, columns = fed.shape[2] // stride, fed.shape[3] // stride
        answer = np.zeros((rows, columns, KINDS[kind]))
        blue, _, red = fed[0]
        for y, x in np.argwhere((red == 255) & (blue == 0)) if stride == 8 else ():
            numbers = {
                "cls": [0.81],
                "obj": [1.0],
                "bbox": [x % 8 / 8, y % 8 / 8, np.log(self.side / 8), np.log(1.5 * self.side / 8)],
                "kps": [(x % 8 + shift) / 8 if axis == 0 else y % 8 / 8 for shift in range(5) for axis in (0, 1)],
            }
            answer[y // 8, x // 8] = numbers[kind]
        return answer.reshape(1, rows * columns, -1)


def dotted(height: int, width: int, *places: tuple[int, int]) -> np.ndarray:
    photo = np.zeros((height, width, 3), np.uint8)
    for x, y in places:
        photo[y, x] = 255, 0, 0
    return photo


def yunet(network: Net) -> YuNet:
    return YuNet(network, "0" * 64)


def test_boxes_and_points_lie_where_the_network_says() -> None:
    boxes, scores, points = yunet(Net(40)).find(dotted(100, 200, (61, 50), (150, 33)))
    order = np.argsort(boxes[:, 0])
    assert boxes[order] == pytest.approx(np.array([[41, 20, 40, 60], [130, 3, 40, 60]]))
    assert scores == pytest.approx([0.9, 0.9])  # the root of both likelihoods
    assert points[order[0]] == pytest.approx(np.array([[61 + shift, 50] for shift in range(5)]))


@pytest.mark.parametrize(
    ("size", "fed"),
    [
        ((64, 96), (64, 96)),
        ((65, 97), (96, 128)),
        ((1, 1), (64, 64)),  # with a single row or column of places OpenCV answers noise
        ((20, 300), (64, 320)),
    ],
)
def test_sides_are_filled_up_with_black(size: tuple[int, int], fed: tuple[int, int]) -> None:
    network = Net()
    boxes, scores, points = yunet(network).find(np.full((*size, 3), 9, np.uint8))
    assert (boxes.shape, scores.shape, points.shape) == ((0, 4), (0,), (0, 5, 2))
    (given,) = network.fed
    assert given.shape == (1, 3, *fed) and (given[0, :, : size[0], : size[1]] == 9).all()
    assert given.sum() == 9 * 3 * size[0] * size[1]


def test_two_boxes_of_one_face_are_one() -> None:
    boxes, *_ = yunet(Net(40)).find(dotted(100, 100, (40, 50), (50, 50)))
    assert len(boxes) == 1
    boxes, *_ = yunet(Net(40)).find(dotted(100, 120, (40, 50), (80, 50)))
    assert len(boxes) == 2


def test_a_threshold_is_reached_by_its_own_value() -> None:
    photo = dotted(100, 100, (40, 50))
    (score,) = yunet(Net()).find(photo)[1]
    assert len(yunet(Net()).find(photo, threshold=score)[0]) == 1
    assert len(yunet(Net()).find(photo, threshold=score + 1e-6)[0]) == 0


def test_the_smallest_face_is_scaled_to_the_window() -> None:
    network = Net(WINDOW)
    photo = np.zeros((100, 150, 3), np.uint8)
    photo[40:60, 60:80] = 255, 0, 0
    boxes, _, points = yunet(network).find(photo, smallest=2 * WINDOW)
    assert network.fed[0].shape == (1, 3, 64, 96)  # 50 x 75, filled up
    assert len(boxes) and boxes[:, 2:] == pytest.approx(np.full((len(boxes), 2), [2 * WINDOW, 3 * WINDOW]))
    assert points[:, 0] == pytest.approx(boxes[:, :2] + boxes[:, 2:] / 2)


def test_faces_that_are_smaller_than_what_is_asked_for_are_left_out() -> None:
    photo = np.zeros((100, 150, 3), np.uint8)
    photo[40:60, 60:80] = 255, 0, 0
    assert len(yunet(Net(0.95 * WINDOW)).find(photo, smallest=2 * WINDOW)[0])
    assert not len(yunet(Net(0.6 * WINDOW)).find(photo, smallest=2 * WINDOW)[0])


def test_a_face_that_fills_a_large_photo_is_looked_for_in_a_small_one() -> None:
    network = Net(40)
    photo = np.zeros((800, 640, 3), np.uint8)
    photo[360:440, 280:360] = 255, 0, 0
    boxes, *_ = yunet(network).find(photo)
    assert [fed.shape[2:] for fed in network.fed] == [(800, 640), (128, 96)]  # the second is 100 x 80, filled up
    assert boxes[:, 2].max() == pytest.approx(8 * 40)


def test_a_large_photo_is_searched_for_larger_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detector, "MOST_PIXELS", 10_000)
    network, photo = Net(), np.zeros((300, 200, 3), np.uint8)
    with pytest.raises(UsageError, match=r"faces of 32 px in a photo of 200 x 300 .* at least 79 px"):
        yunet(network).find(photo, smallest=32)
    assert not network.fed
    yunet(network).find(photo)
    assert network.fed[0].shape == (1, 3, 128, 96)  # 122 x 82, filled up


@pytest.mark.parametrize(
    "changed",
    [
        {"cls_8": np.zeros((1, 1, 1))},  # OpenCV's own class would read beyond its end
        {"kps_16": np.zeros((1, 24, 4))},
        {"obj_32": np.zeros((6, 1))},
    ],
)
def test_answers_of_another_shape_are_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(WeightsError, match=rf"expected the output {next(iter(changed))} to be \(1, "):
        yunet(Net(**changed)).find(BLACK)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e6])  # the last would overflow as the logarithm of a side
def test_places_that_are_none_are_refused(value: float) -> None:
    changed = {"cls_8": np.ones((1, 96, 1)), "obj_8": np.ones((1, 96, 1)), "bbox_8": np.full((1, 96, 4), value)}
    with pytest.raises(WeightsError, match="NaN, infinity or more"):
        yunet(Net(**changed)).find(BLACK)


def test_what_opencv_says_of_a_network_that_it_cannot_run_is_one_line() -> None:
    class Failing(Net):
        def forward(self, names: Sequence[str]) -> list[np.ndarray]:
            raise RuntimeError("(-204:Requested object was not found)\n in function 'getLayerData'\n")

    with pytest.raises(WeightsError, match=r"cannot run the network \(\(-204:Requested object was not found\)\)$"):
        yunet(Failing()).find(BLACK)


def test_squares_are_square_around_the_face() -> None:
    squares = dlib_squares([[100, 50, 80, 100], [-10, -20, 8, 10]])
    assert squares[:, 2] == pytest.approx(squares[:, 3])
    assert squares[0, 2] == pytest.approx(10 * squares[1, 2])
    assert squares[:, 0] + squares[:, 2] / 2 == pytest.approx([140, -6])
    assert dlib_squares([]).shape == (0, 4)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no such file"),
        (b"", "expected YuNet's ONNX file"),
        (b"hello" * 100, "expected YuNet's ONNX file"),
        (b"\0" * (4 * 2**20 + 1), "at most 4,194,304 bytes"),
    ],
)
def test_files_that_are_no_network(tmp_path: Path, content: bytes | None, said: str) -> None:
    pytest.importorskip("cv2", reason="wants OpenCV: pip install 'facewright[opencv]'")
    path = tmp_path / "yunet.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WeightsError, match=said) as caught:
        YuNet.load(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


@pytest.mark.parametrize("outputs", [["other"], list(OUTPUTS)])  # other names; the names, and shapes that lie
def test_another_network_is_refused(tmp_path: Path, outputs: list[str]) -> None:
    pytest.importorskip("cv2", reason="wants OpenCV: pip install 'facewright[opencv]'")
    onnx = pytest.importorskip("onnx", reason="wants onnx: pip install 'facewright[onnx]'")
    make, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = make.make_graph(
        [make.make_node("GlobalAveragePool", ["x"], [name]) for name in outputs],
        "other",
        [make.make_tensor_value_info("x", kind, [1, 3, 64, 64])],
        [make.make_tensor_value_info(name, kind, [1, 3, 1, 1]) for name in outputs],
    )
    path = tmp_path / "other.onnx"
    path.write_bytes(make.make_model(graph).SerializeToString())
    with pytest.raises(WeightsError, match="expected YuNet's ONNX file") as caught:
        YuNet.load(path)
    assert "\n" not in str(caught.value)


def test_without_opencv_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "yunet.onnx").write_bytes(b"any")
    real = builtins.__import__

    def absent(name: str, *rest: Any) -> Any:
        if name == "cv2":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(WeightsError, match=r"pip install 'facewright\[opencv\]'"):
        YuNet.load(tmp_path / "yunet.onnx")


@pytest.fixture(scope="module")
def real() -> YuNet:
    pytest.importorskip("cv2", reason="wants OpenCV: pip install 'facewright[opencv]'")
    if not FILE.is_file() or not PHOTOS.is_dir():
        pytest.skip("wants ../shared/weights/face_detection_yunet_2023mar.onnx and ../shared/data/lfw_view1_train")
    return YuNet.load(FILE)


@pytest.fixture(scope="module")
def photos(real: YuNet) -> list[np.ndarray]:
    return [images.read(path) for path in sorted(PHOTOS.rglob("*.jpg"))[::600]]


@pytest.mark.realdata
def test_it_finds_what_opencvs_own_class_finds(real: YuNet, photos: list[np.ndarray]) -> None:
    import cv2

    theirs = cv2.FaceDetectorYN.create(str(FILE), "", (250, 250), THRESHOLD, 0.3, 5000)
    assert real.digest == hashlib.sha256(FILE.read_bytes()).hexdigest()
    for photo in photos:
        _, rows = theirs.detect(np.ascontiguousarray(photo[..., ::-1]))
        boxes, scores, points = real.find(photo)
        order = np.argsort(-rows[:, 14], kind="stable")
        np.testing.assert_allclose(boxes, rows[order, :4], atol=1e-3)
        np.testing.assert_allclose(points.reshape(-1, 10), rows[order, 4:14], atol=1e-3)
        np.testing.assert_allclose(scores, rows[order, 14], atol=1e-5)


@pytest.mark.realdata
@pytest.mark.parametrize("growth", [0.3, 1, 8])  # faces of some 28, 94 and 750 px
def test_faces_of_every_size_are_found_where_they_are(real: YuNet, photos: list[np.ndarray], growth: float) -> None:
    for photo in photos[:3]:
        wanted = real.find(photo)[0][0] * growth
        size = round(photo.shape[1] * growth), round(photo.shape[0] * growth)
        boxes, scores, _ = real.find(np.asarray(Image.fromarray(photo).resize(size)))
        assert scores[0] > 0.8 and iou([boxes[0]], [wanted])[0, 0] > 0.7


@pytest.mark.realdata
@pytest.mark.parametrize("size", [(1, 1), (3, 700), (31, 31), (700, 20)])
def test_nothing_is_found_in_small_blank_photos(real: YuNet, size: tuple[int, int]) -> None:
    assert len(real.find(np.full((*size, 3), 128, np.uint8))[0]) == 0


@pytest.mark.realdata
def test_points_come_in_the_order_of_arcface(real: YuNet, photos: list[np.ndarray]) -> None:
    template = np.array(ARCFACE.points) * ARCFACE.side
    for photo in photos:
        points = real.find(photo)[2][0]
        turn, shift = similarity(points, template)
        there = turn * (points @ [1, 1j]) + shift
        assert abs(there - template @ [1, 1j]).max() < 12  # px of 112; two points swapped are 19 px or more away
        assert points[0, 0] < points[1, 0] and points[3, 0] < points[4, 0]


@pytest.mark.realdata
def test_dlibs_trees_find_the_same_points_in_its_squares(
    real: YuNet, photos: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory
) -> None:
    cache = tmp_path_factory.mktemp("cache")
    dlib, trees = FaceDetector.load(cache=cache), FivePoints.load(cache=cache)
    away = []
    for photo in photos:
        ours, theirs = dlib_squares(real.find(photo)[0]), dlib.find(photo)[0]
        shared = iou(theirs[:1], ours)[0]
        assert shared.max() > 0.5
        one, other = trees.of(photo, [theirs[0], ours[shared.argmax()]])
        away.append(np.linalg.norm(one - other, axis=1).mean() / theirs[0, 2])
        eyes = real.find(photo)[2][shared.argmax(), :2]  # left in the picture first; dlib's are corners, right first
        assert np.abs(eyes - [one[2:4].mean(0), one[:2].mean(0)]).max() < 0.15 * theirs[0, 2]
    assert np.median(away) < 0.02


@pytest.mark.realdata
def test_several_threads_find_the_same(real: YuNet, photos: list[np.ndarray]) -> None:
    wanted = [real.find(photo) for photo in photos]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(real.find, photos * 3))
    for one, other in zip(found, wanted * 3, strict=True):
        for mine, alone in zip(one, other, strict=True):
            np.testing.assert_array_equal(mine, alone)
