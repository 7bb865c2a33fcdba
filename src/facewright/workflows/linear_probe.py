"""Fit a linear probe: features of the frozen backbone once, logistic regression on them, an ordinary bundle."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from facewright.data.cache import cache_folder
from facewright.data.sampling import derive
from facewright.data.splits import people_of
from facewright.events import EpochFinished, EpochRow, Message, Progress
from facewright.files import write_atomic
from facewright.training import history, validation
from facewright.training.loading import FeatureInputs, Features, features_of
from facewright.training.probe import FittedProbe, fit, fit_targets
from facewright.training.recipe import Recipe
from facewright.training.recipe_parts import Probe
from facewright.workflows.training_requests import Job


def probe(job: Job, save_best: Callable[[nn.Module], None]) -> tuple[EpochRow, ...]:
    """Fit the network's linear head on its own features, keep the weights, and write metrics.csv of one row.

    All processes compute the features; the main one does the rest, and the others return no row.

    Args:
        job: its recipe has a probe, and its network a linear head, which is overwritten.
        save_best: called with the network once its head is fitted.
    """
    start, recipe, network, split = time.monotonic(), job.recipe, job.network.to(job.world.device), job.data.split
    training = _features(job, "features for training", split.train)
    held_out = _features(job, "features for validation", split.validation)
    if not job.world.is_main_process:
        return ()
    fitted = _fitted(job, training)
    strengths, tried = ", ".join(f"{one.strength:g}" for one in fitted), len((recipe.probe or Probe()).strengths)
    job.on_event(Message(f"C = {strengths} (best of {tried} by cross-validation)"))
    head = network.get_submodule(str(network.classifier_name))
    weight, bias = (np.concatenate([getattr(one, part) for one in fitted]) for part in ("weight", "bias"))
    head.load_state_dict({"weight": torch.from_numpy(weight), "bias": torch.from_numpy(bias)})
    save_best(network.eval())
    row = _row(head, training, held_out, job.data.store.dataset.truth, recipe, time.monotonic() - start)
    write_atomic(job.folder / "metrics.csv", history.to_csv([row]))
    job.on_event(EpochFinished(row))
    return (row,)


def _features(job: Job, task: str, rows: np.ndarray) -> Features:
    """Compute the features of some images, or read them from the cache."""
    inputs = FeatureInputs(job.data.store, job.data.spec, rows, None, job.recipe.input.size, job.facts.seed)
    return features_of(
        job.network,
        inputs,
        torch.float32,
        cache_folder(),
        lambda d, t: job.on_event(Progress(task, d, t)),
        job.world,
    )


def _fitted(job: Job, training: Features) -> list[FittedProbe]:
    """Fit the classes, or each target; copies of an image, and of a task the images of a person, are in one fold."""
    task, dataset, chosen = job.recipe.task, job.data.store.dataset, job.recipe.probe or Probe()
    units: Sequence[str] = job.data.store.digests
    if task is not None:
        units = people_of([record.identity or record.path for record in dataset.records], units)
    groups = np.unique(np.asarray(units)[training.rows], return_inverse=True)[1]
    features, seed = training.values[0], derive(job.facts.seed, "folds") % 2**32
    if task is None:
        return [fit(features, dataset.labels[training.rows], groups, chosen, seed)]
    return fit_targets(task, features, dataset.targets[training.rows], groups, chosen, seed)


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
