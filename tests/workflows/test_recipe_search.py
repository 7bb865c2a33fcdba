"""Recipe search: the validation part decides, the test part is read once, and a search that stopped goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("optuna")

from facewright import search
from facewright.cli.main import main
from facewright.cli.search import describe_search
from facewright.data.store import PixelStore
from facewright.errors import Interrupted, RunError, UsageError
from facewright.events import EpochFinished, EpochRow, Message, StepFinished
from facewright.metrics.intervals import Rate
from facewright.runs import Run
from facewright.training import history
from facewright.workflows import recipe_search, training_jobs
from facewright.workflows.recipe_search import SearchResult, Trial
from facewright.workflows.training_jobs import Outcome
from facewright.workflows.training_requests import Job

DATA = "synthetic:faces?identities=2&images=20&size=32"
QUICK = {"input.size": "32", "training.epochs": "2", "training.precision": "float32", "training.batch": "8"}
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # of Optuna's journal


def quick(out: Path, trials: int, **options: Any) -> SearchResult:
    return search(DATA, models=["plain_cnn"], budget=600, trials=trials, out=out, overrides=QUICK, **options)


@pytest.fixture(autouse=True)
def no_page(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the page, which takes most of the time, but in the test of the command."""
    if "capsys" not in request.fixturenames:
        page = SimpleNamespace(to_html=lambda path: path)
        monkeypatch.setattr(recipe_search, "compare", lambda runs, store: page)


@pytest.fixture
def read_rows(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Each row that is read, as ("trials" or "end", row); a row of the test part raises before the end."""
    seen: list[tuple[str, int]] = []
    test: set[int] = set()
    when = ["trials"]
    read, prepare, last = PixelStore.batch, training_jobs.prepare, recipe_search._with_test

    def batch(store: PixelStore, indices: np.ndarray) -> Any:
        seen.extend((when[0], int(row)) for row in indices)
        assert when[0] == "end" or not test & set(indices.tolist()), "the test part was read"
        return read(store, indices)

    def prepared(*words: Any) -> Any:
        made = prepare(*words)
        test.update(made.split.test.tolist())
        return made

    def at_the_end(*words: Any) -> Any:
        when[0] = "end"
        return last(*words)

    monkeypatch.setattr(PixelStore, "batch", batch)
    monkeypatch.setattr(training_jobs, "prepare", prepared)
    monkeypatch.setattr(recipe_search, "_with_test", at_the_end)
    return seen


def test_the_test_part_is_read_once_for_the_best(tmp_path: Path, read_rows: list[tuple[str, int]]) -> None:
    found = quick(tmp_path / "s", 2)
    assert len(found.trials) == 2
    run = Run(Path(found.run))
    best = found.trials[found.best]
    assert best.accuracy == max(one.accuracy or 0 for one in found.trials)
    kept = [row for row in run.history if row.best][-1]
    assert (best.accuracy, best.loss) == (kept.validation_accuracy, kept.validation_loss)
    assert found.test == run.evaluation.accuracy and found.test.n == 8
    at_the_end = [row for when, row in read_rows if when == "end"]
    assert len(at_the_end) >= 8
    tested = list((tmp_path / "s" / "trials").glob("*/evaluation.json"))
    assert tested == [Path(found.run) / "evaluation.json"]
    assert json.loads((tmp_path / "s" / "search.json").read_text())["best"] == found.best
    for one in found.trials:
        assert one.changes["training.batch"] == "8" and one.changes["input.size"] == "32"  # fixed


def test_a_search_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, calls = recipe_search.train_job, []

    def interrupted(job: Job) -> Any:
        calls.append(job.folder)
        if len(calls) == 2:
            raise Interrupted("asked to stop")
        return own(job)

    monkeypatch.setattr(recipe_search, "train_job", interrupted)
    with pytest.raises(Interrupted):
        quick(tmp_path / "s", 2)
    found = quick(tmp_path / "s", 2)
    assert calls[1] == calls[2] and len(calls) == 3  # the interrupted trial, in its directory
    assert [one.run for one in found.trials] == [str(calls[0]), str(calls[1])]
    with pytest.raises(RunError, match="another --out"):
        search(DATA, models=["plain_cnn"], trials=2, out=tmp_path / "s", overrides=QUICK, seed=1)


def scripted(accuracies: dict[int, float], clock: Callable[[], None] = lambda: None) -> Callable[[Job], Outcome]:
    """A training whose validation accuracy is that of its trial at the first epoch, which is kept, and less later."""
    numbers = iter(range(100))

    def train_job(job: Job) -> Outcome:
        number = next(numbers)
        rows: list[EpochRow] = []
        training_jobs._saving(job)(job.network)
        for epoch in range(1, job.recipe.epochs + 1):
            best = epoch == 1
            value = accuracies[number] - (0.0 if best else 0.05)
            rows.append(
                EpochRow(epoch, "train", 8 * epoch, epoch, 32, 0.1, 1.0, 0.5, 1.0, value, value, 1.0, 1.0, best=best)
            )
            history_text = history.to_csv(rows)
            (job.folder / "metrics.csv").write_text(history_text)
            clock()
            job.on_event(EpochFinished(rows[-1]))
        return Outcome(tuple(rows), resumed=False)

    return train_job


@pytest.mark.parametrize(("epochs", "state"), [("9", "pruned"), ("2", "complete")])  # what is over is not cut short
def test_a_bad_trial_ends_early(epochs: str, state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe_search, "train_job", scripted({0: 0.8, 1: 0.7, 2: 0.9, 3: 0.6, 4: 0.1, 5: 0.85}))
    found = search(DATA, models=["plain_cnn"], trials=6, out=tmp_path / "s",
                   overrides={**QUICK, "training.epochs": epochs})  # fmt: skip
    assert [one.state for one in found.trials] == ["complete"] * 4 + [state, "complete"]
    assert [one.accuracy for one in found.trials] == [0.8, 0.7, 0.9, 0.6, 0.1, 0.85]  # of the epoch that is kept
    whole = int(epochs)
    assert [one.epochs for one in found.trials] == [whole] * 4 + [2, whole]  # one epoch of warm-up
    assert found.best == 2


def test_the_budget_ends_a_trial_after_its_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def pass_time() -> None:
        now[0] += 10

    monkeypatch.setattr(recipe_search.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(recipe_search, "train_job", scripted({0: 0.8, 1: 0.9}, pass_time))
    messages: list[object] = []
    found = search(
        DATA, models=["plain_cnn"], budget=45, out=tmp_path / "s", overrides={**QUICK, "training.epochs": "3"},
        on_event=messages.append,
    )  # fmt: skip
    facts = [(one.state, one.epochs, one.seconds) for one in found.trials]
    assert facts == [("complete", 3, 30), ("out of time", 2, 20)]
    assert found.best == 1 and found.seconds == 50
    assert sum(isinstance(one, Message) and one.text.startswith("trial") for one in messages) == 4


def test_the_budget_ends_a_trial_within_its_second_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def pass_time(event: object) -> None:
        now[0] += 40.0 if isinstance(event, StepFinished) and event.epoch == 2 else 0.0

    monkeypatch.setattr(recipe_search.time, "monotonic", lambda: now[0])
    few = {**QUICK, "training.epochs": "3"}
    found = search(DATA, models=["plain_cnn"], budget=30, out=tmp_path / "s", overrides=few, on_event=pass_time)
    (trial,) = found.trials
    assert (trial.state, trial.epochs) == ("out of time", 1) and found.test.n == 8


@pytest.mark.parametrize(("fault", "kept"), [(Interrupted("asked to stop"), 45.0), (None, 36.0)])
def test_the_time_of_a_trial_that_was_stopped_counts(
    fault: Exception | None, kept: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second trial is asked to stop, or killed: then what it did since it kept its time is lost."""
    from optuna import Trial

    now, calls = [0.0], []
    train = scripted({0: 0.8, 1: 0.9, 2: 0.9})
    monkeypatch.setattr(recipe_search.time, "monotonic", lambda: now[0])

    def train_job(job: Job) -> Outcome:
        calls.append(job)
        if len(calls) != 2:
            now[0] += 100
            return train(job)
        for _ in range(10):
            now[0] += 4
            job.on_event(StepFinished(1, 2, 1, 9, 1.0, 0.5, 1.0, 1.0))
        now[0] += 5
        if fault is None:
            gone.setattr(Trial, "set_user_attr", lambda *_: None)
        raise fault or KeyboardInterrupt

    monkeypatch.setattr(recipe_search, "train_job", train_job)
    few = {"models": ["plain_cnn"], "out": tmp_path / "s", "overrides": QUICK}
    with pytest.raises((Interrupted, KeyboardInterrupt)) as stopped, monkeypatch.context() as gone:
        search(DATA, budget=200, **few)
    assert fault is None or f"--out {tmp_path / 's'}" in str(stopped.value)
    found = search(DATA, budget=200, **few)  # 100 - kept are left: one trial more, not two
    assert len(found.trials) == 2 and found.seconds == 200 + kept


def test_a_trial_that_fails_is_one_of_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, calls = recipe_search.train_job, []

    def failing(job: Job) -> Any:
        calls.append(job)
        if len(calls) == 1:
            raise UsageError("does not fit")
        return own(job)

    monkeypatch.setattr(recipe_search, "train_job", failing)
    found = quick(tmp_path / "s", 2)
    assert [one.state for one in found.trials] == ["failed", "complete"] and found.trials[0].error == "does not fit"
    monkeypatch.setattr(recipe_search, "train_job", lambda job: (_ for _ in ()).throw(UsageError("never")))
    with pytest.raises(UsageError, match="never"):
        quick(tmp_path / "all", 2)


def test_a_journal_that_is_none_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "search.journal").write_text("not json\n{}\n")
    with pytest.raises(RunError, match="journal"):
        quick(tmp_path / "s", 1)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changes = [word for key, value in QUICK.items() for word in ("--set", f"{key}={value}")]
    words = ["search", DATA, "--models", "plain_cnn", "--budget", "10m", "--trials", "1", "--out", str(tmp_path / "s")]
    assert main([*words, "-q", *changes]) == 0
    assert "read once" in capsys.readouterr().out
    assert main(["search", DATA, "--budget", "soon"]) == 1
    assert "30m" in capsys.readouterr().err


def test_the_table_of_two_models_fits_eighty_columns() -> None:
    drawn = {"learning rate": "0.001234", "size": "224", "augmentation": "recipe", "head": "dropout"}
    trials = [
        Trial(
            number=number, run="r", model=model, changes={}, drawn=drawn, state=state, epochs=12, accuracy=accuracy,
            loss=0.5, seconds=9.0,
        )
        for number, model, state, accuracy in (
            (0, "resnet18", "complete", 0.5),
            (1, "mobilenet_v2@/a/long/path/to/weights.safetensors", "pruned", None),
            (2, "resnet18", "complete", 0.75),
        )
    ]  # fmt: skip
    rate = Rate(value=0.7, low=0.6, high=0.8, n=40)
    found = SearchResult(
        dataset="d", seconds=27.0, trials=tuple(trials), best=2, run="r", validation_images=20, test=rate
    )
    lines = describe_search(found).splitlines()
    assert max(map(len, lines[:4])) <= 80
    assert lines[1].split()[:3] == ["2", "75.0", "%"] and "12, pruned" in lines[3]


def test_the_options_of_the_recipe_reach_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def fake(data: str, **options: Any) -> SearchResult:
        asked.append(options)
        raise UsageError("seen")

    monkeypatch.setattr(recipe_search, "search", fake)
    assert main(["search", "photos", "--detector", "dlib", "--size", "64", "--precision", "float32"]) == 1
    expected = {"input.size": "64", "training.precision": "float32", "input.detector": "dlib"}
    assert asked[0]["overrides"] == expected
