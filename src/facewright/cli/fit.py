"""`facewright fit`: a function fitted to points."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from facewright.cli.output import emit, number_of, say, show
from facewright.cli.progress import listener
from facewright.cli.training import Changes, Epochs, Json, Out, Quiet, overrides

if TYPE_CHECKING:
    from facewright.metrics.intervals import Rate
    from facewright.metrics.regression import RegressionResult


def fit(
    where: Annotated[
        str, typer.Argument(metavar="POINTS", help="A .csv, .tsv or .npy of numbers, or function:monkey-saddle?...")
    ],
    target: Annotated[
        str, typer.Option("--target", "-t", help="The column to fit, or several with commas between; else the last.")
    ] = "",
    recipe: Annotated[
        str, typer.Option("--recipe", "-r", help="A shipped recipe (function, adam) or a TOML file.")
    ] = "function",
    out: Out = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the split, the first weights, the order.")] = 0,
    changes: Changes = None,
    epochs: Epochs = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Fit a small network to points and measure it.

    The run folder holds the fitted function, the curves, the test metrics and a report with the surface.

    \b
    Example:
      facewright fit points.csv --target price
      facewright fit "function:monkey-saddle?points=500" --out runs/saddle
      facewright predict runs/saddle rows.csv
    """
    changed = overrides(changes, epochs)
    targets = [name.strip() for name in target.split(",") if name.strip()]

    from facewright.workflows import regression

    with listener(quiet) as on_event:
        run = regression.fit(
            where, targets=targets, recipe=recipe, out=out, seed=seed, overrides=changed, on_event=on_event
        )
    if as_json:
        emit(run.summary())
    else:
        show(describe(run.evaluation))
    for note in run.facts.notes:
        say(f"note: {note}")
    say(f"run: {run.folder}")
    say(f"report: {run.folder / 'report.html'}")


def describe(result: RegressionResult) -> str:
    """The numbers of the test part; with several targets, each one's too."""
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
    """An error with its interval and count, in the target's units.

    >>> from facewright.metrics.intervals import Rate
    >>> amount(Rate(12.3456, 10.0, 15.25, 75))
    '12.35 (10 to 15.25, n=75)'
    """
    return f"{rate.value:.4g} ({rate.low:.4g} to {rate.high:.4g}, n={rate.n:,})"
