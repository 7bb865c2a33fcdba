"""Prediction: the classes of images and their probabilities; the listing of images."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from facewright import images
from facewright.data.archives import ArchivedImage
from facewright.data.label_files import ROLES
from facewright.data.packed import is_archive, open_archive
from facewright.data.text_tables import TextTable, parse, read_text
from facewright.errors import DataError, Undefined, UsageError
from facewright.events import EventHandler, Message, Progress, ignore_event
from facewright.faces.crops import SIDE, model_advice, share_in_sample
from facewright.images import ImageLike, Pixels, as_list, images_at, in_order, is_image, none_found
from facewright.inference import Classifier, ImageInput, Prediction
from facewright.metrics.thresholds import UNKNOWN, pick, thresholds_for
from facewright.records import Record
from facewright.runs import load_classifier

LABEL_NAMES = (*ROLES["label"], *ROLES["identity"], "prediction", "predicted")
PROBABILITY_NAMES = ("p", "prob", "probability", "score", "confidence")
Cells = Callable[[Prediction], list[str]]  # the cells of a row behind its id


def predict(
    model: str | Path,
    paths: ImageLike | Sequence[ImageLike],
    *,
    top_k: int = 5,
    unknown_at: float | None = None,
    every_face: bool = False,
    detector: str | None = None,
    device: str | None = None,
    on_event: EventHandler = ignore_event,
) -> list[Prediction]:
    """Predict the most probable classes of images.

    A model that holds a threshold between its two classes decides with it (`Prediction.answer`).

    Args:
        model: a run directory or a bundle file.
        paths: images; a folder or a zip stands for every image in it.
        unknown_at: answer "unknown" below the similarity threshold that `calibrate_unknown` stored for this rate of
            unknown people accepted; None: never.
        every_face: for a model that finds faces: a prediction of each face of a photo, with its box, left to right.
        detector: the file of the detector, for a model trained on face crops of another detector than dlib's; of a run
            directory the one that it was trained with.
    Raises:
        UsageError: a path does not exist, or there is no image at all; every face of a model that takes images whole.
        Undefined: no threshold is stored for this rate.
    """
    model = Path(model)
    given = images_of(paths)
    classifier = load_classifier(model, device, detector)
    if unknown_at is not None:
        classifier.refuse_targets()
    note_uncropped(classifier, given, on_event)
    least = None if unknown_at is None else _least_likeness(classifier, model, unknown_at)
    said: list[Prediction] = []
    done = 0
    for prediction in classifier.stream(given, top_k, every_face=every_face):
        done += not said or said[-1].path != prediction.path
        unknown = None if least is None or prediction.likeness is None else prediction.likeness < least
        said.append(prediction.replace(unknown=unknown))
        on_event(Progress("predicting", done if every_face else len(said), len(given)))
    return said


def note_uncropped(classifier: Classifier, given: Sequence[ImageInput], on_event: EventHandler) -> None:
    """Tell who listens that images look uncropped, where the model has no detector; a few are looked at."""

    def read(one: ImageInput) -> Pixels:
        return images.read(one.content() if isinstance(one, ArchivedImage) else one, name=str(one), at_least=2 * SIDE)

    if classifier.cropper is None and on_event is not ignore_event:
        share = share_in_sample(given, read)
        if share is not None:
            on_event(Message(model_advice(share)))


def _least_likeness(classifier: Classifier, model: Path, far: float) -> float:
    threshold = pick(thresholds_for(classifier.bundle.thresholds, UNKNOWN, classifier.fingerprint), far)
    if threshold is None:
        raise Undefined(
            f"{model}: no threshold for unknown people is stored; choose it on people who are none of its "
            f"classes: facewright calibrate {model} --unknown-people DATA --far {far:g}"
        )
    return threshold.value


def images_of(paths: ImageLike | Sequence[ImageLike]) -> list[ImageInput]:
    """List images as `images_in` does, and the images in archives.

    Raises:
        UsageError: as `images_in`. BadArchive: an archive is dangerous or damaged.
    """
    found: list[ImageInput] = []
    for one in (listed := as_list(paths)):
        if isinstance(one, Path) and is_archive(one) and one.is_file():
            tree = open_archive(one)
            found += sorted((ArchivedImage(str(one), tree.source, name) for name in tree.files), key=in_order)
        else:
            found += images_at(one)
    if not found:
        raise UsageError(none_found(str(one) for one in listed))
    return found


class Submission(Record):
    """A filled template."""

    template: str
    rows: int
    content: str  # what its columns hold, in words
    text: str  # the file


@dataclass(frozen=True)
class Template:
    """A table to fill: the first column holds the ids of images, the others are replaced."""

    table: TextTable
    header: list[str]
    ids: list[str]  # in the order of the rows

    @classmethod
    def read(cls, path: Path) -> Template:
        """Read a template; DataError: no id column and another one, or an id that is empty or occurs twice."""
        table = parse(read_text(path, "a template of a submission"), str(path))
        header = table.rows[0][1] if table.rows else []
        rows = table.named_rows(header, table.rows[1:])
        if len(header) < 2 or len(set(header)) < len(header) or not rows:
            raise DataError(
                f"{path}: expected a header of different names, ids in the first column, and a row an image"
            )
        first: dict[str, int] = {}
        for line, row in rows:
            name = row[header[0]]
            if not name or first.setdefault(name, line) != line:
                what = f"the id {name!r} again, first in line {first[name]}" if name else "no id"
                raise DataError(f"{path}: line {line}: {what}; expected each id once")
        return cls(table, header, list(first))

    def images(self, given: Sequence[ImageInput]) -> list[ImageInput]:
        """Return the image of each row, whose path ends with the id; DataError where there is none, or several."""
        by_name = defaultdict(list)
        for image in given:
            by_name[_parts(str(image))[-1]].append(image)
        found = [[image for image in by_name[_parts(name)[-1]] if _shows(str(image), name)] for name in self.ids]
        missing = [name for name, images in zip(self.ids, found, strict=True) if not images]
        if missing:
            raise DataError(
                f"{self.table.name}: {len(missing):,} of {len(self.ids):,} ids have no image among the {len(given):,} "
                f"given, the first: {', '.join(missing[:3])}"
            )
        for name, fitting in zip(self.ids, found, strict=True):
            if len(fitting) > 1:
                raise DataError(f"{self.table.name}: the id {name} fits several images: {fitting[0]}, {fitting[1]}")
        return [images[0] for images in found]

    def columns(self, classifier: Classifier) -> tuple[str, Cells]:
        """Tell what the columns behind the id hold, in words, and how to fill them.

        Raises:
            DataError: a column that is neither a class of the model, nor of labels, nor of probabilities.
        """
        classes, names = classifier.classes, self.header[1:]
        if set(names) <= set(classes):
            return f"the probability of {', '.join(names)}", lambda one: [_probability(one, name) for name in names]
        unknown = [name for name in names if name not in classes]
        if len(names) > 1:
            raise DataError(
                f"{self.table.name}: unknown columns {', '.join(unknown[:5])}; expected one column of labels or "
                f"probabilities, or columns named as classes of the model: {', '.join(classes[:5])}"
            )
        samples = {row[1] for _, row in self.table.rows[1:]} - {""}
        asks_share = names[0].lower() in PROBABILITY_NAMES
        if not asks_share and (samples and samples <= set(classes)):
            return "the class", lambda one: [one.names[0]]
        if len(classes) == 2 and (asks_share or (samples and all(map(_is_share, samples)))):
            accepted = str(classes[1] if classifier.threshold is None else classifier.threshold.accepted)
            return f"the probability of {accepted}", lambda one: [_probability(one, accepted)]
        if names[0].lower() in LABEL_NAMES and not any(map(_is_share, samples)):
            return "the class", lambda one: [one.names[0]]
        raise DataError(
            f"{self.table.name}: column {names[0]} holds {', '.join(sorted(samples)[:3]) or 'nothing'}, which is no "
            f"class of the model; expected labels of {', '.join(classes[:5])}, or for two classes a probability"
        )


def fill_template(
    model: str | Path,
    template: str | Path,
    paths: ImageLike | Sequence[ImageLike],
    *,
    detector: str | None = None,
    device: str | None = None,
    on_event: EventHandler = ignore_event,
) -> Submission:
    """Fill a template (`sample_submission.csv`) with predictions: the same columns, the same rows in the same order.

    One column of labels gets the class; one of probabilities, of a model of two classes, the probability of the class
    that its threshold accepts (without one: the second); columns named as classes get their probabilities. The other
    arguments are of `predict`.

    Args:
        template: CSV or TSV; the first column holds the ids, file names with or without suffix or folder.
        paths: images, folders, archives; images that the template does not name are not looked at.
    Raises:
        DataError: the template cannot be understood, a row has no image or several, or an image cannot be read.
        UsageError: a path does not exist.
    """
    table = Template.read(Path(template))
    images = table.images(images_of(paths))
    classifier = load_classifier(Path(model), device, detector)
    classifier.refuse_targets()
    content, cells = table.columns(classifier)
    rows = []
    for name, one in zip(table.ids, classifier.stream(images, len(classifier.classes)), strict=True):
        if one.error is not None:
            raise DataError(f"{one.path}: {one.error}; the template needs a prediction of {name}")
        rows.append([name, *cells(one)])
        on_event(Progress("predicting", len(rows), len(images)))
    out = io.StringIO()  # not `csv_text`: the ids stay as they came
    csv.writer(out, delimiter=table.table.mark, lineterminator="\n").writerows([table.header, *rows])
    return Submission(template=str(template), rows=len(rows), content=content, text=out.getvalue())


def _parts(path: str) -> list[str]:
    """The parts of a path, the last without an image's suffix."""
    plain = path.replace("\\", "/")
    return (plain.rpartition(".")[0] if is_image(plain) else plain).split("/")


def _shows(path: str, name: str) -> bool:
    wanted = _parts(name)
    return _parts(path)[-len(wanted) :] == wanted and (not is_image(name) or path.endswith(name.rpartition("/")[2]))


def _is_share(text: str) -> bool:
    try:
        return 0 <= float(text) <= 1
    except ValueError:
        return False


def _probability(prediction: Prediction, name: str) -> str:
    return f"{prediction.probabilities[prediction.names.index(name)]:.6g}"
