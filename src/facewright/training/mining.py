"""Hard negatives: what the network so far takes for faces where there are none, added to what it trains on.

Source: Sung and Poggio 1998, "Example-based learning for view-based human face detection" (bootstrapping: false alarms
of the classifier, found in whole pictures, become training examples).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from facewright import images
from facewright.data.boxes import read_boxes
from facewright.data.loaders import Pixels
from facewright.data.records import Dataset, Record
from facewright.errors import BadImage, DataError
from facewright.events import EventHandler, Message
from facewright.faces.mining import false_alarms
from facewright.faces.scan import Scanner, Search
from facewright.files import write_atomic
from facewright.images.files import images_below
from facewright.input_spec import InputSpec
from facewright.training.distributed import World
from facewright.training.feeding import Data

Plan = Callable[[int], list[NDArray[np.int64]]]


@dataclass(frozen=True)
class Mine:
    """Where hard negatives come from."""

    photos: Path  # a folder of photos
    boxes: Path | None  # the true faces in them; None: they show none
    part: str  # only photos of this part of the boxes file: train, validation or test; "" for all
    limit: int
    threshold: float  # probability from which on a patch is an alarm
    seed: int
    face: int  # the class of the faces


class Extended:
    """A store with pictures of its own behind those of another; what a loader needs of a store.

    Args:
        pictures: (K, H, W, 3) uint8, of the store's size.
        label: their class.
    """

    def __init__(self, store: Pixels, pictures: NDArray[np.uint8], label: int) -> None:
        self.store = store
        self.pictures = torch.from_numpy(pictures).permute(0, 3, 1, 2)
        self.first = len(store.dataset.records)
        more = tuple(Record(f"mined/{self.first + number}", label) for number in range(len(pictures)))
        self.digests = (*store.digests, *(images.pixel_digest(picture) for picture in pictures))
        self.dataset: Dataset = replace(store.dataset, records=(*store.dataset.records, *more))

    def batch(self, indices: NDArray[np.int64]) -> Tensor:
        """(B, 3, H, W) uint8, as `PixelStore.batch`."""
        mined = indices >= self.first
        if not mined.any():
            return self.store.batch(indices)
        rows = torch.from_numpy(mined)
        out = torch.empty((len(indices), *self.pictures.shape[1:]), dtype=torch.uint8)
        out = out.contiguous(memory_format=torch.channels_last)
        out[rows] = self.pictures[torch.from_numpy(indices[mined] - self.first)]
        if not mined.all():
            out[~rows] = self.store.batch(indices[~mined])
        return out


def harden(
    model: nn.Module,
    data: Data,
    mine: Mine,
    kept: Path,
    plan: Callable[[NDArray[np.int64], NDArray[np.int64]], Plan],
    on_event: EventHandler,
    world: World,
) -> Data:
    """The data with the network's false alarms among the training part.

    Args:
        model: what is fooled.
        kept: a .npy file of patches; where it exists it is what was found before, so that a run that goes on trains on
            the same.
        plan: from rows and labels of the training part to the plan of its batches.
    Raises:
        DataError: no readable photo is there.
    """
    if not kept.is_file() and world.writes:
        found = _found(model, data.spec, mine, on_event)
        packed = io.BytesIO()
        np.save(packed, found, allow_pickle=False)
        write_atomic(kept, packed.getvalue(), mode=0o600)
    world.wait()
    patches = np.load(kept, allow_pickle=False)
    on_event(Message(f"hard negatives: {len(patches)} false alarms in {mine.photos} join the training part"))
    if not len(patches):
        return data
    store = Extended(data.store, patches, 1 - mine.face)
    more = np.arange(store.first, len(store.dataset.records))
    rows = np.concatenate([data.train, more])
    return replace(data, store=store, train=rows, plan=plan(rows, store.dataset.labels[rows]))


def _found(model: nn.Module, spec: InputSpec, mine: Mine, on_event: EventHandler) -> NDArray[np.uint8]:
    """Patches (K, H, W, 3) uint8."""
    photos, boxes = _photos(mine)
    if not photos:
        raise DataError(f"{mine.photos}: expected photos to find false alarms in, found none that can be read")
    scanner = Scanner(model.eval(), spec, mine.face, Search(threshold=mine.threshold))
    on_event(Message(f"looking for false alarms in {len(photos)} photos"))
    with torch.inference_mode():
        return false_alarms(scanner, _Read(photos), mine.limit, mine.seed, boxes)


def _photos(mine: Mine) -> tuple[list[Path], list[NDArray[np.float64]] | None]:
    """The photos, and their true boxes where there is a table; photos that it does not name are then left out."""
    photos = images_below(mine.photos)
    if mine.boxes is None:
        return photos, None
    known = read_boxes(mine.boxes)
    entries = [(photo, known.entry_of(photo)) for photo in photos]
    chosen = [(p, entry) for p, entry in entries if entry is not None and mine.part in ("", known.splits[entry])]
    return [photo for photo, _ in chosen], [known.boxes[entry] for _, entry in chosen]


class _Read(Sequence[NDArray[np.uint8]]):
    """Photos that are read when they are asked for; one that cannot be read is a black one, which fools nobody."""

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
            return _Read(self.paths[index])
        try:
            return images.read(self.paths[index])
        except (BadImage, OSError):
            return np.zeros((64, 64, 3), np.uint8)
