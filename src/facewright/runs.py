"""A run directory: what lies in it (docs/architecture.md), who owns it, and reading it back."""

from __future__ import annotations

import csv
import shlex
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from facewright import platforms
from facewright.data.records import Dataset
from facewright.data.sources import open_dataset
from facewright.errors import RunError, RunLocked
from facewright.evaluation.classification import ClassificationResult, Predictions, Ranked
from facewright.evaluation.label_issues import LabelIssues
from facewright.evaluation.results import Entry, Latency
from facewright.evaluation.targets import TargetPredictions, TaskResult, read_target_predictions
from facewright.events import EpochRow
from facewright.files import check_manifest, csv_text, plain_cell, read_json, read_text, write_atomic, write_json
from facewright.inference import Classifier
from facewright.records import Record
from facewright.training import history
from facewright.training.recipe import Recipe, parse, run_detector

SUSPICIOUS = "suspicious.json"
_RANKED = ("probability", "label_probability", "label_rank")  # columns of predictions.csv of very many classes
_PLACES = ("second", "third", "fourth", "fifth")
LISTED = (  # in the manifest, and compared with it when a run is opened; the model is compared when it is loaded
    "recipe.toml",
    "split.csv",
    "metrics.csv",
    "verification.csv",
    "evaluation.json",
    "predictions.csv",
    "validation_predictions.csv",
    "run.json",
)


class RunFacts(Record):
    """run.json: what a run was started with and what it took. None: not known yet."""

    where: str
    dataset: str
    fingerprint: str  # of the data: classes, paths, labels, pixels
    classes: tuple[str, ...]
    counts: dict[str, int]  # images in train, validation, test
    model: str
    stem: str
    recipe: str
    image_size: int
    seed: int
    threads: int
    processes: int
    precision: str
    versions: dict[str, str]
    machine: str
    started: str  # ISO 8601, UTC
    parameters: int
    flops: int  # of one image; a multiply-add counts as two
    weights: str | None = None  # public weights the run began with: a released name or a file
    weights_sha256: str | None = None
    notes: tuple[str, ...] = ()
    finished: str | None = None
    epochs: int | None = None
    images_seen: int | None = None
    train_seconds: float | None = None
    cpu_seconds: float | None = None
    peak_memory_bytes: int | None = None
    device: str | None = None  # cpu, cuda, mps, xpu
    deterministic: bool | None = None  # kernels that give the same bits each time; None: as the recipe says
    device_peak_memory_bytes: int | None = None  # of the tensors of the first process

    @classmethod
    def read(cls, folder: Path) -> RunFacts:
        """The facts of a run directory. Raises RunError: this is no run directory, or its run.json is damaged."""
        path = folder / "run.json"
        if not path.is_file():
            raise RunError(f"{folder}: not a run directory (no run.json); expected one that `train` made")
        if read_json(path, dict[str, Any], error=RunError).get("task") == "regression":
            raise RunError(f"{folder}: a fit of `facewright fit`, not a classifier; see its report.html")
        return read_json(path, cls, error=RunError)

    @property
    def start(self) -> str:
        """Return what `train` is asked for to begin such a run: architecture, or architecture@weights."""
        return self.model if self.weights is None else f"{self.model}@{self.weights}"

    @property
    def title(self) -> str:
        """As `start`, in few letters: of a file its name alone."""
        return self.model if self.weights is None else f"{self.model}@{Path(self.weights).name.split('.')[0]}"

    def write(self, folder: Path) -> None:
        """Save as run.json."""
        write_json(folder / "run.json", self.to_dict())


class Run:
    """A run that exists on disk; everything is read when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.facts = RunFacts.read(folder)
        check_manifest(folder, LISTED, error=RunError)

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}, model={self.facts.model!r}, recipe={self.facts.recipe!r})"

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe with every value resolved."""
        path = self._file("recipe.toml")
        return parse(read_text(path, error=RunError), str(path))

    def open_dataset(self) -> Dataset:
        """Open the data that the run was made with; the classes are in the run's order."""
        task = self.recipe.task
        data = open_dataset(self.facts.where, labels=task is None)
        return data.with_classes_first(self.facts.classes) if task is None else data.with_task(task)

    @property
    def _again(self) -> str:
        """The command that resumes the run, for messages."""
        return f"resume it with facewright train --resume --out {shlex.quote(str(self.folder))}"

    @cached_property
    def history(self) -> tuple[EpochRow, ...]:
        """A row an epoch."""
        path = self.folder / "metrics.csv"
        if not path.is_file():
            raise RunError(f"{self.folder}: no metrics.csv yet: the first epoch is not done; {self._again}")
        return history.read_csv(path)

    @cached_property
    def evaluation(self) -> ClassificationResult | TaskResult:
        """The numbers of the test part; of a run with targets in place of classes a `TaskResult`."""
        path = self._file("evaluation.json")
        if self.recipe.task is None:
            return read_json(path, ClassificationResult, error=RunError)
        return read_json(path, TaskResult, error=RunError)

    @property
    def classification(self) -> ClassificationResult:
        """As `evaluation`, of a run of classes. Raises RunError: its targets are others."""
        if isinstance(self.evaluation, TaskResult):
            raise self._no_classes()
        return self.evaluation

    @property
    def class_predictions(self) -> Predictions:
        """As `predictions`, of a run of classes. Raises RunError: its targets are others."""
        if isinstance(self.predictions, TargetPredictions):
            raise self._no_classes()
        return self.predictions

    def _no_classes(self) -> RunError:
        return RunError(f"{self.folder}: expected a run of classes, got one of {', '.join(self.facts.classes[:5])}")

    @cached_property
    def predictions(self) -> Predictions | TargetPredictions:
        """The predictions of the best weights for each test image."""
        path = self.folder / "predictions.csv"
        task = self.recipe.task
        return read_predictions(path, self.facts.classes) if task is None else read_target_predictions(path, task)

    @cached_property
    def label_issues(self) -> LabelIssues | None:
        """The label issues that `inspect --labels` found; None if the labels were not inspected."""
        path = self.folder / SUSPICIOUS
        return read_json(path, LabelIssues, error=RunError) if path.is_file() else None

    @cached_property
    def classifier(self) -> Classifier:
        """The best weights, ready for use."""
        return load_classifier(self.folder)

    def compared(self, name: str, latency: Latency) -> dict[str, Any]:
        """Return what a comparison lists of every run. Raises RunError: it is not finished."""
        facts = self.facts
        if facts.images_seen is None or facts.epochs is None or facts.train_seconds is None:
            raise RunError(f"{self.folder}: not finished; {self._again}")
        kept = ("model", "recipe", "parameters", "train_seconds")
        return {key: getattr(facts, key) for key in kept} | {
            "name": name,
            "run": str(self.folder),
            "file_bytes": (self.folder / "model.safetensors").stat().st_size,
            "latency": latency,
            "history": self.history,
        }

    def entry(self, name: str, latency: Latency) -> Entry:
        """Return this run, of classes, as one model of a comparison."""
        kept = ("image_size", "flops", "images_seen", "epochs", "peak_memory_bytes", "device_peak_memory_bytes")
        own = {key: getattr(self.facts, key) for key in kept}
        return Entry(
            **self.compared(name, latency), **own, test=self.classification, predictions=self.class_predictions
        )

    def summary(self) -> dict[str, Any]:
        """As `train --json` prints it."""
        facts = self.facts
        kept = ("model", "recipe", "seed", "dataset", "parameters", "flops", "images_seen", "epochs", "train_seconds")
        return {
            "run": str(self.folder),
            **{key: getattr(facts, key) for key in kept},
            "test": self.evaluation.to_dict(),
        }

    def _file(self, name: str) -> Path:
        """Raise RunError where a file of a finished run is not there."""
        if not (self.folder / name).is_file():
            raise RunError(f"{self.folder}: no {name}: the run is not finished; {self._again}")
        return self.folder / name


def load_classifier(model: Path, device: str | None = "cpu", detector: str | None = None) -> Classifier:
    """Load the classifier of a run directory or of a model file.

    Args:
        detector: as of `Classifier`. None: of a run, the one that it was trained with.
    Raises:
        BundleError: it is neither, or the file is damaged.
    """
    return Classifier.load(model, device, detector=run_detector(model) if detector is None else detector)


@contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Hold a run directory for this process; the lock is the system's and dies with the process.

    A folder that was made here and in which nothing was written is removed again.

    Raises:
        RunError: the folder cannot be made or written to. RunLocked: another living process holds it.
    """
    fresh = not folder.exists()
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise RunLocked(f"{folder}: another process is training in it; wait for it or choose another --out") from None
    except OSError as error:
        why = "there is a file of this name" if folder.is_file() else error.strerror or error
        raise RunError(f"{folder}: cannot be used as a run directory ({why}); choose another --out") from None
    try:
        yield
    finally:
        if fresh and [path.name for path in folder.glob("*")] == [".lock"]:
            platforms.remove_locked(folder)
        lock.release()


def seen_images(folder: Path, digests: Sequence[str]) -> dict[str, int]:
    """Count images that a run was made with, by their digests, in its "train" and "validation" parts where any."""
    path = folder / "split.csv"
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as lines:
        part_of = {row["group"]: row["part"] for row in csv.DictReader(lines)}
    found = Counter(part_of.get(digest, "") for digest in digests)
    return {part: found[part] for part in ("train", "validation") if found[part]}


def write_predictions(path: Path, predictions: Predictions, classes: tuple[str, ...]) -> None:
    """Write `path,label,predicted,p_<class>…`, a row for each image; probabilities keep every bit.

    Of too many classes to keep all: `path,label,predicted,probability,label_probability,label_rank` and the next most
    probable classes, `second,second_probability…`.
    """
    ranked, scores = predictions.ranked, predictions.probabilities
    header, cells = [f"p_{name}" for name in classes], scores
    if scores is None:
        header = [*_RANKED, *(key for word in _PLACES for key in (word, f"{word}_probability"))]
    names = zip(predictions.paths, predictions.labels, predictions.predicted, strict=True)
    rows = (
        [
            name,
            classes[label],
            classes[guess],
            *(_ranked_cells(ranked, row, classes) if cells is None else map(float, cells[row])),
        ]
        for row, (name, label, guess) in enumerate(names)
    )
    write_atomic(path, csv_text(["path", "label", "predicted", *header], rows))


def _ranked_cells(ranked: Ranked, row: int, classes: tuple[str, ...]) -> list[str | float]:
    top, values = ranked.top[row].tolist(), ranked.probabilities[row].tolist()
    rest = [cell for number, value in zip(top[1:], values[1:], strict=True) for cell in (classes[number], value)]
    return [values[0], float(ranked.of_truth[row]), int(ranked.rank[row]), *rest]


def read_predictions(path: Path, classes: Sequence[str]) -> Predictions:
    """Read back what `write_predictions` wrote. Raises RunError: the file is missing or is not such a table."""
    paths, labels, values = [], array("q"), array("d")
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            rows = csv.reader(lines)
            header = next(rows, [])
            wide = header[3] != _RANKED[0]
            names = [name.removeprefix("p_") for name in header[3:]] if wide else classes
            number = {name: place for place, name in enumerate(names)}
            for row in rows:
                if len(row) != len(header):
                    raise ValueError(f"expected {len(header)} cells in a row, got {len(row)}")
                name, label, predicted, *cells = row
                paths.append(plain_cell(name))
                labels.append(number[plain_cell(label)])
                if not wide:
                    cells[3::2] = [str(number[plain_cell(cell)]) for cell in cells[3::2]]
                    cells.insert(0, str(number[plain_cell(predicted)]))
                values.extend(map(float, cells))
    except (OSError, ValueError, IndexError, KeyError) as error:
        raise RunError(f"{path}: no table of predictions ({error}); evaluate the run again") from None
    table, truth = np.array(values).reshape(len(paths), -1), np.array(labels, np.int64)
    if wide:
        return Predictions(tuple(paths), truth, table)
    top, probabilities = table[:, [0, *range(4, 12, 2)]].astype(np.int64), table[:, [1, *range(5, 12, 2)]]
    return Predictions(tuple(paths), truth, None, Ranked(top, probabilities, table[:, 2], table[:, 3].astype(np.int64)))
