"""Defaults from facewright.toml and from variables, and logging: what is typed counts most."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from facewright.cli.main import main, typed_defaults
from facewright.errors import UnknownName, UsageError
from facewright.workflows import dry_runs

DATA = "synthetic:faces?identities=2&images=6&size=32"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What lr-find asks for."""
    seen: dict[str, Any] = {}

    def find(data: str, **options: Any) -> Any:
        seen.update(options)
        raise UsageError("enough")

    monkeypatch.setattr(dry_runs, "find_learning_rate", find)
    return seen


@pytest.mark.parametrize(
    ("typed", "variable", "file", "expected"),
    [
        ([], None, "", 100),
        ([], None, "steps = 7", 7),
        ([], None, "steps = 7\n[lr-find]\nsteps = 8", 8),
        ([], "9", "[lr-find]\nsteps = 8", 9),
        (["--steps", "10"], "9", "[lr-find]\nsteps = 8", 10),
    ],
)
def test_what_is_typed_counts_before_a_variable_and_that_before_the_file(
    typed: list[str], variable: str | None, file: str, expected: int, folder: Path, asked: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if file:
        (folder / "facewright.toml").write_text(file)
    if variable is not None:
        monkeypatch.setenv("FACEWRIGHT_LR_FIND_STEPS", variable)
    assert main(["lr-find", DATA, *typed]) == 1
    assert asked["steps"] == expected


def test_lists_and_commands_of_two_words(folder: Path, monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any]) -> None:
    text = (
        'seed = 5\n[lr-find]\nset = ["training.batch=4", "optimizer.name=sgd"]\n[gallery.identify]\nthreshold = 0.5\n'
    )
    (folder / "facewright.toml").write_text(text)
    assert main(["lr-find", DATA]) == 1
    assert asked["seed"] == 5 and asked["overrides"] == {"training.batch": "4", "optimizer.name": "sgd"}
    monkeypatch.setenv("FACEWRIGHT_LR_FIND_SET", "training.batch=8 training.ema=0.9")
    assert main(["lr-find", DATA]) == 1
    assert asked["overrides"] == {"training.batch": "8", "training.ema": "0.9"}
    monkeypatch.setenv("FACEWRIGHT_GALLERY_ENROLL_GALLERY", "people.gallery")
    found = typed_defaults()["gallery"]
    assert found["identify"]["threshold"] == 0.5 and found["enroll"] == {"gallery_at": "people.gallery"}


def test_a_value_is_checked_as_if_it_were_typed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "facewright.toml").write_text("[lr-find]\nsteps = 1\n")
    assert main(["lr-find", DATA]) == 2
    told = capsys.readouterr().err
    assert "--steps" in told and "steps=1" in told.splitlines()[-1]


def test_a_variable_that_nothing_reads_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FACEWRIGHT_LR_FIND_STEP", "7")
    monkeypatch.setenv("FACEWRIGHT_TOKEN_FILE", "x")
    assert main(["recipes"]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert "FACEWRIGHT_LR_FIND_STEP " in line and "FACEWRIGHT_LR_FIND_STEPS" in line


@pytest.mark.parametrize("threads", ["0", "many", "1025"])
def test_threads_of_a_variable_are_checked(
    threads: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FACEWRIGHT_THREADS", threads)
    assert main(["recipes"]) == 2
    assert "--threads" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "error", "key"),
    [
        ("sted = 5", UnknownName, "seed"),
        ("[lr-find]\nstep = 5", UnknownName, "steps"),
        ("[lr-find]\nsteps = 2024-01-01", UsageError, "steps"),
        ("lr-find = 3", UsageError, "lr-find"),
        ("[lr-find", UsageError, "TOML"),
    ],
)
def test_a_wrong_file_is_one_error(folder: Path, text: str, error: type[Exception], key: str) -> None:
    (folder / "facewright.toml").write_text(text)
    with pytest.raises(error, match=key):
        typed_defaults()
    assert main(["lr-find", DATA]) == 1


def test_another_place_of_the_file(folder: Path, monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any]) -> None:
    (folder / "other.toml").write_text("steps = 12")
    monkeypatch.setenv("FACEWRIGHT_CONFIG", str(folder / "other.toml"))
    assert main(["lr-find", DATA]) == 1 and asked["steps"] == 12
    monkeypatch.setenv("FACEWRIGHT_CONFIG", "absent.toml")
    with pytest.raises(UsageError, match="absent"):
        typed_defaults()


def test_verbose_logs_what_is_read_and_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "train",
        DATA,
        "--model",
        "plain_cnn",
        "--size",
        "32",
        "--dry-run",
        "--precision",
        "float32",
        "--json",
        "-q",
    ]
    assert main(words) == 0
    quiet = capsys.readouterr()
    assert "INFO" not in quiet.err
    assert main([*words, "-v"]) == 0
    loud = capsys.readouterr()
    assert "INFO facewright.training: " in loud.err and "DEBUG" not in loud.err
    assert json.loads(loud.out)["images"] == json.loads(quiet.out)["images"]  # nothing else on standard output
    assert main([words[0], "-vv", *words[1:]]) == 0
    assert "INFO facewright.files: writing " in capsys.readouterr().err
