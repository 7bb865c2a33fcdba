"""A classifier of patches run over a whole photo: every position, every scale, one box a face; and its false alarms.

The photo is resized step by step; on each step the network gives its score for every patch, in one pass where it allows
(`fully_convolutional`), else in batches. Patches that score high are hits; suppression keeps one a face, and the mean
of the hits around it says where the face is (`boxes`). Source: Rowley, Baluja and Kanade 1998, "Neural network-based
face detection"; Sung and Poggio 1998, section 2.6, for the false alarms, on which a network is trained on.
"""

from __future__ import annotations

import copy
import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from facewright.devices import moved
from facewright.errors import Unconvertible, UnknownName, UsageError
from facewright.faces.boxes import OVERLAP, Frame, average, keep_best, soften
from facewright.graphs import LOGITS, Graph, Run
from facewright.input_spec import InputSpec
from facewright.metrics.detection import Floats, as_boxes, iou

if TYPE_CHECKING:
    from torch import Tensor, nn

    from facewright.faces.fully_convolutional import Dense

Pixels = NDArray[np.uint8]
Suppression = Literal["hard", "soft"]

WINDOW_STRIDE = 8  # px between patches where they are cut one by one
BATCH = 256  # patches at once
APART = 0.3  # intersection over union with a known face from which on a patch is none without a face
EACH = 32  # most patches of one photo, so that one odd photo is not all there is to learn from
TILE = 2**18  # px of a photo passed at once: what a tile's maps need stays near the processor, and memory is bounded


@dataclass(frozen=True)
class Search:
    """The settings of a search.

    Attributes:
        threshold: probability from which on a patch is a hit, in (0, 1).
        smallest: px of the photo that the smallest patch covers.
        growth: each patch size over the one before, above 1.
        overlap: intersection over union above which two hits are one face; for the hard suppression.
        nested: share of the smaller of two boxes from which on it lies inside the other; the higher score stays. Mouths
            and noses look like faces to a network that has seen few of them alone.
        support: least hits of a face; a true face is hit at several neighbouring places and sizes.
        refine: whether a face's box is the mean of its hits, or the best of them alone.
        frame: where in a patch the face box lies.
    """

    threshold: float = 0.5
    smallest: float = 32.0
    growth: float = 2**0.25
    suppression: Suppression = "hard"
    overlap: float = OVERLAP
    nested: float = 0.7
    support: int = 1
    refine: bool = True
    frame: Frame = field(default_factory=Frame)

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise UsageError(f"a scan needs a threshold between 0 and 1, not {self.threshold:g}")
        if self.smallest < 8 or self.growth < 1.01 or self.support < 1:
            given = f"{self.smallest:g} px, {self.growth:g} and {self.support}"
            raise UsageError(f"a scan needs patches of 8 px, a growth of 1.01 and 1 hit at least, not {given}")
        if self.suppression not in ("hard", "soft"):
            raise UnknownName("suppression", self.suppression, ("hard", "soft"))


@dataclass(frozen=True)
class FaceBoxes:
    """The faces of one photo, highest score first; none where there is none."""

    boxes: Floats  # (K, 4) x, y, width, height, px of the photo
    scores: Floats  # (K,) probability in (0, 1)
    support: NDArray[np.int64]  # (K,) hits each is the mean of

    def __len__(self) -> int:
        return len(self.boxes)

    def above(self, threshold: float) -> FaceBoxes:
        """Return the faces with score >= threshold."""
        sure = self.scores >= threshold
        return FaceBoxes(self.boxes[sure], self.scores[sure], self.support[sure])

    def to_list(self) -> list[dict[str, float | int]]:
        """A dict a face, as `scan --json` prints it."""
        rows = zip(self.boxes.round(2).tolist(), self.scores.tolist(), self.support.tolist(), strict=True)
        return [{**dict(zip("xywh", box, strict=True)), "score": score, "hits": hits} for box, score, hits in rows]


@dataclass(frozen=True)
class Level:
    """A photo at one size of the pyramid."""

    pixels: Pixels  # (H, W, 3)
    scale: tuple[float, float]  # px of the photo for one px of the level, across and down


@dataclass(frozen=True)
class Hits:
    """Patches that score high, on one level or all."""

    patches: Floats  # (N, 4) x, y, width, height, px of the photo
    scores: Floats  # (N,) probability


class Scanner:
    """A patch classifier that searches photos.

    Args:
        model: (B, 3, H, W) -> (B, C) scores, in inference mode; one score of two classes is the second's logit. Or the
            graph of an exported model, which ONNX Runtime runs on `device`.
        spec: what the model is fed; its height and width are the patch's. face: which class is the face.
    Attributes:
        why_windows: why patches are scored batch by batch instead of in one pass; None where they are not.
    """

    def __init__(
        self,
        model: nn.Module | Graph,
        spec: InputSpec,
        face: int,
        search: Search | None = None,
        device: str | None = "cpu",
    ) -> None:
        self.spec = spec
        self.face = face
        self.search = Search() if search is None else search
        self.why_windows: str | None = None
        self._dense: Dense | None = None
        self._run: Run | None = None
        self.model: nn.Module | None = None
        if isinstance(model, Graph):
            self.why_windows = "an exported graph takes images of one size"
            self._run = model.run(LOGITS, device)
            return
        from facewright.faces.fully_convolutional import to_dense

        self.model = model
        self._device = next((p.device for p in model.parameters()), None)
        try:
            self._dense = to_dense(model, spec.height, spec.width)
        except Unconvertible as error:
            self.why_windows = str(error)

    def searching(self, search: Search) -> Scanner:
        """Return the same network with another search; it is not prepared again."""
        other = copy.copy(self)
        other.search = search
        return other

    @property
    def stride(self) -> int:
        """px of a level between one patch and the next."""
        return WINDOW_STRIDE if self._dense is None else self._dense.stride

    def find(self, photo: Pixels) -> FaceBoxes:
        """Find the faces of a photo, (H, W, 3) uint8 RGB; one smaller than the smallest patch holds none."""
        hits = self.hits(photo)
        search = self.search
        if search.suppression == "hard":
            kept = keep_best(hits.patches, hits.scores, search.overlap)
            scores = hits.scores[kept]
        else:
            kept, scores = soften(hits.patches, hits.scores, floor=search.threshold)
        alone = keep_best(hits.patches[kept], scores, search.nested, of="smaller")
        kept, scores = kept[alone], scores[alone]
        refined, support = average(hits.patches, hits.scores, kept)
        enough = support >= search.support
        boxes = search.frame.boxes((refined if search.refine else hits.patches[kept])[enough])
        return FaceBoxes(boxes, scores[enough], support[enough])

    def hits(self, photo: Pixels) -> Hits:
        """Return every patch of every level that reaches the threshold."""
        found = [self._hits_of(level) for level in levels(photo, self.spec, self.search)]
        patches = [np.zeros((0, 4)), *(hits.patches for hits in found)]
        return Hits(np.concatenate(patches), np.concatenate([np.zeros(0), *(hits.scores for hits in found)]))

    def _hits_of(self, level: Level) -> Hits:
        chances = self.probabilities(level.pixels)
        rows, columns = np.nonzero(chances >= self.search.threshold)
        across, down = level.scale
        corner = np.stack([columns * self.stride * across, rows * self.stride * down], axis=1)
        size = np.broadcast_to((self.spec.width * across, self.spec.height * down), corner.shape)
        return Hits(np.hstack([corner, size]), chances[rows, columns])

    def probabilities(self, pixels: Pixels) -> Floats:
        """Compute the probability that each patch of an image shows a face: (rows, columns), patches `stride` px apart.

        Args:
            pixels: (H, W, 3) uint8, at least as large as a patch.
        """
        tall = max(self.spec.height, TILE // pixels.shape[1])
        count = (pixels.shape[0] - self.spec.height) // self.stride + 1
        rows = (tall - self.spec.height) // self.stride + 1
        strips = []
        for first in range(0, count, rows):
            top = first * self.stride
            bottom = top + (min(rows, count - first) - 1) * self.stride + self.spec.height
            strips.append(self._strip(pixels[top:bottom]))
        return np.concatenate(strips)

    def _strip(self, pixels: Pixels) -> Floats:
        """(H, W, 3) uint8 -> (rows, columns)."""
        if self._dense is not None:
            return _chance(self._through(self._dense.scores, pixels.transpose(2, 0, 1)[None])[0], self.face)
        size = self.spec.height, self.spec.width
        windows = sliding_window_view(pixels, size, axis=(0, 1))[:: self.stride, :: self.stride]
        rows, columns = windows.shape[:2]
        parts = []
        for start in range(0, rows * columns, BATCH):
            places = np.arange(start, min(start + BATCH, rows * columns))
            batch = windows[places // columns, places % columns]  # (B, 3, height, width)
            parts.append(_chance(self._scores(batch).T, self.face))
        return np.concatenate(parts).reshape(rows, columns)

    def _scores(self, batch: Pixels) -> Floats:
        """(B, 3, H, W) uint8 -> (B, C)."""
        if self._run is not None:
            return self._run(np.ascontiguousarray(batch.transpose(0, 2, 3, 1)))
        assert self.model is not None
        return self._through(self.model, batch)

    def _through(self, network: Callable[[Tensor], Tensor], batch: Pixels) -> Floats:
        """Give a batch (B, 3, H, W) to a PyTorch network; float64 on the CPU, as some devices have none."""
        import torch

        from facewright.data.augment import normalise

        with torch.inference_mode():
            pixels = torch.from_numpy(np.ascontiguousarray(batch))
            fed = pixels if self._device is None else moved(pixels, self._device)
            return np.asarray(network(normalise(fed, self.spec)).cpu().double().numpy())


def levels(photo: Pixels, spec: InputSpec, search: Search) -> Iterator[Level]:
    """Yield the pyramid of a photo, from the largest image, where patches are smallest, to the last that holds one."""
    height, width = photo.shape[:2]
    image = Image.fromarray(photo)
    zoom = min(spec.width, spec.height) / search.smallest
    while True:
        size = (round(width * zoom), round(height * zoom))
        if size[0] < spec.width or size[1] < spec.height:
            return
        # As training patches were fitted: bicubic, over all pixels that fall into one.
        pixels = np.array(image.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0))
        yield Level(pixels, (width / size[0], height / size[1]))
        zoom /= search.growth


def _chance(scores: Floats, face: int) -> Floats:
    """Scores (C, ...) -> the probability of one class (...)."""
    if len(scores) > 1:
        parts = np.exp(scores - scores.max(axis=0))
        return np.asarray(parts[face] / parts.sum(axis=0))
    return np.asarray(np.exp(-np.logaddexp(0, -scores[0] if face == 1 else scores[0])))


def false_alarms(
    scanner: Scanner, photos: Iterable[Pixels], limit: int, seed: int, known: Sequence[ArrayLike] | None = None
) -> Pixels:
    """Find what a network takes for faces in photos that show none: the highest-scoring patch of each place.

    Args:
        scanner: the network; its search says from which probability on a patch is an alarm.
        photos: (H, W, 3) uint8 each; one is held at a time.
        limit: maximum number of patches, at least 1; those with the highest scores are taken, at most 32 of one photo.
        seed: shifts the sizes of the patches, so that another round of mining finds others.
        known: the true boxes (T, 4) of each photo, where photos with faces are used: patches whose face box overlaps
            one by 0.3 or more are left out. None: the photos show no face.
    Returns:
        (K, height, width, 3) uint8, highest score first; K is 0 where there is no alarm.
    """
    drawn = np.random.default_rng(seed)
    best: list[tuple[float, int, int, Pixels]] = []
    for index, photo in enumerate(photos):
        smallest = scanner.search.smallest * scanner.search.growth ** drawn.random()
        shifted = scanner.searching(replace(scanner.search, smallest=smallest))
        faces = np.zeros((0, 4)) if known is None else as_boxes(known[index])
        for rank, (score, patch) in enumerate(_alarms(shifted, photo, faces)):
            entry = (score, -index, -rank, cut(photo, patch, scanner.spec))
            if len(best) < limit:
                heapq.heappush(best, entry)
            elif entry[:3] > best[0][:3]:
                heapq.heapreplace(best, entry)
    patches = [entry[3] for entry in sorted(best, key=lambda entry: entry[:3], reverse=True)]
    return np.array(patches, np.uint8).reshape(-1, scanner.spec.height, scanner.spec.width, 3)


def _alarms(scanner: Scanner, photo: Pixels, faces: Floats) -> list[tuple[float, Floats]]:
    """Return score and patch of the highest-scoring hits of one photo that overlap no face and not each other."""
    hits = scanner.hits(photo)
    clear = iou(scanner.search.frame.boxes(hits.patches), faces).max(axis=1, initial=0.0) < APART
    patches, scores = hits.patches[clear], hits.scores[clear]
    kept = keep_best(patches, scores, scanner.search.overlap)[:EACH]
    return [(float(scores[k]), patches[k]) for k in kept]


def cut(photo: Pixels, patch: Floats, spec: InputSpec) -> Pixels:
    """Cut a patch out of a photo, at the size of a network's input, (height, width, 3), resized as training images are.

    Args:
        patch: x, y, width, height in px of the photo, inside it.
    """
    x, y, width, height = (float(value) for value in patch)
    box = (max(0.0, x), max(0.0, y), min(x + width, photo.shape[1]), min(y + height, photo.shape[0]))
    image = Image.fromarray(photo)
    return np.array(image.resize((spec.width, spec.height), Image.Resampling.BICUBIC, box, reducing_gap=3.0))
