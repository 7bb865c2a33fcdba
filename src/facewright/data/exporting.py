"""A data set → one .npz that `open_dataset` (arrays.py), and anything else that reads NumPy's format, opens again."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from facewright.data.addresses import with_options
from facewright.data.records import Broken, Dataset
from facewright.data.sources import open_dataset
from facewright.data.store import PixelStore
from facewright.errors import BadImage, DataError, UsageError
from facewright.events import EventHandler, ignore_event
from facewright.files import replacing
from facewright.input_spec import ColourOrder, InputSpec

_BLOCK = 256  # images written at a time
_EPOCH = (1980, 1, 1, 0, 0, 0)  # no time in the file, so that equal data gives equal files


@dataclass(frozen=True)
class Exported:
    """The written file; `where` opens it again, with the same pixels."""

    where: str
    images: int
    height: int
    width: int
    classes: tuple[str, ...]
    broken: tuple[Broken, ...]  # left out


def export_npz(
    dataset: str | Path | Dataset,
    out: str | Path,
    *,
    size: int | None = None,
    colour_order: ColourOrder = "rgb",
    on_event: EventHandler = ignore_event,
) -> Exported:
    """Write a data set as arrays: `input` (N, H, W, 3) uint8, `target` (N, 1) int64, `classes` (C,) the names.

    Images are in the order of the records. Their paths, identities and a given split are not kept. Written image
    by image and put in place at the end: an old file stays until the new one is whole.

    Args:
        size: side in pixels that images are brought to (the middle, scaled to cover it); None keeps them as they
            are, which asks that all have one size.
    Raises:
        UsageError: `out` does not end in .npz, or the images differ in size and none is given.
        DataError: a record has no class, or no image can be read.
        FacewrightError: the file cannot be written whole.
    """
    out = Path(out)
    dataset = dataset if isinstance(dataset, Dataset) else open_dataset(dataset)
    if out.suffix.lower() != ".npz":
        raise UsageError(f"{out}: expected the name of an .npz file")
    if any(record.label is None for record in dataset.records):
        raise DataError(f"{dataset.where}: expected a class for every image; some have none")
    height, width = (size, size) if size is not None else _size_of_the_first(dataset)
    store = PixelStore.open(dataset, InputSpec(height, width, (0, 0, 0), (1, 1, 1)), on_event=on_event)
    other = np.flatnonzero((store.sizes != (height, width)).any(axis=1))
    if size is None and other.size:
        found = "×".join(str(side) for side in store.sizes[other[0]])
        path = store.dataset.records[int(other[0])].path
        raise UsageError(
            f"{dataset.where}: expected images of one size ({height}×{width} as the first), got {found} of {path}; "
            "give the --size to bring them to"
        )
    with replacing(out) as file, zipfile.ZipFile(file, "w") as archive:
        with _entry(archive, "input") as entry:
            _write_images(entry, store, colour_order)
        with _entry(archive, "target") as entry:
            npy.write_array(entry, store.dataset.labels[:, None], version=(1, 0), allow_pickle=False)
        with _entry(archive, "classes") as entry:
            npy.write_array(entry, np.array(dataset.classes, dtype=np.str_), version=(1, 0), allow_pickle=False)
    where = with_options(str(out), {"colour-order": "bgr" if colour_order == "bgr" else None})
    return Exported(where, len(store.dataset), height, width, dataset.classes, store.dataset.broken)


def _size_of_the_first(dataset: Dataset) -> tuple[int, int]:
    first = None
    for record in dataset.records:
        try:
            height, width, _ = dataset.source.read(record, None).shape
        except BadImage as error:
            first = first or error
            continue
        return height, width
    raise DataError(f"{dataset.where}: not one image can be read (the first: {first})")


def _entry(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    info = zipfile.ZipInfo(f"{name}.npy", _EPOCH)
    info.external_attr = 0o644 << 16
    return archive.open(info, "w", force_zip64=True)  # the size is known too late to tell whether it needs 64 bits


def _write_images(entry: IO[bytes], store: PixelStore, colour_order: ColourOrder) -> None:
    npy.write_array_header_1_0(entry, {"descr": "|u1", "fortran_order": False, "shape": store.pixels.shape})
    for start in range(0, len(store.pixels), _BLOCK):
        block: NDArray[np.uint8] = store.pixels[start : start + _BLOCK]
        entry.write(np.ascontiguousarray(block[..., ::-1] if colour_order == "bgr" else block).data)
