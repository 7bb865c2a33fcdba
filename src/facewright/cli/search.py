"""`facewright search` and `lr-find`: what is measured before a training, and the lines of `train --dry-run`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facewright.cli import options as opt
from facewright.cli.output import percent, report, say, table
from facewright.cli.progress import duration, with_progress

if TYPE_CHECKING:
    from facewright.workflows.dry_runs import DryRun, LearningRates
    from facewright.workflows.recipe_search import SearchResult

SHOWN = 12  # rows of a table
MODEL_WIDTH = 18  # characters, so that a row of trials fits into 80


def search(
    data: opt.Data,
    models: Annotated[
        str, typer.Option("--models", "-m", help="Architectures, or architecture@weights, comma-separated.")
    ] = "resnet18",
    budget: Annotated[str, typer.Option(metavar="TIME", help="Time for all trials: 90s, 30m, 2h.")] = "30m",
    trials: Annotated[
        int | None, typer.Option(min=1, max=100_000, help="Stop after this many trials. Default: no limit.")
    ] = None,
    recipe: opt.RecipeName = None,
    out: opt.Out = None,
    seed: opt.Seed = 0,
    changes: opt.Changes = None,
    epochs: opt.Epochs = None,
    size: opt.Size = None,
    precision: opt.Precision = None,
    detector: opt.CropDetector = None,
    device: opt.Device = None,
    quiet: opt.Quiet = False,
    as_json: opt.Json = False,
) -> None:
    """Search the model and recipe that do best on the validation part.

    Draws model, learning rate, augmentation, input size and head; bad trials end early. The test part is read once,
    for the best. With the same --out again, it resumes with the rest of the budget.

    \b
    Example:
      facewright search photos/ --budget 30m --models resnet18,mobilenet_v2@imagenet --out runs/search
    """
    from facewright.workflows.recipe_search import search as search_recipes

    changed = opt.overrides(changes, epochs=epochs, size=size, precision=precision, detector=detector)
    chosen = [name.strip() for name in models.split(",") if name.strip()]
    found = with_progress(search_recipes, quiet)(
        data, models=chosen, budget=opt.seconds(budget), trials=trials, recipe=recipe, out=out, seed=seed,
        overrides=changed, device=device,
    )  # fmt: skip
    report(found.to_dict(), describe_search(found), as_json)
    say(f"run: {found.run}")
    say(f"report: {Path(found.run) / 'report.html'}")


def describe_search(found: SearchResult) -> str:
    """Return the trials, best first, and the test accuracy of the best one."""
    ordered = sorted(found.trials, key=lambda one: (one.number != found.best, -(one.accuracy or 0.0)))[:SHOWN]
    several = len({one.model for one in found.trials}) > 1
    rows = [
        [
            str(one.number),
            "-" if one.accuracy is None else f"{100 * one.accuracy:.1f} %",
            str(one.epochs) if one.state == "complete" else f"{one.epochs}, {one.state}",
            *([one.model if len(one.model) <= MODEL_WIDTH else f"{one.model[: MODEL_WIDTH - 1]}…"] if several else []),
            *(one.drawn.values() or ["", "", "", ""]),
        ]
        for one in ordered
    ]
    head = ["trial", "accuracy", "epochs", *(["model"] if several else []), "rate", "px", "augment", "head"]
    count = len(found.trials)
    more = [f"{count - SHOWN} more trials: search.json"] if count > SHOWN else []
    return "\n".join(
        [
            table(head, rows),
            *more,
            "",
            f"{count} trials in {duration(found.seconds)}, chosen on {found.validation_images:,} validation images:"
            " the best of many looks better there than it is",
            f"test accuracy of trial {found.best}, read once: {percent(found.test)}",
        ]
    )


def lr_find(
    data: opt.Data,
    model: opt.Architecture = "resnet18",
    recipe: opt.RecipeName = None,
    low: Annotated[float, opt.bounded(low=1e-12, high=1000, help="The first learning rate.")] = 1e-6,
    high: Annotated[float, opt.bounded(low=1e-12, high=1000, help="The last learning rate.")] = 1.0,
    steps: Annotated[int, typer.Option(min=5, max=10_000, help="Steps in all.")] = 100,
    csv: opt.CsvFile = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the losses into this .png or .svg file.")] = None,
    seed: opt.Seed = 0,
    changes: opt.Changes = None,
    size: opt.Size = None,
    device: opt.Device = None,
    quiet: opt.Quiet = False,
    as_json: opt.Json = False,
) -> None:
    """Suggest a learning rate by training a few steps at rising ones.

    The range test of Smith (2017). Only the training part is read, and nothing is kept.

    \b
    Example:
      facewright lr-find photos/ --model resnet50 --plot rates.png
    """
    from facewright.workflows.dry_runs import find_learning_rate

    found = with_progress(find_learning_rate, quiet)(
        data, model=model, recipe=recipe, seed=seed, overrides=opt.overrides(changes, size=size), steps=steps, low=low,
        high=high, device=device,
    )  # fmt: skip
    report(found.to_dict(), _describe_rates(found), as_json)
    if csv is not None:
        found.to_csv(csv)
        say(f"table: {csv}")
    if plot is not None:
        found.to_plot(plot)
        say(f"plot: {plot}")


def _describe_rates(found: LearningRates) -> str:
    chosen = sorted({round(place * (len(found.steps) - 1) / (SHOWN - 1)) for place in range(SHOWN)})
    rows = [
        [f"{step.learning_rate:.2e}", f"{step.loss:.3f}", f"{step.smoothed_loss:.3f}"]
        for step in (found.steps[place] for place in chosen)
    ]
    lines = [table(["learning rate", "loss", "smoothed"], rows), ""]
    if found.diverged_at is not None:
        lines.append(f"diverged at {found.diverged_at:.2g}")
    if found.suggestion is None:
        return "\n".join([*lines, "no suggestion: the loss does not fall; raise --high or --steps"])
    return "\n".join([*lines, f"suggestion: {found.suggestion:.2g}, where the loss falls most steeply"])


def describe_dry_run(found: DryRun) -> str:
    """Return what a training would take."""
    memory = [] if found.peak_memory_bytes is None else [f"{found.peak_memory_bytes / 2**20:,.0f} MiB of memory"]
    if found.device_memory_bytes is not None:
        memory.append(f"{found.device_memory_bytes / 2**20:,.0f} MiB on {found.device}")
    phases = [
        f"  {name.ljust(12)}{1000 * seconds:,.0f} ms a step, {found.trained_parameters[name]:,} of"
        f" {found.parameters:,} parameters"
        for name, seconds in found.seconds_per_step.items()
    ]
    return "\n".join(
        [
            f"{found.model} by {found.recipe} on {found.dataset}: works",
            f"{found.images:,} images of {found.classes} classes, {found.image_size} px, batch {found.batch},"
            f" {found.precision}, {found.device}",
            *phases,
            f"{found.steps_per_epoch:,} steps an epoch, {duration(found.seconds_per_epoch)} an epoch,"
            f" {found.epochs:,} epochs: about {duration(found.seconds)}",
            f"peak: {', '.join(memory) or 'unknown'}; loss of the first batch {found.loss:.3f}",
        ]
    )
