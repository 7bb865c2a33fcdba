"""Train several architectures on one split, one after the other, and compare them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from facewright.data.records import Dataset
from facewright.data.sources import open_dataset
from facewright.errors import UsageError
from facewright.events import EventHandler, ignore_event
from facewright.training import recipe as recipes
from facewright.training.trackers import chosen_trackers
from facewright.workflows.comparison import Compared, compare
from facewright.workflows.initial_weights import check_model, check_weights, recipe_for
from facewright.workflows.training_runs import folder_name, free_folder, train


def train_all(
    data: str | Path | Dataset,
    models: Sequence[str],
    *,
    recipe: str | Path | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    overrides: Mapping[str, str] | None = None,
    device: str | None = None,
    track: Sequence[str] | None = None,
    on_event: EventHandler = ignore_event,
) -> Compared:
    """Train several models on one split and compare them; the page is `out`/report.html.

    Called again with the same `out` it resumes: finished runs are kept, an unfinished one is resumed.

    Args:
        models: names of `facewright models`, or name@weights. Everything else as for `train`.
    Raises:
        UsageError: a model is named twice, or unknown; found before training starts.
    """
    out = None if out is None else Path(out)
    if len(set(models)) != len(models) or not models:
        raise UsageError(f"expected distinct models, got {', '.join(models) or 'none'}")
    chosen_trackers(track)
    for name in models:
        chosen = recipes.override(recipe_for(name, recipe), overrides or {})
        check_model(name, chosen)
        check_weights(name, chosen)
    dataset = data if isinstance(data, Dataset) else open_dataset(data)
    folder = out or free_folder(f"{dataset.name}-compare")
    runs = [
        train(
            dataset,
            model=name,
            recipe=recipe,
            out=folder / folder_name(name),
            seed=seed,
            overrides=overrides,
            resume=True,
            report=False,
            device=device,
            track=track,
            on_event=on_event,
        )
        for name in models
    ]
    compared = compare(runs)
    compared.write(folder)
    return compared
