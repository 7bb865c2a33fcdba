"""Chips become vectors: in batches of any size the same, fed as dlib feeds its network."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from facewright.errors import UsageError
from facewright.faces.dlib import vectors
from facewright.faces.dlib.vectors import FaceVectors
from facewright.models.dlib_resnet import DlibResNet, build


@pytest.fixture(scope="module")
def network() -> DlibResNet:
    torch.manual_seed(0)
    return build("dlib_resnet29", 1).eval()


def chips(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 150, 150, 3), dtype=np.uint8)


def test_vectors_are_those_of_the_network_fed_as_dlib_does(
    network: DlibResNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors, "BATCH", 2)  # three chips are two batches
    given = chips(3)
    means = torch.tensor([122.782, 117.001, 104.298])[:, None, None]
    fed = (torch.from_numpy(given).permute(0, 3, 1, 2).float() - means) / 256
    with torch.inference_mode():
        wanted = network.forward_features(fed).numpy()
    found = FaceVectors(network).of(given)
    assert found.shape == (3, 128) and found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4 * np.abs(wanted).max())


def test_no_chips_no_vectors(network: DlibResNet) -> None:
    assert FaceVectors(network).of(chips(0)).shape == (0, 128)


@pytest.mark.parametrize(
    "wrong", [chips(1)[0], chips(1)[:, :112, :112], chips(1).astype(np.float32), chips(1)[..., :2]]
)
def test_what_is_no_chip(network: DlibResNet, wrong: np.ndarray) -> None:
    with pytest.raises(UsageError, match=r"expected chips \(N, 150, 150, 3\) of uint8"):
        FaceVectors(network).of(wrong)
