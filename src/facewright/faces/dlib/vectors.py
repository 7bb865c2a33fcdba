"""From aligned crops to the 128 numbers of dlib's face network: below a distance of 0.6 it is one person.

>>> vectors = FaceVectors.load().of(crops)                                             # doctest: +SKIP
>>> numpy.linalg.norm(vectors[0] - vectors[1]) < 0.6                                   # doctest: +SKIP
True
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facewright.errors import UsageError
from facewright.faces.dlib.graphs import RESNET, SIDE, WIDTH
from facewright.graphs import Session

BATCH = 32  # crops at once; more are no faster on two cores


class FaceVectors:
    """The network, loaded; `of` may be called from several threads."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @classmethod
    def load(cls, *, cache: Path | None = None, device: str | None = "cpu") -> FaceVectors:
        """Load the network of the package's file, converted the first time.

        Args:
            cache: the folder; `cache_folder()` where None.
            device: as of `graphs.Session`.
        Raises:
            WeightsError: the package is not installed, or its file is not what it should be.
        """
        return cls(RESNET.session(cache=cache, device=device))

    def of(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute the vectors of crops.

        Args:
            crops: (N, 150, 150, 3) uint8, as `alignment.align_face` gives them with the template `DLIB`.
        Returns:
            (N, 128) float32, of length about 1.4; not scaled to 1, so that distances are dlib's.
        Raises:
            UsageError: crops of another shape or kind.
        """
        if crops.dtype != np.uint8 or crops.shape[1:] != (SIDE, SIDE, 3):
            raise UsageError(f"expected crops (N, {SIDE}, {SIDE}, 3) of uint8, got {crops.shape} of {crops.dtype}")
        parts = [self._session.run({"crops": crops[first : first + BATCH]})[0] for first in range(0, len(crops), BATCH)]
        return np.concatenate([np.zeros((0, WIDTH), np.float32), *parts])
