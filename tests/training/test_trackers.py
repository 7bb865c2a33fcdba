"""Trackers against the real programs: each gets the rows of metrics.csv and the numbers of the test part."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from facewright import train
from facewright.errors import UnknownName, UsageError
from facewright.events import EpochFinished, EpochRow, Event, Message, RunEvaluated, RunStarted, ignore_event
from facewright.runs import Run
from facewright.training import trackers
from facewright.training.trackers import TRACKERS, TrackedRun, chosen_trackers, curves, tracking

REAL = [name for name, opened in TRACKERS.items() if opened is not None]
Points = dict[str, list[tuple[int, float]]]  # curve -> (images seen, value)
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of MLflow and SQLAlchemy, between themselves


def row(epoch: int, images: int) -> EpochRow:
    return EpochRow(epoch, "train", images, epoch, 32, 0.1, 1.5, 0.4, 1.2, 0.55, -1.2, 75.0, 41.5, best=True)


def of_tensorboard(run: Run) -> Points:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(run.folder / "events"))
    found.Reload()
    return {name: [(one.step, one.value) for one in found.Scalars(name)] for name in found.Tags()["scalars"]}


def of_mlflow(run: Run) -> Points:
    from mlflow import MlflowClient

    client = MlflowClient()
    place = client.get_experiment_by_name("facewright").experiment_id
    (entry,) = client.search_runs([place], "tags.`facewright.folder` = '" + str(run.folder) + "'")
    assert entry.info.status == "FINISHED" and entry.info.run_name == run.facts.title
    assert entry.data.params["recipe.training.epochs"] == "2" and entry.data.params["model"] == "plain_cnn"
    histories = {name: client.get_metric_history(entry.info.run_id, name) for name in entry.data.metrics}
    return {name: [(one.step, one.value) for one in rows] for name, rows in histories.items()}


def of_wandb(run: Run) -> Points:
    from wandb.proto import wandb_internal_pb2

    (path,) = (run.folder / "wandb").glob("offline-run-*/run-*.wandb")
    points = Points()
    for data in records(path.read_bytes()):
        record = wandb_internal_pb2.Record.FromString(data)
        items = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
        for name, value in items.items():
            if not name.startswith("_"):
                points.setdefault(name, []).append((items["_step"], value))
    return points


def records(data: bytes) -> Iterator[bytes]:
    """Read LevelDB's log format: blocks of 32 KiB, in each checksum, length and kind before the bytes of a record."""
    assert data[:4] == b":W&B"
    at, parts = 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:  # no room for a header: the next block
            at += 32768 - at % 32768
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield parts
            parts = b""


READ: Mapping[str, Callable[[Run], Points]] = {"tensorboard": of_tensorboard, "mlflow": of_mlflow, "wandb": of_wandb}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A run of two epochs, tracked by all of them."""
    for name in ("tensorboard", "mlflow", "wandb"):
        pytest.importorskip(name)
    folder = tmp_path_factory.mktemp("tracked")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        changes = {"input.size": "32", "training.epochs": "2", "training.precision": "float32"}
        yield train(
            "synthetic:faces?identities=2&images=8&size=32", model="plain_cnn", out=folder / "run", report=False,
            overrides=changes, track=["csv", *REAL],
        )  # fmt: skip


@pytest.mark.parametrize("name", REAL)
def test_a_tracker_holds_every_epoch_and_the_test_part(run: Run, name: str) -> None:
    points, test = READ[name](run), run.evaluation
    for curve in curves(run.history[0]):
        expected = [(row.images_seen, pytest.approx(curves(row)[curve])) for row in run.history]
        assert points.pop(curve) == expected
    last = run.history[-1].images_seen
    assert points.pop("loss/test") == [(last, pytest.approx(test.log_loss))]
    assert points.pop("accuracy/test") == [(last, pytest.approx(test.accuracy.value))]
    assert points.pop("macro F1/test") == [(last, pytest.approx(test.macro_f1.value))]
    assert not points


def test_a_resumed_run_continues_its_mlflow_run(tmp_path: Path, run: Run) -> None:
    from mlflow import MlflowClient

    subject = TrackedRun(tmp_path, "plain_cnn", "2026-01-01", {"seed": 0})
    with pytest.raises(KeyboardInterrupt), tracking(["mlflow"], subject, ignore_event) as log:
        log(EpochFinished(row(1, images=10)))
        raise KeyboardInterrupt
    client = MlflowClient()  # of the server that the fixture names
    mine = [client.get_experiment_by_name("facewright").experiment_id], f"tags.`facewright.run` = '{subject.id}'"
    assert [one.info.status for one in client.search_runs(*mine)] == ["FAILED"]
    with tracking(["mlflow"], subject, ignore_event) as log:
        log(EpochFinished(row(2, images=20)))
    (one,) = client.search_runs(*mine)
    assert one.info.status == "FINISHED"
    assert [point.step for point in client.get_metric_history(one.info.run_id, "loss/train")] == [10, 20]


class Failing:
    """A tracker whose server goes away after the first epoch."""

    calls = 0
    closed = False

    def __init__(self, run: TrackedRun) -> None:
        pass

    def log(self, values: Mapping[str, float], images_seen: int) -> None:
        Failing.calls += 1
        if Failing.calls > 1:
            raise ConnectionError("gone")

    def close(self, *, succeeded: bool) -> None:
        Failing.closed = True


def test_a_tracker_that_fails_ends_its_curves_and_not_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers, "TRACKERS", {"failing": Failing})
    seen: list[Event] = []
    with tracking(["failing"], TrackedRun(tmp_path, "a", "b", {}), seen.append) as log:
        for number in (1, 2, 3):
            log(EpochFinished(row(number, images=number)))
        log(RunEvaluated({"accuracy/test": 1.0}))
    messages = [event for event in seen if isinstance(event, Message)]
    assert len(messages) == 1 and "failing" in messages[0].text and "gone" in messages[0].text
    assert (Failing.calls, Failing.closed) == (2, False)


def test_a_tracker_that_cannot_start_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(run: TrackedRun) -> Failing:
        raise RuntimeError("no server")

    monkeypatch.setattr(trackers, "TRACKERS", {"refusing": refusing})
    with (
        pytest.raises(UsageError, match="no server"),
        tracking(["refusing"], TrackedRun(tmp_path, "a", "b", {}), ignore_event) as log,
    ):
        log(RunStarted("run", "model", "recipe", 1, 1, 1))


def test_trackers_are_checked_before_anything_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownName, match="mlflow"):
        chosen_trackers(["mlfow"])
    assert chosen_trackers(["csv"]) == ()
    monkeypatch.setattr("facewright.errors.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"facewright\[wandb\]"):
        chosen_trackers(["csv", "wandb"])
