"""`facewright export`, `card`, `push`, `pull`: models in files, and where they go."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from facewright.cli import options as opt
from facewright.cli.output import check_writable, number_of, percent, report, say
from facewright.cli.progress import with_progress
from facewright.errors import require_extra

if TYPE_CHECKING:
    from facewright.exportation.agreement import Export, Int8Report, TargetCost

Results = Annotated[
    list[Path] | None,
    typer.Option("--results", metavar="DIR", help="A folder of `facewright pairs --out` for this model. Repeatable."),
]
Licence = Annotated[str | None, typer.Option("--licence", help="Licence of the weights. Default: the model's own.")]
Repo = Annotated[str, typer.Argument(metavar="OWNER/NAME", help="A repository of the Hugging Face Hub.")]


def export(
    model: opt.Model,
    to: Annotated[Literal["onnx"], typer.Option(help="The format.")] = "onnx",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write. Default: MODEL.onnx beside the model.")
    ] = None,
    check: Annotated[
        str | None,
        typer.Option(help="DATA to compare PyTorch and ONNX on, filled up to 1,000 images with synthetic faces."),
    ] = None,
    quantise: Annotated[
        Literal["int8"] | None, typer.Option(help="Write 8-bit numbers; needs --calibration and --check.")
    ] = None,
    calibration: Annotated[
        str | None, typer.Option(help="DATA that sets the scales of int8; must share no image with --check.")
    ] = None,
    crop: opt.Crop = None,
    flip: opt.Flip = None,
    detector: opt.ModelDetector = None,
    device: opt.Device = None,
    quiet: opt.Quiet = False,
    as_json: opt.Json = False,
) -> None:
    """Write a model as one ONNX file, checked against PyTorch.

    The file takes images (uint8, B x H x W x 3, RGB) and returns scores and unit vectors; it also replaces MODEL in
    predict, verify, pairs, embed, evaluate and gallery. Nothing is written unless its outputs agree with PyTorch's.

    \b
    Example:
      facewright export runs/a --to onnx
      facewright export runs/a --quantise int8 --calibration photos/ --check other-photos/ --out small.onnx
    """
    del to  # there is one
    require_extra("onnx", "facewright export")

    from facewright.workflows import exportation

    made = with_progress(exportation.export, quiet)(
        model, out, check=check, quantise=quantise, calibration=calibration, crop=crop, flip=flip, detector=detector,
        device=device,
    )  # fmt: skip
    report(made.to_dict(), _describe_export(made), as_json)


def _describe_export(made: Export) -> str:
    found = made.agreement
    parts = {"probabilities": found.probabilities, "unit vectors": found.vectors, "cosines": found.cosines}
    parts |= {"norms": found.norms}
    near = ", ".join(f"{name} {value:.1e}" for name, value in parts.items() if value is not None)
    outputs = " and ".join(f"{name} (B, {numbers})" for name, numbers in made.outputs.items())
    lines = [
        f"compared with PyTorch on {made.data}",
        f"largest differences: {near}",
        f"decisions changed: {found.changed} of {found.decisions:,} ({number_of(found.ties, 'tie')} not counted)",
    ]
    if made.quantised is not None:
        lines += _describe_int8(made.quantised, made.size)
    lines.append(
        f"wrote {made.path}: {made.precision}, {made.size / 1e6:.1f} MB, pixels "
        f"(B, {made.spec.height}, {made.spec.width}, 3) uint8 -> {outputs}"
    )
    return "\n".join(lines)


def _describe_int8(made: Int8Report, size: int) -> list[str]:
    lines = [f"int8, calibrated on {number_of(made.pictures, 'image')} of {made.calibration}:"]
    lines += [f"  {_target_cost_line(one)}" for one in made.targets]
    if (cost := made.cost) is not None:
        correct = "classified correctly" if cost.question == "class" else "nearest other image is of the same person"
        lines += [
            f"  {correct}: float32 {percent(cost.float32)}, int8 {percent(cost.int8)}",
            f"  correct in one only: float32 {cost.lost}, int8 {cost.won}; p = {cost.p_value:.3g} (McNemar, exact)",
            f"  all pairs: AUC {cost.auc_float32:.5f} -> {cost.auc_int8:.5f}, EER {cost.eer_float32:.4f} -> "
            f"{cost.eer_int8:.4f}",
        ]
    return [*lines, f"  file: {made.float32_bytes / 1e6:.1f} MB -> {size / 1e6:.1f} MB"]


def _target_cost_line(cost: TargetCost) -> str:
    change = f"at most {cost.furthest:.3g} apart"
    if cost.changed is not None:
        change = f"answers changed {percent(cost.changed)}, probabilities {change}"
    if cost.float32 is None or cost.int8 is None:
        return f"{cost.name}: {change}; its truth is not known"
    said = (
        percent(rate) if cost.measure == "accuracy" else f"{rate.value:.4g} ({rate.low:.4g} to {rate.high:.4g})"
        for rate in (cost.float32, cost.int8)
    )
    return f"{cost.name}: {cost.measure} {' -> '.join(said)}; {change}"


def card(
    model: opt.Model,
    results: Results = None,
    licence: Licence = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Markdown file. Default: standard output.")] = None,
    store: Annotated[bool, typer.Option("--store", help="Keep the card in the model file too.")] = False,
    as_json: opt.Json = False,
) -> None:
    """Write a model card from what is recorded, as Markdown.

    Data, licence, input, template, thresholds, measurements, subgroups, intended use and limits. What is not recorded
    is named as missing.

    \b
    Example:
      facewright pairs mine.onnx pairs.csv --images lfw/ --detector dlib --out measured/
      facewright card mine.onnx --results measured/ --out CARD.md --store
    """
    check_writable(out)
    from facewright.report.model_card import markdown
    from facewright.workflows.model_card import model_card

    made = model_card(model, results=results or (), licence=licence, out=out, store=store)
    report(made.to_dict(), markdown(made).rstrip() if out is None else f"wrote {out}", as_json)
    for line in made.limits():
        say(f"note: {line}")


def push(
    model: opt.Classifier,
    repo: Repo,
    results: Results = None,
    licence: Licence = None,
    public: Annotated[bool, typer.Option("--public", help="Anyone may read it. Default: private.")] = False,
    as_json: opt.Json = False,
) -> None:
    """Send a model file and its card to the Hugging Face Hub.

    The token is that of `hf auth login` or HF_TOKEN.

    \b
    Example:
      facewright push mine.onnx me/mine --results measured/
    """
    from facewright.workflows.model_card import push as push_model

    sent = push_model(model, repo, results=results or (), licence=licence, public=public)
    report(sent.to_dict(), f"{sent.repo}: {sent.file}, revision {sent.revision}", as_json)


def pull(
    repo: Repo,
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write: NAME.safetensors or NAME.onnx.")],
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit. Default: main.")] = None,
    as_json: opt.Json = False,
) -> None:
    """Fetch a model of Facewright from the Hugging Face Hub.

    A repository that holds a pickled file is refused.

    \b
    Example:
      facewright pull me/mine --out mine.onnx
    """
    check_writable(out)
    from facewright.workflows.model_card import pull as pull_model

    fetched = pull_model(repo, out, revision=revision)
    report(fetched.to_dict(), f"wrote {fetched.path}, revision {fetched.revision}", as_json)
