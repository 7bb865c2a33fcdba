"""The root command: help, exit statuses, one-line errors."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

from facewright import __version__
from facewright.cli.main import app, main
from facewright.errors import BadImage, FacewrightError, Interrupted, UnknownName

ROOT_COMMAND = typer.main.get_command(app)


def leaves(group: Any, above: str = "") -> dict[str, Any]:
    """Every command by its whole name, also of groups: "inspect", "data export"."""
    found: dict[str, Any] = {}
    for name, command in group.commands.items():
        found |= leaves(command, f"{above}{name} ") if hasattr(command, "commands") else {above + name: command}
    return found


COMMANDS = leaves(ROOT_COMMAND)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help_with_an_example(name: str) -> None:
    command = COMMANDS[name]
    assert command.help
    assert "\\b" not in command.help  # Click's mark is the character, not its escape
    first, _, rest = command.help.partition("\n")
    assert first.endswith("."), "the first line is a sentence"
    assert len(first) <= 80
    assert "Example:\n" in rest
    assert f"facewright {name}" in rest


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_option_has_help(name: str) -> None:
    assert not [parameter.name for parameter in COMMANDS[name].params if not getattr(parameter, "help", None)]


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - {"serve"}))  # which answers by HTTP
def test_every_command_speaks_json(name: str) -> None:
    assert "--json" in {option for parameter in COMMANDS[name].params for option in parameter.opts}


# Commands in which no network computes on a device: they move records and files, or say what is there. `fit` computes
# in NumPy and SciPy, `data export` cuts its face crops on the CPU as a training does, `card` reads results.
WITHOUT_DEVICE = {
    "cache", "card", "data export", "doctor", "fit", "gallery delete", "gallery expire", "gallery export",
    "gallery import", "gallery list", "gallery log", "gallery merge", "gallery rename", "gallery stats", "models",
    "models default", "pull", "push", "recipes", "weights convert", "weights get", "weights list",
}  # fmt: skip


def test_every_command_in_which_a_network_computes_has_a_device() -> None:
    devices = {
        name: [one for one in command.params if "--device" in one.opts and one.envvar == "FACEWRIGHT_DEVICE"]
        for name, command in COMMANDS.items()
    }
    assert {name for name, found in devices.items() if not found} == WITHOUT_DEVICE


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(name.split()[0] in shown for name in COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--version"], 0),
        (["train", "--help"], 0),
        ([], 2),  # nothing asked: the help, as wrong usage
        (["trian"], 2),
        (["train", "--nope"], 2),
        (["train", "x", "--seed", "many"], 2),
        (["train", "x", "--seed", "-1"], 2),
        (["train", "x", "--epochs", "0"], 2),
        (["predict", "run"], 2),  # no photo
        (["train"], 1),  # neither data nor --resume: a usage only the command can judge
        (["train", "x", "--set", "epochs"], 1),  # no value
    ],
)
def test_exit_status(arguments: list[str], status: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == status
    if status:
        assert "Traceback" not in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--version"])
    assert capsys.readouterr().out == f"facewright {__version__}\n"


def test_the_version_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "facewright": __version__,
        "python": ".".join(map(str, sys.version_info[:3])),
    }
    assert main(["--json"]) == 2


def test_doctor_tells_what_is_wrong_and_keeps_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FACEWRIGHT_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setenv("FACEWRIGHT_TOKEN", "s3cret")
    monkeypatch.setenv("FACEWRIGHT_DEVICE", "nowhere")
    assert main(["doctor", "--json"]) == 0
    out = capsys.readouterr().out
    found = json.loads(out)
    assert found["facewright"] == __version__ and found["packages"]["numpy"] == np.__version__
    assert found["cache_writable"] is False and found["device"] == "none" and "s3cret" not in out
    assert {"train", "postgres", "heic"} <= set(found["extras"]) and found["extras"]["train"] == []
    problems = " ".join(found["problems"])
    assert str(tmp_path / "file") in problems and "nowhere" in problems
    monkeypatch.setenv("FACEWRIGHT_CACHE", str(tmp_path / "new"))
    monkeypatch.setenv("FACEWRIGHT_DEVICE", "cpu")
    assert main(["doctor"]) == 0
    assert capsys.readouterr().out.split()[:2] == ["facewright", __version__]
    assert not (tmp_path / "new").exists(), "nothing is changed"


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Makes `facewright demo` raise."""

    def fail(error: BaseException) -> None:
        def demo(*arguments: object, **options: object) -> None:
            raise error

        monkeypatch.setattr("facewright.workflows.training_runs.demo", demo)

    return fail


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (BadImage("a.jpg", "truncated"), 1, "error: a.jpg: truncated\n"),
        (UnknownName("model", "resnet51", ["resnet50"]), 1, None),
        (FacewrightError("two\n  lines"), 1, "error: two lines\n"),
        (FileNotFoundError(2, "No such file or directory", "photos"), 1, "error: photos: No such file or directory\n"),
        (OSError(28, "No space left on device"), 1, "error: No space left on device\n"),
        (Interrupted("stopped at step 3; go on with --resume"), 130, None),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_an_error_is_one_line(
    error: BaseException,
    status: int,
    line: str | None,
    failing: Callable[[BaseException], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    failing(error)
    assert main(["demo"]) == status
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (line if line is not None else f"error: {error}\n")


@pytest.mark.parametrize("arguments", [["--debug", "demo"], ["demo", "--debug"]])
def test_debug_keeps_the_traceback(arguments: list[str], failing: Callable[[BaseException], None]) -> None:
    failing(FacewrightError("no"))
    with pytest.raises(FacewrightError):
        main(arguments)


def test_a_fault_of_our_own_keeps_its_traceback(failing: Callable[[BaseException], None]) -> None:
    failing(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        main(["demo"])


def test_as_a_program() -> None:
    done = subprocess.run([sys.executable, "-m", "facewright", "trian"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "trian" in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX pipes")
def test_a_reader_that_leaves_is_no_error() -> None:
    command = f"{sys.executable} -m facewright --help | true"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert signal.SIGPIPE.name not in done.stderr


@pytest.mark.parametrize("words", [("predict", "{pipe}", "{pipe}"), ("pairs", "built-in", "{pipe}", "--images", ".")])
def test_a_pipe_is_refused_and_not_waited_for(words: tuple[str, ...], tmp_path, capsys) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert main([word.format(pipe=tmp_path / "pipe") for word in words]) == 1
    assert "pipe" in capsys.readouterr().err
