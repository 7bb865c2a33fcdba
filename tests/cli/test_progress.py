"""Progress: silence for what is short, plain lines without a terminal, one live line with one."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console
from rich.progress import Progress as RichProgress

from facewright.cli import progress
from facewright.cli.main import main
from facewright.cli.progress import (
    PATIENCE,
    PLAIN_EVERY,
    Live,
    Patient,
    Plain,
    counter,
    event_printer,
    lines_of,
    slow_imports_shown,
)
from facewright.errors import FacewrightError
from facewright.events import EpochFinished, EpochRow, Event, Message, Progress, RunStarted, StepFinished

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


class Timers:
    """`threading.Timer` by a clock that is set by hand: `advance` runs what is due, in turn."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.waiting = clock, []
        self.made = 0

    def __call__(self, seconds: float, call: Callable[[], None]) -> SimpleNamespace:
        due = self.clock.now + seconds
        timer = SimpleNamespace(
            start=lambda: self.waiting.append((due, call, timer)), daemon=False,
            cancel=lambda: self.waiting.remove((due, call, timer)),
        )  # fmt: skip
        self.made += 1
        return timer

    def advance(self, seconds: float) -> None:
        end = self.clock.now + seconds
        while self.waiting and self.waiting[0][0] <= end:
            self.clock.now, call, timer = self.waiting.pop(0)
            assert timer.daemon
            call()
        self.clock.now = end


def patient(printer: Callable[[Event], None], clock: Clock) -> tuple[Patient, Timers]:
    timers = Timers(clock)
    return Patient(printer, clock, timers), timers  # type: ignore[arg-type]


def test_a_long_step_is_named_though_nothing_happens(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    handler, timers = patient(Plain(clock), clock)
    with handler:
        handler(Progress("exporting", 0, 1))
        timers.advance(32)
        handler(Progress("exporting", 1, 1))
        timers.advance(100)
        handler(Progress("checking", 0, 1))
        timers.advance(1.9)
        handler(Progress("calibrating", 0, 1))
        timers.advance(2)
    lines = ["exporting", "exporting: 12 s so far", "exporting: 22 s so far", "exporting: 32 s so far", "calibrating"]
    assert capsys.readouterr().err.splitlines() == lines
    assert not timers.waiting


def test_a_step_after_a_long_one_is_named_as_soon(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    handler, timers = patient(Plain(clock), clock)
    with handler:
        timers.advance(3)  # shown, and again in ten seconds
        handler(Message("precision float32"))
        handler(Progress("counting parameters", 0, 1))
        timers.advance(2.1)
        handler(Message("done"))
    assert capsys.readouterr().err.splitlines() == ["loading", "precision float32", "counting parameters", "done"]


def test_a_count_that_stands_still_is_shown_again(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    handler, timers = patient(Plain(clock), clock)
    with handler:
        for done in range(3):
            handler(Progress("hashing", done, 3))
            timers.advance(1.5 if done < 2 else 12)
    assert capsys.readouterr().err.splitlines() == ["hashing: 2/3", "hashing: 2/3, 13 s so far"]


def test_many_events_share_a_timer() -> None:
    clock, seen = Clock(), []
    handler, timers = patient(seen.append, clock)
    with handler:
        for done in range(2000):
            handler(Progress("decoding", done, 2000))
            timers.advance(0.01)
        assert len(seen) == 2001  # nothing is shown again while it goes on
        assert timers.made <= 12
        handler(Message("x"))
        timers.advance(60)
        assert len(seen) == 2002 and not timers.waiting


def test_a_real_timer_shows_a_step_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PATIENCE", 0.01)
    monkeypatch.setattr(progress, "REPEAT_EVERY", 0.01)
    shown, seen = threading.Event(), []

    def printer(event: Event) -> None:
        seen.append(event)
        if sum(isinstance(one, Progress) and one.task == "building" and one.seconds > 0 for one in seen) == 2:
            shown.set()

    with Patient(printer) as handler:
        handler(Progress("building", 0, 1))
        assert shown.wait(60)
        timer = handler._timer
        assert timer is not None and timer.daemon
    timer.join(60)
    assert not timer.is_alive()


def test_the_live_line() -> None:
    clock = Clock()
    screen = io.StringIO()
    with RichProgress(console=Console(file=screen, width=200), auto_refresh=False) as bar:
        live = Live(bar, clock)
        live(step(1))
        assert not bar.tasks  # too early
        clock.now += PATIENCE
        live(step(2))
        assert [(task.completed, task.total) for task in bar.tasks] == [(2, 20)]
        assert "loss 2.000" in bar.tasks[0].description
        live(EpochFinished(ROW))
        live(Progress("validating", 0, 1))
        live(step(3))
        assert [task.completed for task in bar.tasks] == [3]  # what was short between did not hide it
        live(Progress("testing", 1, 4))
        assert "loss" in bar.tasks[0].description  # a new task, not yet shown
        clock.now += PATIENCE
        live(Progress("testing", 2, 4))
        assert [task.description for task in bar.tasks] == ["testing: 2/4"]
        live(Progress("testing", 4, 4))
        assert not bar.tasks  # done
    assert "validation loss 1.200" in screen.getvalue()


def test_markup_in_a_name_stays_text() -> None:
    screen = io.StringIO()
    with RichProgress(console=Console(file=screen, width=200), auto_refresh=False) as bar:
        Live(bar)(Message("[bold]x[/bold] [/]"))
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


def test_a_slow_import_is_named_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = []
    for name in ("slow_one", "slow_two"):
        (tmp_path / f"{name}.py").write_text("import fixtures_seen; fixtures_seen.append(__name__)")
    monkeypatch.setitem(
        sys.modules, "fixtures_seen", SimpleNamespace(append=lambda _: said.append(capsys.readouterr()))
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(progress, "SLOW_PACKAGES", {"slow_one": "One", "slow_two": "Two", "slow_absent": "Absent"})
    finders = list(sys.meta_path)
    with slow_imports_shown("train"):
        for name in ("slow_one", "slow_two"):
            import_module(name)
    assert [one.err for one in said] == ["train: loading One\n", ""]
    with slow_imports_shown("train"), pytest.raises(ModuleNotFoundError):
        import_module("slow_absent")
    assert capsys.readouterr().err == "" and sys.meta_path == finders


@pytest.mark.parametrize(("words", "first"), [((), "doctor: loading One\n"), (("--json",), "")])
def test_the_first_line_of_a_command_comes_before_its_imports(
    words: tuple[str, ...], first: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    def doctor() -> None:
        import_module("slow_three")
        raise FacewrightError("done")

    (tmp_path / "slow_three.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(progress, "SLOW_PACKAGES", {"slow_three": "One"})
    monkeypatch.setattr("facewright.workflows.diagnosis.doctor", doctor)
    monkeypatch.delitem(sys.modules, "slow_three", raising=False)
    assert main(["doctor", *words]) == 1
    assert capsys.readouterr().err == first + "error: done\n"
