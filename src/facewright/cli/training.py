"""`facewright train`, `compare`, `evaluate` and `demo`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from facewright.cli.datasets import OrderOption, optional_address
from facewright.cli.describing import describe_comparison, describe_result
from facewright.cli.output import emit, say, show
from facewright.cli.progress import listener
from facewright.cli.recognition import DetectorOption, Task, evaluate_recogniser, recognises
from facewright.cli.use import to_line
from facewright.errors import OtherClasses, UsageError

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
Seed = Annotated[
    int, typer.Option("--seed", min=0, help="Of the split, the first weights, the order, the augmentation.")
]
RecipeName = Annotated[
    str | None,
    typer.Option(
        "--recipe", "-r", help="A shipped recipe or a TOML file; scratch, or finetune with weights, where left out."
    ),
]
Weights = Annotated[
    str | None,
    typer.Option("--weights", "-w", help="Start from public weights: a name of `facewright models`, a file, or none."),
]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="TABLE.KEY=VALUE",
        help="Change one value of the recipe, as training.batch=64; may be given often.",
    ),
]
Epochs = Annotated[int | None, typer.Option("--epochs", min=1, help="Short for --set training.epochs=N.")]
Size = Annotated[int | None, typer.Option("--size", min=32, help="Short for --set input.size=N, pixels.")]
Precision = Annotated[
    str | None,
    typer.Option("--precision", help="auto (measured once), float32 or bfloat16: short for --set training.precision=…"),
]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="The folder to write; runs/... where left out.")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A folder that `facewright train` made.")]


def train(
    where: Annotated[
        str | None, typer.Argument(metavar="DATA", help="A folder, .csv, .zip, .npz, or synthetic:faces?...")
    ] = None,
    model: Annotated[str, typer.Option("--model", "-m", help="An architecture; see `facewright models`.")] = "resnet18",
    weights: Weights = None,
    recipe: RecipeName = None,
    out: Out = None,
    seed: Seed = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out, to the same bits.")] = False,
    changes: Changes = None,
    epochs: Epochs = None,
    size: Size = None,
    precision: Precision = None,
    order: OrderOption = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train one model and measure it.

    The run folder holds the best weights, the curves, the test metrics and a report.

    \b
    Example:
      facewright train photos/ --model resnet50 --out runs/a
      facewright train photos/ --model mobilenet_v2 --weights imagenet --recipe finetune
      facewright train --resume --out runs/a
    """
    changed = overrides(changes, epochs, size, precision)
    where = optional_address(where, order)
    begun = None if where is not None else begun_run(out, resume, changed)

    from facewright import workflows

    with listener(quiet) as on_event:
        if where is not None:
            run = workflows.train(
                where,
                model=with_weights(model, weights),
                recipe=recipe,
                out=out,
                seed=seed,
                overrides=changed,
                resume=resume,
                on_event=on_event,
            )
        elif begun is not None:
            run = workflows.resume(begun, on_event=on_event)
    if as_json:
        emit(run.summary())
    else:
        show(describe_result(run.evaluation))
    say(f"run: {run.folder}")
    say(f"report: {run.folder / 'report.html'}")


def compare(
    where: Annotated[list[str], typer.Argument(metavar="DATA|RUN...", help="One dataset, or runs that exist.")],
    models: Annotated[
        str, typer.Option("--models", "-m", help="Architectures to train, or architecture@weights; commas between.")
    ] = "",
    recipe: RecipeName = None,
    out: Out = None,
    seed: Seed = 0,
    changes: Changes = None,
    epochs: Epochs = None,
    size: Size = None,
    precision: Precision = None,
    order: OrderOption = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Compare models on the same test images.

    Trains them one after the other on one split; or takes runs that exist.

    \b
    Example:
      facewright compare photos/ --models resnet50,xception,densenet121
      facewright compare runs/a runs/b
    """
    names = [name.strip() for name in models.split(",") if name.strip()]
    changed = overrides(changes, epochs, size, precision)
    if names and len(where) > 1:
        raise UsageError(f"--models trains on one dataset, and {len(where)} are given")
    is_run = [(Path(run) / "run.json").is_file() for run in where]
    if names and any(is_run):
        raise UsageError(f"{where[0]} is a run; --models trains on a dataset, runs are compared without it")
    if not names and not all(is_run):
        other = where[is_run.index(False)]
        raise UsageError(f"{other} is no run that `facewright train` made; to train on a dataset add --models a,b,c")
    if not names and (changed or seed or recipe is not None):
        raise UsageError("--recipe, --seed, --epochs and --set are for training by --models; runs have their own")

    data = optional_address(where[0] if names else None, order)

    from facewright import workflows
    from facewright.workflows.training_runs import free_folder

    with listener(quiet) as on_event:
        if data is not None:
            compared = workflows.train_all(
                data, names, recipe=recipe, out=out, seed=seed, overrides=changed, on_event=on_event
            )
            folder = compared.runs[0].folder.parent
        else:
            compared = workflows.compare([Path(run) for run in where])
            folder = out or free_folder("compare")
            compared.write(folder)
    if as_json:
        emit(compared.to_dict())
    else:
        show(describe_comparison(compared.comparison))
    say(f"report: {folder / 'report.html'}")


def evaluate(
    run: RunFolder,
    where: Annotated[
        str | None, typer.Argument(metavar="DATA", help="Other data; the run's test part if left out.")
    ] = None,
    task: Annotated[
        Task | None, typer.Option("--task", help="Judge as; verification if DATA has other classes, by itself.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of gallery and strangers in identification.")] = 0,
    detector: DetectorOption = None,
    order: OrderOption = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Measure a trained run: names given right, people told apart, people found again.

    Verification compares every pair of the pictures; identification searches them in a gallery. For both, the people of
    DATA need not be the model's classes, and RUN may be architecture@weights, or built-in: the networks that come with
    the package. Given DATA, it may be a model file too, also an .onnx file.

    \b
    Example:
      facewright evaluate runs/a
      facewright evaluate runs/a other-photos/ --json
      facewright evaluate runs/a other-people/ --task identification
    """
    where = optional_address(where, order)
    recogniser = recognises(run, where, task)
    if recogniser is not None and where is not None:
        evaluate_recogniser(run, where, recogniser, detector, seed, quiet, as_json)
        return
    if detector is not None:
        raise UsageError("--detector is for --task verification and identification; a classifier takes photos whole")

    from facewright import workflows

    try:
        with listener(quiet) as on_event:
            result = workflows.evaluate(run, where, on_event=on_event)
    except OtherClasses:
        if where is None or task is not None:
            raise
        say(f"{where} has other classes than the model: judged by whether it tells people apart (--task verification)")
        evaluate_recogniser(run, where, Task.VERIFICATION, None, seed, quiet, as_json)
        return
    if as_json:
        emit(result.to_dict())
    else:
        show(describe_result(result))


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write.")] = Path("demo"),
    quick: Annotated[bool, typer.Option("--quick", help="Under 90 seconds: smaller data, fewer epochs.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Do the main job on drawn faces.

    Inspects them, trains three models, compares them and predicts; writes one page to look at.

    \b
    Example:
      facewright demo --quick
    """
    from facewright import workflows

    with listener(quiet) as on_event:
        result = workflows.demo(out, quick=quick, on_event=on_event)
    if as_json:
        emit(result.to_dict())
    else:
        show(describe_comparison(result.compared.comparison))
        show("\n".join(["", *map(to_line, result.predictions)]))
    say(f"report: {result.report}")


def begun_run(out: Path | None, resume: bool, changed: Mapping[str, str]) -> Path:
    """The run to go on with where no data is given.

    Raises:
        UsageError: none is named, or it is asked to change its recipe on the way.
    """
    if out is None or not resume:
        raise UsageError("nothing to train on: give DATA, or go on with a run by --resume --out RUN")
    if changed:
        raise UsageError(f"{out} goes on by the recipe it was begun with; leave out the change of {', '.join(changed)}")
    return out


def with_weights(model: str, weights: str | None) -> str:
    """The architecture and its weights as one text.

    >>> with_weights("mobilenet_v2", "imagenet"), with_weights("resnet18", "none")
    ('mobilenet_v2@imagenet', 'resnet18')
    """
    if weights is None or weights == "none":
        return model
    if "@" in model:
        raise UsageError(f"--weights {weights} and --model {model} both name weights; give one of them")
    return f"{model}@{weights}"


def overrides(
    changes: list[str] | None, epochs: int | None, size: int | None = None, precision: str | None = None
) -> Mapping[str, str]:
    """The recipe's values to change, from `--set` and its short forms.

    Raises:
        UsageError: a change is no TABLE.KEY=VALUE, or a key is changed twice.

    >>> overrides(["training.batch=64"], 3)
    {'training.batch': '64', 'training.epochs': '3'}
    """
    found: dict[str, str] = {}
    short = {"training.epochs": epochs, "input.size": size, "training.precision": precision}
    for change in [*(changes or []), *(f"{key}={value}" for key, value in short.items() if value is not None)]:
        key, equals, value = change.partition("=")
        if not (key and equals):
            raise UsageError(f"--set {change}: expected TABLE.KEY=VALUE, as in --set training.batch=64")
        if key in found:
            raise UsageError(f"{key} is set twice: {found[key]} and {value}")
        found[key] = value
    return found
