"""The page of a fitted function: one self-contained file in the look of the other reports."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from facewright.data.points import Points
from facewright.data.splits import Split
from facewright.files import write_atomic
from facewright.metrics.intervals import Rate
from facewright.metrics.regression import RegressionResult
from facewright.regressor import Regressor
from facewright.report import pages, words
from facewright.report import regression_plots as plots
from facewright.report.model_section import Fact
from facewright.training.fit_recipe import FitRecipe
from facewright.training.fitting import FitRow

_WORST = 8  # rows in the table of the largest errors
_SURFACES = 4  # targets that are drawn


@dataclass(frozen=True)
class FitContext:
    """All that a page says of a fit. Nothing is looked up: the caller says the time, the versions and the command."""

    points: Points
    split: Split
    regressor: Regressor
    results: Mapping[str, RegressionResult]  # by part: train, validation, test
    constant: RegressionResult  # what the mean of the training rows reaches on the test part
    history: Sequence[FitRow]
    recipe: FitRecipe
    facts: Mapping[str, Any]  # run.json
    command: str = ""


def write_fit_report(path: Path, context: FitContext) -> None:
    """Write the page; the file is replaced in one step.

    Raises:
        FacewrightError: the file could not be written; an old one is untouched.
    """
    write_atomic(path, fit_page(context))


def fit_page(context: FitContext) -> str:
    """The whole page as HTML."""
    points, test = context.points, context.results["test"]
    said = context.regressor.predict(points.inputs)
    targets, inputs = ", ".join(points.target_names), ", ".join(points.input_names)
    header, worst = _worst(context, said)
    facts = {
        "title": f"{targets} as a function of {inputs}" if len(inputs) < 60 else f"{targets} of {points.name}",
        "created": datetime.fromisoformat(context.facts["finished"]).strftime("%d %B %Y, %H:%M UTC"),
        "points": points,
        "facts": context.facts,
        "targets": targets,
        "test": test,
        "sentences": _sentences(context),
        "tiles": _tiles(context),
        "large": _large(context),
        "shown": min(len(points), plots.MOST_POINTS),
        "curves": Markup(plots.learning_curves(context.history, "learning")),
        "errors": _errors(context, said),
        "parts_of": [
            *((name, context.results[name]) for name in ("train", "validation", "test")),
            ("test, always saying the mean", context.constant),
        ],
        "worst_header": header,
        "worst": worst,
        "details": _details(context),
        "recipe": context.recipe.to_toml(),
        "command": context.command,
    }
    return pages.render("regression.html", facts, {"quantity": quantity, "explained": _explained})


def quantity(value: float | None) -> str:
    """A number in any unit, with three significant digits.

    >>> quantity(11234.0), quantity(0.1208), quantity(-1.9e-7), quantity(0.0)
    ('11,200', '0.121', '−1.90e−07', '0')
    """
    if value is None or not math.isfinite(value):
        return words.UNDEFINED
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    text = f"{value:.2e}" if not -4 <= size < 9 else f"{round(value, 2 - size):,.{max(0, 2 - size)}f}"
    return text.replace("-", "−")


def _explained(value: float | None) -> str:
    """A share of explained variance, with as many nines as it has, up to four.

    >>> _explained(0.9991234), _explained(0.5), _explained(1 - 1e-9), _explained(None)
    ('0.99912', '0.500', '>\\xa00.9999', 'undefined')
    """
    if value is None or not 0.99 <= value < 1:
        return words.number(value).replace("-", "−")
    if value > 0.9999:
        return ">\N{NO-BREAK SPACE}0.9999"
    digits = math.ceil(-math.log10(1 - value)) + 1
    return f"{math.floor(value * 10**digits) / 10**digits:.{digits}f}"


def _between(rate: Rate) -> str:
    return f"{quantity(rate.low)} to {quantity(rate.high)}"


def _sentences(context: FitContext) -> list[str]:
    """What to take away, and how the fit ended."""
    test, facts = context.results["test"], context.facts
    many = len(context.points.target_names) > 1
    error, constant = (test.average_l2_error, context.constant.average_l2_error) if many else (
        test.mean_absolute_error, context.constant.mean_absolute_error
    )  # fmt: skip
    measure = "average L2 error" if many else "mean absolute error"
    share = error.value / constant.value if constant.value > 0 else math.inf
    verdict = (
        f"the fit leaves {100 * share:.2g}\N{NO-BREAK SPACE}% of that"
        if share < 1
        else "the fit is no better than that"
    )
    lines = [
        f"The {measure} on the {test.n:,} test rows is {quantity(error.value)} (95 % interval {_between(error)}). "
        f"Always saying the mean of the training rows would be off by {quantity(constant.value)}: {verdict}."
    ]
    kept = max((row.epoch for row in context.history if row.best), default=0)
    ended = f"gave up waiting for a better one after {facts['epochs']}" if facts["stopped_early"] else (
        f"ended after {facts['epochs']}"
    )  # fmt: skip
    lines.append(
        f"The weights are those with the lowest validation loss, of pass {kept} over the training rows; "
        f"the fit {ended} of at most {context.recipe.training.epochs}."
    )
    return lines


def _tiles(context: FitContext) -> list[Fact]:
    test = context.results["test"]
    one = len(context.points.target_names) == 1
    rates = [
        ("Mean absolute error", test.mean_absolute_error),
        ("Root mean square error", test.root_mean_square_error),
        ("Average L2 error", test.average_l2_error),
    ]
    tiles = [Fact(name, quantity(rate.value), _between(rate)) for name, rate in rates]
    if one:
        tiles[2] = Fact("Average L2 error", quantity(test.average_l2_error.value), "with one target as the first")
    return [
        *tiles,
        Fact("Explained variance R²", _explained(test.r2), "" if one else "mean over targets"),
        Fact("Worst error", quantity(test.worst_absolute_error), f"of {test.n:,} rows"),
        Fact("Parameters", f"{context.facts['parameters']:,}", _shape(context)),
    ]


def _details(context: FitContext) -> list[Fact]:
    facts = context.facts
    ranges = [
        Fact(f"{column.name}, training rows", f"{quantity(column.low)} to {quantity(column.high)}",
             f"mean {quantity(column.mean)}, deviation {quantity(column.scale)}")
        for column in (*context.regressor.inputs, *context.regressor.targets)
    ][:24]  # fmt: skip
    return [
        Fact("Network", _shape(context), context.regressor.activation),
        Fact("Optimizer", str(facts["optimizer"]), f"recipe {facts['recipe']}"),
        Fact("Passes over the training rows", f"{facts['epochs']:,}", words.duration(facts["train_seconds"])),
        Fact("Seed", str(facts["seed"]), "of split, weights, order"),
        Fact("Points", context.points.name, context.points.where),
        *ranges,
    ]


def _shape(context: FitContext) -> str:
    widths = (len(context.regressor.inputs), *context.regressor.hidden, len(context.regressor.targets))
    return " → ".join(map(str, widths))


def _large(context: FitContext) -> list[tuple[str, str, Markup]]:
    """The function itself, where it has one or two inputs."""
    points, count = context.points, len(context.points.input_names)
    if count > 2:
        return []
    is_test = np.isin(np.arange(len(points)), context.split.test)
    draw, kind = (plots.curve, "curve") if count == 1 else (plots.surface, "surface")
    title = "The fitted curve and the points" if count == 1 else "The fitted surface and the points"
    return [
        (
            title if len(points.target_names) == 1 else f"{title}: {name}",
            kind,
            Markup(draw(context.regressor, points.inputs, points.targets[:, k], is_test, k, f"fit{k}")),
        )
        for k, name in enumerate(points.target_names[:_SURFACES])
    ]


def _errors(context: FitContext, said: NDArray[np.float64]) -> list[tuple[str, list[Markup]]]:
    points, split, found = context.points, context.split, []
    for k, name in enumerate(points.target_names):
        train, test = ((points.targets[rows, k], said[rows, k]) for rows in (split.train, split.test))
        drawn = (
            plots.predicted_against_true(*test, f"true{k}"),
            plots.residuals(train, test, f"residuals{k}"),
            plots.error_histogram(test[1] - test[0], f"errors{k}"),
        )
        found.append((name, [Markup(svg) for svg in drawn]))
    return found


def _worst(context: FitContext, said: NDArray[np.float64]) -> tuple[list[str], list[list[Any]]]:
    """Header and rows: the row's number, inputs, true and predicted targets, the length of the error."""
    points = context.points
    sizes = np.linalg.norm(said - points.targets, axis=1)
    rows = sorted(context.split.test.tolist(), key=lambda row: -sizes[row])[:_WORST]
    header = [*points.input_names, *(f"{n}, true" for n in points.target_names)]
    header += [*(f"{n}, predicted" for n in points.target_names), "error"]
    values = np.c_[points.inputs, points.targets, said, sizes]
    return header, [[row + 1, *values[row].tolist()] for row in rows]
