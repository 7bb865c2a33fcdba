"""Progress: silence for what is short, plain lines without a terminal, one live line with one."""

from __future__ import annotations

import io
import sys
import threading
from dataclasses import dataclass

import pytest
from rich.console import Console
from rich.progress import Progress as RichProgress

from facewright.cli.progress import PATIENCE, PLAIN_EVERY, Live, Patient, Plain, counter, event_printer, lines_of
from facewright.events import EpochFinished, EpochRow, Message, Progress, RunStarted, StepFinished

ROW = EpochRow(3, "main", 96, 3, 64, 0.1, 1.5, 0.4, 1.2, 0.55, -1.2, 75.0, 41.5, best=True)


@dataclass
class Clock:
    """A clock that is set by hand."""

    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def step(number: int) -> StepFinished:
    return StepFinished(1, 2, number, 10, 2.0, 0.25, 30.0, 60.0)


def test_plain_training_is_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    plain = Plain(clock)
    plain(RunStarted("runs/a", "resnet18", "scratch", 2, 10, 320))
    for number in range(1, 11):
        plain(step(number))
        clock.now += PLAIN_EVERY / 4
    plain(EpochFinished(ROW))
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "training resnet18 by scratch: 2 epochs of 10 steps, 320 images, into runs/a",
        "epoch 1/2  step 5/10  loss 2.000  accuracy 25.0 %  30.0 images/s  1:00 left",
        "epoch 1/2  step 9/10  loss 2.000  accuracy 25.0 %  30.0 images/s  1:00 left",
        "epoch 3  train loss 1.500  accuracy 40.0 %  validation loss 1.200  accuracy 55.0 %  41.5 images/s  1:15  best",
    ]


def test_what_is_short_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    plain = Plain(clock)
    for done in range(5):
        plain(Progress("decoding", done, 5))
        clock.now += PATIENCE / 5
    assert capsys.readouterr().err == ""


def test_what_is_long_shows_soon(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    plain = Plain(clock)
    plain(Progress("decoding", 1, 5000))
    clock.now += PATIENCE
    plain(Progress("decoding", 2000, 5000))
    clock.now += PATIENCE
    plain(Progress("decoding", 4000, 5000))
    assert capsys.readouterr().err == "decoding: 2,000/5,000\n"


def test_a_long_step_is_named_though_nothing_happens(capsys: pytest.CaptureFixture[str]) -> None:
    shown = threading.Event()
    seen: list[object] = []

    def printer(event: object) -> None:
        seen.append(event)
        if len(seen) == 3:
            shown.set()

    step = Progress("building", 0, 1)
    with Patient(printer, patience=0.01) as patient:
        patient(step)
        assert shown.wait(60)
        patient(Progress("building", 1, 1))
    assert seen[-3:] == [step, step, Progress("building", 1, 1)] and seen[0] == Progress("loading", 0, 1)


def test_the_next_event_ends_the_wait_of_the_one_before() -> None:
    seen: list[object] = []
    with Patient(seen.append, patience=3600) as patient:
        first = patient._timer
        patient(Message("x"))
        assert first.finished.is_set()
        patient(Progress("testing", 1, 2))
        last = patient._timer
        assert last.is_alive() and last.daemon
    assert last.finished.is_set()
    patient._again(Progress("testing", 1, 2))  # one that had begun when it was cancelled
    assert len(seen) == 3


def test_the_live_line() -> None:
    clock = Clock()
    screen = io.StringIO()
    with RichProgress(console=Console(file=screen, width=200), auto_refresh=False) as progress:
        live = Live(progress, clock)
        live(step(1))
        assert not progress.tasks  # too early
        clock.now += PATIENCE
        live(step(2))
        assert [(task.completed, task.total) for task in progress.tasks] == [(2, 20)]
        assert "loss 2.000" in progress.tasks[0].description
        live(EpochFinished(ROW))
        live(Progress("testing", 1, 4))
        assert not progress.tasks  # a new subject, not yet shown
        clock.now += PATIENCE
        live(Progress("testing", 2, 4))
        assert [task.description for task in progress.tasks] == ["testing: 2/4"]
        live(Progress("testing", 4, 4))
        assert not progress.tasks  # done
    assert "validation loss 1.200" in screen.getvalue()


def test_markup_in_a_name_stays_text() -> None:
    screen = io.StringIO()
    with RichProgress(console=Console(file=screen, width=200), auto_refresh=False) as progress:
        Live(progress)(Message("[bold]x[/bold] [/]"))
    assert "[bold]x[/bold] [/]" in screen.getvalue()


def test_a_terminal_is_whole_again_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    with pytest.raises(ValueError, match="in the middle"), event_printer() as on_event:
        assert isinstance(on_event, Patient) and isinstance(on_event.printer, Live)
        on_event(Message("hello"))
        raise ValueError("in the middle")
    assert "hello" in screen.getvalue()
    assert screen.getvalue().rstrip().endswith("\x1b[?25h") or "\x1b[?25l" not in screen.getvalue()  # cursor shown


def test_quiet_and_other_processes_say_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with event_printer(quiet=True) as on_event:
        on_event(Message("hello"))
    monkeypatch.setenv("RANK", "1")
    with event_printer() as on_event:
        on_event(Message("hello"))
    assert capsys.readouterr() == ("", "")


def test_a_counter_counts(capsys: pytest.CaptureFixture[str]) -> None:
    with counter("reading") as count:
        count(1, 2)
        count(2, 2)
    assert capsys.readouterr().err == ""  # too short to show


def test_events_without_a_line() -> None:
    assert lines_of(step(1)) == []
    assert lines_of(Progress("x", 1, 2)) == []
