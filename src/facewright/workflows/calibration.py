"""The choice of a threshold on development data, and its place in the model file."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from facewright import bundle as bundles
from facewright.bundle import Bundle
from facewright.embedding import NORM, Embedder
from facewright.errors import DataError, Undefined, UsageError
from facewright.events import EventHandler, Message, ignore_event
from facewright.faces.quality import TypicalNorm, typical_norm
from facewright.metrics.distributions import histograms
from facewright.metrics.intervals import Rate
from facewright.metrics.people import identity_bootstrap, people_of, weighted_share
from facewright.metrics.score_calibration import calibrate_scores
from facewright.metrics.thresholds import VERIFICATION, Threshold, choose_threshold, with_threshold
from facewright.old_keywords import select_face_was_policy
from facewright.recognition import Recognizer, SelectFace, built_in
from facewright.records import Record
from facewright.runs import owned, seen_images
from facewright.workflows.scores import ScoredPairs, score_pairs


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
    refuse_training_images(model, scored.embedded.digests, pairs)
    threshold, note = choose(scored, recognizer, far, confidence)
    if note is not None:
        on_event(Message(note))
    warn_of_accepting_none(threshold, on_event)
    bundle, norm = embedder.bundle, _norm(scored, recognizer)
    provenance = {name: fact for name, fact in bundle.provenance.items() if name != NORM}
    if norm is not None:
        provenance[NORM] = norm.to_dict()
    thresholds = with_threshold(bundle.thresholds, threshold)
    keep(replace(bundle, thresholds=thresholds, provenance=provenance), target)
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


def warn_of_accepting_none(threshold: Threshold, on_event: EventHandler) -> None:
    """Report a threshold that no genuine score reaches: it meets any false-accept rate, and is of no use."""
    if threshold.tar is not None and threshold.tar.value == 0:
        on_event(
            Message(
                f"warning: the threshold {threshold.value:.4f} accepts none of {threshold.genuine:,} genuine scores; "
                "look for people under two names in the data, or choose a higher rate"
            )
        )


def refuse_training_images(model: str | Path, digests: Sequence[str], data: str | Path) -> None:
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
    return path / "model.safetensors" if path.is_dir() else path


def keep(bundle: Bundle, target: Path) -> None:
    """Write a model file, atomically; that of a run directory only while no one trains in it.

    Raises:
        RunLocked: another process trains there. FacewrightError: it could not be written; the old one is untouched.
    """
    inside = target.name == "model.safetensors" and (target.parent / "run.json").is_file()
    with owned(target.parent) if inside else nullcontext():
        bundles.save(target, bundle)
