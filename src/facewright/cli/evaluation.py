"""`facewright evaluate`: the numbers of a model on labelled images, as text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from facewright.cli import options as opt
from facewright.cli.output import number_of, percent, precise, report, say, table
from facewright.cli.progress import with_progress

if TYPE_CHECKING:
    from facewright.evaluation.binary import AttackResult
    from facewright.evaluation.classification import BinaryResult, ClassificationResult
    from facewright.evaluation.compare import TargetComparison
    from facewright.evaluation.identification import IdentificationResult
    from facewright.evaluation.number_metrics import NumberResult
    from facewright.evaluation.subgroups import Subgroups
    from facewright.evaluation.target_metrics import AttributesResult, VotesResult
    from facewright.evaluation.targets import TaskResult
    from facewright.evaluation.verification import VerificationResult
    from facewright.metrics.intervals import Rate
    from facewright.workflows.verification import Recognition


def evaluate(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="RUN", help="A run directory; with DATA any model; with --task attack a CSV file of scores."
        ),
    ],
    data: opt.OptionalData = None,
    task: Annotated[
        Literal["classification", "verification", "identification", "attack"] | None,
        typer.Option(help="Default: classification; verification if DATA has other classes than the model."),
    ] = None,
    seed: opt.Seed = 0,
    detector: opt.Detector = None,
    unknown_classes: Annotated[
        Literal["errors", "leave-out"], typer.Option(help="Images of classes the model does not know.")
    ] = "errors",
    threshold: Annotated[
        float | None, opt.bounded(low=-1e9, high=1e9, help="Attack: scores from this one on are bona fide.")
    ] = None,
    validation: Annotated[
        Path | None, typer.Option(help="Attack: other scores; the threshold is chosen on them, at EER.")
    ] = None,
    by: opt.By = None,
    attributes: Annotated[
        Path | None, typer.Option(help="Table with path and COLUMN. Default: attributes.csv beside DATA, or DATA.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="With --by: folder for the page and the JSON.")
    ] = None,
    order: opt.Order = None,
    columns: opt.Columns = None,
    names: opt.Names = None,
    layout: opt.Layout = None,
    label_from: opt.LabelFrom = None,
    device: opt.Device = None,
    quiet: opt.Quiet = False,
    as_json: opt.Json = False,
) -> None:
    """Evaluate a model: classification, verification or identification.

    Without DATA, on the test part of the run. Verification compares every pair of images; identification searches for
    each person in a gallery of the others. For both, the people of DATA need not be classes of the model.

    \b
    Example:
      facewright evaluate runs/a
      facewright evaluate runs/a other-photos/ --json
      facewright evaluate built-in other-people/ --task identification
      facewright evaluate runs/a other-photos/ --by lighting --attributes attributes.csv --out by-lighting/
      facewright evaluate test-scores.csv --task attack --validation dev-scores.csv
    """
    data = opt.optional_address(data, order, columns, names, layout, label_from)

    from facewright.workflows import evaluation

    result = with_progress(evaluation.evaluate, quiet)(
        model, data, task=task, seed=seed, detector=detector, unknown_classes=unknown_classes, threshold=threshold,
        validation=validation, by=by, attributes=attributes, out=out, device=device,
    )  # fmt: skip
    _say_notes(result)
    report(result.to_dict(), describe(result), as_json)
    if out is not None:
        say(f"report: {out / 'report.html'}")


def _say_notes(result: ClassificationResult | TaskResult | Recognition | AttackResult) -> None:
    """Print why the task was chosen and how many images were left out."""
    for sentence in getattr(result, "notes", ()):
        say(f"note: {sentence}")
    note, left_out = getattr(result, "note", None), getattr(result, "left_out", 0)
    if note is not None:
        say(note)
    if left_out:
        say(f"left out of every rate: {number_of(left_out, 'image')} that cannot be read or show no face")


def describe(result: ClassificationResult | TaskResult | Recognition | AttackResult) -> str:
    """Return the headline numbers of an evaluation of any task."""
    from facewright.evaluation.binary import AttackResult
    from facewright.evaluation.classification import ClassificationResult
    from facewright.evaluation.identification import IdentificationResult
    from facewright.evaluation.targets import TaskResult

    if isinstance(result, AttackResult):
        return _describe_attacks(result)
    if isinstance(result, ClassificationResult | TaskResult):
        lines = describe_result(result)
    elif isinstance(result.result, IdentificationResult):
        return _describe_identification(result.result)
    else:
        lines = describe_verification(result.result)
    if isinstance(result, TaskResult):
        return "\n\n".join([lines, *(f"{name} {describe_subgroups(groups)}" for name, groups in result.groups.items())])
    groups = getattr(result, "subgroups", None)
    return lines if groups is None else f"{lines}\n\n{describe_subgroups(groups)}"


def describe_subgroups(result: Subgroups) -> str:
    """Return a row a group, the ratios, and what the counts cannot show."""
    rates = result.rates
    rows = [
        [row.group, *("none" if (rate := getattr(row, name)) is None else precise(rate) for name in rates)]
        for row in result.groups
    ]
    ratios = ["undefined" if ratio is None else f"{ratio:.2f}" for ratio in result.ratios.values()]
    at = "" if result.threshold is None else f", at the threshold {result.threshold:.4f} ({result.threshold_of})"
    of_error = "; worst : best of the error" if "accuracy" in rates else ""
    lines = [
        f"by {result.column}{at}; {result.left_out}{of_error}",
        table([result.column, *rates.values()], [*rows, ["worst : best", *ratios]]),
    ]
    return "\n".join([*lines, *(f"note: {line}" for line in result.limits)])


def _describe_attacks(result: AttackResult) -> str:
    rows = [[row.attack, percent(row.apcer)] for row in result.attacks]
    rows += [["", ""], [f"max. APCER ({result.worst})", percent(result.apcer)]]
    rows += [["BPCER", percent(result.bpcer)], ["ACER", percent(result.acer)]]
    return f"threshold {result.threshold:g}, {result.chosen}\n\n{table(['attack', 'APCER'], rows)}"


def describe_verification(result: VerificationResult) -> str:
    """Return the headline numbers of a verification, then the rates at thresholds."""
    lines = [f"{number_of(result.genuine, 'genuine pair')}, {number_of(result.impostors, 'impostor pair')}"]
    if result.people is not None:
        lines[0] += f", {result.people:,} people"
    if result.failures:
        lines.append(f"failures to acquire  {number_of(result.failures, 'pair')}, counted as errors")
    if result.accuracy is not None:
        lines.append(f"accuracy  {precise(result.accuracy)}, threshold: {result.chosen}")
    if result.accuracy_by_identity is not None:
        by = result.accuracy_by_identity
        lines.append(f"          by people {100 * by.low:.2f} to {100 * by.high:.2f}")
    if result.folds is not None and len(result.folds.accuracies) > 2:
        folds = result.folds
        lines.append(
            f"folds     mean {100 * folds.mean:.2f} %, standard error {100 * folds.standard_error:.2f} (std / √n)"
        )
    lines.append(f"EER       {100 * result.eer:.2f} %")
    lines.append(f"AUC       {result.auc:.5f}")
    rows = [
        [f"{row.far:g}", f"{row.achieved:.2g}", f"{row.impostors:,}", percent(row.tar), f"{row.threshold:.4f}"]
        for row in result.tar_at_far
    ]
    return "\n".join([*lines, "", table(["FAR", "achieved", "impostors", "TAR", "threshold"], rows)])


def _describe_identification(result: IdentificationResult) -> str:
    lines = [
        f"gallery of {result.identities:,} people, {result.mates:,} mated and {result.strangers:,} non-mated probes",
        f"rank 1  {percent(result.cmc[0])}",
        f"rank {len(result.cmc)}  {percent(result.cmc[-1])}",
    ]
    rows = [[f"{row.target:g}", percent(row.fpir), percent(row.fnir), f"{row.dir:.4f}"] for row in result.open_set]
    return "\n".join([*lines, "", table(["FPIR", "achieved", "FNIR", "DIR"], rows)] if rows else lines)


def describe_result(result: ClassificationResult | TaskResult) -> str:
    """Return the headline numbers of an evaluation in a few lines."""
    if result.task == "targets":
        return "\n".join(_target_lines(result))
    return "\n".join(
        (
            f"{result.split}: {result.n:,} images, {len(result.classes):,} classes",
            f"accuracy  {percent(result.accuracy)}",
            f"macro F1  {percent(result.macro_f1)}",
            f"log loss  {result.log_loss:.3f}",
            *([] if result.binary is None else _binary_lines(result.binary)),
        )
    )


def _binary_lines(result: BinaryResult) -> list[str]:
    return [
        f"HTER      {percent(result.hter)}, accepting {result.accepted} from {result.threshold:.3f}",
        f"FAR       {percent(result.far)}, {result.rejected} accepted as {result.accepted}",
        f"FRR       {percent(result.frr)}, {result.accepted} rejected as {result.rejected}",
        f"at 0.5    HTER {percent(result.hter_at_half)}",
        f"EER       {100 * result.eer:.1f} % ({100 * result.eer_low:.1f} to {100 * result.eer_high:.1f}), on test",
    ]


def _target_lines(result: TaskResult) -> Iterator[str]:
    yield f"{result.split}: {result.n:,} images"
    if result.attributes is not None:
        yield from _attribute_lines(result.attributes)
    for number in result.numbers:
        yield from _number_lines(number)
    for name, found in result.classes.items():
        largest = max(row.n for row in found.per_class) / found.n
        yield f"{name}  {found.n:,} images, {len(found.classes):,} classes"
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
