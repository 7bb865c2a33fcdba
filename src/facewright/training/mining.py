"""Hard negatives: false alarms of the network so far, added to what it trains on.

Source: Sung and Poggio 1998, "Example-based learning for view-based human face detection" (bootstrapping: false alarms
of the classifier, found in whole images, become training examples).
"""

from __future__ import annotations

import copy
import io
from collections.abc import Sequence
from pathlib import Path
from typing import overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from facewright import images
from facewright.data.label_files import read_boxes
from facewright.data.loaders import ExtendedStore
from facewright.errors import BadImage, DataError, UsageError
from facewright.events import EventHandler, Message
from facewright.faces.mining import false_alarms
from facewright.faces.scan import Scanner, Search
from facewright.files import write_atomic
from facewright.images import images_below
from facewright.training.loading import Data
from facewright.training.recipe import Recipe
from facewright.training.recipe_parts import HardNegativeMining


def mine_hard_negatives(
    network: nn.Module, data: Data, recipe: Recipe, limit: int, kept: Path, on_event: EventHandler
) -> None:
    """Find the network's false alarms in photos, and keep their patches.

    Args:
        network: images to the scores of two classes.
        recipe: its `mining` says where to look.
        limit: most false alarms to keep.
        kept: the .npy file of patches to write.
    Raises:
        DataError: no readable photo is there. UsageError: there are not two classes, one of them `mining.face`.
    """
    mining, face = recipe.mining, face_class(recipe, data.store.dataset.classes)
    photos, boxes = _photos(mining)
    if not photos:
        raise DataError(f"{mining.photos}: expected photos to find false alarms in, found none that can be read")
    on_event(Message(f"looking for false alarms in {len(photos)} photos"))
    scanner = Scanner(copy.deepcopy(network).eval(), data.spec, face, Search(threshold=mining.threshold))
    with torch.inference_mode():
        patches = false_alarms(scanner, _LazyPhotos(photos), limit, data.seed, boxes)
    packed = io.BytesIO()
    np.save(packed, patches, allow_pickle=False)
    write_atomic(kept, packed.getvalue(), mode=0o600)


def with_hard_negatives(data: Data, recipe: Recipe, kept: Path, on_event: EventHandler) -> Data:
    """Add the patches in a file of `mine_hard_negatives` to the training part; the recipe's `sampling` plans batches.

    Raises:
        UsageError: there are not two classes, one of them `mining.face`.
    """
    face, patches = face_class(recipe, data.store.dataset.classes), np.load(kept, allow_pickle=False)
    on_event(Message(f"hard negatives: {len(patches)} false alarms in {recipe.mining.photos} join the training part"))
    if not len(patches):
        return data
    return data.joined(ExtendedStore(data.store, patches, 1 - face), recipe.sampling)


def face_class(recipe: Recipe, classes: Sequence[str]) -> int:
    """Return which of two classes is that of the faces.

    Raises:
        UsageError: there are not two classes, one of them `mining.face`.
    """
    face = recipe.mining.face
    if len(classes) != 2 or face not in classes:
        raise UsageError(
            f"hard negatives are for two classes, one of them {face!r} (mining.face); got {', '.join(classes)}"
        )
    return classes.index(face)


def _photos(mining: HardNegativeMining) -> tuple[list[Path], list[NDArray[np.float64]] | None]:
    """List the photos, with their true boxes where there is a table; photos that it does not name are left out."""
    photos = images_below(Path(mining.photos))
    if not mining.boxes:
        return photos, None
    known = read_boxes(Path(mining.boxes))
    entries = [(photo, known.entry_of(photo)) for photo in photos]
    chosen = [(p, entry) for p, entry in entries if entry is not None and mining.part in ("", known.splits[entry])]
    return [photo for photo, _ in chosen], [known.boxes[entry] for _, entry in chosen]


class _LazyPhotos(Sequence[NDArray[np.uint8]]):
    """Photos read on access; one that cannot be read is black, which gives no false alarm."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, index: int) -> NDArray[np.uint8]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[NDArray[np.uint8]]: ...
    def __getitem__(self, index: int | slice) -> NDArray[np.uint8] | Sequence[NDArray[np.uint8]]:
        if isinstance(index, slice):
            return _LazyPhotos(self.paths[index])
        try:
            return images.read(self.paths[index])
        except (BadImage, OSError):
            return np.zeros((64, 64, 3), np.uint8)
