"""Trackers: programs that show the course of a run, fed from its events through one interface."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from facewright.errors import UnknownName, UsageError, require_extra
from facewright.events import EpochFinished, EpochRow, Event, EventHandler, Message, RunEvaluated, RunStarted

PROJECT = "facewright"  # MLflow's experiment, the project at Weights & Biases


class Tracker(Protocol):
    """A program that shows curves."""

    def log(self, values: Mapping[str, float], images_seen: int) -> None:
        """Add a point to each curve; the x axis is the images seen in training."""

    def close(self, *, succeeded: bool) -> None:
        """Write everything; what failed or was stopped may be continued."""


@dataclass(frozen=True)
class TrackedRun:
    """The run as a tracker names it; a resumed run continues its curves."""

    folder: Path
    title: str
    started: str  # as run.json has it
    parameters: Mapping[str, str | int | float | bool]  # dotted recipe keys, model, seed, data

    @property
    def id(self) -> str:
        """The same for a run and its resumption."""
        return hashlib.sha256(f"{self.folder.resolve()}|{self.started}".encode()).hexdigest()[:16]


class TensorBoard:
    """Event files in `events/` of the run directory."""

    def __init__(self, run: TrackedRun) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(run.folder / "events"))

    def log(self, values: Mapping[str, float], images_seen: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, images_seen)
        self._writer.flush()

    def close(self, *, succeeded: bool) -> None:
        del succeeded
        self._writer.close()


class MLflow:
    """A run of MLflow's experiment `facewright`, at MLFLOW_TRACKING_URI; by default in mlflow.db of this folder."""

    def __init__(self, run: TrackedRun) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # nothing is sent that was not asked for
        from mlflow import MlflowClient
        from mlflow.entities import Param

        self._client = MlflowClient()
        experiment = self._client.get_experiment_by_name(PROJECT)
        place = self._client.create_experiment(PROJECT) if experiment is None else experiment.experiment_id
        known = self._client.search_runs([place], f"tags.`{PROJECT}.run` = '{run.id}'", max_results=1)
        if known:
            self._run = known[0].info.run_id
            self._client.set_terminated(self._run, "RUNNING")
            return
        tags = {f"{PROJECT}.run": run.id, f"{PROJECT}.folder": str(run.folder)}
        self._run = self._client.create_run(place, run_name=run.title, tags=tags).info.run_id
        parameters = [Param(name, str(value)) for name, value in run.parameters.items()]
        for first in range(0, len(parameters), 100):  # the most that a server takes at once
            self._client.log_batch(self._run, params=parameters[first : first + 100])

    def log(self, values: Mapping[str, float], images_seen: int) -> None:
        for name, value in values.items():
            self._client.log_metric(self._run, name, value, step=images_seen)

    def close(self, *, succeeded: bool) -> None:
        self._client.set_terminated(self._run, "FINISHED" if succeeded else "FAILED")


class WandB:
    """A run of Weights & Biases in `wandb/` of the run directory: offline, unless WANDB_MODE says online."""

    def __init__(self, run: TrackedRun) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # nothing is sent that was not asked for
        import wandb

        mode: Any = os.environ.get("WANDB_MODE", "offline")
        quiet = wandb.Settings(silent=True, console="off", x_disable_stats=True)
        self._run = wandb.init(
            project=PROJECT, dir=run.folder, id=run.id, name=run.title, mode=mode, resume="allow",
            config=dict(run.parameters), settings=quiet,
        )  # fmt: skip

    def log(self, values: Mapping[str, float], images_seen: int) -> None:
        self._run.log(dict(values), step=images_seen)

    def close(self, *, succeeded: bool) -> None:
        self._run.finish(exit_code=0 if succeeded else 1)


TRACKERS: Mapping[str, Callable[[TrackedRun], Tracker] | None] = {  # each is the name of its extra too
    "csv": None,  # metrics.csv: always written, for a run is read back from it
    "mlflow": MLflow,
    "tensorboard": TensorBoard,
    "wandb": WandB,
}


def chosen_trackers(names: Sequence[str] | None) -> tuple[str, ...]:
    """Check the trackers asked for, before anything is loaded.

    Args:
        names: of `TRACKERS`; None: TensorBoard where it is installed.
    Raises:
        UnknownName: there is no such tracker.
        UsageError: its package is not installed.
    """
    if names is None:
        return ("tensorboard",) if find_spec("tensorboard") is not None else ()
    for name in names:
        if name not in TRACKERS:
            raise UnknownName("tracker", name, TRACKERS)
        if TRACKERS[name] is not None:
            require_extra(name, f"tracking by {name}")
    return tuple(dict.fromkeys(name for name in names if TRACKERS[name] is not None))


@contextmanager
def tracking(names: Sequence[str], run: TrackedRun, on_event: EventHandler) -> Iterator[EventHandler]:
    """Yield a handler that passes each event on and logs the curves; the trackers are closed when the block ends.

    They are opened by the first event of training, so a finished run that is opened again is logged once.

    Args:
        names: from `chosen_trackers`.
        on_event: gets every event, and a message about a tracker that stopped working.
    Raises:
        UsageError: a tracker cannot be started.
    """
    log = _Log(names, run, on_event)
    try:
        yield log
    except BaseException:
        log.close(succeeded=False)
        raise
    log.close(succeeded=True)


@dataclass
class _Log:
    names: Sequence[str]
    run: TrackedRun
    on_event: EventHandler
    _trackers: dict[str, Tracker] | None = field(default=None)
    _seen: int = 0  # images, at the last epoch

    def __call__(self, event: Event) -> None:
        if isinstance(event, RunStarted | EpochFinished) and self._trackers is None:
            self._trackers = {name: self._opened(name) for name in self.names}
        if isinstance(event, EpochFinished):
            self._seen = event.row.images_seen
            self._each(lambda tracker: tracker.log(curves(event.row), self._seen))
        elif isinstance(event, RunEvaluated):
            self._each(lambda tracker: tracker.log(event.metrics, self._seen))
        self.on_event(event)

    def close(self, *, succeeded: bool) -> None:
        self._each(lambda tracker: tracker.close(succeeded=succeeded))

    def _opened(self, name: str) -> Tracker:
        opened = TRACKERS[name]
        assert opened is not None  # `chosen_trackers` leaves out what is always there
        try:
            return opened(self.run)
        except Exception as error:  # of a library with exceptions of its own
            raise UsageError(f"--track {name}: cannot be started: {error}") from error

    def _each(self, act: Callable[[Tracker], None]) -> None:
        """Let each tracker act; one that fails is left out from then on, for it must not end a training of days."""
        for name, tracker in list((self._trackers or {}).items()):
            try:
                act(tracker)
            except Exception as error:
                del (self._trackers or {})[name]
                self.on_event(Message(f"warning: {name} no longer tracks this run: {error}"))


def curves(row: EpochRow) -> dict[str, float]:
    """Return the points of an epoch by the names of their curves."""
    return {
        "loss/train": row.train_loss,
        "loss/validation": row.validation_loss,
        "accuracy/train": row.train_accuracy,
        "accuracy/validation": row.validation_accuracy,
        "learning rate": row.learning_rate,
        "images per second": row.images_per_second,
    }
