"""Features computed once: what a body that runs each time would give, found again, never mistaken for others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from facewright.data.augment import Augment, apply, draws, normalise
from facewright.data.sources import open_dataset
from facewright.data.store import PixelStore
from facewright.errors import FacewrightError
from facewright.input_spec import InputSpec
from facewright.models.catalog import create_model
from facewright.training.loading import FeatureInputs, features_of

SPEC = InputSpec(32, 32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
TURNED = Augment(rotation=20.0)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> FeatureInputs:
    cache = tmp_path_factory.mktemp("pixels")
    store = PixelStore.open(open_dataset("synthetic:faces?identities=3&images=6&size=32"), SPEC, cache=cache, workers=1)
    return FeatureInputs(store, SPEC, np.array([7, 1, 4, 9, 12]), TURNED, 32, seed=5)


@pytest.fixture
def body() -> torch.nn.Module:
    torch.manual_seed(0)
    return create_model("resnet18", 3, input_size=32)


def test_each_draw_is_what_that_epoch_would_see(inputs: FeatureInputs, body: torch.nn.Module, tmp_path: Path) -> None:
    found = features_of(body, replace(inputs, draws=3), torch.float32, tmp_path)
    assert found.values.shape == (3, 5, 512)
    body.eval()
    for draw in range(3):
        rows = np.array([12, 1])
        pixels = apply(inputs.store.batch(rows), draws(5, draw, rows), TURNED, 32)
        with torch.inference_mode():
            expected = body.forward_features(normalise(pixels, SPEC))  # type: ignore[operator]
        torch.testing.assert_close(found.batch(rows, draw), expected, rtol=1e-4, atol=1e-5)
        assert torch.equal(found.batch(rows, draw + 3), found.batch(rows, draw)), "draws come round"


def test_the_second_time_nothing_is_computed(inputs: FeatureInputs, body: torch.nn.Module, tmp_path: Path) -> None:
    first = features_of(body, replace(inputs, draws=2), torch.float32, tmp_path)
    body.forward_features = lambda x: pytest.fail("the body ran again")  # type: ignore[assignment]
    again = features_of(body, replace(inputs, draws=2), torch.float32, tmp_path)
    assert np.array_equal(first.values, again.values)
    assert [path.suffix for path in (tmp_path / "features").iterdir()] == [".npy"]
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "features").iterdir()), "faces are private"


def test_what_features_depend_on_names_them(inputs: FeatureInputs, body: torch.nn.Module, tmp_path: Path) -> None:
    def count(network: torch.nn.Module, changed: FeatureInputs, draws: int = 1, dtype=torch.float32) -> int:
        features_of(network, replace(changed, draws=draws), dtype, tmp_path)
        return len(list((tmp_path / "features").iterdir()))

    assert count(body, inputs) == 1
    torch.nn.init.zeros_(body.fc.weight)  # type: ignore[union-attr,arg-type]
    assert count(body, inputs) == 1, "the classifier has no part in it"
    assert count(body, replace(inputs, seed=6)) == 2
    assert count(body, replace(inputs, augment=None)) == 3
    assert count(body, replace(inputs, augment=None, seed=6)) == 3, "without augmentation there is no chance"
    assert count(body, replace(inputs, rows=np.array([1, 4]))) == 4
    assert count(body, replace(inputs, spec=replace(SPEC, mean=(0.4, 0.5, 0.5)))) == 5
    assert count(body, inputs, 2) == 6
    assert count(body, inputs, 1, torch.bfloat16) == 7
    assert count(create_model("resnet18", 3, input_size=32), inputs) == 8
    with torch.no_grad():
        body.bn1.weight[0] += 1e-6  # type: ignore[index,union-attr,operator]
    assert count(body, inputs) == 9


def test_a_damaged_file_is_computed_again(inputs: FeatureInputs, body: torch.nn.Module, tmp_path: Path) -> None:
    first = np.array(features_of(body, inputs, torch.float32, tmp_path).values)
    (path,) = (tmp_path / "features").iterdir()
    path.write_bytes(path.read_bytes()[:200])
    assert np.array_equal(features_of(body, inputs, torch.float32, tmp_path).values, first)


def test_a_place_that_cannot_be_written(inputs: FeatureInputs, body: torch.nn.Module, tmp_path: Path) -> None:
    (tmp_path / "features").write_text("a file where the folder should be")
    with pytest.raises(FacewrightError, match="FACEWRIGHT_CACHE"):
        features_of(body, inputs, torch.float32, tmp_path)
