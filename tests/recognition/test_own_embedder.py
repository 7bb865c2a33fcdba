"""A recogniser over an embedder of one's own: photos taken whole as `Embedder` does, or faces that are cut out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facewright import images
from facewright.embedding import Embedder
from facewright.errors import UsageError
from facewright.faces.alignment import ARCFACE, ARCFACE_CORNERS, DLIB, align_face
from facewright.faces.detectors import Located
from facewright.faces.dlib.graphs import Source
from facewright.faces.selection import NO_LIMITS
from facewright.metrics.thresholds import choose_threshold
from facewright.recognition import Recognizer
from fixtures.faces import SIDE, saved, small_bundle

PHOTO = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
BOX = (20.0, 10.0, 60.0, 60.0)
MIDDLES = np.array([[40, 30], [60, 30], [50, 42], [42, 52], [58, 52]], np.float64)  # as ArcFace's template has them


class FakePoints:
    def of(self, photo: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        return np.array(DLIB.points) * boxes[:, None, 2:] + boxes[:, None, :2]


class FakeDetector:
    """One face, with or without points."""

    name, digest, limits = "fake", "f" * 16, NO_LIMITS

    def __init__(self, points: np.ndarray | None = None) -> None:
        self.points = None if points is None else points[None]

    def locate(self, photo: np.ndarray, sizes: object) -> Located:
        box = np.array([BOX])
        return Located(box, (0.9,), box, self.points)

    def every(self, photo: np.ndarray, smallest: float | None, turned: bool) -> Located:
        return self.locate(photo, (smallest,))


@pytest.fixture
def cutting(monkeypatch: pytest.MonkeyPatch) -> Recognizer:
    """Finds one face and cuts it out; dlib's files stand for their names alone."""
    monkeypatch.setattr(Source, "digest", lambda source: source.name)
    made = Recognizer(Embedder(small_bundle()), detector="dlib")
    vars(made).update(_detector=FakeDetector(), _points=FakePoints())
    return made


@pytest.mark.parametrize(("crop", "flip"), [(None, None), (0.5, True)])
def test_taken_whole_it_is_the_embedder(tmp_path: Path, crop: float | None, flip: bool | None) -> None:
    model, path = saved(tmp_path), tmp_path / "a.png"
    Image.fromarray(PHOTO).save(path)
    embedder, own = Embedder.load(model, crop=crop, flip=flip), Recognizer.load(model, crop=crop, flip=flip)
    assert (own.detector, own.name, own.width, own.template) == ("none", str(model), embedder.width, None)
    assert own.fingerprint == embedder.fingerprint  # galleries and thresholds of before stay good
    (face,) = own.faces(own.read(path))
    assert face.box == (0, 0, 120, 90) and face.score is None and face.points.shape == (0, 2)
    np.testing.assert_array_equal(face.chip, embedder.spec.fit(images.read(path)))
    np.testing.assert_array_equal(own.embed([face])[0], embedder.of_files([path])[0].vector)
    assert own.faces(PHOTO[:5, :5])[0].chip.shape == (SIDE, SIDE, 3)  # however small
    with pytest.raises(UsageError, match="taken whole"):
        own.faces(PHOTO, template=DLIB)


def test_a_face_is_cut_by_its_points_and_fitted_to_the_network(cutting: Recognizer) -> None:
    (face,) = cutting.faces(PHOTO)
    points = FakePoints().of(PHOTO, np.array([BOX]))[0]
    np.testing.assert_array_equal(face.points, points)
    np.testing.assert_array_equal(face.chip, cutting.spec.fit(align_face(PHOTO, points, template=ARCFACE_CORNERS)))
    np.testing.assert_allclose(cutting.embed([face]), cutting.embed([face, face])[:1], atol=1e-6)
    assert cutting.faces(PHOTO, template=DLIB)[0].chip.shape == (150, 150, 3)


def test_points_of_the_detector_itself_are_taken_for_arcface_s_chips(cutting: Recognizer) -> None:
    vars(cutting).update(_detector=FakeDetector(MIDDLES))
    (face,) = cutting.faces(PHOTO)
    np.testing.assert_array_equal(face.points, MIDDLES)
    np.testing.assert_array_equal(face.chip, cutting.spec.fit(align_face(PHOTO, MIDDLES, template=ARCFACE)))
    (other,) = cutting.faces(PHOTO, template=DLIB)  # which are no middles of eyes
    np.testing.assert_array_equal(other.points, FakePoints().of(PHOTO, np.array([BOX]))[0])


def test_the_fingerprint_is_of_all_between_photo_and_vector(
    cutting: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of(seed: int = 0, digest: str = FakeDetector.digest) -> str:
        made, detector = Recognizer(Embedder(small_bundle(seed=seed)), detector="dlib"), FakeDetector()
        detector.digest = digest
        vars(made).update(_detector=detector)
        return made.fingerprint

    assert of() == cutting.fingerprint != Embedder(small_bundle()).fingerprint
    before = of()
    assert len({before, of(seed=1), of(digest="0" * 16)}) == 3
    monkeypatch.setattr(Source, "digest", lambda source: "other landmarks")
    assert of() != before


def test_chips_of_another_template_are_refused(cutting: Recognizer) -> None:
    with pytest.raises(UsageError, match=r"40, 40, 3.*150"):
        cutting.embed(cutting.faces(PHOTO, template=DLIB))
    assert cutting.embed([]).shape == (0, cutting.width)


def test_the_built_in_networks_have_no_crop_and_no_flip() -> None:
    for wrong in ({"crop": 0.5}, {"flip": True}):
        with pytest.raises(UsageError, match="leave out"):
            Recognizer.load("built-in", **wrong)  # type: ignore[arg-type]
    assert Recognizer.load("built-in", crop=1.0, flip=False).name == Recognizer.load().name == "built-in"


def test_a_threshold_belongs_to_a_detector(tmp_path: Path) -> None:
    for name, size in (("a", 90), ("b", 80)):
        Image.fromarray(PHOTO[:size]).save(tmp_path / f"{name}.png")
    plain = Recognizer(Embedder(small_bundle()))
    genuine, impostor = [0.9, 0.8, 0.7, 0.4] * 5, [0.5, 0.3, 0.2, 0.1] * 5
    mine = choose_threshold(genuine, impostor, 0.5, "a test").replace(fingerprint=plain.fingerprint)
    theirs = choose_threshold(genuine, impostor, 0.25, "a test").replace(fingerprint="0" * 32, detector="dlib")
    bundle = replace(small_bundle(), thresholds=(mine, theirs))
    both, found = Recognizer(Embedder(bundle)), [tmp_path / "a.png", tmp_path / "b.png"]
    assert both.thresholds() == (mine,)  # the one of the other detector has not taken its place
    answer = both.verify(*found)
    assert answer.same is not None and answer.decided_with is None and answer.detector == "none"
    other = Recognizer(Embedder(replace(small_bundle(), thresholds=(theirs,)))).verify(*found)
    assert other.same is None and other.score == answer.score and other.decided_with == "dlib"
    assert other.to_dict()["decided_with"] == "dlib" and other.to_dict()["a"]["faces"] == 1
