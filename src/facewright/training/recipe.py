"""The frozen, validated description of how a model is trained, kept as TOML.

A recipe says everything but the data, the architecture and the seed. Recipes shipped with the package lie in
`recipes/`; `load` takes one of their names or the path of a file of your own. `recipe.toml` of a run is the resolved
recipe: loading it again gives an equal object.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from facewright.data.augment import Augment
from facewright.errors import UnknownName, UsageError


class Part(BaseModel):
    """A table of a recipe: unknown keys are errors, values are fixed."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, allow_inf_nan=False)


class Input(Part):
    """What the network sees; becomes the InputSpec that travels with the weights."""

    size: int = Field(112, ge=32, le=1024)  # side in pixels
    resize: Literal["stretch", "cover", "pad"] = "cover"
    normalise: Literal["dataset", "unit", "imagenet"] = "dataset"  # mean/std of the training part; [0, 1]; ImageNet's
    stem: Literal["auto", "coarse", "imagenet", "medium", "small"] = "auto"


class Shares(Part):
    """Parts of the data, where it does not come split; the rest is for training."""

    validation: float = Field(0.1, gt=0, lt=1)
    test: float = Field(0.2, gt=0, lt=1)

    @model_validator(mode="after")
    def _leave_some(self) -> Shares:
        if self.validation + self.test >= 1:
            raise ValueError(f"validation and test together take {self.validation + self.test:g} of 1; nothing is left")
        return self


class Optimizer(Part):
    """The update rule."""

    name: Literal["adamw", "adam", "sgd"] = "adamw"
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    decay_all: bool = False  # also norms and biases, as a plain call of the optimizer does
    momentum: float = Field(0.9, ge=0, lt=1)  # sgd only (Nesterov)
    beta2: float = Field(0.999, gt=0, lt=1)  # adam and adamw


class Schedule(Part):
    """The learning rate over the run, as a factor of `optimizer.learning_rate`."""

    name: Literal["constant", "cosine", "one-cycle", "step", "plateau"] = "cosine"
    warmup: float = Field(0.0, ge=0, lt=1)  # share of all steps, linear from near zero; one-cycle: its rise
    floor: float = Field(0.0, ge=0, le=1)  # where cosine and one-cycle end; below which plateau does not go
    every: int = Field(10, ge=1)  # step: epochs between drops
    factor: float = Field(0.1, gt=0, lt=1)  # step, plateau: multiply by this
    patience: int = Field(5, ge=0)  # plateau: epochs without a better validation loss


class Stage(Part):
    """Progressive image size: until this share of the epochs, train at this share of `input.size`."""

    until: float = Field(gt=0, le=1)
    scale: float = Field(gt=0, le=1)


class Training(Part):
    """The loop."""

    epochs: int = Field(20, ge=1)
    batch: int = Field(32, ge=2)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    mixup: float = Field(0.0, ge=0)  # alpha of the Beta distribution; 0: none
    cutmix: float = Field(0.0, ge=0)
    clip: float = Field(0.0, ge=0)  # largest norm of the gradient; 0: no clipping
    ema: float = Field(0.0, ge=0, lt=1)  # decay of the averaged weights a step; 0: none
    stages: tuple[Stage, ...] = ()
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    checkpoint_seconds: float = Field(60.0, gt=0)  # how much work a kill may cost; no effect on the result
    checkpoint_steps: int = Field(0, ge=0)  # also after every so many steps; 0: by time alone

    @model_validator(mode="after")
    def _stages_rise(self) -> Training:
        ends = [stage.until for stage in self.stages]
        if ends and (ends != sorted(set(ends)) or ends[-1] != 1.0):
            raise ValueError(f"stages must rise and end at until = 1.0, not {ends}")
        if self.mixup and self.cutmix:
            raise ValueError("choose mixup or cutmix, not both")
        return self


class Selection(Part):
    """Which epoch's weights are kept, and when to give up waiting for better ones."""

    metric: Literal["accuracy", "loss"] = "loss"  # on the validation part
    patience: int = Field(0, ge=0)  # epochs without improvement before stopping; 0: never stop early


class Recipe(Part):
    """Everything but the data, the architecture and the seed."""

    name: str
    description: str
    input: Input = Input()
    shares: Shares = Shares()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    training: Training = Training()
    selection: Selection = Selection()
    augment: Augment = Augment()

    def to_toml(self) -> str:
        """The whole recipe, defaults included; `parse` gives back an equal one."""
        table = self.model_dump(exclude={"augment"}) | {"augment": dataclasses.asdict(self.augment)}
        return tomli_w.dumps(_plain(table))


def names() -> list[str]:
    """Recipes shipped with the package."""
    return sorted(item.name.removesuffix(".toml") for item in _shipped().iterdir() if item.name.endswith(".toml"))


def load(name: str | Path) -> Recipe:
    """A shipped recipe by name, or a file of your own.

    Raises:
        UnknownName: no shipped recipe has this name, or a key is unknown.
        UsageError: the file cannot be read, or a value is of another kind or out of its range.
    """
    if str(name) in names():
        return parse(_shipped().joinpath(f"{name}.toml").read_text(encoding="utf-8"), f"recipe {name}")
    path = Path(name)
    if path.suffix != ".toml":
        raise UnknownName("recipe", str(name), names())
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = (isinstance(error, OSError) and error.strerror) or "it is not UTF-8"
        shipped = f"name a TOML file that exists, or a shipped recipe: {', '.join(names())}"
        raise UsageError(f"{name}: the recipe cannot be read ({why}); {shipped}") from None
    return parse(text, str(path))


def parse(text: str, origin: str) -> Recipe:
    """TOML to a recipe; `origin` is named in errors."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{origin}: not TOML ({error})") from None
    return _validated(table, origin)


def override(recipe: Recipe, changes: Mapping[str, str]) -> Recipe:
    """A recipe with some values replaced.

    Args:
        recipe: the one to start from.
        changes: dotted key to text as TOML would read it: {"training.epochs": "5"}; bare words are strings.
    Raises:
        UnknownName: a key that no recipe has; names the nearest.
        UsageError: a value out of range.
    """
    table = tomllib.loads(recipe.to_toml())
    for key, text in changes.items():
        *tables, last = key.split(".")
        place: Any = table
        for name in tables:
            place = place.get(name) if isinstance(place, dict) else None
        if not isinstance(place, dict) or last not in place or isinstance(place[last], dict):
            raise UnknownName("recipe key", key, _dotted(table))
        place[last] = _value(text)
    return _validated(table, "--set")


def _validated(table: dict[str, Any], origin: str) -> Recipe:
    augment = table.get("augment", {})
    known = {field.name for field in dataclasses.fields(Augment)}
    for key in augment if isinstance(augment, dict) else ():
        if key not in known:
            raise UnknownName(f"key of {origin} in [augment]", key, known)
    try:
        return Recipe.model_validate(table)
    except ValidationError as error:
        raise _explained(error, origin) from None
    except UsageError as error:  # a value that the augmentation itself refuses
        raise UsageError(f"{origin}: {error}") from None


def _explained(error: ValidationError, origin: str) -> UsageError:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        every = tomllib.loads(Recipe(name="", description="").to_toml())
        return UnknownName(f"key of {origin}", where, _dotted(every) if "." in where else every)
    got = "" if first["type"] == "missing" else f" (got {first['input']!r})"
    return UsageError(f"{origin}: {where}: {first['msg']}{got}")


def _dotted(table: Mapping[str, Any], prefix: str = "") -> list[str]:
    keys: list[str] = []
    for key, value in table.items():
        keys += _dotted(value, f"{prefix}{key}.") if isinstance(value, dict) else [f"{prefix}{key}"]
    return keys


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _plain(value: Any) -> Any:
    """Tuples as lists, all the way down: TOML knows only lists."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _shipped() -> Any:
    return resources.files("facewright.training").joinpath("recipes")
