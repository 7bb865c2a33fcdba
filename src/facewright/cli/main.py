"""The `facewright` command: the list of commands, and what becomes of errors.

Exit status: 0 done; 1 refused, with one line `error: ...` on standard error; 2 wrong usage; 130 stopped by the user.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from facewright import __version__
from facewright.cli import (
    data,
    datasets,
    explain,
    faces,
    fit,
    gallery,
    models,
    recipes,
    scan,
    serve,
    training,
    use,
    verification,
    weights,
)
from facewright.cli.output import harmless
from facewright.errors import FacewrightError, Interrupted

STOPPED = 130  # what shells report for a program that Ctrl-C ended

app = typer.Typer(
    name="facewright",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"facewright {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and leave.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error; may stand anywhere.")] = False,
) -> None:
    """From a folder of face photos to a trained, honestly measured, usable face classifier.

    \b
    Example:
      facewright inspect photos/
      facewright train photos/ --model resnet50 --out runs/a
      facewright predict runs/a someone.jpg

    DATA is a folder with a folder per class, a folder of train/validation/test, a .csv, .zip or .npz, or drawn faces:
    "synthetic:faces?identities=20&images=40". RUN is a folder that `facewright train` made.
    """


for command in (
    data.inspect,
    training.train,
    training.compare,
    training.evaluate,
    use.predict,
    explain.explain,
    verification.verify,
    verification.pairs,
    verification.calibrate,
    verification.embed,
    fit.fit,
    faces.faces,
    scan.scan,
    serve.serve,
    models.models,
    recipes.recipes,
    data.cache,
    training.demo,
):
    app.command()(command)
app.add_typer(datasets.app, name="data")
app.add_typer(gallery.app, name="gallery")
app.add_typer(weights.app, name="weights")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: what follows the program's name; None means what the process was started with.
    Returns:
        The exit status (see the top of this file).
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    given = [word for word in given if word != "--debug"]
    try:
        app(args=given, prog_name="facewright")
    except SystemExit as leaving:  # how Typer ends, with its own status: 0, or 2 for wrong usage
        return leaving.code if isinstance(leaving.code, int) else 0
    except (FacewrightError, OSError) as error:
        if debug:
            raise
        return _refuse(error)
    return 0


def _refuse(error: FacewrightError | OSError) -> int:
    """Say in one line what went wrong."""
    typer.echo(harmless(f"error: {' '.join(str(error).split())}", sys.stderr), err=True)
    return STOPPED if isinstance(error, Interrupted) else 1
