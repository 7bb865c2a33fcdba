"""Recipe search by Optuna on the validation part; the test part is read once, at the end, for the best.

`OUT/search.journal` is Optuna's journal (JSON lines) and `OUT/trials/` has a run directory a trial, named by what is
tried, so that a search that stopped goes on, and an unfinished trial resumes from its checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from facewright import devices
from facewright.data.records import Dataset
from facewright.data.sources import open_dataset
from facewright.errors import NonFiniteLoss, RunError, UsageError, require_extra
from facewright.evaluation.classification import ClassificationResult
from facewright.events import EpochFinished, Event, EventHandler, Message, Progress, StepFinished, ignore_event
from facewright.files import write_json
from facewright.metrics.intervals import Rate
from facewright.records import Record
from facewright.runs import Run, owned
from facewright.training import history
from facewright.training.distributed import World
from facewright.training.recipe import Recipe
from facewright.workflows.comparison import REPORTING, compare
from facewright.workflows.training_jobs import Outcome, finish_job, prepared, train_job
from facewright.workflows.training_requests import (
    Job,
    Request,
    check_weights,
    folder_name,
    free_folder,
    recipe_for,
    requested,
    resumed_by,
)

if TYPE_CHECKING:
    import optuna


MOST_SECONDS = 30 * 86_400.0
TIME_KEPT_EVERY = 10.0  # seconds of a trial, so that those of one that is killed count
AUGMENTATIONS: Mapping[str, Mapping[str, str]] = {
    "recipe": {},
    "flip": {
        "augment.area": "[1.0, 1.0]", "augment.aspect": "0.0", "augment.rotation": "0.0", "augment.translate": "0.0",
        "augment.brightness": "0.0", "augment.contrast": "0.0", "augment.saturation": "0.0", "augment.erase": "0.0",
    },
    "strong": {
        "augment.area": "[0.6, 1.1]", "augment.rotation": "15.0", "augment.translate": "0.1",
        "augment.brightness": "0.4", "augment.contrast": "0.4", "augment.saturation": "0.4", "augment.erase": "0.3",
    },
}  # fmt: skip
HEADS: Mapping[str, Mapping[str, str]] = {
    "recipe": {},
    "dropout": {"head.kind": "linear", "head.dropout": "0.3"},
    "cosine": {"head.kind": "cosine", "head.scale": "16.0"},
}
SIZES: Mapping[str, float] = {"recipe": 1.0, "three quarters": 0.75, "half": 0.5}  # of `input.size`
RATES = (0.1, 10.0)  # times the learning rates of the recipe


class Trial(Record):
    """A model and a recipe that were tried."""

    number: int
    run: str  # its directory
    model: str
    changes: dict[str, str]  # of the recipe
    drawn: dict[str, str] = Field(default_factory=dict)  # the same in words: learning rate, size, augmentation, head
    state: Literal["complete", "pruned", "out of time", "failed"]
    epochs: int
    accuracy: float | None  # on the validation part, of the best epoch; None: not one epoch was done
    loss: float | None  # likewise
    seconds: float
    error: str | None = None


class SearchResult(Record):
    """All trials, and the test accuracy of the best one."""

    frame_rows: ClassVar[str] = "trials"

    dataset: str
    seconds: float  # of all trials, those before a resumption too, also of one that was killed then
    trials: tuple[Trial, ...]
    best: int  # its number
    run: str
    validation_images: int
    test: Rate  # accuracy of the best trial; the other trials were not tested


@dataclass(frozen=True)
class _Search:
    data: Dataset
    models: Sequence[str]
    recipe: str | Path | None
    overrides: Mapping[str, str]
    folder: Path
    seed: int
    world: World
    on_event: EventHandler


def search(
    data: str | Path | Dataset,
    *,
    models: Sequence[str] = ("resnet18",),
    budget: float = 1800.0,
    trials: int | None = None,
    recipe: str | Path | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    overrides: Mapping[str, str] | None = None,
    device: str | None = None,
    on_event: EventHandler = ignore_event,
) -> SearchResult:
    """Search the model, learning rate, augmentation, input size and head that do best on the validation part.

    A trial is a training; one that is worse than the median of those before it, at the same epoch, ends early. The
    accuracy on the validation part decides, of equal ones the lower loss. The test part is read once, for the best.
    Called again with the same `out` it goes on with what is left of the budget. What is not described here is as of
    `train`.

    Args:
        models: architectures, or architecture@weights, to choose from.
        budget: seconds of all trials together; the last one ends in time, but not before its first epoch is done.
        trials: also stop after so many; None: by time alone.
        recipe: as of `train`; None: each model's own.
        overrides: recipe values that are fixed, {"training.epochs": "10"}.
    Raises:
        UsageError: Optuna is not installed, or every trial failed. As `train`.
    """
    require_extra("search", "recipe search")
    fixed = dict(overrides or {})
    if not models or not 0 < budget <= MOST_SECONDS or (trials is not None and trials < 1):
        raise UsageError(f"expected a model, a budget from 0 to 30 days and a trial, got {models}, {budget}, {trials}")
    dataset = data if isinstance(data, Dataset) else open_dataset(data)
    for model in models:
        asked = requested(dataset, model, recipe, fixed)
        check_weights(asked.model, asked.recipe)
        if asked.recipe.task is not None or asked.recipe.probe is not None:
            raise UsageError(f"recipe search is for the training of classes, not for recipe {asked.recipe.name}")
    folder = free_folder(f"{dataset.name}-search") if out is None else Path(out)
    with owned(folder), resumed_by(f"the same command and --out {shlex.quote(str(folder))}"):
        world = World(device=devices.choose(device))
        job = _Search(dataset, models, recipe, fixed, folder, seed, world, on_event)
        done, spent = _tried(job, budget, trials)
        result = _with_test(job, done, spent)
        write_json(folder / "search.json", result.to_dict())
    return result


def _tried(job: _Search, budget: float, most: int | None) -> tuple[list[Trial], float]:
    """Run trials until the time or their number is used up; return them and the seconds of all."""
    import optuna

    study = _study(job)
    done = [Trial.model_validate(one.user_attrs["trial"]) for one in study.trials if "trial" in one.user_attrs]
    while (left := budget - _seconds_spent(study)) > 0 and (most is None or len(done) < most):
        trial = study.ask()
        model, changes = chosen(trial, job.models, job.recipe, job.overrides)
        tried = ", ".join(f"{name} {value}" for name, value in drawn(trial, changes).items())
        job.on_event(Message(f"trial {trial.number}: {model}, {tried}"))
        found = _run(job, trial, model, changes, time.monotonic() + left)
        done.append(found)
        trial.set_user_attr("trial", found.to_dict())
        if found.accuracy is None or found.loss is None:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        elif found.state == "pruned":
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            study.tell(trial, score(found.accuracy, found.loss))
        reached = "no epoch" if found.accuracy is None else f"validation accuracy {100 * found.accuracy:.1f} %"
        job.on_event(Message(f"trial {found.number}: {found.state}, {reached}"))
    return done, _seconds_spent(study)


def _seconds_spent(study: optuna.Study) -> float:
    """Sum the seconds of all trials; of one that was killed, those that it had kept."""
    facts = (one.user_attrs for one in study.trials)
    return float(sum(one["trial"]["seconds"] if "trial" in one else one.get("seconds", 0.0) for one in facts))


def score(accuracy: float, loss: float) -> float:
    """Return what trials are ordered by: the accuracy, and of equal ones the lower loss.

    >>> score(0.9, 0.5) > score(0.9, 0.6) and score(0.9001, 5.0) > score(0.9, 0.0)
    True
    """
    return accuracy + 1e-5 / (1 + loss)


def _study(job: _Search) -> optuna.Study:
    """Open the study of a folder; a trial that was interrupted is queued again, and resumes in its directory."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    path = str(job.folder / "search.journal")
    try:
        storage = JournalStorage(JournalFileBackend(path, lock_obj=JournalFileOpenLock(path)))
        before = next((one for one in optuna.get_all_study_summaries(storage) if one.study_name == "search"), None)
        study = optuna.create_study(
            storage=storage,
            study_name="search",
            load_if_exists=True,
            direction="maximize",
            sampler=optuna.samplers.TPESampler(seed=job.seed + (before.n_trials if before else 0), multivariate=False),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=2),
        )
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise RunError(f"{path}: not the journal of a search ({error}); choose another --out") from None
    asked = {"data": job.data.where, "models": list(job.models), "fixed": dict(job.overrides), "seed": job.seed}
    if study.user_attrs.get("search", asked) != asked:
        raise RunError(f"{job.folder}: holds a search of other data, models, values or seed; choose another --out")
    study.set_user_attr("search", asked)
    for trial in study.trials:
        if trial.state == optuna.trial.TrialState.RUNNING:
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
            study.enqueue_trial(trial.params)
    return study


class _Stopped(Exception):
    """A trial ends after an epoch."""


class _Watcher:
    """Receives the events of a trial: keeps its time, and stops it when it is out of time or worse than others."""

    def __init__(self, trial: optuna.Trial, epochs: int, deadline: float, forward: EventHandler) -> None:
        self.trial, self.epochs, self.deadline, self.forward = trial, epochs, deadline, forward
        self.state: Literal["complete", "out of time", "pruned"] = "complete"
        self.started = self.kept_at = time.monotonic()

    def keep_time(self, every: float = 0.0) -> None:
        """Keep the seconds so far in the journal."""
        if (now := time.monotonic()) >= self.kept_at + every:
            self.kept_at = now
            self.trial.set_user_attr("seconds", now - self.started)

    def __call__(self, event: Event) -> None:
        """Receive an event; the lines of one trial would hide those of the search."""
        self.keep_time(TIME_KEPT_EVERY)
        if isinstance(event, StepFinished | Progress):
            self.forward(event)
        late = time.monotonic() >= self.deadline
        if isinstance(event, StepFinished) and event.epoch > 1 and late:
            self.state = "out of time"
        if isinstance(event, EpochFinished):
            row = event.row
            self.trial.report(score(row.validation_accuracy, row.validation_loss), row.epoch)
            if row.epoch < self.epochs and late:
                self.state = "out of time"
            elif row.epoch < self.epochs and self.trial.should_prune():
                self.state = "pruned"
        if self.state != "complete":
            raise _Stopped


def _run(job: _Search, trial: optuna.Trial, model: str, changes: dict[str, str], deadline: float) -> Trial:
    digest = hashlib.sha256(json.dumps([model, changes], sort_keys=True).encode()).hexdigest()[:12]
    folder = job.folder / "trials" / f"{folder_name(model)}-{digest}"
    watcher, error = _Watcher(trial, 0, deadline, job.on_event), None
    try:
        asked = requested(job.data, model, job.recipe, changes)
        watcher.epochs = asked.recipe.epochs
        with _without_test(job, folder, asked, watcher) as prepared_job:
            train_job(prepared_job)
    except _Stopped:
        pass
    except (NonFiniteLoss, UsageError) as fault:
        error = str(fault)
    except BaseException:  # it is stopped, and resumes
        watcher.keep_time()
        raise
    rows = history.read_csv(folder / "metrics.csv") if (folder / "metrics.csv").is_file() else ()
    kept = [row for row in rows if row.best and error is None]  # the last is the epoch whose weights are saved
    return Trial(
        number=trial.number,
        run=str(folder),
        model=model,
        changes=changes,
        drawn=drawn(trial, changes),
        state=watcher.state if error is None else "failed",
        epochs=len(rows),
        accuracy=kept[-1].validation_accuracy if kept else None,
        loss=kept[-1].validation_loss if kept else None,
        seconds=time.monotonic() - watcher.started,
        error=error,
    )


@contextmanager
def _without_test(job: _Search, folder: Path, asked: Request, on_event: EventHandler) -> Iterator[Job]:
    """Yield the run of a trial, which does not know which images are in the test part."""
    with owned(folder):
        made = prepared(folder, asked, job.seed, job.world, on_event)
        split = replace(made.data.split, test=np.empty(0, np.int64))
        yield replace(made, data=replace(made.data, split=split))


def _with_test(job: _Search, done: Sequence[Trial], seconds: float) -> SearchResult:
    tried = [one for one in done if one.accuracy is not None and one.loss is not None and one.state != "pruned"]
    if not tried:
        raise UsageError(f"all {len(done)} trials failed; the last: {done[-1].error if done else 'none was run'}")
    best = max(tried, key=lambda one: score(one.accuracy or 0.0, one.loss or 0.0))
    folder = Path(best.run)
    job.on_event(
        Message(
            f"best of {len(done)} trial{'s' if len(done) > 1 else ''}: number {best.number}; evaluating its test part"
        )
    )
    with owned(folder):
        asked = requested(job.data, best.model, job.recipe, best.changes)
        made = prepared(folder, asked, job.seed, job.world, job.on_event)
        run = Run(folder)
        if run.facts.finished is None:
            finish_job(made, run, Outcome(history.read_csv(folder / "metrics.csv"), resumed=True))
        job.on_event(Progress(REPORTING, 0, 1))
        compare([run], made.data.store).to_html(folder / "report.html")
    found = run.evaluation
    assert isinstance(found, ClassificationResult)  # a recipe of targets is refused at the start
    return SearchResult(
        dataset=job.data.name,
        seconds=seconds,
        trials=tuple(done),
        best=best.number,
        run=best.run,
        validation_images=len(made.data.split.validation),
        test=found.accuracy,
    )


def chosen(
    trial: optuna.Trial, models: Sequence[str], recipe: str | Path | None, fixed: Mapping[str, str]
) -> tuple[str, dict[str, str]]:
    """Draw a model and the recipe values to change; values that are fixed are not drawn."""
    model = trial.suggest_categorical("model", list(models))
    own = recipe_for(model, recipe)
    factor = trial.suggest_float("learning rate", *RATES, log=True)
    side = float(fixed.get("input.size", own.input.size))
    side *= SIZES[trial.suggest_categorical("size", list(SIZES))]
    changes = {
        **_rates(own, factor),
        **AUGMENTATIONS[trial.suggest_categorical("augmentation", list(AUGMENTATIONS))],
        **HEADS[trial.suggest_categorical("head", list(HEADS))],
        "input.size": str(max(32, round(side / 16) * 16)),
    }
    return model, {**changes, **fixed}


def _rates(recipe: Recipe, factor: float) -> dict[str, str]:
    if not recipe.phases:
        return {"optimizer.learning_rate": f"{factor * recipe.optimizer.learning_rate:.4g}"}
    return {f"phases.{name}.learning_rate": f"{factor * one.learning_rate:.4g}" for name, one in recipe.phases.items()}


def drawn(trial: optuna.Trial, changes: Mapping[str, str]) -> dict[str, str]:
    """Return what a trial tries, in words."""
    rates = [value for key, value in changes.items() if key.endswith("learning_rate")]
    return {
        "learning rate": " ".join(rates) or "recipe",
        "size": changes["input.size"],
        "augmentation": trial.params["augmentation"],
        "head": trial.params["head"],
    }
