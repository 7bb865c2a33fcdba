"""Groups of images, from a table beside the data or a column of the data; and the page of rates by group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from facewright.data.records import Dataset
from facewright.data.text_tables import read_table
from facewright.errors import Undefined, UsageError
from facewright.evaluation.results import ClassificationResult
from facewright.evaluation.targets import TaskResult
from facewright.evaluation.verification import VerificationResult
from facewright.files import write_json
from facewright.metrics.thresholds import Threshold
from facewright.workflows import provenance

if TYPE_CHECKING:
    from facewright.report.model_section import Fact
    from facewright.workflows.recognition import Recognition

_FAR = 0.01  # of the threshold for groups, where the model has none


@dataclass(frozen=True)
class Grouping:
    """A column of groups, and the group of each image."""

    column: str
    group_of: Mapping[str, str] | None  # by path, as in the data; None: a column of the data

    @classmethod
    def read(cls, column: str, attributes: str | Path | None, data: str | Path | None) -> Grouping:
        """Read the groups of images.

        Args:
            attributes: a table with `path` and the column. None: attributes.csv beside the data, where there is one;
                else a column of the data.
            data: the data set's address; None: the test part of a run.
        Raises:
            DataError: the table cannot be read, or has no such columns. UsageError: there is no table to look for.
        """
        if attributes is None and data is None:
            raise UsageError(f"--by {column}: give --attributes FILE, a table with the columns path and {column}")
        beside = Path(str(data).split("?")[0]).absolute().with_name("attributes.csv")
        if attributes is None and not beside.is_file():
            return cls(column, None)
        return cls(column, read_groups(Path(attributes or beside), column))

    def of(self, paths: Sequence[str], dataset: Dataset | None = None) -> list[str]:
        """Return the group of each image, "" where unknown.

        Args:
            paths: of images. dataset: that they are of; None: the groups must be of a table.
        Raises:
            UsageError: the data have no such column.
        """
        if self.group_of is not None:
            return [self.group_of.get(path, "") for path in paths]
        if dataset is None or self.column not in dataset.columns:
            where, columns = ("", ()) if dataset is None else (dataset.where, dataset.columns)
            raise UsageError(
                f"{where}: no column {self.column!r} (the data have {', '.join(columns) or 'none'}) and no "
                "attributes.csv beside it; give --attributes FILE"
            )
        known = dict(zip((record.path for record in dataset.records), dataset.column(self.column), strict=True))
        return [known[path] for path in paths]


def read_groups(path: Path, column: str) -> dict[str, str]:
    """Read the group of each image from a table with the columns `path` and `column`; empty is unknown.

    Raises:
        DataError: the table cannot be read, or has no such columns.
    """
    rows = read_table(path, "a table of groups", lambda names: {"path", column.lower()} <= set(names), f"path,{column}")
    return {row["path"].replace("\\", "/"): row[column.lower()] for _, row in rows}


def write_groups(
    folder: Path, model: str, data: str, column: str, result: ClassificationResult | TaskResult | Recognition
) -> Path:
    """Leave evaluation.json and report.html of an evaluation by group in a folder; returns the page."""
    from facewright.report.groups import GroupContext, write_group_page

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
        created=provenance.created(),
        command=provenance.command(),
        versions=provenance.versions("numpy", "pillow"),
    )
    write_group_page(folder / "report.html", context)
    return folder / "report.html"


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


def one_threshold(result: VerificationResult, threshold: Threshold | None) -> tuple[float, str] | None:
    """Return the model's threshold, else that of a false-accept rate of 1 % over all pairs; and how it was chosen.

    None: the model has no threshold, and the impostor pairs do not resolve 1 %.
    """
    if threshold is not None:
        return threshold.value, "the model's own"
    value = {row.far: row.threshold for row in result.tar_at_far}.get(_FAR)
    return None if value is None else (value, f"of FAR {_FAR:g} over all these pairs")


def threshold_for_groups(result: VerificationResult, threshold: Threshold | None, column: str) -> tuple[float, str]:
    """Return `one_threshold`.

    Raises:
        Undefined: there is none.
    """
    found = one_threshold(result, threshold)
    if found is None:
        needs = f"{result.impostors:,} impostor pairs do not resolve a false-accept rate of {_FAR:g}"
        raise Undefined(f"--by {column}: the model has no threshold, and {needs}; choose one with facewright calibrate")
    return found
