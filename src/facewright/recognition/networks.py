"""Networks from aligned face crops to vectors: dlib's, or your own embedder; what two vectors say; the defaults."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache, cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, InstanceOf, SerializerFunctionWrapHandler, model_serializer

from facewright.embedding import Embedder, open_model
from facewright.errors import DataError, UsageError
from facewright.faces.alignment import ARCFACE, ARCFACE_CORNERS, DLIB, for_corners
from facewright.faces.detectors import Whole
from facewright.faces.dlib.graphs import MEANS, RESNET, SIDE, WIDTH, FaceVectors
from facewright.faces.onnx_detectors import detector_family
from facewright.faces.selection import Picked
from facewright.files import as_record, cache_folder, parse_json, read_json, write_json
from facewright.images import Pixels
from facewright.input_spec import InputSpec, Template
from facewright.metrics.intervals import Rate
from facewright.metrics.thresholds import VERIFICATION, Threshold, thresholds_for
from facewright.models.face_weights import face_weights
from facewright.records import Record

BUILT_IN = "built-in"
SHIPPED = "threshold.json"
TEMPLATES = {"dlib": DLIB, "arcface": ARCFACE_CORNERS}  # for the points of `dlib.detection.FivePoints`


def built_in(model: str | Path | None) -> bool:
    """Tell if a model's name means the built-in network."""
    return model is None or str(model) == BUILT_IN


class BuiltIn:
    """dlib's network, loaded when it is first needed; `cache` as of `Source.load`, `device` as of `graphs.Session`."""

    name = BUILT_IN
    width = WIDTH  # D
    template = DLIB  # of its crops, for the points of `dlib.detection.FivePoints`
    own_template: Template | None = None  # the same for the points of `alignment.ARCFACE`

    def __init__(self, cache: Path | None = None, device: str | None = "cpu") -> None:
        self._cache, self._device = cache, device
        red, green, blue = MEANS
        self.spec = InputSpec(SIDE, SIDE, (red / 255, green / 255, blue / 255), (256 / 255,) * 3)

    @cached_property
    def _vectors(self) -> FaceVectors:
        return FaceVectors.load(cache=self._cache, device=self._device)

    @property
    def digest(self) -> str:
        """Of the weights and the preprocessing of a crop."""
        return RESNET.digest()

    def embed(self, crops: Sequence[Pixels]) -> NDArray[np.float32]:
        """Embed N crops, each `spec.fit`: (N, D) unit vectors."""
        return self.embed_with_norms(crops)[0]

    def embed_with_norms(self, crops: Sequence[Pixels]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Embed N crops, and give the norms (N,) before the scaling to length one, NaN where they are not known."""
        if not crops:
            return np.zeros((0, self.width), np.float32), np.zeros(0)
        vectors = self._vectors.of(np.stack(crops))
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.asarray(vectors / norms, np.float32), np.asarray(norms[:, 0], np.float64)

    def thresholds(self) -> tuple[Threshold, ...]:
        """Return the thresholds that come with it, whatever detector and version they are for."""
        return _shipped()


class Own:
    """Your own embedder; its crops are of its template, ArcFace's where it has none, fitted to its input."""

    def __init__(self, embedder: Embedder) -> None:
        self.embedder = embedder
        self.name, self.width, self.spec = embedder.name, embedder.width, embedder.spec
        template = embedder.bundle.template or ARCFACE
        self.own_template: Template | None = template
        self.template = for_corners(template)

    @property
    def digest(self) -> str:
        return json.dumps([asdict(self.template), self.embedder.fingerprint])

    def embed(self, crops: Sequence[Pixels]) -> NDArray[np.float32]:
        return self.embedder.embed(self._rows(crops))

    def embed_with_norms(self, crops: Sequence[Pixels]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        return self.embedder.embed_with_norms(self._rows(crops))

    def _rows(self, crops: Sequence[Pixels]) -> NDArray[np.uint8]:
        expected = (self.spec.height, self.spec.width, 3)
        wrong = [crop.shape for crop in crops if crop.shape != expected]
        if wrong:
            raise UsageError(
                f"expected aligned face crops {expected}, as `faces` cuts them without a template, got {wrong[0]}"
            )
        return np.array(crops, np.uint8).reshape(-1, *expected)

    def thresholds(self) -> tuple[Threshold, ...]:
        return thresholds_for(self.embedder.bundle.thresholds, VERIFICATION)


@cache
def _shipped() -> tuple[Threshold, ...]:
    path = resources.files("facewright.faces").joinpath(SHIPPED)
    facts = parse_json(path.read_bytes(), dict[str, Any], SHIPPED, error=DataError)
    return as_record(facts.get("decisions"), tuple[Threshold, ...], SHIPPED, error=DataError)


Network = BuiltIn | Own
"""A network from aligned face crops to unit vectors; may be used from several threads."""


class Defaults(Record):
    """The model and the detector that are used where none is named."""

    model: str = BUILT_IN
    detector: str | None = None  # None: the model's own default


def read_defaults(cache: Path | None = None) -> Defaults:
    """Return the user's defaults. Raises UsageError: the file is damaged."""
    path = _file(cache)
    return read_json(path, Defaults, error=UsageError) if path.is_file() else Defaults()


def set_default(name: str, cache: Path | None = None) -> Defaults:
    """Make a model or a detector the default; "built-in" takes both back.

    Args:
        name: a recognizer or detector of `face_weights`, a detector's name or file, or a model file or run directory.
    Raises:
        UsageError: no such name or file. BundleError: the file holds neither.
    """
    row, known = face_weights(name), read_defaults(cache)
    if name == BUILT_IN:
        chosen = Defaults()
    elif (row is not None and row.kind == "detector") or name == "dlib":
        chosen = known.replace(detector=name)
    elif detector_family(Path(name)) is not None:
        chosen = known.replace(detector=str(Path(name).absolute()))
    else:
        chosen = known.replace(model=name if row is not None else _existing(name))
    path = _file(cache)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_json(path, chosen.to_dict())
    return chosen


def default_detector(embedder: Embedder | None) -> str:
    """Return the detector of a network where none is named: the one whose crops it was trained on.

    Raises:
        UsageError: its file is not known.
    """
    faces = None if embedder is None else embedder.spec.faces
    if embedder is None or faces is None:
        return "dlib" if embedder is None else Whole.name
    if faces.detector == "dlib":
        return "dlib"
    from facewright.training.recipe import run_detector

    if (own := run_detector(embedder.name)) is None:
        raise UsageError(
            f"{embedder.name} was trained on faces found by {faces.detector}: give its file, --detector FILE; "
            "--detector none for images that are such crops"
        )
    return own


def _existing(name: str) -> str:
    """Return the absolute name of a model file, a run directory or architecture@weights."""
    if Path(name).exists():
        open_model(name)
        return str(Path(name).absolute())
    if "@" in name:
        return name
    raise UsageError(f"{name}: expected built-in, the name of `facewright weights list`, a model file or a run")


def _file(cache: Path | None) -> Path:
    return (cache_folder() if cache is None else cache) / "defaults.json"


class Matched(Record):
    """The comparison of two photos: match or no match; None where a photo shows no face, or no threshold is known."""

    score: float | None  # cosine
    threshold: float | None = None
    same: bool | None = None  # score >= threshold
    far: Rate | None = None  # on the pairs that the threshold was chosen on
    far_by_identity: Rate | None = None  # the same with its interval over resampled people
    far_target: float | None = None
    probability: float | None = None  # that it is one person, among pairs mixed as those
    data: str | None = None  # the pairs of the threshold
    sides: tuple[InstanceOf[Picked], InstanceOf[Picked]] = Field(exclude=True)
    model: str
    detector: str
    fingerprint: str
    decided_with: str | None = None  # the detector that the model's threshold is for, where that is another one

    @property
    def doubtful(self) -> bool:
        """True where the decision and the match probability point to different answers."""
        return self.same is not None and self.probability is not None and self.same != (self.probability >= 0.5)

    @property
    def verdict(self) -> str | None:
        """The decision in words that agree with the match probability; None where there is no decision."""
        if self.same is None:
            return None
        if not self.doubtful:
            return "match" if self.same else "no match"
        return "not sure: accepted, but likelier no match" if self.same else "not sure: rejected, but likelier a match"

    @model_serializer(mode="wrap")
    def _as_printed(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        a, b = (side.to_dict() for side in self.sides)
        return {"task": "verify", **serialize(self), "verdict": self.verdict, "a": a, "b": b}
