"""`facewright verify`, `pairs` and `calibrate`: do two images show the same person?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facewright.cli import options as opt
from facewright.cli.evaluation import describe_subgroups, describe_verification
from facewright.cli.output import chosen_by, emit, number_of, percent, precise, report, say, show, table
from facewright.cli.progress import event_printer, with_progress
from facewright.errors import UsageError

if TYPE_CHECKING:
    from facewright.recognition import Matched
    from facewright.workflows.calibration import Calibrated
    from facewright.workflows.verification_benchmark import Benchmark, TemplateRow


def verify(
    words: Annotated[
        list[str], typer.Argument(metavar="[MODEL] A B", help="Two photos; before them a model. Default: built-in.")
    ],
    far: opt.Far = None,
    detector: opt.Detector = None,
    select_face: opt.FaceChoice = None,
    device: opt.Device = None,
    as_json: opt.Json = False,
) -> None:
    """Decide whether two photos show the same person.

    Without MODEL nothing has to be trained: the built-in networks find the face in each photo, and the threshold comes
    with the package. A model of your own takes each photo as it is or, with --detector, the face found in it; it
    decides with the threshold that `facewright calibrate` stored for that. Without a threshold, or without a face,
    there is no decision, and the exit status is 1.

    \b
    Example:
      facewright verify a.jpg b.jpg
      facewright verify faces.safetensors a.jpg b.jpg --detector dlib
    """
    if not 2 <= len(words) <= 3:
        raise typer.BadParameter(f"expected two photos, or a model and two photos, got {number_of(len(words), 'word')}")

    from facewright.workflows import verification

    model = words[0] if len(words) == 3 else None
    a, b = (Path(word) for word in words[-2:])
    with event_printer():
        result = verification.verify(
            a, b, model=model, far=far, detector=detector, select_face=select_face, device=device
        )
    sides = list(zip((a, b), result.sides, strict=True))
    if as_json:
        emit(result.to_dict())
    elif result.score is not None:
        show("\n".join([_describe_verified(result), *(f"{path}: {side.said}" for path, side in sides if side.said)]))
    if result.same is None:
        from facewright.recognition.networks import read_defaults

        reasons = [f"{path}: {side.reason}" for path, side in sides if side.reason is not None]
        say(f"error: no decision: {'; '.join(reasons) or _missing_threshold(model or read_defaults().model, result)}")
        raise typer.Exit(1)


def pairs(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[MODEL] PAIRS",
            help="LFW's pairs.txt, a .csv with a,b,same[,fold], or a .bin; before it a model. Default: built-in.",
        ),
    ],
    images: opt.ImagesFolder = None,
    crop: opt.Crop = None,
    flip: opt.Flip = None,
    detector: opt.Detector = None,
    select_face: opt.FaceChoice = None,
    by: opt.By = None,
    attributes: Annotated[
        Path | None, typer.Option(help="Table with path and COLUMN. Default: attributes.csv beside PAIRS.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the page, the scores, the JSON.")] = None,
    device: opt.Device = None,
    quiet: opt.Quiet = False,
    as_json: opt.Json = False,
) -> None:
    """Evaluate verification on a list of pairs.

    The accuracy is over the list's folds where it has any (LFW's ten), else over two halves of the people; each part is
    evaluated at the threshold that was best on the others. An image that cannot be read, or in which no face is found,
    is a failure to acquire, and its pairs count as errors.

    \b
    Example:
      facewright pairs pairs.txt --images lfw/ --out report/
      facewright pairs mobilefacenet@weights.safetensors pairs.txt --images lfw/ --detector dlib
    """
    if not 1 <= len(words) <= 2:
        raise typer.BadParameter(f"expected a list of pairs, or a model and one, got {number_of(len(words), 'word')}")
    folder = _required_folder(images, words[-1])

    from facewright.workflows import pair_evaluation

    model = words[0] if len(words) == 2 else None
    result = with_progress(pair_evaluation.pairs, quiet)(
        model, words[-1], folder, out=out, crop=crop, flip=flip, detector=detector, select_face=select_face, by=by,
        attributes=attributes, device=device,
    )  # fmt: skip
    lines = [describe_verification(result.result)]
    if result.subgroups is not None:
        lines += ["", describe_subgroups(result.subgroups)]
    report(result.to_dict(), "\n".join(lines), as_json)
    say(
        f"report: {out / 'report.html'}"
        if out is not None
        else "for curves, histograms and the worst pairs add --out DIR"
    )


def benchmark(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL... SET...",
            help="Models, then sets: a .bin; LIST:FOLDER, pairs and images; or a folder as IJB-B and IJB-C.",
        ),
    ],
    flip: opt.Flip = True,
    detector: opt.Detector = None,
    device: opt.Device = None,
    quiet: opt.Quiet = False,
    as_json: opt.Json = False,
) -> None:
    """Compare recognizers on verification sets.

    A set is a .bin of InsightFace (LFW, CFP-FP, AgeDB-30, CALFW, CPLFW), a list of pairs, or a folder of templates as
    IJB-B and IJB-C (docs/protocols.md). Accuracy is the mean over folds with the standard error. Embeddings are
    averaged with those of the mirrored image unless --no-flip.

    \b
    Example:
      facewright benchmark mobilefacenet@weights.safetensors mine.onnx lfw.bin cfp_fp.bin agedb_30.bin
      facewright benchmark built-in pairs.txt:lfw/
      facewright benchmark built-in IJBC/ --detector yunet.onnx
    """
    from facewright.workflows import verification_benchmark

    result = with_progress(verification_benchmark.benchmark, quiet)(
        *verification_benchmark.split_sets(words), flip=flip, detector=detector, device=device
    )
    report(result.to_dict(), _describe_benchmark(result), as_json)


def _describe_benchmark(result: Benchmark) -> str:
    rows = []
    for row in result.rows:
        accuracy = "undefined" if row.accuracy is None else precise(row.accuracy)
        if row.standard_error is not None and row.mean_accuracy is not None:
            accuracy = f"{100 * row.mean_accuracy:.2f} ± {100 * row.standard_error:.2f} %"
        tar = "too few pairs" if row.tar is None else f"{percent(row.tar)} at {row.far:g}"
        rows.append([row.model, row.set, f"{row.pairs:,}", accuracy, f"{100 * row.eer:.2f} %", tar, str(row.failures)])
    parts = [table(["model", "set", "pairs", "accuracy", "EER", "TAR at FAR", "failures"], rows)] if rows else []
    return "\n\n".join([*parts, *map(_describe_templates, result.templates)])


def _describe_templates(row: TemplateRow) -> str:
    found = row.result
    lines = [
        f"{row.model} on {row.set}: {found.templates:,} templates of {row.images:,} images (faces: {row.faces}; "
        f"{row.failures:,} not usable, {found.without_image:,} templates without one), {found.genuine:,} genuine and "
        f"{found.impostors:,} impostor pairs"
    ]
    if found.tar_at_far:
        rates = [
            [f"{one.far:g}", f"{round(one.achieved * one.impostors):,} of {one.impostors:,}", precise(one.tar)]
            for one in found.tar_at_far
        ]
        lines.append(table(["FAR", "impostors accepted", "TAR"], rates))
    if found.searches:
        rows = []
        for one in found.searches:
            rank1, rank5 = ("undefined" if rate is None else percent(rate) for rate in (one.rank1, one.rank5))
            tpir = ", ".join(f"{100 * point.dir:.1f} % at {point.target:g}" for point in one.open_set)
            counts = [f"{count:,}" for count in (one.identities, one.mated, one.nonmated)]
            rows.append([one.gallery, *counts, rank1, rank5, tpir or "too few probes"])
        lines.append(table(["gallery", "people", "mated", "non-mated", "rank 1", "rank 5", "TPIR at FPIR"], rows))
    return "\n\n".join(lines)


def calibrate(
    model: opt.Model,
    far: Annotated[float, opt.rate(help="False-accept rate to choose the threshold for.")],
    pairs: Annotated[Path | None, typer.Option(help="Development pairs: LFW's pairs.txt, a .csv, or a .bin.")] = None,
    images: opt.ImagesFolder = None,
    unknown_people: Annotated[
        str | None,
        typer.Option(
            metavar="DATA", help="People who are not classes of MODEL: choose when `predict` answers unknown."
        ),
    ] = None,
    crop: opt.Crop = None,
    flip: opt.Flip = None,
    detector: opt.Detector = None,
    select_face: opt.FaceChoice = None,
    confidence: opt.Confidence = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Model file to write. Default: MODEL's own.")] = None,
    device: opt.Device = None,
    quiet: opt.Quiet = False,
    as_json: opt.Json = False,
) -> None:
    """Choose a threshold on development data and store it in the model file.

    Never report a number measured on the same data. Fails if there are too few pairs for this FAR. A threshold is valid
    for the detector it was chosen with.

    \b
    Example:
      facewright calibrate runs/a --pairs dev.csv --images faces/ --far 1e-3 --detector dlib
      facewright calibrate runs/a --unknown-people others/ --far 0.05
    """
    if (unknown_people is None) == (pairs is None):
        raise UsageError("give --pairs PAIRS --images DIR, or --unknown-people DATA")
    if pairs is None and any(option is not None for option in (crop, flip, images, select_face)):
        raise UsageError("--images, --crop, --flip and --select-face need --pairs")

    from facewright.workflows import calibration

    if unknown_people is not None:
        result = with_progress(calibration.calibrate_unknown, quiet)(
            model, unknown_people, far, confidence=confidence, out=out, detector=detector, device=device
        )
    elif pairs is not None:
        result = with_progress(calibration.calibrate, quiet)(
            model, pairs, _required_folder(images, pairs), far, confidence=confidence, out=out, crop=crop, flip=flip,
            detector=detector, select_face=select_face, device=device,
        )  # fmt: skip
    report(result.to_dict(), _describe_calibrated(result), as_json)
    say(f"wrote {result.written}")


def _required_folder(images: Path | None, pairs: str | Path) -> Path | None:
    """Return the folder of the images, which must be given; None for a list that holds them."""
    if images is None and Path(pairs).suffix.lower() != ".bin":
        raise UsageError("give --images DIR, the folder of the images that PAIRS names")
    return images


def _missing_threshold(model: str, result: Matched) -> str:
    """Return why two faces got no decision, and what to do."""
    if model == opt.BUILT_IN and result.decided_with not in (None, result.detector):
        return f"the shipped threshold is for --detector {result.decided_with}, not for {result.detector}"
    if model == opt.BUILT_IN:
        return "no threshold is shipped for the networks of the installed face_recognition_models"
    if result.decided_with is not None:
        return (
            f"the model's threshold was chosen with --detector {result.decided_with}, not with {result.detector}: use "
            "that detector, or choose another threshold with facewright calibrate"
        )
    detector = "" if result.detector == "none" else f" --detector {result.detector}"
    suffix = ".onnx" if str(model).lower().endswith(".onnx") else ".safetensors"
    return (
        "the model has no threshold for its present input; choose one on pairs of known people: facewright "
        f"calibrate {model} --pairs PAIRS --images DIR{detector} --far 0.001 --out NEW{suffix}"
    )


def _describe_verified(result: Matched) -> str:
    lines = [] if result.score is None else [f"score      {result.score:.4f}"]
    if result.same is not None and result.threshold is not None and result.far is not None:
        lines.insert(0, str(result.verdict))
        lines.append(f"threshold  {result.threshold:.4f}, chosen for a false-accept rate of {result.far_target:g}")
        if result.probability is not None:
            lines.append(f"match probability, at the calibration set's prior  {probability(result.probability)}")
        lines.append(f"expected false-accept rate  {precise(result.far)}, from {result.data}")
    return "\n".join(lines)


def _describe_calibrated(result: Calibrated) -> str:
    chosen = result.threshold
    lines = [
        f"threshold {chosen.value:.4f} of {chosen.score}, for a false-accept rate of {chosen.far_target:g}",
        f"achieved  {precise(chosen.far)}",
        chosen_by(chosen),
    ]
    if chosen.tar is not None:
        lines.append(f"accepts   {precise(chosen.tar)} of genuine pairs")
    calibration = result.threshold.calibration
    if calibration is not None:
        losses = ", ".join(f"{name} {loss:.4f}" for name, loss in calibration.log_loss.items())
        lines.append(f"probabilities by {calibration.method} calibration (held-out log loss: {losses})")
    if (norm := result.norm) is not None:
        lines.append(
            f"the norm of the embedding (median {norm.median:.3g}) follows genuine scores (rank correlation "
            f"{norm.correlation:.2f}, n={norm.genuine:,}): it is part of the quality of faces"
        )
    detector = "" if result.threshold.detector == "none" else f", faces detected by {result.threshold.detector}"
    return "\n".join([*lines, f"chosen on {chosen.data}{detector}"])


def probability(value: float) -> str:
    """Return a probability in percent; never 0 or 100, which no number of pairs can show.

    >>> probability(0.5), probability(0.9999), probability(2e-6)
    ('50.0 %', 'over 99.9 %', 'under 0.1 %')
    """
    if value > 0.999:
        return "over 99.9 %"
    return "under 0.1 %" if value < 0.001 else f"{100 * value:.1f} %"
