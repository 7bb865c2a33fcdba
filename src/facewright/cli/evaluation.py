"""`facewright evaluate`: the numbers of a model on labelled images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from facewright.cli import options as opt
from facewright.cli.output import number_of, percent, precise, report, say, table
from facewright.cli.progress import event_printer
from facewright.cli.training import describe_result

if TYPE_CHECKING:
    from facewright.evaluation.attacks import AttackResult
    from facewright.evaluation.identification import IdentificationResult
    from facewright.evaluation.results import ClassificationResult
    from facewright.evaluation.subgroups import Subgroups
    from facewright.evaluation.targets import TaskResult
    from facewright.evaluation.verification import VerificationResult
    from facewright.workflows.recognition import Recognition


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
        typer.Option("--task", help="Default: classification; verification if DATA has other classes than the model."),
    ] = None,
    seed: opt.Seed = 0,
    detector: opt.Detector = None,
    unknown_classes: Annotated[
        Literal["errors", "leave-out"],
        typer.Option("--unknown-classes", help="Images of classes the model does not know."),
    ] = "errors",
    threshold: Annotated[
        float | None,
        opt.bounded("--threshold", low=-1e9, high=1e9, help="Attack: scores from this one on are bona fide."),
    ] = None,
    validation: Annotated[
        Path | None, typer.Option("--validation", help="Attack: other scores; the threshold is chosen on them, at EER.")
    ] = None,
    by: opt.By = None,
    attributes: Annotated[
        Path | None,
        typer.Option("--attributes", help="Table with path and COLUMN. Default: attributes.csv beside DATA, or DATA."),
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

    from facewright import workflows

    with event_printer(quiet) as on_event:
        result = workflows.evaluate(
            model,
            data,
            task=task,
            seed=seed,
            detector=detector,
            unknown_classes=unknown_classes,
            threshold=threshold,
            validation=validation,
            by=by,
            attributes=attributes,
            out=out,
            device=device,
            on_event=on_event,
        )
    say_notes(result)
    report(result.to_dict(), describe(result), as_json)
    if out is not None:
        say(f"report: {out / 'report.html'}")


def say_notes(result: ClassificationResult | TaskResult | Recognition | AttackResult) -> None:
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
    from facewright.evaluation.attacks import AttackResult
    from facewright.evaluation.identification import IdentificationResult
    from facewright.evaluation.results import ClassificationResult
    from facewright.evaluation.targets import TaskResult

    if isinstance(result, AttackResult):
        return describe_attacks(result)
    if isinstance(result, ClassificationResult | TaskResult):
        lines = describe_result(result)
    elif isinstance(result.result, IdentificationResult):
        return describe_identification(result.result)
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


def describe_attacks(result: AttackResult) -> str:
    """Return the APCER of each attack type, then the rates over all."""
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


def describe_identification(result: IdentificationResult) -> str:
    """Return rank-1 and the open-set rates."""
    lines = [
        f"gallery of {result.identities:,} people, {result.mates:,} mated and {result.strangers:,} non-mated probes",
        f"rank 1  {percent(result.cmc[0])}",
        f"rank {len(result.cmc)}  {percent(result.cmc[-1])}",
    ]
    rows = [[f"{row.target:g}", percent(row.fpir), percent(row.fnir), f"{row.dir:.4f}"] for row in result.open_set]
    return "\n".join([*lines, "", table(["FPIR", "achieved", "FNIR", "DIR"], rows)] if rows else lines)
