"""The parameters of a portrait: a fixed identity, and a moment that changes from image to image.

Lengths are in half heights of the face: the crown is at y = -1, the chin at y = +1, x to the right of the image.
Angles are in radians, colours are sRGB triples in [0, 255].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from .stream import RandomStream

HairStyle = Literal["bald", "cropped", "parted", "fringe", "bob", "long", "curly", "afro", "bun", "receding", "quiff"]
HAIR_STYLES: tuple[HairStyle, ...] = (
    "parted", "long", "cropped", "curly", "bob", "quiff", "fringe", "afro", "receding", "bun", "bald",
)  # fmt: skip
BeardStyle = Literal["full", "goatee", "moustache", "stubble", "chinstrap"]
BEARD_STYLES: tuple[BeardStyle, ...] = ("full", "goatee", "stubble", "moustache", "chinstrap")
HatStyle = Literal["beanie", "cap", "brim"]
GlassesStyle = Literal["round", "square", "oval", "shades"]


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


def _palette(*codes: str) -> tuple[Colour, ...]:
    return tuple(Colour(*bytes.fromhex(code)) for code in codes)


SKINS = _palette("f3cfb8", "ecbf9c", "e2af88", "d29c72", "bb855c", "9c6947", "7b5038", "60402f")
HAIRS = _palette("221c1c", "422c20", "684226", "92602e", "cea460", "a84a24", "969290", "e2ded6")
EYES = _palette("462c1c", "684424", "54703e", "4276a0", "70828e", "281e1c")


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
    """Person number k of the world of this seed.

    The traits seen first (skin, hair, its style) spread evenly over the first few dozen people, so that two people
    who share one of them differ in the others; everything else is drawn freely.

    Args:
        seed: any integer >= 0; another seed is another world.
        k: the person, an integer >= 0.
    Returns:
        The same person each time.
    >>> identity_of(0, 3) == identity_of(0, 3)
    True
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
