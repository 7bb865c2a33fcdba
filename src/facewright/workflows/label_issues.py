"""Label issues of a run's dataset: every image is evaluated by a model that saw neither it nor its copies.

With public weights: features of the frozen public backbone (never the run's own, which has learned the labels in
question), and on each fold's other images a logistic regression. Else the run's recipe, retrained on each fold's other
images in RUN/folds. What is found is kept in RUN/suspicious.json, and the run's report shows it; nothing is dropped.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from facewright import devices
from facewright.data.cache import cache_folder
from facewright.data.duplicates import near_pairs
from facewright.data.sampling import derive
from facewright.data.splits import groups_of, k_fold
from facewright.data.store import PixelStore
from facewright.errors import DataError, RunError, UsageError
from facewright.evaluation.classification import SCORES, keeps_scores
from facewright.evaluation.label_issues import LabelIssues, compare_with_classes, estimate_label_issues
from facewright.events import EventHandler, Message, Progress, counted, ignore_event
from facewright.faces.crops import with_face_crops
from facewright.files import write_atomic, write_json
from facewright.models.catalog import names, resolve_stem
from facewright.models.weights import NONE, open_weights, parse_model
from facewright.provenance import origin
from facewright.report.label_issues import label_page
from facewright.runs import SUSPICIOUS, Run
from facewright.training import probe
from facewright.training import recipe as recipes
from facewright.training.assembly import starting_network
from facewright.training.distributed import World
from facewright.training.loading import FeatureInputs, features_of
from facewright.training.recipe_parts import Probe
from facewright.workflows.comparison import compare, thumbnails
from facewright.workflows.inspection import cropper_of, open_store
from facewright.workflows.training_requests import resumed_by
from facewright.workflows.training_runs import train

STRENGTHS = (0.001, 0.01, 0.1, 1.0)  # inverse penalties of the logistic regression, chosen inside each fold's rest
INNER_FOLDS = 3
PLAIN = 0.1  # where a fold's rest has too few images of a class to choose


@dataclass(frozen=True)
class _Evaluated:
    """The images whose labels can be evaluated; the others' classes have too few different ones."""

    store: PixelStore
    groups: tuple[str, ...]  # of every row of the store: copies, exact and near, share one
    rows: NDArray[np.int64]  # (N,) of the store
    classes: NDArray[np.int64]  # (C,) class numbers of the dataset
    notes: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.store.dataset.classes[number] for number in self.classes)

    @property
    def labels(self) -> NDArray[np.int64]:
        """(N,) places in `classes`."""
        return np.searchsorted(self.classes, self.store.dataset.labels[self.rows]).astype(np.int64)

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(self.store.dataset.records[row].path for row in self.rows.tolist())

    @property
    def units(self) -> list[str]:
        """(N,) the groups of the evaluated images."""
        return [self.groups[row] for row in self.rows.tolist()]


def find_label_issues(
    folder: str | Path,
    *,
    folds: int = 5,
    weights: str | None = None,
    device: str | None = None,
    on_event: EventHandler = ignore_event,
) -> LabelIssues:
    """Look for wrong labels in the dataset of a run; writes suspicious.json and the run's report.

    Args:
        folder: a finished run.
        folds: 2 or more; each image is evaluated by a model trained on the other folds.
        weights: use the features of these public weights, whatever the run began with: of the run's architecture a
            released name or a file, or ARCHITECTURE@WEIGHTS; "none": retrain the run on each fold. None: features
            where the run began with public weights, trainings where not.
        device: what computes, as for `train`.
        on_event: hears what it will cost before it starts, and how far it is.
    Raises:
        RunError: this is no finished run.
        DataError: its data has changed, or fewer than two classes have enough different images.
        UsageError: fewer than two folds.
    """
    folder = Path(folder)
    run = Run(folder)
    run.classifier.refuse_targets()
    _ = run.evaluation  # an unfinished run is refused before anything is computed
    model = backbone_of(run.facts.start, weights)
    evaluated = _open(run, folds, on_event)
    labelled, likeness = (evaluated.paths, evaluated.labels, evaluated.names), None
    if model is None:
        source = f"{folds} trainings of {run.facts.title} with recipe {run.facts.recipe}, each without a fold"
        probabilities = _retrained(run, evaluated, folds, device, on_event)
    else:
        source = f"logistic regression on the features of {_short(model)}, {folds} folds"
        embeddings = _embeddings(run, evaluated, model, device, on_event)
        probabilities = _regressed(evaluated, embeddings, folds, run.facts.seed, on_event)
        likeness = compare_with_classes(*labelled, embeddings, evaluated.units)
    accuracy, errors, found = estimate_label_issues(*labelled, probabilities)
    result = LabelIssues(
        dataset=run.facts.dataset,
        fingerprint=run.facts.fingerprint,
        source=source,
        n=len(evaluated.rows),
        folds=folds,
        classes=evaluated.names,
        accuracy=accuracy,
        estimated_errors=errors,
        suspects=found,
        likeness=likeness,
        notes=evaluated.notes,
    )
    write_json(run.folder / SUSPICIOUS, result.to_dict())
    compare([Run(folder)]).to_html(run.folder / "report.html")
    return result


def write_page(folder: Path, page: Path) -> None:
    """Write what `find_label_issues` found in a run's dataset as a page of its own, with the images.

    Raises:
        RunError: the labels of this run's dataset were not inspected.
        FacewrightError: the page cannot be written.
    """
    run = Run(folder)
    if run.label_issues is None:
        raise RunError(f"{folder}: no {SUSPICIOUS}; first: facewright inspect --labels {shlex.quote(str(folder))}")
    chosen = run.recipe.input
    dataset = with_face_crops(run.open_dataset(), cropper_of(run.recipe))
    store = open_store(dataset, chosen.size, chosen.resize, ignore_event)
    write_atomic(page, label_page(run.label_issues, origin(run.facts.versions), thumbnails(store)))


def backbone_of(begun: str, weights: str | None) -> str | None:
    """Return the public backbone whose features are used, as ARCHITECTURE@WEIGHTS; None: the run is retrained.

    Args:
        begun: what the run began with, architecture or architecture@weights.
        weights: as `find_label_issues` is asked.

    >>> backbone_of("resnet18", None), backbone_of("resnet18@imagenet", None), backbone_of("resnet18@imagenet", "none")
    (None, 'resnet18@imagenet', None)
    >>> backbone_of("resnet18", "imagenet"), backbone_of("resnet18", "mobilenet_v2@imagenet")
    ('resnet18@imagenet', 'mobilenet_v2@imagenet')
    """
    architecture, own = parse_model(begun)
    if weights is None:
        return None if own is None else begun
    if weights == NONE:
        return None
    return weights if weights.partition("@")[0] in names() else f"{architecture}@{weights}"


def _open(run: Run, folds: int, on_event: EventHandler) -> _Evaluated:
    if folds < 2:
        raise UsageError(
            f"--folds {folds}: expected 2 or more: no image is evaluated by a model that was trained on it"
        )
    chosen, facts = run.recipe.input, run.facts
    dataset = with_face_crops(run.open_dataset(), cropper_of(run.recipe))
    store = open_store(dataset, chosen.size, chosen.resize, on_event)
    if store.dataset.fingerprint(store.digests) != facts.fingerprint:
        raise DataError(f"{run.folder}: the data at {facts.where} changed since the run; train a new one to inspect it")
    near = near_pairs(store.pixels, store.digests)
    groups = tuple(groups_of(store.digests, near.pairs.tolist()))
    labels = store.dataset.labels
    enough = [
        number for number in range(len(facts.classes)) if _can_be_evaluated(labels == number, groups, folds, facts.seed)
    ]
    left_out = [name for number, name in enumerate(facts.classes) if number not in enough]
    if len(enough) < 2:
        raise DataError(
            f"{facts.where}: expected at least two classes with three different images or more, found {len(enough)}"
        )
    rows = np.flatnonzero(np.isin(labels, enough))
    if not keeps_scores(len(rows), len(facts.classes)):
        raise UsageError(
            f"--labels needs the probability of each class for each image: {len(rows):,} images x "
            f"{len(facts.classes):,} classes are more than {SCORES:,}; inspect a part of the people"
        )
    notes = (f"not evaluated, for too few different images: {', '.join(left_out)}",) if left_out else ()
    return _Evaluated(store, groups, rows, np.array(enough, np.int64), notes)


def _can_be_evaluated(members: NDArray[np.bool_], groups: Sequence[str], folds: int, seed: int) -> bool:
    """Return whether every fold leaves two or more different images of a class to train on."""
    units = [groups[row] for row in np.flatnonzero(members).tolist()]
    if len(set(units)) < 2:
        return False
    parts = k_fold(np.zeros(len(units), np.int64), units, seed, folds, 0.0)
    return all(len({units[row] for row in part.train}) >= 2 for part in parts)


def _embeddings(
    run: Run, evaluated: _Evaluated, model: str, device: str | None, on_event: EventHandler
) -> NDArray[np.float32]:
    """Compute the frozen public backbone's features of the evaluated images, (N, F)."""
    architecture, which = parse_model(model)
    loaded = open_weights(
        architecture, str(which), progress=lambda done, total: on_event(Progress(f"fetching {which}", done, total))
    )
    spec, stem, chosen = loaded.spec, loaded.stem, run.recipe.input
    if architecture == run.facts.model:  # as the run feeds it
        spec = replace(spec, height=chosen.size, width=chosen.size, resize=chosen.resize)
        stem = run.facts.stem
    size = spec.height
    recipe = recipes.override(recipes.load("probe"), {"input.size": str(size)})
    stem = resolve_stem(architecture, size, stem)
    network, messages = starting_network(architecture, stem, len(evaluated.classes), recipe, run.facts.seed, loaded)
    for line in messages:
        on_event(Message(line))
    store = PixelStore.open(evaluated.store.dataset, spec, on_event=on_event)
    inputs = FeatureInputs(store, spec, evaluated.rows, None, size, run.facts.seed)
    world = World(device=devices.choose(device))
    features = features_of(
        network.to(world.device), inputs, torch.float32, cache_folder(),
        lambda d, t: on_event(Progress("features", d, t)), world,
    )  # fmt: skip
    return np.array(features.values[0])


def _regressed(
    evaluated: _Evaluated, embeddings: NDArray[np.float32], folds: int, seed: int, on_event: EventHandler
) -> NDArray[np.float64]:
    """Probabilities (N, C) of logistic regressions, each on the images outside of a fold."""
    labels, units = evaluated.labels, evaluated.units
    groups = np.unique(np.array(units), return_inverse=True)[1]
    probabilities = np.zeros((len(labels), len(evaluated.classes)))
    for part in counted("folds", k_fold(labels, units, seed, folds, 0.0), on_event):
        rest, known = part.train, np.unique(labels[part.train])
        targets = np.searchsorted(known, labels[rest])
        fewest = min(len(set(groups[rest[targets == target]].tolist())) for target in range(len(known)))
        chosen = Probe(strengths=STRENGTHS if fewest >= 2 else (PLAIN,), folds=INNER_FOLDS)
        found = probe.fit(embeddings[rest], targets, groups[rest], chosen, derive(seed, "folds") % 2**32)
        scores = embeddings[part.test].astype(np.float64) @ found.weight.T.astype(np.float64) + found.bias
        shares = np.exp(scores - scores.max(axis=1, keepdims=True))
        probabilities[np.ix_(part.test, known)] = shares / shares.sum(axis=1, keepdims=True)
    return probabilities


def _retrained(
    run: Run, evaluated: _Evaluated, folds: int, device: str | None, on_event: EventHandler
) -> NDArray[np.float64]:
    """Probabilities (N, C) of the run's recipe, retrained on the images outside of each fold."""
    facts, store = run.facts, evaluated.store
    splits = k_fold(store.dataset.labels, evaluated.groups, facts.seed, folds, run.recipe.shares.validation)
    places = {path: place for place, path in enumerate(evaluated.paths)}
    on_event(Message(cost(folds, facts.train_seconds)))
    probabilities = np.zeros((len(evaluated.rows), len(evaluated.classes)))
    for number, split in enumerate(splits, start=1):
        folder = run.folder / "folds" / f"{number}-of-{folds}"
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "split.csv").is_file():
            split.save(folder / "split.csv", store.dataset, store.digests)
        on_event(Message(f"fold {number} of {folds}: {folder}"))
        recipe = run.folder / "recipe.toml"
        with resumed_by("the same command"):
            fold = train(
                facts.where, model=facts.start, recipe=recipe, out=folder, seed=facts.seed,
                resume=True, report=False, device=device, on_event=on_event,
            )  # fmt: skip
        predictions = fold.class_predictions
        assert predictions.probabilities is not None
        for path, row in zip(predictions.paths, predictions.probabilities, strict=True):
            if path in places:
                probabilities[places[path]] = row[evaluated.classes] / max(row[evaluated.classes].sum(), 1e-300)
    return probabilities


def cost(folds: int, seconds: float | None) -> str:
    """Return the cost of retraining, in words.

    >>> cost(5, 84.0)
    'the run is retrained 5 times, once without each fold: about 7 minutes (5 x the 84 s that it took)'
    >>> cost(3, 4.0)
    'the run is retrained 3 times, once without each fold: about 12 seconds (3 x the 4 s that it took)'
    """
    begin = f"the run is retrained {folds} times, once without each fold"
    if seconds is None:
        return f"{begin}: what it took is not known"
    total = folds * seconds
    about = f"{total / 60:.0f} minutes" if total >= 100 else f"{total:.0f} seconds"
    return f"{begin}: about {about} ({folds} x the {seconds:.0f} s that it took)"


def _short(model: str) -> str:
    """ARCHITECTURE@WEIGHTS in few letters: of a file its name alone."""
    architecture, _, which = model.partition("@")
    return f"{architecture}@{Path(which).name.removesuffix('.safetensors')}"
