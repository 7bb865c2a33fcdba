"""`Recognizer`: a detector, five points, a template and a network in one.

built-in         detector's box → `FivePoints` → dlib's crop, 150 px → dlib's 128 numbers
your own         detector's box → five points → ArcFace's crop, 112 px → the embedder's input → its vector
… and "none"     the photo → the embedder's input → its vector, as `Embedder` does it
"""

from __future__ import annotations

import cmath
import hashlib
import json
import warnings
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from facewright import images
from facewright.data.decoding import smallest_side
from facewright.embedding import Embedder, similarity
from facewright.errors import Undefined, UsageError
from facewright.faces.alignment import ARCFACE, ARCFACE_CORNERS, align_face, for_centres, for_corners
from facewright.faces.alignment import similarity as turn_and_shift
from facewright.faces.detectors import ALONE, LARGE, SMALLEST_FACE, Located, Whole, detector_of, missing
from facewright.faces.dlib.detection import LANDMARKS, FivePoints
from facewright.faces.quality import Quality, TypicalNorm, quality_of
from facewright.faces.scaling import LARGEST_DEFAULT
from facewright.faces.selection import (
    DEFAULT_SELECTION,
    Face,
    Picked,
    SelectFace,
    Vector,
    find_turned,
    one_of,
    select_turned,
    stored_selection,
)
from facewright.images import ImageLike, Pixels, as_image
from facewright.input_spec import InputSpec, Template
from facewright.metrics.thresholds import Threshold, pick
from facewright.models.face_weights import face_weights
from facewright.public_names import select_face_was_policy
from facewright.recognition.networks import BuiltIn, Matched, Network, Own, built_in, default_detector, read_defaults

STEPS = "1"  # of what happens between the networks; a change makes other vectors


class Recognizer:
    """A photo → faces → unit vectors; may be used from several threads once it has embedded a face.

    Args:
        embedder: your own network; default: the built-in one.
        detector: "dlib"; the .onnx file of YuNet, SCRFD or RetinaFace; or "none" for pre-cropped photos: the whole
            photo is the box of its one face, and your own embedder takes it as it is. None: "dlib" for the
            built-in network, "none" for another.
        cache: the folder of the converted networks of dlib; default: the user's.
        device: of the detector and the built-in network, as for `devices.choose`; the embedder has its own.
    """

    def __init__(
        self,
        embedder: Embedder | None = None,
        *,
        detector: str | None = None,
        cache: Path | None = None,
        device: str | None = None,
    ) -> None:
        self.embedder, self._cache = embedder, cache
        self.detector = default_detector(embedder) if detector is None else detector
        self._detector = detector_of(self.detector, cache, device)
        self._network: Network = BuiltIn(cache, device) if embedder is None else Own(embedder)
        self.name, self.width = self._network.name, self._network.width
        self.spec: InputSpec = self._network.spec  # what the network is fed

    @classmethod
    def load(
        cls,
        model: str | Path | None = None,
        *,
        detector: str | None = None,
        crop: float | None = None,
        flip: bool | None = None,
        cache: Path | None = None,
        device: str | None = None,
    ) -> Recognizer:
        """Create a recognizer by the name of a model.

        Args:
            model: a run directory, a bundle file, architecture@weights or a name of `face_weights`; "built-in": dlib's
                networks; None: the user's default (`defaults`), else these.
            crop: share of each side to keep. flip: average with the mirror image. Both in place of the model's own.
            detector: as of the class.
            cache: likewise.
            device: likewise.
        Raises:
            UsageError: the built-in networks have no crop and no flip. As `Embedder.load` for a model.
        """
        if model is None:
            chosen = read_defaults(cache)
            model, detector = chosen.model, chosen.detector if detector is None else detector
        if not built_in(model):
            if detector is None and face_weights(model) is not None:
                detector = read_defaults(cache).detector or "dlib"  # their crops are of detected faces
            embedder = Embedder.load(str(model), crop=crop, flip=flip, device=device)
            return cls(embedder, detector=detector, cache=cache, device=device)
        if crop not in (None, 1.0) or flip:
            raise UsageError("the built-in networks cut faces out themselves; leave out --crop and --flip")
        return cls(detector=detector, cache=cache, device=device)

    @property
    def licence(self) -> str | None:
        """The licence of the network's weights; None: not known."""
        if self.embedder is None:
            return "CC0-1.0"
        held = self.embedder.bundle.provenance.get("licence")
        return held if isinstance(held, str) else None

    @property
    def takes_photos_whole(self) -> bool:
        """Tell if a photo is fed to the network as it is: no detector, no points, no aligned crop."""
        return self.embedder is not None and self.detector == Whole.name

    @property
    def detector_name(self) -> str:
        """Return the detector's name in thresholds: without the folder of its file."""
        return self._detector.name

    @property
    def template(self) -> Template | None:
        """Return the template of the crops, for the points of `FivePoints`; None where photos are taken whole."""
        return None if self.takes_photos_whole else self._network.template

    @cached_property
    def _points(self) -> FivePoints:
        return FivePoints.load(cache=self._cache)

    @cached_property
    def fingerprint(self) -> str:
        """Return 32 hex characters for all between photo and vector: thresholds and galleries hold for it alone."""
        if self.embedder is not None and self.takes_photos_whole:
            return self.embedder.fingerprint
        parts = [STEPS, self._detector.name, self._detector.digest, LANDMARKS.digest(), self._network.digest]
        return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()

    def face_selection(self, select_face: SelectFace | None) -> SelectFace:
        """Return which of several faces is selected: the given one, or the default.

        Raises:
            UsageError: it is given where photos are taken whole. UnknownName: no such selection.
        """
        if select_face is not None and self.takes_photos_whole:
            raise UsageError(f"selecting a face needs a detector: {self.name} takes each photo whole; add one")
        return stored_selection(DEFAULT_SELECTION if select_face is None else select_face)

    def read(self, source: ImageLike, *, name: str | None = None) -> Pixels:
        """Read a photo, decoded as finely as this recognizer needs it; see `images.read`."""
        return images.read(source, name=name, at_least=self.at_least)

    @property
    def at_least(self) -> int | None:
        """Return the shorter side, px, to which decoding may reduce a big JPEG; None: not at all."""
        return smallest_side(self.spec) if self.takes_photos_whole else None

    def faces(
        self, photo: ImageLike, *, smallest: float | None = None, template: Template | None = None
    ) -> tuple[Face, ...]:
        """Find the faces of a photo, highest score first; there may be none.

        Where even the best scores low, they are also looked for in the photo turned by 90, 180 and 270 degrees. A very
        large photo is searched in parts, where the detector is fast or finds nothing at once.

        Args:
            photo: a path, an (H, W, 3) uint8 array or a PIL image; see `images.as_image`.
            smallest: px: side of the smallest face that is looked for. None: 10 to 40, as small as the photo's size
                allows in the default time, and 20 where none was found.
            template: of the crops, one of `TEMPLATES`; None: as `embed` takes them.
        Raises:
            UsageError: `smallest` is under 8, or a template where photos are taken whole. WeightsError: the package
            of the networks is not installed.
        """
        return self.search(photo, smallest=smallest, template=template)[0]

    def search(
        self, photo: ImageLike, *, smallest: float | None = None, template: Template | None = None
    ) -> tuple[tuple[Face, ...], float | None]:
        """Find the faces of a photo as `faces`; and the px from which on they were looked for.

        The px are None unless the photo is so large that they are more than was asked for, or than 40.
        """
        searched: list[float] = []

        def find(photo: Pixels, turned: bool) -> tuple[Face, ...]:
            if self.takes_photos_whole:
                return self._whole(photo, template)
            located = self._detector.every(photo, smallest, turned)
            searched.append(located.searched)
            return self._cut(photo, located, template) if len(located.boxes) else ()

        if smallest is not None and smallest < SMALLEST_FACE:
            raise UsageError(f"expected a smallest face of at least {SMALLEST_FACE} px, got {smallest:g}")
        faces = find_turned(as_image(photo), self._detector.limits, find)
        larger = bool(searched) and searched[0] > (smallest or LARGEST_DEFAULT)
        return faces, searched[0] if larger else None

    @select_face_was_policy
    def pick(self, photo: ImageLike, select_face: SelectFace = DEFAULT_SELECTION) -> Picked:
        """Select the face of a photo that is taken for the person.

        A face with a low score is also looked for in the photo turned by 90, 180 and 270 degrees; no face is selected
        where it scores too low in each ("not sure").

        Args:
            select_face: of several faces the "largest", the one nearest to the "center", or none: "error". For the
                first two faces from 80 px up are looked for, and smaller ones only where there are none: a small face
                in the background is not the person. For "error" every face from 40 px up counts.
        Raises:
            UnknownName: an unknown selection. Others as `faces`.
        """
        selection = stored_selection(select_face)
        pixels = as_image(photo)
        sizes = ALONE if selection == "error" else LARGE

        def select(photo: Pixels, located: Located) -> Picked:
            faces = self._cut(photo, located, None) if len(located.boxes) else ()
            return one_of(faces, photo.shape[:2], selection, missing(located))

        if self.takes_photos_whole:
            return one_of(self._whole(pixels, None), pixels.shape[:2], selection)
        upright = self._detector.locate(pixels, sizes)
        if not len(upright.boxes) and upright.searched > LARGEST_DEFAULT:
            upright = self._detector.every(pixels, None)
        return select_turned(
            select(pixels, upright), pixels, self._detector.limits,
            lambda turned: select(turned, self._detector.locate(turned, sizes[:-1])),
        )  # fmt: skip

    def pick_at(self, photo: Pixels, points: NDArray[np.float64]) -> Picked:
        """Return the face at given points, which nothing is searched for.

        Args:
            photo: (H, W, 3) uint8. points: (5, 2) px: middles of the eyes, tip of the nose, corners of the mouth.
        Raises:
            UsageError: the network's crops are not by these points, see `takes_points`.
        """
        if not self.takes_points:
            raise UsageError(f"{self.name}: its aligned crops are not made by five such points; give a detector")
        crop = align_face(photo, points, template=self._network.own_template or ARCFACE)
        low, high = points.min(axis=0).tolist(), points.max(axis=0).tolist()
        box = (low[0], low[1], high[0] - low[0], high[1] - low[1])
        return Picked(Face(box, None, points, self.spec.fit(crop), layout="centres"), 1, DEFAULT_SELECTION, None)

    @property
    def takes_points(self) -> bool:
        """Tell if the aligned crops are made by the points of `pick_at`."""
        own = self._network.own_template
        return own is not None and own.rule == "centres"

    @select_face_was_policy
    def vector(self, photo: ImageLike, select_face: SelectFace = DEFAULT_SELECTION) -> tuple[Vector | None, Picked]:
        """Return the unit vector (D,) of the face that `pick` selects; None where it selects none."""
        picked = self.pick(photo, select_face)
        return None if picked.face is None else self.embed([picked.face])[0], picked

    def embed(self, faces: Sequence[Face]) -> NDArray[np.float32]:
        """Embed N faces as `faces` and `pick` return them: (N, D) unit vectors, float32."""
        return self.embed_crops([face.chip for face in faces])

    def embed_with_norms(self, faces: Sequence[Face]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Embed as `embed`, and give the norms (N,) before the scaling to length one, NaN where they are not known."""
        return self._network.embed_with_norms([face.chip for face in faces])

    def embed_with_quality(self, faces: Sequence[Face]) -> tuple[NDArray[np.float32], list[Quality]]:
        """Embed as `embed`, and measure the quality of each face, see `qualities`."""
        if self.typical_norm is None:
            return self.embed(faces), self.qualities(faces)
        vectors, norms = self.embed_with_norms(faces)
        return vectors, self.qualities(faces, norms)

    def qualities(self, faces: Sequence[Face], norms: NDArray[np.float64] | None = None) -> list[Quality]:
        """Measure the quality of N faces, where `typical_norm` is known with the norms (N,); None: embed them."""
        if self.typical_norm is None:
            return [quality_of(face) for face in faces]
        if norms is None:
            _, norms = self.embed_with_norms(faces)
        median = self.typical_norm.median
        return [quality_of(face, norm / median) for face, norm in zip(faces, norms.tolist(), strict=True)]

    @property
    def typical_norm(self) -> TypicalNorm | None:
        """Return the typical norm of the network's embeddings, where it says something about scores."""
        return None if self.embedder is None else self.embedder.typical_norm

    def embed_crops(self, crops: Sequence[Pixels]) -> NDArray[np.float32]:
        """Embed aligned face crops, (H, W, 3) uint8 each, as a gallery keeps them; see `embed`."""
        return self._network.embed(crops)

    def embed_chips(self, chips: Sequence[Pixels]) -> NDArray[np.float32]:
        """Call `embed_crops`, with a FutureWarning: the old name works for one version."""
        warnings.warn("Recognizer.embed_chips is now embed_crops", FutureWarning, stacklevel=2)
        return self.embed_crops(chips)

    def thresholds(self) -> tuple[Threshold, ...]:
        """Return the thresholds for this fingerprint: those that are shipped, or stored in the model file.

        Raises:
            BundleError, DataError: the stored thresholds are damaged.
        """
        return tuple(one for one in self._network.thresholds() if one.fingerprint == self.fingerprint)

    def threshold(self, far: float | None = None) -> Threshold | None:
        """Return the threshold for a false-accept rate; default: the last one; None where there is none at all.

        Raises:
            Undefined: there are thresholds, but none for that rate.
        """
        held = self.thresholds()
        known = [one.far_target for one in held]
        if self.embedder is None and held and far is not None and far not in known:
            raise Undefined(f"no threshold is shipped for a false-accept rate of {far:g}; there is one for {known}")
        return pick(held, far)

    @select_face_was_policy
    def verify(
        self, a: ImageLike, b: ImageLike, *, select_face: SelectFace = DEFAULT_SELECTION, far: float | None = None
    ) -> Matched:
        """Decide whether two photos show the same person.

        Args:
            far: false-accept rate of the threshold to use; default: the last one.
        Raises:
            BadImage: a photo cannot be read. Undefined: there are thresholds, but none for that rate. As `pick`.
        """
        threshold = self.threshold(far)  # may raise, before an image is read
        one, other = (self.vector(self.read(photo), select_face) for photo in (a, b))
        return self.match(one, other, threshold)

    def match(
        self, a: tuple[Vector | None, Picked], b: tuple[Vector | None, Picked], threshold: Threshold | None
    ) -> Matched:
        """Compare two sides, as `vector` returns them, with the threshold of `threshold`."""
        score = None if a[0] is None or b[0] is None else similarity(a[0], b[0])
        others = [] if threshold is not None else [one.detector for one in self._network.thresholds()]
        elsewhere = [detector for detector in others if detector != self.detector_name]
        facts: dict[str, Any] = {}
        if threshold is not None:
            facts = {name: getattr(threshold, name) for name in ("far", "far_by_identity", "far_target", "data")}
            facts["threshold"] = threshold.value
            if score is not None:
                facts["same"] = score >= threshold.value
                facts["probability"] = threshold.calibration and threshold.calibration.probability(score)
        names = {"model": self.name, "detector": self.detector_name, "fingerprint": self.fingerprint}
        decided_with = elsewhere[-1] if elsewhere else None
        return Matched(score=score, sides=(a[1], b[1]), decided_with=decided_with, **names, **facts)

    def _whole(self, photo: Pixels, template: Template | None) -> tuple[Face, ...]:
        if template is not None:
            raise UsageError("a photo that is taken whole has no points to align a crop by; leave out the template")
        height, width = photo.shape[:2]
        return (Face((0.0, 0.0, float(width), float(height)), None, np.zeros((0, 2)), self.spec.fit(photo)),)

    def _cut(self, photo: Pixels, located: Located, template: Template | None) -> tuple[Face, ...]:
        """Return the located faces with their points and aligned crops."""
        wanted = self._network.template if template is None else template
        arcface = template is not None and template.name == ARCFACE_CORNERS.name
        own = for_centres(wanted) if arcface else self._network.own_template
        layout: Literal["centres", "corners"] | None = "corners"
        if wanted.rule == "box":
            layout = None
            x, y, width, height = located.boxes.T
            corners = np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]])
            every = corners.transpose(2, 0, 1)
        elif located.points is not None and own is not None and (arcface or wanted == for_corners(own)):
            layout, wanted, every = "centres", own, located.points  # nearer to ArcFace's than ours are
        else:
            every = self._points.of(photo, located.squares)
        crops = [align_face(photo, points, template=wanted) for points in every]
        if template is None:
            crops = [self.spec.fit(one) for one in crops]
        return tuple(
            Face(
                (x, y, width, height), score, points, one, cmath.phase(turn_and_shift(wanted.points, points)[0]), layout
            )
            for (x, y, width, height), score, points, one in zip(
                located.boxes.tolist(), located.scores, every, crops, strict=True
            )
        )
