"""Options that several commands share, their bounds, and the old option names that are still accepted."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import typer

from facewright.errors import UsageError

BUILT_IN = "built-in"  # the model that comes with the package
MAX_SEED = 2**63 - 1
MAX_EPOCHS = 100_000
OF_INPUT = ("size", "detector", "select_face")  # short forms of keys of `input`; the others are of `training`
MAX_SIDE = 1024  # pixels: of a network's input


def bounded(*names: str, low: float, high: float, help: str) -> Any:
    """Return a float option within bounds, which refuses NaN too."""
    return typer.Option(*names, min=low, max=high, callback=_not_nan, help=help)


def rate(*names: str, help: str) -> Any:
    """Return an option for an error rate."""
    return bounded(*names, low=1e-9, high=1, help=help)


def _not_nan(value: float | None) -> float | None:
    if value is not None and math.isnan(value):
        raise typer.BadParameter("expected a number, got NaN")
    return value


ColourOrder = Literal["rgb", "bgr"]
Device = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="DEVICE",
        envvar="FACEWRIGHT_DEVICE",
        help="auto, cpu, cuda, cuda:N, mps or xpu; default: auto, the accelerator if there is one.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
Data = Annotated[str, typer.Argument(metavar="DATA", help="A folder, .csv, .zip, .npz, or synthetic:faces?...")]
OptionalData = Annotated[
    str | None, typer.Argument(metavar="DATA", help="A folder, .csv, .zip, .npz, or synthetic:faces?...")
]
Photos = Annotated[list[Path], typer.Argument(metavar="PHOTO...", help="Photos, or folders of photos.")]
Cluster = Annotated[
    str | None, typer.Option("--on", help="ray or ray://HOST:PORT: a Ray cluster that can read the images.")
]
Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A run directory, a model file, architecture@weights, a name of `weights list`, or built-in.",
    ),
]
Classifier = Annotated[Path, typer.Argument(metavar="MODEL", help="A run directory or a model file.")]
Detector = Annotated[
    str | None,
    typer.Option(
        "--detector",
        help="Face detector: dlib, yunet or another of `weights list`, the .onnx file of one, or none (each image is "
        "one face). Default: dlib for built-in and named models, none for other models.",
    ),
]
FaceChoice = Annotated[
    Literal["center", "largest", "error"] | None,
    typer.Option("--select-face", help="Which of several faces to use; error: refuse the image. Default: center."),
]
Crop = Annotated[
    float | None,
    bounded("--crop", low=0.01, high=1, help="Share of each side to keep, around the center. Default: the model's."),
]
Flip = Annotated[
    bool | None,
    typer.Option("--flip/--no-flip", help="Average with the mirrored image. Default: the model's setting."),
]
Far = Annotated[
    float | None, rate("--far", help="False-accept rate of the threshold to use. Default: the last stored.")
]
Confidence = Annotated[
    float | None,
    bounded(
        "--confidence",
        low=0.5,
        high=0.9999,
        help="Choose by the one-sided upper bound at this confidence, e.g. 0.95. Default: by the rate itself.",
    ),
]
By = Annotated[
    str | None,
    typer.Option("--by", metavar="COLUMN", help="Also measure error rates within each group of this column."),
]
GalleryAt = Annotated[
    str, typer.Option("--gallery", "-g", metavar="FILE|URL", help="The gallery: a file, or a PostgreSQL address.")
]
ImagesFolder = Annotated[Path | None, typer.Option("--images", help="Folder of the images that PAIRS names.")]
Order = Annotated[ColourOrder | None, typer.Option("--colour-order", help="Of the images in an .npz. Default: rgb.")]
Columns = Annotated[
    str | None,
    typer.Option(
        "--columns",
        metavar="ROLE=COLUMN,...",
        help="Columns of DATA's label file by role: image, label, split, identity. Default: by their names.",
    ),
]
Names = Annotated[
    str | None,
    typer.Option("--names", metavar="LABEL=NAME,...|FILE", help="Class names for the labels of DATA: 0=angry,1=happy."),
]
Layout = Annotated[
    str | None,
    typer.Option("--layout", metavar="NAME", help="How DATA is laid out: folders, labels, celeba, ... Default: auto."),
]
LabelFrom = Annotated[
    str | None,
    typer.Option("--label-from", metavar="REGEX", help="Read labels from file paths: '(?P<label>.+)_[0-9]+'."),
]
Task = Annotated[
    str | None,
    typer.Option(
        "--task",
        metavar="TASK",
        help="Targets in place of classes: attributes[:COLUMN,...] (yes, no, unknown), number:COLUMN, "
        "votes:COLUMN,..., or several: COLUMN:KIND,... (attribute, number, classes).",
    ),
]
Seed = Annotated[
    int,
    typer.Option("--seed", min=0, max=MAX_SEED, help="Seed of the split, the initial weights and every random choice."),
]
RecipeName = Annotated[
    str | None,
    typer.Option("--recipe", "-r", help="A shipped recipe or a TOML file. Default: scratch, or finetune with weights."),
]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="TABLE.KEY=VALUE", help="Change a recipe value: training.batch=64. Repeatable."),
]
Epochs = Annotated[
    int | None, typer.Option("--epochs", min=1, max=MAX_EPOCHS, help="Short for --set training.epochs=N.")
]
Size = Annotated[
    int | None, typer.Option("--size", min=32, max=MAX_SIDE, help="Short for --set input.size=N, in pixels.")
]
Precision = Annotated[
    str | None,
    typer.Option(
        "--precision", help="auto (measured), float32, tf32, bfloat16, float16: short for --set training.precision=..."
    ),
]
Store = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="FORM",
        help="Stored images: raw pixels, encoded (for millions), or auto (by size): short for --set training.store=...",
    ),
]
Form = Annotated[
    str | None,
    typer.Option("--store", metavar="FORM", help="Stored images: raw, encoded or auto. Default: FACEWRIGHT_STORE."),
]
Track = Annotated[
    str | None,
    typer.Option(
        "--track",
        metavar="NAME,...",
        help="Write the curves for csv, mlflow, tensorboard, wandb (offline). Default: TensorBoard where installed.",
    ),
]
Architecture = Annotated[
    str, typer.Option("--model", "-m", help="An architecture (`facewright models`), or architecture@weights.")
]
Budget = Annotated[str | None, typer.Option("--budget", metavar="TIME", help="Time in all: 90s, 30m, 2h, or seconds.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Run a few batches of every step, print time and memory, and keep nothing.")
]
Batch = Annotated[str | None, typer.Option("--batch", metavar="N|auto", help="Images per step; auto: as many as fit.")]
Accumulate = Annotated[
    int | None, typer.Option("--accumulate", min=1, max=1024, help="Cut each batch into N parts, to save memory.")
]
Compile = Annotated[bool, typer.Option("--compile", help="Compile the network before the first step.")]
Deterministic = Annotated[
    bool | None,
    typer.Option(help="Resume bit-identically on a GPU too. Default: where that costs less than 10 %."),
]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="Folder to write. Default: a new one in runs/.")]
CsvFile = Annotated[Path | None, typer.Option("--csv", help="Write the results to this CSV file.")]
CropDetector = Annotated[
    str | None,
    typer.Option(
        "--detector",
        help="Crop each image to its face, found by dlib or an .onnx file (YuNet, SCRFD, RetinaFace). "
        "Default: none, images are crops.",
    ),
]
ModelDetector = Annotated[
    str | None,
    typer.Option(
        "--detector",
        help="The .onnx file of the detector, for a model trained with --detector FILE. Default: the run's, or dlib.",
    ),
]


class OldOption(NamedTuple):
    """An option that has a new name; the old one works for one version."""

    new: str | None  # None: no longer needed
    values: Mapping[str, str] = {}  # old value -> new value


OLD_OPTIONS: Mapping[str, OldOption] = {
    "--policy": OldOption("--select-face", {"centre": "center"}),
    "--strangers": OldOption("--unknown-people"),
    "--unknown": OldOption(None),
}


def replace_old_options(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Replace old option names; return the words to parse and a line about each name replaced.

    >>> replace_old_options(["verify", "--policy", "centre", "a.jpg"])
    (['verify', '--select-face', 'center', 'a.jpg'], ['--policy is now --select-face'])
    """
    result: list[str] = []
    notes: list[str] = []
    values: Mapping[str, str] = {}
    for index, word in enumerate(words):
        if word == "--":
            result += words[index:]
            break
        name, equals, value = word.partition("=")
        old = OLD_OPTIONS.get(name)
        if old is None:
            result.append(values.get(word, word))
        elif old.new is None:
            notes.append(f"{name} is no longer needed")
        else:
            result.append(f"{old.new}={old.values.get(value, value)}" if equals else old.new)
            notes.append(f"{name} is now {old.new}")
        values = {} if old is None or equals else old.values
    return result, notes


def address(
    data: str,
    order: ColourOrder | None,
    columns: str | None = None,
    names: str | None = None,
    layout: str | None = None,
    label_from: str | None = None,
) -> str:
    """Add what the options say about DATA to its address, so that a resumed run reads the same images and labels.

    >>> address("faces.npz", "bgr")
    'faces.npz?colour-order=bgr'
    """
    options = {"columns": columns, "names": names, "layout": layout, "label-from": label_from, "colour-order": order}
    if not any(options.values()):
        return data
    from facewright.data.addresses import with_options

    return with_options(data, options)


def optional_address(data: str | None, order: ColourOrder | None, *reading: str | None) -> str | None:
    """Add the options where DATA is optional, and refuse them without DATA; `reading` as in `address`."""
    if data is None and (order is not None or any(value is not None for value in reading)):
        given = "--colour-order" if order is not None else "--columns, --names, --layout or --label-from"
        raise UsageError(f"{given} describes DATA; give DATA, or remove the option")
    return None if data is None else address(data, order, *reading)


def tracked(names: str | None) -> tuple[str, ...] | None:
    """Return the trackers that `--track` names.

    >>> tracked("mlflow, csv")
    ('mlflow', 'csv')
    """
    return None if names is None else tuple(name.strip() for name in names.split(",") if name.strip())


def seconds(text: str) -> float:
    """Read a time from 1 second to 30 days.

    >>> seconds("90s"), seconds("1.5h"), seconds("20")
    (90.0, 5400.0, 20.0)
    """
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    number = text[:-1] if text[-1:] in units else text
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?", number):
        raise UsageError(f"expected a time such as 90s, 30m or 2h, got {text[:40]!r}")
    value = float(number) * units.get(text[-1], 1)
    if not 1 <= value <= 30 * 86400:
        raise UsageError(f"expected a time from 1 second to 30 days, got {text}")
    return value


def key_values(words: Sequence[str] | None, option: str) -> dict[str, str]:
    """Read KEY=VALUE words.

    >>> key_values(["team=a", "note=x=y"], "--meta")
    {'team': 'a', 'note': 'x=y'}
    """
    pairs: dict[str, str] = {}
    for word in words or ():
        key, sign, value = word.partition("=")
        if not key or not sign or key in pairs:
            raise UsageError(f"expected {option} KEY=VALUE, each key once, got {word!r}")
        pairs[key] = value
    return pairs


def overrides(changes: list[str] | None, **short: object) -> Mapping[str, str]:
    """Collect the recipe values to change, each once, from `--set` and its short forms, by the names of their keys.

    >>> overrides(["training.batch=64"], epochs=3, size=None)
    {'training.batch': '64', 'training.epochs': '3'}
    """
    given = {name: value for name, value in short.items() if value is not None and value is not False}
    tables = {name: "input" if name in OF_INPUT else "training" for name in given}
    typed = [f"{tables[name]}.{name}={'true' if value is True else value}" for name, value in given.items()]
    return key_values([*(changes or []), *typed], "--set")
