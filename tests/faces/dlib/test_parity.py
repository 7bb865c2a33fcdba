"""The built-in face networks against dlib itself, on real photos: the same numbers.

Wants ../shared/data and the development dependency dlib-bin; `benchmarks/face_stack.py` does the same on more photos.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from facewright import images
from facewright.faces.alignment import align_face
from facewright.faces.dlib import files as dlib_files
from facewright.faces.dlib.detection import FaceDetector, FivePoints
from facewright.faces.dlib.graphs import FaceVectors

PHOTOS = Path(__file__).parents[3] / "../shared/data/lfw_view1_train/images"
FEW = 12  # photos: a minute of dlib otherwise

pytestmark = pytest.mark.realdata


@pytest.fixture(scope="module")
def dlib() -> Any:
    if not PHOTOS.is_dir():
        pytest.skip("wants ../shared/data/lfw_view1_train")
    return pytest.importorskip("dlib", reason="wants the development dependency dlib-bin")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def faces(dlib: Any) -> list[tuple[images.Pixels, Any]]:
    """Photos with the faces that dlib's HOG detector finds in them."""
    detector = dlib.get_frontal_face_detector()
    photos = [images.read(path) for path in sorted(PHOTOS.rglob("*.jpg"))[:: 3400 // FEW][:FEW]]
    return [(photo, box) for photo in photos for box in detector(photo)]


@pytest.mark.parametrize("growth", [1, 3, 7])  # a chip of a large face is taken from a photo that was halved
def test_landmarks_and_chips_are_dlibs(
    dlib: Any, cache: Path, faces: list[tuple[images.Pixels, Any]], growth: int
) -> None:
    assert len(faces) >= FEW / 2
    ours = FivePoints.load(cache=cache)
    theirs = dlib.shape_predictor(str(dlib_files.package_file(dlib_files.FIVE_POINTS)))
    for small, face in faces:
        photo = np.asarray(Image.fromarray(small).resize((growth * small.shape[1], growth * small.shape[0])))
        box = dlib.rectangle(*(growth * side for side in (face.left(), face.top(), face.right(), face.bottom())))
        shape = theirs(photo, box)
        wanted = np.array([[part.x, part.y] for part in shape.parts()])
        found = ours.of(photo, [[box.left(), box.top(), box.width(), box.height()]])
        np.testing.assert_allclose(found[0], wanted, atol=0.5)
        np.testing.assert_array_equal(align_face(photo, wanted), dlib.get_face_chip(photo, shape, 150, 0.25))


def test_embeddings_are_dlibs(dlib: Any, cache: Path, faces: list[tuple[images.Pixels, Any]]) -> None:
    theirs = dlib.face_recognition_model_v1(str(dlib_files.package_file(dlib_files.EMBEDDING)))
    points = FivePoints.load(cache=cache)
    chips = []
    for photo, box in faces[:6]:
        (found,) = points.of(photo, [[box.left(), box.top(), box.width(), box.height()]])
        chips.append(align_face(photo, found))
    ours = FaceVectors.load(cache=cache).of(np.stack(chips))
    wanted = np.array([theirs.compute_face_descriptor(cut) for cut in chips])
    assert np.linalg.norm(ours - wanted, axis=1).max() < 1e-4


def test_the_detectors_boxes_are_dlibs(dlib: Any, cache: Path) -> None:
    ours = FaceDetector.load(cache=cache)
    theirs = dlib.cnn_face_detection_model_v1(str(dlib_files.package_file(dlib_files.DETECTOR)))
    for path in sorted(PHOTOS.rglob("*.jpg"))[5:3000:600]:
        photo = images.read(path)
        wanted = sorted(theirs(photo, 0), key=lambda found: -found.confidence)
        boxes, scores = ours.find(photo)
        rectangles = [[face.rect.left(), face.rect.top(), face.rect.width(), face.rect.height()] for face in wanted]
        np.testing.assert_array_equal(boxes, np.array(rectangles).reshape(-1, 4))
        np.testing.assert_allclose(scores, [face.confidence for face in wanted], atol=1e-3)
