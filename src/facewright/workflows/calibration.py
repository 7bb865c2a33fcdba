"""The choice of a threshold on development data, and its place in the model file."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from facewright import bundle as bundles
from facewright.bundle import Bundle
from facewright.data.sources import open_images
from facewright.data.splits import Split
from facewright.data.store import PixelStore
from facewright.embedding import NORM, Embedder
from facewright.errors import DataError, FacewrightError, Undefined, UsageError
from facewright.events import EventHandler, Message, ignore_event, in_blocks
from facewright.faces.crops import with_face_crops
from facewright.faces.quality import TypicalNorm, typical_norm
from facewright.files import model_file
from facewright.inference import Classifier
from facewright.metrics.calibration import calibrate_scores
from facewright.metrics.impostor_tail import histograms
from facewright.metrics.intervals import Rate, clopper_pearson
from facewright.metrics.people import People, identity_bootstrap, people_of, weighted_share
from facewright.metrics.thresholds import (
    UNKNOWN,
    VERIFICATION,
    Threshold,
    accepting_at_most,
    allowed_at,
    choose_threshold,
    rule_of,
    with_threshold,
)
from facewright.public_names import select_face_was_policy
from facewright.recognition import Recognizer, SelectFace, built_in
from facewright.records import Record
from facewright.runs import Run, load_classifier, owned, seen_images
from facewright.workflows.scores import ScoredPairs, score_pairs

METHOD = "most unknown people accepted within the target, no interpolation, ties together"


class Calibrated(Record):
    """A threshold that was chosen and stored."""

    task: Literal["calibration"] = "calibration"
    model: str
    written: str  # the model file
    threshold: Threshold
    note: str | None  # why there are no probabilities
    norm: TypicalNorm | None = None  # of the embeddings, where it says something about scores; part of the quality then


@select_face_was_policy
def calibrate(
    model: str | Path,
    pairs: str | Path,
    images: str | Path | None,
    far: float,
    *,
    confidence: float | None = None,
    out: str | Path | None = None,
    crop: float | None = None,
    flip: bool | None = None,
    detector: str | None = None,
    select_face: SelectFace | None = None,
    device: str | None = None,
    on_event: EventHandler = ignore_event,
) -> Calibrated:
    """Choose the threshold for a false-accept rate on pairs, and the map from score to probability; store both.

    Args:
        model: a run directory, a bundle file, or architecture@weights.
        pairs: the list; development pairs, which no reported number may come from afterwards.
        images: the folder of its images; None for a .bin.
        far: the target in (0, 1).
        confidence: the one-sided upper bound of the rate at this confidence meets the target; None: the rate itself.
        out: the model file to write; the model's own by default, which then must be a file of ours.
        crop: share of each side to keep, in place of the model's own; stored with the model, so it needs `out`.
        flip: average with the mirror image, in place of the model's own; as `crop`.
        detector: what finds the faces, as of `Recognizer`. The threshold is for this detector alone; those for others
            stay beside it.
        select_face: which of several faces is used, as of `Recognizer`.
    Raises:
        Undefined: the impostor pairs cannot resolve the rate; says how many it takes. UsageError: nowhere to write,
        or the built-in networks, whose thresholds are shipped.
    """
    if built_in(model):
        raise UsageError(
            "the thresholds of the built-in networks come with the package, and there is no model file to keep others "
            "in; measure these on your pairs with facewright pairs"
        )
    target = destination(model, out, changed=crop is not None or flip is not None)
    embedder = Embedder.load(model, crop=crop, flip=flip, device=device)
    recognizer = Recognizer(embedder, detector=detector, device=device)
    scored = score_pairs(recognizer, pairs, images, on_event, select_face)
    _refuse_training_images(model, scored.embedded.digests, pairs)
    threshold, note = choose(scored, recognizer, far, confidence)
    if note is not None:
        on_event(Message(note))
    _warn_of_accepting_none(threshold, on_event)
    bundle, norm = embedder.bundle, _norm(scored, recognizer)
    provenance = {name: fact for name, fact in bundle.provenance.items() if name != NORM}
    if norm is not None:
        provenance[NORM] = norm.to_dict()
    thresholds = with_threshold(bundle.thresholds, threshold)
    _keep(replace(bundle, thresholds=thresholds, provenance=provenance), target)
    return Calibrated(model=str(model), written=str(target), threshold=threshold, note=note, norm=norm)


def _norm(scored: ScoredPairs, recognizer: Recognizer) -> TypicalNorm | None:
    """Measure the typical norm of the embeddings; where photos are taken whole, that of the model stays."""
    norms = scored.embedded.norms
    if norms is None:
        return recognizer.typical_norm
    genuine = np.flatnonzero(scored.scored & scored.pairs.same)
    rows = scored.pairs.rows(scored.embedded.dataset.records)[genuine]
    return typical_norm(norms, rows, scored.scores[genuine], scored.pairs.name, recognizer.detector_name)


def choose(
    scored: ScoredPairs, recognizer: Recognizer, far: float, confidence: float | None = None
) -> tuple[Threshold, str | None]:
    """The threshold and the map from score to probability; and why there is no map.

    Raises:
        Undefined: the impostor pairs cannot resolve the rate. EmptyScores: one kind of pair is absent.
    """
    usable = scored.scored
    scores, same = scored.scores[usable], scored.pairs.same[usable]
    people = None if scored.people is None else scored.people[usable]
    who = None if people is None else people_of(people, same)
    count = "" if who is None else f" of {who.count:,} people"
    said = f"{scored.pairs.name}: {int(same.sum()):,} genuine and {int((~same).sum()):,} impostor pairs{count}"
    threshold = choose_threshold(scores[same], scores[~same], far, said, confidence)
    by_identity: list[Rate | None] = [None]
    if who is not None:
        by_identity = identity_bootstrap(weighted_share(scores >= threshold.value, ~same), who)
    calibration, note = None, None
    try:
        calibration = calibrate_scores(scores, same, said, people)
    except Undefined as why:
        note = f"no calibrated probability: {why}"
    facts = {
        "purpose": VERIFICATION,
        "calibration": calibration,
        "far_by_identity": by_identity[0],
        "people": None if who is None else who.count,
        "failures": scored.failures.size,
        "digest": scored.digest,
        "fingerprint": recognizer.fingerprint,
        "crop": recognizer.spec.crop,
        "flip": recognizer.spec.flip,
        "detector": recognizer.detector_name,
        "histograms": histograms(scores[same], scores[~same]),
    }
    return threshold.replace(**facts), note


def _warn_of_accepting_none(threshold: Threshold, on_event: EventHandler) -> None:
    """Report a threshold that no genuine score reaches: it meets any false-accept rate, and is of no use."""
    if threshold.tar is not None and threshold.tar.value == 0:
        on_event(
            Message(
                f"warning: the threshold {threshold.value:.4f} accepts none of {threshold.genuine:,} genuine scores; "
                "look for people under two names in the data, or choose a higher rate"
            )
        )


def _refuse_training_images(model: str | Path, digests: Sequence[str], data: str | Path) -> None:
    """Refuse to choose a threshold on images that the run was trained on; of a model file alone nothing is known."""
    count = seen_images(Path(model), digests).get("train", 0)
    if count:
        raise DataError(
            f"{data}: {count:,} of its images are in the training part of {model}, where scores are higher than on new "
            "images; choose the threshold on other images"
        )


def destination(model: str | Path, out: str | Path | None, *, changed: bool) -> Path:
    """Return the model file to write; UsageError where it is not said.

    With a `changed` input the model's own file is not touched, for class scores would change with it.
    """
    path = Path(model)
    if out is not None:
        out = Path(out)
        if out.is_dir() or not out.parent.is_dir():
            raise UsageError(f"{out}: expected a file to write, in a folder that exists")
        if bundles.is_exported(out) != bundles.is_exported(path):
            suffix = ".onnx" if bundles.is_exported(path) else ".safetensors"
            raise UsageError(f"{out}: a threshold goes into a model file of the same kind; call it NAME{suffix}")
        return out
    if not path.exists():
        raise UsageError(f"{model}: public weights are not rewritten; say where the new model file goes with --out")
    if changed:
        raise UsageError(f"{model}: another crop or flip makes another model; say where it goes with --out")
    return model_file(path)


def _keep(bundle: Bundle, target: Path) -> None:
    """Write a model file, atomically; that of a run directory only while no one trains in it.

    Raises:
        RunLocked: another process trains there. FacewrightError: it could not be written; the old one is untouched.
    """
    inside = target.name == "model.safetensors" and (target.parent / "run.json").is_file()
    with owned(target.parent) if inside else nullcontext():
        bundles.save(target, bundle)


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
    _refuse_training_images(model, store.digests, unknown_people)
    scores = similarities(classifier, store, np.arange(len(store.dataset)), on_event)
    genuine, note = _validation(folder, classifier, on_event)
    if note is not None:
        on_event(Message(note))
    people = _people(store)
    count = "" if people is None else f" of {people.count:,} unknown people"
    said = f"{store.dataset.name}: {len(store.dataset):,} photos{count}"
    threshold = choose_unknown(scores, genuine, far, said, confidence)
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
    _warn_of_accepting_none(threshold, on_event)
    bundle = classifier.bundle
    _keep(replace(bundle, thresholds=with_threshold(bundle.thresholds, threshold)), target)
    return Calibrated(model=str(model), written=str(target), threshold=threshold, note=note)


def choose_unknown(
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
    >>> choose_unknown(np.array([0.9, 0.5, 0.3, 0.1]), None, 0.25, "a doctest").value
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
