"""Verification of two photos; verification and identification on labelled images; groups of images for error rates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facewright.data.records import Dataset
from facewright.errors import Undefined, UsageError
from facewright.events import EventHandler, ignore_event
from facewright.files import write_atomic, write_json
from facewright.images import ImageLike
from facewright.input_spec import InputSpec
from facewright.metrics.thresholds import Threshold
from facewright.public_names import select_face_was_policy
from facewright.recognition import Matched, Recognizer, SelectFace

if TYPE_CHECKING:
    from facewright.evaluation.classification import ClassificationResult
    from facewright.evaluation.identification import IdentificationResult
    from facewright.evaluation.subgroups import Subgroups
    from facewright.evaluation.targets import TaskResult
    from facewright.evaluation.verification import VerificationResult
    from facewright.report.pages import Fact
    from facewright.workflows.scores import Vectors

_FAR = 0.01  # of the threshold for groups, where the model has none


@select_face_was_policy
def verify(
    a: ImageLike,
    b: ImageLike,
    *,
    model: str | Path | None = None,
    far: float | None = None,
    detector: str | None = None,
    select_face: SelectFace | None = None,
    device: str | None = None,
) -> Matched:
    """Compare two photos and decide with the threshold that is stored with the model.

    Args:
        a: a path, an H x W x 3 uint8 array or a PIL image.
        b: likewise.
        model: a run directory, a bundle file, or architecture@weights (which holds no threshold); None or "built-in":
            the built-in networks and the shipped threshold.
        far: false-accept rate of the threshold to use; default: the last stored.
        detector: as of `Recognizer`. A threshold is valid for the detector that it was chosen with.
        select_face: which of several faces is used, as of `Recognizer`.
    Raises:
        BadImage: a photo cannot be read. Undefined: there are thresholds, but none for that rate. UsageError:
        select_face where photos are taken whole.
    """
    recognizer = Recognizer.load(model, detector=detector, device=device)
    return recognizer.verify(a, b, select_face=recognizer.face_selection(select_face), far=far)


@dataclass(frozen=True)
class Recognition:
    """The result of a verification or identification on labelled images."""

    model: str
    fingerprint: str
    spec: InputSpec
    detector: str
    data: str
    images: int  # evaluated
    left_out: int  # that could not be read, or show no face
    result: VerificationResult | IdentificationResult
    note: str | None = None  # why verification was chosen
    subgroups: Subgroups | None = None  # where groups were asked for

    def to_dict(self) -> dict[str, Any]:
        """As `evaluate --json` prints it."""
        facts = {"model": self.model, "fingerprint": self.fingerprint, "input": self.spec.to_dict()}
        data = {"detector": self.detector, "data": self.data, "images": self.images, "left_out": self.left_out}
        groups = {} if self.subgroups is None else {"subgroups": self.subgroups.to_dict()}
        return self.result.to_dict() | facts | data | groups | ({} if self.note is None else {"note": self.note})


def evaluate_verification(
    model: str | Path,
    data: str | Path,
    *,
    detector: str | None = None,
    grouping: Grouping | None = None,
    device: str | None = None,
    on_event: EventHandler = ignore_event,
) -> Recognition:
    """Evaluate verification over every pair of images, streamed; with `grouping` also the rates within each group.

    The people need not be classes of the model; an identity counts before a class. Images without a face are counted.

    Raises:
        EmptyScores: no two images of one person, or one person only. DataError: an image without an identity.
    """
    recognizer = Recognizer.load(model, detector=detector, device=device)
    embedded = _embedded(recognizer, data, on_event)
    from facewright.evaluation.subgroups import rates_of_all_pairs
    from facewright.evaluation.verification import verify_all_pairs

    result = verify_all_pairs(embedded.vectors, embedded.people)
    found = _recognition(recognizer, embedded, data, result)
    if grouping is None:
        return found
    groups = grouping.of([record.path for record in embedded.dataset.records], embedded.dataset)
    value, chosen = threshold_for_groups(result, recognizer.threshold(), grouping.column)
    rates = rates_of_all_pairs(embedded.vectors, embedded.people, groups, value, grouping.column, chosen)
    return replace(found, subgroups=rates)


def evaluate_identification(
    model: str | Path,
    data: str | Path,
    *,
    seed: int = 0,
    detector: str | None = None,
    device: str | None = None,
    on_event: EventHandler = ignore_event,
) -> Recognition:
    """Evaluate closed-set and open-set search; people are split into gallery, mated and non-mated probes.

    Raises:
        Undefined: fewer than two people, or no person has two images. DataError: as `evaluate_verification`.
    """
    recognizer = Recognizer.load(model, detector=detector, device=device)
    embedded = _embedded(recognizer, data, on_event)
    from facewright.evaluation.identification import identify

    return _recognition(recognizer, embedded, data, identify(embedded.vectors, embedded.people, seed))


def _embedded(recognizer: Recognizer, data: str | Path, on_event: EventHandler) -> Vectors:
    from facewright.data.sources import open_dataset
    from facewright.workflows.scores import embed_all

    return embed_all(recognizer, open_dataset(data), on_event)


def _recognition(
    recognizer: Recognizer, embedded: Vectors, data: str | Path, result: VerificationResult | IdentificationResult
) -> Recognition:
    return Recognition(
        model=recognizer.name,
        fingerprint=recognizer.fingerprint,
        spec=recognizer.spec,
        detector=recognizer.detector_name,
        data=str(data),
        images=len(embedded.dataset),
        left_out=len(embedded.dataset.broken),
        result=result,
    )


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
    from facewright.data.text_tables import read_table

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


def write_groups(
    folder: Path, model: str, data: str, column: str, result: ClassificationResult | TaskResult | Recognition
) -> None:
    """Leave evaluation.json and report.html of an evaluation by group in a folder."""
    from facewright.evaluation.targets import TaskResult
    from facewright.provenance import origin, versions
    from facewright.report.targets import GroupContext, group_page

    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "evaluation.json", result.to_dict())
    groups = result.groups if isinstance(result, TaskResult) else {"": result.subgroups}
    images = result.images if isinstance(result, Recognition) else result.n
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
    from facewright.evaluation.classification import ClassificationResult
    from facewright.evaluation.verification import VerificationResult
    from facewright.report import targets, verification, words
    from facewright.report.pages import Fact

    if isinstance(result, Recognition):
        assert isinstance(result.result, VerificationResult)
        return verification.tiles_of(result.result)
    if not isinstance(result, ClassificationResult):
        return targets.tiles_of(result)
    rates = {"Accuracy": result.accuracy, "Macro-F1": result.macro_f1}
    if result.binary is not None:
        rates |= {"FAR": result.binary.far, "FRR": result.binary.frr, "HTER": result.binary.hter}
    return [Fact(name, words.percent(rate.value), words.span(rate.low, rate.high)) for name, rate in rates.items()]
