"""Images that join the training part: generated ones of the smaller of two classes, and hard negatives.

A diffusion model learns from the images of that class in the training part alone. What it makes is never in the
validation or test part, nor in the split, the counts, the mean and standard deviation or the fingerprint of the data.
Near duplicates are kept in the same part, so that a generated copy of a training image is no copy of a test image.
Hard negatives are false alarms of the network so far. Source: Sung and Poggio 1998, "Example-based learning for
view-based human face detection" (bootstrapping).
"""

from __future__ import annotations

import copy
import hashlib
import io
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from facewright import images
from facewright.data.augment import resize
from facewright.data.cache import make_private
from facewright.data.label_files import read_boxes
from facewright.data.loaders import ExtendedStore, ImageStore
from facewright.data.records import Dataset
from facewright.data.sampling import derive
from facewright.errors import BadImage, DataError, UsageError
from facewright.events import EventHandler, Message, Progress
from facewright.faces.scan import Scanner, Search, false_alarms
from facewright.files import cache_folder, write_atomic
from facewright.images import images_below
from facewright.training import diffusion
from facewright.training.loading import Data
from facewright.training.recipe import Recipe
from facewright.training.recipe_parts import HardNegativeMining

FORMAT = 1  # of what is made from the same data; raised when an equal request gives other images
KEPT = "generated.npy"  # in the run directory


@dataclass(frozen=True)
class Nearness:
    """Distances of images to the nearest real one: root mean square over pixels, in levels of 0 to 255."""

    nearest: NDArray[np.int64]  # (N,) which real image is nearest to each generated one
    generated: NDArray[np.float32]  # (N,) distance of each generated image to it
    real: NDArray[np.float32]  # (M,) of each real image to the nearest other one

    def in_words(self) -> str:
        """Both medians, and what they say of copying."""
        mine, theirs = float(np.median(self.generated)), float(np.median(self.real))
        copies = int((self.generated < self.real.min()).sum())
        return (
            f"distance to the nearest real image, of the generated {mine:.1f} and of the real ones {theirs:.1f} of 255 "
            f"(medians); {copies:,} generated images are nearer to one than any two real ones are"
        )


def with_generated(data: Data, recipe: Recipe, folder: Path, on_event: EventHandler) -> Data:
    """Add generated images of the smaller class to the training part, until both classes have as many.

    Args:
        folder: the run directory, where they are kept; in the cache folder too, for other runs on the same images.
    Raises:
        DataError: too few images of the smaller class to learn from.
    """
    world, labels = data.world, data.store.dataset.labels[data.train]
    label = check_smaller_class(data.store.dataset, data.train, recipe)
    counts = np.bincount(labels, minlength=2)
    missing = int(counts.max() - counts.min())
    name, rows = data.store.dataset.classes[label], np.sort(data.train[labels == label])
    if not missing:
        return data
    height, width = (int(side) for side in data.store.batch(rows[:1]).shape[2:])
    size = min(recipe.generation.size, height // 8 * 8)
    real = real_images(data.store, rows, size)
    if world.is_main_process and _opened(folder / KEPT, missing, size) is None:
        if size < height:
            on_event(Message(f"note: images are generated at {size} px and enlarged to {height} px"))
        digests = [data.store.digests[row] for row in rows]
        cached = _cache_file(recipe, size, missing, data.seed, world.device, digests)
        if _opened(cached, missing, size) is None:
            generated = _generated(real, missing, recipe, data.seed, world.device, on_event)
            make_private(cached.parent)
            _write(cached, generated.permute(0, 2, 3, 1).contiguous().numpy())
        write_atomic(folder / KEPT, cached.read_bytes(), mode=0o600)
    world.barrier()
    made = _opened(folder / KEPT, missing, size)
    if made is None:
        raise DataError(f"{folder / KEPT}: cannot be read back; delete it and resume")
    pixels = torch.from_numpy(np.array(made)).permute(0, 3, 1, 2)
    found = nearness(pixels, real).in_words()
    on_event(Message(f"{missing:,} generated images of {name} join the {len(rows):,} of the training part; {found}"))
    large = resize(pixels, height, width).permute(0, 2, 3, 1).contiguous().numpy()
    joined = data.joined(ExtendedStore(data.store, large, label, "generated"), recipe.sampling)
    return replace(joined, steps=len(joined.plan(0)))


def check_smaller_class(dataset: Dataset, train: NDArray[np.int64], recipe: Recipe) -> int:
    """Return which of two classes has fewer images in the training part.

    Args:
        train: (N,) rows of the training part.
    Raises:
        DataError: too few of it to learn from.
    """
    counts = np.bincount(dataset.labels[train], minlength=2)
    label, least = int(counts.argmin()), recipe.generation.least
    if counts[label] < least:
        raise DataError(
            f"{dataset.where}: expected {least} images of {dataset.classes[label]!r} in the training part to learn to "
            f"generate more of them, got {counts[label]}; choose another sampling.plan, as repeat"
        )
    return label


def real_images(store: ImageStore, rows: NDArray[np.int64], size: int) -> Tensor:
    """Return the images that a diffusion model learns from: (N, 3, size, size) uint8."""
    return resize(store.batch(rows).contiguous(), size, size)


def kept_images(folder: Path) -> Tensor | None:
    """Return the generated images of a run, (N, 3, S, S) uint8; None where it has none that can be read."""
    found = _opened(folder / KEPT, None, None)
    return None if found is None else torch.from_numpy(np.array(found)).permute(0, 3, 1, 2)


def nearness(generated: Tensor, real: Tensor) -> Nearness:
    """Measure how near generated images (N, 3, S, S) and real ones (M, 3, S, S), M >= 2, come to a real one.

    A mirror image counts as the image; a real image is not compared with itself.
    """
    reals, mirrored = (one.flatten(1).float() for one in (real, real.flip(3)))
    scale = reals.shape[1] ** 0.5
    near = torch.minimum(*(torch.cdist(generated.flatten(1).float(), one) for one in (reals, mirrored)))
    own = torch.minimum(*(torch.cdist(reals, one) for one in (reals, mirrored))).fill_diagonal_(torch.inf)
    best, places = near.min(1)
    return Nearness(places.numpy(), (best / scale).numpy(), (own.min(1).values / scale).numpy())


def _generated(
    real: Tensor, count: int, recipe: Recipe, seed: int, device: torch.device, on_event: EventHandler
) -> Tensor:
    chosen, size = recipe.generation, int(real.shape[-1])
    on_event(
        Message(
            f"training a diffusion model on {len(real):,} images of {size} px, {chosen.updates:,} steps of "
            f"{chosen.batch}; then {count:,} images by {chosen.sampling_steps} steps"
        )
    )
    began, tasks = time.monotonic(), ("training the diffusion model", "generating images")
    seed = derive(seed, "generation")
    reports = [lambda done, total, task=task: on_event(Progress(task, done, total)) for task in tasks]
    network = diffusion.fit(real, recipe.augment.flip, chosen, seed, device, reports[0])
    trained = time.monotonic()
    made = diffusion.sample(network.eval(), count, size, chosen.sampling_steps, seed, reports[1])
    weights, ended = sum(one.numel() for one in network.parameters()), time.monotonic()
    on_event(
        Message(f"diffusion model of {weights:,} parameters: {trained - began:.0f} s; images: {ended - trained:.0f} s")
    )
    return made


def _write(path: Path, images: NDArray[np.uint8]) -> None:
    """Write images (N, H, W, 3) as a .npy."""
    packed = io.BytesIO()
    np.save(packed, images, allow_pickle=False)
    write_atomic(path, packed.getvalue(), mode=0o600)


def _opened(path: Path, count: int | None, size: int | None) -> NDArray[np.uint8] | None:
    """Open the images in a file, (N, S, S, 3); None where there is none, or not these."""
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    if found.dtype != np.uint8 or found.ndim != 4 or found.shape[3] != 3 or found.shape[1] != found.shape[2]:
        return None
    return found if count is None or found.shape[:2] == (count, size) else None


def _cache_file(recipe: Recipe, size: int, count: int, seed: int, device: torch.device, digests: list[str]) -> Path:
    """Return where the images are kept for other runs, named by a digest of all that they follow from."""
    chosen, flip = recipe.generation, recipe.augment.flip
    settings = chosen.model_dump(exclude={"least", "size"})
    facts = repr((FORMAT, settings, flip, size, seed, device.type, digests))
    name = hashlib.blake2b(facts.encode(), digest_size=16).hexdigest()
    return cache_folder() / "generated" / f"{name}-{count}.npy"


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
        patches = false_alarms(scanner, map(_read, photos), limit, data.seed, boxes)
    _write(kept, patches)


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


def _read(path: Path) -> NDArray[np.uint8]:
    """A photo; one that cannot be read is black, which gives no false alarm."""
    try:
        return images.read(path)
    except (BadImage, OSError):
        return np.zeros((64, 64, 3), np.uint8)
