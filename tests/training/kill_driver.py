"""Run by test_resume.py in a process of its own: kills a child of itself at chosen steps, resumes, compares the bits.

    python kill_driver.py FOLDER STEP,STEP,… MUTANT [phased]      prints "STEP same" or "STEP differs", a line each

MUTANT names a piece of the state that is thrown away when resuming ("none" throws nothing away). "phased" takes the run
of two phases, the first on features that were computed once.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
from small import bits, make_phased_trainer, make_trainer

from facewright.events import StepFinished
from facewright.training import checkpoints
from facewright.training.trainer import Trainer

torch.set_num_threads(1)
make = make_phased_trainer if "phased" in sys.argv else make_trainer


def in_child(work) -> int:  # type: ignore[no-untyped-def]
    """Run in a fork; the wait status."""
    child = os.fork()
    if child == 0:
        work()
        os._exit(0)
    return os.waitpid(child, 0)[1]


def train_until(folder: Path, cache: Path, last_step: int) -> None:
    def on_event(event: object) -> None:
        if isinstance(event, StepFinished) and trainer.progress.steps == last_step:
            os.kill(os.getpid(), signal.SIGKILL)

    trainer = make(folder, cache, on_event=on_event)
    trainer.fit()


def forget(trainer: Trainer, state: checkpoints.State, mutant: str) -> None:
    """Restore, but for one piece."""
    fresh = make(trainer.folder, trainer.folder.parent / "cache")
    trainer.restore(state)
    if mutant == "weights":
        trainer.model.load_state_dict(fresh.model.state_dict())
    elif mutant == "average":
        assert trainer.average is not None and fresh.average is not None
        trainer.average.load_state_dict(fresh.average.state_dict())
    elif mutant == "optimizer":
        trainer.optimizer.state.clear()
    elif mutant == "position":
        trainer.progress.step = 0
    elif mutant == "schedule":
        trainer.progress.phase_steps = 0
    elif mutant == "generator":
        torch.manual_seed = lambda seed: torch.default_generator  # type: ignore[assignment,misc]
    elif mutant == "phase":
        trainer.progress.phase = 0
        trainer.enter()
    elif mutant == "centres":
        trainer.objective.load_state_dict(fresh.objective.state_dict())
    elif mutant == "history":
        trainer.progress.rows = []
    elif mutant != "none":
        raise SystemExit(f"unknown mutant {mutant}")


def resume(folder: Path, cache: Path, mutant: str) -> None:
    trainer = make(folder, cache)
    state = checkpoints.load(folder / "checkpoints")
    if state is not None:  # killed before the first checkpoint, a run starts anew
        forget(trainer, state, mutant)
    trainer.fit()
    (folder / "bits").write_text(bits(trainer))


def main() -> None:
    root, steps, mutant = Path(sys.argv[1]), [int(step) for step in sys.argv[2].split(",")], sys.argv[3]
    cache = root / "cache"
    os.environ["FACEWRIGHT_CACHE"] = str(cache)
    whole = make(root / "whole", cache)
    whole.fit()
    wanted = bits(whole)
    for step in steps:
        folder = root / f"killed-{mutant}-{step}"
        status = in_child(lambda folder=folder, step=step: train_until(folder, cache, step))
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, "it was not killed"
        status = in_child(lambda folder=folder: resume(folder, cache, mutant))
        assert status == 0, "resuming failed"
        print(step, "same" if (folder / "bits").read_text() == wanted else "differs")


if __name__ == "__main__":
    main()
