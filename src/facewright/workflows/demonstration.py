"""The main job on synthetic faces: inspect → three trainings → compare → predict."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from facewright.data.audit import Audit
from facewright.data.sources import open_dataset
from facewright.events import EventHandler, Message, ignore_event
from facewright.files import write_atomic
from facewright.inference import Prediction
from facewright.runs import Run
from facewright.workflows.comparison import Compared
from facewright.workflows.inspection import inspect
from facewright.workflows.prediction import predict
from facewright.workflows.sweeps import train_all
from facewright.workflows.training_jobs import resumed_by

SHOWN = 5  # test images to predict, none of which was trained on


MODELS = ("resnet18", "xception", "densenet121")
BUDGET = 200.0  # seconds of the trainings of the full demonstration, whose epochs fit the machine


@dataclass(frozen=True)
class Demonstration:
    """The results of the demonstration."""

    audit: Audit
    compared: Compared
    predictions: tuple[Prediction, ...]
    folder: Path
    report: Path

    def to_dict(self) -> dict[str, Any]:
        """As `demo --json` prints it."""
        return {
            "report": str(self.report),
            "inspect": self.audit.to_dict(),
            "comparison": self.compared.to_dict(),
            "predictions": [prediction.to_dict() for prediction in self.predictions],
        }


def demo(
    out: str | Path, *, quick: bool = False, device: str | None = None, on_event: EventHandler = ignore_event
) -> Demonstration:
    """Run the main job on synthetic faces; everything lies in `out` afterwards, the page is `out`/report.html."""
    people, images, side, epochs, budget = (8, 40, 48, 3, None) if quick else (16, 60, 64, 20, BUDGET)
    where = f"synthetic:faces?identities={people}&images={images}&size={side}&seed=0"
    overrides = {"input.size": str(side), "training.epochs": str(epochs), "training.precision": "float32"}
    folder = Path(out) / ("quick" if quick else "full")
    folder.mkdir(parents=True, exist_ok=True)
    on_event(Message(f"1. look at the data: facewright inspect '{where}'"))
    found, sheet = inspect(where, on_event=on_event)
    write_atomic(folder / "contact-sheet.png", sheet)
    changes = [f"--set {key}={value}" for key, value in overrides.items()]
    changes += [] if budget is None else [f"--budget {budget:g}s"]
    command = f"facewright compare '{where}' --models {','.join(MODELS)} {' '.join(changes)}"
    on_event(Message(f"2. train and compare: {command}"))
    with resumed_by("the same command"):
        compared = train_all(
            where, MODELS, out=folder, overrides=overrides, budget=budget, device=device, on_event=on_event
        )
    best = max(compared.runs, key=lambda run: run.classification.accuracy.value)
    shown = _test_images(best, folder / "photos")
    on_event(Message(f"3. predict: facewright predict {best.folder} {folder / 'photos'}"))
    predictions = predict(best.folder, shown, top_k=3, device=device)
    return Demonstration(found, compared, tuple(predictions), folder, folder / "report.html")


def _test_images(run: Run, folder: Path) -> list[Path]:
    """A few images of the test part as files, named by who they truly are."""
    folder.mkdir(exist_ok=True)
    dataset = open_dataset(run.facts.where)
    records = {record.path: record for record in dataset.records}
    step = max(1, len(run.predictions.paths) // SHOWN)
    written = []
    for path in run.predictions.paths[::step][:SHOWN]:
        target = folder / path.replace("/", "_")
        target = target if target.suffix == ".png" else target.with_name(f"{target.name}.png")
        Image.fromarray(dataset.source.read(records[path], None)).save(target)
        written.append(target)
    return written
