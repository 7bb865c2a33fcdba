"""The answers of a server: each method runs in a thread of its request and waits for the networks in the engine's."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from starlette.requests import Request

from facewright.errors import DataError, Undefined, UnknownName, UsageError, missing_extra
from facewright.gallery.gallery import Gallery
from facewright.gallery.results import Photo
from facewright.images import Pixels, data_uri
from facewright.inference import Classifier
from facewright.metrics.thresholds import GALLERY, UNKNOWN, thresholds_for
from facewright.recognition import Picked, Recognizer, SelectFace
from facewright.serve.engine import (
    CALL,
    Budget,
    Call,
    Engine,
    Kind,
    QueuedRecognizer,
    bytes_to_decode,
    decode,
    reduction_of,
)
from facewright.serve.forms import Upload
from facewright.serve.responses import ApiError, busy
from facewright.serve.settings import Limits

if TYPE_CHECKING:
    from facewright.explanation.class_maps import Explainer

T = TypeVar("T")
ABOVE_ALL = 2.0  # a threshold that no cosine reaches
Runtime = Literal["pytorch", "onnx"]  # of the model


@dataclass(frozen=True, eq=False)
class Models:
    """The models that a server answers with."""

    name: str  # of the model, as it was named
    recognizer: Recognizer
    classifier: Classifier | None = None
    gallery: Gallery | None = None
    keep_crops: bool = True  # of enrolled people
    runtime: Runtime = "pytorch"


class Service:
    """The models behind a queue; `observe` gets the kind and size of each batch."""

    def __init__(self, models: Models, limits: Limits, observe: Callable[[str, int], None] | None = None) -> None:
        recognizer = models.recognizer
        self.models = models
        self._limits = limits
        self._inside = 0
        self._budget = Budget(limits.decoded)
        self._threads = ThreadPoolExecutor(limits.batch, "facewright-request")
        self.engine = Engine(
            {
                "detect": Kind(lambda photos: [recognizer.search(photo) for photo in photos]),
                "pick": Kind(lambda asked: [recognizer.pick(*one) for one in asked]),
                "embed": Kind(lambda crops: list(recognizer.embed_crops(crops)), limits.batch),
                "classify": Kind(lambda inputs: list(self._classifier().logits(np.stack(inputs))), limits.batch),
                "call": Kind(lambda calls: [call() for call in calls]),
            },
            observe,
        )
        self._recognizer = cast(Recognizer, QueuedRecognizer(recognizer, self.engine))
        self._gallery = None if models.gallery is None else Gallery(models.gallery.store, self._recognizer)

    def close(self) -> None:
        """Cancel what waits, finish what is being computed."""
        self.engine.close(self._limits.stop_seconds)
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self.models.gallery is not None:
            self.models.gallery.close()

    async def answer(self, request: Request, work: Callable[[], T], images: Sequence[Upload] = ()) -> T:
        """Return what `work` returns in a thread, which decodes `images` one after the other.

        Raises:
            ApiError: too many requests are in progress, the answer took too long, or the client is gone.
        """
        if self._inside >= self._limits.waiting:
            raise busy("too many requests are in progress; try again")
        self._inside += 1
        computing = asyncio.ensure_future(self._compute(work, images))
        leaving = asyncio.ensure_future(_disconnected(request))
        try:
            await asyncio.wait(
                {computing, leaving}, timeout=self._limits.answer_seconds, return_when=asyncio.FIRST_COMPLETED
            )
            if computing.done():
                return computing.result()
            if leaving.done():
                raise ApiError(499, "the client closed the connection")
            raise busy(f"no answer within {self._limits.answer_seconds:g} s; try again, or send a smaller photo")
        finally:
            computing.cancel()
            leaving.cancel()
            self._inside -= 1

    async def _compute(self, work: Callable[[], T], images: Sequence[Upload]) -> T:
        size = max((bytes_to_decode(image, self._finest, self._limits) for image in images), default=0)
        await self._budget.take(size)
        loop, call = asyncio.get_running_loop(), Call()

        def give_back(_: Future[T]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._budget.give, size)

        job = self._threads.submit(copy_context().run, _as_call, call, work)
        job.add_done_callback(give_back)
        try:
            return await asyncio.wrap_future(job)
        except asyncio.CancelledError:
            call.cancel()
            raise

    @property
    def _finest(self) -> int | None:
        """The `at_least` of the route that decodes an image most finely."""
        least, classifier = self.models.recognizer.at_least, self.models.classifier
        if classifier is None or least is None:
            return least
        return max(least, classifier.at_least) if classifier.cropper is None else None

    def faces(self, image: Upload) -> dict[str, Any]:
        """Detect the faces of an image."""
        pixels = self._decode(image)
        found, searched = self._recognizer.search(pixels)
        return _size(image, pixels) | {"searched": searched, "faces": [face.to_dict() for face in found]}

    def embed(self, image: Upload) -> dict[str, Any]:
        """Return the vector of each face of an image."""
        pixels = self._decode(image)
        found = self._recognizer.faces(pixels)
        vectors = self._recognizer.embed(found)
        faces = [face.to_dict() | {"vector": vector.tolist()} for face, vector in zip(found, vectors, strict=True)]
        return _size(image, pixels) | {"fingerprint": self.models.recognizer.fingerprint, "faces": faces}

    def predict(self, image: Upload, top_k: int) -> dict[str, Any]:
        """Return the most probable classes of an image; of a model trained on face crops, of the selected face."""
        classifier = self._classifier()
        return self._predicted(image, [classifier.fit(self._decode(image, classifier.at_least), image.name)], top_k)[0]

    def predict_faces(self, image: Upload, top_k: int) -> dict[str, Any]:
        """Return the most probable classes of each face of an image, from left to right."""
        cropper = self._classifier().cropper
        if cropper is None:
            words = "this server's model takes images whole, it finds no faces in them; ask /v1/predict"
            raise ApiError(404, words, code="not_served")
        pixels = decode(image, None, self._limits)
        ((faces, _),) = self.engine.do("call", [partial(cropper.every, pixels)])
        predicted = self._predicted(image, [self._classifier().spec.fit(face.chip) for face in faces], top_k)
        return _size(image, pixels) | {
            "faces": [face.to_dict() | one for face, one in zip(faces, predicted, strict=True)]
        }

    def _predicted(self, image: Upload, inputs: Sequence[Pixels], top_k: int) -> list[dict[str, Any]]:
        """Return the most probable classes of each network's input."""
        classifier, answers = self._classifier(), []
        held = thresholds_for(classifier.bundle.thresholds, UNKNOWN, classifier.fingerprint)
        for logits in self.engine.do("classify", inputs):
            prediction = classifier.prediction(image.name, logits, top_k)
            similarity = prediction.likeness
            unknown = None if not held or similarity is None else similarity < held[-1].value
            own = {"similarity": similarity, "likeness": similarity, "unknown": unknown}
            answers.append({"answer": None} | prediction.to_dict() | own)
        return answers

    def verify(self, a: Upload, b: Upload, select_face: SelectFace, far: float | None) -> dict[str, Any]:
        """Decide whether two images show the same person."""
        self._recognizer.threshold(far)  # which may refuse, before an image is decoded
        sides = [(image, *self._picked(image, select_face)) for image in (a, b)]
        vectors = iter(self._recognizer.embed([picked.face for _, _, picked in sides if picked.face is not None]))
        pairs = [(None if picked.face is None else next(vectors), picked) for _, _, picked in sides]
        answer = self.models.recognizer.match(pairs[0], pairs[1], self.models.recognizer.threshold(far)).to_dict()
        shown = [size | picked.to_dict() | {"message": picked.said, "said": picked.said} for _, size, picked in sides]
        return answer | dict(zip("ab", shown, strict=True))

    def identify(self, image: Upload, top_k: int, threshold: float | None) -> dict[str, Any]:
        """Look up every face of an image in the gallery."""
        gallery = self.gallery()
        value, source = (threshold, "request") if threshold is not None else _threshold_of(gallery)
        used = ABOVE_ALL if value is None else threshold  # None: the gallery's, also for faces of low quality
        found = gallery.identify_faces(self._photo(image), threshold=used, k=top_k)
        reduced = reduction_of(image, max(found.width, found.height))
        return found.to_dict() | {"reduced": reduced, "threshold": value, "threshold_source": source}

    def enroll(
        self, images: Sequence[Upload], person: str, metadata: dict[str, str], select_face: SelectFace
    ) -> dict[str, Any]:
        """Enrol images of one person, one after the other."""
        totals: dict[str, Any] = {"enrolled": 0, "already": 0, "photos": [], "failed": []}
        for image in images:
            try:
                photo = self._photo(image, person)
            except DataError as error:
                totals["failed"].append({"photo": image.name, "reason": getattr(error, "reason", str(error))})
                continue
            enrolled = self.gallery().enroll(
                [photo], metadata=metadata, keep_crops=self.models.keep_crops, select_face=select_face
            )
            facts = enrolled.to_dict()
            totals = {name: count + facts[name] for name, count in totals.items()}
        for one in totals["photos"]:
            one["said"] = one["message"]
        return totals

    def explain_pair(self, a: Upload, b: Upload, select_face: SelectFace) -> dict[str, Any]:
        """Show which regions made two faces similar."""
        faces = []
        for image in (a, b):
            _, picked = self._picked(image, select_face)
            if picked.face is None:
                raise DataError(f"{image.name}: {picked.reason}")
            faces.append(picked.face)
        from facewright.explanation.occlusion import occlude

        overlay = _overlay()
        result = occlude(self._recognizer, faces[0].chip, faces[1].chip)
        sides = zip((_shown(face.chip) for face in faces), (result.heat_a, result.heat_b), strict=True)
        shown = [{"overlay": data_uri(overlay(photo, heat)), "photo": data_uri(photo)} for photo, heat in sides]
        return {"kind": "pair", "score": result.score, "drop": result.drop, "a": shown[0], "b": shown[1]}

    def explain_class(self, image: Upload, name: str | None) -> dict[str, Any]:
        """Show where the network saw a class; the most probable one by default."""
        if not self.explains_classes:
            raise ApiError(404, "only a PyTorch model with classes shows where one was seen", code="not_served")
        (answer,) = self.engine.do("call", [partial(self._class_map, image.name, self._decode(image), name)])
        return dict(answer)

    @cached_property
    def _explainer(self) -> Explainer:
        from facewright.explanation.class_maps import Explainer

        return Explainer(self._classifier())

    def _class_map(self, photo: str, pixels: Pixels, name: str | None) -> dict[str, Any]:
        import torch

        overlay, explainer = _overlay(), self._explainer
        classifier = explainer.classifier
        inputs = classifier.fit(pixels, photo)
        batch = torch.from_numpy(inputs).permute(2, 0, 1)[None]
        prediction = classifier.prediction(photo, classifier.logits(batch)[0], len(classifier.classes))
        found = prediction.by_name
        wanted = next(iter(found), "") if name is None else name
        if wanted not in classifier.explained:
            raise UnknownName("class", wanted, classifier.explained)
        heat = explainer.maps(batch, [classifier.classes.index(wanted)])[0]
        return {
            "kind": "class",
            "name": wanted,
            "probability": found[wanted],
            "predicted": wanted if prediction.targets is not None else prediction.names[0],
            "overlay": data_uri(overlay(_shown(inputs), heat)),
            "photo": data_uri(_shown(inputs)),
        }

    @property
    def explains_classes(self) -> bool:
        """Return whether there are classes, and a network with gradients."""
        return self.models.classifier is not None and self.models.runtime == "pytorch"

    def gallery(self) -> Gallery:
        """Return the gallery. Raises ApiError: there is none."""
        if self._gallery is None:
            raise ApiError(404, "this server has no gallery; start it with --gallery FILE", code="not_served")
        return self._gallery

    def _classifier(self) -> Classifier:
        if self.models.classifier is None:
            raise ApiError(404, "this server's model has no classes: it compares faces", code="not_served")
        return self.models.classifier

    def _decode(self, image: Upload, at_least: int | None = None) -> Pixels:
        return decode(image, self.models.recognizer.at_least if at_least is None else at_least, self._limits)

    def _photo(self, image: Upload, person: str = "") -> Photo:
        return Photo(image.name, self._decode(image), person)

    def _picked(self, image: Upload, select_face: SelectFace) -> tuple[dict[str, int], Picked]:
        pixels = self._decode(image)
        return _size(image, pixels), self._recognizer.pick(pixels, select_face)


def _threshold_of(gallery: Gallery) -> tuple[float | None, str | None]:
    """The threshold that a gallery decides with, and where it comes from; None where there is none."""
    try:
        chosen = gallery.decision_threshold()
    except Undefined:
        return None, None
    default = "default" if chosen.purpose == GALLERY else "model"
    return chosen.value, default if gallery.threshold is None else "calibrated"


def _as_call(call: Call, work: Callable[[], T]) -> T:
    CALL.set(call)
    try:
        return work()
    except CancelledError:
        raise busy("the request was cancelled, or the server is stopping") from None


async def _disconnected(request: Request) -> None:
    """Return once the client is gone; the whole body has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _size(image: Upload, pixels: Pixels) -> dict[str, int]:
    height, width = pixels.shape[:2]
    return {"width": width, "height": height, "reduced": reduction_of(image, max(height, width))}


SHOWN = 224  # px: least side of the images that are shown


def _overlay() -> Callable[[Pixels, NDArray[np.float32]], Pixels]:
    """Return `report.explanations.overlay`. Raises UsageError: the extra `train` is not installed."""
    try:
        from facewright.report.explanations import overlay
    except ModuleNotFoundError as error:
        raise UsageError(missing_extra(error) or str(error)) from None
    return overlay


def _shown(pixels: Pixels) -> Pixels:
    """The image, enlarged where it is small."""
    height, width = pixels.shape[:2]
    times = max(1.0, SHOWN / max(height, width))
    size = round(width * times), round(height * times)
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))
