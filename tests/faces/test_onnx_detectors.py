"""Detectors from ONNX files: decoding, tiles and levels on graphs whose answers are known; real files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from facewright import images
from facewright.errors import UsageError, WeightsError
from facewright.faces import onnx_detectors, scaling
from facewright.faces.alignment import ARCFACE, similarity
from facewright.faces.dlib.detection import FaceDetector, FivePoints
from facewright.faces.onnx_detectors import FAMILIES, GREY, MARGIN, STRIDES, Family, OnnxDetector, dlib_squares
from facewright.metrics.detection import iou

SHARED = Path(__file__).parents[2] / "../shared"
FILES = {
    "yunet": SHARED / "weights/face_detection_yunet_2023mar.onnx",
    "scrfd": SHARED / "weights/scrfd_500m_bnkps.onnx",
    "retinaface": SHARED / "weights/retinaface_mobilenet025_640.onnx",
}
PHOTOS = SHARED / "data/lfw_view1_train/images"
FAMILY = {family.name: family for family in FAMILIES}
SHAPE = np.array([[-10.0, -10], [10, -10], [0, 0], [-8, 12], [8, 12]])  # px from the middle of a face


class Net:
    """Sees a face of a given side, in px of what it is fed, wherever a pixel is pure red; fed and read as a family."""

    def __init__(self, family: Family, side: float = 40.0) -> None:
        self.family, self.side, self.fed, self.change = family, side, list[np.ndarray](), lambda outputs: outputs

    def __call__(self, fed: np.ndarray) -> list[np.ndarray]:
        self.fed.append(fed)
        assert fed.dtype == np.float32
        mean = np.array(self.family.mean)[:, None, None]
        image = fed[0] * self.family.scale + mean
        red, blue = (image[2], image[0]) if self.family.bgr else (image[0], image[2])
        outputs = [self.answers(place, red, blue, stride == 8) for place, stride in
                   zip(self.family.places(*fed.shape[2:]), STRIDES, strict=True)]  # fmt: skip
        if self.family.joined:
            return self.change([np.concatenate(part)[None] for part in zip(*outputs, strict=True)])
        return self.change([part[None] for group in outputs for part in group])

    def answers(
        self, place: onnx_detectors.Place, red: np.ndarray, blue: np.ndarray, answers: bool
    ) -> list[np.ndarray]:
        corner, unit = place
        rows = [np.zeros((len(corner), numbers), np.float32) for numbers in self.family.outputs]
        *likely, box, shape = rows
        for y, x in np.argwhere((red > 254) & (blue < 1)) if answers else ():
            row = int(np.abs(corner - [x, y]).sum(axis=1).argmin())
            for one in likely:
                one[row, -1] = 0.9
            (px, py), u, half = corner[row], unit[row], self.side / 2
            if self.family.name == "yunet":
                box[row] = [(x - px) / u, (y - py) / u, np.log(self.side / u), np.log(1.5 * self.side / u)]
            elif self.family.name == "scrfd":
                box[row] = np.array([px - x + half, py - y + 1.5 * half, x - px + half, y - py + 1.5 * half]) / u
            else:
                box[row] = [
                    10 * (x - px) / u,
                    10 * (y - py) / u,
                    5 * np.log(self.side / u),
                    5 * np.log(1.5 * self.side / u),
                ]
            factor = 10 / u if self.family.name == "retinaface" else 1 / u
            shape[row] = ((SHAPE + np.array([x - px, y - py])) * factor).ravel()
        return rows


def dotted(height: int, width: int, *places: tuple[int, int]) -> np.ndarray:
    photo = np.zeros((height, width, 3), np.uint8)
    for x, y in places:
        photo[y, x] = 255, 0, 0
    return photo


def detector(network: Net, fixed: tuple[int, int] | None = None) -> OnnxDetector:
    made = OnnxDetector(network, "0" * 64, fixed)
    network.fed.clear()  # what it was tried on
    return made


@pytest.fixture(params=FAMILIES, ids=lambda family: family.name)
def family(request: pytest.FixtureRequest) -> Iterator[Family]:
    yield request.param


@pytest.mark.parametrize("fixed", [None, (160, 128)])  # one run, or tiles that overlap
def test_boxes_and_points_lie_where_the_network_says(family: Family, fixed: tuple[int, int] | None) -> None:
    found = detector(Net(family), fixed)
    assert found.family is family
    boxes, scores, points = found.find(dotted(220, 300, (61, 50), (200, 180)))
    order = np.argsort(boxes[:, 0])
    assert boxes[order] == pytest.approx(np.array([[41, 20, 40, 60], [180, 150, 40, 60]]), abs=1e-3)
    assert scores == pytest.approx([0.9, 0.9])
    assert points[order] == pytest.approx(
        np.array([SHAPE + np.array([61, 50]), SHAPE + np.array([200, 180])]), abs=1e-3
    )


@pytest.mark.parametrize(("size", "fed"), [((64, 96), (128, 160)), ((65, 97), (160, 192)), ((1, 1), (96, 96))])
def test_a_margin_lies_around_the_photo(family: Family, size: tuple[int, int], fed: tuple[int, int]) -> None:
    network = Net(family)
    boxes, scores, points = detector(network).find(np.full((*size, 3), 9, np.uint8))
    assert (boxes.shape, scores.shape, points.shape) == ((0, 4), (0,), (0, 5, 2))
    image = network.fed[0][0] * family.scale + np.array(family.mean)[:, None, None]
    assert image.shape == (3, *fed)
    inside = np.zeros(fed, np.bool_)
    inside[MARGIN : MARGIN + size[0], MARGIN : MARGIN + size[1]] = True
    assert image[:, inside] == pytest.approx(9, abs=1e-3) and image[:, ~inside] == pytest.approx(128, abs=1e-3)


def test_two_boxes_of_one_face_are_one() -> None:
    yunet = FAMILY["yunet"]
    assert len(detector(Net(yunet)).find(dotted(100, 100, (40, 50), (50, 50)))[0]) == 1
    assert len(detector(Net(yunet)).find(dotted(100, 120, (40, 50), (80, 50)))[0]) == 2


def test_a_threshold_is_reached_by_its_own_value() -> None:
    found, photo = detector(Net(FAMILY["yunet"])), dotted(100, 100, (40, 50))
    (score,) = found.find(photo)[1]
    assert len(found.find(photo, threshold=score)[0]) == 1
    assert len(found.find(photo, threshold=score + 1e-6)[0]) == 0


def test_the_smallest_face_is_scaled_to_the_window() -> None:
    network = Net(FAMILY["yunet"], 32)
    photo = np.zeros((100, 150, 3), np.uint8)
    photo[40:60, 60:80] = 255, 0, 0
    boxes, _, points = detector(network).find(photo, smallest=64)
    assert network.fed[0].shape == (1, 3, 128, 160)  # 50 x 75 and the margin
    assert len(boxes) and boxes[:, 2:] == pytest.approx(np.full((len(boxes), 2), [64, 96]))
    assert points[:, 2] == pytest.approx(boxes[:, :2] + boxes[:, 2:] / 2)


def test_faces_that_are_smaller_than_what_is_asked_for_are_left_out() -> None:
    photo = np.zeros((100, 150, 3), np.uint8)
    photo[40:60, 60:80] = 255, 0, 0
    assert len(detector(Net(FAMILY["yunet"], 30)).find(photo, smallest=64)[0])
    assert not len(detector(Net(FAMILY["yunet"], 19)).find(photo, smallest=64)[0])


def test_a_face_that_fills_a_large_photo_is_looked_for_in_a_small_one() -> None:
    network = Net(FAMILY["yunet"])
    photo = np.zeros((800, 640, 3), np.uint8)
    photo[360:440, 280:360] = 255, 0, 0
    boxes, *_ = detector(network).find(photo)
    assert [fed.shape[2:] for fed in network.fed] == [(864, 704), (192, 160)]  # the second is 100 x 80 and the margin
    assert boxes[:, 2].max() == pytest.approx(8 * 40)


def test_a_large_photo_is_searched_for_larger_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "MAX_PIXELS", 10_000)
    network, photo = Net(FAMILY["yunet"]), np.zeros((300, 200, 3), np.uint8)
    found = detector(network)
    with pytest.raises(UsageError, match="79 px"):
        found.find(photo, smallest=32)
    assert not network.fed
    found.find(photo)
    assert network.fed[0].shape == (1, 3, 192, 160)  # 122 x 82 and the margin


@pytest.mark.parametrize("length", [10, 128, 129, 400, 1000])
def test_tiles_cover_a_level_and_overlap(length: int) -> None:
    starts = onnx_detectors._starts(length, 128)
    assert starts[0] == -MARGIN and (len(starts) == 1 or starts[-1] + 128 == length - MARGIN)
    assert all(0 < after - before <= 96 for before, after in pairwise(starts))


def test_answers_of_another_shape_are_refused(family: Family) -> None:
    network = Net(family)
    found = detector(network)
    network.change = lambda outputs: [outputs[0][:, :-1], *outputs[1:]]
    with pytest.raises(WeightsError, match="rows"):
        found.find(dotted(64, 96))
    with pytest.raises(WeightsError):
        detector(network)
    network.change = lambda outputs: outputs[:-1]
    with pytest.raises(WeightsError):
        detector(network)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e6])  # the last would overflow as the logarithm of a side
@pytest.mark.parametrize("numbers", [1, 2, 4])
def test_scores_and_places_that_are_none_are_refused(family: Family, value: float, numbers: int) -> None:
    network = Net(family)
    found = detector(network)

    def spoil(outputs: list[np.ndarray]) -> list[np.ndarray]:
        return [np.full_like(a, value) if a.shape[-1] == numbers else a for a in outputs]

    network.change = spoil
    if numbers in family.outputs:
        with pytest.raises(WeightsError):
            found.find(dotted(64, 96, (40, 40)))


def test_squares_are_square_around_the_face() -> None:
    squares = dlib_squares([[100, 50, 80, 100], [-10, -20, 8, 10]])
    assert squares[:, 2] == pytest.approx(squares[:, 3])
    assert squares[0, 2] == pytest.approx(10 * squares[1, 2])
    assert squares[:, 0] + squares[:, 2] / 2 == pytest.approx([140, -6])
    assert dlib_squares([]).shape == (0, 4)


@pytest.mark.parametrize("content", [None, b"", b"hello" * 100])
def test_files_that_are_no_network(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "yunet.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"yunet\.onnx") as caught:
        OnnxDetector.load(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_a_file_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_detectors, "MOST_BYTES", 10)
    (tmp_path / "large.onnx").write_bytes(b"0" * 11)
    with pytest.raises(WeightsError, match="10 bytes"):
        OnnxDetector.load(tmp_path / "large.onnx")


@pytest.mark.parametrize("kind", ["GlobalAveragePool", "Loop"])
def test_another_network_is_refused(tmp_path: Path, kind: str) -> None:
    from onnx import TensorProto, helper

    sides = [1, 3, 64, 64]
    graph = helper.make_graph(
        [helper.make_node(kind, ["x"], ["y"])],
        "other",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, sides)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, 1, 1])],
    )
    path = tmp_path / "other.onnx"
    path.write_bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    )
    with pytest.raises(WeightsError, match="yunet, scrfd, retinaface") as caught:
        OnnxDetector.load(path)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def real() -> OnnxDetector:
    return loaded("yunet")


def loaded(name: str) -> OnnxDetector:
    if not FILES[name].is_file() or not PHOTOS.is_dir():
        pytest.skip(f"wants ../shared/weights/{FILES[name].name} and ../shared/data/lfw_view1_train")
    return OnnxDetector.load(FILES[name])


@pytest.fixture(scope="module")
def photos(real: OnnxDetector) -> list[np.ndarray]:
    return [images.read(path) for path in sorted(PHOTOS.rglob("*.jpg"))[::600]]


@pytest.mark.realdata
def test_it_finds_what_opencvs_own_class_finds(real: OnnxDetector, photos: list[np.ndarray]) -> None:
    cv2 = pytest.importorskip("cv2", reason="wants the development dependency opencv-python-headless")
    theirs = cv2.FaceDetectorYN.create(str(FILES["yunet"]), "", (320, 320), FAMILY["yunet"].threshold, 0.3, 5000)
    assert real.digest == hashlib.sha256(FILES["yunet"].read_bytes()).hexdigest()
    for photo in photos:
        height, width = (side + 2 * MARGIN for side in photo.shape[:2])
        seen = np.full((-(-height // 32) * 32, -(-width // 32) * 32, 3), GREY, np.uint8)  # with the margin, as ours
        seen[MARGIN : height - MARGIN, MARGIN : width - MARGIN] = photo[..., ::-1]
        theirs.setInputSize(seen.shape[1::-1])
        _, rows = theirs.detect(seen)
        rows[:, [0, 1, *range(4, 14)]] -= MARGIN
        boxes, scores, points = real.find(photo)
        for row in rows:
            shared = iou(boxes, row[None, :4])[:, 0]
            best = shared.argmax()
            assert shared[best] > 0.98 and scores[best] == pytest.approx(row[14], abs=0.005)
            np.testing.assert_allclose(points[best].ravel(), row[4:14], atol=0.01 * row[3])


@pytest.mark.realdata
@pytest.mark.parametrize("name", FILES)
def test_every_family_finds_the_same_faces(real: OnnxDetector, photos: list[np.ndarray], name: str) -> None:
    found = loaded(name)
    assert found.family.name == name
    for photo in photos:
        boxes, _, points = found.find(photo, smallest=40)
        wanted, _, shape = real.find(photo, smallest=40)
        shared = iou(boxes, wanted[:1])[:, 0]
        assert shared.max() > 0.6
        assert np.abs(points[shared.argmax()] - shape[0]).max() < 0.15 * wanted[0, 3]


@pytest.mark.realdata
@pytest.mark.parametrize("growth", [0.3, 1, 8])  # faces of some 28, 94 and 750 px
def test_faces_of_every_size_are_found_where_they_are(
    real: OnnxDetector, photos: list[np.ndarray], growth: float
) -> None:
    for photo in photos[:3]:
        wanted = real.find(photo)[0][0] * growth
        size = round(photo.shape[1] * growth), round(photo.shape[0] * growth)
        boxes, scores, _ = real.find(np.asarray(Image.fromarray(photo).resize(size)))
        assert scores[0] > 0.8 and iou([boxes[0]], [wanted])[0, 0] > 0.7


@pytest.mark.realdata
@pytest.mark.parametrize("size", [(1, 1), (3, 700), (31, 31), (700, 20)])
def test_nothing_is_found_in_small_blank_photos(real: OnnxDetector, size: tuple[int, int]) -> None:
    assert len(real.find(np.full((*size, 3), 128, np.uint8))[0]) == 0


@pytest.mark.realdata
def test_points_come_in_the_order_of_arcface(real: OnnxDetector, photos: list[np.ndarray]) -> None:
    template = np.array(ARCFACE.points) * ARCFACE.side
    for photo in photos:
        points = real.find(photo)[2][0]
        turn, shift = similarity(points, template)
        there = turn * (points @ [1, 1j]) + shift
        assert abs(there - template @ [1, 1j]).max() < 12  # px of 112; two points swapped are 19 px or more away
        assert points[0, 0] < points[1, 0] and points[3, 0] < points[4, 0]


@pytest.mark.realdata
def test_dlibs_trees_find_the_same_points_in_its_squares(
    real: OnnxDetector, photos: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory
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
def test_several_threads_find_the_same(real: OnnxDetector, photos: list[np.ndarray]) -> None:
    wanted = [real.find(photo) for photo in photos]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(real.find, photos * 3))
    for one, other in zip(found, wanted * 3, strict=True):
        for mine, alone in zip(one, other, strict=True):
            np.testing.assert_array_equal(mine, alone)


def test_a_graph_that_makes_a_billion_numbers_is_refused_before_it_runs(tmp_path: Path) -> None:
    floats = TensorProto.FLOAT
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("ReduceMean", ["flat"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("Expand", ["mean", "shape"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "huge",
        [helper.make_tensor_value_info("x", floats, ["B", 3, "H", "W"])],
        [helper.make_tensor_value_info("y", floats, None)],
        [numpy_helper.from_array(np.array([1, 10**9]), "shape")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    (tmp_path / "huge.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(WeightsError, match="268,435,456"):
        OnnxDetector.load(tmp_path / "huge.onnx")
