"""Bundles: round trips, and FAULTS 7, 8, 9."""

from __future__ import annotations

import json
import pickle
import random
import struct
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

from facewright import bundle as bundles
from facewright.bundle import Bundle
from facewright.errors import BundleError, FacewrightError, UnknownName
from facewright.heads import put_head
from facewright.inference import Classifier
from facewright.input_spec import InputSpec
from facewright.metrics.thresholds import choose_threshold
from facewright.models.catalog import create_model
from facewright.specs import HeadSpec

THRESHOLD = choose_threshold([0.9, 0.5], [0.4, 0.3, 0.2, 0.1], far=0.25, data="a test")
SPEC = InputSpec(32, 32, (0.5, 0.4, 0.3), (0.2, 0.2, 0.2), resize="pad")
SMALL = "mobilenet_v1_x0_25"


@pytest.fixture(scope="module")
def small() -> Bundle:
    torch.manual_seed(0)
    weights = create_model(SMALL, 3, input_size=32, stem="small").eval().state_dict()
    return Bundle(SMALL, "small", ("ada", "bob", "eve"), SPEC, weights, {"seed": 0}, (THRESHOLD,))


@pytest.fixture(scope="module")
def packed(small: Bundle, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("bundle") / "model.safetensors"
    bundles.save(path, small)
    bundles.load(path).model()  # imports all that a sound file needs
    return path.read_bytes()


def header_of(packed: bytes) -> dict[str, object]:
    (size,) = struct.unpack("<Q", packed[:8])
    return dict(json.loads(packed[8 : 8 + size]))


def with_header(packed: bytes, header: dict[str, object]) -> bytes:
    (size,) = struct.unpack("<Q", packed[:8])
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + packed[8 + size :]


def with_metadata(packed: bytes, **changes: object) -> bytes:
    header = header_of(packed)
    facts = json.loads(header["__metadata__"]["facewright"])  # type: ignore[index]
    facts.update(changes)
    return with_header(packed, {**header, "__metadata__": {"facewright": json.dumps(facts)}})


def test_round_trip(small: Bundle, packed: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(packed)
    found = bundles.load(path)
    assert replace(found, weights={}) == replace(small, weights={})
    images = torch.randn(2, 3, 32, 32)
    model = create_model(SMALL, 3, input_size=32, stem="small").eval()
    model.load_state_dict(dict(small.weights))
    assert torch.equal(found.model()(images), model(images))


def test_equal_models_are_equal_files(small: Bundle, packed: bytes, tmp_path: Path) -> None:
    bundles.save(tmp_path / "again.safetensors", small)
    assert (tmp_path / "again.safetensors").read_bytes() == packed


class Canary:
    """Would create a file if anybody unpickled it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("name", ["m.pt", "m.ckpt", "m.npy", "m.npz", "m.safetensors", "m.pkl"])
def test_a_pickle_is_never_executed(name: str, tmp_path: Path) -> None:
    canary = tmp_path / "executed"
    for write in (
        lambda path: path.write_bytes(pickle.dumps(Canary(canary))),
        lambda path: torch.save({"weights": Canary(canary)}, path),
    ):
        write(tmp_path / name)
        with pytest.raises(BundleError, match=name):
            bundles.load(tmp_path / name)
    assert not canary.exists()


# what the file says of itself → what is refused, and that nothing is imported for it
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"architecture": "os.system"}, "unknown model 'os.system'"),
        ({"architecture": "facewright.models.resnet:ResNet"}, "unknown model"),
        ({"architecture": "resnet19"}, "did you mean 'resnet18'"),
        ({"stem": "enormous"}, "unknown stem"),
        ({"architecture": "mobilenet_v1_x0_5"}, "not those of mobilenet_v1_x0_5"),
        ({"classes": ["a", "b"]}, r"classifier\.weight is 3.256"),
        ({"classes": "abc"}, "classes"),
        ({"format": 2}, "bundle format 2"),
        ({"format": "1"}, "format"),
        ({"input": {"height": 32}}, "input"),
        ({"input": {**SPEC.to_dict(), "hook": "os"}}, "input"),
        ({"input": {**SPEC.to_dict(), "height": 20_000}}, "20000"),
        ({"input": {**SPEC.to_dict(), "width": 10**9}}, "1000000000"),
        ({"classes": ["a", "b", "a"]}, "'a'"),
        ({"classes": ["a", " ", "b"]}, "' '"),
        ({"code": "import os"}, "code"),
        ({"thresholds": [{"kind": "verification", "value": 0.5}]}, r"thresholds\.0"),
        ({"thresholds": None}, "thresholds"),
    ],
)
def test_metadata_that_lies(packed: bytes, tmp_path: Path, changes: dict[str, object], words: str) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(with_metadata(packed, **changes))
    before = set(sys.modules)
    with pytest.raises(FacewrightError, match=words):
        bundles.load(path).model()
    assert set(sys.modules) == before


def test_other_safetensors_are_not_bundles(tmp_path: Path) -> None:
    safetensors.torch.save_file({"a": torch.zeros(2)}, tmp_path / "m.safetensors")
    with pytest.raises(BundleError, match="not a Facewright bundle"):
        bundles.load(tmp_path / "m.safetensors")


def test_missing_file_and_folder(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.safetensors"):
        with pytest.raises(BundleError, match="no such file"):
            bundles.load(path)


def damaged(packed: bytes) -> list[tuple[str, bytes]]:
    header = header_of(packed)
    first, second = [name for name in header if name != "__metadata__"][:2]
    overlap = {**header, first: {**header[first], "data_offsets": header[second]["data_offsets"]}}  # type: ignore[dict-item,index]
    shifted = {
        name: value if name == "__metadata__" else {**value, "data_offsets": [n + 4 for n in value["data_offsets"]]}  # type: ignore[dict-item,index,attr-defined]
        for name, value in header.items()
    }
    return [
        ("huge header", struct.pack("<Q", 2**62) + packed[8:]),
        ("header longer than the file", struct.pack("<Q", len(packed)) + packed[8:]),
        ("header is no JSON", struct.pack("<Q", 20) + b"x" * 20),
        ("cut", packed[: len(packed) // 2]),
        ("trailing data", packed + b"more"),
        ("overlap", with_header(packed, overlap)),
        ("hole", with_header(packed, shifted)),
    ]


@pytest.mark.parametrize("kind", range(7))
def test_safetensors_that_are_not_sound(packed: bytes, tmp_path: Path, kind: int) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(damaged(packed)[kind][1])
    with pytest.raises(BundleError, match="not a safetensors file"):
        bundles.load(path)


def test_mutations_end_in_an_error_or_a_model(tmp_path: Path) -> None:
    chance = random.Random(0)
    bundles.save(tmp_path / "whole", Bundle("resnet18", "small", ("a", "b", "c"), SPEC, {"fc.bias": torch.zeros(3)}))
    whole = (tmp_path / "whole").read_bytes()
    path = tmp_path / "m.safetensors"
    refused = 0
    for _ in range(600):
        mutant = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            mutant[chance.randrange(len(mutant))] = chance.randrange(256)
        path.write_bytes(mutant[: chance.randint(1, len(mutant))] if chance.random() < 0.3 else mutant)
        try:
            bundles.load(path)
        except FacewrightError:
            refused += 1
    assert refused > 300


def test_an_unknown_architecture_is_known_by_name_only(small: Bundle) -> None:
    with pytest.raises(UnknownName):
        replace(small, architecture="../../etc/passwd").model()


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("squeezenet1_1", HeadSpec()),  # whose own classifier is a convolution
        (SMALL, HeadSpec(kind="hidden-256", dropout=0.5)),
        ("mobilenet_v2", HeadSpec(kind="two-layer", dropout=0.3)),
        ("plain_cnn", HeadSpec(kind="cosine", embedding=8, scale=16.0, subcentres=2)),
        ("vit_ti_16", HeadSpec()),
    ],
)
def test_a_head_of_its_own_comes_back_with_the_model(name: str, head: HeadSpec, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = create_model(name, 3, input_size=32)
    put_head(model, head, 3)
    bundles.save(tmp_path / "m", Bundle(name, "auto", ("a", "b", "c"), SPEC, model.state_dict(), head=head))
    again = bundles.load(tmp_path / "m")
    assert again.head == head
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(again.model()(images), model.eval()(images))


@pytest.mark.parametrize(
    "head",
    [
        {"kind": "os.system"},
        {"kind": "linear", "embedding": 10**12},
        {"kind": "cosine", "scale": "NaN"},
        {"kind": "linear", "module": "antigravity"},
    ],
)
def test_a_head_that_lies_builds_nothing(packed: bytes, tmp_path: Path, head: dict[str, object]) -> None:
    path = tmp_path / "m"
    path.write_bytes(with_metadata(packed, head=head))
    with pytest.raises(BundleError, match="its head is not usable"):
        bundles.load(path)


def with_weight(small: Bundle, name: str, change: object) -> Bundle:
    return replace(small, weights={**small.weights, name: change(small.weights[name])})  # type: ignore[operator]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_refused(small: Bundle, tmp_path: Path, value: float) -> None:
    path = tmp_path / "m.safetensors"
    bundles.save(path, with_weight(small, "classifier.bias", lambda bias: torch.full_like(bias, value)))
    with pytest.raises(BundleError, match=r"classifier\.bias"):
        bundles.load(path)


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_precision_is_read(small: Bundle, tmp_path: Path, half: torch.dtype) -> None:
    path = tmp_path / "m.safetensors"
    weights = {name: t.to(half) if t.is_floating_point() else t for name, t in small.weights.items()}
    bundles.save(path, replace(small, weights=weights))
    images = torch.randn(2, 3, 32, 32)
    assert torch.allclose(bundles.load(path).model()(images), small.model()(images), atol=0.1)


@pytest.mark.parametrize("kind", [torch.float64, torch.int8, torch.complex64])
def test_weights_of_another_type_are_refused(small: Bundle, tmp_path: Path, kind: torch.dtype) -> None:
    path = tmp_path / "m.safetensors"
    bundles.save(path, with_weight(small, "classifier.weight", lambda weight: weight.to(kind)))
    with pytest.raises(BundleError, match=r"classifier\.weight"):
        bundles.load(path)


def test_scores_that_are_not_finite_are_refused(small: Bundle) -> None:
    damaged = with_weight(small, "classifier.bias", lambda bias: torch.full_like(bias, float("nan")))
    with pytest.raises(BundleError, match="NaN"):
        Classifier(damaged).probabilities(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))


@pytest.mark.parametrize("suffix", [".safetensors", ".onnx"])
@pytest.mark.parametrize(
    ("content", "names"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "LFS"),
        (b"\n<!DOCTYPE html><html>404</html>", "web page"),
        (b"", "empty"),
    ],
)
def test_what_came_in_place_of_a_download_is_named(tmp_path, suffix: str, content: bytes, names: str) -> None:
    (tmp_path / f"x{suffix}").write_bytes(content)
    with pytest.raises(BundleError, match=names):
        bundles.load(tmp_path / f"x{suffix}")
