"""Loaders: a store, a plan and an augmentation make batches, in plan order, the same for any number of workers.

A store may be on the device, so that a batch is a gather there, or have further images behind those of another one.
"""

from __future__ import annotations

import math
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from threading import Thread
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facewright import devices, images
from facewright.data.augment import apply, draws, normalise, resize
from facewright.data.records import Dataset, Record
from facewright.devices import fault, moved
from facewright.errors import DataError, UsageError
from facewright.input_spec import InputSpec
from facewright.specs import Augment

CPU = torch.device("cpu")
_AHEAD = 2  # batches each worker may be ahead of the consumer: bounds memory
_KEPT = 8  # free buffers a loader keeps at most
_NAMED = 8  # files an error message names at most
_REPEAT = 2**40  # more than any store holds: the second use of an image in an epoch counts as another image


class ImageStore(Protocol):
    """The part of a `PixelStore` that a loader needs."""

    @property
    def dataset(self) -> Dataset: ...

    @property
    def digests(self) -> tuple[str, ...]: ...

    def batch(self, indices: NDArray[np.int64]) -> Tensor: ...


@dataclass(frozen=True)
class Batch:
    """Images ready for a network and where they came from."""

    images: Tensor  # (B, 3, size, size) float32, normalised, channels_last memory
    indices: NDArray[np.int64]  # (B,) positions in the store


@dataclass(frozen=True)
class _Job:
    step: int
    epoch: int
    indices: NDArray[np.int64]
    keys: NDArray[np.int64]  # what the random numbers are drawn for


@dataclass(eq=False)
class Loader:
    """Make the batches of a plan.

    Several workers pay where the network is on a GPU and the pixels are not; 0 prepares each batch when it is asked
    for: the right number where training itself uses all the cores. Raises UsageError: a size below 1 or a negative
    number of workers.
    """

    store: ImageStore
    spec: InputSpec  # mean, std and colour order of the network's input
    augment: Augment | None  # None only resizes
    size: int  # of the input, px
    seed: int
    workers: int = 0  # threads that prepare batches ahead
    device: torch.device = CPU  # batches go there as uint8, from pinned memory, without waiting; normalised there
    _buffers: _Buffers = field(default_factory=lambda: _Buffers(), init=False, repr=False)

    def __post_init__(self) -> None:
        if self.size < 1:
            raise UsageError(f"the size of the images must be at least 1 px, got {self.size}")
        if self.workers < 0:
            raise UsageError(f"the number of workers must be 0 or more, got {self.workers}")

    def epoch(self, plan: Sequence[NDArray[np.int64]], epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of one epoch, in order; closing the iterator stops and joins the workers.

        Args:
            plan: the whole plan of the epoch, also where `start` skips a part.
            start: batches to leave out, without computing them: the position a resumed run goes on from.
        Raises:
            UsageError: start outside 0 … len(plan). DataError: a batch could not be made; names its files.
        """
        if not 0 <= start <= len(plan):
            raise UsageError(f"the plan has {len(plan)} batches: cannot start at {start}")
        jobs = _jobs(plan, epoch, start)
        if self.workers == 0:
            return (self._make_alone(job) for job in jobs)  # holds no batch, which would need memory beside the next
        return self._prefetched(jobs)

    def _make_alone(self, job: _Job) -> Batch:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # many small steps: waking and joining threads for each costs more than it gives
        try:
            return self._make(job)
        finally:
            torch.set_num_threads(threads)

    def _prefetched(self, jobs: Sequence[_Job]) -> Iterator[Batch]:
        pool = ThreadPoolExecutor(self.workers, "facewright-loader", _single_threaded, (torch.get_num_threads(),))
        waiting: deque[Future[Batch]] = deque()
        remaining = iter(jobs)
        try:
            for job in remaining:
                waiting.append(pool.submit(self._make, job))
                if len(waiting) == _AHEAD * self.workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _make(self, job: _Job) -> Batch:
        try:
            images = self.store.batch(job.indices)
            if self.augment is None:
                images = resize(images, self.size, self.size)
            else:
                uniforms = draws(self.seed, job.epoch, job.keys)
                images = apply(images, uniforms, self.augment, self.size)
            images = moved(images, self.device)
            on_cpu = self.device.type == "cpu"
            out = self._buffers.take((len(job.indices), 3, self.size, self.size)) if on_cpu else None
            return Batch(normalise(images, self.spec, out), job.indices)
        except Exception as error:
            if isinstance(error, RuntimeError) and fault(error) is not error:
                raise  # of the device, not of these images
            raise DataError(f"batch {job.step} of epoch {job.epoch} ({self._files(job)}): {error}") from error

    def _files(self, job: _Job) -> str:
        records = self.store.dataset.records
        known = [records[index].path for index in job.indices[:_NAMED] if 0 <= index < len(records)]
        rest = len(job.indices) - len(known)
        return ", ".join(known) + (f" and {rest} more" if rest else "")


class _Buffers:
    """Memory for batches, reused once nothing holds a batch's storage: fresh pages cost more than filling them."""

    def __init__(self) -> None:
        self._free: deque[Tensor] = deque(maxlen=_KEPT)

    def take(self, shape: tuple[int, ...]) -> Tensor:
        """A float32 channels_last tensor, contents undefined, in no other use."""
        try:
            memory = self._free.pop()
        except IndexError:
            memory = torch.empty(0)
        if memory.numel() != math.prod(shape):
            memory = torch.empty(math.prod(shape))
        # The storage of the tensor made from this view owns the view, whatever else (a slice, autograd) keeps the
        # storage: the view dies with the last of them, and only then the memory comes back.
        view = memory.numpy()
        weakref.finalize(view, self._free.append, memory).atexit = False
        count, channels, height, width = shape
        return torch.from_numpy(view).view(count, height, width, channels).permute(0, 3, 1, 2)


def _jobs(plan: Sequence[NDArray[np.int64]], epoch: int, start: int) -> list[_Job]:
    """The work from `start` on; an image that a plan repeats gets other random numbers each time."""
    if not plan:
        return []
    every = np.concatenate(plan)
    order = np.argsort(every, kind="stable")
    ranked = every[order]
    first = np.searchsorted(ranked, ranked, side="left")
    repeats = np.empty(len(every), np.int64)
    repeats[order] = np.arange(len(every)) - first
    keys = np.split(every + repeats * _REPEAT, np.cumsum([len(part) for part in plan])[:-1])
    return [_Job(step, epoch, plan[step], keys[step]) for step in range(start, len(plan))]


def _single_threaded(others: int) -> None:
    # A worker that used torch's own threads would fight with those of the training step for the same cores.
    torch.set_num_threads(1)
    # That call also sets what threads born later begin with; said from a thread of its own, this undoes only that.
    restore = Thread(target=torch.set_num_threads, args=(others,))
    restore.start()
    restore.join()


BLOCK = 4096  # images moved at once


class ResidentStore:
    """Some rows of a store (N,), ascending, on a device; what a loader needs of a store."""

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
    """Move the rows of a store that batches are made of to the device, where they fit.

    Returns that store, or the store as it is; and a line about it, None on the CPU.
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
    """A store with further images behind another's, (K, H, W, 3) uint8 of one class; `origin` starts their paths."""

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
