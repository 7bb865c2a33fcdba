"""Two processes, one run: started by torchrun over gloo on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from facewright import train
from facewright.runs import Run

WHERE = "synthetic:faces?identities=3&images=16&size=32"
SMALL = {"input.size": "32", "training.epochs": "3", "training.batch": "8", "training.precision": "float32"}
SMALL["training.checkpoint_steps"] = "2"


# What each of the two processes runs when the run is to die; only the writer is listened to.
KILLED = f"""
import os, signal, sys
from pathlib import Path
from facewright.events import StepFinished
from facewright import train

def on_event(event):
    if isinstance(event, StepFinished) and (event.epoch, event.step) == (2, 2):
        os.kill(os.getpid(), signal.SIGKILL)

train({WHERE!r}, model="mobilenet_v1_x0_25", out=Path(sys.argv[1]), overrides={dict(SMALL)!r}, on_event=on_event)
"""


# Two runs of the same two processes: the first ends well; in the second one process fails, and the other loses it.
TWICE = f"""
import os, sys
from facewright.cli.main import main
from facewright.errors import DataError
from facewright.training.trainer import Trainer

ended = main(sys.argv[2:])
step = Trainer.step
def failing(self, *args):
    if os.environ["RANK"] == "1" and self.position.steps == 1:
        raise DataError("the rows are gone")
    step(self, *args)

Trainer.step = failing
fails = ["train", {WHERE!r}, "--model", "plain_cnn", "--size", "32", "--batch", "8", "--out", sys.argv[1]]
sys.exit(ended or main(fails))
"""


def torchrun(*program: str) -> subprocess.CompletedProcess[str]:
    """Run a program in two processes on this machine."""
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", "--local-addr", "127.0.0.1"]
    command = [sys.executable, *launch, *program]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=300, check=False)


def training_in_two(out: Path, *more: str) -> list[str]:
    options = [word for key, value in SMALL.items() for word in ("--set", f"{key}={value}")]
    return ["train", WHERE, "--model", "mobilenet_v1_x0_25", "--out", str(out), *options, *more]


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("two")
    (folder / "twice.py").write_text(TWICE)
    out = folder / "run"
    done = torchrun(str(folder / "twice.py"), str(folder / "fails"), *training_in_two(out, "--json"))
    return Run(out), done


@pytest.fixture
def shared(twice: tuple[Run, subprocess.CompletedProcess[str]]) -> tuple[Run, str]:
    return twice[0], twice[1].stdout


def test_one_process_writes_and_prints(shared: tuple[Run, str]) -> None:
    run, printed = shared
    assert json.loads(printed)["images_seen"] == run.facts.images_seen
    assert run.facts.processes == 2
    assert [row.epoch for row in run.history] == [1, 2, 3]


def test_the_plan_is_the_single_process_plan_and_the_numbers_are_close(shared: tuple[Run, str], tmp_path: Path) -> None:
    two = shared[0]
    one = train(WHERE, model="mobilenet_v1_x0_25", out=tmp_path / "one", overrides=SMALL, report=False)
    assert one.facts.images_seen == two.facts.images_seen
    assert (one.folder / "split.csv").read_text() == (two.folder / "split.csv").read_text()
    # The first epoch sees the same pictures in the same order; batch statistics are of each half batch.
    assert two.history[0].train_loss == pytest.approx(one.history[0].train_loss, rel=0.25)


def test_only_the_process_that_failed_first_prints_an_error(
    twice: tuple[Run, subprocess.CompletedProcess[str]],
) -> None:
    done = twice[1]
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode != 0 and errors == ["error: the rows are gone"]
    assert "trainer.py" not in done.stderr  # no traceback of ours
    assert "traceback : error: the rows are gone" in done.stderr  # in torchrun's summary


@pytest.mark.slow
def test_a_killed_run_of_two_resumes_to_the_same_bits(shared: tuple[Run, str], tmp_path: Path) -> None:
    (tmp_path / "killed.py").write_text(KILLED)
    out = tmp_path / "run"
    assert torchrun(str(tmp_path / "killed.py"), str(out)).returncode != 0
    assert not (out / "evaluation.json").exists()
    done = torchrun("-m", "facewright", *training_in_two(out, "--resume"))
    assert done.returncode == 0, done.stderr[-3000:]
    assert (out / "model.safetensors").read_bytes() == (shared[0].folder / "model.safetensors").read_bytes()
