"""Listeners that write a run down as it happens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from facewright.events import EpochFinished, EpochRow, Event, EventHandler
from facewright.files import write_atomic
from facewright.training.history import to_csv


def to_metrics_csv(path: Path, rows: Callable[[], Sequence[EpochRow]]) -> EventHandler:
    """Rewrites metrics.csv after every epoch; `rows` gives all of them so far."""

    def handle(event: Event) -> None:
        if isinstance(event, EpochFinished):
            write_atomic(path, to_csv(rows()))

    return handle


def to_tensorboard(folder: Path) -> EventHandler | None:
    """Writes the curves as TensorBoard events; None where TensorBoard is not installed (extra `tensorboard`)."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    writer = SummaryWriter(str(folder))

    def handle(event: Event) -> None:
        if not isinstance(event, EpochFinished):
            return
        row = event.row
        curves = {
            "loss/train": row.train_loss,
            "loss/validation": row.validation_loss,
            "accuracy/train": row.train_accuracy,
            "accuracy/validation": row.validation_accuracy,
            "learning rate": row.learning_rate,
            "images per second": row.images_per_second,
        }
        for name, value in curves.items():
            writer.add_scalar(name, value, row.images_seen)
        writer.flush()

    return handle


def together(*listeners: EventHandler | None) -> EventHandler:
    """One listener that passes every event to each, in order; Nones are left out."""
    present = [listener for listener in listeners if listener is not None]

    def handle(event: Event) -> None:
        for listener in present:
            listener(event)

    return handle
