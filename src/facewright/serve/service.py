"""What a server answers: each method takes photos as they came and gives what `schemas` describes.

Photos are decoded by a few threads, then pass the networks in the engine's one thread, where the pictures of requests
that came together are one batch. No more than `Limits.waiting` requests are inside at once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeVar

import anyio.to_thread
import numpy as np
import torch
from numpy.typing import NDArray

from facewright import images
from facewright.data.decoding import smallest_side
from facewright.decision import UNKNOWN, pick, stored
from facewright.errors import DataError
from facewright.gallery.deciding import person_of
from facewright.gallery.gallery import Gallery
from facewright.gallery.store import Match
from facewright.images import Pixels
from facewright.inference import Classifier
from facewright.recognition import Face, Picked, Policy, Recognizer
from facewright.serve.engine import Engine, Kind
from facewright.serve.explaining import Explanations
from facewright.serve.refusals import Refusal
from facewright.serve.settings import Limits
from facewright.serve.uploads import Upload

DECODERS = 2  # threads that decode photos
T = TypeVar("T")
Runtime = Literal["pytorch", "onnx"]  # of the model


@dataclass(frozen=True, eq=False)
class Models:
    """What a server has."""

    name: str  # of the model, as it was named
    recognizer: Recognizer
    classifier: Classifier | None = None
    gallery: Gallery | None = None
    keep_crops: bool = True  # of who is enrolled
    runtime: Runtime = "pytorch"


class Service:
    """The networks behind a queue.

    Args:
        models: what to answer with. limits: of photos and of requests at once.
        observe: told the kind and size of each batch.
    """

    def __init__(self, models: Models, limits: Limits, observe: Callable[[str, int], None] | None = None) -> None:
        self.models = models
        self._limits = limits
        self._photo_limits = images.Limits(pixels=limits.pixels, bytes=limits.bytes)
        self._inside = 0
        self._decoders = anyio.CapacityLimiter(DECODERS)
        self.explanations = Explanations(models.recognizer, models.classifier)
        self.engine = Engine(
            {
                "find": Kind(lambda photos: [models.recognizer.faces(photo) for photo in photos]),
                "pick": Kind(lambda asked: [models.recognizer.pick(*one) for one in asked]),
                "embed": Kind(lambda faces: list(models.recognizer.embed(faces)), limits.batch),
                "classify": Kind(self._classified, limits.batch),
                "call": Kind(lambda calls: [call() for call in calls]),
            },
            observe,
        )

    @property
    def waiting(self) -> int:
        """Jobs that wait for the networks."""
        return self.engine.waiting

    def close(self) -> None:
        """Finish what was begun."""
        self.engine.close()
        if self.models.gallery is not None:
            self.models.gallery.close()

    @contextlib.asynccontextmanager
    async def admitted(self) -> AsyncIterator[None]:
        """A place among the requests that are answered.

        Raises:
            Refusal: there is none, or the answer took too long.
        """
        if self._inside >= self._limits.waiting:
            raise Refusal(503, "too many requests wait already; try again", headers={"retry-after": "1"})
        self._inside += 1
        try:
            async with asyncio.timeout(self._limits.answer_seconds):
                yield
        except TimeoutError:
            raise Refusal(503, f"no answer within {self._limits.answer_seconds:g} s; try again") from None
        finally:
            self._inside -= 1

    async def faces(self, photo: Upload) -> dict[str, Any]:
        """Where the faces are."""
        pixels, found = await self._found(photo)
        return _size(pixels) | {"faces": [face.to_dict() for face in found]}

    async def embed(self, photo: Upload) -> dict[str, Any]:
        """The vector of each face."""
        pixels, found = await self._found(photo)
        vectors = await self._embedded(found)
        faces = [face.to_dict() | {"vector": vector.tolist()} for face, vector in zip(found, vectors, strict=True)]
        return _size(pixels) | {"fingerprint": self.models.recognizer.fingerprint, "faces": faces}

    async def predict(self, photo: Upload, top_k: int) -> dict[str, Any]:
        """The likeliest classes."""
        classifier = self._classifier()
        pixels = await self._decoded(photo, smallest_side(classifier.spec))
        logits = await self._do("classify", classifier.spec.fit(pixels))
        said = classifier.prediction(photo.name, logits, top_k)
        decision = pick(stored(classifier.bundle, UNKNOWN, classifier.fingerprint), None)
        unknown = None if decision is None or said.likeness is None else said.likeness < decision.threshold.value
        return {"answer": None, "likeness": said.likeness} | said.to_dict() | {"unknown": unknown}

    async def verify(self, a: Upload, b: Upload, policy: Policy, far: float | None) -> dict[str, Any]:
        """The same person or not."""
        (photo_a, one), (photo_b, other) = await asyncio.gather(self._picked(a, policy), self._picked(b, policy))
        vectors = iter(await self._embedded([side.face for side in (one, other) if side.face is not None]))
        first, second = (None if side.face is None else next(vectors) for side in (one, other))
        said = self.models.recognizer.match((first, one), (second, other), far=far).to_dict()
        sides = {"a": _side(photo_a, one), "b": _side(photo_b, other)}
        return said | sides

    async def identify(self, photo: Upload, top_k: int, threshold: float | None) -> dict[str, Any]:
        """Who is on a photo: every face of it, looked up."""
        gallery = self.gallery()
        pixels, found = await self._found(photo)
        vectors = await self._embedded(found)
        if threshold is None:
            kept = await threaded(lambda: gallery.threshold)
            threshold = None if kept is None else kept.threshold.value
        matches = await threaded(partial(gallery.store.nearest, vectors, top_k, {})) if found else []
        faces = [_known(face, best, threshold) for face, best in zip(found, matches, strict=True)]
        return _size(pixels) | {"threshold": threshold, "faces": faces}

    async def explain_pair(self, a: Upload, b: Upload, policy: Policy) -> dict[str, Any]:
        """Which regions made two faces alike."""
        sides = await asyncio.gather(self._picked(a, policy), self._picked(b, policy))
        faces = []
        for (_, side), photo in zip(sides, (a, b), strict=True):
            if side.face is None:
                raise DataError(f"{photo.name}: {side.reason}")
            faces.append(side.face)
        return dict(await self._do("call", partial(self.explanations.pair, *faces)))

    async def explain_class(self, photo: Upload, name: str | None) -> dict[str, Any]:
        """Where a class was seen."""
        classifier = self._classifier()
        pixels = await self._decoded(photo, smallest_side(classifier.spec))
        return dict(await self._do("call", partial(self.explanations.of_class, photo.name, pixels, name)))

    def gallery(self) -> Gallery:
        """The gallery.

        Raises:
            Refusal: there is none.
        """
        if self.models.gallery is None:
            raise Refusal(501, "this server has no gallery; start it with --gallery FILE")
        return self.models.gallery

    async def alone(self, work: Callable[[], T]) -> T:
        """Have something done in the engine's thread, where the networks are."""
        result: T = await self._do("call", work)
        return result

    def _classifier(self) -> Classifier:
        if self.models.classifier is None:
            raise Refusal(501, "this server's model has no classes: it compares faces, it names none")
        return self.models.classifier

    def _classified(self, fitted: Sequence[Pixels]) -> Sequence[NDArray[np.float64]]:
        return list(self._classifier().logits(torch.from_numpy(np.stack(fitted)).permute(0, 3, 1, 2)))

    async def _found(self, photo: Upload) -> tuple[Pixels, tuple[Face, ...]]:
        pixels = await self._decoded(photo, self.models.recognizer.at_least)
        return pixels, await self._do("find", pixels)

    async def _picked(self, photo: Upload, policy: Policy) -> tuple[Pixels, Picked]:
        pixels = await self._decoded(photo, self.models.recognizer.at_least)
        return pixels, await self._do("pick", (pixels, policy))

    async def _embedded(self, faces: Sequence[Face]) -> NDArray[np.float32]:
        """(N, D) of N faces, each of which may pass the network together with those of others."""
        rows = await asyncio.gather(*(self._do("embed", face) for face in faces))
        return np.stack(rows) if rows else np.zeros((0, self.models.recognizer.width), np.float32)

    async def _decoded(self, photo: Upload, at_least: int | None) -> Pixels:
        """(H, W, 3) upright; a big JPEG perhaps smaller, as the same model reads it from a file."""
        read = partial(
            images.read, photo.content, limits=self._photo_limits, name=photo.name, at_least=at_least
        )  # fmt: skip
        return await anyio.to_thread.run_sync(read, limiter=self._decoders)

    async def _do(self, kind: str, item: Any) -> Any:
        return await asyncio.wrap_future(self.engine.submit(kind, item))


async def threaded(work: Callable[[], T]) -> T:
    """Have something done in a thread that need not wait for the networks: a look into the gallery."""
    return await anyio.to_thread.run_sync(work)


def _size(pixels: Pixels) -> dict[str, Any]:
    return {"width": pixels.shape[1], "height": pixels.shape[0]}


def _side(pixels: Pixels, picked: Picked) -> dict[str, Any]:
    return _size(pixels) | picked.to_dict() | {"said": picked.said}


def _known(face: Face, matches: Sequence[Match], threshold: float | None) -> dict[str, Any]:
    person = None if threshold is None else person_of(matches, threshold)
    return face.to_dict() | {"person": person, "matches": [match.to_dict() for match in matches]}
