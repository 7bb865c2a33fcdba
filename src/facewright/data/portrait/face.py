"""One synthetic face: everything in its order, lit, and photographed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from . import features, hair, wear
from .backdrop import backdrop
from .canvas import Canvas
from .head import HeadPose
from .identity import Attributes, Identity, attributes_of
from .light import light_map
from .moment import Moment, moment_of
from .stream import RandomStream


def draw_face(
    identity: Identity, seed: int, index: int, size: int, attributes: Attributes | None = None
) -> tuple[NDArray[np.uint8], Attributes]:
    """Image number `index` of a person.

    Args:
        identity: who.
        seed: the seed of the world; another one gives other moments.
        index: which image of the person, an integer >= 0.
        size: side in pixels; the same image at any size.
        attributes: what it shows instead of what the seed says.
    Returns:
        (size, size, 3) uint8 RGB, and what it shows.
    >>> from facewright.data.portrait.identity import identity_of
    >>> draw_face(identity_of(0, 3), seed=0, index=12, size=64)[0].shape
    (64, 64, 3)
    """
    shown = attributes_of(identity, seed, index) if attributes is None else attributes
    moment = moment_of(identity, seed, index, shown)
    surroundings = RandomStream(seed, 7, identity.number, index)
    person, cover = draw_person(identity, moment, shown, surroundings, size)
    image = person + (1.0 - cover[..., None]) * backdrop(surroundings, size, size) * np.array(moment.tint, np.float32)
    return photograph(image, moment, surroundings), shown


def draw_person(
    identity: Identity, moment: Moment, shown: Attributes, stream: RandomStream, size: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A person, lit, on black.

    Returns:
        (size, size, 3) in [0, 255], and how much of each pixel the person covers, (size, size) in [0, 1].
    """
    times = max(2, -(-256 // size))  # drawn this many times larger, then reduced
    canvas = Canvas(size * times)
    head = HeadPose(identity, moment, canvas.side)
    wear.draw_clothes(canvas, head, stream)
    hair.draw_back_hair(canvas, head, shown.hat)
    wear.draw_neck(canvas, head, stream)
    ears = identity.hair_style not in hair.COVERS_EARS
    for side in (-1.0, 1.0) if ears else ():
        features.draw_ear(canvas, head, side)
    features.draw_skin(canvas, head)
    for side in (-1.0, 1.0):
        features.draw_eye(canvas, head, side)
        features.draw_brow(canvas, head, side)
    features.draw_nose(canvas, head)
    if shown.beard:
        hair.draw_beard(canvas, head)
    features.draw_smile_lines(canvas, head)
    features.draw_mouth(canvas, head)
    hair.draw_front_hair(canvas, head, shown.hat)
    for side in (-1.0, 1.0) if ears else ():
        if side * moment.yaw < 0.1:  # the other one has turned away
            features.draw_ear(canvas, head, side)
    if shown.mask:
        wear.draw_mask(canvas, head, stream)
    if shown.glasses:
        wear.draw_glasses(canvas, head, stream)
    if shown.hat:
        wear.draw_hat(canvas, head, stream)
    drawn, cover = canvas.reduced(times)
    light = light_map(head, size)[..., None] * np.array(moment.tint, np.float32)
    return _held(drawn * light), cover


def _held(bright: NDArray[np.float32]) -> NDArray[np.float32]:
    """Colours that stay up to 170 and approach 255 above it, hue kept: no burnt-out cheeks."""
    peak = np.maximum(np.maximum(bright[..., 0], bright[..., 1]), bright[..., 2])
    above = np.maximum(peak - 170.0, 0.0)
    return np.asarray(bright * (1.0 - above * (above / (above + 85.0)) / np.maximum(peak, 1.0))[..., None])


def photograph(image: NDArray[np.float32], moment: Moment, stream: RandomStream) -> NDArray[np.uint8]:
    """Blur and noise of a camera: (H, W, 3) in [0, 255] or over → uint8."""
    if moment.blur > 0:
        sharp = Image.fromarray(np.clip(image, 0, 255).astype(np.uint8))
        image = np.asarray(sharp.filter(ImageFilter.GaussianBlur(moment.blur * len(image)))).astype(np.float32)
    grain = stream.bell(image.size).reshape(image.shape) * np.float32(moment.noise)
    return np.clip(image + grain + 0.5, 0, 255).astype(np.uint8)
