"""Looking at a dataset before anything is trained on it."""

from __future__ import annotations

import io
from pathlib import Path

from facewright.data.audit import Audit, audit
from facewright.data.contact_sheet import contact_sheet
from facewright.data.sources import open_dataset
from facewright.events import EventHandler, ignore_event
from facewright.workflows.prepared_data import open_store

SIDE = 112  # pixels: what the contact sheet shows and near duplicates are searched at


def inspect(where: str | Path, on_event: EventHandler = ignore_event) -> tuple[Audit, bytes]:
    """What is in a dataset, and a contact sheet of it (PNG)."""
    store = open_store(open_dataset(where), SIDE, "cover", on_event)
    sheet = io.BytesIO()
    contact_sheet(store).save(sheet, "PNG")
    return audit(store), sheet.getvalue()
