"""Augmentation of whole batches: uint8 images in, uint8 images out, one resampling for all geometry.

An image's result never depends on the batch it is in, on the worker or process that computes it, or on threads: the
arithmetic on pixels is made of single correctly rounded operations and of sums that are exact. On another device the
random numbers are the same and the rounding is not: results are within `TOLERANCE` levels of the CPU's.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from torch import Tensor

from facewright.data.sampling import Stream, random_words
from facewright.devices import moved
from facewright.errors import UsageError
from facewright.input_spec import InputSpec
from facewright.specs import Augment

_DEGRADATION_SLOTS = 10  # random numbers an image: if and how much of each, and two for the seed of the noise
_BLUR, _LOW, _NOISE, _JPEG, _SEED = 0, 2, 4, 6, 8
# Where each random number of an image lies in its row of draws.
_FLIP, _AREA, _ASPECT, _ROTATION, _ZOOM, _MOVE_X, _MOVE_Y = range(7)
_BRIGHTNESS, _CONTRAST, _SATURATION, _GREY = range(7, 11)
_ERASE, _ERASE_AREA, _ERASE_ASPECT, _ERASE_X, _ERASE_Y = range(11, 16)
_BOX_X, _BOX_Y = 16, 17
_TRIES = 18  # from here on: area and aspect of the further attempts at a box inside the image
_ATTEMPTS = 10  # torchvision's number
_DEGRADATIONS = _TRIES + 2 * (_ATTEMPTS - 1)  # from here on: those of `degrade`
_TURN = _DEGRADATIONS + _DEGRADATION_SLOTS  # what came later stands behind, so that the draws before it stay
_SHIFT, _CONTRAST_FACTOR, _SATURATION_FACTOR = range(_TURN + 1, _TURN + 4)
_SLOTS = _TURN + 4
_ERASE_LOG_ASPECT = math.log(1 / 0.3)  # Zhong et al., "Random Erasing Data Augmentation", AAAI 2020: 0.3 to 1/0.3
_CHUNK = 100_000  # pixels worked on at once (eight images of 112 px): their float planes stay in a core's cache
TOLERANCE = 4  # of 255 levels, by which the same augmentation on another device may differ; 2 by resizing alone
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
Step = Callable[[Image.Image], Image.Image]


def draws(seed: int, epoch: int, images: NDArray[np.int64]) -> NDArray[np.float32]:
    """Draw the random numbers of the images at these positions: the same whatever the batch, the worker or the process.

    (B, K) float32, uniform in [0, 1), independent. Every augmentation of an image gets the same ones, so that switching
    one part of it off leaves the others.
    """
    words = random_words(Stream.AUGMENT, seed, epoch, images, _SLOTS)
    return (words >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)


def apply(batch: Tensor, draws: NDArray[np.float32], augment: Augment, size: int) -> Tensor:
    """Augment a batch and bring it to its size; larger images are reduced with an antialiasing filter first.

    Args:
        batch: (B, 3, H, W) uint8, any memory format. draws: (B, K) from `draws`. size: side of the result, px.
    Returns:
        (B, 3, size, size) uint8 in channels_last memory.
    Raises:
        UsageError: the batch is not (B, 3, H, W) uint8, or has another number of images than draws.
    """
    if batch.dtype != torch.uint8 or batch.ndim != 4 or batch.shape[1] != 3:
        raise UsageError(f"expected (B, 3, H, W) uint8 images, got {tuple(batch.shape)} {batch.dtype}")
    if len(batch) != len(draws):
        raise UsageError(f"expected a row of draws for each of the {len(batch)} images, got {len(draws)}")
    uniforms = np.asarray(draws, np.float64).T  # (K, B)
    result = torch.empty(len(batch), size, size, 3, dtype=torch.uint8, device=batch.device).permute(0, 3, 1, 2)
    chunk = max(1, _CHUNK // size**2) if batch.device.type == "cpu" else len(batch)
    for start in range(0, len(batch), chunk):
        part = slice(start, start + chunk)
        result[part] = _augmented(batch[part], uniforms[:, part], augment, size)
    if augment.degrades:
        _degrade(result, uniforms[_DEGRADATIONS:_TURN], augment)
    return result


def _augmented(batch: Tensor, uniforms: NDArray[np.float64], augment: Augment, size: int) -> Tensor:
    mirrored, turned = uniforms[_FLIP] < augment.flip, uniforms[_TURN] < augment.flip_vertical
    if augment.moves:
        theta = affine(uniforms, augment, batch.shape[2] / batch.shape[3])
        theta[:, :, 0] *= np.where(mirrored, -1.0, 1.0)[:, None]
        theta[:, :, 1] *= np.where(turned, -1.0, 1.0)[:, None]
        small = resize(batch, min(size, batch.shape[2]), min(size, batch.shape[3]))
        images = _resample(small, theta, size)
    else:
        images = resize(batch, size, size)
        for chosen, axis in ((mirrored, 3), (turned, 2)):
            if chosen.any():
                images = torch.where(_column(chosen, images.device).bool(), images.flip(axis), images)
    if augment.colours or augment.erase > 0:
        images = _recolour_and_erase(images, uniforms, augment)
    # Whole and in range before the change of type, which would cut off fractions and wrap around.
    return images.clamp_(0.0, 255.0).round_() if images.is_floating_point() else images


def affine(uniforms: NDArray[np.float64], augment: Augment, tallness: float) -> NDArray[np.float64]:
    """From the coordinates of the result to those of the image, both in [-1, 1] from edge to edge, without mirroring.

    Of uniforms (K, B) and height / width of the images: (B, 2, 3), rotation @ scale and shift.
    """
    width, height = _crop_sides(uniforms, augment, tallness)
    zoom = 1.0 + augment.zoom * _signed(uniforms[_ZOOM])
    angle = math.radians(augment.rotation) * _signed(uniforms[_ROTATION])
    cosine, sine = np.cos(angle), np.sin(angle)
    shift_x, shift_y = (2.0 * augment.translate * _signed(uniforms[slot]) for slot in (_MOVE_X, _MOVE_Y))
    if augment.crop == "inside":
        shift_x = shift_x + (1.0 - width) * _signed(uniforms[_BOX_X])
        shift_y = shift_y + (1.0 - height) * _signed(uniforms[_BOX_Y])
    width, height = width * zoom, height * zoom
    across = np.stack([width * cosine, -height * sine * tallness, shift_x], axis=1)
    down = np.stack([width * sine / tallness, height * cosine, shift_y], axis=1)
    return np.stack([across, down], axis=1)


def resize(batch: Tensor, height: int, width: int) -> Tensor:
    """(B, 3, H, W) uint8 to (B, 3, height, width) uint8, bilinear, antialiased; the same object where it fits."""
    if batch.shape[2:] == (height, width):
        return batch
    if batch.device.type == "cpu":
        return F.interpolate(batch, size=(height, width), mode="bilinear", antialias=True, align_corners=False)
    scaled = batch.float()  # of whole numbers there is no such kernel elsewhere
    for size in ((batch.shape[2], width), (height, width)):  # as on the CPU: along rows, rounded, then along columns
        scaled = F.interpolate(scaled, size=size, mode="bilinear", antialias=True, align_corners=False).round_()
    return scaled.clamp_(0.0, 255.0).to(torch.uint8)


def normalise(batch: Tensor, spec: InputSpec, out: Tensor | None = None) -> Tensor:
    """A network's input: (pixel / 255 - mean) / std, channels in the network's order, written to `out` where given.

    (B, 3, H, W) uint8, RGB → (B, 3, H, W) float32 in channels_last memory.
    """
    rows = batch.permute(0, 2, 3, 1)  # (B, H, W, 3)
    order = (0, 1, 2)
    if spec.colour_order == "bgr":
        rows, order = rows.flip(3), (2, 1, 0)
    count, height, width, _ = rows.shape
    rows = rows.reshape(count, height, width * 3)
    # Scale and offset repeated along a row: a loop over whole rows is an order of magnitude faster than one over 3.
    scale = torch.tensor([1.0 / (255.0 * spec.std[channel]) for channel in order]).repeat(width)
    offset = torch.tensor([-spec.mean[channel] / spec.std[channel] for channel in order]).repeat(width)
    result = rows.to(torch.float32) if out is None else out.permute(0, 2, 3, 1).view(rows.shape).copy_(rows)
    result.mul_(moved(scale, batch.device)).add_(moved(offset, batch.device))
    return result.view(count, height, width, 3).permute(0, 3, 1, 2)


def mixing_draws(seed: int, epoch: int, step: int) -> np.random.Generator:
    """Return what `mix` draws from at a step: the same in every process and after a restart."""
    words = random_words(Stream.MIX, seed, epoch, np.array([step], np.int64), 1)
    return np.random.Generator(np.random.PCG64(int(words[0, 0])))


def mix(
    images: Tensor, targets: Tensor, alpha: float, kind: Literal["mixup", "cutmix"], generator: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Blend each image, and its target, with another one of the batch.

    Args:
        images: (B, C, H, W) float, normalised. targets: (B, K) float, a distribution over classes each.
        alpha: of the Beta(alpha, alpha) distribution of the share; above 0.
        kind: "mixup" weighs whole images; "cutmix" puts a rectangle of the one into the other.
        generator: `mixing_draws` of the step.
    Raises:
        UsageError: alpha not above 0, or an unknown kind.
    Source: Zhang et al., "mixup", ICLR 2018; Yun et al., "CutMix", ICCV 2019 (targets weighed by the exact area).
    """
    if not alpha > 0:
        raise UsageError(f"the mixing strength alpha must be above 0, got {alpha}")
    if kind not in ("mixup", "cutmix"):
        raise UsageError(f"mixing is 'mixup' or 'cutmix', got {kind!r}")
    share = float(generator.beta(alpha, alpha))
    partners = moved(torch.from_numpy(generator.permutation(len(images))), images.device)
    if kind == "mixup":
        return torch.lerp(images[partners], images, share), torch.lerp(targets[partners], targets, share)
    top, bottom = _cut(images.shape[2], share, float(generator.random()))
    left, right = _cut(images.shape[3], share, float(generator.random()))
    pasted = images.clone()
    pasted[:, :, top:bottom, left:right] = images[partners, :, top:bottom, left:right]
    kept = 1.0 - (bottom - top) * (right - left) / (images.shape[2] * images.shape[3])
    return pasted, torch.lerp(targets[partners], targets, kept)


def _cut(side: int, share: float, position: float) -> tuple[int, int]:
    half = 0.5 * side * math.sqrt(1.0 - share)
    middle = position * side
    return max(0, round(middle - half)), min(side, round(middle + half))


def _signed(uniform: NDArray[np.float64]) -> NDArray[np.float64]:
    return 2.0 * uniform - 1.0


def _crop_sides(
    uniforms: NDArray[np.float64], augment: Augment, tallness: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Width and height of the crop as shares of the image's, (B,) each."""
    low, high = augment.area
    if augment.crop == "centre":
        area = low + (high - low) * uniforms[_AREA]
        half = np.exp(0.5 * augment.aspect * _signed(uniforms[_ASPECT]))
        return np.sqrt(area) * half, np.sqrt(area) / half
    # torchvision's rule: up to ten boxes, the first that fits; else the whole image.
    areas = low + (high - low) * uniforms[[_AREA, *range(_TRIES, _DEGRADATIONS, 2)]]  # (attempts, B)
    halves = np.exp(0.5 * augment.aspect * _signed(uniforms[[_ASPECT, *range(_TRIES + 1, _DEGRADATIONS, 2)]]))
    widths, heights = np.sqrt(areas * tallness) * halves, np.sqrt(areas / tallness) / halves
    fits = (widths <= 1.0) & (heights <= 1.0)
    first, column = fits.argmax(axis=0), np.arange(fits.shape[1])
    found = fits.any(axis=0)
    return np.where(found, widths[first, column], 1.0), np.where(found, heights[first, column], 1.0)


def _resample(batch: Tensor, theta: NDArray[np.float64], size: int) -> Tensor:
    """(B, 3, H, W) uint8 -> (B, 3, size, size) float32, bilinear, reflected at the edges."""
    centres = (2.0 * np.arange(size) + 1.0) / size - 1.0
    # A grid of sums of one term a column and one a row; affine_grid's matrix product is slower than the resampling.
    along = (theta[:, :, 0, None] * centres + theta[:, :, 2, None]).astype(np.float32)  # (B, 2, size)
    down = (theta[:, :, 1, None] * centres).astype(np.float32)
    columns, rows = (moved(torch.from_numpy(part), batch.device) for part in (along, down))
    grid = columns[:, :, None, :] + rows[:, :, :, None]  # (B, 2, size, size): planes are faster to write than pairs
    planes = batch.contiguous().float()
    return F.grid_sample(planes, grid.permute(0, 2, 3, 1), padding_mode="reflection", align_corners=False)


def _recolour_and_erase(images: Tensor, uniforms: NDArray[np.float64], augment: Augment) -> Tensor:
    """(B, 3, S, S) uint8 or float -> float32; not yet clamped."""
    # Whole numbers sum without rounding in float32 along a row and in float64 over rows: no order can matter.
    pixels = images.contiguous().float().round_()
    side = pixels.shape[2] * pixels.shape[3]
    sums = pixels.sum(3) if pixels.device.type == "mps" else pixels.sum(3).double()  # Apple's GPUs have no float64
    means = (sums.sum(2) / side).float()[:, :, None, None]  # (B, 3, 1, 1)
    if augment.colours:
        factors = _colour_factors(uniforms, augment)
        pivots = ((means[:, 0:1] + means[:, 1:2]) + means[:, 2:3]) / 3.0
        shift = _column(255.0 * augment.brightness_shift * _signed(uniforms[_SHIFT]), pixels.device)
        pixels, means = _recolour(pixels, pivots, factors), _recolour(means, pivots, factors)
        if augment.brightness_shift:
            pixels, means = pixels.add_(shift), means + shift
    if augment.erase > 0:
        pixels = torch.where(_erased(uniforms, augment, pixels), means, pixels)
    return pixels


def _colour_factors(uniforms: NDArray[np.float64], augment: Augment) -> Sequence[NDArray[np.float64]]:
    brightness, contrast, saturation = (
        1.0 + strength * _signed(uniforms[slot])
        for strength, slot in (
            (augment.brightness, _BRIGHTNESS),
            (augment.contrast, _CONTRAST),
            (augment.saturation, _SATURATION),
        )
    )
    contrast = contrast * _between(augment.contrast_range, uniforms[_CONTRAST_FACTOR])
    saturation = saturation * _between(augment.saturation_range, uniforms[_SATURATION_FACTOR])
    return brightness, contrast, np.where(uniforms[_GREY] < augment.grey, 0.0, saturation)


def _between(limits: tuple[float, float], uniform: NDArray[np.float64]) -> NDArray[np.float64]:
    return limits[0] + (limits[1] - limits[0]) * uniform


def _recolour(pixels: Tensor, pivots: Tensor, factors: Sequence[NDArray[np.float64]]) -> Tensor:
    """Brightness b, contrast c around pivot m, saturation s around the luma y: one linear map in place, (B, 3, H, W).

    b, then c, then s of x is  (b c s) x + (b c (1 - s)) y + b (1 - c) m.
    """
    brightness, contrast, saturation = factors
    device = pixels.device
    own = _column(brightness * contrast * saturation, device)
    luma = _column(brightness * contrast * (1.0 - saturation), device)
    pivot = _column(brightness * (1.0 - contrast), device) * pivots
    red, green, blue = (pixels[:, channel : channel + 1] * weight for channel, weight in enumerate(_LUMA))
    luminance = (red + green + blue).mul_(luma).add_(pivot)
    return pixels.mul_(own).add_(luminance)


def _erased(uniforms: NDArray[np.float64], augment: Augment, pixels: Tensor) -> Tensor:
    """The covered pixels, (B, 1, H, W) bool."""
    low, high = augment.erase_area
    side = np.sqrt(low + (high - low) * uniforms[_ERASE_AREA])
    stretch = np.exp(0.5 * _ERASE_LOG_ASPECT * _signed(uniforms[_ERASE_ASPECT]))
    chosen = uniforms[_ERASE] < augment.erase
    spans = []
    shares = ((side / stretch, _ERASE_Y, pixels.shape[2]), (side * stretch, _ERASE_X, pixels.shape[3]))
    for share, slot, length in shares:
        extent = np.clip(np.round(share * length), 1, length)
        start = np.floor(uniforms[slot] * (length - extent + 1))
        place = np.arange(length)[None, :]
        inside = (place >= start[:, None]) & (place < (start + extent)[:, None])
        spans.append(moved(torch.from_numpy(inside & chosen[:, None]), pixels.device))
    return spans[0][:, None, :, None] & spans[1][:, None, None, :]


def _column(values: NDArray[Any], device: torch.device) -> Tensor:
    return moved(torch.from_numpy(values.astype(np.float32)), device)[:, None, None, None]


def _degrade(batch: Tensor, uniforms: NDArray[np.float64], augment: Augment) -> None:
    """Degrade some images of a batch (B, 3, H, W) uint8 in place by (10, B) draws, in the order of a camera."""
    for image, row in zip(batch, uniforms.T, strict=True):
        steps = _steps(row, augment, image.shape[1:])
        if not steps:
            continue
        changed = Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).cpu().numpy()))
        for step in steps:
            changed = step(changed)
        image.copy_(torch.from_numpy(np.array(changed)).permute(2, 0, 1))


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
        box, cubic = Image.Resampling.BOX, Image.Resampling.BICUBIC
        steps.append(lambda image: image.resize(small, box).resize((width, height), cubic))
    if row[_NOISE] < augment.noise:
        std = between(augment.noise_std, _NOISE)
        steps.append(lambda image: _noisy(image, std, int(row[_SEED] * 2**24) << 24 | int(row[_SEED + 1] * 2**24)))
    if row[_JPEG] < augment.jpeg:
        quality = round(between(augment.jpeg_quality, _JPEG))
        steps.append(lambda image: _compressed(image, quality))
    return steps


def _noisy(image: Image.Image, std: float, seed: int) -> Image.Image:
    pixels = np.asarray(image, np.float32)
    noise = np.random.Generator(np.random.PCG64(seed)).standard_normal(pixels.shape, np.float32)
    return Image.fromarray(np.clip(np.rint(pixels + np.float32(std) * noise), 0, 255).astype(np.uint8))


def _compressed(image: Image.Image, quality: int) -> Image.Image:
    content = io.BytesIO()
    image.save(content, "JPEG", quality=quality)
    return Image.open(content).convert("RGB")
