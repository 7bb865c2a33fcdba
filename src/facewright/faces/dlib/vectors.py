"""From chips to the 128 numbers of dlib's face network: distances below 0.6 mean one person, as its author chose.

>>> vectors = FaceVectors.load().of(chips)                                             # doctest: +SKIP
>>> numpy.linalg.norm(vectors[0] - vectors[1]) < 0.6                                   # doctest: +SKIP
True
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from facewright.errors import UsageError
from facewright.faces.dlib.converted import load_resnet
from facewright.models.dlib_resnet import EMBEDDING, DlibResNet, without_norms
from facewright.models.released import expected_input

BATCH = 32  # chips at once; more are no faster on two cores, one alone takes two and a half times as long


class FaceVectors:
    """The network, made ready; `of` may be called from several threads."""

    def __init__(self, network: DlibResNet) -> None:
        self._network = without_norms(network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        spec = expected_input("dlib_resnet29")
        self._side = spec.height
        self._mean = 255 * torch.tensor(spec.mean)[:, None, None]
        self._deviation = 255 * torch.tensor(spec.std)[:, None, None]

    @classmethod
    def load(cls, *, cache: Path | None = None) -> FaceVectors:
        """The network of the package's file, converted the first time.

        Args:
            cache: the folder; `cache_folder()` where None.
        Raises:
            WeightsError: the package is not installed, or its file is not what it should be.
        """
        return cls(load_resnet(cache=cache))

    @torch.inference_mode()
    def of(self, chips: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The vectors of chips.

        Args:
            chips: (N, 150, 150, 3) uint8, as `alignment.chip` gives them with the template `DLIB`.
        Returns:
            (N, 128) float32, of length about 1.4; not scaled to 1, so that distances are dlib's.
        Raises:
            UsageError: chips of another shape or kind.
        """
        if chips.dtype != np.uint8 or chips.shape[1:] != (self._side, self._side, 3):
            raise UsageError(
                f"expected chips (N, {self._side}, {self._side}, 3) of uint8, got {chips.shape} of {chips.dtype}"
            )
        rows = [np.zeros((0, EMBEDDING), np.float32)]
        for first in range(0, len(chips), BATCH):
            pixels = torch.from_numpy(np.array(chips[first : first + BATCH])).permute(0, 3, 1, 2)  # channels last
            rows.append(self._network.forward_features((pixels.float() - self._mean) / self._deviation).numpy())
        return np.concatenate(rows)
