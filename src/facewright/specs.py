"""Settings that recipes and model files share, read without torch: head, objective, augmentation, targets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Any, Literal, NamedTuple, Self, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from facewright.errors import UnknownName, UsageError

HeadKind = Literal["native", "linear", "sigmoid", "two-layer", "hidden-256", "cosine"]
HEADS = tuple(kind for kind in get_args(HeadKind) if kind != "native")
NumberHead = Literal["l1", "huber", "dex", "coral"]
TripletMining = Literal["all", "semi-hard", "batch-hard"]
ScoreLoss = Literal["cross-entropy", "focal", "capsule-margin", "centre"]
CosineLoss = Literal["a-softmax", "cosface", "arcface", "adaface"]
PairLoss = Literal["contrastive", "pairwise", "triplet"]
ON_SCORES, ON_COSINES, ON_PAIRS = get_args(ScoreLoss), get_args(CosineLoss), get_args(PairLoss)
SHARDABLE = ("cosface", "arcface", "adaface")  # whose classes can be shared out to processes
KINDS = (*ON_SCORES, *ON_COSINES, *ON_PAIRS)
SHARED = ("cross-entropy", "focal", "capsule-margin")  # take shares of classes, as mixup makes them
SMOOTHED = ("cross-entropy", "centre", *ON_PAIRS)  # contain a plain cross-entropy, whose labels can be smoothed
# The papers'.
MARGINS = {"a-softmax": 4.0, "cosface": 0.35, "arcface": 0.5, "adaface": 0.4, "contrastive": 1.0, "triplet": 0.2}
CAPSULE_SCALE = 16.0  # scores of class capsules over the capsules' lengths
LARGEST_MARGINS = {"a-softmax": 16.0, "cosface": 2.0, "arcface": math.pi / 2, "adaface": math.pi / 2}
LARGEST_MARGINS |= {"contrastive": 2.0, "triplet": 4.0}
Share = Annotated[float, Field(ge=0, le=1)]
_RANGES = {"blur_sigma": (0, 0.2), "low_resolution_scale": (0.05, 1), "noise_std": (0, 100), "jpeg_quality": (1, 100)}
_RANGES |= dict.fromkeys(("contrast_range", "saturation_range"), (0, 10))
Table = TypeVar("Table", bound=BaseModel)


class Spec(BaseModel):
    """A table of settings: values are checked and fixed, unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON holds them; `from_dict` gives them back."""
        return self.model_dump(mode="json")

    @classmethod
    def from_dict(cls, values: object) -> Self:
        """Check settings that came in a file.

        Raises:
            UnknownName: a key or a name that is not known; names the nearest.
            UsageError: no table, or a value of another type or out of its range.
        """
        return checked(cls, values, f"the {cls.__name__.removesuffix('Spec').lower()}", list(cls.model_fields))


def checked(table: type[Table], values: object, source: str, known: list[str] | Mapping[str, Any]) -> Table:
    """Check values that came from outside; `source` names them in errors.

    Args:
        known: every key there is, dotted, or the complete table: for the nearest to an unknown one.
    """
    try:
        return table.model_validate(values)
    except ValidationError as error:
        raise first_error(error, source, dotted(known) if isinstance(known, Mapping) else known) from None


def first_error(error: ValidationError, source: str, known: list[str]) -> UsageError:
    """Return the first thing wrong, in one line; of an unknown name the nearest of `known` or of the choices."""
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        names = known if "." in place else {key.split(".")[0] for key in known}
        return UnknownName(f"key of {source}", place[:80], names)
    if first["type"] == "literal_error" and isinstance(first["input"], str):
        choices = [part.strip("'") for part in first["ctx"]["expected"].replace(" or ", ", ").split(", ")]
        return UnknownName(f"{place} of {source}", first["input"][:80], choices)
    came = "" if isinstance(first["input"], dict | BaseModel) else f" (got {shown(first['input'])})"
    return UsageError(f"{source}: {place}{': ' if place else ''}{first['msg'].removeprefix('Value error, ')}{came}")


def dotted(table: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return every key of a table of tables.

    >>> dotted({"name": "a", "input": {"size": 64}})
    ['name', 'input.size']
    """
    keys: list[str] = []
    for key, value in table.items():
        keys += dotted(value, f"{prefix}{key}.") if isinstance(value, dict) else [f"{prefix}{key}"]
    return keys


def shown(value: object) -> str:
    """Return a value from a file for a message: short, whatever it is."""
    if isinstance(value, int) and value.bit_length() > 64:
        return "an integer of more than 64 bits"  # printing one of many digits is an error of its own
    return repr(value)[:80]


class HeadSpec(Spec):
    """The head that turns the backbone's features into class scores.

    Linear and cosine heads drop features, before the map to the embedding (ArcFace's order, section 3.1: dropout, map,
    batch norm); the others drop after each hidden layer, as their sources do.

    >>> HeadSpec(kind="cosine", embedding=128, scale=32.0).to_dict()
    {'kind': 'cosine', 'embedding': 128, 'dropout': 0.0, 'scale': 32.0, 'subcentres': 1}
    """

    model_config = ConfigDict(strict=True)

    kind: HeadKind = "linear"  # native: the architecture's own classifier
    embedding: int = Field(0, ge=0, le=16_384)  # width of a linear map and norm before it; 0: the features themselves
    dropout: float = Field(0.0, ge=0, lt=1)  # share of the values set to zero in training
    scale: float = Field(0.0, ge=0, le=1000)  # cosine: scores are scale * cosine
    subcentres: int = Field(1, ge=1, le=64)  # cosine: directions a class, of which the nearest counts

    @model_validator(mode="after")
    def _fits_the_kind(self) -> Self:
        if self.kind == "native" and (self.embedding or self.dropout or self.scale or self.subcentres != 1):
            raise ValueError(f"the native head has no options; choose kind = {', '.join(HEADS)}")
        if self.kind == "cosine" and self.scale == 0:
            raise ValueError("a cosine head needs a scale above 0, for cosines alone make flat probabilities: try 32")
        if self.kind == "sigmoid" and (self.embedding or self.dropout):
            raise ValueError("a sigmoid head reads the features as they are: leave embedding and dropout at 0")
        if self.kind != "cosine" and (self.scale != 0 or self.subcentres != 1):
            raise ValueError(f"scale and subcentres are for cosine heads; leave them out of a {self.kind} head")
        return self


class ObjectiveSpec(Spec):
    """The loss that training minimises.

    Three groups. On class scores: cross-entropy, focal, capsule-margin (of class capsules), centre. On the cosines of a
    cosine head: a-softmax, cosface, arcface, adaface. On pairs of embeddings: contrastive, pairwise, triplet.

    >>> ObjectiveSpec(kind="arcface").used_margin
    0.5
    """

    kind: Literal[ScoreLoss, CosineLoss, PairLoss] = "cross-entropy"
    margin: float | Literal["paper"] = "paper"  # a-softmax: a whole number; arcface, adaface: radians
    mining: TripletMining = "batch-hard"  # triplet
    weight: float = Field(0.003, ge=0, le=1e6)  # centre: of the centre loss beside cross-entropy; lambda of the paper
    centre_rate: float = Field(0.5, gt=0, le=1)  # centre: how fast centres follow; alpha of the paper
    gamma: float = Field(2.0, ge=0, le=100)  # focal
    blend_start: float = Field(1000.0, ge=0, le=1e9)  # a-softmax: the share of plain softmax falls from this,
    blend_fall: float = Field(0.12, ge=0, le=1e9)  # the faster the greater this is,
    blend_least: float = Field(5.0, ge=0, le=1e9)  # down to this
    concentration: float = Field(1 / 3, gt=0, le=10)  # adaface: quality per std of the norms; h of the paper
    norm_rate: float = Field(0.01, gt=0, le=1)  # adaface: how fast mean and std of the norms follow the batches
    class_weights: Literal["none", "inverse"] = "none"  # inverse: rare classes count as much as frequent ones in all
    weighting: Literal["fixed", "uncertainty"] = "fixed"  # of several targets: by their weights, or learned

    @model_validator(mode="after")
    def _margin_fits(self) -> Self:
        if self.margin == "paper":
            return self
        if self.kind not in MARGINS:
            raise ValueError(f"{self.kind} has no margin: leave it out, or choose one of {', '.join(MARGINS)}")
        largest = LARGEST_MARGINS[self.kind]
        whole = self.kind == "a-softmax"
        if not (1 if whole else 0) <= self.margin <= largest or (whole and self.margin != int(self.margin)):
            wanted = f"a whole number from 1 to {largest:g}" if whole else f"a number in [0, {largest:.4g}]"
            raise ValueError(f"expected a margin of {wanted} for {self.kind}, got {self.margin:g}")
        return self

    @property
    def used_margin(self) -> float:
        """The margin that counts; 0 for kinds without one."""
        return MARGINS.get(self.kind, 0.0) if isinstance(self.margin, str) else self.margin


class Augment(Spec):
    """The augmentation of a training image; the default mirrors every second one.

    An image gets its own draw from each range. Order: crop, rotation, zoom, translation and mirroring in one resampling
    (what comes in from outside is the image's reflection), then brightness, contrast and saturation, then erasing, then
    what a bad camera does: blur, low resolution, noise, JPEG.

    `Augment(area=(0.08, 1), aspect=math.log(4 / 3), crop="inside")` is torchvision's RandomResizedCrop with its
    defaults and a flip (the box is not rounded to whole pixels); `Augment(rotation=36, zoom=0.1, translate=0.1)` is
    Keras' RandomFlip("horizontal"), RandomRotation(0.1), RandomZoom(0.1) and RandomTranslation(0.1, 0.1).
    """

    flip: Share = 0.5  # probability of mirroring left and right
    flip_vertical: Share = 0.0  # probability of turning upside down
    area: tuple[float, float] = (1.0, 1.0)
    """(low, high) share of the image's area that the crop shows, uniform; above 1 shows a reflected border."""
    aspect: float = Field(0.0, ge=0, le=math.log(4.0))  # the crop's width : height varies by exp(U(-aspect, aspect))
    rotation: float = Field(0.0, ge=0, le=180)  # largest angle, degrees, either way
    zoom: float = Field(0.0, ge=0, le=0.9)  # the side of what is shown varies by 1 + U(-zoom, zoom); below 1 enlarges
    translate: Share = 0.0  # largest shift along each axis, as a share of the side
    brightness: Share = 0.0  # the factor is U(1 - j, 1 + j); pixels are clamped once, after all three
    contrast: Share = 0.0  # as above, around the image's own mean
    saturation: Share = 0.0
    brightness_shift: Share = 0.0  # added to every pixel: U(-j, j) of the range 0 to 255
    contrast_range: tuple[float, float] = (1.0, 1.0)  # (low, high) of a further factor, uniform
    saturation_range: tuple[float, float] = (1.0, 1.0)
    erase: Share = 0.0  # probability of covering a rectangle with the image's mean colour
    erase_area: tuple[float, float] = (0.02, 0.2)  # (low, high) share of the area that the rectangle covers
    crop: Literal["centre", "inside"] = "centre"
    """"centre" keeps the crop's middle in the image's middle; "inside" puts the crop anywhere inside."""
    grey: Share = 0.0  # probability of losing all colour
    blur: Share = 0.0  # probability of a Gaussian blur
    blur_sigma: tuple[float, float] = (0.003, 0.02)  # (low, high), as a share of the side
    low_resolution: Share = 0.0  # probability of reducing the image and enlarging it again
    low_resolution_scale: tuple[float, float] = (0.2, 1.0)  # (low, high) share of the side that is left between
    noise: Share = 0.0  # probability of Gaussian noise, in each pixel and channel
    noise_std: tuple[float, float] = (1.0, 10.0)  # (low, high) grey levels of 255
    jpeg: Share = 0.0  # probability of compressing as JPEG
    jpeg_quality: tuple[int, int] = (20, 95)  # (low, high)

    @field_validator("area", "erase_area")
    @classmethod
    def _rises(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 < value[0] <= value[1] <= 4:
            raise ValueError("expected (low, high) with 0 < low <= high <= 4")
        return value

    @field_validator(*_RANGES)
    @classmethod
    def _in_range(cls, value: tuple[float, float], info: ValidationInfo) -> tuple[float, float]:
        least, most = _RANGES[str(info.field_name)]
        if not least <= value[0] <= value[1] <= most:
            raise ValueError(f"expected (low, high) with {least:g} <= low <= high <= {most:g}")
        return value

    @model_validator(mode="after")
    def _areas_fit(self) -> Self:
        if self.crop == "inside" and self.area[1] > 1:
            raise ValueError("a crop inside the image takes an area up to 1")
        if self.erase_area[1] > 0.9:
            raise ValueError("expected erase_area up to 0.9")
        return self

    @property
    def moves(self) -> bool:
        """Pixels must be resampled (mirroring alone needs none)."""
        return self.area != (1.0, 1.0) or any((self.aspect, self.rotation, self.zoom, self.translate))

    @property
    def colours(self) -> bool:
        """The values of pixels change."""
        factors = self.contrast_range != (1.0, 1.0) or self.saturation_range != (1.0, 1.0)
        return factors or any((self.brightness, self.contrast, self.saturation, self.grey, self.brightness_shift))

    @property
    def degrades(self) -> bool:
        """Some images are made worse as a bad camera or connection makes them."""
        return any((self.blur, self.low_resolution, self.noise, self.jpeg))


class NumberSpec(Spec):
    """A number to predict (age, yaw, quality). What is None is measured: `error` on validation, others on training."""

    head: NumberHead = "l1"
    """One score by absolute or Huber's error; the expected value over bins (DEX, Rothe et al. 2015); ordinal (CORAL,
    Cao et al. 2020)."""
    bins: int = Field(61, ge=2, le=2000)  # dex, coral: over [low, high], the outer ones centred there
    delta: float = Field(0.1, gt=0, le=1000)  # huber: where squares end, in halves of the range
    level: float = Field(0.9, ge=0.01, le=0.999)  # share of images whose prediction interval is to hold the truth
    tolerance: float = Field(5.0, ge=0, le=1e9)  # of the cumulative score, in the number's units
    low: float | None = Field(None, ge=-1e9, le=1e9)
    high: float | None = Field(None, ge=-1e9, le=1e9)
    median: float | None = None  # the constant prediction to compare with
    error: float | None = Field(None, ge=0)  # half the width of the prediction intervals
    calibrated: int | None = Field(None, ge=1)  # validation images that `error` is fitted on

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ValueError(f"expected low below high, got {self.low:g} and {self.high:g}")
        return self

    @property
    def scores(self) -> int:
        """The number of scores that a network gives for it."""
        return {"dex": self.bins, "coral": self.bins - 1}.get(self.head, 1)

    @property
    def ends(self) -> tuple[float, float]:
        """The values of the first and the last bin."""
        assert self.low is not None and self.high is not None, "measured before it is used"
        return self.low, self.high


class Target(Spec):
    """One thing to predict of an image; unknown of some images."""

    name: str = Field(min_length=1, max_length=200)  # of a column of the data; of votes any
    kind: Literal["attribute", "number", "classes", "votes"]  # attribute: yes or no
    number: NumberSpec | None = None  # None: no number
    classes: tuple[str, ...] = Field((), max_length=10_000)  # of votes also the columns of their counts
    weight: float = Field(1.0, gt=0, le=1e6)  # of its loss beside those of others

    @model_validator(mode="after")
    def _fits_kind(self) -> Self:
        if (self.number is not None) != (self.kind == "number"):
            raise ValueError(f"{self.name}: a target of the kind number has a table number, and no other has")
        return self

    @property
    def scores(self) -> tuple[str, ...]:
        """The names of the scores that a network gives for it; of an attribute the logit of yes."""
        count = 1 if self.number is None else self.number.scores
        return self.values if count == 1 else tuple(f"{self.name} {k}" for k in range(1, count + 1))

    @property
    def values(self) -> tuple[str, ...]:
        """The names of what the scores mean: a probability of yes or of each class, or the number."""
        return tuple(f"{self.name}: {one}" for one in self.classes) or (self.name,)

    @property
    def truths(self) -> tuple[str, ...]:
        """The names of the numbers of its truth: one, or of votes a count for each class."""
        return self.values if self.kind == "votes" else (self.name,)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the data that hold it."""
        return self.classes if self.kind == "votes" else (self.name,)


class TargetColumns(NamedTuple):
    """A target and its columns in the three tables of a task."""

    target: Target
    scores: slice  # of the network's scores
    truth: slice
    values: slice  # of probabilities and numbers


class TaskSpec(Spec):
    """Targets of a network in place of classes, in the order of its scores.

    >>> TaskSpec(targets=({"name": "smiling", "kind": "attribute"},)).scores
    ('smiling',)
    """

    targets: tuple[Target, ...] = Field(min_length=1, max_length=1000)

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [target.name for target in self.targets]
        if len(set(names)) < len(names):
            raise ValueError(f"expected each target once, got {', '.join(names)[:200]}")
        return self

    @property
    def scores(self) -> tuple[str, ...]:
        """The names of all scores."""
        return tuple(name for target in self.targets for name in target.scores)

    @property
    def values(self) -> tuple[str, ...]:
        """The names of all values: probabilities and numbers."""
        return tuple(name for target in self.targets for name in target.values)

    @property
    def truths(self) -> tuple[str, ...]:
        """The names of the columns of the truth."""
        return tuple(name for target in self.targets for name in target.truths)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the data that hold the targets."""
        return tuple(name for target in self.targets for name in target.columns)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the targets."""
        return tuple(target.name for target in self.targets)

    @cached_property
    def parts(self) -> tuple[TargetColumns, ...]:
        """The targets with their columns."""
        ends, at = [[0, 0, 0]], [0, 0, 0]
        for one in self.targets:
            at = [end + len(names) for end, names in zip(at, (one.scores, one.truths, one.values), strict=True)]
            ends.append(at)
        return tuple(
            TargetColumns(target, *(slice(a, b) for a, b in zip(start, end, strict=True)))
            for target, (start, end) in zip(self.targets, pairwise(ends), strict=True)
        )

    def of_kind(self, kind: str) -> tuple[TargetColumns, ...]:
        """Return the targets of a kind with their columns."""
        return tuple(part for part in self.parts if part.target.kind == kind)

    @property
    def tied(self) -> tuple[slice, ...]:
        """The runs of scores that differ by their biases alone: those of ordinal numbers."""
        return tuple(part.scores for part in self.of_kind("number") if part.target.number.head == "coral")  # type: ignore[union-attr]
