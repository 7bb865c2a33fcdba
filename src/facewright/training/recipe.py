"""The frozen, validated description of how a model is trained, kept as TOML.

A recipe says everything but the data, the architecture and the seed. Recipes shipped with the package lie in
`recipes/`; `load` takes one of their names or the path of a file of your own. `recipe.toml` of a run is the resolved
recipe: loading it again gives an equal object.
"""

from __future__ import annotations

import logging
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self

import numpy as np
import tomli_w
from pydantic import Field, model_validator

from facewright.data.sampling import class_weights
from facewright.errors import UsageError
from facewright.specs import (
    ON_COSINES,
    ON_PAIRS,
    SHARDABLE,
    SHARED,
    SMOOTHED,
    Augment,
    HeadSpec,
    NumberSpec,
    ObjectiveSpec,
    Spec,
    TaskSpec,
    checked,
)
from facewright.training import toml_recipes
from facewright.training.recipe_parts import (
    MOST_EPOCHS,
    Generation,
    HardNegativeMining,
    Input,
    OptimizerSpec,
    Phase,
    Probe,
    Sampling,
    Schedule,
    Selection,
    Shares,
    Threshold,
    Training,
)

SHELF = toml_recipes.Shelf("recipes", "recipe")
RENAMED = {"head.l2": "optimizer.head_weight_decay"}  # keys of version 0.1, still read
OLD_PHASE, NEW_PHASE = "body", "backbone"  # of the shipped recipes: its name in version 0.1, and now
LOG = logging.getLogger("facewright.training")


class Recipe(Spec):
    """Everything but the data, the architecture and the seed."""

    name: str
    description: str
    input: Input = Input()
    shares: Shares = Shares()
    optimizer: OptimizerSpec = OptimizerSpec()
    schedule: Schedule = Schedule()
    training: Training = Training()
    selection: Selection = Selection()
    threshold: Threshold = Threshold()
    head: HeadSpec = HeadSpec(kind="native")
    objective: ObjectiveSpec = ObjectiveSpec()
    sampling: Sampling = Sampling()
    mining: HardNegativeMining = HardNegativeMining()
    generation: Generation = Generation()
    augment: Augment = Augment()
    number: NumberSpec = NumberSpec()  # of each number among the targets of a task that is asked for by --task
    task: TaskSpec | None = None  # None: one class an image
    probe: Probe | None = None  # where present, optimizer, schedule, training and phases have no part in the run
    phases: dict[str, Phase] = Field({})  # in this order; none: one of `training.epochs` at `optimizer.learning_rate`

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for wrong, message in (*self._conflicts_of_head(), *self._conflicts_of_training()):
            if wrong:
                raise ValueError(message)
        if self.task is not None:
            self._fits_targets()
        return self

    def _conflicts_of_head(self) -> tuple[tuple[bool, str], ...]:
        """Return what the head and the objective exclude, each with the message."""
        kind, head, training = self.objective.kind, self.head.kind, self.training
        mixed = bool(training.mixup or training.cutmix)
        computed_once = any(phase.draws for phase in self.phases.values())
        return (
            (self.probe is not None and self.head != HeadSpec(), "a probe fits a linear head: set head.kind to linear"),
            (bool(self.phases and training.stages), "choose training.stages or phases, not both"),
            (kind in ON_COSINES and head != "cosine", f"objective.kind = {kind} wants head.kind = cosine, got {head}"),
            (head == "native" and kind not in SHARED, f"objective.kind = {kind} wants head.kind = linear or cosine"),
            (
                kind == "capsule-margin" and head != "native",
                f"objective.kind = {kind} reads class capsules: set head.kind to native, not {head}",
            ),
            (head == "native" and computed_once, "features computed once want a head of their own: head.kind = linear"),
            (
                mixed and kind not in SHARED,
                f"objective.kind = {kind} wants one label an image: no mixup, or {' or '.join(SHARED)}",
            ),
            (mixed and computed_once, "images cannot be mixed where features are computed once: set draws to 0"),
        )

    def _conflicts_of_training(self) -> tuple[tuple[bool, str], ...]:
        """Return what the tables training, sampling and phases exclude, each with the message."""
        kind, training, generated = self.objective.kind, self.training, self.sampling.plan == "generate"
        weighted, parts = self.objective.class_weights != "none", training.accumulate > 1
        return (
            (
                training.shard_classes and (kind not in SHARDABLE or weighted),
                f"training.shard_classes is for objective.kind = {', '.join(SHARDABLE)} without class_weights",
            ),
            (training.negatives < 1 and not training.shard_classes, "training.negatives wants training.shard_classes"),
            (
                bool(training.label_smoothing) and kind not in SMOOTHED,
                f"objective.kind = {kind} takes no training.label_smoothing: set it to 0, or choose {SMOOTHED}",
            ),
            (parts and training.shard_classes, "sharded classes see whole batches: set training.accumulate to 1"),
            (
                parts and (kind in (*ON_PAIRS, "centre", "adaface") or self.task is not None),
                f"{kind if self.task is None else 'a task'} is no mean over images: set training.accumulate to 1",
            ),
            (generated and weighted, "generated images make the classes equal: set objective.class_weights to none"),
            (generated and self.probe is not None, "a probe reads each image once: set sampling.plan to shuffle"),
            (
                sum(phase.epochs for phase in self.phases.values()) > MOST_EPOCHS,
                f"the phases have more than {MOST_EPOCHS:,} epochs",
            ),
        )

    def _fits_targets(self) -> None:
        """Refuse what needs one class an image. Raises ValueError."""
        assert self.task is not None
        training = self.training
        for setting, wrong in {
            f"objective.kind = {self.objective.kind}": self.objective.kind not in SHARED,
            "objective.class_weights": self.objective.class_weights != "none",
            f"head.kind = {self.head.kind}": self.head.kind in ("native", "sigmoid", "cosine"),
            "mixup and cutmix": bool(training.mixup or training.cutmix),
            f"sampling.plan = {self.sampling.plan}": self.sampling.plan != "shuffle",
            f"selection.metric = {self.selection.metric}": self.selection.metric == "hter",
            "hard negatives": any(phase.hard_negatives for phase in self.phases.values()),
        }.items():
            if wrong:
                raise ValueError(f"{setting} needs one class an image, and the task has targets: choose another value")
        if self.objective.kind == "focal" and not self.task.of_kind("attribute"):
            raise ValueError("the focal loss is for attributes: set objective.kind to cross-entropy")
        if self.probe is not None and self.task.of_kind("votes"):
            raise ValueError("a probe fits no votes: choose scratch or finetune")
        wide = [target.name for target in self.task.targets if target.number is not None and len(target.scores) > 1]
        if self.probe is not None and wide:
            raise ValueError(f"a probe fits one score to a number ({wide[0]}): set number.head to l1 or huber")

    def with_task(self, task: TaskSpec) -> Recipe:
        """Return the recipe for these targets, with a linear head in place of the architecture's own classifier.

        The recipe says how a number is predicted, unless the task does.

        Raises:
            UsageError: a setting needs one class an image.
        """
        head = HeadSpec(kind="linear") if self.head.kind == "native" else self.head
        told = [
            one if one.number != NumberSpec() else one.model_copy(update={"number": self.number})
            for one in task.targets
        ]
        table = {"head": head.to_dict(), "task": {"targets": [target.to_dict() for target in told]}}
        return _validated({**self.model_dump(), **table}, f"recipe {self.name}")

    @property
    def all_phases(self) -> dict[str, Phase]:
        """The phases that take place, or the single one of a recipe without phases."""
        whole = Phase(epochs=self.training.epochs, learning_rate=self.optimizer.learning_rate)
        taking_place = {
            name: phase for name, phase in self.phases.items() if self.mining.photos or not phase.hard_negatives
        }
        return taking_place or {"train": whole}

    @property
    def wants_weights(self) -> bool:
        """The backbone is frozen at the start, so it must have been trained before."""
        first = next(iter(self.all_phases.values()))
        return self.probe is None and first.train != "all"

    @property
    def epochs(self) -> int:
        """Epochs of all phases."""
        return sum(phase.epochs for phase in self.all_phases.values())

    def with_epochs(self, share: float) -> Recipe:
        """Return the recipe with a share of the epochs of each phase, in (0, 1]; at least one each."""

        def part(epochs: int) -> int:
            return max(1, math.floor(share * epochs))

        phases = {name: one.model_copy(update={"epochs": part(one.epochs)}) for name, one in self.phases.items()}
        training = self.training.model_copy(update={"epochs": part(self.training.epochs)})
        return self.model_copy(update={"phases": phases, "training": training})

    def with_phase_names_of(self, begun: Recipe) -> Recipe:
        """Return the recipe with the phase names of a run of version 0.1, which is resumed as it began."""
        if OLD_PHASE not in begun.phases or NEW_PHASE not in self.phases:
            return self
        phases = {OLD_PHASE if name == NEW_PHASE else name: phase for name, phase in self.phases.items()}
        return self.model_copy(update={"phases": phases})

    def image_size(self, epoch: int) -> int:
        """Return the side in pixels that an epoch, counted from 0, trains at; below the full size a multiple of 16."""
        share = (epoch + 1) / self.epochs
        scale = next((stage.scale for stage in self.training.stages if share <= stage.until + 1e-9), 1.0)
        full = self.input.size
        return full if scale == 1.0 else max(32, round(full * scale / 16) * 16)

    def to_toml(self) -> str:
        """The whole recipe, defaults included; `parse` gives back an equal one."""
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))


def names() -> list[str]:
    """Return the names of the recipes shipped with the package."""
    return SHELF.names()


def load(name: str | Path) -> Recipe:
    """Load a shipped recipe by name, or a TOML file.

    Raises:
        UnknownName: no shipped recipe has this name, or a key is unknown.
        UsageError: the file cannot be read, or a value is of another kind or out of its range.
    """
    return parse(*SHELF.text(name))


def parse(text: str, origin: str) -> Recipe:
    """Read a recipe from TOML; `origin` is named in errors."""
    return _validated(toml_recipes.table_of(text, origin), origin)


def run_detector(model: str | Path) -> str | None:
    """Return the detector that a run was trained with; None: it took images whole, or `model` is no run directory."""
    path = Path(model) / "recipe.toml"
    if not path.is_file():
        return None
    chosen = parse(path.read_text("utf-8"), str(path)).input.detector
    return None if chosen == "none" else chosen


def override(recipe: Recipe, changes: Mapping[str, str]) -> Recipe:
    """Replace some values of a recipe.

    Args:
        recipe: the one to start from.
        changes: dotted key to text as TOML would read it: {"training.epochs": "5"}; bare words are strings.
    Raises:
        UnknownName: a key that no recipe has; names the nearest.
        UsageError: a value out of range.
    """
    if recipe.phases and "training.epochs" in changes:
        known = ", ".join(f"phases.{name}.epochs" for name in recipe.phases)
        raise UsageError(f"recipe {recipe.name} counts its epochs by phase: set {known}")
    changes = {_present_name(key, recipe): text for key, text in changes.items()}
    return _validated(toml_recipes.change(tomllib.loads(recipe.to_toml()), changes, "recipe"), "--set")


def _present_name(key: str, recipe: Recipe) -> str:
    """Return the present name of a key of version 0.1."""
    table, _, rest = key.removeprefix("phases.").partition(".")
    if key.startswith("phases.") and table == OLD_PHASE not in recipe.phases and NEW_PHASE in recipe.phases:
        _tell_new_name(key, key := f"phases.{NEW_PHASE}.{rest}")
    return RENAMED.get(key, key)


@cache
def _tell_new_name(old: str, new: str) -> None:
    """Say once in a process that a key has a new name."""
    LOG.warning("%s is now %s", old, new)


def _validated(table: dict[str, Any], origin: str) -> Recipe:
    for old, new in RENAMED.items():
        (old_table, old_key), (new_table, new_key) = old.split("."), new.split(".")
        if isinstance(table.get(old_table), dict) and old_key in table[old_table]:
            table.setdefault(new_table, {})[new_key] = table[old_table].pop(old_key)
    return checked(Recipe, table, origin, Recipe(name="", description="").to_dict())


@dataclass(frozen=True)
class Balancing:
    """Images by class, and the share of each class in an epoch and in the loss."""

    images: Mapping[str, int]  # in the training part
    epoch: Mapping[str, int] | None  # drawn for an epoch, before a short last batch is left out; None: by people
    weights: Mapping[str, float] | None  # what a mistake costs, on average 1; None: each the same
    words: tuple[str, ...]  # sentences without a full stop


def balancing_of(recipe: Recipe, images: Mapping[str, int]) -> Balancing:
    """Work out how the recipe balances a training part.

    Args:
        images: how many of each class the training part has; one at least of each.
    >>> from facewright.training.recipe import load
    >>> balancing_of(load("hter-undersample"), {"masked": 186, "bare": 1351}).words
    ('under-sampling: 186 of 1,351 a class each epoch, others each time',)
    """
    epoch = _epoch(recipe, images)
    weights = None
    if recipe.objective.class_weights == "inverse":
        labels = np.repeat(np.arange(len(images)), list(images.values()))
        weights = dict(zip(images, class_weights(labels, len(images)).tolist(), strict=True))
    return Balancing(images, epoch, weights, tuple(_words(recipe, images, weights)))


def _epoch(recipe: Recipe, images: Mapping[str, int]) -> Mapping[str, int] | None:
    plan, most, least = recipe.sampling.plan, max(images.values()), min(images.values())
    if plan == "identities":
        return None
    if plan == "repeat":
        rarest = min(images, key=lambda name: images[name])
        return {name: count * (recipe.sampling.times if name == rarest else 1) for name, count in images.items()}
    wanted = {"over": most, "generate": most, "under": least}.get(plan)
    return dict(images) if wanted is None else dict.fromkeys(images, wanted)


def _words(recipe: Recipe, images: Mapping[str, int], weights: Mapping[str, float] | None) -> list[str]:
    most, least = max(images.values()), min(images.values())
    sampling = recipe.sampling
    said = {
        "under": f"under-sampling: {least:,} of {most:,} a class each epoch, others each time",
        "over": f"over-sampling: every class brought to {most:,} an epoch; the smallest has {least:,}",
        "generate": f"{most - least:,} generated images beside {least:,} real ones of the smaller class",
        "repeat": f"the smallest class comes {sampling.times} times an epoch, with another augmentation each time",
        "identities": f"batches of {sampling.people} classes with {sampling.images} images each",
    }
    words = [said[sampling.plan]] if sampling.plan in said else []
    if weights is not None:
        costs = ", ".join(f"{name} {weight:.2f}" for name, weight in list(weights.items())[:4])
        words.append(f"class weights: a mistake costs {costs}{', …' if len(weights) > 4 else ''}")
    if recipe.objective.kind == "focal":
        words.append(f"focal loss with gamma {recipe.objective.gamma:g}: confident images count less")
    return words or ["no balancing: every image once an epoch, every mistake costs the same"]
