"""`facewright predict`, `explain` and `embed`: a model applied to images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from facewright.cli import options as opt
from facewright.cli.output import (
    check_writable,
    emit,
    exit_if_all_failed,
    named,
    number_of,
    report,
    say,
    say_errors,
    say_left_out,
    show,
    write_csv,
)
from facewright.cli.progress import with_progress
from facewright.errors import UsageError, require_extra
from facewright.files import csv_text

if TYPE_CHECKING:
    from facewright.explanation.class_maps import Explained
    from facewright.explanation.occlusion import ExplainedPair
    from facewright.inference import Prediction, TargetAnswer

Method = Literal["grad-cam", "grad-cam++", "rollout"]


def predict(
    model: opt.Classifier,
    files: Annotated[
        list[Path], typer.Argument(metavar="FILES...", help="Photos, folders, zips; tables for a `fit` model.")
    ],
    top_k: Annotated[
        int, typer.Option("--top-k", "-k", min=1, max=1000, help="Max. number of classes for each image.")
    ] = 5,
    unknown_at: Annotated[
        float | None, opt.rate(help="Use the threshold that `calibrate --unknown-people` stored for this rate.")
    ] = None,
    template: Annotated[
        Path | None, typer.Option(help="Fill this table, the sample_submission.csv of a contest.")
    ] = None,
    every_face: Annotated[
        bool, typer.Option("--every-face", help="Predict each face found in a photo, for a model with a detector.")
    ] = False,
    detector: opt.ModelDetector = None,
    csv_file: opt.CsvFile = None,
    device: opt.Device = None,
    quiet: opt.Quiet = False,
    as_json: opt.Json = False,
) -> None:
    """Predict the class of each image.

    Prints the most probable classes; a model of two classes decides with the threshold stored with it. An image that
    cannot be read is named on standard error; the exit status is 1 if none could be read.

    \b
    Example:
      facewright predict runs/a someone.jpg holiday/ --top-k 3
      facewright predict runs/a door.jpg --unknown-at 0.05
      facewright predict runs/a group.jpg --every-face
      facewright predict runs/a test/ --template sample_submission.csv --csv submission.csv
    """
    check_writable(csv_file)

    from facewright.regression.regressor import is_regression
    from facewright.workflows.prediction import fill_template
    from facewright.workflows.prediction import predict as predict_images

    if template is not None:
        if unknown_at is not None or every_face or is_regression(model):
            raise UsageError(
                "--template needs a classifier and has no place for unknown people or several faces: remove "
                "--unknown-at and --every-face"
            )
        filled = with_progress(fill_template, quiet)(model, template, files, detector=detector, device=device)
        say(f"{number_of(filled.rows, 'row')}, each with {filled.content}")
        write_csv(csv_file, filled.text)
        if as_json or csv_file is None:
            report(filled.to_dict(), filled.text.rstrip("\n"), as_json)
        return
    if is_regression(model):
        if unknown_at is not None or every_face:
            raise UsageError(f"{model} is a fitted function without classes; remove --unknown-at and --every-face")
        _predict_tables(model, files, csv_file, as_json)
        return
    predictions = with_progress(predict_images, quiet)(
        model, files, top_k=top_k, unknown_at=unknown_at, every_face=every_face, detector=detector, device=device
    )
    say_errors(predictions)
    write_csv(csv_file, _prediction_table(predictions))
    if as_json:
        emit({"model": str(model), "predictions": [one.to_dict() for one in predictions]})
    elif csv_file is None:
        for one in predictions:
            if one.error is None:
                show(prediction_line(one))
    exit_if_all_failed(predictions)


def _predict_tables(model: Path, files: Sequence[Path], csv_file: Path | None, as_json: bool) -> None:
    from facewright.regression import run as regression

    predictions = regression.predict_rows(model, files)
    text = "".join(
        part.to_csv() if number == 0 else part.to_csv().partition("\n")[2] for number, part in enumerate(predictions)
    )
    write_csv(csv_file, text)
    if as_json:
        emit({"model": str(model), "predictions": [part.to_dict() for part in predictions]})
    elif csv_file is None:
        show(text.rstrip("\n"))
    for part in predictions:
        if part.beyond.any():
            say(
                f"warning: {part.path}: {number_of(int(part.beyond.sum()), 'row')} of {len(part.beyond):,} outside the "
                "range of the training data; these predictions are extrapolated"
            )


def embed(
    model: opt.Model,
    data: opt.Data,
    out: Annotated[str, typer.Option("--out", "-o", help="File to write, here or in a bucket: .parquet, or .npz.")],
    crop: opt.Crop = None,
    flip: opt.Flip = None,
    detector: opt.Detector = None,
    select_face: opt.FaceChoice = None,
    device: opt.Device = None,
    on: opt.Cluster = None,
    quiet: opt.Quiet = False,
    as_json: opt.Json = False,
) -> None:
    """Write the embedding of every image to a Parquet file, or to an .npz.

    Columns id, path, label, digest, vector, model. The data of a Parquet file may be larger than memory; a stopped
    command resumes where it was when it is given again. An .npz needs no pyarrow, and starts from the beginning.

    \b
    Example:
      facewright embed runs/a photos/ --out vectors.parquet
      facewright embed built-in photos/ --out vectors.parquet
    """
    check_writable(None if "://" in out else Path(out))
    if not out.endswith(".npz"):
        require_extra("data", "facewright embed to Parquet (an --out that ends in .npz does not)")

    from facewright.workflows import embeddings

    written = with_progress(embeddings.embed, quiet)(
        model, data, out, crop=crop, flip=flip, detector=detector, select_face=select_face, device=device, on=on
    )
    say_left_out(written.broken)
    report(written.to_dict(), f"wrote {number_of(written.rows, 'vector')} of {written.width} numbers to {out}", as_json)


def prediction_line(prediction: Prediction) -> str:
    """Return an image or one of its faces, and what it shows: the most probable classes, or each target."""
    place = ""
    if prediction.box is not None:
        place = " face " + " ".join(f"{name} {value:.0f}" for name, value in zip("xywh", prediction.box, strict=True))
    return f"{named(prediction.path)}{place}: {_said(prediction)}"


def _said(prediction: Prediction) -> str:
    """Return the classes, the most probable first, or the targets; of an unknown person, the nearest class."""
    answer = prediction.answer
    if prediction.targets is not None:
        return ", ".join(f"{name} {_answer_text(one)}" for name, one in prediction.targets.items())
    if prediction.unknown:
        return f"unknown (nearest: {prediction.names[0]})"
    if answer is not None:
        return f"{answer.name} (score of {answer.accepted}: {answer.score:.4f}, threshold {answer.threshold:.4f})"
    pairs = zip(prediction.names, prediction.probabilities, strict=True)
    return ", ".join(f"{name} {100 * probability:.1f} %" for name, probability in pairs)


def _prediction_table(predictions: Sequence[Prediction]) -> str:
    """Return predictions as CSV.

    One row for each image and class: path, rank from 1, name, probability, error; an unknown person has the name
    unknown. Of targets, one row for each image and target. Where a threshold decides between two classes, one row for
    each image: path, predicted, score, threshold, error. Where every face was asked for, x, y, w, h of its box in px
    follow the path.
    """
    rows_of: Callable[[Prediction], Iterable[list[object]]] = _class_rows
    header = ["rank", "name", "probability", "error"]
    if any(prediction.targets is not None for prediction in predictions):
        header, rows_of = ["target", "answer", "probability", "threshold", "low", "high", "error"], _target_rows
    elif any(prediction.answer is not None for prediction in predictions):
        header, rows_of = ["predicted", "score", "threshold", "error"], _answer_rows
    boxed = any(prediction.box is not None for prediction in predictions)
    places = [[round(value, 2) for value in one.box] if one.box else [""] * 4 * boxed for one in predictions]
    rows = (
        [path, *place, *cells] for one, place in zip(predictions, places, strict=True) for path, *cells in rows_of(one)
    )
    return csv_text(["path", *("xywh" if boxed else ()), *header], rows)


def _answer_text(answer: TargetAnswer) -> str:
    """Return the value of a target in a few words: `yes (0.931)`, `31.2 (24.0 to 38.4)`, `happy (0.712)`."""
    from facewright.inference import AttributeAnswer, ClassAnswer

    if isinstance(answer, AttributeAnswer):
        return f"{'yes' if answer.yes else 'no'} ({answer.probability:.3f})"
    if isinstance(answer, ClassAnswer):
        return f"{answer.name} ({answer.probability:.3f})"
    span = "" if answer.low is None else f" ({answer.low:.4g} to {answer.high:.4g})"
    return f"{answer.value:.4g}{span}"


def _target_rows(prediction: Prediction) -> Iterator[list[object]]:
    if prediction.targets is None:
        yield [prediction.path, *[""] * 6, prediction.error or ""]
    for name, one in (prediction.targets or {}).items():
        facts = one.to_dict()
        answer = facts.get("name", facts.get("value", "yes" if facts.get("yes") else "no"))
        others = ("" if facts.get(key) is None else facts[key] for key in ("probability", "threshold", "low", "high"))
        yield [prediction.path, name, answer, *others, ""]


def _class_rows(prediction: Prediction) -> Iterator[list[object]]:
    if prediction.error is not None:
        yield [prediction.path, "", "", "", prediction.error]
    elif prediction.unknown:
        yield [prediction.path, 1, "unknown", "", ""]
    else:
        ranked = enumerate(zip(prediction.names, prediction.probabilities, strict=True), 1)
        yield from ([prediction.path, rank, name, f"{value:.6f}", ""] for rank, (name, value) in ranked)


def _answer_rows(prediction: Prediction) -> Iterator[list[object]]:
    answer = prediction.answer
    if answer is None:
        yield [prediction.path, "", "", "", prediction.error or ""]
    else:
        name = "unknown" if prediction.unknown else answer.name
        yield [prediction.path, name, answer.score, answer.threshold, ""]


def explain(
    model: opt.Model,
    photos: opt.Photos,
    name: Annotated[str | None, typer.Option("--class", help="Class to explain. Default: the predicted one.")] = None,
    method: Annotated[
        Method | None, typer.Option(help="Default: rollout for vision transformers, grad-cam for all others.")
    ] = None,
    detector: opt.Detector = None,
    pair: Annotated[
        bool, typer.Option("--pair", help="Show which regions of two photos contribute to their similarity.")
    ] = False,
    out: opt.Out = None,
    device: opt.Device = None,
    quiet: opt.Quiet = False,
    as_json: opt.Json = False,
) -> None:
    """Show which image regions a prediction depends on.

    Writes each photo with its heat map, and a page of all. A photo that cannot be read is named on standard error; the
    exit status is 1 if none could be read. --detector: for --pair as in `facewright verify`, else as in `predict`.

    \b
    Example:
      facewright explain runs/a someone.jpg
      facewright explain runs/a holiday/ --class Tina_Fey --method grad-cam++ --out why/
      facewright explain built-in a.jpg b.jpg --pair
    """
    if pair and len(photos) != 2:
        raise UsageError(f"--pair needs two photos, got {len(photos)}")
    if pair and (name is not None or method is not None):
        raise UsageError("--pair has no class and one method: remove --class and --method")

    from facewright.workflows import explanation
    from facewright.workflows.training_requests import free_folder

    folder = free_folder("explain") if out is None else out
    if pair:
        both = with_progress(explanation.explain_pair, quiet)(
            model, *photos, detector=detector, out=folder, device=device
        )
        report(both.to_dict(), _describe_pair(both), as_json)
        say(f"wrote {both.page}")
        return
    found = with_progress(explanation.explain, quiet)(
        model, photos, name=name, method=method, detector=detector, out=folder, device=device
    )
    say_errors(found.photos)
    report(found.to_dict(), _describe_explained(found), as_json)
    say(f"wrote {found.page}")
    exit_if_all_failed(found.photos)


def _describe_explained(found: Explained) -> str:
    lines = []
    for photo in (photo for photo in found.photos if photo.error is None):
        text = f"{photo.name} {100 * photo.probability:.1f} %"
        text += f" (predicted: {photo.predicted})" if photo.predicted != photo.name else ""
        text += "" if photo.peak is not None else "; no region supports it"
        lines.append(f"{named(photo.path)}: {text} -> {named(photo.overlay)}")
    return "\n".join(lines)


def _describe_pair(found: ExplainedPair) -> str:
    lines = [
        f"similarity {found.occlusion.score:.4f}, falls by {found.occlusion.drop:.4f} at most when a region is covered"
    ]
    if found.same is not None and found.threshold is not None:
        lines.insert(0, f"{'match' if found.same else 'no match'} (threshold {found.threshold:.4f})")
    return "\n".join([*lines, *(f"{a} -> {b}" for a, b in zip(found.paths, found.overlays, strict=True))])
