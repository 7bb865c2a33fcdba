"""Degraded images: each against Pillow or NumPy by itself, and independent of the batch."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from facewright.data.augment import apply, draws
from facewright.errors import UsageError
from facewright.specs import Augment

SIDE = 48


@pytest.fixture(scope="module")
def faces() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(6, 3, 7, 7, generator=generator) * 255
    fine = torch.nn.functional.interpolate(coarse, size=(SIDE, SIDE), mode="bicubic").clamp(0, 255)
    return fine.to(torch.uint8).contiguous(memory_format=torch.channels_last)


def degraded(batch: torch.Tensor, seed: int = 0, epoch: int = 0, rows: Any = None, **chosen: Any) -> torch.Tensor:
    augment = Augment(flip=0.0, **chosen)
    rows = np.arange(len(batch)) if rows is None else rows
    return apply(batch, draws(seed, epoch, rows), augment, SIDE)


def images_of(batch: torch.Tensor) -> list[Image.Image]:
    return [Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()) for image in batch]


def saved(image: Image.Image, quality: int) -> Image.Image:
    content = io.BytesIO()
    image.save(content, "JPEG", quality=quality)
    return Image.open(content).convert("RGB")


CASES = {
    "blur": ({"blur": 1.0, "blur_sigma": (0.02, 0.02)}, lambda image: image.filter(ImageFilter.GaussianBlur(0.96))),
    "low resolution": (
        {"low_resolution": 1.0, "low_resolution_scale": (0.25, 0.25)},
        lambda image: image.resize((12, 12), Image.Resampling.BOX).resize((SIDE, SIDE), Image.Resampling.BICUBIC),
    ),
    "JPEG": ({"jpeg": 1.0, "jpeg_quality": (30, 30)}, lambda image: saved(image, 30)),
    "in the order of a camera": (
        {"blur": 1.0, "blur_sigma": (0.02, 0.02), "jpeg": 1.0, "jpeg_quality": (30, 30)},
        lambda image: saved(image.filter(ImageFilter.GaussianBlur(0.96)), 30),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_each_is_what_pillow_makes(name: str, faces: torch.Tensor) -> None:
    chosen, expected = CASES[name]
    found = degraded(faces, **chosen)
    for image, before in zip(images_of(found), images_of(faces), strict=True):
        assert np.array_equal(np.asarray(image), np.asarray(expected(before)))
    assert not torch.equal(found, faces)


def test_noise_has_its_standard_deviation_and_is_another_for_each_image() -> None:
    grey = torch.full((40, 3, SIDE, SIDE), 128, dtype=torch.uint8)
    difference = degraded(grey, noise=1.0, noise_std=(5.0, 5.0)).double() - 128
    # 276,480 values: the standard error of the std is 5 / sqrt(2 n) = 0.007; rounding adds 1/12 to the variance.
    assert difference.std().item() == pytest.approx((25 + 1 / 12) ** 0.5, abs=0.04)
    assert abs(difference.mean().item()) < 0.05
    assert not torch.equal(difference[0], difference[1])


def test_strengths_lie_in_their_ranges(faces: torch.Tensor) -> None:
    many = torch.full((200, 3, SIDE, SIDE), 128, dtype=torch.uint8)
    stds = (degraded(many, noise=1.0, noise_std=(2.0, 8.0)).double() - 128).flatten(1).std(1)
    assert 1.9 < stds.min() < 2.5 and 7.5 < stds.max() < 8.2
    some = degraded(many, noise=0.3, noise_std=(9.0, 9.0))
    changed = (some != many).flatten(1).any(1).sum()
    assert 35 < changed < 85  # 200 * 0.3, five standard deviations either way


def test_an_image_is_degraded_alike_in_every_batch_and_unlike_in_another_epoch(faces: torch.Tensor) -> None:
    chosen = {"blur": 0.5, "low_resolution": 0.5, "noise": 0.5, "jpeg": 0.5}
    together = degraded(faces, **chosen)
    for row in range(len(faces)):
        assert torch.equal(degraded(faces[row : row + 1], rows=np.array([row]), **chosen)[0], together[row])
    assert not torch.equal(degraded(faces, epoch=1, **chosen), together)
    assert not torch.equal(degraded(faces, seed=1, **chosen), together)


@pytest.mark.parametrize(
    "value",
    [
        {"blur_sigma": [0.0, 0.5]},
        {"low_resolution_scale": [0.0, 1.0]},
        {"noise_std": [5.0, 1.0]},
        {"jpeg_quality": [0, 95]},
        {"jpeg": 1.5},
    ],
)
def test_values_out_of_range(value: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(value))):
        Augment.from_dict(value)
