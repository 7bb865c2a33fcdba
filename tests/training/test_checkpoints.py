"""Checkpoints: FAULTS 7, 8, 12, 13, 15."""

from __future__ import annotations

import json
import pickle
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from facewright import files
from facewright.errors import FacewrightError, NonFiniteLoss, ResumeError
from facewright.training import checkpoints
from facewright.training.checkpoints import State


def state(value: float, size: int = 2000) -> State:
    return State({"model.weight": torch.full((size,), value), "steps": torch.tensor(3)}, {"epoch": 1, "loss": 0.1})


def test_what_is_saved_comes_back_bit_by_bit(tmp_path: Path) -> None:
    given = State(
        {"a": torch.randn(3, 4).to(memory_format=torch.contiguous_format), "b": torch.tensor(7)},
        {"loss": 0.1 + 0.2, "best": float("inf"), "rows": [{"epoch": 1}], "name": "é"},
    )
    checkpoints.save(tmp_path, given, 5)
    found = checkpoints.load(tmp_path)
    assert found is not None
    assert found.facts == given.facts
    assert all(torch.equal(found.tensors[name], given.tensors[name]) for name in given.tensors)


def test_nothing_saved_is_none(tmp_path: Path) -> None:
    assert checkpoints.load(tmp_path) is None


def test_two_are_kept_and_strays_are_swept(tmp_path: Path) -> None:
    for step in range(5):
        (tmp_path / ".step-x.tmp").write_bytes(b"left by a killed writer")
        checkpoints.save(tmp_path, state(step), step)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "last.json", "step-00000003.safetensors", "step-00000004.safetensors"
    ]  # fmt: skip


@pytest.mark.parametrize("damage", ["cut", "flip", "pickle", "missing"])
def test_a_damaged_newest_falls_back_to_the_one_before(tmp_path: Path, damage: str) -> None:
    checkpoints.save(tmp_path, state(1.0), 1)
    newest = checkpoints.save(tmp_path, state(2.0), 2)
    packed = newest.read_bytes()
    if damage == "cut":
        newest.write_bytes(packed[: len(packed) // 2])
    elif damage == "flip":
        newest.write_bytes(packed[:-5] + bytes([packed[-5] ^ 1]) + packed[-4:])
    elif damage == "pickle":
        newest.write_bytes(pickle.dumps({"model.weight": [2.0]}))
    else:
        newest.unlink()
    found = checkpoints.load(tmp_path)
    assert found is not None and float(found.tensors["model.weight"][0]) == 1.0


def test_only_damaged_ones_are_an_error_that_names_them(tmp_path: Path) -> None:
    checkpoints.save(tmp_path, state(1.0), 1).write_bytes(b"")
    with pytest.raises(ResumeError, match=r"step-00000001\.safetensors"):
        checkpoints.load(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[1]", '[{"file": "x"}]', '{"file": 1}'])
def test_a_damaged_pointer_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "last.json").write_text(text)
    with pytest.raises(ResumeError, match=r"last\.json"):
        checkpoints.load(tmp_path)


def test_a_pointer_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    outside = checkpoints.save(tmp_path / "elsewhere", state(9.0), 1)
    inside = tmp_path / "run" / "checkpoints"
    inside.mkdir(parents=True)
    pointer = json.loads((tmp_path / "elsewhere" / "last.json").read_text())
    pointer[0]["file"] = f"../../elsewhere/{outside.name}"
    (inside / "last.json").write_text(json.dumps(pointer))
    with pytest.raises(ResumeError, match="no whole checkpoint"):
        checkpoints.load(inside)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path, bad: float) -> None:
    checkpoints.save(tmp_path, state(1.0), 1)
    with pytest.raises(NonFiniteLoss, match=r"model\.weight"):
        checkpoints.save(tmp_path, state(bad), 2)
    found = checkpoints.load(tmp_path)
    assert found is not None and float(found.tensors["model.weight"][0]) == 1.0


# A kill inside a save: whichever call it falls on, the previous checkpoint loads (FAULTS 12). One process loads PyTorch
# and forks a child for each moment.
KILL = """
import os, signal, sys
from pathlib import Path
import torch
from facewright import files
from facewright.training import checkpoints
from facewright.training.checkpoints import State

state = lambda value: State({"w": torch.full((200_000,), value)}, {})
die = lambda *args, **kwargs: os.kill(os.getpid(), signal.SIGKILL)
real = {"fsync": os.fsync, "replace": Path.replace}
calls = 0
def counted(name, at):
    def call(*args):
        global calls
        calls += 1
        if calls == at: die()
        return real[name](*args)
    return call
def save_and_die(folder, moment):
    checkpoints.save(folder, state(1.0), 1)
    kind, number = moment.split(":")
    if kind == "fsync": os.fsync = counted("fsync", int(number))
    elif kind == "replace": Path.replace = counted("replace", int(number))
    else:  # part of the bytes are on disk
        opened = open
        def half(path, mode, **more):
            out = opened(path, mode, **more)
            real_write = out.write
            class Cut:
                def __enter__(self): return self
                def __exit__(self, *args): out.close()
                def write(self, data):
                    real_write(data[: len(data) * int(number) // 10]); out.flush(); die()
            return Cut()
        files.open = half
    checkpoints.save(folder, state(2.0), 2)

for moment in sys.argv[2:]:
    if os.fork() == 0:
        save_and_die(Path(sys.argv[1]) / moment.replace(":", "-"), moment)
        os._exit(0)
    print(moment, os.waitstatus_to_exitcode(os.wait()[1]))
"""
SURVIVORS = {f"write:{tenth}": 1.0 for tenth in range(10)} | {
    "fsync:1": 1.0, "replace:1": 1.0, "fsync:2": 1.0, "fsync:3": 1.0, "replace:2": 1.0, "fsync:4": 2.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The folder with what each kill left, and how each process ended."""
    folder = tmp_path_factory.mktemp("killed")
    done = subprocess.run([sys.executable, "-c", KILL, str(folder), *SURVIVORS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-500:]
    return folder, dict(line.split() for line in done.stdout.splitlines())


@pytest.mark.parametrize(("moment", "survivor"), SURVIVORS.items())
def test_a_kill_inside_a_save_leaves_a_checkpoint(
    killed: tuple[Path, dict[str, str]], moment: str, survivor: float
) -> None:
    folder, ends = killed
    assert ends[moment] == "-9"
    found = checkpoints.load(folder / moment.replace(":", "-"))
    assert found is not None and float(found.tensors["w"][0]) == survivor


def test_a_full_disk_is_one_clear_error_and_costs_nothing(tmp_path: Path) -> None:
    checkpoints.save(tmp_path, state(1.0), 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))  # as if the disk had room for 4 kB
    try:
        with pytest.raises(FacewrightError, match="could not be written"):
            checkpoints.save(tmp_path, state(2.0), 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.glob("*.tmp")) and not list(tmp_path.glob(".*.tmp"))
    found = checkpoints.load(tmp_path)
    assert found is not None and float(found.tensors["model.weight"][0]) == 1.0


def test_files_are_the_owners_alone(tmp_path: Path) -> None:
    path = checkpoints.save(tmp_path, state(1.0), 1)
    assert path.stat().st_mode & 0o077 == 0
    files.write_atomic(tmp_path / "shared.txt", "text")
    assert (tmp_path / "shared.txt").read_text() == "text"
