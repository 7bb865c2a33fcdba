"""Open-set classification: when to answer "unknown", chosen on photos of people who are none of the classes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facewright.data.sources import open_images
from facewright.data.splits import Split
from facewright.data.store import PixelStore
from facewright.errors import DataError, FacewrightError
from facewright.events import EventHandler, Message, ignore_event, in_blocks
from facewright.faces.crops import with_face_crops
from facewright.inference import Classifier
from facewright.metrics.intervals import clopper_pearson
from facewright.metrics.people import People, identity_bootstrap, weighted_share
from facewright.metrics.thresholds import UNKNOWN, Threshold, accepting_at_most, allowed_at, rule_of, with_threshold
from facewright.runs import Run, load_classifier
from facewright.workflows.calibration import (
    Calibrated,
    destination,
    keep,
    refuse_training_images,
    warn_of_accepting_none,
)

METHOD = "most unknown people accepted within the target, no interpolation, ties together"


def calibrate_unknown(
    model: str | Path,
    unknown_people: str | Path,
    far: float,
    *,
    confidence: float | None = None,
    out: str | Path | None = None,
    detector: str | None = None,
    device: str | None = None,
    on_event: EventHandler = ignore_event,
) -> Calibrated:
    """Choose how unlike all classes a photo must be to be called unknown, and store that with the model.

    At the stored threshold at most the share `far` of their photos is taken for one of the classes. For a run
    whose data are still there, the share of its validation photos that stay known is measured beside it.

    Args:
        model: a run directory or a bundle file, with classes.
        unknown_people: what `open_dataset` knows, or a folder of photos; none of them may be a class of the model
            or have been seen in training.
        far: the target in (0, 1).
        confidence: the one-sided upper bound of the rate at this confidence meets the target; None: the rate itself.
        out: the model file to write; the model's own by default.
        detector: as of `predict`.
    Raises:
        DataError: one of them is a class of the model. Undefined: the photos are too few for this rate.
        BundleError: the model has no classes.
    """
    target = destination(model, out, changed=False)
    folder = Path(model)
    classifier = load_classifier(folder, device, detector)
    classifier.refuse_targets()
    data = with_face_crops(open_images(unknown_people), classifier.cropper)
    known = sorted(set(classifier.classes) & {*data.people, *data.classes})
    if known:
        raise DataError(
            f"{unknown_people}: expected people whom the model does not know; {', '.join(known)} are its classes"
        )
    store = PixelStore.open(data, classifier.spec, on_event=on_event)
    refuse_training_images(model, store.digests, unknown_people)
    scores = similarities(classifier, store, np.arange(len(store.dataset)), on_event)
    genuine, note = _validation(folder, classifier, on_event)
    if note is not None:
        on_event(Message(note))
    people = _people(store)
    count = "" if people is None else f" of {people.count:,} unknown people"
    said = f"{store.dataset.name}: {len(store.dataset):,} photos{count}"
    threshold = choose(scores, genuine, far, said, confidence)
    share = weighted_share(scores >= threshold.value, np.ones(scores.size, bool))
    threshold = threshold.replace(
        score=classifier.similarity_kind,
        far_by_identity=None if people is None else identity_bootstrap(share, people)[0],
        people=None if people is None else people.count,
        failures=len(store.dataset.broken),
        digest=store.dataset.fingerprint(store.digests),
        fingerprint=classifier.fingerprint,
        crop=classifier.spec.crop,
        flip=classifier.spec.flip,
    )
    warn_of_accepting_none(threshold, on_event)
    bundle = classifier.bundle
    keep(replace(bundle, thresholds=with_threshold(bundle.thresholds, threshold)), target)
    return Calibrated(model=str(model), written=str(target), threshold=threshold, note=note)


def choose(
    unknown_people: NDArray[np.float64],
    known: NDArray[np.float64] | None,
    far: float,
    data: str,
    confidence: float | None = None,
) -> Threshold:
    """The threshold that takes as many unknown people for known as the target allows.

    Args:
        unknown_people: (Q,) similarities. known: (P,) those of known people, or None; they have no part in choosing.
        far: the target in (0, 1]. data: what the unknown people are. confidence: as `allowed_at`.
    Raises:
        Undefined: the unknown people are too few to resolve the target.
    >>> choose(np.array([0.9, 0.5, 0.3, 0.1]), None, 0.25, "a doctest").value
    0.7
    """
    allowed = allowed_at(far, unknown_people.size, confidence)
    value = accepting_at_most(unknown_people, allowed)
    return Threshold(
        value=value,
        purpose=UNKNOWN,
        rule=rule_of(METHOD, confidence),
        far_target=float(far),
        far=clopper_pearson(int((unknown_people >= value).sum()), unknown_people.size),
        tar=None if known is None or not known.size else clopper_pearson(int((known >= value).sum()), known.size),
        impostors=unknown_people.size,
        genuine=0 if known is None else known.size,
        data=data,
        confidence=confidence,
    )


def similarities(
    classifier: Classifier, store: PixelStore, rows: NDArray[np.int64], on_event: EventHandler
) -> NDArray[np.float64]:
    """Compute the similarity of each image to its nearest class, (B,)."""
    found = np.empty(rows.size)
    for part in in_blocks("comparing", rows.size, on_event):
        found[part] = classifier.similarity(classifier.logits(store.batch(rows[part])))
    return found


def _people(store: PixelStore) -> People | None:
    """Return the person of each photo as a pair with itself; None if the data do not name people."""
    people = store.dataset.people
    if None in people:
        return None
    unique, numbers = np.unique(np.array(people), return_inverse=True)
    return People(np.stack([numbers, numbers], axis=1).astype(np.int64), unique.size)


def _validation(
    folder: Path, classifier: Classifier, on_event: EventHandler
) -> tuple[NDArray[np.float64] | None, str | None]:
    """The similarities of a run's validation photos; or why there are none."""
    if not (folder / "split.csv").is_file():
        return None, None
    try:
        data = with_face_crops(Run(folder).open_dataset(), classifier.cropper)
        store = PixelStore.open(data, classifier.spec, on_event=on_event)
        part = Split.load(folder / "split.csv", store.dataset, store.digests).validation
    except FacewrightError as error:
        return None, f"how many known people stay known was not measured: {error}"
    return similarities(classifier, store, np.asarray(part, np.int64), on_event), None
