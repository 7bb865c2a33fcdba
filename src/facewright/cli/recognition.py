"""What the commands of recognition share: options, how numbers are told; and `facewright evaluate` of people."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facewright.cli.output import emit, number_of, percent, say, show, table
from facewright.cli.progress import listener
from facewright.errors import UsageError

if TYPE_CHECKING:
    from facewright import recognition
    from facewright.evaluation.identification import IdentificationResult
    from facewright.evaluation.verification_results import VerificationResult
    from facewright.metrics.intervals import Rate


BUILT_IN = "built-in"  # as a model is named


class Policy(StrEnum):
    """Which of several faces is the person."""

    CENTRE = "centre"
    LARGEST = "largest"
    ERROR = "error"


DetectorOption = Annotated[
    str | None,
    typer.Option(
        "--detector",
        help="What finds faces: dlib; YuNet's .onnx file; none: a photo is one. Built-in: dlib, a model's: none.",
    ),
]
PolicyOption = Annotated[
    Policy | None, typer.Option("--policy", help="Of several faces in a photo: take one, or none; default: centre.")
]


class Task(StrEnum):
    """What a model is judged as."""

    CLASSIFICATION = "classification"
    VERIFICATION = "verification"
    IDENTIFICATION = "identification"


def name_of(policy: Policy | None) -> recognition.Policy | None:
    """A policy as the package names it."""
    return None if policy is None else policy.value


def recognises(model: Path, where: str | None, task: Task | None) -> Task | None:
    """As what kind of recogniser a model is to be judged; None: as a classifier, as far as can be told beforehand.

    Raises:
        UsageError: a recogniser is judged on labelled pictures, and none are named.
    """
    if task is Task.CLASSIFICATION or (task is None and where is None):
        return None
    if where is None:
        raise UsageError(f"--task {task} is measured on labelled pictures; give DATA")
    if task is None and (str(model) == BUILT_IN or ("@" in str(model) and not model.exists())):
        return Task.VERIFICATION
    if task is None and model.is_file():
        from facewright import bundle as bundles

        return None if bundles.load(model).classes else Task.VERIFICATION
    return task


def evaluate_recogniser(
    model: Path, where: str, task: Task, detector: str | None, seed: int, quiet: bool, as_json: bool
) -> None:
    """`facewright evaluate` where people are compared or searched for in place of named."""
    from facewright.evaluation.identification import IdentificationResult
    from facewright.workflows import recognition

    with listener(quiet) as on_event:
        if task is Task.IDENTIFICATION:
            found = recognition.evaluate_identification(
                str(model), where, seed=seed, detector=detector, on_event=on_event
            )
        else:
            found = recognition.evaluate_verification(str(model), where, detector=detector, on_event=on_event)
    if found.left_out:
        every = found.images + found.left_out
        say(f"{number_of(found.left_out, 'picture')} of {every:,} left out, and in none of the rates")
    if as_json:
        emit(found.to_dict())
    elif isinstance(found.result, IdentificationResult):
        show(describe_identification(found.result))
    else:
        show(describe_verification(found.result))


def describe_verification(result: VerificationResult) -> str:
    """The headline numbers of a verification, then the rates at thresholds."""
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
    """Rank-1 and the open-set rates."""
    first = result.cmc[0]
    lines = [
        f"gallery of {result.identities:,} people, {result.mates:,} probes of them, {result.strangers:,} of strangers",
        f"rank 1  {percent(first)}",
        f"rank {len(result.cmc)}  {percent(result.cmc[-1])}",
    ]
    rows = [[f"{row.target:g}", percent(row.fpir), percent(row.fnir), f"{row.dir:.4f}"] for row in result.open_set]
    return "\n".join([*lines, "", table(["FPIR", "achieved", "FNIR", "DIR"], rows)] if rows else lines)


def precise(rate: Rate) -> str:
    """A rate with its interval and count, to hundredths of a percent.

    >>> from facewright.metrics.intervals import Rate
    >>> precise(Rate(0.98125, 0.97, 0.99, 1600))
    '98.12 % (97.00 to 99.00, n=1,600)'
    """
    return f"{100 * rate.value:.2f} % ({100 * rate.low:.2f} to {100 * rate.high:.2f}, n={rate.n:,})"
