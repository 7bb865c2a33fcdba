"""What results say on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from facewright.cli.output import percent, table

if TYPE_CHECKING:
    from facewright.evaluation.binary import BinaryResult
    from facewright.evaluation.results import ClassificationResult, Comparison, Entry


def describe_result(result: ClassificationResult) -> str:
    """The headline numbers of an evaluation in a few lines."""
    return "\n".join(
        (
            f"{result.split}: {result.n:,} images, {len(result.classes)} classes",
            f"accuracy  {percent(result.accuracy)}",
            f"macro F1  {percent(result.macro_f1)}",
            f"log loss  {result.log_loss:.3f}",
            *([] if result.binary is None else describe_binary(result.binary)),
        )
    )


def describe_binary(result: BinaryResult) -> list[str]:
    """A task of two classes as a yes or no, line by line."""
    return [
        f"HTER      {percent(result.hter)}, accepting {result.accepted} from {result.threshold:.3f}",
        f"FAR       {percent(result.far)}, {result.rejected} taken for {result.accepted}",
        f"FRR       {percent(result.frr)}, {result.accepted} taken for {result.rejected}",
        f"at 0.5    HTER {percent(result.hter_at_half)}",
        f"EER       {100 * result.eer:.1f} % ({100 * result.eer_low:.1f} to {100 * result.eer_high:.1f}), on test",
    ]


def describe_comparison(comparison: Comparison) -> str:
    """The models in a table, and the advice that follows from it."""
    header = ["model", "test accuracy", "log loss", "parameters", "GFLOPs", "images seen", "trained", "latency"]
    yes_or_no = any(entry.test.binary is not None for entry in comparison.entries)
    rows = [
        [
            entry.name,
            percent(entry.test.accuracy),
            *([_hter(entry)] if yes_or_no else []),
            f"{entry.test.log_loss:.3f}",
            f"{entry.parameters / 1e6:.1f} M",
            f"{entry.flops / 1e9:.2f}",
            f"{entry.images_seen:,}",
            f"{entry.train_seconds:,.0f} s",
            f"{entry.latency.median_ms:.1f} ms",
        ]
        for entry in comparison.entries
    ]
    header[2:2] = ["HTER"] if yes_or_no else []
    return "\n".join([table(header, rows), "", *comparison.advice])


def _hter(entry: Entry) -> str:
    return "undefined" if entry.test.binary is None else percent(entry.test.binary.hter)
