"""What made two faces alike: covering what the network looks at lowers the similarity, covering the rest does not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from facewright.embedding import BATCH, Embedder, similarity
from facewright.errors import UsageError
from facewright.explanation.occlusion import PLACES, occlude
from facewright.input_spec import InputSpec
from facewright.recognition import Recognizer
from fixtures.faces import SIDE, small_bundle


class Corner:
    """Looks at the mean colour of the upper left eighth of both sides alone."""

    def __init__(self, height: int, width: int) -> None:
        self.spec = InputSpec(height, width, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))

    def embed_crops(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        part = np.stack(crops)[:, : self.spec.height // 8, : self.spec.width // 8].astype(float).mean((1, 2))
        return np.asarray(part / np.linalg.norm(part, axis=1, keepdims=True), np.float32)


def faces(height: int = SIDE, width: int = SIDE) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (2, height, width, 3), dtype=np.uint8)


def test_the_map_lies_on_what_is_looked_at() -> None:
    a = np.zeros((40, 64, 3), np.uint8)
    a[..., 0] = 200  # red, so that the grey cover is another direction
    found = occlude(Corner(40, 64), a, a)
    assert found.score == pytest.approx(1.0) and found.drop > 0.1
    for heat in (found.heat_a, found.heat_b):
        assert heat.shape == (40, 64) and heat.dtype == np.float32
        assert heat.max() == 1 and heat[0, 0] > 0.5
        assert not heat[20:].any() and not heat[:, 32:].any()


def test_a_cover_by_loops() -> None:
    a, b = faces()
    embedder = Embedder(small_bundle())
    found = occlude(Recognizer(embedder), a, b)
    score = similarity(*embedder.embed(torch.from_numpy(np.stack([a, b])).permute(0, 3, 1, 2)))
    assert found.score == pytest.approx(score, abs=1e-6)
    total, weight, cover = np.zeros((SIDE, SIDE)), np.zeros((SIDE, SIDE)), 8  # a fifth of 40
    (other,) = embedder.embed(torch.from_numpy(b[None]).permute(0, 3, 1, 2))
    hat = 1 - np.abs(np.arange(1, cover + 1) - (cover + 1) / 2) / ((cover + 1) / 2)
    starts = [round(value) for value in np.linspace(0, SIDE - cover, PLACES)]
    for top in starts:
        for left in starts:
            covered = a.copy()
            covered[top : top + cover, left : left + cover] = 128
            (vector,) = embedder.embed(torch.from_numpy(covered[None]).permute(0, 3, 1, 2))
            for row in range(cover):
                for column in range(cover):
                    here = hat[row] * hat[column]
                    total[top + row, left + column] += here * (score - similarity(vector, other))
                    weight[top + row, left + column] += here
    np.testing.assert_allclose(found.heat_a * found.drop, np.maximum(total / weight, 0), atol=2e-6)


def test_two_maps_share_one_scale_and_the_order_only_swaps_them() -> None:
    a, b = faces()
    recognizer = Recognizer(Embedder(small_bundle()))
    found, swapped = occlude(recognizer, a, b), occlude(recognizer, b, a)
    assert max(found.heat_a.max(), found.heat_b.max()) == 1 and found.drop > 0
    np.testing.assert_allclose(found.heat_a, swapped.heat_b, atol=1e-3)


def test_nothing_falls_where_nothing_is_looked_at() -> None:
    a = np.full((40, 40, 3), 128, np.uint8)  # as grey as the cover
    found = occlude(Corner(40, 40), a, a)
    assert found.drop == 0 and not found.heat_a.any() and not found.heat_b.any()


def test_progress_is_told() -> None:
    told: list[tuple[int, int]] = []
    a, b = faces()
    occlude(Corner(40, 40), a, b, progress=lambda done, of: told.append((done, of)))
    of = 2 * PLACES**2
    assert told[-1] == (of, of) and told[0] == (BATCH, of)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_a_tiny_input_is_covered_point_by_point() -> None:
    a, b = faces(8, 9)
    found = occlude(Corner(8, 9), a, b)
    assert found.heat_a.shape == (8, 9) and np.isfinite(found.heat_a).all()


def test_pictures_of_another_size_are_refused() -> None:
    a, b = faces()
    with pytest.raises(UsageError, match="of the network's input size"):
        occlude(Recognizer(Embedder(small_bundle())), a, b[:20])
