"""The evaluation of targets as text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from facewright.cli.output import percent, table

if TYPE_CHECKING:
    from facewright.evaluation.attribute_metrics import AttributesResult
    from facewright.evaluation.number_metrics import NumberResult
    from facewright.evaluation.target_comparison import TargetComparison
    from facewright.evaluation.targets import TaskResult
    from facewright.evaluation.vote_metrics import VotesResult
    from facewright.metrics.intervals import Rate


def target_lines(result: TaskResult) -> Iterator[str]:
    """Yield the headline numbers of each target."""
    yield f"{result.split}: {result.n:,} images"
    if result.attributes is not None:
        yield from _attribute_lines(result.attributes)
    for number in result.numbers:
        yield from _number_lines(number)
    for name, found in result.classes.items():
        largest = max(row.n for row in found.per_class) / found.n
        yield f"{name}  {found.n:,} images, {len(found.classes)} classes"
        yield f"  accuracy  {percent(found.accuracy)}; always the largest class {100 * largest:.1f} %"
        yield f"  macro F1  {percent(found.macro_f1)}"
    for name, votes in result.votes.items():
        yield from _vote_lines(name, votes)
    for number in (number for number in result.numbers if number.groups):
        rows = [[row.name, f"{row.n:,}", _error(row.mean_absolute_error), f"{row.bias:+.3g}"] for row in number.groups]
        yield f"\n{number.name} by {result.by}\n" + table([str(result.by), "n", "mean absolute error", "bias"], rows)
    if result.undefined:
        yield f"known of no image: {', '.join(result.undefined)}"


def comparison_lines(comparison: TargetComparison) -> Iterator[str]:
    """Yield a row for each model and target, then the differences by attribute."""
    rows = []
    for entry in comparison.models:
        size = [f"{entry.parameters / 1e6:.2f} M", f"{entry.latency.median_ms:.1f} ms"]
        test = entry.test
        rows += [
            [entry.name, row.name, f"accuracy {percent(row.accuracy)}", percent(row.baseline), *size]
            for row in (() if test.attributes is None else test.attributes.attributes)
        ]
        for number in test.numbers:
            mae, constant = number.mean_absolute_error, number.baseline_mean_absolute_error
            rows.append([entry.name, number.name, f"MAE {mae.value:.3g}", f"{constant.value:.3g}", *size])
        for name, found in test.classes.items():
            largest = f"{100 * max(one.n for one in found.per_class) / found.n:.1f} %"
            rows.append([entry.name, name, f"accuracy {percent(found.accuracy)}", largest, *size])
        for name, votes in test.votes.items():
            found_ = "undefined" if votes.accuracy is None else f"accuracy {percent(votes.accuracy)}"
            rows.append([entry.name, name, found_, "", *size])
    yield table(["model", "target", "test", "without a model", "parameters", "latency"], rows)
    for pair in comparison.pairs:
        verdict = "within noise" if pair.within_noise else "real"
        yield (
            f"{pair.attribute}: {pair.a} - {pair.b} {100 * pair.accuracy_difference:+.1f} points, "
            f"p = {pair.holm_p_value:.2g} corrected by Holm's method: {verdict}"
        )


def _attribute_lines(result: AttributesResult) -> Iterator[str]:
    """Yield a row for each attribute; accuracies with their 95 % interval, the rest without."""
    rows = []
    for row in result.attributes:
        others = (row.balanced_accuracy, row.auc, row.average_precision)
        rows.append(
            [
                row.name,
                f"{row.n:,}",
                *(f"{100 * rate.value:.1f} %" for rate in (row.prevalence, row.baseline)),
                f"{100 * row.accuracy.value:.1f} % ({100 * row.accuracy.low:.1f} to {100 * row.accuracy.high:.1f})",
                *("undefined" if rate is None else f"{rate.value:.3f}" for rate in others),
                f"{row.threshold:.3f}",
            ]
        )
    yield table(["attribute", "n", "yes", "majority", "accuracy", "balanced", "AUC", "AP", "yes from"], rows)
    yield f"mean accuracy {percent(result.mean_accuracy)}; always the majority {percent(result.mean_baseline)}"


def _number_lines(result: NumberResult) -> list[str]:
    """Return the errors of a number and those by range."""
    lines = [
        f"{result.name}: mean absolute error {_error(result.mean_absolute_error)}, root mean square "
        f"{_error(result.root_mean_square_error)}, n = {result.n:,}",
        f"  always the training median, {result.baseline:.4g}: {_error(result.baseline_mean_absolute_error)}",
        f"  within {result.tolerance:g}: {percent(result.cumulative_score)}",
    ]
    if result.interval is not None and result.interval.coverage is not None:
        lines.append(
            f"  ± {result.interval.half_width:.3g} is to hold {100 * result.interval.level:g} % and holds "
            f"{percent(result.interval.coverage)}"
        )
    rows = [[row.name, f"{row.n:,}", _error(row.mean_absolute_error), f"{row.bias:+.3g}"] for row in result.ranges]
    return [*lines, table([result.name, "n", "mean absolute error", "bias"], rows)]


def _error(rate: Rate) -> str:
    return f"{rate.value:.3g} ({rate.low:.3g} to {rate.high:.3g})"


def _vote_lines(name: str, votes: VotesResult) -> Iterator[str]:
    yield f"{name}  {votes.n:,} images with votes, {votes.tied:,} without a majority"
    if votes.accuracy is not None:
        yield f"  accuracy against the majority   {percent(votes.accuracy)}"
    yield f"  agreement with one annotator    {percent(votes.model_agrees)}"
    yield f"  of the majority with one        {percent(votes.majority_agrees)}"
    if votes.annotators_agree is not None:
        yield f"  agreement of two annotators     {percent(votes.annotators_agree)}"
