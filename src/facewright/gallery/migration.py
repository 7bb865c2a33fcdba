"""Moving a gallery to another network, from the faces that it keeps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from facewright import images
from facewright.embedding import BATCH
from facewright.errors import GalleryError
from facewright.gallery.pinning import check_crops, pin_of
from facewright.gallery.store import GalleryStore
from facewright.recognition import Recognizer


def reembed(store: GalleryStore, recognizer: Recognizer) -> int:
    """Take the vectors of another recogniser for all entries. The threshold goes.

    Returns:
        How many entries.
    Raises:
        GalleryError: an entry has no crop; nothing is changed. UsageError: the crops are not what it takes.
    """
    check_crops(store.state().pin, recognizer)
    rows = list(store.rows())
    bare = sum(not row.has_crop for row in rows)
    if bare:
        raise GalleryError(
            f"{store.where}: {bare} of {len(rows)} entries were enrolled without their crops; "
            "enrol the photos anew into a new gallery"
        )
    spec = replace(recognizer.spec, crop=1.0)  # the crops have been cut already
    vectors: dict[int, NDArray[np.float32]] = {}
    for batch in (rows[start : start + BATCH] for start in range(0, len(rows), BATCH)):
        kept = [images.read(store.crop(row.number) or b"", name=row.entry.photo) for row in batch]
        found = recognizer.embed_chips([spec.fit(crop) for crop in kept])
        vectors.update(zip((row.number for row in batch), found, strict=True))
    store.reembed(pin_of(recognizer), vectors)
    return len(vectors)
