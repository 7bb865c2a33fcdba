"""The quick way of a run: features of the frozen body once, logistic regression on them, an ordinary bundle."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from facewright.data.cache import cache_folder
from facewright.events import EpochFinished, EpochRow, EventHandler, Message, Progress
from facewright.files import write_atomic
from facewright.training import history, validation
from facewright.training.features import Features, Pictures, features_of
from facewright.training.probe import fit
from facewright.training.recipe import Recipe
from facewright.training.recipe_parts import Probe
from facewright.training.seeds import derive
from facewright.workflows.prepared_data import Material


def probe(
    folder: Path,
    network: nn.Module,
    material: Material,
    recipe: Recipe,
    seed: int,
    keep: Callable[[nn.Module], None],
    on_event: EventHandler,
) -> tuple[EpochRow, ...]:
    """Fit the network's linear head on its own features, keep the weights, and write metrics.csv of one row.

    Args:
        network: with a linear head, which is overwritten.
        recipe: with a probe.
        keep: called with the network once its head is fitted.
    """
    begun, chosen = time.monotonic(), recipe.probe or Probe()
    split, labels = material.split, material.store.dataset.labels

    def features(what: str, rows: np.ndarray) -> Features:
        pictures = Pictures(material.store, material.spec, rows, None, recipe.input.size, seed)
        return features_of(
            network, pictures, 1, torch.float32, cache_folder(), lambda d, t: on_event(Progress(what, d, t))
        )

    training, held_out = features("features for training", split.train), features("for validation", split.validation)
    groups = np.unique(np.asarray(material.store.digests)[training.rows], return_inverse=True)[1]
    fold_seed = derive(seed, "folds") % 2**32
    found = fit(training.values[0], labels[training.rows], groups, chosen.strengths, chosen.folds, fold_seed)
    on_event(Message(f"strength {found.strength:g} chosen among {len(chosen.strengths)} by cross-validation"))
    head = network.get_submodule(str(network.classifier_name))
    head.load_state_dict({"weight": torch.from_numpy(found.weight), "bias": torch.from_numpy(found.bias)})
    keep(network.eval())
    row = _row(head, training, held_out, labels, recipe, time.monotonic() - begun)
    write_atomic(folder / "metrics.csv", history.to_csv([row]))
    on_event(EpochFinished(row))
    return (row,)


@torch.inference_mode()
def _row(
    head: nn.Module, training: Features, held_out: Features, labels: np.ndarray, recipe: Recipe, seconds: float
) -> EpochRow:
    """The one look that there is: at the end."""
    inside, outside = (
        validation.judge(head(part.batch(part.rows, 0)), torch.from_numpy(labels[part.rows]), recipe.selection.metric)
        for part in (training, held_out)
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
