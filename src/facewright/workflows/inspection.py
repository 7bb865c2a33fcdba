"""Looking at a dataset before anything is trained on it."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

from facewright.data.audit import Audit, audit
from facewright.data.contact_sheet import contact_sheet
from facewright.data.sources import open_dataset
from facewright.events import EventHandler, ignore_event
from facewright.faces.crops import FaceCropper, advice, sample_share, with_face_crops
from facewright.workflows.prepared_data import open_store

SIDE = 112  # pixels: what the contact sheet shows and near duplicates are searched at


def inspect(
    where: str | Path, *, detector: str | None = None, on_event: EventHandler = ignore_event
) -> tuple[Audit, bytes]:
    """Return what is in a dataset, and a contact sheet of it (PNG).

    Args:
        detector: finds the faces that the images are cropped to, as a training with it would; "none": the images are
            crops; None: a few images are looked at, and a warning says if they are uncropped.
    """
    dataset = open_dataset(where)
    share = None if detector is not None else sample_share(dataset)
    if detector not in (None, "none"):
        dataset = with_face_crops(dataset, FaceCropper(detector))
    store = open_store(dataset, SIDE, "cover", on_event)
    sheet = io.BytesIO()
    contact_sheet(store).save(sheet, "PNG")
    found = audit(store)
    if share is not None:
        found = replace(found, warnings=(*found.warnings, advice(share)))
    return found, sheet.getvalue()
