"""The input of a network: the part of an image, the size, mean and std, the order of the channels."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facewright.errors import UnknownName, UsageError

Pixels = NDArray[np.uint8]
ColourOrder = Literal["rgb", "bgr"]
Resize = Literal["stretch", "cover", "pad"]


@dataclass(frozen=True)
class FaceCrop:
    """The crop of the face in the images that a network was trained on.

    detector: its name, without the folder of its file. digest: of its weights.
    select_face: which of several faces. template: where the face's points lie in the crop.
    """

    detector: str
    digest: str
    select_face: Literal["largest", "centre", "error"] = "centre"
    template: Literal["arcface"] = "arcface"

    def __post_init__(self) -> None:
        texts = all(isinstance(value, str) and len(value) <= 200 for value in (self.detector, self.digest))
        if not texts or self.select_face not in ("largest", "centre", "error") or self.template != "arcface":
            raise UsageError(f"expected the input's faces as detector, digest, select_face and template, got {self}")


@dataclass(frozen=True)
class Template:
    """The places of a face's points in an aligned crop. It travels with the weights, and is compared by value.

    side: px of the crops that networks with this template expect.
    points: (K, 2) x, y as shares of the side.
    rule: what of the crop is mapped onto the photo: "centres" of pixels, as OpenCV does; or the "corners" of the
        whole crop, the middle of its first and last pixel half a pixel of the photo inside, as dlib does; or "box": as
        "centres", where the points are the corners of the detector's box.
    """

    name: str
    side: int
    points: tuple[tuple[float, float], ...]
    rule: Literal["centres", "corners", "box"] = "centres"

    def __post_init__(self) -> None:
        places = [value for point in self.points for value in point]
        if len(self.points) not in (4, 5) or not all(math.isfinite(value) and -2 <= value <= 3 for value in places):
            raise UsageError(f"expected the points of a template as shares of its side, got {self.points!r:.200}")
        if not 8 <= self.side <= 2048:
            raise UsageError(f"expected a template's side of 8 to 2048 px, got {self.side!r}")


@dataclass(frozen=True)
class InputSpec:
    """The input that a network expects. It travels with the weights and is never a caller's option.

    height, width: pixels, at least 1.
    mean, std: per channel in the order R, G, B, for pixels scaled to [0, 1].
    colour_order: the order of the channels the network sees; stored pixels are always RGB.
    resize: "stretch" ignores the aspect ratio; "cover" scales until the box is covered and cuts from the centre;
        "pad" scales until the image fits and fills the rest with mid grey.
    crop: the share of both sides that is kept, around the centre, before anything else; in (0, 1].
    flip: an embedding is the mean of those of the image and of its mirror image; class scores are not touched.
    faces: the image is first replaced by its aligned face crop, cut like this; None: the image is taken whole.
    """

    height: int
    width: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    colour_order: ColourOrder = "rgb"
    resize: Resize = "cover"
    crop: float = 1.0
    flip: bool = False
    faces: FaceCrop | None = None

    def __post_init__(self) -> None:
        for side in (self.height, self.width):
            if not isinstance(side, int) or isinstance(side, bool) or side < 1:
                raise UsageError(f"expected an input height and width of at least 1 pixel, got {side!r}")
        for what, values, least in (("mean", self.mean, 0.0), ("std", self.std, 1e-6)):
            if len(values) != 3 or not all(isinstance(v, (int, float)) and least <= v <= 1e3 for v in values):
                raise UsageError(f"expected an input {what} of three numbers of at least {least:g}, got {values!r}")
            object.__setattr__(self, what, tuple(float(v) for v in values))
        if self.colour_order not in get_args(ColourOrder):
            raise UnknownName("colour order", str(self.colour_order), get_args(ColourOrder))
        if self.resize not in get_args(Resize):
            raise UnknownName("resize rule", str(self.resize), get_args(Resize))
        if isinstance(self.crop, bool) or not isinstance(self.crop, (int, float)) or not 0 < self.crop <= 1:
            raise UsageError(f"expected an input crop, the share of a side that is kept, in (0, 1], got {self.crop!r}")
        object.__setattr__(self, "crop", float(self.crop))
        if not isinstance(self.flip, bool):
            raise UsageError(f"expected an input flip of true or false, got {self.flip!r}")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; `from_dict` reads them back."""
        facts = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(replace(self, faces=None)).items()}
        del facts["faces"]  # absent from the files, and the fingerprints, of models that take images whole
        return facts if self.faces is None else facts | {"faces": asdict(self.faces)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> InputSpec:
        """The inverse of `to_dict`. Raises UsageError: a key that is not a field (UnknownName), is missing or wrong."""
        known = [field.name for field in fields(cls)]
        for key in values:
            if key not in known:
                raise UnknownName("input key", key, known)
        missing = [key for key in known[:4] if key not in values]
        if missing:
            raise UsageError(f"expected an input with height, width, mean and std; missing: {', '.join(missing)}")
        if not all(isinstance(values[key], (list, tuple)) for key in ("mean", "std")):
            raise UsageError("expected lists of three numbers as the input's mean and std")
        given = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
        if given.get("faces") is not None:
            try:
                given["faces"] = FaceCrop(**cast(Any, given["faces"]))
            except TypeError:
                raise UsageError("expected the input's faces as detector, digest, select_face and template") from None
        return cls(**cast(Any, given))  # the constructor checks every value

    def key(self) -> str:
        """A short name of what decides the stored pixels: size, resize rule and crop, nothing else.

        >>> InputSpec(112, 96, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)).key()
        '112x96-cover'
        """
        part = "" if self.crop == 1 else f"-{self.crop!r}"
        return f"{self.height}x{self.width}-{self.resize}{part}"

    def fit(self, image: Pixels) -> Pixels:
        """Crop and scale an image of any size to this one, antialiased (bicubic over all pixels that fall into one).

        Args:
            image: (H, W, 3) uint8.
        Returns:
            (height, width, 3) uint8, contiguous; the very pixels of `image` where the size already fits.
        """
        if self.crop != 1:
            image = _centre(image, self.crop)
        have_h, have_w = image.shape[:2]
        if (have_h, have_w) == (self.height, self.width):
            return np.ascontiguousarray(image)
        ratios = (self.height / have_h, self.width / have_w)
        if self.resize == "cover":
            scale = max(ratios)
            cut_h, cut_w = min(self.height / scale, have_h), min(self.width / scale, have_w)
            top, left = (have_h - cut_h) / 2, (have_w - cut_w) / 2
            return _scaled(image, (self.height, self.width), (left, top, left + cut_w, top + cut_h))
        if self.resize == "stretch":
            return _scaled(image, (self.height, self.width), (0, 0, have_w, have_h))
        new_h = min(self.height, max(1, round(have_h * min(ratios))))
        new_w = min(self.width, max(1, round(have_w * min(ratios))))
        top, left = (self.height - new_h) // 2, (self.width - new_w) // 2
        padded = np.full((self.height, self.width, 3), 128, np.uint8)
        padded[top : top + new_h, left : left + new_w] = _scaled(image, (new_h, new_w), (0, 0, have_w, have_h))
        return padded


def _centre(image: Pixels, share: float) -> Pixels:
    """The middle of an image, to whole pixels; at least one."""
    height, width = (max(1, round(share * side)) for side in image.shape[:2])
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def _scaled(image: Pixels, size: tuple[int, int], box: tuple[float, float, float, float]) -> Pixels:
    """`box` (left, top, right, bottom in pixels) of `image`, scaled to `size` (height, width)."""
    source = Image.fromarray(np.ascontiguousarray(image))
    # A gap of 3: shrink by whole factors first while three times the target remains; invisible, fast for big photos.
    return np.array(source.resize((size[1], size[0]), Image.Resampling.BICUBIC, box, reducing_gap=3.0))
