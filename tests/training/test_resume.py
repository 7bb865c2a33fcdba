"""Exact resume: FAULTS 11, 12, 14."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from facewright.errors import Interrupted, ResumeError
from facewright.events import EpochFinished, Progress, StepFinished
from facewright.training import checkpoints
from fixtures.trainers import bits, make_trainer

STEPS = 16  # of a whole run: 4 epochs of 4 batches; a checkpoint lies after every third step


MUTANTS = ["weights", "average", "optimizer", "position", "schedule", "generator", "history"]
KILLED = [f"plain:{step}:none" for step in random.Random(0).sample(range(1, STEPS + 1), 6)]
PHASES_KILLED = [f"phased:{step}:none" for step in (5, 12, 13, 17)]


def killed_and_resumed(root: Path, cases: list[str]) -> dict[str, str]:
    """Kill a run, resume it without a piece of its state, compare: `RUN:STEP:PIECE` to "same" or "differs"."""
    command = [sys.executable, "-m", "fixtures.kill_driver", str(root), *cases]
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(line.split() for line in done.stdout.splitlines())


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The answers for both kinds of runs, from one process."""
    cases = [*KILLED, *(f"plain:10:{piece}" for piece in MUTANTS), *PHASES_KILLED, "phased:17:phase"]
    return killed_and_resumed(tmp_path_factory.mktemp("killed"), cases)


@pytest.mark.parametrize("case", KILLED)
def test_a_run_killed_at_any_step_ends_in_the_same_bits(answers: dict[str, str], case: str) -> None:
    assert answers[case] == "same"


@pytest.mark.parametrize("case", PHASES_KILLED)
def test_a_run_of_phases_killed_in_each_ends_in_the_same_bits(answers: dict[str, str], case: str) -> None:
    assert answers[case] == "same"


@pytest.mark.parametrize("piece", MUTANTS)
def test_a_resume_that_forgets_a_piece_is_caught(answers: dict[str, str], piece: str) -> None:
    assert answers[f"plain:10:{piece}"] == "differs"


def test_a_resume_that_forgets_its_phase_is_caught(answers: dict[str, str]) -> None:
    assert answers["phased:17:phase"] == "differs"


@pytest.mark.slow
@pytest.mark.parametrize(("run", "steps"), [("plain", STEPS), ("phased", 20)])
def test_a_kill_at_every_step(tmp_path: Path, run: str, steps: int) -> None:
    cases = [f"{run}:{step}:none" for step in range(1, steps + 1)]
    assert killed_and_resumed(tmp_path, cases) == dict.fromkeys(cases, "same")


@pytest.mark.slow
def test_a_resume_of_phases_that_forgets_a_piece_is_caught(tmp_path: Path) -> None:
    cases = ["phased:17:centres", "phased:10:schedule", "phased:17:optimizer"]
    assert killed_and_resumed(tmp_path, cases) == dict.fromkeys(cases, "differs")


def test_plateau_and_early_stopping_survive(tmp_path: Path) -> None:
    changes = {
        "selection": {"patience": 3},
        "schedule": {"name": "plateau", "factor": 0.5, "patience": 0},
        "optimizer": {"learning_rate": 0.2},
        "training": {"epochs": 8},
    }
    whole = make_trainer(tmp_path / "whole", **changes)
    whole.fit()
    assert whole.plateau is not None and whole.plateau.scale < 1, "the test wants a run in which the rate is lowered"

    class Stop(Exception):
        pass

    def on_event(event: object) -> None:
        if isinstance(event, EpochFinished) and event.row.epoch == len(whole.position.rows) - 1:
            raise Stop

    broken = make_trainer(tmp_path / "b", on_event, **changes)
    with pytest.raises(Stop):
        broken.fit()
    again = make_trainer(tmp_path / "b", **changes)
    state = checkpoints.load(tmp_path / "b" / "checkpoints")
    assert state is not None
    again.restore(state)
    again.fit()
    assert bits(again) == bits(whole)


def test_a_run_killed_between_the_last_step_of_an_epoch_and_its_validation_has_the_same_rows(tmp_path: Path) -> None:
    each_epoch = {"checkpoint_steps": 4}
    whole = make_trainer(tmp_path / "whole", training=each_epoch)
    whole.fit()

    class Killed(Exception):
        pass

    def on_event(event: object) -> None:
        if isinstance(event, Progress) and event.task == "validating" and killed.position.epoch == 2:
            raise Killed

    killed = make_trainer(tmp_path / "k", on_event, training=each_epoch)
    with pytest.raises(Killed):
        killed.fit()
    again = make_trainer(tmp_path / "k", training=each_epoch)
    state = checkpoints.load(tmp_path / "k" / "checkpoints")
    assert state is not None and state.facts["progress"]["step"] == 4 and state.facts["progress"]["epoch"] == 2
    again.restore(state)
    again.fit()
    times = {"seconds": 0.0, "images_per_second": 0.0}
    assert [replace(row, **times) for row in again.position.rows] == [
        replace(row, **times) for row in whole.position.rows
    ]
    assert bits(again) == bits(whole)


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path / "a")
    state = trainer.state()
    tensors = {name: value for name, value in state.tensors.items() if not name.startswith("model.0")}
    with pytest.raises(ResumeError, match="another model"):
        trainer.restore(checkpoints.State(tensors, state.facts))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_stops_and_the_run_goes_on_to_the_same_bits(tmp_path: Path, number: signal.Signals) -> None:
    whole = make_trainer(tmp_path / "whole")
    whole.fit()
    no_checkpoints = {"checkpoint_steps": 0}

    def on_event(event: object) -> None:
        if isinstance(event, StepFinished) and stopped.position.steps == 7:
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    stopped = make_trainer(tmp_path / "s", on_event, training=no_checkpoints)
    with pytest.raises(Interrupted, match="step 7"):
        stopped.fit()
    assert signal.getsignal(number) is before
    again = make_trainer(tmp_path / "s", training=no_checkpoints)
    state = checkpoints.load(tmp_path / "s" / "checkpoints")
    assert state is not None and state.facts["progress"]["steps"] == 7
    again.restore(state)
    again.fit()
    assert bits(again) == bits(whole)


def test_the_second_signal_acts_at_once(tmp_path: Path) -> None:
    def on_event(event: object) -> None:
        if isinstance(event, StepFinished):
            for _ in range(2):
                signal.raise_signal(signal.SIGINT)  # to this thread: sent to the process, two might become one

    trainer = make_trainer(tmp_path / "s", on_event=on_event)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            trainer.fit()
    finally:
        signal.signal(signal.SIGINT, before)


def test_dropout_draws_are_a_function_of_the_step(tmp_path: Path) -> None:
    ends = []
    for noise in (0, 1):
        trainer = make_trainer(tmp_path / str(noise))
        torch.manual_seed(noise)  # whatever the caller did to the global generator
        trainer.fit()
        ends.append(bits(trainer))
    assert ends[0] == ends[1]
