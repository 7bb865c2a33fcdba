"""List, search for duplicates, split and plan millions of images, without their files: time and memory.

    python benchmarks/millions.py [--images 2000000]

The records are made up, 20 to a person; of every hundred images one is an exact copy and one a near copy (brighter,
with noise, half of them mirrored). Pixels are drawn at 32 px when they are read: the times hold that drawing, and no
reading of a store.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from facewright.data.duplicates import near_pairs
from facewright.data.image_records import MemorySource, RecordTable
from facewright.data.records import Dataset, Labelled
from facewright.data.sampling import Stream, plan, random_words
from facewright.data.splits import groups_of, stratified

SIDE, WAVES, EACH = 32, 48, 20


class DrawnFaces:
    """(N, 32, 32, 3) uint8 that is drawn when it is read: a mean face, what tells images apart, and grain."""

    def __init__(self, count: int) -> None:
        self.shape = (count, SIDE, SIDE, 3)
        generator = np.random.default_rng(0)
        basis = generator.standard_normal((WAVES, SIDE, SIDE)).cumsum(1).cumsum(2)
        self.basis = (basis / np.abs(basis).max((1, 2), keepdims=True)).reshape(WAVES, -1).astype(np.float32)
        pool = generator.standard_normal(2**22, np.float32)
        self.grain = sliding_window_view(pool, SIDE * SIDE)  # two windows make the grain of an image

    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        rows = np.asarray(rows, np.int64)
        near = rows % 100 == 51  # the near copy of the one before
        seeds = np.where(near, rows - 1, rows)
        words = random_words(Stream.ORDER, 0, 0, seeds, WAVES + 3)
        weights = (words[:, :WAVES] >> np.uint64(40)).astype(np.float32) * (80 / 2**24) - 40
        places = (words[:, WAVES:] % np.uint64(len(self.grain))).astype(np.int64)
        grain = self.grain[places[:, 0]] + self.grain[places[:, 1]]
        grey = 128 + weights @ self.basis + 40 * self.basis[0] + 8 * grain
        grey = np.where(near[:, None], 1.05 * grey + self.grain[places[:, 2]], grey).reshape(-1, SIDE, SIDE)
        turned = near & (rows // 100 % 2 == 1)
        grey[turned] = grey[turned, :, ::-1]
        pixels = np.clip(grey, 0, 255, out=grey).astype(np.uint8)[..., None]
        return np.broadcast_to(pixels, (*pixels.shape[:3], 3))


def digests_of(count: int) -> tuple[str, ...]:
    """Made-up digests; of every hundred images one is the copy of the one before."""
    return tuple(
        f"{(number - 1 if number % 100 == 21 else number) * 0x9E3779B97F4A7C15:032x}" for number in range(count)
    )


def peak() -> float:
    """The most memory so far, GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2_000_000)
    count = parser.parse_args().images
    start = clock = time.monotonic()
    used = time.process_time()

    def told(what: str) -> None:
        nonlocal clock, used
        now, cpu = time.monotonic(), time.process_time()
        print(f"{what:<60} {now - clock:6.1f} s  {cpu - used:6.1f} s of CPU  peak {peak():.2f} GB", flush=True)
        clock, used = now, cpu

    rows = [Labelled(f"p{n // EACH:06d}/{n % EACH:03d}.jpg", f"p{n // EACH:06d}") for n in range(count)]
    dataset = Dataset.of("made up", "made up", rows, MemorySource(()))
    del rows
    digests = digests_of(count)
    told(f"list {count:,} records, {len(dataset.classes):,} classes")
    near = near_pairs(DrawnFaces(count), digests)  # type: ignore[arg-type]
    planted = {(row - 1, row) for row in range(51, count, 100)}
    found = len(planted & {(int(i), int(j)) for i, j in near.pairs})
    told(f"near duplicates: {found:,} of {len(planted):,}, {len(near.pairs) - found:,} others")
    groups = groups_of(digests, near.pairs.tolist())
    split = stratified(dataset.labels, groups, seed=0)
    told(f"split: {len(split.train):,}, {len(split.validation):,}, {len(split.test):,}")
    batches = plan(split.train, batch=128, seed=0, epoch=0)
    told(f"plan of an epoch: {len(batches):,} batches")
    if isinstance(dataset.records, RecordTable):
        print(f"records: {dataset.records.nbytes / count:.0f} bytes an image, held")
    print(f"all: {time.monotonic() - start:.0f} s, {time.process_time():.0f} s of CPU, peak {peak():.2f} GB")


if __name__ == "__main__":
    main()
