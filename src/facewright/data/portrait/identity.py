"""The parameters of a portrait: a fixed identity, and a moment that changes from image to image.

Lengths are in half heights of the face: the crown is at y = -1, the chin at y = +1, x to the right of the image.
Angles are in radians, colours are sRGB triples in [0, 255].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")


class RandomStream:
    """Numbers that depend on the key and on nothing else.

    >>> RandomStream(0, 7).unit() == RandomStream(0, 7).unit()
    True
    """

    def __init__(self, *key: int) -> None:
        self._generator = np.random.Philox(np.random.SeedSequence(list(key)))
        self._waiting: list[int] = []

    def unit(self) -> float:
        """One number in [0, 1) with 53 random bits."""
        if not self._waiting:
            self._waiting = self._generator.random_raw(96).tolist()
        return (self._waiting.pop() >> 11) * 2.0**-53

    def between(self, low: float, high: float) -> float:
        """One number, uniform in [low, high)."""
        return low + (high - low) * self.unit()

    def around(self, centre: float, reach: float) -> float:
        """One number in centre ± reach, the middle more often than the ends (triangular)."""
        return centre + reach * (self.unit() + self.unit() - 1.0)

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.unit() < probability

    def pick(self, choices: Sequence[T]) -> T:
        """One of the choices, each as likely."""
        return choices[int(self.unit() * len(choices))]

    def units(self, *shape: int) -> NDArray[np.float64]:
        """An array of numbers in [0, 1) with 53 random bits each."""
        raw: NDArray[np.uint64] = self._generator.random_raw(int(np.prod(shape)))
        return np.asarray((raw >> np.uint64(11)).reshape(shape) * 2.0**-53, np.float64)

    def bell(self, count: int) -> NDArray[np.float32]:
        """(count,) numbers of mean 0 and standard deviation 1, nearly normal: sums of four bytes."""
        raw: NDArray[np.uint64] = self._generator.random_raw((count + 1) // 2)
        quads = raw.view(np.uint32)[:count]
        # Bytes are taken by shifting, not by viewing, so that the order of bytes in memory plays no part.
        total = (quads & 255) + (quads >> 8 & 255) + (quads >> 16 & 255) + (quads >> 24)
        return np.asarray((total.astype(np.float32) - 510.0) * (1.0 / 147.8), np.float32)


HairStyle = Literal["parted", "long", "cropped", "curly", "bob", "quiff", "fringe", "afro", "receding", "bun", "bald"]
BeardStyle = Literal["full", "goatee", "stubble", "moustache", "chinstrap"]
HAIR_STYLES: tuple[HairStyle, ...] = get_args(HairStyle)
BEARD_STYLES: tuple[BeardStyle, ...] = get_args(BeardStyle)


class Colour(NamedTuple):
    """sRGB, each in [0, 255]."""

    red: float
    green: float
    blue: float

    def mix(self, other: Colour, share: float) -> Colour:
        """Return this colour with a share in [0, 1] of the other."""
        return Colour(*(a + (b - a) * share for a, b in zip(self, other, strict=True)))

    def times(self, factor: float) -> Colour:
        """Brighter or darker by a factor."""
        return Colour(*(min(255.0, value * factor) for value in self))


def palette(*codes: str) -> tuple[Colour, ...]:
    """Return colours by their hexadecimal codes."""
    return tuple(Colour(*bytes.fromhex(code)) for code in codes)


SKINS = palette("f3cfb8", "ecbf9c", "e2af88", "d29c72", "bb855c", "9c6947", "7b5038", "60402f")
HAIRS = palette("221c1c", "422c20", "684226", "92602e", "cea460", "a84a24", "969290", "e2ded6")
EYES = palette("462c1c", "684424", "54703e", "4276a0", "70828e", "281e1c")


@dataclass(frozen=True)
class Identity:
    """Everything that makes a synthetic person this person; nothing here changes from one image to the next."""

    number: int
    forehead: float
    cheek: float
    jaw: float
    chin: float
    jaw_height: float
    skin: Colour
    blush: float
    hair: Colour
    hair_style: HairStyle
    hair_volume: float
    hairline: float
    parting: float
    eye_colour: Colour
    eye_width: float
    eye_openness: float
    eye_tilt: float
    eye_spacing: float
    eye_height: float
    brow_thickness: float
    brow_tilt: float
    brow_arch: float
    brow_gap: float
    nose_length: float
    nose_width: float
    nose_bridge: float
    mouth_height: float
    mouth_width: float
    upper_lip: float
    lower_lip: float
    lip_red: float
    ear_size: float
    freckles: int
    marks: int  # the seed of where the freckles are
    mole: tuple[float, float] | None
    beard_style: BeardStyle
    beard_growth: bool


@dataclass(frozen=True)
class Attributes:
    """Things that an image may show besides the person; each is a task of its own."""

    glasses: bool = False
    hat: bool = False
    beard: bool = False
    mask: bool = False
    smile: bool = False


def _stratum(start: float, k: int, step: float) -> float:
    """The k-th of numbers that spread over [0, 1), however many are taken: start + k · step modulo 1."""
    return (start + k * step) % 1.0


def _blend(palette: tuple[Colour, ...], place: float) -> Colour:
    """The colour at a place in [0, 1) along the palette."""
    position = place * (len(palette) - 1)
    low = int(position)
    return palette[low].mix(palette[min(low + 1, len(palette) - 1)], position - low)


def identity_of(seed: int, k: int) -> Identity:
    """Person number k of the world of this seed, the same each time.

    The traits seen first (skin, hair, its style) spread evenly over the first few dozen people, so that two people
    who share one of them differ in the others; everything else is drawn freely.
    """
    world, own = RandomStream(seed, 1), RandomStream(seed, 2, k)
    depth = _stratum(world.unit(), k, 0.6180339887)
    skin = _blend(SKINS, depth)
    shift = int(world.unit() * len(HAIR_STYLES))
    # Dark hair stands first: the darker the skin, the more of the spread falls there.
    place = _stratum(world.unit(), k, 0.7548776662) ** (0.8 + 1.6 * depth)
    hair = HAIRS[int(place * len(HAIRS))].mix(HAIRS[int(own.unit() * len(HAIRS))], own.between(0.0, 0.18))
    cheek = own.between(0.66, 0.82)
    return Identity(
        number=k,
        forehead=cheek * own.between(0.86, 1.0),
        cheek=cheek,
        jaw=cheek * own.between(0.66, 0.93),
        chin=own.between(0.17, 0.36),
        jaw_height=own.between(0.46, 0.62),
        skin=skin,
        blush=own.unit(),
        hair=hair,
        hair_style=HAIR_STYLES[(k + shift) % len(HAIR_STYLES)],
        hair_volume=own.between(0.0, 1.0),
        hairline=own.between(-0.66, -0.48),
        parting=own.pick((-1.0, 1.0)) * own.between(0.15, 0.45),
        eye_colour=own.pick(EYES),
        eye_width=own.between(0.135, 0.19),
        eye_openness=own.between(0.38, 0.66),
        eye_tilt=own.between(-0.16, 0.2),
        eye_spacing=own.between(0.27, 0.38),
        eye_height=own.between(-0.1, 0.04),
        brow_thickness=own.between(0.028, 0.085),
        brow_tilt=own.between(-0.2, 0.2),
        brow_arch=own.between(0.01, 0.09),
        brow_gap=own.between(0.12, 0.21),
        nose_length=own.between(0.3, 0.48),
        nose_width=own.between(0.1, 0.2),
        nose_bridge=own.between(0.04, 0.08),
        mouth_height=own.between(0.52, 0.64),
        mouth_width=own.between(0.19, 0.34),
        upper_lip=own.between(0.02, 0.075),
        lower_lip=own.between(0.035, 0.11),
        lip_red=own.unit(),
        ear_size=own.between(0.15, 0.27),
        freckles=own.pick((0, 0, 0, 24, 44)),
        marks=int(own.unit() * 2**32),
        mole=(own.pick((-1.0, 1.0)) * own.between(0.34, 0.48), own.between(0.22, 0.46)) if own.chance(0.4) else None,
        beard_style=own.pick(BEARD_STYLES),
        beard_growth=own.chance(0.6),
    )


def attributes_of(identity: Identity, seed: int, index: int) -> Attributes:
    """Return what image number `index` of this person shows: glasses, hat, beard, mask, smile."""
    stream = RandomStream(seed, 3, identity.number, index)
    return Attributes(
        glasses=stream.chance(0.25),
        hat=stream.chance(0.15),
        beard=stream.chance(0.5) and identity.beard_growth,
        mask=stream.chance(0.06),
        smile=stream.chance(0.45),
    )


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
