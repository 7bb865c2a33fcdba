"""Fit a linear probe: features of the frozen backbone once, logistic regression on them, an ordinary bundle."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from facewright.data.cache import cache_folder
from facewright.data.sampling import derive
from facewright.data.units import people_of
from facewright.events import EpochFinished, EpochRow, EventHandler, Message, Progress
from facewright.files import write_atomic
from facewright.training import history, validation
from facewright.training.distributed import World
from facewright.training.features import FeatureInputs, Features, features_of
from facewright.training.probe import fit, fit_targets
from facewright.training.recipe import Recipe
from facewright.training.recipe_parts import Probe
from facewright.workflows.prepared_data import PreparedData


def probe(
    folder: Path,
    network: nn.Module,
    data: PreparedData,
    recipe: Recipe,
    seed: int,
    save_best: Callable[[nn.Module], None],
    on_event: EventHandler,
    world: World,
) -> tuple[EpochRow, ...]:
    """Fit the network's linear head on its own features, keep the weights, and write metrics.csv of one row.

    All processes compute the features; the main one does the rest, and the others return no row.

    Args:
        network: with a linear head, which is overwritten.
        recipe: with a probe.
        save_best: called with the network once its head is fitted.
    """
    start, chosen = time.monotonic(), recipe.probe or Probe()
    split, dataset = data.split, data.store.dataset

    def features(task: str, rows: np.ndarray) -> Features:
        inputs = FeatureInputs(data.store, data.spec, rows, None, recipe.input.size, seed)
        return features_of(
            network, inputs, 1, torch.float32, cache_folder(), lambda d, t: on_event(Progress(task, d, t)), world
        )

    training, held_out = features("features for training", split.train), features("for validation", split.validation)
    if not world.is_main_process:
        return ()
    units: Sequence[str] = data.store.digests
    if recipe.task is not None:  # a person is on one side of a fold too
        units = people_of([record.identity or record.path for record in dataset.records], units)
    groups = np.unique(np.asarray(units)[training.rows], return_inverse=True)[1]
    fold_seed = derive(seed, "folds") % 2**32
    features_of_training = training.values[0]
    options = (groups, chosen.strengths, chosen.folds, fold_seed)
    if recipe.task is None:
        fitted = [fit(features_of_training, dataset.labels[training.rows], *options)]
    else:
        fitted = fit_targets(recipe.task, features_of_training, dataset.targets[training.rows], *options)
    strengths = ", ".join(f"{one.strength:g}" for one in fitted)
    on_event(Message(f"C = {strengths} (best of {len(chosen.strengths)} by cross-validation)"))
    head = network.get_submodule(str(network.classifier_name))
    weight, bias = (np.concatenate([getattr(one, part) for one in fitted]) for part in ("weight", "bias"))
    head.load_state_dict({"weight": torch.from_numpy(weight), "bias": torch.from_numpy(bias)})
    save_best(network.eval())
    row = _row(head, training, held_out, dataset.truth, recipe, time.monotonic() - start)
    write_atomic(folder / "metrics.csv", history.to_csv([row]))
    on_event(EpochFinished(row))
    return (row,)


@torch.inference_mode()
def _row(
    head: nn.Module, training: Features, held_out: Features, truth: np.ndarray, recipe: Recipe, seconds: float
) -> EpochRow:
    """Measure both parts at the end; a probe has one row."""
    device = next(head.parameters()).device
    inside, outside = (
        validation.validate(scores, torch.from_numpy(truth[part.rows]), recipe.selection.metric, recipe.task)
        for part in (training, held_out)
        for scores in (head(part.batch(part.rows, 0).to(device)),)
    )
    return EpochRow(
        epoch=1,
        phase="probe",
        images_seen=len(training.rows),
        steps=0,
        image_size=recipe.input.size,
        learning_rate=0.0,
        train_loss=inside.loss,
        train_accuracy=inside.accuracy,
        validation_loss=outside.loss,
        validation_accuracy=outside.accuracy,
        validation_score=outside.score,
        seconds=seconds,
        images_per_second=len(training.rows) / max(seconds, 1e-9),
        best=True,
    )
