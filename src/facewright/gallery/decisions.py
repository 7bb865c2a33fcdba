"""The threshold from which on a face is an enrolled person: given, stored, or a conservative default."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress

from facewright.errors import FacewrightError, GalleryDamaged, Undefined, UsageError
from facewright.files import as_record
from facewright.gallery.store import GalleryStore
from facewright.metrics.thresholds import Threshold
from facewright.recognition import Recognizer

DEFAULT_FPIR = 0.01  # of a gallery without a threshold


class Decisions:
    """The thresholds of a gallery.

    Args:
        store: the enrolled people. recognizer: loads the gallery's model, where it is needed.
    """

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
        crops give a threshold for faces of low quality (`poor_faces`).
        """
        from facewright.gallery.calibration import choose
        from facewright.gallery.poor_faces import poor_threshold

        chosen = choose(self._store, fpir, confidence=confidence, prior=self._prior())
        poor = None
        with suppress(FacewrightError, OSError):  # the model is not on this machine
            poor = poor_threshold(self._store, self._recognizer(), fpir, confidence, chosen.value)
        if poor is not None:
            chosen = chosen.replace(poor_value=poor.value, poor_searches=poor.searches)
        self._store.set_threshold(chosen.to_dict())
        return chosen

    def _prior(self) -> Threshold | None:
        """A threshold of the model that has the histogram of its impostor scores."""
        try:
            thresholds = self._recognizer().thresholds()
        except (FacewrightError, OSError):  # the model is not on this machine
            return None
        return next((one for one in reversed(thresholds) if one.histograms is not None), None)
