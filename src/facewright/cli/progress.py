"""Progress of a long command: a live line on a terminal, a plain line now and then anywhere else.

Everything goes to standard error, and nothing that ends within two seconds shows a bar.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from facewright.cli.output import harmless, is_speaker, number_of, say
from facewright.events import (
    EpochFinished,
    Event,
    EventHandler,
    Message,
    Progress,
    RunStarted,
    StepFinished,
    download_handler,
    licence_question,
)

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

PATIENCE = 2.0  # seconds before the first sign of progress
PLAIN_EVERY = 15.0  # seconds between plain lines
REPEAT_EVERY = 10.0  # seconds after which a step that goes on is shown again
REFRESHES = 4  # a second, of the live line
ROOM_FOR_BAR = 100  # columns; on a narrower terminal the words alone fit
SLOW_PACKAGES = {"torch": "PyTorch", "sklearn": "scikit-learn", "mlflow": "MLflow"}  # over a second each
Clock = Callable[[], float]
P = ParamSpec("P")
R = TypeVar("R")


def duration(seconds: float) -> str:
    """Return seconds as text.

    >>> duration(3.4), duration(75), duration(3 * 3600 + 120)
    ('3 s', '1:15', '3:02:00')
    """
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def describe(event: StepFinished) -> str:
    """Return the facts of a training step in one line.

    >>> describe(StepFinished(2, 20, 5, 25, 1.234, 0.5, 20.04, 90.0))
    'epoch 2/20  step 5/25  loss 1.234  accuracy 50.0 %  20.0 images/s  1:30 left'
    """
    return (
        f"epoch {event.epoch}/{event.epochs}  step {event.step}/{event.steps}  loss {event.loss:.3f}"
        f"  accuracy {100 * event.accuracy:.1f} %  {event.images_per_second:.1f} images/s"
        f"  {duration(event.seconds_left)} left"
    )


@contextmanager
def event_printer(quiet: bool = False) -> Iterator[EventHandler]:
    """Yield an `on_event` that shows events while the block runs; the terminal is restored, also after an error.

    Processes of torchrun other than the first are always quiet.
    """
    if quiet or not is_speaker():
        yield lambda event: None
    elif sys.stderr.isatty():
        with _live_progress() as progress, Patient(Live(progress)) as printer, _downloads_shown(printer, progress):
            yield printer
    else:
        with Patient(Plain()) as printer:
            yield printer


def with_progress(workflow: Callable[P, R], quiet: bool) -> Callable[P, R]:
    """Return a workflow that shows its events while it runs."""

    def run(*arguments: P.args, **options: P.kwargs) -> R:
        with event_printer(quiet) as on_event:
            return workflow(*arguments, **{**options, "on_event": on_event})  # type: ignore[arg-type]

    return run


@contextmanager
def slow_imports_shown(command: str) -> Iterator[None]:
    """Say, while the block runs, that a package whose import takes seconds is loaded, before it is: once.

    A finder of modules, because every command passes here and each imports only what it needs.
    """
    finder = _SlowImports(command)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


@dataclass
class _SlowImports:
    command: str
    said: bool = False

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> None:
        """Find nothing; the finders after this one do."""
        if not self.said and name in SLOW_PACKAGES:
            self.said = True  # so that the next line does not come here again
            if find_spec(name) is not None:
                say(f"{self.command}: loading {SLOW_PACKAGES[name]}")


@contextmanager
def _downloads_shown(printer: EventHandler, progress: RichProgress) -> Iterator[None]:
    """Show downloads at first use in the live line, which makes way for the question whether a licence is accepted."""
    ask = licence_question.get()

    def asked(terms: str) -> bool:
        progress.stop()
        try:
            return ask(terms)
        finally:
            progress.start()

    before = download_handler.set(printer), licence_question.set(asked)
    try:
        yield
    finally:
        download_handler.reset(before[0])
        licence_question.reset(before[1])


@contextmanager
def counter(what: str, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """Show the progress of work that only counts: the block gets a function of (done, total)."""
    with event_printer(quiet) as on_event:
        yield lambda done, total: on_event(Progress(what, done, total))


@dataclass
class Plain:
    """Print a line for each epoch, and one every `PLAIN_EVERY` seconds of anything else."""

    clock: Clock = time.monotonic
    _subject: str = ""
    _due: float = 0.0

    def __call__(self, event: Event) -> None:
        match event:
            case StepFinished():
                if self._is_due("training", PLAIN_EVERY):
                    say(describe(event))
            case Progress():
                if self._is_due(event.task, PATIENCE, again=event.seconds > 0):
                    say(text_of(event))
            case _:
                for line in lines_of(event):
                    say(line)

    def _is_due(self, subject: str, patience: float, *, again: bool = False) -> bool:
        """Return True when a line is due; a new subject waits `patience` seconds, one that is shown again does not."""
        now = self.clock()
        if subject != self._subject:
            self._subject, self._due = subject, now + patience
        if now < self._due and not again:
            return False
        self._due = now + PLAIN_EVERY
        return True


@dataclass
class Live:
    """Redraw one line: what is done, what is left."""

    progress: RichProgress
    clock: Clock = time.monotonic
    _subject: str = ""
    _since: float = 0.0
    _drawn: str = ""
    _task: TaskID | None = field(default=None)

    def __call__(self, event: Event) -> None:
        match event:
            case StepFinished():
                done = (event.epoch - 1) * event.steps + event.step
                self._draw("training", describe(event), done, event.epochs * event.steps)
            case Progress():
                self._draw(event.task, text_of(event), event.done, event.total)
            case _:
                for line in lines_of(event):
                    self.progress.console.print(harmless(line, sys.stderr), markup=False, highlight=False)

    def _draw(self, subject: str, text: str, done: int, total: int) -> None:
        now = self.clock()
        if subject != self._subject:
            self._subject, self._since = subject, now
        if done >= total:
            self._wipe()
            return
        if subject != self._drawn:  # the line of the task before stays for as long: it may come back
            if now - self._since < PATIENCE:
                return
            self._wipe()
            self._drawn = subject
            self._task = self.progress.add_task(text, total=total)
        assert self._task is not None
        self.progress.update(self._task, description=text, completed=done, total=total)

    def _wipe(self) -> None:
        if self._task is not None:
            self.progress.remove_task(self._task)
            self._task, self._drawn = None, ""


class Patient:
    """Shows progress again if nothing else happened for `PATIENCE` seconds, then every `REPEAT_EVERY` seconds.

    So a step that is announced as `Progress(task, 0, 1)` and takes long is named, then with the seconds so far, and a
    short one is not. A timer that finds that something happened meanwhile waits for the rest of the time.

    Args:
        printer: prints the events, also those that are shown again. clock: seconds. timer: as `threading.Timer`.
    """

    def __init__(
        self, printer: EventHandler, clock: Clock = time.monotonic, timer: type[threading.Timer] = threading.Timer
    ) -> None:
        self.printer, self._clock, self._new_timer = printer, clock, timer
        self._lock = threading.RLock()
        self._timer: threading.Timer | None = None
        self._open: Progress | None = None  # what goes on
        self._since = self._due = 0.0  # when its task began, and when it is shown again
        self._fires = 0.0  # when the timer ends

    def __enter__(self) -> Patient:
        self(Progress("loading", 0, 1))
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._open = None
            if self._timer is not None:
                self._timer.cancel()

    def __call__(self, event: Event) -> None:
        with self._lock:
            self.printer(event)
            now, before = self._clock(), self._open
            self._open = event if isinstance(event, Progress) and event.done < event.total else None
            if self._open is not None:
                self._since = self._since if before is not None and before.task == self._open.task else now
                self._due = now + (PATIENCE if now - self._since < PATIENCE else REPEAT_EVERY)
                if self._timer is None or self._due < self._fires:  # a timer of a long step would be too late
                    self._wait(self._due - now)

    def _wait(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._fires = self._clock() + seconds
        self._timer = self._new_timer(seconds, self._again)
        self._timer.daemon = True
        self._timer.start()

    def _again(self) -> None:
        with self._lock:
            self._timer, now = None, self._clock()
            if self._open is None:
                return
            if now >= self._due:
                self._due = now + REPEAT_EVERY
                self.printer(replace(self._open, seconds=now - self._since))
            self._wait(self._due - now)


def text_of(event: Progress) -> str:
    """Return progress in words; of one step its name, and of what goes on for long the seconds so far.

    >>> text_of(Progress("decoding", 20, 1300)), text_of(Progress("exporting", 0, 1))
    ('decoding: 20/1,300', 'exporting')
    >>> text_of(Progress("exporting", 0, 1, seconds=72.3))
    'exporting: 1:12 so far'
    """
    facts = [] if event.total == 1 else [f"{event.done:,}/{event.total:,}"]
    facts += [f"{duration(event.seconds)} so far"] if event.seconds >= REPEAT_EVERY else []
    return f"{event.task}: {', '.join(facts)}" if facts else event.task


def lines_of(event: Event) -> list[str]:
    """Return the lines that an event prints."""
    match event:
        case RunStarted():
            return [
                f"training {event.model} by {event.recipe}: {number_of(event.epochs, 'epoch')} of"
                f" {number_of(event.steps_per_epoch, 'step')}, {number_of(event.images, 'image')}, into {event.run}"
            ]
        case EpochFinished(row=row):
            return [
                f"epoch {row.epoch}  train loss {row.train_loss:.3f}  accuracy {100 * row.train_accuracy:.1f} %"
                f"  validation loss {row.validation_loss:.3f}  accuracy {100 * row.validation_accuracy:.1f} %"
                f"  {row.images_per_second:.1f} images/s  {duration(row.seconds)}{'  best' if row.best else ''}"
            ]
        case Message(text=text):
            return [text]
        case _:
            return []


@contextmanager
def _live_progress() -> Iterator[RichProgress]:
    from rich.console import Console
    from rich.progress import BarColumn, ProgressColumn, TextColumn
    from rich.progress import Progress as RichProgress
    from rich.table import Column

    console = Console(stderr=True)
    text = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis"))
    columns: list[ProgressColumn] = [text]
    if console.width >= ROOM_FOR_BAR:
        columns.append(BarColumn(bar_width=20))
    with RichProgress(*columns, console=console, transient=True, refresh_per_second=REFRESHES) as progress:
        yield progress
