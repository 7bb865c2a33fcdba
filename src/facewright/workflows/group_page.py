"""The page of an evaluation by group, in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from facewright.evaluation.classification import ClassificationResult
from facewright.evaluation.targets import TaskResult
from facewright.evaluation.verification import VerificationResult
from facewright.files import write_atomic, write_json
from facewright.provenance import origin, versions
from facewright.workflows.recognition import Recognition

if TYPE_CHECKING:
    from facewright.report.model_section import Fact


def write_groups(
    folder: Path, model: str, data: str, column: str, result: ClassificationResult | TaskResult | Recognition
) -> None:
    """Leave evaluation.json and report.html of an evaluation by group in a folder."""
    from facewright.report.targets import GroupContext, group_page

    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "evaluation.json", result.to_dict())
    groups = result.groups if isinstance(result, TaskResult) else {"": result.subgroups}
    images = result.n if isinstance(result, ClassificationResult | TaskResult) else result.images
    context = GroupContext(
        title=f"{data} by {column}",
        model=model,
        column=column,
        lead=[f"{images:,} images"],
        tiles=_tiles(result),
        groups={name: found for name, found in groups.items() if found is not None},
        numbers=result.numbers if isinstance(result, TaskResult) else (),
        origin=origin(versions("numpy", "pillow")),
    )
    write_atomic(folder / "report.html", group_page(context))


def _tiles(result: ClassificationResult | TaskResult | Recognition) -> list[Fact]:
    from facewright.report import targets, verification, words
    from facewright.report.model_section import Fact

    if isinstance(result, TaskResult):
        return targets.tiles_of(result)
    if not isinstance(result, ClassificationResult):
        assert isinstance(result.result, VerificationResult)
        return verification.tiles_of(result.result)
    rates = {"Accuracy": result.accuracy, "Macro-F1": result.macro_f1}
    if result.binary is not None:
        rates |= {"FAR": result.binary.far, "FRR": result.binary.frr, "HTER": result.binary.hter}
    return [Fact(name, words.percent(rate.value), words.span(rate.low, rate.high)) for name, rate in rates.items()]
