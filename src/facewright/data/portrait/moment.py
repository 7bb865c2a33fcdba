"""The moment of one image: pose, framing, light, expression, and the seeds of what surrounds the face."""

from __future__ import annotations

from dataclasses import dataclass

from .identity import Attributes, Colour, Identity
from .stream import RandomStream


@dataclass(frozen=True)
class Moment:
    """Everything that changes from image to image: angles in radians, positions and lengths in shares of the side."""

    yaw: float
    pitch: float
    roll: float
    x: float
    y: float
    half: float  # half the height of the face
    light_x: float  # where the light comes from: -1 left … 1 right
    light_y: float  # -1 above … 1 below
    ambient: float
    diffuse: float
    tint: Colour  # the light's colour, each around 1
    smile: float  # -1 sad … 1 broad
    parted: float  # how far the lips are apart, 0 … 1
    brow_raise: float
    blink: float  # 0 open … 1 shut
    gaze: float
    blur: float
    noise: float  # standard deviation in grey levels


def moment_of(identity: Identity, seed: int, index: int, attributes: Attributes) -> Moment:
    """The moment of image number `index` of a person; the same each time."""
    s = RandomStream(seed, 6, identity.number, index)
    warmth = s.around(0.03, 0.14)
    diffuse = s.between(0.3, 0.85)
    exposure = s.around(0.98, 0.34)
    return Moment(
        yaw=s.around(0.0, 0.72),
        pitch=s.around(0.0, 0.3),
        roll=s.around(0.0, 0.4),
        x=s.between(0.4, 0.6),
        y=s.between(0.43, 0.57),
        half=s.between(0.25, 0.37),
        light_x=s.between(-0.85, 0.85),
        light_y=s.between(-0.75, 0.25),
        ambient=exposure * (1.0 - 0.62 * diffuse),
        diffuse=exposure * diffuse,
        tint=Colour(1.0 + warmth, 1.0 + s.around(0.0, 0.04), 1.0 - warmth),
        smile=s.between(0.55, 1.0) if attributes.smile else s.between(-0.16, 0.18),
        parted=max(0.0, s.between(-0.9, 0.7)),
        brow_raise=s.around(0.0, 1.0),
        blink=1.0 if s.chance(0.05) else s.between(0.0, 0.25),
        gaze=s.around(0.0, 1.0),
        blur=max(0.0, s.between(-0.01, 0.007)),
        noise=s.between(0.5, 5.5),
    )
