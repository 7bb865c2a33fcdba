"""From images to probabilities: a bundle made ready for use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from facewright import bundle as bundles
from facewright import images
from facewright.bundle import Bundle
from facewright.data.archives import ArchivedImage
from facewright.data.decoding import smallest_side
from facewright.errors import BadImage, BundleError, DataError, UsageError
from facewright.faces.crops import READ_AT_LEAST, FaceCropper, cropper_for
from facewright.files import model_file
from facewright.graphs import LOGITS, as_rows, fitted
from facewright.images import MemoryImage
from facewright.metrics.calibration import softmax, target_values
from facewright.metrics.thresholds import ATTRIBUTE, class_threshold, thresholds_for
from facewright.records import Record

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from facewright.specs import Target

BATCH = 64
ImageInput = Path | ArchivedImage | MemoryImage
Box = tuple[float, float, float, float]  # x, y, width, height, px


class Answer(Record):
    """The decision of a model of two classes by its own threshold."""

    name: str  # the class
    score: float  # the probability of the accepted class
    accepted: str  # which one that is
    threshold: float  # accepted iff score >= threshold


class AttributeAnswer(Record):
    """Yes or no to one attribute."""

    yes: bool
    probability: float  # of yes
    threshold: float  # yes iff probability >= threshold; 0.5 where the model holds none


class NumberAnswer(Record):
    """A predicted number, in its units; low and high bound its prediction interval."""

    value: float
    low: float | None = None  # None: the model holds no interval
    high: float | None = None
    level: float | None = None  # share of images whose interval is to hold the truth


class ClassAnswer(Record):
    """The most probable class of one target."""

    name: str
    probability: float
    probabilities: dict[str, float]


TargetAnswer = AttributeAnswer | NumberAnswer | ClassAnswer


class Prediction(Record):
    """The most probable classes of one image, best first, or targets by name, or the reason why there are none.

    Where a threshold decides between two classes, the class it decides for comes first.
    """

    path: str
    names: tuple[str, ...]
    probabilities: tuple[float, ...]
    error: str | None = None
    likeness: float | None = None  # of `Classifier.similarity`
    unknown: bool | None = None  # True: too low for any of the classes; None: not asked
    answer: Answer | None = None  # None: the model holds no threshold between two classes
    targets: dict[str, TargetAnswer] | None = None  # None: the model has classes
    box: Box | None = None
    """Of the face, x, y, width, height in px of the photo; None: not every face was asked for."""

    @property
    def by_name(self) -> dict[str, float]:
        """Probabilities by class; of targets, of yes by attribute and of each class as "target: class"."""
        if self.targets is None:
            return dict(zip(self.names, self.probabilities, strict=True))
        found = {}
        for name, one in self.targets.items():
            if isinstance(one, AttributeAnswer):
                found[name] = one.probability
            elif isinstance(one, ClassAnswer):
                found |= {f"{name}: {inner}": value for inner, value in one.probabilities.items()}
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return what `predict --json` prints: some keys only where they were asked or held."""
        top = [{"name": n, "probability": p} for n, p in zip(self.names, self.probabilities, strict=True)]
        asked = {} if self.unknown is None else {"unknown": self.unknown, "likeness": self.likeness}
        answered = {} if self.answer is None else {"answer": self.answer.to_dict()}
        found = {} if self.targets is None else {"targets": {name: one.to_dict() for name, one in self.targets.items()}}
        box = {} if self.box is None else {"box": dict(zip("xywh", (round(one, 2) for one in self.box), strict=True))}
        return {"path": self.path, **box, "top": top, **found, **answered, **asked, "error": self.error}


class Classifier:
    """A trained network with the preprocessing it was trained with; PyTorch runs it, or ONNX Runtime if it is exported.

    Args:
        bundle: weights or graph, classes and InputSpec. device: what computes, as for `devices.choose`.
        detector: the file of the detector, where the model was trained on face crops of another one than dlib's.
    Raises:
        BundleError: it has no classes, or its threshold between them is damaged; or the graph cannot be run.
    """

    def __init__(self, bundle: Bundle, device: str | None = None, *, detector: str | None = None) -> None:
        if not bundle.classes:
            raise BundleError("the model has no classes: it compares faces (verify, pairs, embed), it names none")
        self.bundle = bundle
        self._device = device
        self.classes = bundle.classes
        self.task = bundle.task
        self.spec = bundle.spec
        try:
            self.threshold = class_threshold(bundle.thresholds, bundle.classes)
        except DataError as error:
            raise BundleError(str(error)) from None
        stored = {str(one.accepted): one.value for one in thresholds_for(bundle.thresholds, ATTRIBUTE)}
        attributes = () if bundle.task is None else bundle.task.of_kind("attribute")
        self.limits = {name: stored.get(name, 0.5) for name in (part.target.name for part in attributes)}
        self._detector = detector
        self._scale = 0.0 if bundle.head is None else bundle.head.scale  # above 0 for cosine heads alone
        # (B, H, W, 3) uint8 -> (B, C)
        self._scores = self._by_pytorch if bundle.exported is None else self._by_onnx_runtime
        if bundle.exported is not None:
            self._run = bundle.exported.graph.run(LOGITS, device)
        else:
            self.model  # noqa: B018 - built now, so that weights that do not fit are named here

    @classmethod
    def load(cls, path: str | Path, device: str | None = None, *, detector: str | None = None) -> Classifier:
        """From a run directory, a bundle file, or an .onnx file of `export`. Raises BundleError: none of these."""
        path = Path(path)
        return cls(bundles.load(model_file(path)), device, detector=detector)

    @cached_property
    def device(self) -> torch.device:
        """Return what PyTorch computes on."""
        from facewright.devices import choose

        return choose(self._device)

    @cached_property
    def model(self) -> nn.Module:
        """The network as PyTorch has it, for what looks inside. Raises BundleError: it was exported."""
        import torch

        network: nn.Module = self.bundle.model().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return network.to(self.device)

    @cached_property
    def fingerprint(self) -> str:
        """32 hex characters: equal where the scores of the classes are, whatever the classes are called."""
        if self.bundle.exported is not None:
            return self.bundle.exported.fingerprints[LOGITS]
        return bundles.fingerprint(self.bundle, self.bundle.weights)

    @cached_property
    def cropper(self) -> FaceCropper | None:
        """The face cropper of a model that was trained on face crops, or None. Raises: as `cropper_for`."""
        return cropper_for(self.spec, self._detector, self._device)

    @property
    def at_least(self) -> int:
        """px: the shorter side that a large JPEG may be reduced to while it is decoded."""
        return smallest_side(self.spec) if self.spec.faces is None else READ_AT_LEAST

    def fit(self, image: NDArray[np.uint8], name: str = "image") -> NDArray[np.uint8]:
        """Return an image as the network takes it: its face crop, if the model was trained on those; resized.

        Args:
            image: (H, W, 3) uint8 RGB, upright. name: for the error.
        Raises:
            BadImage: no face is found where one is needed.
        """
        return self.spec.fit(image if self.cropper is None else self.cropper.crop(image, name))

    @property
    def similarity_kind(self) -> str:
        """The measure that `similarity` returns: "cosine" for cosine heads, else "probability"."""
        return "cosine" if self._scale else "probability"

    def logits(self, pixels: NDArray[np.uint8] | Tensor) -> NDArray[np.float64]:
        """Scores of the classes before softmax.

        Args:
            pixels: (B, H, W, 3) uint8 RGB, or a tensor (B, 3, H, W); resized where H and W are not the network's.
        Returns:
            (B, C) float64, finite.
        Raises:
            BundleError: a score is not finite.
        """
        given = as_rows(pixels)
        rows = [self._scores(given[start : start + BATCH]) for start in range(0, len(given), BATCH)]
        scores = np.concatenate(rows) if rows else np.zeros((0, len(self.classes)))
        if not np.isfinite(scores).all():
            raise BundleError("the model's scores are NaN or infinite: its weights are damaged")
        return scores

    def probabilities(self, pixels: NDArray[np.uint8] | Tensor) -> NDArray[np.float64]:
        """Class probabilities (B, C), float64, of images as `logits` takes them; rows sum to one.

        Raises:
            UsageError: the model has targets in place of classes.
        """
        self.refuse_targets()
        return softmax(self.logits(pixels))

    @property
    def explained(self) -> tuple[str, ...]:
        """The scores that a map can be asked about: those of classes and attributes, not of numbers."""
        if self.task is None:
            return self.classes
        return tuple(name for part in self.task.parts if part.target.number is None for name in part.target.scores)

    def refuse_targets(self) -> None:
        """Raise UsageError where the model has targets in place of classes."""
        if self.task is not None:
            targets = ", ".join(self.task.names)[:200]
            raise UsageError(f"expected a model of classes; this one predicts {targets} (see train, evaluate, predict)")

    def similarity(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the similarity of each image to its nearest class, of scores (B, C): low for unknown people.

        With a cosine head it is the cosine to the nearest class direction, in [-1, 1]; with any other head the largest
        softmax probability, in (0, 1].

        Source: D. Hendrycks and K. Gimpel, "A baseline for detecting misclassified and out-of-distribution examples in
        neural networks", ICLR 2017, for the probability.
        """
        best = logits.max(axis=1) / self._scale if self._scale else softmax(logits).max(axis=1)
        return np.asarray(best, np.float64)

    likeness, likeness_name = similarity, similarity_kind  # the names in 0.1

    def prediction(self, path: str, logits: NDArray[np.float64], top_k: int = 5) -> Prediction:
        """Return the prediction for one image called `path`, of its scores (C,)."""
        if self.task is not None:
            values = target_values(logits[None], self.task)[0].tolist()
            targets = {part.target.name: self._answer_to(part.target, values[part.values]) for part in self.task.parts}
            return Prediction(path=path, names=(), probabilities=(), targets=targets)
        return self._top(path, softmax(logits[None])[0], float(self.similarity(logits[None])[0]), top_k)

    def of_files(self, paths: Sequence[ImageInput], top_k: int = 5) -> list[Prediction]:
        """Return the most probable classes of each image; a broken file gets an error and stops nothing."""
        return list(self.stream(paths, top_k))

    def stream(self, paths: Sequence[ImageInput], top_k: int = 5, *, every_face: bool = False) -> Iterator[Prediction]:
        """As `of_files`, a batch at a time: any number of files in bounded memory.

        Args:
            every_face: a prediction of each face found in a photo, with its box, from left to right.
        Raises:
            UsageError: every face of a model that takes images whole.
        """
        if every_face and self.cropper is None:
            raise UsageError(
                "expected a model that finds faces in photos for --every-face (train --detector); this one takes "
                "images whole"
            )
        for start in range(0, len(paths), BATCH):
            part = paths[start : start + BATCH]
            read = [self._read(path, every_face) for path in part]
            good = [pixels for faces in read if not isinstance(faces, str) for _, pixels in faces]
            logits = iter(self.logits(np.stack(good)) if good else ())
            for path, faces in zip(part, read, strict=True):
                if isinstance(faces, str):
                    yield Prediction(path=str(path), names=(), probabilities=(), error=faces)
                else:
                    yield from (self.prediction(str(path), next(logits), top_k).replace(box=box) for box, _ in faces)

    def _by_pytorch(self, rows: NDArray[np.uint8]) -> NDArray[np.float64]:
        import torch

        from facewright.data.augment import normalise, resize
        from facewright.devices import moved

        with torch.inference_mode():
            pixels = resize(torch.from_numpy(rows).permute(0, 3, 1, 2), self.spec.height, self.spec.width)
            scores: NDArray[np.float64] = (
                self.model(moved(normalise(pixels, self.spec), self.device)).cpu().double().numpy()
            )
        return scores

    def _by_onnx_runtime(self, rows: NDArray[np.uint8]) -> NDArray[np.float64]:
        return self._run(fitted(rows, self.spec.height, self.spec.width))

    def _read(self, path: ImageInput, every_face: bool) -> list[tuple[Box | None, NDArray[np.uint8]]] | str:
        """Boxes and pixels fitted to the network's input (H, W, 3), or why there are none; without a box one alone."""
        try:
            content = path.content() if isinstance(path, ArchivedImage) else path
        except BadImage as error:
            return error.reason
        pixels = images.try_read(content, name=str(path), at_least=None if every_face else self.at_least)
        if isinstance(pixels, str):
            return pixels
        try:
            if every_face and self.cropper is not None:
                faces, reason = self.cropper.every(pixels)
                return reason or [(face.box, self.spec.fit(face.chip)) for face in faces]
            return [(None, self.fit(pixels, str(path)))]
        except BadImage as error:
            return error.reason

    def _answer_to(self, target: Target, values: list[float]) -> TargetAnswer:
        """Return what the values (V,) of one target mean."""
        value, spec = values[0], target.number
        if target.kind == "attribute":
            limit = self.limits[target.name]
            return AttributeAnswer(yes=value >= limit, probability=value, threshold=limit)
        if spec is not None and spec.error is not None:
            return NumberAnswer(value=value, low=value - spec.error, high=value + spec.error, level=spec.level)
        if spec is not None:
            return NumberAnswer(value=value)
        named = dict(zip(target.classes, values, strict=True))
        best = max(named, key=lambda name: named[name])
        return ClassAnswer(name=best, probability=named[best], probabilities=named)

    def _top(self, path: str, scores: NDArray[np.float64], similarity: float, top_k: int) -> Prediction:
        order = np.argsort(-scores, kind="stable")
        answer = self._answer(scores)
        if answer is not None:
            order = order if self.classes[order[0]] == answer.name else order[::-1]
        names, values = tuple(self.classes[i] for i in order[:top_k]), tuple(float(scores[i]) for i in order[:top_k])
        return Prediction(path=path, names=names, probabilities=values, likeness=similarity, answer=answer)

    def _answer(self, scores: NDArray[np.float64]) -> Answer | None:
        """Return what the stored threshold makes of one image's probabilities (2,)."""
        line = self.threshold
        if line is None:
            return None
        score = float(scores[self.classes.index(line.accepted)])
        return Answer(name=line.decide(score), score=score, accepted=line.accepted, threshold=line.value)
