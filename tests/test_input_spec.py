"""Images of any size fitted to one, and what a spec refuses."""

import json

import numpy as np
import pytest

from facewright.errors import UnknownName, UsageError
from facewright.input_spec import InputSpec

HALF = (0.5, 0.5, 0.5)


def photo(height: int = 48, width: int = 64, seed: int = 0) -> np.ndarray:
    """Smooth colours with a little noise, so that lossy formats stay near."""
    y, x = np.mgrid[:height, :width]
    planes = np.stack([255 * x / width, 255 * y / height, 128 + 60 * np.sin((x + y) / 9)], axis=2)
    return np.clip(planes + np.random.default_rng(seed).normal(0, 3, planes.shape), 0, 255).astype(np.uint8)


def spec(height: int = 8, width: int = 8, resize: str = "cover") -> InputSpec:
    return InputSpec(height, width, HALF, HALF, resize=resize)


def test_an_image_that_fits_is_left_alone():
    image = photo(8, 12)
    for resize in ("stretch", "cover", "pad"):
        assert (spec(8, 12, resize).fit(image) == image).all()


@pytest.mark.parametrize("resize", ["stretch", "cover", "pad"])
@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (30, 40), (7, 9), (900, 700)])
def test_any_size_is_fitted(resize, size):
    fitted = spec(16, 24, resize).fit(photo(*size))
    assert fitted.shape == (16, 24, 3)
    assert fitted.dtype == np.uint8
    assert fitted.flags.c_contiguous


def stripes() -> np.ndarray:
    """40 x 80: red, then 40 columns of green in the middle, then blue."""
    image = np.zeros((40, 80, 3), np.uint8)
    image[:, :20, 0] = image[:, 20:60, 1] = image[:, 60:, 2] = 255
    return image


def test_the_three_rules_of_resizing():
    covered = spec(20, 20, "cover").fit(stripes())
    assert (covered[:, 2:-2] == (0, 255, 0)).all()  # the centre square is green
    stretched = spec(20, 20, "stretch").fit(stripes())
    assert (stretched[:, :3] == (255, 0, 0)).all()
    assert (stretched[:, -3:] == (0, 0, 255)).all()
    padded = spec(20, 20, "pad").fit(stripes())
    assert (padded[:5] == 128).all()
    assert (padded[15:] == 128).all()
    assert (padded[5:15, :3] == (255, 0, 0)).all()


def test_shrinking_is_antialiased():
    fine = np.zeros((64, 64, 3), np.uint8)
    fine[::2] = 255
    assert np.abs(spec(8, 8).fit(fine).astype(int) - 128).max() <= 8


def test_the_key_is_what_decides_the_stored_pixels():
    other = InputSpec(8, 8, (0, 0, 0), (1, 1, 1), colour_order="bgr")
    assert spec().key() == other.key() == "8x8-cover"
    assert len({spec().key(), spec(9).key(), spec(8, 9).key(), spec(resize="pad").key()}) == 4


def test_a_spec_survives_json():
    original = InputSpec(112, 96, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "bgr", "pad", 0.45, True)
    assert InputSpec.from_dict(json.loads(json.dumps(original.to_dict()))) == original


def test_a_spec_of_an_older_file_keeps_everything_and_flips_nothing():
    older = {key: value for key, value in spec().to_dict().items() if key not in ("crop", "flip")}
    assert InputSpec.from_dict(older) == spec()


@pytest.mark.parametrize("resize", ["stretch", "cover", "pad"])
def test_a_crop_keeps_the_centre(resize):
    image = photo(50, 70)
    cropped = InputSpec(16, 24, HALF, HALF, resize=resize, crop=0.5)
    assert (cropped.fit(image) == spec(16, 24, resize).fit(image[12:37, 17:52])).all()
    assert cropped.key() == f"16x24-{resize}-0.5"  # other pixels are stored
    least = InputSpec(8, 8, HALF, HALF, resize=resize, crop=1e-6)
    assert least.fit(photo(1, 3)).shape == (8, 8, 3)  # one pixel at least


def test_a_crop_of_an_image_that_then_fits_is_its_very_pixels():
    image = photo(16, 24)
    assert (InputSpec(8, 12, HALF, HALF, crop=0.5).fit(image) == image[4:12, 6:18]).all()


GOOD = {"height": 8, "width": 8, "mean": [0, 0, 0], "std": [1, 1, 1]}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"hight": 8}, UnknownName, "did you mean 'height'"),
        ({"resize": "crop"}, UnknownName, "unknown resize rule"),
        ({"colour_order": "rbg"}, UnknownName, "unknown colour order"),
        ({"height": 0}, UsageError, "at least 1 pixel"),
        ({"width": 8.0}, UsageError, "at least 1 pixel"),
        ({"mean": [0, 0]}, UsageError, "mean of three numbers"),
        ({"mean": "000"}, UsageError, "lists of three numbers"),
        ({"std": [1, 1, 0]}, UsageError, "std of three numbers"),  # would divide by zero
        ({"std": [1, 1, float("nan")]}, UsageError, "std of three numbers"),
        ({"crop": 0}, UsageError, "share of a side"),
        ({"crop": 1.01}, UsageError, "share of a side"),
        ({"crop": float("nan")}, UsageError, "share of a side"),
        ({"crop": True}, UsageError, "share of a side"),
        ({"flip": 1}, UsageError, "flip of true or false"),
    ],
)
def test_a_wrong_spec_is_refused(change, error, message):
    with pytest.raises(error, match=message):
        InputSpec.from_dict(GOOD | change)


def test_a_spec_needs_its_numbers():
    with pytest.raises(UsageError, match="missing: width, std"):
        InputSpec.from_dict({"height": 8, "mean": [0, 0, 0]})
