"""`facewright fit`: a function fitted to points."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from facewright.cli import options as opt
from facewright.cli.output import number_of, report, say
from facewright.cli.progress import event_printer

if TYPE_CHECKING:
    from facewright.evaluation.number_metrics import RegressionResult
    from facewright.metrics.intervals import Rate


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

    with event_printer(quiet) as on_event:
        run = regression.fit(
            points, targets=targets, recipe=recipe, out=out, seed=seed, overrides=changed, on_event=on_event
        )
    report(run.summary(), describe(run.evaluation), as_json)
    for note in run.facts.notes:
        say(f"note: {note}")
    say(f"run: {run.folder}")
    say(f"report: {run.folder / 'report.html'}")


def describe(result: RegressionResult) -> str:
    """Return the errors on the test part; with several targets, also those of each."""
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
