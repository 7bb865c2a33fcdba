"""Photos of noise, small and each its own, for the tests of the server."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image


def jpeg(seed: int, side: int = 60) -> bytes:
    """A square of coarse noise; equal seeds give equal bytes."""
    out = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (side // 10, side // 10, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((side, side)).save(out, "JPEG")
    return out.getvalue()
