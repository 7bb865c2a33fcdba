"""The `facewright` command: the list of commands, the defaults of their options, and how errors are printed.

Exit status: 0 done; 1 failed, with one line `error: ...` on standard error; 2 wrong usage; 130 stopped by the user.
Defaults are in `facewright.toml` and FACEWRIGHT_COMMAND_OPTION variables; what is typed counts before a variable, a
variable before the file, the file before the built-in default.
"""

from __future__ import annotations

import difflib
import json
import logging
import os
import platform
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from facewright import __version__, devices, platforms
from facewright.cli import (
    data,
    evaluation,
    export,
    faces,
    gallery,
    inference,
    live,
    models,
    search,
    training,
    verification,
    weights,
)
from facewright.cli.options import replace_old_options
from facewright.cli.output import harmless, log_to_stderr, say, show_log
from facewright.cli.progress import Plain, slow_imports_shown
from facewright.errors import FacewrightError, Interrupted, UnknownName, UsageError, is_first_failure, missing_extra
from facewright.events import download_handler, licence_question
from facewright.files import read_toml

if TYPE_CHECKING:
    pass


STOPPED = 130  # the status that shells report after Ctrl-C
FILE = "facewright.toml"
CONFIG = "FACEWRIGHT_CONFIG"  # another place of the file
PREFIX = "FACEWRIGHT_"
OTHERS = ("CACHE", "CONFIG", "DEVICE", "MAX_MEGAPIXELS", "PORT", "THREADS", "TOKEN", "TOKEN_FILE")  # of no option
Options = Mapping[str, Any]  # "batch-size" -> the option

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
            min=1, max=1024, envvar="FACEWRIGHT_THREADS", help="Threads to compute with. Default: one per core."
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
    training.fit,
    faces.faces,
    faces.scan,
    faces.cluster,
    live.watch,
    live.serve,
    models.models,
    training.recipes,
    data.cache,
    training.demo,
    data.doctor,
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
        found |= typed_defaults() if _defaults_given() else {}
        _invoke(words, found)
    except SystemExit as leaving:  # Typer's own end: 0, or 2 for wrong usage
        if leaving.code == 2 and (used := _given(found, words)):
            say(f"note: facewright.toml or FACEWRIGHT_* variables give {used}")
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
    words, level = _without_verbosity(words)
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
    for warning in _unknown_variables(command):
        say(f"warning: {warning}")
    return _default_map(command)


def _without_verbosity(words: Sequence[str]) -> tuple[list[str], int]:
    """Remove -v, -vv and --verbose before `--`; return the other words and the level of logging.

    >>> _without_verbosity(["train", "-v", "photos"])
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


def _defaults_given() -> bool:
    return Path(FILE).is_file() or any(name.startswith(PREFIX) for name in os.environ)


def _default_map(app: Any) -> dict[str, Any]:
    """Return the defaults as click takes them: by command, then by parameter; an unknown key is refused."""
    defaults: dict[str, Any] = {}
    found = _file()
    commands = dict(_commands(app))
    names = {option for options in commands.values() for option in options}
    for key in found:
        if key not in names and not any(key in path for path in commands):
            raise UnknownName(f"key of {_place()}", key, [*names, *(path[0] for path in commands)])
    for path, options in commands.items():
        own = _own(found, path, options, names)
        for name, option in options.items():
            variable = _variable(path, name)
            text = os.environ.get(variable)
            if text is not None and option.envvar != variable:
                own[str(option.name)] = text.split() if option.multiple else text
        if own:
            place = defaults
            for part in path:
                place = place.setdefault(part, {})
            place.update(own)
    return defaults


def _given(defaults: Mapping[str, Any], words: Sequence[str]) -> str:
    """Return the defaults of the command that `words` begin with, as key=value; of no command an empty text.

    >>> _given({"gallery": {"identify": {"threshold": 2}}}, ["gallery", "identify", "--top-k", "3"])
    'threshold=2'
    """
    table: Any = defaults
    for word in words:
        if not isinstance(table, Mapping) or not isinstance(table.get(word), Mapping):
            break
        table = table[word]
    values = {} if table is defaults else {key: one for key, one in table.items() if not isinstance(one, Mapping)}
    return ", ".join(f"{key}={str(value)[:80]}" for key, value in values.items())


def _unknown_variables(app: Any) -> list[str]:
    """Return a sentence for each FACEWRIGHT_ variable that nothing reads."""
    known = {PREFIX + name for name in OTHERS}
    known |= {_variable(path, name) for path, options in _commands(app) for name in options}
    wrong = [name for name in os.environ if name.startswith(PREFIX) and name not in known]
    near = {name: difflib.get_close_matches(name, known, n=1, cutoff=0.5) for name in wrong}
    return [f"{name} is no setting; did you mean {', '.join(near[name]) or 'another'}?" for name in sorted(wrong)]


def _variable(path: Sequence[str], name: str) -> str:
    return PREFIX + "_".join([*path, name]).upper().replace("-", "_").replace(" ", "_")


def _own(found: Mapping[str, Any], path: tuple[str, ...], options: Options, names: set[str]) -> dict[str, Any]:
    """Return the file's values for one command: of the top level those options it has, then its own table."""
    own = {str(options[key].name): value for key, value in found.items() if key in options and _plain(value)}
    table: Any = found
    for part in path:
        table = table.get(part, {}) if isinstance(table, dict) else {}
    if not isinstance(table, dict):
        raise UsageError(f"{_place()}: expected a table [{'.'.join(path)}] of options, got {table!r}"[:200])
    for key, value in table.items():
        if key not in options and not isinstance(value, dict):
            raise UnknownName(f"key of [{'.'.join(path)}] in {_place()}", key, options)
        if key in options and not _plain(value):
            raise UsageError(f"{_place()}: expected text, a number, a truth value or a list for {key}")
        if key in options:
            own[str(options[key].name)] = value
    return own


def _plain(value: object) -> bool:
    return isinstance(value, str | int | float | bool) or (
        isinstance(value, list) and all(isinstance(one, str | int | float) for one in value)
    )


def _commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Options]]:
    """Yield each command below `command` by the words that name it, with its options."""
    subcommands: Mapping[str, Any] = getattr(command, "commands", {})
    for name, below in subcommands.items():
        yield from _commands(below, (*path, name))
    if path and not subcommands:
        options = {
            max(parameter.opts, key=len).removeprefix("--"): parameter
            for parameter in command.params
            if parameter.param_type_name == "option" and parameter.name != "help"
        }
        yield path, options


def _place() -> str:
    return os.environ.get(CONFIG) or FILE


def _file() -> dict[str, Any]:
    path = Path(_place()).expanduser()
    if not path.is_file():
        if CONFIG in os.environ:
            raise UsageError(f"{CONFIG}: {path} is no file")
        return {}
    return read_toml(path, dict[str, Any], error=UsageError, limit=2**20)
