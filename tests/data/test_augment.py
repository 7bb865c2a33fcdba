"""Augmentation of whole batches: exact cases, distributions, and independence from the batch and the threads."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats

from facewright.data.augment import Augment, affine, apply, draws, mix, mixing_draws, normalise, resize
from facewright.errors import UsageError
from facewright.input_spec import InputSpec


def changed(augment: Augment, **values: Any) -> Augment:
    return augment.model_copy(update=values)


STILL = Augment(flip=0.0)
EVERYTHING = Augment(
    area=(0.7, 1.1),
    aspect=0.1,
    rotation=10,
    zoom=0.1,
    translate=0.06,
    brightness=0.3,
    contrast=0.3,
    saturation=0.3,
    grey=0.1,
    erase=0.5,
    blur=0.5,
    low_resolution=0.5,
    noise=0.5,
    jpeg=0.5,
)
RANDOM_RESIZED_CROP = Augment(area=(0.08, 1.0), aspect=math.log(4 / 3), crop="inside")


def _smooth(count: int, height: int = 40, width: int = 40, seed: int = 0) -> torch.Tensor:
    """Random smooth images, (count, 3, height, width) uint8 in channels_last memory, as the store gives them."""
    coarse = torch.rand(count, 3, 6, 6, generator=torch.Generator().manual_seed(seed)) * 255
    fine = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 255)
    return fine.to(torch.uint8).contiguous(memory_format=torch.channels_last)


def _run(batch: torch.Tensor, augment: Augment, size: int, seed: int = 0) -> torch.Tensor:
    return apply(batch, draws(seed, 0, np.arange(len(batch))), augment, size)


def _at(value: float, augment: Augment, count: int = 1) -> NDArray[np.float32]:
    """Draws that are all the same: 0 the low end of every range, near 1 the high end, 0.5 the middle."""
    return np.full_like(draws(0, 0, np.arange(count)), value)


def test_doing_nothing_changes_nothing() -> None:
    batch = _smooth(9)
    assert torch.equal(_run(batch, STILL, 40), batch)


@pytest.mark.parametrize("size", [20, 28, 56])
def test_doing_nothing_at_another_size_only_resizes(size: int) -> None:
    batch = _smooth(9)
    assert torch.equal(_run(batch, STILL, size), resize(batch, size, size))


def test_resampling_in_place_is_exact() -> None:
    # The geometry runs (rotation is asked for) but every draw is the middle of its range.
    augment = changed(STILL, rotation=30, zoom=0.3, translate=0.2)
    batch = _smooth(5)
    assert torch.equal(apply(batch, _at(0.5, augment, 5), augment, 40), batch)


@pytest.mark.parametrize("augment", [Augment(flip=1.0), Augment(flip=1.0, rotation=1e-9)])
def test_mirroring_is_exact(augment: Augment) -> None:
    batch = _smooth(5)
    assert torch.equal(_run(batch, augment, 40), batch.flip(3))


@pytest.mark.parametrize("size", [20, 32, 40, 64])
@pytest.mark.parametrize("augment", [STILL, Augment(), EVERYTHING, RANDOM_RESIZED_CROP])
def test_result_is_uint8_channels_last(augment: Augment, size: int) -> None:
    result = _run(_smooth(3), augment, size)
    assert result.shape == (3, 3, size, size)
    assert result.dtype == torch.uint8
    assert result.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("size", [24, 40, 56])
@pytest.mark.parametrize("augment", [EVERYTHING, changed(RANDOM_RESIZED_CROP, contrast=0.4, erase=1.0)])
def test_an_image_does_not_depend_on_its_neighbours(augment: Augment, size: int) -> None:
    batch, images = _smooth(150), np.arange(150)
    together = apply(batch, draws(1, 2, images), augment, size)
    order = np.random.default_rng(0).permutation(150)
    apart = torch.empty_like(together)
    for part in np.split(order, [1, 2, 5, 12, 29, 60, 99]):
        apart[part] = apply(batch[part], draws(1, 2, images[part]), augment, size)
    assert torch.equal(together, apart)


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_threads_and_memory_format_do_not_matter(memory: torch.memory_format) -> None:
    batch = _smooth(40, 112, 112)
    expected = _run(batch, EVERYTHING, 112)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert torch.equal(_run(batch.contiguous(memory_format=memory), EVERYTHING, 112), expected)
    finally:
        torch.set_num_threads(before)


def test_input_is_left_alone() -> None:
    batch = _smooth(3)
    before = batch.clone()
    _run(batch, EVERYTHING, 40)
    assert torch.equal(batch, before)


def _dot(row: int, column: int, side: int = 41) -> torch.Tensor:
    """Black but for a white 3 x 3 square around one pixel."""
    image = torch.zeros(1, 3, side, side, dtype=torch.uint8)
    image[:, :, row - 1 : row + 2, column - 1 : column + 2] = 255
    return image


def _centre(image: torch.Tensor) -> tuple[float, float]:
    """Row and column of the white square's middle."""
    weights = image[0, 0].double()
    places = torch.arange(len(weights), dtype=torch.float64)
    return tuple(float((weights.sum(axis) * places).sum() / weights.sum()) for axis in (1, 0))  # type: ignore[return-value]


# What is done, which end of its range -> where the square at row 14, column 20 (of 41, middle 20) goes.
MOVES = [
    # what is shown lies 0.1 x 41 px further to the right and down, so the square goes left and up
    (changed(STILL, translate=0.1), 1.0, (14 - 4.1, 20 - 4.1)),
    # half the side is shown: twice the distance from the middle
    (changed(STILL, zoom=0.5), 0.0, (20 - 6 * 2, 20)),
    (changed(STILL, area=(0.25, 1.0)), 0.0, (20 - 6 * 2, 20)),
    # what is shown turns clockwise by 90 degrees: the square above the middle comes to its left
    (changed(STILL, rotation=90), 1.0, (20, 14)),
    # what is shown becomes 2.25 times as wide as high, the area stays: distances up grow by its root
    (changed(STILL, aspect=math.log(2.25)), 1.0, (20 - 6 * 1.5, 20)),
]


@pytest.mark.parametrize(("augment", "value", "expected"), MOVES)
def test_direction_of_moves(augment: Augment, value: float, expected: tuple[float, float]) -> None:
    moved = apply(_dot(14, 20), _at(value, augment), augment, 41)
    assert _centre(moved) == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize("value", [0.0, 0.2, 0.7, 1.0])
def test_rotation_keeps_the_centre(value: float) -> None:
    augment = changed(STILL, rotation=180)
    assert _centre(apply(_dot(20, 20), _at(value, augment), augment, 41)) == pytest.approx((20, 20), abs=0.05)


def test_rotation_does_not_shear_images_that_are_no_squares() -> None:
    augment = changed(STILL, rotation=90)
    theta = affine(_at(1.0, augment).T.astype(np.float64), augment, tallness=2.0)[0]
    # In pixels (half sides 1 wide, 2 high) the map must be a rotation after the stretch to the square.
    pixels = np.diag([1.0, 2.0]) @ theta[:, :2] @ np.diag([1.0, 0.5])
    assert pixels @ pixels.T == pytest.approx(np.eye(2))


def test_outside_is_the_reflection() -> None:
    augment = changed(STILL, translate=0.5)
    ramp = torch.arange(0, 160, 4, dtype=torch.uint8).expand(1, 3, 40, 40)
    moved = apply(ramp, _at(1.0, augment), augment, 40)[0, 0, 0]
    assert torch.equal(moved, torch.cat([ramp[0, 0, 0, 20:], ramp[0, 0, 0, 20:].flip(0)]))


def test_reducing_does_not_alias() -> None:
    stripes = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    stripes[..., ::2] = 254
    for augment in (STILL, changed(STILL, rotation=1e-9)):
        assert (_run(stripes, augment, 16)[:, :, :, 1:-1].int() - 127).abs().max() <= 2


# Colour at the high end of its range on an image of two halves (60, 100, 20) and (100, 140, 60), mean 80
# -> the first half.
COLOURS = [
    (changed(STILL, brightness=0.5), (90, 150, 30)),
    (changed(STILL, contrast=0.5), (50, 110, -10)),
    (
        changed(STILL, saturation=0.5),
        tuple(0.5 * (3 * v - (0.299 * 60 + 0.587 * 100 + 0.114 * 20)) for v in (60, 100, 20)),
    ),
    (changed(STILL, brightness=0.5, contrast=0.5), (75, 165, -15)),
]


def _halves() -> torch.Tensor:
    left, right = (torch.tensor(colour, dtype=torch.uint8) for colour in ((60, 100, 20), (100, 140, 60)))
    return torch.cat([c[None, :, None, None].expand(1, 3, 8, 4) for c in (left, right)], dim=3)


@pytest.mark.parametrize(("augment", "expected"), COLOURS)
def test_colour(augment: Augment, expected: tuple[float, ...]) -> None:
    result = apply(_halves(), _at(1.0, augment), augment, 8)[0, :, 0, 0]
    assert result.tolist() == [round(min(max(value, 0), 255)) for value in expected]


def test_grey() -> None:
    result = _run(_smooth(4), Augment(flip=0.0, grey=1.0), 40)
    assert torch.equal(result[:, 0], result[:, 1])
    assert torch.equal(result[:, 0], result[:, 2])
    assert result[:, 0].float().std() > 10


def test_values_are_clamped_not_wrapped() -> None:
    augment = changed(STILL, brightness=1.0)
    white = torch.full((1, 3, 8, 8), 250, dtype=torch.uint8)
    assert apply(white, _at(1.0, augment), augment, 8).min() == 255
    assert apply(white, _at(0.0, augment), augment, 8).max() == 0


def test_erasing_covers_a_rectangle_of_the_mean_colour() -> None:
    augment = Augment(flip=0.0, erase=1.0, erase_area=(0.02, 0.2))
    batch = _smooth(400)
    result = _run(batch, augment, 40)
    means = batch.double().mean((2, 3)).round()
    shares = []
    for before, after, mean in zip(batch, result, means, strict=True):
        changed = (before != after).any(0)
        rows, columns = torch.nonzero(changed.any(1)).flatten(), torch.nonzero(changed.any(0)).flatten()
        box = after[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].double()
        assert torch.equal(box, mean[:, None, None].expand_as(box))
        shares.append(box[0].numel() / 1600)
    assert 0.015 < min(shares) < 0.03
    assert 0.18 < max(shares) < 0.22
    assert np.mean(shares) == pytest.approx(0.11, abs=0.01)


def test_erasing_happens_as_often_as_asked() -> None:
    augment = Augment(flip=0.0, erase=0.25)
    batch = _smooth(1, 16, 16).expand(3000, 3, 16, 16)
    changed = (_run(batch, augment, 16) != batch).flatten(1).any(1).double().mean()
    assert float(changed) == pytest.approx(0.25, abs=5 * (0.25 * 0.75 / 3000) ** 0.5)


def test_mirroring_happens_as_often_as_asked() -> None:
    uniforms = draws(0, 0, np.arange(20_000))[:, 0]
    assert np.mean(uniforms < 0.5) == pytest.approx(0.5, abs=5 * 0.5 / 20_000**0.5)


def _shown(augment: Augment, count: int = 20_000) -> tuple[NDArray[Any], ...]:
    """Width, height, shift across, shift down of what is shown, (count,) each."""
    theta = affine(draws(0, 0, np.arange(count)).T.astype(np.float64), augment, 1.0)
    return theta[:, 0, 0], theta[:, 1, 1], theta[:, 0, 2], theta[:, 1, 2]


def test_centre_crop_distribution() -> None:
    width, height, across, down = _shown(Augment(area=(0.7, 1.1), aspect=0.1, translate=0.06))
    for values, low, high in [
        (width * height, 0.7, 1.1),
        (np.log(width / height), -0.1, 0.1),
        (across, -0.12, 0.12),
        (down, -0.12, 0.12),
    ]:
        assert stats.kstest((values - low) / (high - low), "uniform").pvalue > 1e-4
    assert np.abs(np.corrcoef([width * height, width / height, across, down])[np.triu_indices(4, 1)]).max() < 0.04


def test_inside_crop_is_the_random_resized_crop() -> None:
    width, height, across, down = _shown(RANDOM_RESIZED_CROP)
    assert ((1 - width) - np.abs(across)).min() > -1e-9  # never outside
    assert ((1 - height) - np.abs(down)).min() > -1e-9
    generator = np.random.default_rng(0)  # the definition, one box at a time
    sides = np.array([_one_box(generator) for _ in range(20_000)])
    for ours, theirs in [(width, sides[:, 0]), (height, sides[:, 1]), (width * height, sides.prod(1))]:
        assert stats.ks_2samp(ours, theirs).pvalue > 1e-4
    part = width < 0.99
    assert stats.kstest((across / (1 - width))[part] / 2 + 0.5, "uniform").pvalue > 1e-4


def _one_box(generator: np.random.Generator) -> tuple[float, float]:
    for _ in range(10):
        area, ratio = generator.uniform(0.08, 1.0), math.exp(generator.uniform(math.log(3 / 4), math.log(4 / 3)))
        if max(area * ratio, area / ratio) <= 1:
            return math.sqrt(area * ratio), math.sqrt(area / ratio)
    return 1.0, 1.0


def test_draws_belong_to_the_image() -> None:
    whole = draws(5, 6, np.arange(50))
    assert np.array_equal(draws(5, 6, np.array([31, 7])), whole[[31, 7]])
    assert whole.dtype == np.float32
    assert whole.min() >= 0
    assert whole.max() < 1
    for other in (draws(4, 6, np.arange(50)), draws(5, 7, np.arange(50))):
        assert np.mean(other == whole) < 0.01


# (what is wrong, what the message names)
BAD = [
    ({"flip": 1.5}, "flip"),
    ({"flip": float("nan")}, "flip"),
    ({"rotation": 200}, "rotation"),
    ({"zoom": -0.1}, "zoom"),
    ({"translate": 2}, "translate"),
    ({"brightness": -1}, "brightness"),
    ({"aspect": 3}, "aspect"),
    ({"area": (0.0, 1.0)}, "area"),
    ({"area": (1.0, 0.5)}, "area"),
    ({"area": (0.5, 1.1), "crop": "inside"}, "area"),
    ({"area": (0.5,)}, "area"),
    ({"erase_area": (0.5, 1.0)}, "erase_area"),
    ({"crop": "left"}, "crop"),
]


@pytest.mark.parametrize(("fields", "named"), BAD)
def test_a_value_out_of_range_is_named(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        Augment.from_dict(fields)


def test_apply_refuses_other_images() -> None:
    with pytest.raises(UsageError, match="uint8"):
        apply(torch.zeros(1, 3, 8, 8), _at(0.5, STILL), STILL, 8)
    with pytest.raises(UsageError, match="uint8"):
        apply(torch.zeros(1, 1, 8, 8, dtype=torch.uint8), _at(0.5, STILL), STILL, 8)
    with pytest.raises(UsageError, match="row of draws"):
        apply(_smooth(2), _at(0.5, STILL), STILL, 8)


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_normalise(order: str) -> None:
    spec = InputSpec(40, 40, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3), colour_order=order)  # type: ignore[arg-type]
    batch = _smooth(4)
    mean, std = (torch.tensor(v, dtype=torch.float64)[None, :, None, None] for v in (spec.mean, spec.std))
    expected = (batch.double() / 255 - mean) / std
    result = normalise(batch, spec)
    assert result.dtype == torch.float32
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(result.double(), expected if order == "rgb" else expected.flip(1), atol=1e-6)
    assert torch.equal(normalise(batch[1:2], spec), result[1:2])
    assert torch.equal(normalise(batch.contiguous(), spec), result)


def _labelled(count: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    values = torch.arange(count, dtype=torch.float32)
    return values[:, None, None, None].expand(count, 3, 16, 16).clone(), torch.eye(count)


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_mixing_gives_images_and_targets_the_same_shares(kind: Any) -> None:
    images, targets = _labelled()
    for step in range(20):
        mixed, shares = mix(images, targets, 0.8, kind, mixing_draws(0, 0, step))
        assert torch.allclose(shares.sum(1), torch.ones(6))
        # Each image's value is its number: the mean of a mixed one is the mean number under its target.
        assert torch.allclose(mixed.mean((1, 2, 3)), shares @ torch.arange(6.0), atol=1e-4)
    assert torch.equal(images, _labelled()[0])  # not changed in place


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_mixing_is_a_function_of_seed_epoch_and_step(kind: Any) -> None:
    images, targets = _labelled()
    first, again, *others = (
        mix(images, targets, 1.0, kind, mixing_draws(*key))[0]
        for key in [(1, 2, 3), (1, 2, 3), (0, 2, 3), (1, 0, 3), (1, 2, 4)]
    )
    assert torch.equal(first, again)
    assert not any(torch.equal(first, other) for other in others)


def test_share_of_mixup_follows_the_beta_distribution() -> None:
    images, targets = torch.zeros(2, 3, 2, 2), torch.eye(2)
    shares = [float(mix(images, targets, 0.4, "mixup", mixing_draws(0, 0, step))[1][0, 0]) for step in range(1500)]
    mixed = [share for share in shares if share < 1]  # an image can be its own partner
    assert stats.kstest(mixed, stats.beta(0.4, 0.4).cdf).pvalue > 1e-4


def test_mixing_keeps_memory_format() -> None:
    images, targets = _labelled()
    mixed, _ = mix(images.contiguous(memory_format=torch.channels_last), targets, 1.0, "mixup", mixing_draws(0, 0, 0))
    assert mixed.is_contiguous(memory_format=torch.channels_last)


def test_mixing_refuses() -> None:
    with pytest.raises(UsageError, match="alpha"):
        mix(*_labelled(), 0.0, "mixup", mixing_draws(0, 0, 0))
    with pytest.raises(UsageError, match="mixup"):
        mix(*_labelled(), 1.0, "blend", mixing_draws(0, 0, 0))  # type: ignore[arg-type]


def test_turning_upside_down_mirrors_the_rows() -> None:
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 3, 12, 12), np.uint8))
    still = changed(STILL, flip_vertical=1.0)
    assert torch.equal(apply(images, draws(0, 0, np.arange(3)), still, 12), images.flip(2))
    moved = changed(STILL, flip_vertical=1.0, area=(0.999999, 1.0))  # resampled, hardly moved
    turned = apply(images, draws(0, 0, np.arange(3)), moved, 12)
    assert (turned.int() - images.flip(2).int()).abs().max() <= 1
    half = changed(STILL, flip_vertical=0.5)
    many = images[:1].repeat(400, 1, 1, 1)
    upside = (apply(many, draws(0, 0, np.arange(400)), half, 12) == images[:1].flip(2)).flatten(1).all(1)
    assert 160 < int(upside.sum()) < 240


def test_added_brightness_and_factors_as_tensorflow_has_them() -> None:
    images = torch.from_numpy(np.random.default_rng(1).integers(90, 160, (5, 3, 6, 6), np.uint8))
    augment = changed(STILL, brightness_shift=0.2, contrast_range=(0.5, 2.0), saturation_range=(0.5, 2.0))
    drawn = draws(3, 0, np.arange(5)).astype(np.float64)
    found = apply(images, drawn.astype(np.float32), augment, 6)
    for image, row, result in zip(images.numpy().astype(float), drawn, found.numpy(), strict=True):
        shift, contrast, saturation = row[-3:]
        factor = 0.5 + 1.5 * contrast
        value = (image - image.mean()) * factor + image.mean()  # around the image's mean
        grey = 0.299 * value[0] + 0.587 * value[1] + 0.114 * value[2]
        value = grey + (0.5 + 1.5 * saturation) * (value - grey) + 255 * 0.2 * (2 * shift - 1)
        assert np.abs(np.clip(value, 0, 255) - result).max() <= 0.51


@pytest.mark.parametrize(
    "wrong", [{"contrast_range": (2.0, 0.5)}, {"saturation_range": (0.5, 99.0)}, {"flip_vertical": 2}]
)
def test_factors_rise_and_have_bounds(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        Augment.from_dict(wrong)
