"""Aligned crops become vectors: in batches of any size the same."""

from __future__ import annotations

import numpy as np
import pytest

from facewright.errors import UsageError
from facewright.faces.dlib import graphs
from facewright.faces.dlib.graphs import FaceVectors


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> FaceVectors:
    return FaceVectors.load(cache=tmp_path_factory.mktemp("cache"))


def crops(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 150, 150, 3), dtype=np.uint8)


def test_vectors_do_not_depend_on_the_batch(network: FaceVectors, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = network.of(crops(3))
    monkeypatch.setattr(graphs, "BATCH", 2)  # three crops are two batches
    assert wanted.shape == (3, 128) and wanted.dtype == np.float32
    np.testing.assert_allclose(network.of(crops(3)), wanted, atol=1e-5)


def test_no_crops_no_vectors(network: FaceVectors) -> None:
    assert network.of(crops(0)).shape == (0, 128)


@pytest.mark.parametrize(
    "wrong", [crops(1)[0], crops(1)[:, :112, :112], crops(1).astype(np.float32), crops(1)[..., :2]]
)
def test_crops_of_another_shape_or_kind(network: FaceVectors, wrong: np.ndarray) -> None:
    with pytest.raises(UsageError, match="150, 150, 3"):
        network.of(wrong)
