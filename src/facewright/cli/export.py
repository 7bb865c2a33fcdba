"""`facewright export`: a model as one file that ONNX Runtime runs without this package."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facewright.cli.output import emit, number_of, percent, show
from facewright.cli.progress import listener

if TYPE_CHECKING:
    from facewright.exportation import Export, Quantised


class Format(StrEnum):
    """What a model can be written as."""

    ONNX = "onnx"


class Precision(StrEnum):
    """Of the weights and sums, in place of float32."""

    INT8 = "int8"


def export(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A run folder, its model.safetensors, or architecture@weights.")
    ],
    to: Annotated[Format, typer.Option("--to", help="The format.")] = Format.ONNX,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The file; MODEL.onnx beside the model if left out.")
    ] = None,
    check: Annotated[
        str | None,
        typer.Option("--check", help="DATA to compare PyTorch and ONNX on; drawn faces make it 1,000."),
    ] = None,
    quantise: Annotated[
        Precision | None, typer.Option("--quantise", help="Write 8-bit numbers; needs --calibration and --check.")
    ] = None,
    calibration: Annotated[
        str | None, typer.Option("--calibration", help="DATA that sets the scales of int8; no picture of --check.")
    ] = None,
    crop: Annotated[
        float | None, typer.Option("--crop", help="Share of both sides of a photo to keep; the model's if left out.")
    ] = None,
    flip: Annotated[
        bool | None,
        typer.Option("--flip/--no-flip", help="Average with the mirror image; as the model if left out."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Write a model as one ONNX file, checked against PyTorch.

    The file reads bytes of pictures (uint8, B x H x W x 3, RGB) and gives scores and unit vectors; it also takes
    MODEL's place in predict, verify, pairs, embed, evaluate and gallery. Nothing is written unless it answers as
    PyTorch does.

    \b
    Example:
      facewright export runs/a --to onnx
      facewright export runs/a --quantise int8 --calibration photos/ --check other-photos/ --out small.onnx
    """
    del to  # there is one

    from facewright.workflows import exportation

    with listener(quiet) as on_event:
        made = exportation.export(
            model,
            out,
            check=check,
            quantise=None if quantise is None else quantise.value,
            calibration=calibration,
            crop=crop,
            flip=flip,
            on_event=on_event,
        )
    if as_json:
        emit(made.to_dict())
    else:
        show(describe_export(made))


def describe_export(made: Export) -> str:
    """What was written, and on what grounds."""
    found = made.agreement
    parts = {"probabilities": found.probabilities, "unit vectors": found.vectors, "cosines": found.cosines}
    near = ", ".join(f"{name} {value:.1e}" for name, value in parts.items() if value is not None)
    outputs = " and ".join(f"{name} (B, {numbers})" for name, numbers in made.outputs.items())
    lines = [
        f"compared with PyTorch on {made.data}",
        f"largest differences: {near}",
        f"decisions changed: {found.changed} of {found.decisions:,} ({number_of(found.ties, 'tie')} not counted)",
    ]
    if made.quantised is not None:
        lines += describe_quantised(made.quantised, made.size)
    lines.append(
        f"wrote {made.path}: {made.precision}, {made.size / 1e6:.1f} MB, pixels "
        f"(B, {made.spec.height}, {made.spec.width}, 3) uint8 -> {outputs}"
    )
    return "\n".join(lines)


def describe_quantised(made: Quantised, size: int) -> list[str]:
    """What int8 costs and saves."""
    cost = made.cost
    asked = "named right" if cost.question == "class" else "nearest other picture is of the same person"
    return [
        f"int8, calibrated on {number_of(made.pictures, 'picture')} of {made.calibration}:",
        f"  {asked}: float32 {percent(cost.float32)}, int8 {percent(cost.int8)}",
        f"  right in one only: float32 {cost.lost}, int8 {cost.won}; p = {cost.p_value:.3g} (McNemar, exact)",
        f"  all pairs: AUC {cost.auc_float32:.5f} -> {cost.auc_int8:.5f}, EER {cost.eer_float32:.4f} -> "
        f"{cost.eer_int8:.4f}",
        f"  file: {made.float32_bytes / 1e6:.1f} MB -> {size / 1e6:.1f} MB",
    ]
