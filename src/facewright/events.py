"""Events: what a long job reports while it works, and the handler that receives them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")
BLOCK = 256  # rows between two reports of progress


@dataclass(frozen=True)
class EpochRow:
    """One row of metrics.csv."""

    epoch: int  # from 1
    phase: str
    images_seen: int  # by training, since the start of the run
    steps: int  # as above
    image_size: int  # side in pixels the epoch was trained at
    learning_rate: float  # at the last step of the epoch
    train_loss: float
    train_accuracy: float  # on augmented images, while the weights changed
    validation_loss: float
    validation_accuracy: float
    validation_score: float  # of the metric that chooses the best epoch, the higher the better
    seconds: float  # wall seconds of training and validating, since the start of the run
    images_per_second: float  # of the training part of this epoch
    best: bool  # the best on the chosen metric so far


@dataclass(frozen=True)
class RunStarted:
    """A run starts, or resumes."""

    run: str
    model: str
    recipe: str
    epochs: int
    steps_per_epoch: int
    images: int  # of the training part


@dataclass(frozen=True)
class StepFinished:
    """One optimizer step was taken."""

    epoch: int  # from 1
    epochs: int
    step: int  # within the epoch, from 1
    steps: int
    loss: float  # mean over the epoch so far
    accuracy: float  # as above
    images_per_second: float
    seconds_left: float  # of the whole run, estimated


@dataclass(frozen=True)
class EpochFinished:
    """An epoch was trained and validated."""

    row: EpochRow


@dataclass(frozen=True)
class RunEvaluated:
    """The best weights were evaluated on the test part."""

    metrics: Mapping[str, float]  # by name: "accuracy/test"


@dataclass(frozen=True)
class Message:
    """One line worth showing."""

    text: str


@dataclass(frozen=True)
class Progress:
    """A long task other than training: decoding, evaluation."""

    task: str
    done: int
    total: int
    seconds: float = 0.0  # since the task began, of one that is shown again because nothing happened


Event = RunStarted | StepFinished | EpochFinished | RunEvaluated | Message | Progress
EventHandler = Callable[[Event], None]


def ignore_event(_event: Event) -> None:
    """Do nothing: the handler where none is given."""


def counted(task: str, items: Sequence[T], on_event: EventHandler) -> Iterator[T]:
    """Yield items; report before each how many are done, and at the end that all are."""
    for done, item in enumerate(items):
        on_event(Progress(task, done, len(items)))
        yield item
    on_event(Progress(task, len(items), len(items)))


def in_blocks(task: str, count: int, on_event: EventHandler, most: int | None = None) -> Iterator[slice]:
    """Yield slices of `BLOCK` rows or of `most`, if that is less, the last one shorter; report as `counted`."""
    block = BLOCK if most is None else min(BLOCK, most)
    for start in range(0, count, block):
        on_event(Progress(task, start, count))
        yield slice(start, min(start + block, count))
    on_event(Progress(task, count, count))


download_handler: ContextVar[EventHandler] = ContextVar("download_handler", default=ignore_event)
"""The handler of downloads at first use, which no caller passes one to; the command line sets it."""

licence_question: ContextVar[Callable[[str], bool]] = ContextVar("licence_question", default=lambda question: False)
"""Answers if a licence is accepted; the command line asks on a terminal. Default: it is not."""
