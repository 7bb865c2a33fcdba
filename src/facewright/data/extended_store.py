"""A store with further images behind those of another, which came from no file of the data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facewright import images
from facewright.data.loaders import ImageStore
from facewright.data.records import Dataset, Record


class ExtendedStore:
    """A store with further images behind those of another; what a loader needs of a store.

    Args:
        patches: (K, H, W, 3) uint8, of the store's size.
        label: their class.
        origin: of the images, the first part of their paths: "mined" or "generated".
    """

    def __init__(self, store: ImageStore, patches: NDArray[np.uint8], label: int, origin: str = "mined") -> None:
        self.store = store
        self.patches = torch.from_numpy(patches).permute(0, 3, 1, 2)
        self.first = len(store.dataset.records)
        more = tuple(Record(f"{origin}/{self.first + number}", label) for number in range(len(patches)))
        self.digests = (*store.digests, *(images.pixel_digest(patch) for patch in patches))
        self.dataset: Dataset = replace(store.dataset, records=(*store.dataset.records, *more))

    def batch(self, indices: NDArray[np.int64]) -> Tensor:
        """(B, 3, H, W) uint8, as `PixelStore.batch`."""
        further = indices >= self.first
        if not further.any():
            return self.store.batch(indices)
        rows = torch.from_numpy(further)
        out = torch.empty((len(indices), *self.patches.shape[1:]), dtype=torch.uint8)
        out = out.contiguous(memory_format=torch.channels_last)
        out[rows] = self.patches[torch.from_numpy(indices[further] - self.first)]
        if not further.all():
            out[~rows] = self.store.batch(indices[~further])
        return out
