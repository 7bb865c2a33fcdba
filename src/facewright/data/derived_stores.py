"""Stores made of another one: its pixels on a device, or further images behind its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facewright import devices, images
from facewright.data.loaders import ImageStore
from facewright.data.records import Dataset, Record

BLOCK = 4096  # images moved at once


class ResidentStore:
    """Some rows of a store on a device; what a loader needs of a store.

    Args:
        rows: (N,) those that batches are made of, ascending.
    """

    def __init__(self, store: ImageStore, rows: NDArray[np.int64], device: torch.device) -> None:
        self.store, self.rows, self.device = store, rows, device
        self.dataset, self.digests = store.dataset, store.digests
        _, channels, height, width = store.batch(rows[:1]).shape
        self.pixels = torch.empty((len(rows), height, width, channels), dtype=torch.uint8, device=device)
        for start in range(0, len(rows), BLOCK):
            block = store.batch(rows[start : start + BLOCK]).permute(0, 2, 3, 1)
            self.pixels[start : start + len(block)] = block.to(device)

    def batch(self, indices: NDArray[np.int64]) -> Tensor:
        """Gather images on the device: (B, 3, H, W) uint8, channels_last in memory."""
        places = np.searchsorted(self.rows, indices)
        if not np.array_equal(self.rows[np.minimum(places, len(self.rows) - 1)], indices):
            raise IndexError("a row is not among those on the device")
        return self.pixels.index_select(0, devices.moved(torch.from_numpy(places), self.device)).permute(0, 3, 1, 2)


def resident(store: ImageStore, rows: NDArray[np.int64], device: torch.device) -> tuple[ImageStore, str | None]:
    """Move the pixels of a store to the device where they fit.

    Args:
        rows: (N,) of the images that batches are made of.
    Returns:
        The store on the device, or the store as it is; and a line about it, None on the CPU.
    """
    if device.type == "cpu":
        return store, None
    rows = np.unique(rows)
    needed = len(rows) * store.batch(rows[:1]).numel()
    memory = devices.memory(device)
    size = f"{needed / 1e9:.1f} GB of pixels"
    if memory is None or not devices.fits(needed, memory):
        has = "that does not say how much it has" if memory is None else f"with {memory.free / 1e9:.1f} GB free"
        return store, f"{size} stay on the CPU: too many for {device} {has}"
    return ResidentStore(store, rows, device), f"{size} lie on {device}"


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
