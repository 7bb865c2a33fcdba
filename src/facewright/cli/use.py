"""`facewright predict`: a trained run put to use."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facewright.cli.output import emit, place_for, say, show
from facewright.cli.progress import listener
from facewright.cli.rows import predict_rows
from facewright.errors import UsageError
from facewright.files import write_atomic

if TYPE_CHECKING:
    from facewright.inference import Prediction


def predict(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A run folder, or its model.safetensors.")],
    files: Annotated[list[Path], typer.Argument(metavar="FILES...", help="Photos, folders, zips; for a fit, rows.")],
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, help="How many names a photo gets at most.")] = 5,
    unknown_at: Annotated[
        float | None,
        typer.Option("--unknown-at", help="Call strangers unknown, but for this share; see `calibrate --unknown`."),
    ] = None,
    csv_file: Annotated[Path | None, typer.Option("--csv", help="Write the predictions to this file.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Name who or what is in each photo.

    Gives the likeliest classes with their probabilities; a model of two classes answers by the threshold it was given
    on its validation part.

    A photo that cannot be read is named on standard error; the exit status is 1 only where none could be.

    \b
    Example:
      facewright predict runs/a someone.jpg holiday/ --top-k 3
      facewright predict runs/a door.jpg --unknown-at 0.05
    """
    place_for(csv_file)

    from facewright import workflows
    from facewright.regressor import is_regression

    if is_regression(model):
        if unknown_at is not None:
            raise UsageError(f"{model} is a fitted function: it knows no people, so --unknown-at means nothing")
        predict_rows(model, files, csv_file, as_json)
        return
    with listener(quiet) as on_event:
        predictions = workflows.predict(model, files, top_k=top_k, unknown_at=unknown_at, on_event=on_event)
    for prediction in predictions:
        if prediction.error is not None:
            say(f"error: {prediction.path}: {prediction.error}")
    if csv_file is not None:
        write_atomic(csv_file, to_csv(predictions).encode(errors="backslashreplace"))
        say(f"wrote {csv_file}")
    if as_json:
        emit({"model": str(model), "predictions": [prediction.to_dict() for prediction in predictions]})
    elif csv_file is None:
        for prediction in predictions:
            if prediction.error is None:
                show(to_line(prediction))
    if all(prediction.error is not None for prediction in predictions):
        raise typer.Exit(1)


def to_line(prediction: Prediction) -> str:
    """A photo and its names, the likeliest first; of a stranger, whom it is most like."""
    pairs = zip(prediction.names, prediction.probabilities, strict=True)
    answer = prediction.answer
    if prediction.unknown:
        return f"{prediction.path}: unknown (most like {prediction.names[0]})"
    if answer is not None:
        found = f"score of {answer.accepted}: {answer.score:.4f}, threshold {answer.threshold:.4f}"
        return f"{prediction.path}: {answer.name} ({found})"
    return f"{prediction.path}: " + ", ".join(f"{name} {100 * probability:.1f} %" for name, probability in pairs)


def to_csv(predictions: Sequence[Prediction]) -> str:
    """One row a photo and name: path, rank from 1, name, probability, error; for a stranger the name is unknown.

    Where a threshold decides between two classes, one row a photo: path, predicted, score, threshold, error.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    if any(prediction.answer is not None for prediction in predictions):
        writer.writerow(["path", "predicted", "score", "threshold", "error"])
        writer.writerows(map(_answer_row, predictions))
        return out.getvalue()
    writer.writerow(["path", "rank", "name", "probability", "error"])
    for prediction in predictions:
        if prediction.error is not None:
            writer.writerow([prediction.path, "", "", "", prediction.error])
        if prediction.unknown:
            writer.writerow([prediction.path, 1, "unknown", "", ""])
            continue
        for rank, (name, probability) in enumerate(zip(prediction.names, prediction.probabilities, strict=True), 1):
            writer.writerow([prediction.path, rank, name, f"{probability:.6f}", ""])
    return out.getvalue()


def _answer_row(prediction: Prediction) -> list[str]:
    answer = prediction.answer
    if answer is None:
        return [prediction.path, "", "", "", prediction.error or ""]
    name = "unknown" if prediction.unknown else answer.name
    return [prediction.path, name, repr(answer.score), repr(answer.threshold), ""]
