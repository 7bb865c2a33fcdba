"""dlib's files become ONNX graphs in the cache, once, whole or not at all; the graphs compute what PyTorch computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from facewright.errors import BundleError, WeightsError
from facewright.faces.dlib import graphs
from facewright.faces.dlib.files import DETECTOR, EMBEDDING, Affine, Convolution, package_file, read_network
from facewright.faces.dlib.graphs import MAX_MARGIN, MEANS, RESNET, Source
from facewright.models.catalog import create_model


def a_source(calls: list[Path]) -> Source:
    def convert(path: Path) -> bytes:
        calls.append(path)
        if path.read_bytes() == b"broken":
            raise WeightsError(f"{path}: broken")
        return b"good " + path.read_bytes()

    return Source("thing", "thing.dat", convert)


def read(content: bytes) -> bytes:
    if not content.startswith(b"good "):
        raise BundleError("damaged")
    return content[5:]


def test_a_file_is_converted_once_and_anew_when_it_changes(tmp_path: Path) -> None:
    calls: list[Path] = []
    file, cache = tmp_path / "thing.dat", tmp_path / "cache"
    source = a_source(calls)
    file.write_bytes(b"1234")
    assert [source.load(read, file=file, cache=cache) for _ in range(2)] == [b"1234", b"1234"] and len(calls) == 1
    first = source.digest(file)
    file.write_bytes(b"12345")
    assert source.load(read, file=file, cache=cache) == b"12345" and source.digest(file) != first
    assert {path.stat().st_mode & 0o777 for path in (cache / "weights").glob("thing-*.onnx")} == {0o600}


def test_a_converted_file_that_was_damaged_is_made_again(tmp_path: Path) -> None:
    calls: list[Path] = []
    file, cache = tmp_path / "thing.dat", tmp_path / "cache"
    file.write_bytes(b"1234")
    a_source(calls).load(read, file=file, cache=cache)
    next((cache / "weights").glob("thing-*")).write_bytes(b"damaged")
    assert a_source(calls).load(read, file=file, cache=cache) == b"1234" and len(calls) == 2


def test_a_conversion_that_fails_leaves_nothing(tmp_path: Path) -> None:
    file, cache = tmp_path / "thing.dat", tmp_path / "cache"
    file.write_bytes(b"broken")
    with pytest.raises(WeightsError):
        a_source([]).load(read, file=file, cache=cache)
    assert [path.name for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"] == []


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    file = tmp_path / "thing.dat"
    file.write_bytes(b"good")
    with pytest.raises(WeightsError, match="FACEWRIGHT_CACHE"):
        a_source([]).load(read, file=file, cache=file)


@pytest.mark.parametrize(("source", "other"), [(RESNET, DETECTOR), (MAX_MARGIN, EMBEDDING)])
def test_a_network_of_other_layers_is_refused(source: Source, other: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="expected"):
        source.session(file=package_file(other), cache=tmp_path)


def test_fingerprints_keep_the_names_of_the_first_conversion() -> None:
    # Thresholds and galleries of the first version hold for these.
    digests = [source.digest() for source in (MAX_MARGIN, RESNET)]
    assert digests == ["max_margin-4cb19393e2fbaf2b.safetensors", "dlib_resnet29-55533b28a95800a5.safetensors"]


def test_the_embedding_is_that_of_the_zoos_network(tmp_path: Path) -> None:
    network = read_network(package_file(EMBEDDING))
    model = create_model("dlib_resnet29", 1).eval()
    places = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    state = model.state_dict()
    for place, convolution, affine in zip(places, network.layers[:-1:2], network.layers[1:-1:2], strict=True):
        assert isinstance(convolution, Convolution) and isinstance(affine, Affine)
        norm = "bn".join(place.rsplit("conv", 1))
        state[f"{place}.weight"] = torch.from_numpy(convolution.weight.copy())
        state[f"{norm}.weight"] = torch.from_numpy(affine.scale.copy())
        state[f"{norm}.bias"] = torch.from_numpy(affine.shift + affine.scale * convolution.bias)
        state[f"{norm}.running_var"] = torch.full((len(affine.scale),), 1.0 - 1e-5)
    linear = network.layers[-1]
    assert isinstance(linear, np.ndarray)
    state["embedding.weight"] = torch.from_numpy(linear.T.copy())
    model.load_state_dict(state)
    crops = np.random.default_rng(0).integers(0, 256, (3, 150, 150, 3), dtype=np.uint8)
    fed = (torch.from_numpy(crops).permute(0, 3, 1, 2).float() - torch.tensor(MEANS)[:, None, None]) / 256
    with torch.inference_mode():
        wanted = model.forward_features(fed).numpy()
    (found,) = RESNET.session(cache=tmp_path).run({"crops": crops})
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_the_detectors_scores_are_those_of_its_layers(tmp_path: Path) -> None:
    network = read_network(package_file(DETECTOR))
    image = np.random.default_rng(0).integers(0, 256, (1, 120, 140, 3)).astype(np.float32)
    x = (torch.from_numpy(image).permute(0, 3, 1, 2) - torch.tensor(MEANS)[:, None, None]) / 256
    for layer in network.layers:
        if isinstance(layer, Convolution):
            weight, bias = torch.from_numpy(layer.weight.copy()), torch.from_numpy(layer.bias.copy())
            x = F.conv2d(x, weight, bias, layer.stride, layer.padding)
        else:
            assert isinstance(layer, Affine)
            scale, shift = torch.from_numpy(layer.scale.copy()), torch.from_numpy(layer.shift.copy())
            x = F.relu(x * scale[:, None, None] + shift[:, None, None])
    (found,) = MAX_MARGIN.session(cache=tmp_path).run({"image": image})
    np.testing.assert_allclose(found, x.numpy(), atol=1e-4)


def test_padding_of_nothing_adds_no_operator() -> None:
    assert graphs._padded(graphs._Graph(), "x") == "x"
