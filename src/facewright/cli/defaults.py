"""Defaults of options from `facewright.toml` and from FACEWRIGHT_COMMAND_OPTION variables; and `facewright doctor`.

What is typed counts before a variable, a variable before the file, the file before the built-in default.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facewright.cli import options as opt
from facewright.cli.output import number_of, report
from facewright.errors import UnknownName, UsageError
from facewright.files import read_toml

if TYPE_CHECKING:
    from facewright.workflows.diagnosis import Diagnosis

FILE = "facewright.toml"
CONFIG = "FACEWRIGHT_CONFIG"  # another place of the file
PREFIX = "FACEWRIGHT_"
OTHERS = ("CACHE", "CONFIG", "DEVICE", "MAX_MEGAPIXELS", "PORT", "THREADS", "TOKEN", "TOKEN_FILE")  # of no option
Options = Mapping[str, Any]  # "batch-size" -> the option


def wanted() -> bool:
    """Return True where there is a file or a variable to read."""
    return Path(FILE).is_file() or any(name.startswith(PREFIX) for name in os.environ)


def default_map(app: Any) -> dict[str, Any]:
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


def given(defaults: Mapping[str, Any], words: Sequence[str]) -> str:
    """Return the defaults of the command that `words` begin with, as key=value; of no command an empty text.

    >>> given({"gallery": {"identify": {"threshold": 2}}}, ["gallery", "identify", "--top-k", "3"])
    'threshold=2'
    """
    table: Any = defaults
    for word in words:
        if not isinstance(table, Mapping) or not isinstance(table.get(word), Mapping):
            break
        table = table[word]
    values = {} if table is defaults else {key: one for key, one in table.items() if not isinstance(one, Mapping)}
    return ", ".join(f"{key}={str(value)[:80]}" for key, value in values.items())


def unknown_variables(app: Any) -> list[str]:
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


def doctor(as_json: opt.Json = False) -> None:
    """Show versions, devices, extras, folders and what is wrong, for a bug report.

    \b
    Example:
      facewright doctor
      facewright doctor --json
    """
    from facewright.workflows.diagnosis import doctor as diagnose

    found = diagnose()
    report(found.to_dict(), describe(found), as_json)


def describe(found: Diagnosis) -> str:
    """Return one page of text to paste."""
    absent = {name: missing for name, missing in found.extras.items() if missing}
    present = ", ".join(name for name, missing in found.extras.items() if not missing) or "none"
    rows = [
        ("facewright", found.facewright),
        ("python", found.python),
        ("machine", f"{found.machine}, {number_of(found.cores, 'core')}"),
        ("packages", ", ".join(f"{name} {version or '(missing)'}" for name, version in found.packages.items())),
        ("extras", present),
        *((f"  {name}", f"needs {', '.join(missing)}") for name, missing in absent.items()),
        ("device", found.device),
        ("cache", f"{found.cache}, {'can' if found.cache_writable else 'cannot'} be written"),
        ("stores", f"{number_of(found.stores, 'data set')}, {found.store_bytes / 2**20:,.0f} MiB"),
        ("weights", ", ".join(found.weights) or "none downloaded"),
        ("licences", ", ".join(found.licences) or "none accepted"),
        ("default", f"model {found.defaults['model']}, detector {found.defaults['detector'] or 'of the model'}"),
        ("variables", ", ".join(f"{name}={value}" for name, value in found.variables.items()) or "none set"),
    ]
    width = max(len(name) for name, _ in rows) + 2
    lines = [f"{name.ljust(width)}{value}" for name, value in rows]
    return "\n".join([*lines, "", *([f"problem: {one}" for one in found.problems] or ["no problem found"])])
