"""Pixels that lie on the device: moved there once, so that a batch is a gather and its augmentation runs there."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facewright import devices
from facewright.data.loaders import ImageStore
from facewright.data.records import Dataset

BLOCK = 4096  # images moved at once


class ResidentStore:
    """Some rows of a store on a device; what a loader needs of a store.

    Args:
        rows: (N,) those that batches are made of, ascending.
    """

    def __init__(self, store: ImageStore, rows: NDArray[np.int64], device: torch.device) -> None:
        self.store, self.rows, self.device = store, rows, device
        self.pixels = _empty(store, rows, device)  # (N, H, W, 3)
        for start in range(0, len(rows), BLOCK):
            block = store.batch(rows[start : start + BLOCK]).permute(0, 2, 3, 1)
            self.pixels[start : start + len(block)] = block.to(device)

    @property
    def dataset(self) -> Dataset:
        """That of the store."""
        return self.store.dataset

    @property
    def digests(self) -> tuple[str, ...]:
        """Those of the store."""
        return self.store.digests

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


def _empty(store: ImageStore, rows: NDArray[np.int64], device: torch.device) -> Tensor:
    _, channels, height, width = store.batch(rows[:1]).shape
    return torch.empty((len(rows), height, width, channels), dtype=torch.uint8, device=device)
