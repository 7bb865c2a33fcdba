"""Loaders: the same batches for any number of workers, exact positions, errors that name files, no thread left."""

from __future__ import annotations

import gc
import hashlib
import threading
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from facewright.data.augment import Augment
from facewright.data.loaders import Batch, Loader
from facewright.data.records import Dataset, Record
from facewright.data.sampling import plan, shard
from facewright.errors import DataError, UsageError
from facewright.input_spec import InputSpec

SPEC = InputSpec(24, 24, (0.5, 0.4, 0.3), (0.2, 0.2, 0.2))
AUGMENT = Augment(area=(0.7, 1.0), rotation=10, brightness=0.3, contrast=0.3, saturation=0.3, erase=0.3)


class NoSource:
    def read(self, record: Record, at_least: int | None) -> NDArray[np.uint8]:
        raise AssertionError("a loader reads from the store")

    def content_key(self, record: Record) -> str:
        return record.path

    def stamp(self, record: Record) -> str:
        return ""


@dataclass
class Store:
    """Random images in memory; counts its batches and fails at one image where told to."""

    dataset: Dataset
    pixels: NDArray[np.uint8]
    made: int = 0
    broken: int | None = None

    def batch(self, indices: NDArray[np.int64]) -> torch.Tensor:
        self.made += 1
        if self.broken is not None and self.broken in indices:
            raise OSError("the disk is gone")
        return torch.from_numpy(self.pixels[indices]).permute(0, 3, 1, 2)


def _store(count: int = 64) -> Store:
    records = tuple(Record(f"ann/{index:03d}.jpg", 0) for index in range(count))
    pixels = np.random.default_rng(0).integers(0, 256, (count, 24, 24, 3), np.uint8)
    return Store(Dataset("test", "test", ("ann",), records, NoSource()), pixels)


def _plan(epoch: int = 0) -> list[NDArray[np.int64]]:
    return plan(np.arange(64), 8, 0, epoch)


def _digest(batches: Iterable[Batch]) -> str:
    digest = hashlib.sha256()
    for batch in batches:
        digest.update(batch.indices.tobytes())
        digest.update(batch.images.permute(0, 2, 3, 1).contiguous().numpy().tobytes())
    return digest.hexdigest()


def _workers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("facewright-loader")]


def test_workers_change_nothing() -> None:  # fault 17
    digests = {
        _digest(batch for epoch in range(2) for batch in loader.epoch(_plan(epoch), epoch))
        for loader in (Loader(_store(), SPEC, AUGMENT, 16, 3, workers) for workers in (0, 1, 2, 4))
    }
    assert len(digests) == 1


def test_batches_are_fit_for_the_network() -> None:
    for augment in (None, AUGMENT):
        batches = list(Loader(_store(), SPEC, augment, 16, 0).epoch(_plan(), 0))
        assert [batch.indices.tolist() for batch in batches] == [part.tolist() for part in _plan()]
        assert all(batch.images.shape == (8, 3, 16, 16) for batch in batches)
        assert all(batch.images.is_contiguous(memory_format=torch.channels_last) for batch in batches)
        assert all(batch.images.dtype == torch.float32 for batch in batches)


def test_without_augmentation_pixels_are_only_normalised() -> None:
    store = _store()
    (batch,) = Loader(store, SPEC, None, 24, 0).epoch([np.array([5, 2])], 0)
    expected = (store.pixels[[5, 2]] / 255 - np.array(SPEC.mean)) / np.array(SPEC.std)
    assert np.allclose(batch.images.permute(0, 2, 3, 1).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("start", [0, 1, 5, 8])
def test_a_position_goes_on_as_if_never_left(workers: int, start: int) -> None:
    whole = list(Loader(_store(), SPEC, AUGMENT, 16, 0).epoch(_plan(), 0))
    store = _store()
    rest = list(Loader(store, SPEC, AUGMENT, 16, 0, workers).epoch(_plan(), 0, start))
    assert _digest(rest) == _digest(whole[start:])
    assert store.made == 8 - start  # what was consumed before is not computed again


@pytest.mark.parametrize("workers", [0, 2])
def test_memory_is_used_again_only_when_nobody_holds_it(workers: int) -> None:
    loader = Loader(_store(), SPEC, AUGMENT, 16, 0, workers)
    slices = [batch.images[3:4] for batch in loader.epoch(_plan(), 0)]  # a part keeps the whole storage
    expected = [batch.images[3:4].clone() for batch in Loader(_store(), SPEC, AUGMENT, 16, 0).epoch(_plan(), 0)]
    for _ in loader.epoch(_plan(1), 1):
        pass
    assert all(torch.equal(a, b) for a, b in zip(slices, expected, strict=True))
    del slices
    gc.collect()
    places = {batch.images.data_ptr() for epoch in range(4) for batch in loader.epoch(_plan(epoch), epoch)}
    assert len(places) < 32


def test_epochs_and_seeds_differ() -> None:
    same = _plan()
    digests = {
        _digest(Loader(_store(), SPEC, AUGMENT, 16, seed).epoch(same, epoch)) for seed in (0, 1) for epoch in (0, 1)
    }
    assert len(digests) == 4


def test_shards_get_the_pixels_of_the_whole() -> None:
    whole = list(Loader(_store(), SPEC, AUGMENT, 16, 0).epoch(_plan(), 0))
    parts = [
        list(Loader(_store(), SPEC, AUGMENT, 16, 0).epoch([shard(batch, rank, 2) for batch in _plan()], 0))
        for rank in (0, 1)
    ]
    for batch, *halves in zip(whole, *parts, strict=True):
        assert torch.equal(batch.images, torch.cat([half.images for half in halves]))


def test_a_repeated_image_is_augmented_anew() -> None:
    batches = list(Loader(_store(), SPEC, AUGMENT, 16, 0).epoch([np.array([3, 4, 3]), np.array([3, 5])], 0))
    first, second, third = batches[0].images[0], batches[0].images[2], batches[1].images[0]
    assert not torch.equal(first, second)
    assert not torch.equal(first, third)
    assert not torch.equal(second, third)
    (resumed,) = Loader(_store(), SPEC, AUGMENT, 16, 0).epoch([np.array([3, 4, 3]), np.array([3, 5])], 0, start=1)
    assert torch.equal(resumed.images, batches[1].images)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_an_error_names_the_files_and_its_cause(workers: int) -> None:
    store = _store()
    store.broken = 17
    loader = Loader(store, SPEC, AUGMENT, 16, 0, workers)
    step = next(step for step, part in enumerate(_plan()) if 17 in part)
    batches = loader.epoch(_plan(), 0)
    for _ in range(step):
        next(batches)
    with pytest.raises(DataError, match=rf"batch {step} of epoch 0 \(.*ann/017\.jpg.*\): the disk is gone") as caught:
        next(batches)
    assert isinstance(caught.value.__cause__, OSError)
    assert not _workers()


def test_an_error_names_few_files() -> None:
    store = _store()
    store.broken = 0
    with pytest.raises(DataError, match=r"ann/007\.jpg and 56 more\)"):
        list(Loader(store, SPEC, None, 16, 0).epoch([np.arange(64)], 0))


@pytest.mark.parametrize("how", ["close", "forget"])
def test_leaving_early_leaves_no_thread(how: str) -> None:
    store = _store()
    batches = Loader(store, SPEC, AUGMENT, 16, 0, 2).epoch(_plan(), 0)
    next(batches)
    assert _workers()
    if how == "close":
        batches.close()  # type: ignore[attr-defined]
    del batches
    gc.collect()
    assert not _workers()
    assert store.made < 8


def test_prefetching_is_bounded() -> None:
    store = _store()
    long = [np.arange(2)] * 200
    batches = Loader(store, SPEC, None, 16, 0, 2).epoch(long, 0)
    for _ in range(10):
        next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert store.made <= 10 + 2 * 2


def test_nothing_runs_before_the_first_batch_is_asked_for() -> None:
    store = _store()
    batches = Loader(store, SPEC, None, 16, 0, 2).epoch(_plan(), 0)
    assert store.made == 0
    del batches


def test_threads_of_others_are_left_alone() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        list(Loader(_store(), SPEC, AUGMENT, 16, 0, 2).epoch(_plan(), 0))
        assert torch.get_num_threads() == 3
        seen: list[int] = []
        later = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        later.start()
        later.join()
        assert seen == [3]
    finally:
        torch.set_num_threads(before)


def test_an_empty_plan_has_no_batches() -> None:
    assert list(Loader(_store(), SPEC, AUGMENT, 16, 0, 1).epoch([], 0)) == []


def test_loader_refuses() -> None:
    with pytest.raises(UsageError, match="workers"):
        Loader(_store(), SPEC, None, 16, 0, -1)
    with pytest.raises(UsageError, match="size"):
        Loader(_store(), SPEC, None, 0, 0)
    with pytest.raises(UsageError, match="cannot start at 9"):
        Loader(_store(), SPEC, None, 16, 0).epoch(_plan(), 0, start=9)
