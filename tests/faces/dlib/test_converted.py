"""dlib's files become safetensors in the cache, once, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from facewright.errors import WeightsError
from facewright.faces.dlib import converted as dlib_weights
from facewright.faces.dlib.converted import Source, converted, tensors_of
from facewright.models.dlib_resnet import build, without_norms
from facewright.models.weights import load_into, open_weights


def a_source(calls: list[Path]) -> Source:
    def convert(path: Path) -> dict[str, torch.Tensor]:
        calls.append(path)
        if path.read_bytes() == b"broken":
            raise WeightsError(f"{path}: broken")
        return {"x": torch.tensor([float(len(path.read_bytes()))])}

    return Source("thing", "thing.dat", convert)


def test_a_file_is_converted_once_and_anew_when_it_changes(tmp_path: Path) -> None:
    calls: list[Path] = []
    file, cache = tmp_path / "thing.dat", tmp_path / "cache"
    file.write_bytes(b"1234")
    first = converted(a_source(calls), file=file, cache=cache)
    assert converted(a_source(calls), file=file, cache=cache) == first and len(calls) == 1
    assert tensors_of(a_source(calls), file=file, cache=cache)["x"].tolist() == [4.0]
    file.write_bytes(b"12345")
    assert tensors_of(a_source(calls), file=file, cache=cache)["x"].tolist() == [5.0]
    assert first.is_file() and first.stat().st_mode & 0o777 == 0o600


def test_a_converted_file_that_was_damaged_is_made_again(tmp_path: Path) -> None:
    calls: list[Path] = []
    file, cache = tmp_path / "thing.dat", tmp_path / "cache"
    file.write_bytes(b"1234")
    converted(a_source(calls), file=file, cache=cache).write_bytes(b"damaged")
    assert tensors_of(a_source(calls), file=file, cache=cache)["x"].tolist() == [4.0] and len(calls) == 2


def test_a_conversion_that_fails_leaves_nothing(tmp_path: Path) -> None:
    file, cache = tmp_path / "thing.dat", tmp_path / "cache"
    file.write_bytes(b"broken")
    with pytest.raises(WeightsError, match="broken"):
        converted(a_source([]), file=file, cache=cache)
    assert [path.name for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"] == []


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    file = tmp_path / "thing.dat"
    file.write_bytes(b"1234")
    with pytest.raises(WeightsError, match="could not be written"):
        converted(a_source([]), file=file, cache=file)


def test_a_network_of_other_layers_is_refused(tmp_path: Path) -> None:
    from facewright.faces.dlib.files import DETECTOR, package_file

    with pytest.raises(WeightsError, match="expected 29 convolutions and a linear layer"):
        converted(dlib_weights.RESNET, file=package_file(DETECTOR), cache=tmp_path)


def test_without_norms_the_network_answers_the_same() -> None:
    torch.manual_seed(0)
    model = build("dlib_resnet29", 3)
    x = torch.randn(2, 3, 110, 110)
    model(x)  # the norms learn a mean and a variance
    model.eval()
    faster = without_norms(model)
    with torch.inference_mode():
        torch.testing.assert_close(faster(x), model(x), rtol=1e-3, atol=1e-4)
    assert not any("running_mean" in name for name in faster.state_dict())
    assert any("running_mean" in name for name in model.state_dict())


def test_the_converted_file_is_one_of_the_zoos_weights(tmp_path: Path) -> None:
    file = converted(dlib_weights.RESNET, cache=tmp_path)
    loaded = open_weights("dlib_resnet29", file)
    assert loaded.classes == 0 and (loaded.spec.height, loaded.spec.width) == (150, 150)
    pixel = (torch.tensor([10.0, 20.0, 30.0]) / 255 - torch.tensor(loaded.spec.mean)) / torch.tensor(loaded.spec.std)
    wanted = (torch.tensor([10.0, 20.0, 30.0]) - torch.tensor([122.782, 117.001, 104.298])) / 256
    torch.testing.assert_close(pixel, wanted)
    model = build("dlib_resnet29", 2).eval()
    load_into(model, loaded)
    x = torch.randn(1, 3, 150, 150)
    with torch.inference_mode():
        other = dlib_weights.load_resnet(cache=tmp_path)
        assert torch.equal(model.forward_features(x), other.forward_features(x))
