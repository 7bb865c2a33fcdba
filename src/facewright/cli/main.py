"""The `facewright` command: the list of commands, and how errors are printed.

Exit status: 0 done; 1 failed, with one line `error: ...` on standard error; 2 wrong usage; 130 stopped by the user.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import typer

from facewright import __version__, devices, platforms
from facewright.cli import (
    cluster,
    data,
    defaults,
    evaluation,
    export,
    faces,
    fit,
    gallery,
    inference,
    models,
    search,
    serve,
    training,
    verification,
    watch,
    weights,
)
from facewright.cli.options import replace_old_options
from facewright.cli.output import harmless, log_to_stderr, say, show_log
from facewright.cli.progress import Plain, slow_imports_shown
from facewright.errors import FacewrightError, Interrupted, UsageError, is_first_failure, missing_extra
from facewright.events import download_handler, licence_question

STOPPED = 130  # the status that shells report after Ctrl-C

app = typer.Typer(
    name="facewright",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The version as JSON, with that of Python.")] = False,
    threads: Annotated[
        int | None,
        typer.Option(
            "--threads",
            min=1,
            max=1024,
            envvar="FACEWRIGHT_THREADS",
            help="Threads to compute with. Default: one per core.",
        ),
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error; allowed anywhere.")] = False,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="Log what is read and written; -vv: details. Allowed anywhere.")
    ] = False,
) -> None:
    """Train, evaluate and use face classifiers and verifiers.

    \b
    Example:
      facewright inspect photos/
      facewright train photos/ --model resnet50 --out runs/a
      facewright predict runs/a someone.jpg

    DATA is a folder with a folder per class, a folder of train/validation/test, a .csv, .zip or .npz, or synthetic
    faces: "synthetic:faces?identities=20&images=40". RUN is a directory that `facewright train` wrote.
    """
    if threads is not None:
        platforms.use_threads(threads)
    if version:
        facts = {"facewright": __version__, "python": platform.python_version()}
        typer.echo(json.dumps(facts) if as_json else f"facewright {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        context.fail("Missing command.")


for command in (
    data.inspect,
    training.train,
    training.compare,
    search.search,
    search.lr_find,
    evaluation.evaluate,
    inference.predict,
    inference.explain,
    verification.verify,
    verification.pairs,
    verification.benchmark,
    verification.calibrate,
    inference.embed,
    export.export,
    export.card,
    export.push,
    export.pull,
    fit.fit,
    faces.faces,
    faces.scan,
    cluster.cluster,
    watch.watch,
    serve.serve,
    models.models,
    training.recipes,
    data.cache,
    training.demo,
    defaults.doctor,
):
    app.command()(command)
app.command("models import")(models.import_)  # `main` joins the two words
app.command("models default")(models.default)
app.add_typer(data.app, name="data")
app.add_typer(gallery.app, name="gallery")
app.add_typer(weights.app, name="weights")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line on the words after the program's name; None: those of this process. Return the status."""
    words = _started(sys.argv[1:] if arguments is None else arguments)
    debug, found = "--debug" in words, dict[str, Any]()
    try:
        words = [word for word in words if word != "--debug"]
        found |= typed_defaults() if defaults.wanted() else {}
        _invoke(words, found)
    except SystemExit as leaving:  # Typer's own end: 0, or 2 for wrong usage
        if leaving.code == 2 and (given := defaults.given(found, words)):
            say(f"note: facewright.toml or FACEWRIGHT_* variables give {given}")
        return leaving.code if isinstance(leaving.code, int) else 0
    except ModuleNotFoundError as error:
        if debug or (advice := missing_extra(error)) is None:
            raise
        return _refuse(UsageError(advice))
    except (FacewrightError, OSError) as error:
        if debug:
            raise
        return _refuse(error)
    except RuntimeError as error:
        told = devices.fault(error) if "torch" in sys.modules and not debug else error
        if not isinstance(told, FacewrightError):
            if is_first_failure():
                raise
            return 1
        return _refuse(told)
    except Exception:
        if is_first_failure():
            raise
        return 1
    return 0


def _started(arguments: Sequence[str]) -> list[str]:
    """Make the logs, the progress and the question of licences ready; return the words with new names for old ones."""
    platforms.calm_threads()
    words, notes = replace_old_options(arguments)
    for note in notes:
        say(f"warning: {note}")
    show_log("facewright.devices")
    show_log("facewright.images")
    words, level = without_verbosity(words)
    log_to_stderr(level)
    download_handler.set(Plain())
    if sys.stdin.isatty() and sys.stderr.isatty() and "--json" not in words:
        licence_question.set(lambda terms: typer.confirm(f"{harmless(terms, sys.stderr)}; accept?", err=True))
    if words[:1] == ["models"] and words[1:2] in (["import"], ["default"]):
        words[:2] = [" ".join(words[:2])]
    return words


def _invoke(words: Sequence[str], found: Mapping[str, Any]) -> None:
    """Run a command with the defaults that were found; a slow import is told unless that is not wanted."""
    command = next((word for word in words if word in _command().commands), "facewright")
    quiet = not {"--json", "--quiet", "-q"}.isdisjoint(words)
    with nullcontext() if quiet else slow_imports_shown(command):
        _command()(args=words, prog_name="facewright", **({"default_map": found} if found else {}))


@cache
def _command() -> Any:
    """The commands as Typer makes them, once a process: reading every signature takes as long as most answers."""
    return typer.main.get_command(app)


def typed_defaults() -> dict[str, Any]:
    """Return the defaults that `facewright.toml` and the variables give to the options of each command."""
    command = _command()
    for warning in defaults.unknown_variables(command):
        say(f"warning: {warning}")
    return defaults.default_map(command)


def without_verbosity(words: Sequence[str]) -> tuple[list[str], int]:
    """Remove -v, -vv and --verbose before `--`; return the other words and the level of logging.

    >>> without_verbosity(["train", "-v", "photos"])
    (['train', 'photos'], 20)
    """
    end = list(words).index("--") if "--" in words else len(words)
    counts = {"-v": 1, "--verbose": 1, "-vv": 2}
    count = sum(counts.get(word, 0) for word in words[:end])
    kept = [word for word in words[:end] if word not in counts]
    return [*kept, *words[end:]], (logging.WARNING, logging.INFO, logging.DEBUG)[min(count, 2)]


def _refuse(error: FacewrightError | OSError) -> int:
    """Print an error in one line; of processes that torchrun started, the first that fails."""
    if is_first_failure():
        text = str(error)
        if isinstance(error, OSError) and error.strerror:  # without Python's "[Errno 2]"
            text = error.strerror if error.filename is None else f"{os.fsdecode(error.filename)}: {error.strerror}"
        line = harmless(f"error: {' '.join(text.split())}", sys.stderr)
        typer.echo(line, err=True)
        _tell_torchrun(line)
    return STOPPED if isinstance(error, Interrupted) else 1


def _tell_torchrun(line: str) -> None:
    """Leave an error where torchrun looks for it, which else says that it knows of no traceback."""
    if where := os.environ.get("TORCHELASTIC_ERROR_FILE"):
        extra = {"py_callstack": line, "timestamp": str(int(time.time()))}
        with suppress(OSError):
            Path(where).write_text(json.dumps({"message": {"message": line, "extraInfo": extra}}), encoding="utf-8")
