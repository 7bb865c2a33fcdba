"""Groups of images for error rates by group: from a table beside the data, or from a column of the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from facewright.data.records import Dataset
from facewright.data.text_tables import read_table
from facewright.errors import Undefined, UsageError
from facewright.evaluation.verification import VerificationResult
from facewright.metrics.thresholds import Threshold

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
        if dataset is None or self.column not in dataset.all_columns:
            where, columns = ("", ()) if dataset is None else (dataset.where, dataset.all_columns)
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


def one_threshold(result: VerificationResult, threshold: Threshold | None) -> tuple[float, str] | None:
    """Return the model's threshold, else that of a false-accept rate of 1 % over all pairs; and how it was chosen.

    None: the model has no threshold, and the impostor pairs do not resolve 1 %.
    """
    if threshold is not None:
        return threshold.value, "the model's own"
    value = {row.far: row.threshold for row in result.tar_at_far}.get(_FAR)
    return None if value is None else (value, f"of FAR {_FAR:g} over all these pairs")


def threshold_for_groups(result: VerificationResult, threshold: Threshold | None, column: str) -> tuple[float, str]:
    """Return `one_threshold`; Undefined where there is none."""
    found = one_threshold(result, threshold)
    if found is None:
        needs = f"{result.impostors:,} impostor pairs do not resolve a false-accept rate of {_FAR:g}"
        raise Undefined(f"--by {column}: the model has no threshold, and {needs}; choose one with facewright calibrate")
    return found
