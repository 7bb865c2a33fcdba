"""`facewright train`, `compare`, `demo`, `recipes` and `fit`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facewright.cli import options as opt
from facewright.cli.evaluation import comparison_lines, describe_result
from facewright.cli.inference import prediction_line
from facewright.cli.output import emit, number_of, percent, report, say, show, table
from facewright.cli.progress import with_progress
from facewright.cli.search import describe_dry_run
from facewright.errors import UsageError

if TYPE_CHECKING:
    from facewright.evaluation.compare import TargetComparison
    from facewright.evaluation.number_metrics import RegressionResult
    from facewright.evaluation.results import Comparison
    from facewright.metrics.intervals import Rate


def train(
    data: opt.OptionalData = None,
    model: Annotated[
        str, typer.Option("--model", "-m", help="An architecture (`facewright models`), or a run to add classes to.")
    ] = "resnet18",
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights", "-w", help="Pretrained weights to start from: a name of `facewright models`, a file, or none."
        ),
    ] = None,
    recipe: opt.RecipeName = None,
    out: opt.Out = None,
    seed: opt.Seed = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Resume the run in --out, bit-identically.")] = False,
    dry_run: opt.DryRun = False,
    changes: opt.Changes = None,
    epochs: opt.Epochs = None,
    size: opt.Size = None,
    precision: opt.Precision = None,
    store: opt.Store = None,
    batch: opt.Batch = None,
    accumulate: opt.Accumulate = None,
    compiled: opt.Compile = False,
    deterministic: opt.Deterministic = None,
    detector: opt.CropDetector = None,
    select_face: opt.FaceChoice = None,
    order: opt.Order = None,
    columns: opt.Columns = None,
    names: opt.Names = None,
    layout: opt.Layout = None,
    label_from: opt.LabelFrom = None,
    task: opt.Task = None,
    device: opt.Device = None,
    track: opt.Track = None,
    quiet: opt.Quiet = False,
    as_json: opt.Json = False,
) -> None:
    """Train one model and evaluate it.

    The run directory holds the best weights, the training curves, the test metrics and a report.

    \b
    Example:
      facewright train photos/ --model resnet50 --out runs/a
      facewright train photos/ --model mobilenet_v2 --weights imagenet --recipe finetune
      facewright train more-people/ --model runs/a --out runs/b
      facewright train photos/ --task attributes:smiling,glasses
      facewright train --resume --out runs/a
      facewright train photos/ --model resnet50 --dry-run
    """
    changed = opt.overrides(
        changes, epochs=epochs, size=size, precision=precision, store=store, detector=detector, select_face=select_face,
        batch=batch, accumulate=accumulate, compile=compiled,
        deterministic=None if deterministic is None else str(deterministic).lower(),
    )  # fmt: skip
    data = opt.optional_address(data, order, columns, names, layout, label_from)
    if data is None and (out is None or not resume):
        raise UsageError("nothing to train on: give DATA, or --resume --out RUN")
    if data is None and changed:
        raise UsageError(f"{out} resumes with the recipe it started with; remove the change of {', '.join(changed)}")
    if data is None and task is not None:
        raise UsageError(f"{out} resumes with the task it started with; remove --task")

    from facewright.workflows import dry_runs, training_runs

    if dry_run:
        if data is None:
            raise UsageError("--dry-run needs DATA")
        tried = with_progress(dry_runs.dry_run, quiet)(
            data, model=with_weights(model, weights), recipe=recipe, seed=seed, overrides=changed, task=task,
            device=device,
        )  # fmt: skip
        report(tried.to_dict(), describe_dry_run(tried), as_json)
        return
    trackers = opt.tracked(track)
    if data is not None:
        run = with_progress(training_runs.train, quiet)(
            data, model=with_weights(model, weights), recipe=recipe, out=out, seed=seed, overrides=changed, task=task,
            resume=resume, device=device, track=trackers,
        )  # fmt: skip
    elif out is not None:
        run = with_progress(training_runs.resume, quiet)(out, device=device, track=trackers)
    report(run.summary(), describe_result(run.evaluation), as_json)
    say(f"run: {run.folder}")
    say(f"report: {run.folder / 'report.html'}")


def compare(
    inputs: Annotated[list[str], typer.Argument(metavar="DATA|RUN...", help="One dataset, or finished runs.")],
    models: Annotated[
        str,
        typer.Option("--models", "-m", help="Architectures to train, architecture@weights or runs, comma-separated."),
    ] = "",
    recipe: opt.RecipeName = None,
    out: opt.Out = None,
    seed: opt.Seed = 0,
    budget: opt.Budget = None,
    changes: opt.Changes = None,
    epochs: opt.Epochs = None,
    size: opt.Size = None,
    precision: opt.Precision = None,
    store: opt.Store = None,
    detector: opt.CropDetector = None,
    select_face: opt.FaceChoice = None,
    order: opt.Order = None,
    columns: opt.Columns = None,
    names: opt.Names = None,
    layout: opt.Layout = None,
    label_from: opt.LabelFrom = None,
    task: opt.Task = None,
    device: opt.Device = None,
    track: opt.Track = None,
    quiet: opt.Quiet = False,
    as_json: opt.Json = False,
) -> None:
    """Compare models on the same test images.

    Trains them one after the other on one split, or compares finished runs.

    \b
    Example:
      facewright compare photos/ --models resnet50,xception,densenet121
      facewright compare photos/ --models resnet18,mobilenet_v2 --budget 10m
      facewright compare more-people/ --models runs/a,runs/b
      facewright compare runs/a runs/b
    """
    chosen = [name.strip() for name in models.split(",") if name.strip()]
    changed = opt.overrides(
        changes, epochs=epochs, size=size, precision=precision, store=store, detector=detector, select_face=select_face
    )
    _check_comparison(
        inputs, chosen, training_options=bool(changed or seed or budget or recipe is not None or task is not None)
    )
    limit = None if budget is None else opt.seconds(budget)
    data = opt.optional_address(inputs[0] if chosen else None, order, columns, names, layout, label_from)

    from facewright.workflows import comparison, training_runs
    from facewright.workflows.training_requests import free_folder

    if data is not None:
        compared = with_progress(training_runs.train_all, quiet)(
            data, chosen, recipe=recipe, out=out, seed=seed, overrides=changed, task=task, device=device,
            track=opt.tracked(track), budget=limit,
        )  # fmt: skip
        folder = compared.runs[0].folder.parent
    else:
        compared = comparison.compare([Path(run) for run in inputs])
        folder = out or free_folder("compare")
        compared.write(folder)
    report(compared.to_dict(), _describe_comparison(compared.comparison), as_json)
    say(f"report: {folder / 'report.html'}")


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write.")] = Path("demo"),
    quick: Annotated[bool, typer.Option("--quick", help="Under 90 seconds: smaller data, fewer epochs.")] = False,
    device: opt.Device = None,
    quiet: opt.Quiet = False,
    as_json: opt.Json = False,
) -> None:
    """Run the main workflow on synthetic faces.

    Inspects them, trains three models, compares them and predicts; writes one page with the results.

    \b
    Example:
      facewright demo --quick
    """
    from facewright.workflows import training_runs

    result = with_progress(training_runs.demo, quiet)(out, quick=quick, device=device)
    text = [_describe_comparison(result.compared.comparison), "", *map(prediction_line, result.predictions)]
    report(result.to_dict(), "\n".join(text), as_json)
    say(f"report: {result.report}")


def recipes(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="A recipe: show every value, as TOML.")] = None,
    as_json: opt.Json = False,
) -> None:
    """List the shipped recipes, or show every value of one.

    A TOML file of your own may set any of the values; --set changes single ones.

    \b
    Example:
      facewright recipes
      facewright recipes finetune > mine.toml
      facewright train photos/ --recipe mine.toml
    """
    from facewright.training import recipe

    chosen = [recipe.load(known) for known in (recipe.names() if name is None else [name])]
    if as_json:
        emit({"recipes": [{"name": one.name, "description": one.description, "toml": one.to_toml()} for one in chosen]})
    elif name is not None:
        show(chosen[0].to_toml().rstrip())
    else:
        width = max(len(one.name) for one in chosen)
        show("\n".join(f"{one.name.ljust(width)}  {one.description}" for one in chosen))


def _check_comparison(inputs: list[str], models: list[str], *, training_options: bool) -> None:
    if models and len(inputs) > 1:
        raise UsageError(f"--models trains on one dataset, got {len(inputs)}")
    is_run = [(Path(run) / "run.json").is_file() for run in inputs]
    if models and any(is_run):
        raise UsageError(f"{inputs[0]} is a run; --models trains on a dataset, runs are compared without it")
    if not models and not all(is_run):
        other = inputs[is_run.index(False)]
        raise UsageError(f"{other} is no run of `facewright train`; to train on a dataset add --models a,b,c")
    if not models and training_options:
        raise UsageError("--recipe, --seed, --epochs, --budget and --set need --models; finished runs have their own")


def with_weights(model: str, weights: str | None) -> str:
    """Return the architecture and its weights as one text.

    >>> with_weights("mobilenet_v2", "imagenet"), with_weights("resnet18", "none")
    ('mobilenet_v2@imagenet', 'resnet18')
    """
    if weights is None or weights == "none":
        return model
    if "@" in model:
        raise UsageError(f"--weights {weights} and --model {model} both name weights; give one of them")
    return f"{model}@{weights}"


def _describe_comparison(comparison: Comparison | TargetComparison) -> str:
    from facewright.evaluation.compare import TargetComparison

    if isinstance(comparison, TargetComparison):
        return "\n".join(comparison_lines(comparison))
    binary = any(entry.test.binary is not None for entry in comparison.entries)
    header = ["model", "test accuracy", *(["HTER"] if binary else []), "log loss", "parameters"]
    header += ["GFLOPs", "images seen", "trained", "latency"]
    rows = []
    for entry in comparison.entries:
        hter = "undefined" if entry.test.binary is None else percent(entry.test.binary.hter)
        row = [entry.name, percent(entry.test.accuracy), *([hter] if binary else []), f"{entry.test.log_loss:.3f}"]
        row += [f"{entry.parameters / 1e6:.1f} M", f"{entry.flops / 1e9:.2f}", f"{entry.images_seen:,}"]
        rows.append([*row, f"{entry.train_seconds:,.0f} s", f"{entry.latency.median_ms:.1f} ms"])
    guessing = ["always the largest class", f"{100 * comparison.baseline:.1f} %"]
    rows.append([*guessing, *[""] * (len(header) - len(guessing))])
    return "\n".join([table(header, rows), "", *comparison.advice])


def fit(
    points: Annotated[
        str, typer.Argument(metavar="POINTS", help="A .csv, .tsv or .npy of numbers, or function:monkey-saddle?...")
    ],
    target: Annotated[
        str, typer.Option("--target", "-t", help="Columns to fit, comma-separated. Default: the last one.")
    ] = "",
    recipe: Annotated[
        str, typer.Option("--recipe", "-r", help="A shipped recipe (function, adam) or a TOML file.")
    ] = "function",
    out: opt.Out = None,
    seed: opt.Seed = 0,
    changes: opt.Changes = None,
    epochs: opt.Epochs = None,
    quiet: opt.Quiet = False,
    as_json: opt.Json = False,
) -> None:
    """Fit a small network to points and evaluate it.

    The run directory holds the fitted function, the training curves, the test metrics and a report with the surface.

    \b
    Example:
      facewright fit points.csv --target price
      facewright fit "function:monkey-saddle?points=500" --out runs/saddle
      facewright predict runs/saddle rows.csv
    """
    changed = opt.overrides(changes, epochs=epochs)
    targets = [name.strip() for name in target.split(",") if name.strip()]

    from facewright.regression import run as regression

    run = with_progress(regression.fit, quiet)(
        points, targets=targets, recipe=recipe, out=out, seed=seed, overrides=changed
    )
    report(run.summary(), _describe_fit(run.evaluation), as_json)
    for note in run.facts.notes:
        say(f"note: {note}")
    say(f"run: {run.folder}")
    say(f"report: {run.folder / 'report.html'}")


def _describe_fit(result: RegressionResult) -> str:
    lines = [f"{result.split}: {result.n:,} rows, {number_of(len(result.targets), 'target')}"]
    pooled = [
        ("mean absolute error", result.mean_absolute_error),
        ("root mean square error", result.root_mean_square_error),
        ("average L2 error", result.average_l2_error),
    ]
    rows = [[name, amount(rate)] for name, rate in pooled]
    for target in result.targets if len(result.targets) > 1 else ():
        rows += [[f"{target.name}: mean absolute error", amount(target.mean_absolute_error)]]
        rows += [[f"{target.name}: root mean square error", amount(target.root_mean_square_error)]]
    width = max(len(name) for name, _ in rows)
    return "\n".join([*lines, *(f"{name.ljust(width)}  {value}" for name, value in rows)])


def amount(rate: Rate) -> str:
    """Return an error with its interval and count, in the target's units.

    >>> from facewright.metrics.intervals import Rate
    >>> amount(Rate(value=12.3456, low=10.0, high=15.25, n=75))
    '12.35 (10 to 15.25, n=75)'
    """
    return f"{rate.value:.4g} ({rate.low:.4g} to {rate.high:.4g}, n={rate.n:,})"
