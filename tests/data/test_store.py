"""PixelStore: the right pixels, remembered; whole or absent whatever happens to process, disk and files."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import textwrap
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from facewright.data.cache import cache_clear, cache_entries, cache_folder, cache_verify
from facewright.data.records import Dataset, Record
from facewright.data.sources import open_dataset
from facewright.data.store import PixelStore
from facewright.errors import BadImage, DataError, EmptyClass, FacewrightError
from facewright.events import Event, Message, Progress, ignore_event
from facewright.images import pixel_digest
from facewright.input_spec import InputSpec

HALF = (0.5, 0.5, 0.5)
SPEC = InputSpec(12, 10, HALF, HALF)


@dataclass
class Drawn:
    """A source that draws noise and counts what it was asked."""

    names: tuple[str, ...]
    broken: frozenset[str] = frozenset()
    reads: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)

    def read(self, record: Record, at_least: int | None) -> np.ndarray:
        self.reads.append(record.path)
        if record.path in self.broken:
            raise BadImage(record.path, "torn")
        return np.random.default_rng(self.names.index(record.path)).integers(0, 256, (20, 30, 3)).astype(np.uint8)

    def content_key(self, record: Record) -> str:
        self.keys.append(record.path)
        return f"noise {record.path}"

    def stamp(self, record: Record) -> str:
        return "drawn"


def drawn(count: int = 10, classes: int = 2, broken: tuple[str, ...] = ()) -> Dataset:
    names = tuple(f"c{i % classes}/{i:03d}" for i in range(count))
    records = tuple(Record(name, int(name[1])) for name in sorted(names))
    return Dataset("noise", "drawn", tuple(f"c{k}" for k in range(classes)), records, Drawn(names, frozenset(broken)))


def photos(root: Path, per_class: int = 3) -> Path:
    for number in range(2 * per_class):
        folder = root / ("ann" if number % 2 else "bob")
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (18, 16, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png", compress_level=0)
    return root


def left_behind(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / "pixels").glob("*") if path.suffix != ".lock")


# What it holds


def test_row_is_the_fitted_image_of_its_record(tmp_path):
    data = drawn()
    store = PixelStore.open(data, SPEC, tmp_path)
    assert store.pixels.shape == (10, 12, 10, 3) and store.pixels.dtype == np.uint8
    for row, record in enumerate(store.dataset.records):
        image = data.source.read(record, None)
        np.testing.assert_array_equal(store.pixels[row], SPEC.fit(image))
        assert store.digests[row] == pixel_digest(image)  # before fitting: it must not depend on the input size
        assert store.sizes[row].tolist() == [20, 30]


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_number_of_workers_changes_nothing(tmp_path, workers):
    one = PixelStore.open(drawn(30), SPEC, tmp_path / "one", workers=1)
    other = PixelStore.open(drawn(30), SPEC, tmp_path / "other", workers=workers)
    assert one.digests == other.digests
    np.testing.assert_array_equal(one.pixels, other.pixels)


def test_batch_is_a_channels_last_view_of_one_gather(tmp_path):
    store = PixelStore.open(drawn(), SPEC, tmp_path)
    batch = store.batch(np.array([7, 0, 7]))
    assert batch.shape == (3, 3, 12, 10) and batch.dtype == torch.uint8
    assert batch.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_array_equal(batch.permute(0, 2, 3, 1).numpy(), store.pixels[[7, 0, 7]])
    batch += 1  # its own memory: writing to it is allowed and does not reach the store
    with pytest.raises(IndexError):
        store.batch(np.array([10]))


def test_statistics_are_those_of_all_pixels(tmp_path, monkeypatch):
    store = PixelStore.open(drawn(9), SPEC, tmp_path)
    monkeypatch.setattr("facewright.data.store.STATISTICS_CHUNK", 2 * 12 * 10 * 3)  # several chunks, the last one short
    rows = np.array([0, 2, 3, 5, 8])
    found = store.statistics(rows)
    scaled = store.pixels[rows].astype(np.float64) / 255
    np.testing.assert_allclose(found.mean, scaled.mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(found.std, scaled.std((0, 1, 2)), rtol=1e-12)


def test_true_deviation_is_not_the_mean_of_batch_deviations(tmp_path):
    class Steps(Drawn):  # each image is one grey, from black to white: within an image nothing deviates
        def read(self, record: Record, at_least: int | None) -> np.ndarray:
            return np.full((12, 10, 3), 255 * (self.names.index(record.path) % 2), np.uint8)

    data = drawn(8)
    data = Dataset(data.name, data.where, data.classes, data.records, Steps(data.source.names))
    store = PixelStore.open(data, SPEC, tmp_path)
    assert store.statistics(np.arange(8)).std == (0.5, 0.5, 0.5)
    of_batches = np.mean([store.statistics(np.array([row])).std[0] for row in range(8)])
    assert of_batches == 0.0
    with pytest.raises(DataError, match="no image"):
        store.statistics(np.array([], np.int64))


def test_big_jpegs_are_decoded_reduced_and_alike_for_every_usual_size(tmp_path):
    (tmp_path / "photos/ann").mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 256, (30, 24, 3)).astype(np.uint8)
    Image.fromarray(noise).resize((1200, 1500)).save(tmp_path / "photos/ann/big.jpg", quality=95)
    data = open_dataset(tmp_path / "photos")
    small, large = (PixelStore.open(data, InputSpec(side, side, HALF, HALF), tmp_path) for side in (16, 256))
    assert small.sizes.tolist() == large.sizes.tolist() == [[1500, 1200]]  # a half: 375 × 300 would be below 512
    assert small.digests == large.digests  # so the split stays when the input size changes
    full = InputSpec(256, 256, HALF, HALF).fit(data.source.read(data.records[0], None))
    assert np.abs(large.pixels[0].astype(int) - full).mean() < 1  # of 255: nothing to be seen


# What it remembers


def test_second_open_reads_nothing(tmp_path):
    first, told = drawn(), []
    PixelStore.open(first, SPEC, tmp_path, workers=1, on_event=lambda event: told.append((event.done, event.total)))
    assert told[-1] == (10, 10) and [done for done, _ in told] == sorted(done for done, _ in told)
    second = drawn()
    store = PixelStore.open(second, SPEC, tmp_path, on_event=lambda _: pytest.fail("decoded again"))
    assert second.source.reads == [] and second.source.keys == []
    assert len(store.digests) == 10


def test_other_size_is_another_store_and_other_mean_is_not(tmp_path):
    data = drawn()
    PixelStore.open(data, SPEC, tmp_path)
    PixelStore.open(data, InputSpec(12, 10, (0.1, 0.2, 0.3), (1.0, 1.0, 1.0)), tmp_path)
    assert len(cache_entries(tmp_path)) == 1
    PixelStore.open(data, InputSpec(12, 10, HALF, HALF, resize="pad"), tmp_path)
    PixelStore.open(data, InputSpec(10, 12, HALF, HALF), tmp_path)
    assert len(cache_entries(tmp_path)) == 3


def test_copy_of_a_folder_shares_the_store(tmp_path):
    here = photos(tmp_path / "here")
    shutil.copytree(here, tmp_path / "there")
    stores = [PixelStore.open(open_dataset(tmp_path / name), SPEC, tmp_path / "cache") for name in ("here", "there")]
    assert stores[0].folder == stores[1].folder


def test_changed_content_of_the_same_size_is_noticed(tmp_path):
    root, cache = photos(tmp_path / "photos"), tmp_path / "cache"
    before = PixelStore.open(open_dataset(root), SPEC, cache)
    file = root / "ann/1.png"
    was, size = file.stat(), file.stat().st_size
    Image.fromarray(np.zeros((18, 16, 3), np.uint8)).save(file, compress_level=0)
    os.utime(file, ns=(was.st_atime_ns, was.st_mtime_ns + 1))  # a nanosecond later
    assert file.stat().st_size == size
    after = PixelStore.open(open_dataset(root), SPEC, cache)
    row = [record.path for record in after.dataset.records].index("ann/1.png")
    assert after.pixels[row].max() == 0 and before.pixels[row].max() > 0
    np.testing.assert_array_equal(np.delete(after.pixels, row, 0), np.delete(before.pixels, row, 0))


@pytest.mark.parametrize("way", ["in place", "replaced", "renamed over"])
def test_a_file_changed_with_its_size_and_old_mtime_is_noticed(tmp_path, way):
    root, cache = photos(tmp_path / "photos"), tmp_path / "cache"
    PixelStore.open(open_dataset(root), SPEC, cache)
    file = root / "ann/1.png"
    was = file.stat()
    target = file if way == "in place" else root / "ann/new.tmp"
    if way == "replaced":
        file.unlink()
        target = file
    Image.fromarray(np.zeros((18, 16, 3), np.uint8)).save(target, "PNG", compress_level=0)
    os.utime(target, ns=(was.st_atime_ns, was.st_mtime_ns))
    if way == "renamed over":
        target.replace(file)
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (was.st_size, was.st_mtime_ns)
    after = PixelStore.open(open_dataset(root), SPEC, cache)
    row = [record.path for record in after.dataset.records].index("ann/1.png")
    assert after.pixels[row].max() == 0


def flip_half(folder: Path, when: tuple[int, int] | None = None) -> None:
    """Flip every second byte of the stored pixels, and set the times back where they are given."""
    file = folder / "pixels.u8"
    content = np.fromfile(file, np.uint8)
    content[::2] ^= 255
    file.write_bytes(content.tobytes())
    if when is not None:
        os.utime(file, ns=when)


def test_flipped_pixels_are_noticed_although_their_times_were_set_back(tmp_path):
    store = PixelStore.open(drawn(), SPEC, tmp_path)
    expected, was = np.array(store.pixels), (store.folder / "pixels.u8").stat()
    flip_half(store.folder, (was.st_atime_ns, was.st_mtime_ns))
    told: list[Event] = []
    again = PixelStore.open(drawn(), SPEC, tmp_path, on_event=told.append)
    np.testing.assert_array_equal(again.pixels, expected)
    assert sum(isinstance(event, Message) for event in told) == 1


def test_a_copied_cache_is_checked_once_and_kept(tmp_path, monkeypatch):
    store = PixelStore.open(drawn(), SPEC, tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    data = drawn()
    PixelStore.open(data, SPEC, tmp_path / "two")
    assert data.source.reads == []
    monkeypatch.setattr("facewright.data.cache.checksum_of", lambda file: pytest.fail("read again"))
    again = PixelStore.open(drawn(), SPEC, tmp_path / "two")
    np.testing.assert_array_equal(again.pixels, store.pixels)


def test_a_disk_that_changes_bytes_is_found_when_asked(tmp_path, monkeypatch):
    """Neither size nor times tell, as when a disk rots: only reading everything does."""
    store = PixelStore.open(drawn(), SPEC, tmp_path)
    expected = np.array(store.pixels)
    flip_half(store.folder)
    monkeypatch.setattr("facewright.data.cache.stamp_of", lambda file, name: "as before")
    index = json.loads((store.folder / "index.json").read_text())
    (store.folder / "index.json").write_text(json.dumps(index | {"stamp": "as before"}))
    data = drawn()
    assert not np.array_equal(PixelStore.open(data, SPEC, tmp_path).pixels, expected) and data.source.reads == []
    np.testing.assert_array_equal(PixelStore.open(drawn(), SPEC, tmp_path, verify=True).pixels, expected)
    flip_half(store.folder)
    (store.folder / "index.json").write_text(json.dumps(index | {"stamp": "as before"}))
    other = PixelStore.open(drawn(3), SPEC, tmp_path)
    assert cache_verify(cache=tmp_path) == {store.folder.name: False, other.folder.name: True}
    assert cache_verify(cache=tmp_path) == {other.folder.name: True}  # the damaged one was removed


def test_sizes_are_those_of_the_files(tmp_path):
    root = tmp_path / "photos"
    (root / "ann").mkdir(parents=True)
    turned = Image.Exif()
    turned[274] = 6
    Image.new("RGB", (1600, 1200)).save(root / "ann/1.jpg")
    Image.new("RGB", (1600, 1200)).save(root / "ann/2.jpg", exif=turned)
    Image.new("RGB", (30, 20)).save(root / "ann/3.png")
    store = PixelStore.open(open_dataset(root), InputSpec(32, 32, HALF, HALF), tmp_path / "cache")
    assert store.sizes.tolist() == [[1200, 1600], [1600, 1200], [20, 30]]


def test_touched_file_with_the_same_content_is_not_decoded_again(tmp_path):
    root = photos(tmp_path / "photos")
    first = PixelStore.open(open_dataset(root), SPEC, tmp_path / "cache")
    os.utime(root / "ann/1.png", ns=(1, 1))
    again = PixelStore.open(open_dataset(root), SPEC, tmp_path / "cache", on_event=lambda _: pytest.fail("decoded"))
    assert again.folder == first.folder


def test_file_removed_after_the_listing_is_named(tmp_path):
    root = photos(tmp_path / "photos")
    data = open_dataset(root)
    (root / "ann/1.png").unlink()
    for _ in range(2):
        store = PixelStore.open(data, SPEC, tmp_path / "cache")
        assert [item.path for item in store.dataset.broken] == ["ann/1.png"]
        assert len(store.dataset.records) == len(store.pixels) == 5


# Broken images


def test_broken_files_are_named_and_remembered(tmp_path):
    root = photos(tmp_path / "photos")
    whole = (root / "bob/2.png").read_bytes()
    (root / "bob/2.png").write_bytes(whole[: len(whole) // 2])
    (root / "ann/3.png").write_bytes(b"no image")
    for attempt in range(2):
        progress = (lambda *_: pytest.fail("decoded again")) if attempt else ignore_event
        store = PixelStore.open(open_dataset(root), SPEC, tmp_path / "cache", on_event=progress)
        assert [item.path for item in store.dataset.broken] == ["ann/3.png", "bob/2.png"]
        assert all(item.reason for item in store.dataset.broken)
        assert [record.path for record in store.dataset.records] == ["ann/1.png", "ann/5.png", "bob/0.png", "bob/4.png"]
        np.testing.assert_array_equal(store.pixels[0], SPEC.fit(np.array(Image.open(root / "ann/1.png"))))


def test_class_left_without_an_image_is_an_error(tmp_path):
    with pytest.raises(EmptyClass, match="c1"):
        PixelStore.open(drawn(4, broken=("c1/001", "c1/003")), SPEC, tmp_path)


def test_nothing_readable_is_an_error_and_leaves_nothing(tmp_path):
    with pytest.raises(DataError, match="torn"):
        PixelStore.open(drawn(2, broken=("c0/000", "c1/001")), SPEC, tmp_path)
    assert left_behind(tmp_path) == []


# Damage, kills, full disks, several processes


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def one_row_less(folder: Path) -> None:
    index = json.loads((folder / "index.json").read_text())
    index["digests"].pop(), index["sizes"].pop()
    (folder / "index.json").write_text(json.dumps(index))
    os.truncate(folder / "pixels.u8", len(index["digests"]) * 12 * 10 * 3)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: cut(folder / "pixels.u8"),  # one byte short
        lambda folder: (folder / "pixels.u8").unlink(),
        lambda folder: (folder / "index.json").unlink(),
        lambda folder: cut(folder / "index.json"),
        lambda folder: (folder / "index.json").write_text("[]"),
        lambda folder: one_row_less(folder),
        lambda folder: (folder / "index.json").write_text('{"format": 0}'),  # written by another version
        lambda folder: (folder / "index.json").write_text('{"format": 2, "digests": [3], "sizes": 5}'),
    ],
)
def test_damaged_store_is_built_again(tmp_path, damage):
    first = PixelStore.open(drawn(), SPEC, tmp_path)
    expected = np.array(first.pixels)
    damage(first.folder)
    np.testing.assert_array_equal(PixelStore.open(drawn(), SPEC, tmp_path).pixels, expected)


def test_damaged_stamps_are_only_slow(tmp_path):
    PixelStore.open(drawn(), SPEC, tmp_path)
    (stamps,) = (tmp_path / "stamps").iterdir()
    stamps.write_text('{"c0/000": 5}')
    data = drawn()
    PixelStore.open(data, SPEC, tmp_path)
    assert len(data.source.keys) == 10 and data.source.reads == []


def test_interrupted_build_leaves_nothing(tmp_path):
    def stop(event: Progress) -> None:
        if event.done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        PixelStore.open(drawn(40), SPEC, tmp_path, workers=3, on_event=stop)
    assert left_behind(tmp_path) == []


SCRIPT = """
    import json, os, resource, signal, sys
    from pathlib import Path
    import numpy as np
    from facewright.data import cache as cache_module
    from facewright.data.sources import open_dataset
    from facewright.data.store import PixelStore
    from facewright.errors import FacewrightError
    from facewright.input_spec import InputSpec

    root, cache = Path(sys.argv[1]), Path(sys.argv[2])
    spec = InputSpec(12, 10, (0.5,) * 3, (0.5,) * 3)

    def build(cache, **options):
        return PixelStore.open(open_dataset(root), spec, cache, workers=1, **options)

    def in_child(work):
        child = os.fork()
        if child == 0:
            try:
                work()
            except BaseException as error:
                print(repr(error), file=sys.stderr, flush=True)
                os._exit(1)
            os._exit(0)
        return child
"""


def run_script(body: str, *arguments: Path) -> str:
    """One new process, which forks a child for each case; the test runner has threads and must not fork."""
    source = textwrap.dedent(SCRIPT) + textwrap.dedent(body)
    done = subprocess.run(
        [sys.executable, "-c", source, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


KILLS = """
    def die(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    def after(owner, name, calls):
        # The process dies when `name` is called for the nth time, before it does its work.
        real, left = getattr(owner, name), [calls]
        def counted(*arguments, **options):
            left[0] -= 1
            return die() if left[0] == 0 else real(*arguments, **options)
        setattr(owner, name, counted)

    steps = {
        "at the first image": lambda: {"on_event": lambda event: event.done == 1 and die()},
        "at the last image": lambda: {"on_event": lambda event: event.done == event.total and die()},
        "before the stamps are flushed": lambda: after(os, "fsync", 1),
        "before the pixels are flushed": lambda: after(os, "fsync", 3),
        "before the index is flushed": lambda: after(os, "fsync", 4),
        "before the index is renamed": lambda: after(Path, "replace", 2),
        "before the store is renamed": lambda: after(Path, "rename", 1),
        "after the store is renamed": lambda: after(cache_module, "sync_folder", 1),
    }
    for number, (name, prepare) in enumerate(steps.items()):
        child = in_child(lambda: build(cache / str(number), **(prepare() or {})))
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL, name
        print(name)
"""


def test_build_that_is_killed_at_any_step_is_never_half_read(tmp_path):
    root = photos(tmp_path / "photos")
    expected = np.array(PixelStore.open(open_dataset(root), SPEC, tmp_path / "whole").pixels)
    names = run_script(KILLS, root, tmp_path).splitlines()
    for number, name in enumerate(names):
        cache = tmp_path / str(number)
        complete = cache_entries(cache)
        assert len(complete) == int(name == "after the store is renamed"), name
        store = PixelStore.open(open_dataset(root), SPEC, cache)
        np.testing.assert_array_equal(store.pixels, expected)
        assert left_behind(cache) == [store.folder.name], name  # nor anything that the killed one left


def test_processes_that_build_at_once_share_one_store(tmp_path):
    root = photos(tmp_path / "photos", per_class=20)
    told = run_script(
        """
        def work():
            decoded = []
            store = build(cache, on_event=lambda event: decoded.append(event.done))
            row = int(np.array(store.pixels).sum())
            os.write(1, (json.dumps([len(decoded), row]) + "\\n").encode())

        children = [in_child(work) for _ in range(4)]
        assert all(os.waitpid(child, 0)[1] == 0 for child in children)
        """,
        root,
        tmp_path / "cache",
    )
    results = [json.loads(line) for line in told.splitlines()]
    assert sorted(decoded for decoded, _ in results) == [0, 0, 0, 40]
    assert len({total for _, total in results}) == 1
    assert len(left_behind(tmp_path / "cache")) == 1


def test_full_disk_is_one_clear_error_and_leaves_nothing(tmp_path):
    root, cache = photos(tmp_path / "photos", per_class=20), tmp_path / "cache"
    told = run_script(
        """
        def work():
            # Room for the stamps (about 4 kB), not for the pixels (14 kB).
            resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))
            try:
                build(cache)
            except FacewrightError as error:
                os.write(1, str(error).encode())

        assert os.waitpid(in_child(work), 0)[1] == 0
        """,
        root,
        cache,
    )
    assert "cannot be stored" in told and "FACEWRIGHT_CACHE" in told and "\n" not in told
    assert left_behind(cache) == []
    assert len(PixelStore.open(open_dataset(root), SPEC, cache).pixels) == 40


# The cache as a whole


def test_entries_and_clear(tmp_path):
    PixelStore.open(drawn(4), SPEC, tmp_path)
    PixelStore.open(drawn(6), SPEC, tmp_path)
    big, small = sorted(cache_entries(tmp_path), key=lambda entry: -entry.images)
    assert (big.dataset, big.images, big.height, big.width) == ("noise", 6, 12, 10)
    assert big.bytes > 6 * 12 * 10 * 3 and big.created <= big.last_used + 1
    assert cache_clear(small.name, tmp_path) == small.bytes
    assert [entry.name for entry in cache_entries(tmp_path)] == [big.name]
    with pytest.raises(FacewrightError, match=big.name):
        cache_clear("nothing", tmp_path)
    with pytest.raises(FacewrightError):
        cache_clear("../stamps", tmp_path)
    cache_clear(cache=tmp_path)
    assert cache_entries(tmp_path) == () and left_behind(tmp_path) == []


def test_clear_leaves_what_is_being_built(tmp_path):
    counts = []

    def clear(event: Progress) -> None:
        if event.done == 1:
            counts.append(cache_clear(cache=tmp_path))

    PixelStore.open(drawn(4), SPEC, tmp_path)
    store = PixelStore.open(drawn(6), SPEC, tmp_path, workers=1, on_event=clear)
    assert counts[0] > 0 and [entry.name for entry in cache_entries(tmp_path)] == [store.folder.name]


def test_cache_that_is_a_file_is_one_clear_error(tmp_path):
    (tmp_path / "cache").write_text("")
    with pytest.raises(FacewrightError, match="FACEWRIGHT_CACHE"):
        PixelStore.open(drawn(4), SPEC, tmp_path / "cache")


def test_most_recently_used_comes_first(tmp_path):
    stores = [PixelStore.open(drawn(count), SPEC, tmp_path) for count in (4, 6)]
    os.utime(stores[1].folder / "index.json", (1, 1))
    assert [entry.images for entry in cache_entries(tmp_path)] == [4, 6]
    PixelStore.open(drawn(6), SPEC, tmp_path)
    assert [entry.images for entry in cache_entries(tmp_path)] == [6, 4]


def test_everything_is_for_the_user_alone(tmp_path):
    PixelStore.open(drawn(4), SPEC, tmp_path / "cache")
    for path in [tmp_path / "cache", *(tmp_path / "cache").rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_environment_names_the_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FACEWRIGHT_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    PixelStore.open(drawn(4), SPEC)
    assert len(cache_entries()) == 1
    monkeypatch.delenv("FACEWRIGHT_CACHE")
    assert cache_folder().name == "facewright"
