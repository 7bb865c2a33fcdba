"""A request to train: an architecture, the weights it starts from, the data and the recipe, checked before decoding."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from torch import nn

from facewright import bundle as bundles
from facewright.bundle import Bundle
from facewright.data.records import Dataset
from facewright.data.sources import open_dataset
from facewright.errors import Interrupted, UsageError
from facewright.events import EventHandler, Message, Progress, ignore_event
from facewright.files import model_file
from facewright.input_spec import InputSpec
from facewright.models.catalog import names, resolve_stem
from facewright.models.weights import PretrainedWeights, open_weights, parse_model
from facewright.runs import RunFacts
from facewright.training import recipe as recipes
from facewright.training.distributed import World
from facewright.training.recipe import Recipe
from facewright.workflows.inspection import PreparedData, check_classes, with_targets

LOG = logging.getLogger("facewright.training")
AUTO = "auto"  # as `training.batch`: the largest that fits


@dataclasses.dataclass(frozen=True)
class Request:
    """The model to train, the data, and the settings."""

    dataset: Dataset
    model: str  # architecture, or architecture@weights
    stem: str
    recipe: Recipe
    widest: bool = False  # the batch is still to be found


def requested(
    data: str | Path | Dataset,
    model: str,
    recipe: str | Path | None,
    overrides: Mapping[str, str],
    task: str | None = None,
    on_event: EventHandler = ignore_event,
) -> Request:
    """Check what is asked for and list the data, before anything is decoded. Args, Raises: as of `train`."""
    model, own, begun = start_of(model, recipe)
    overrides = dict(overrides)
    widest = overrides.get("training.batch") == AUTO and bool(overrides.pop("training.batch"))
    chosen = recipes.override(own, overrides)
    stem = check_model(model, chosen)  # an unknown model is found before anything is decoded
    targets = task is not None or chosen.task is not None
    on_event(Progress("listing the images", 0, 1))
    dataset = data if isinstance(data, Dataset) else open_dataset(data, labels=not targets)
    dataset, chosen = with_targets(dataset, chosen, task)
    if begun is not None:
        begun.check_input(chosen)
    if begun is not None and chosen.task is None:
        dataset = dataset.with_classes_first(begun.bundle.classes)
        on_event(Message(begun.changes(dataset.classes)))
    check_classes(dataset, chosen)
    LOG.info("%s: %d images, %d classes, layout %s", dataset.where, len(dataset), len(dataset.classes), dataset.layout)
    LOG.info("%s by %s, stem %s", model, chosen.name, stem)
    LOG.debug("recipe: %s", chosen.to_toml())
    return Request(dataset, model, stem, chosen, widest)


@dataclasses.dataclass(frozen=True)
class InitialWeights:
    """An architecture and the public weights it starts from."""

    model: str  # architecture
    stem: str
    weights: str | None  # as the user named them: a released name or a file; None: random weights
    loaded: PretrainedWeights | None

    @property
    def spec(self) -> InputSpec | None:
        """The input that the public weights were trained with."""
        return None if self.loaded is None else self.loaded.spec


@dataclasses.dataclass(frozen=True)
class Job:
    """A run that is ready to be trained."""

    folder: Path
    network: nn.Module
    data: PreparedData
    facts: RunFacts
    recipe: Recipe
    world: World
    on_event: EventHandler
    processor_seconds: float = 0.0  # of this process, at the start


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """A trained model whose backbone a run starts from."""

    start: str  # architecture@folder of a run, or architecture@file
    bundle: Bundle
    recipe: Recipe  # of the head: logistic regression on the features of the frozen backbone, on the model's own input

    def check_input(self, recipe: Recipe) -> None:
        """Refuse whole images for a backbone that was trained on face crops. Raises: UsageError."""
        if self.bundle.spec.faces is not None and recipe.input.detector == "none":
            raise UsageError(f"{self.start} was trained on face crops: say which detector with --detector")

    def changes(self, classes: tuple[str, ...]) -> str:
        """Tell which classes of the model are kept, which are new, and which have no images any more."""
        before = self.bundle.classes
        parts = {
            "kept": [name for name in before if name in classes],
            "added": [name for name in classes if name not in before],
            "missing from the data": [name for name in before if name not in classes],
        }
        return "classes " + "; ".join(
            f"{what}: {len(found)}" + (f" ({_first(found)})" if found and what != "kept" else "")
            for what, found in parts.items()
        )


def _trained_model(model: str) -> TrainedModel | None:
    """Open a run or a model file to start from; None for an architecture and for architecture@weights."""
    path = Path(model).expanduser()
    if "@" in model or model in names() or not path.exists():
        return None
    bundle = bundles.load(model_file(path))
    if bundle.exported is not None or not bundle.classes:
        raise UsageError(f"{model}: expected a trained classifier in PyTorch (a run or its model.safetensors)")
    recipe = recipes.override(recipes.load("probe"), {"input.size": str(bundle.spec.height)})
    if (path / "recipe.toml").is_file():
        own = recipes.load(path / "recipe.toml").input.model_copy(update={"normalise": "weights"})
        recipe = recipe.model_copy(update={"input": own})
    return TrainedModel(f"{bundle.architecture}@{path.resolve()}", bundle, recipe)


def _first(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def recipe_for(model: str, recipe: str | Path | None) -> Recipe:
    """Load the recipe, or the one for fine-tuning public weights, or for training from random ones.

    >>> recipe_for("mobilenet_v2@imagenet", None).name, recipe_for("mobilenet_v2", None).name
    ('finetune', 'scratch')
    """
    default = "scratch" if parse_model(model)[1] is None else "finetune"
    return recipes.load(default if recipe is None else recipe)


def start_of(model: str, recipe: str | Path | None) -> tuple[str, Recipe, TrainedModel | None]:
    """Return the start of a run as architecture or architecture@weights, its recipe, and the trained model if any."""
    begun = _trained_model(model)
    if begun is None:
        return model, recipe_for(model, recipe), None
    return begun.start, begun.recipe if recipe is None else recipes.load(recipe), begun


def with_one_class_order(dataset: Dataset, begun: Sequence[TrainedModel]) -> Dataset:
    """Return the data set with the classes of trained models first, in an order that each of them keeps.

    Raises:
        UsageError: two of them have classes in different orders.
    """
    orders = [tuple(name for name in one.bundle.classes if name in dataset.classes) for one in begun]
    first = max(orders, key=len, default=())
    for one, order in zip(begun, orders, strict=True):
        if order != first[: len(order)]:
            longest = begun[orders.index(first)].start
            raise UsageError(
                f"{one.start} has the classes {_first(list(order))} first, {longest} has {_first(list(first))}; models "
                "that are compared need one order of classes: compare the two in separate calls"
            )
    return dataset.with_classes_first(first)


def check_model(model: str, recipe: Recipe) -> str:
    """Refuse an unknown architecture, stem or size before anything is decoded or read; return the stem.

    Raises:
        UnknownName: no such architecture or stem.
        UsageError: the recipe trains class capsules, which the architecture has not.
    """
    if recipe.objective.kind == "capsule-margin" and parse_model(model)[0] != "capsnet":
        raise UsageError(f"objective.kind = capsule-margin reads class capsules: choose --model capsnet, not {model}")
    return resolve_stem(parse_model(model)[0], recipe.input.size, recipe.input.stem)


def check_weights(model: str, recipe: Recipe) -> None:
    """Refuse a recipe that freezes a backbone of random weights."""
    if recipe.wants_weights and parse_model(model)[1] is None:
        raise UsageError(
            f"recipe {recipe.name} starts with a frozen backbone, which must be trained already: "
            f"choose --model {model}@WEIGHTS (see `facewright weights list`), or --recipe scratch"
        )


def initial_weights(model: str, recipe: Recipe, stem: str, on_event: EventHandler) -> InitialWeights:
    """Open the weights that a run starts from; `stem`, from `check_model`, is that of random ones.

    Raises:
        UnknownName: no such stem or released weights. FacewrightError: the weights cannot be had or used.
    """
    architecture, weights = parse_model(model)
    if weights is None:
        return InitialWeights(architecture, stem, None, None)
    loaded = open_weights(
        architecture, weights, progress=lambda done, total: on_event(Progress(f"fetching {weights}", done, total))
    )
    wanted = loaded.stem if recipe.input.stem == "auto" else recipe.input.stem
    return InitialWeights(architecture, resolve_stem(architecture, recipe.input.size, wanted), weights, loaded)


def free_folder(name: str) -> Path:
    """Return runs/NAME-1, or the next number that is free."""
    clean, number = folder_name(name), 1
    while (Path("runs") / f"{clean}-{number}").exists():
        number += 1
    return Path("runs") / f"{clean}-{number}"


def folder_name(text: str) -> str:
    """Make a name that every file system takes; of weights in a file, its name.

    >>> folder_name("mobilefacenet@/weights/arc.safetensors")
    'mobilefacenet-arc'
    """
    architecture, _, weights = text.partition("@")
    text = f"{architecture}-{Path(weights).name.removesuffix('.safetensors')}" if weights else text
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in text).strip("-.") or "run"


def stepwise(recipe: Recipe) -> Recipe:
    """Return the recipe without what comes before the first step: features, hard negatives, generated images."""
    phases = {name: phase.model_copy(update={"draws": 0, "hard_negatives": 0}) for name, phase in recipe.phases.items()}
    sampling = recipe.sampling
    if sampling.plan == "generate":  # as many images of each class, and as many steps
        sampling = sampling.model_copy(update={"plan": "over"})
    return recipe.model_copy(update={"phases": phases, "sampling": sampling})


@contextmanager
def resumed_by(command: str) -> Iterator[None]:
    """Name in the message of a stopped training the command that resumes the work which it is a part of."""
    try:
        yield
    except Interrupted as stopped:
        raise Interrupted(f"{str(stopped).partition(', ')[0]}, resume with {command}") from None
