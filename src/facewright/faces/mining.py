"""Patches of photos without faces that a network takes for faces, to train on.

A classifier trained on random patches has seen few that look like a face; in a photo of ten thousand patches, one in a
thousand wrong is ten false alarms. So train, scan photos without faces, add the false alarms as negatives, train on.

Source: Sung and Poggio 1998, "Example-based learning for view-based human face detection", section 2.6 (bootstrap).
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from facewright.errors import UsageError
from facewright.faces.boxes import keep_best
from facewright.faces.scan import Pixels, Scanner
from facewright.input_spec import InputSpec
from facewright.metrics.detection import Floats, as_boxes, iou

APART = 0.3  # intersection over union with a known face from which on a patch is none without a face
EACH = 32  # most patches of one photo, so that one odd photo is not all there is to learn from


def false_alarms(
    scanner: Scanner, photos: Sequence[Pixels], limit: int, seed: int, known: Sequence[ArrayLike] | None = None
) -> Pixels:
    """Find what a network takes for faces in photos that show none: the highest-scoring patch of each place.

    Args:
        scanner: the network; its search says from which probability on a patch is an alarm.
        photos: (H, W, 3) uint8 each; looked at one at a time, so the sequence may read them when asked.
        limit: maximum number of patches; those with the highest scores are taken, at most 32 of one photo.
        seed: shifts the sizes of the patches, so that another round of mining finds others.
        known: the true boxes (T, 4) of each photo, where photos with faces are used: patches whose face box overlaps
            one by 0.3 or more are left out. None: the photos show no face.
    Returns:
        (K, height, width, 3) uint8, highest score first; K is 0 where there is no alarm.
    Raises:
        UsageError: a limit below 1, or not as many entries in `known` as photos.
    """
    if limit < 1 or (known is not None and len(known) != len(photos)):
        boxes = "no" if known is None else str(len(known))
        raise UsageError(f"expected a limit of 1 or more and boxes for every photo, got {limit} and {boxes} boxes")
    shifts = np.random.default_rng(seed).random(len(photos))
    best: list[tuple[float, int, int, Pixels]] = []
    for index, shift in enumerate(shifts):
        photo = photos[index]
        smallest = scanner.search.smallest * scanner.search.growth**shift
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
