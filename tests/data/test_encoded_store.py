"""The encoded form of a store: the same batches as the raw one, built by several processes, resumed after a kill."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image

from facewright.data import store as pixel_store
from facewright.data.cache import cache_clear, cache_entries, cache_verify
from facewright.data.loaders import Loader
from facewright.data.sources import open_dataset
from facewright.data.store import PixelStore
from facewright.errors import DataError, UsageError
from facewright.events import Event, Progress, ignore_event
from facewright.input_spec import InputSpec
from facewright.specs import Augment

HALF = (0.5, 0.5, 0.5)
SPEC = InputSpec(24, 20, HALF, HALF)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve images: JPEGs below the size of their pixels, PNGs above it, one large JPEG, and one broken file."""
    folder, generator = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for number in range(12):
        where = folder / ("ann" if number % 2 else "bob")
        where.mkdir(exist_ok=True)
        side = 40 if number < 10 else 900
        smooth = np.kron(generator.integers(0, 256, (4, 4, 3)), np.ones((side // 4, side // 4, 1))).astype(np.uint8)
        noise = generator.integers(0, 256, (40, 40, 3)).astype(np.uint8)
        if number % 3:
            Image.fromarray(smooth).save(where / f"{number:02d}.jpg", quality=60)
        else:
            Image.fromarray(noise).save(where / f"{number:02d}.png", compress_level=0)
    (folder / "ann" / "99.jpg").write_bytes(b"\xff\xd8\xff nothing")
    return folder


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixel_store, "SHARD", 5)


def opened(photos: Path, cache: Path, form: str = "encoded", on_event=ignore_event, **options) -> PixelStore:
    return PixelStore.open(open_dataset(photos), SPEC, cache, 2, on_event, form=form, **options)


def test_both_forms_give_the_same_batches(photos: Path, tmp_path: Path) -> None:
    raw, encoded = opened(photos, tmp_path, "raw"), opened(photos, tmp_path)
    assert encoded.dataset == raw.dataset and encoded.digests == raw.digests
    assert np.array_equal(encoded.sizes, raw.sizes)
    rows = np.array([11, 0, 3, 3, 7, 5, 10])
    assert torch.equal(encoded.batch(rows), raw.batch(rows))
    assert encoded.batch(rows).is_contiguous(memory_format=torch.channels_last)
    assert encoded.statistics(rows) == raw.statistics(rows)
    for index in (4, -1, slice(2, 9), slice(None, None, 5), rows, np.array([], np.int64)):
        assert np.array_equal(encoded.pixels[index], raw.pixels[index])
    with pytest.raises(IndexError):
        encoded.batch(np.array([12]))
    augment, plan = Augment(rotation=20, jpeg=0.5), [rows[:4], rows[4:]]
    for mine, theirs in zip(*(Loader(s, SPEC, augment, 20, 1, 2).epoch(plan, 3) for s in (encoded, raw)), strict=True):
        assert torch.equal(mine.images, theirs.images)


def test_what_is_kept_is_small(photos: Path, tmp_path: Path) -> None:
    store = opened(photos, tmp_path)
    fitted = np.fromfile(store.folder / "entries.i64", np.int64).reshape(-1, 4)[:, 3]
    assert 0 < fitted.sum() < len(fitted)  # both kinds are there
    (entry,) = cache_entries(tmp_path)
    assert entry.bytes < 12 * 24 * 20 * 3 + 20_000 and entry.images == 12
    assert cache_verify(cache=tmp_path) == {entry.name: True}


def test_auto_takes_the_form_that_is_there_else_by_size(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (opened(photos, tmp_path / "a", "auto").folder / "pixels.u8").is_file()
    encoded = opened(photos, tmp_path / "b")
    assert opened(photos, tmp_path / "b", "auto").folder == encoded.folder
    monkeypatch.setattr("facewright.data.store.RAW_BYTES", 12 * 24 * 20 * 3)  # one image is broken, which is not known
    assert opened(photos, tmp_path / "c", "auto").folder.name == encoded.folder.name
    with pytest.raises(UsageError, match="encoded"):
        opened(photos, tmp_path, "packed")


def test_the_environment_decides_where_nothing_else_does(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACEWRIGHT_STORE", "encoded")
    assert isinstance(opened(photos, tmp_path, "auto").pixels, pixel_store.EncodedPixels)
    assert isinstance(opened(photos, tmp_path, "raw").pixels, np.memmap)
    monkeypatch.setenv("FACEWRIGHT_STORE", "packed")
    with pytest.raises(UsageError, match="raw, encoded"):
        opened(photos, tmp_path, "auto")


def test_a_second_open_encodes_nothing(photos: Path, tmp_path: Path) -> None:
    opened(photos, tmp_path)
    told: list[Event] = []
    opened(photos, tmp_path, on_event=told.append)
    assert told == []


@pytest.mark.parametrize("file", ["shard-00001.bin", "entries.i64", "index.json"])
def test_a_damaged_store_is_built_again(photos: Path, tmp_path: Path, file: str) -> None:
    before = opened(photos, tmp_path)
    path = before.folder / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    told: list[Event] = []
    after = opened(photos, tmp_path, on_event=told.append)
    assert any(isinstance(event, Progress) for event in told)
    assert np.array_equal(after.pixels[:], opened(photos, tmp_path / "other").pixels[:])


def test_nothing_readable_is_an_error(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        (tmp_path / "photos" / name / "1.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match="not one image"):
        opened(tmp_path / "photos", tmp_path / "cache")


BUILD = """
import os, signal, sys
from pathlib import Path
from facewright.data import store as pixel_store
from facewright.data.sources import open_dataset
from facewright.data.store import PixelStore
from facewright.input_spec import InputSpec

pixel_store.SHARD = 2
whole, kill_at = pixel_store._write, int(sys.argv[3])
written = []

def write(path, *rest):
    if len(written) == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)
    written.append(path.name)
    return whole(path, *rest)

pixel_store._write = write
spec = InputSpec(24, 20, (0.5,) * 3, (0.5,) * 3)
store = PixelStore.open(open_dataset(sys.argv[1]), spec, Path(sys.argv[2]), 1, form="encoded")
print(*written, len(store.digests))
"""


def building(photos: Path, cache: Path, kill_at: int) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", textwrap.dedent(BUILD), str(photos), str(cache), str(kill_at)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)


def test_a_killed_build_goes_on_where_it_was(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed = building(photos, tmp_path, 3)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    said, _ = building(photos, tmp_path, 99).communicate()
    *again, count = said.split()
    assert again == [f"shard-{number:05d}.bin" for number in (3, 4, 5, 6)] and count == "12"
    monkeypatch.setattr(pixel_store, "SHARD", 2)
    assert np.array_equal(opened(photos, tmp_path).pixels[:], opened(photos, tmp_path, "raw").pixels[:])


def test_two_processes_share_the_work(photos: Path, tmp_path: Path) -> None:
    both = [building(photos, tmp_path, 99) for _ in range(2)]
    (*first, count), (*second, same) = (process.communicate()[0].split() for process in both)
    assert sorted(first + second) == [f"shard-{number:05d}.bin" for number in range(7)]  # each shard once
    assert count == same == "12"
    assert not list((tmp_path / "pixels").glob("*.shards"))


def test_clear_leaves_what_is_being_built(photos: Path, tmp_path: Path) -> None:
    building(photos, tmp_path, 2).communicate()
    (partial,) = (tmp_path / "pixels").glob("*.shards")
    with FileLock(partial / "shard-00004.lock"):
        cache_clear(cache=tmp_path)
        assert partial.is_dir()
    for name in ("features", "generated"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.npy").write_bytes(b"12")
    assert cache_clear(cache=tmp_path) > 4
    assert not partial.exists() and not any((tmp_path / name).exists() for name in ("features", "generated"))
