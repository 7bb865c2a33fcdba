"""What `facewright predict` does where the model is a fitted function: rows of numbers in, targets out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from facewright.cli.output import emit, number_of, say, show
from facewright.files import write_atomic


def predict_rows(model: Path, files: Sequence[Path], csv_file: Path | None, as_json: bool) -> None:
    """Print, or write, what a fitted function says of the rows of tables.

    Args:
        model: a run folder of `facewright fit`, or its file.
        files: .csv, .tsv or .npy with the inputs. csv_file: written in place of printing; the tables in one.
    """
    from facewright.workflows import regression

    predictions = regression.predict_rows(model, files)
    text = "".join(
        found.to_csv() if number == 0 else found.to_csv().partition("\n")[2] for number, found in enumerate(predictions)
    )
    if csv_file is not None:
        write_atomic(csv_file, text)
        say(f"wrote {csv_file}")
    if as_json:
        emit({"model": str(model), "predictions": [found.to_dict() for found in predictions]})
    elif csv_file is None:
        show(text.rstrip("\n"))
    for found in predictions:
        if found.beyond.any():
            say(
                f"warning: {found.path}: {number_of(int(found.beyond.sum()), 'row')} of {len(found.beyond):,} beyond "
                "the values that were learned from; what is said of them is a guess"
            )
