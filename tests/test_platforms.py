"""What differs between systems: each function by itself, and the main jobs on a simulated Windows."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import threading
import traceback
from pathlib import Path

import pytest
from typer.testing import CliRunner

from facewright import platforms
from facewright.cli.main import app
from fixtures import windows
from fixtures.faces import draw_people, saved

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc for open files")


def run(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, (
        result.output,
        result.exception and "".join(traceback.format_exception(result.exception)),
    )
    return result.stdout


def test_the_simulation_holds_open_files_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    windows.simulate(monkeypatch)
    path = tmp_path / "folder/x"
    path.parent.mkdir()
    path.write_bytes(b"old")
    with path.open("rb"):
        for refused in (
            path.unlink,
            lambda: path.rename(tmp_path / "y"),
            lambda: path.parent.rename(tmp_path / "other"),
        ):
            with pytest.raises(PermissionError):
                refused()
    with pytest.raises(PermissionError):
        os.open(tmp_path, os.O_RDONLY)
    path.unlink()


def test_the_main_jobs_run_where_windows_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    people = draw_people(tmp_path / "people", people=3, photos=6)
    model = saved(tmp_path)
    monkeypatch.setenv("FACEWRIGHT_CACHE", str(tmp_path / "cache"))  # where nothing is open but what this test opens
    windows.simulate(monkeypatch)
    out = tmp_path / "run"
    run(
        "train",
        people,
        "--model",
        "patchnet",
        "--epochs",
        1,
        "--size",
        40,
        "--set",
        "training.precision=float32",
        "--out",
        out,
        "--quiet",
    )
    run("train", people, "--model", out, "--epochs", 1, "--out", tmp_path / "features", "--quiet")  # keeps features
    assert (out / "model.safetensors").is_file() and not list(tmp_path.rglob("*.tmp"))
    answer = json.loads(run("predict", out, people / "person_00" / "0.png", "--json"))
    assert answer
    rows = run("embed", model, people, "--out", tmp_path / "v.parquet", "--json")
    assert json.loads(rows)["rows"] == 18 and (tmp_path / "v.parquet").is_file()
    gallery = tmp_path / "people.gallery"
    run("gallery", "enroll", "-g", gallery, "--model", model, people)
    run("gallery", "delete", "-g", gallery, "person_01")
    left = run("gallery", "list", "-g", gallery)
    assert "person_00" in left and "person_01" not in left
    gc.collect()
    run("cache", "clear")


def test_a_file_held_by_another_process_is_replaced_once_it_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A virus scanner holds a file for a moment; the waits are counted, not slept."""
    monkeypatch.setattr(os, "name", "nt")
    waits: list[float] = []
    held = [True, True, False]
    real = os.replace

    def replace(*paths: object) -> None:
        if held.pop(0):
            raise PermissionError(13, "Access is denied")
        real(*paths)  # type: ignore[call-overload]

    monkeypatch.setattr(platforms.time, "sleep", waits.append)
    monkeypatch.setattr(os, "replace", replace)
    new, old = tmp_path / "new", tmp_path / "old"
    new.write_bytes(b"1")
    platforms.replace(new, old)
    assert old.read_bytes() == b"1" and waits == [0.01, 0.02]
    held[:] = [True] * (platforms.PATIENCE + 1)
    new.write_bytes(b"2")
    with pytest.raises(PermissionError):
        platforms.replace(new, old)
    assert old.read_bytes() == b"1" and held == [True]


@pytest.mark.parametrize("links", [True, False])
def test_a_name_is_given_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    if not links:
        windows.simulate(monkeypatch)
    first, second, name = tmp_path / "1", tmp_path / "2", tmp_path / "name"
    first.write_bytes(b"first")
    second.write_bytes(b"second")
    assert platforms.publish(first, name) and not platforms.publish(second, name)
    assert name.read_bytes() == b"first"


def test_bytes_at_a_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").write_bytes(bytes(range(100)))
    with (tmp_path / "x").open("rb") as file:
        read = [(3, 5), (90, 0), (10, 95)]
        wanted = [platforms.read_at(file.fileno(), size, start, threading.Lock()) for size, start in read]
        monkeypatch.delattr(os, "pread")
        assert [platforms.read_at(file.fileno(), size, start, threading.Lock()) for size, start in read] == wanted
    assert wanted[0] == bytes([5, 6, 7]) and len(wanted[1]) == 90 and len(wanted[2]) == 5


def test_idle_threads_sleep_unless_the_user_chose(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "environ", {"OMP_WAIT_POLICY": "ACTIVE"})
    platforms.calm_threads()
    assert os.environ == {"OMP_WAIT_POLICY": "ACTIVE"}
    monkeypatch.setattr(os, "environ", {})
    platforms.calm_threads()
    assert set(os.environ) == {"GOMP_SPINCOUNT", "KMP_BLOCKTIME"}


def test_idle_threads_sleep_when_a_public_name_is_first_used_and_not_on_import() -> None:
    code = (
        "import os, facewright as fw; before = 'GOMP_SPINCOUNT' in os.environ; hasattr(fw, 'absent');"
        "between = 'GOMP_SPINCOUNT' in os.environ; fw.open_dataset;"
        "print(before, between, os.environ.get('GOMP_SPINCOUNT'))"
    )
    variables = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_", "KMP_"))}
    done = subprocess.run([sys.executable, "-c", code], env=variables, check=True, stdout=subprocess.PIPE, text=True)
    assert done.stdout.split() == ["False", "False", "1000"]


def test_threads_reach_torch_and_onnx_runtime() -> None:
    """In a process of its own: both read their number when they are loaded."""
    code = (
        "import sys; from facewright.cli import main; main.main(['--threads', '1', 'recipes']);"
        "import torch; from facewright.graphs import thread_count;"
        "print(torch.get_num_threads(), thread_count(), __import__('os').environ['GOMP_SPINCOUNT'])"
    )
    variables = {
        key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_", "KMP_", "FACEWRIGHT_"))
    }
    done = subprocess.run([sys.executable, "-c", code], env=variables, check=True, stdout=subprocess.PIPE, text=True)
    assert done.stdout.splitlines()[-1] == "1 1 1000"


def test_freed_memory_is_kept() -> None:
    assert platforms.keep_freed_memory()


def test_limits_that_the_system_lacks_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    most, used = platforms.descriptors() or (0, 0)
    assert most >= used > 0
    monkeypatch.setitem(sys.modules, "resource", None)
    assert platforms.descriptors() is None
    monkeypatch.setattr(platforms.Path, "is_file", lambda self: False)
    assert platforms.peak_memory_bytes() is None
