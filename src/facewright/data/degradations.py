"""Degradations of a bad camera or connection: blur, low resolution, noise, JPEG; image by image, in Pillow.

An image's result is a function of its pixels and its row of draws alone. Images on a device are brought to the CPU and
back, but only those that are changed.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from torch import Tensor, from_numpy

from facewright.specs import Augment

SLOTS = 10  # random numbers an image: for each degradation whether and how much, and two for the seed of the noise
_BLUR, _LOW, _NOISE, _JPEG, _SEED = 0, 2, 4, 6, 8

Step = Callable[[Image.Image], Image.Image]


def degrade(batch: Tensor, uniforms: NDArray[np.float64], augment: Augment) -> None:
    """Degrade some images of a batch (B, 3, H, W) uint8 in place, in the order of a camera.

    Args:
        uniforms: (SLOTS, B) in [0, 1).
    """
    for image, row in zip(batch, uniforms.T, strict=True):
        steps = _steps(row, augment, image.shape[1:])
        if not steps:
            continue
        changed = Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).cpu().numpy()))
        for step in steps:
            changed = step(changed)
        image.copy_(from_numpy(np.array(changed)).permute(2, 0, 1))


def _steps(row: NDArray[np.float64], augment: Augment, shape: tuple[int, ...]) -> list[Step]:
    def between(bounds: tuple[float, float], slot: int) -> float:
        return bounds[0] + (bounds[1] - bounds[0]) * float(row[slot + 1])

    height, width = shape
    steps: list[Step] = []
    if row[_BLUR] < augment.blur:
        blur = ImageFilter.GaussianBlur(between(augment.blur_sigma, _BLUR) * min(height, width))
        steps.append(lambda image: image.filter(blur))
    if row[_LOW] < augment.low_resolution:
        scale = between(augment.low_resolution_scale, _LOW)
        small = (max(1, round(width * scale)), max(1, round(height * scale)))
        steps.append(lambda image: image.resize(small, Image.Resampling.BOX).resize((width, height), _ENLARGED))
    if row[_NOISE] < augment.noise:
        std = between(augment.noise_std, _NOISE)
        steps.append(lambda image: _noisy(image, std, int(row[_SEED] * 2**24) << 24 | int(row[_SEED + 1] * 2**24)))
    if row[_JPEG] < augment.jpeg:
        quality = round(between(augment.jpeg_quality, _JPEG))
        steps.append(lambda image: _compressed(image, quality))
    return steps


_ENLARGED = Image.Resampling.BICUBIC


def _noisy(image: Image.Image, std: float, seed: int) -> Image.Image:
    pixels = np.asarray(image, np.float32)
    noise = np.random.Generator(np.random.PCG64(seed)).standard_normal(pixels.shape, np.float32)
    return Image.fromarray(np.clip(np.rint(pixels + np.float32(std) * noise), 0, 255).astype(np.uint8))


def _compressed(image: Image.Image, quality: int) -> Image.Image:
    content = io.BytesIO()
    image.save(content, "JPEG", quality=quality)
    return Image.open(content).convert("RGB")
