"""The thresholds from which on a face is an enrolled person: given, stored, or a default; and one for poor faces."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facewright import images
from facewright.errors import FacewrightError, GalleryDamaged, Undefined, UsageError
from facewright.faces.quality import LOW, SHARP, relative_sharpness
from facewright.files import as_record
from facewright.gallery.store import GalleryStore
from facewright.images import Pixels
from facewright.metrics.thresholds import Threshold, accepting_at_most, allowed_at
from facewright.recognition import Recognizer

DEFAULT_FPIR = 0.01  # of a gallery without a threshold


class Decisions:
    """The thresholds of a gallery; `recognizer` loads the gallery's model, where it is needed."""

    def __init__(self, store: GalleryStore, recognizer: Callable[[], Recognizer]) -> None:
        self._store, self._recognizer = store, recognizer
        self._default: tuple[int, Threshold] | None = None  # of a revision of the gallery

    def for_faces(self, given: float | None) -> tuple[float, float | None]:
        """The given threshold, for every face; or the gallery's, and its own for faces of low quality."""
        if given is not None:
            if not math.isfinite(given):
                raise UsageError(f"expected a finite threshold, got {given}")
            return given, None
        chosen = self.threshold()
        return chosen.value, chosen.poor_value

    def threshold(self) -> Threshold:
        """The threshold that `calibrate` has stored; without one a conservative default, which is not stored.

        The default is chosen for `DEFAULT_FPIR` from the people enrolled now and the impostor scores of the model;
        where these are too few, it is the model's own threshold for pairs.

        Raises:
            Undefined: there is none of these.
        """
        stored = self.stored
        if stored is not None:
            return stored
        from facewright.gallery.calibration import choose

        revision = self._store.header().revision
        try:
            if self._default is None or self._default[0] != revision:
                self._default = revision, choose(self._store, DEFAULT_FPIR, prior=self._prior())
            return self._default[1]
        except Undefined as error:
            own = self._recognizer().threshold()
            if own is None:
                where = self._store.location
                if self._store.header().entries == 0:
                    raise Undefined(f"{where}: the gallery is empty; enroll people first") from None
                raise Undefined(
                    f"{where}: the gallery has no threshold, so no face can be called unknown, and "
                    f"there is no default: {str(error).removeprefix(f'{where}: ')}. Choose one (facewright "
                    "gallery calibrate), or give one (--threshold)"
                ) from None
            return own

    @property
    def stored(self) -> Threshold | None:
        """The threshold that `calibrate` has stored."""
        facts = self._store.header().threshold
        source = f"{self._store.location}: its threshold"
        return None if facts is None else as_record(dict(facts), Threshold, source, error=GalleryDamaged)

    def calibrate(self, fpir: float, confidence: float | None = None) -> Threshold:
        """Choose the threshold from the enrolled people and store it; see `calibration.choose`.

        If the model can be loaded, the impostor scores of the pairs that it was calibrated on are used too, and kept
        crops give a threshold for faces of low quality (`poor_threshold`).
        """
        from facewright.gallery.calibration import choose

        chosen = choose(self._store, fpir, confidence=confidence, prior=self._prior())
        poor = None
        with suppress(FacewrightError, OSError):  # the model is not on this machine
            poor = poor_threshold(self._store, self._recognizer(), fpir, confidence, chosen.value)
        if poor is not None:
            chosen = chosen.replace(poor_value=poor[0], poor_searches=poor[1])
        self._store.set_threshold(chosen.to_dict())
        return chosen

    def _prior(self) -> Threshold | None:
        """A threshold of the model that has the histogram of its impostor scores."""
        try:
            thresholds = self._recognizer().thresholds()
        except (FacewrightError, OSError):  # the model is not on this machine
            return None
        return next((one for one in reversed(thresholds) if one.histograms is not None), None)


MAX_SEARCHES = 200  # crops, drawn at random
FEWEST = 20
FACTORS = (3.0, 6.0, 12.0)  # first reduction, drawn from the first to the second; the last is the largest
STEPS = 6


def poor_threshold(
    store: GalleryStore, recognizer: Recognizer, fpir: float, confidence: float | None, at_least: float, seed: int = 0
) -> tuple[float, int] | None:
    """Choose the threshold for faces of low quality, and count the searches; None where fewer than 20 crops are kept.

    Blurred and tiny faces of different people come to look alike to a network, and like some enrolled face: they have
    an impostor distribution of their own, which no fit to good faces shows. It is counted here on the gallery itself:
    crops that were kept (`enroll --keep-crops`) are reduced and enlarged until their quality is low, and each is
    searched among the other people.

    Args:
        fpir, confidence: as `calibration.choose`; with too few crops for the rate, none of them is accepted.
        at_least: the gallery's threshold, which this one is never below.
    """
    best = poor_searches(store, recognizer, seed)
    if best.size < FEWEST:
        return None
    try:
        allowed = allowed_at(fpir, best.size, confidence)
    except Undefined:
        allowed = 0
    return max(at_least, accepting_at_most(best, allowed)), best.size


def poor_searches(store: GalleryStore, recognizer: Recognizer, seed: int = 0) -> NDArray[np.float64]:
    """Return the best score of poor copies of enrolled faces among the other people, (Q,)."""
    drawn = np.random.default_rng(seed)
    kept = [row for row in store.rows() if row.has_crop]
    places = sorted(drawn.permutation(len(kept))[:MAX_SEARCHES].tolist())
    people, copies = list[str](), list[Pixels]()
    for row in (kept[place] for place in places):
        crop = images.read(store.crop(row.number) or b"", name=row.entry.photo)
        copy = poor_copy(crop, drawn.uniform(*FACTORS[:2]))
        if copy is not None:
            people.append(row.entry.person)
            copies.append(copy)
    if not copies:
        return np.zeros(0)
    found = store.nearest(recognizer.embed_crops(copies), 2, {})
    best = [
        next((match.score for match in matches if match.person != person), np.nan)
        for person, matches in zip(people, found, strict=True)
    ]
    return np.array([score for score in best if np.isfinite(score)])


def poor_copy(crop: Pixels, factor: float) -> Pixels | None:
    """Reduce and enlarge a crop until its quality is low; None where it stays above.

    Args:
        crop: (H, W, 3) uint8. factor: of the first reduction; it grows to 12 times.
    """
    image = Image.fromarray(crop)
    for by in np.geomspace(factor, FACTORS[2], STEPS):
        small = (max(2, round(image.width / by)), max(2, round(image.height / by)))
        copy = np.asarray(image.resize(small, Image.Resampling.BOX).resize(image.size, Image.Resampling.BICUBIC))
        if relative_sharpness(copy) / SHARP < LOW:
            return copy
    return None
