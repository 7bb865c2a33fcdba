"""A dataset before anything is trained on it: what is in it; and its images, or their face crops, in one file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from facewright.data.audit import Audit, audit
from facewright.data.exporting import Exported, contact_sheet, export_npz
from facewright.data.records import Dataset
from facewright.data.sources import open_dataset
from facewright.errors import UsageError
from facewright.events import EventHandler, ignore_event
from facewright.faces.crops import SIDE as CROP_SIDE
from facewright.faces.crops import FaceCropper, advice, sample_share, with_face_crops
from facewright.faces.selection import SelectFace
from facewright.images import png_of
from facewright.input_spec import ColourOrder
from facewright.workflows.prepared_data import open_store

SIDE = 112  # pixels: what the contact sheet shows and near duplicates are searched at


def inspect(
    where: str | Path, *, detector: str | None = None, form: str | None = None, on_event: EventHandler = ignore_event
) -> tuple[Audit, bytes]:
    """Return what is in a dataset, and a contact sheet of it (PNG).

    Args:
        detector: finds the faces that the images are cropped to, as a training with it would; "none": the images are
            crops; None: a few images are looked at, and a warning says if they are uncropped.
        form: of the stored images, as of `PixelStore.open`.
    """
    dataset = open_dataset(where)
    share = None if detector is not None else sample_share(dataset)
    if detector not in (None, "none"):
        dataset = with_face_crops(dataset, FaceCropper(detector))
    store = open_store(dataset, SIDE, "cover", on_event, form=form)
    sheet = png_of(np.asarray(contact_sheet(store)))
    found = audit(store)
    if share is not None:
        found = found.replace(warnings=(*found.warnings, advice(share)))
    return found, sheet


def export_dataset(
    dataset: str | Path | Dataset,
    out: str | Path,
    *,
    size: int | None = None,
    colour_order: ColourOrder = "rgb",
    detector: str | None = None,
    select_face: SelectFace | None = None,
    on_event: EventHandler = ignore_event,
) -> Exported:
    """Write a dataset as arrays, by `data.exporting.export_npz`, which describes the other arguments.

    Args:
        size: side in pixels; None: as the images are, or 256 for crops.
        detector: finds the face that each image is cropped to, as a training with it would; None, "none": whole images.
        select_face: of several faces; None: the one nearest to the center.
    Raises:
        UsageError: also a face is to be selected without a detector.
        DataError: also no image shows a face.
    """
    dataset = dataset if isinstance(dataset, Dataset) else open_dataset(dataset)
    if detector not in (None, "none"):
        which = "centre" if select_face is None or select_face == "center" else select_face
        dataset = with_face_crops(dataset, FaceCropper(detector, which, size or CROP_SIDE))
    elif select_face is not None:
        raise UsageError("select_face chooses among the faces that a detector finds: add --detector")
    return export_npz(dataset, out, size=size, colour_order=colour_order, on_event=on_event)
