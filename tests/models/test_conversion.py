"""A public `.pth` made into safetensors; one that asks for code runs none of it, here or anywhere else."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import safetensors
import torch
from torch import Tensor

from facewright import bundle
from facewright.errors import BundleError, WeightsError
from facewright.models import catalog, conversion
from facewright.models.conversion import convert
from facewright.models.weights import open_weights

NAME, CLASSES = "mobilenet_v1_x0_25", 3


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    torch.manual_seed(2)
    return catalog.create_model(NAME, CLASSES).state_dict()


class Canary:
    """Writes a file when it is unpickled by a reader that does what it is told."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return (open, (str(self.place), "w"))


def poisoned(path: Path, canary: Canary, kind: str) -> None:
    """A file that would sing for `torch.load(weights_only=False)` or `pickle.load`."""
    match kind:
        case "zip":
            torch.save({"a": canary, "b": torch.ones(2)}, path)
        case "old":
            torch.save({"a": canary}, path, _use_new_zipfile_serialization=False)
        case "bare":
            path.write_bytes(pickle.dumps({"a": canary}, protocol=4))
        case "the oldest protocol":
            path.write_bytes(pickle.dumps({"a": canary}, protocol=0))


KINDS = ["zip", "old", "bare", "the oldest protocol"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
def test_a_canary_never_sings(tmp_path: Path, kind: str, name: str) -> None:
    canary = Canary(tmp_path / "sang")
    file = tmp_path / name
    poisoned(file, canary, kind)
    with pytest.raises(WeightsError):
        convert(file, NAME, tmp_path / "out.safetensors")
    with pytest.raises(WeightsError):
        open_weights(NAME, file)
    with pytest.raises(BundleError):
        bundle.load(file)
    assert not canary.place.exists()
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize("kind", KINDS[:3])
def test_the_canary_can_sing(tmp_path: Path, kind: str) -> None:
    """Else the test above would show nothing."""
    canary = Canary(tmp_path / "sang")
    poisoned(tmp_path / "net.pth", canary, kind)
    if kind == "bare":
        with (tmp_path / "net.pth").open("rb") as file:
            pickle.load(file)["a"].close()  # noqa: S301 - the point
    else:
        torch.load(tmp_path / "net.pth", weights_only=False)["a"].close()
    assert canary.place.exists()


# how a trainer wraps the parameters
@pytest.mark.parametrize("wrapped", ["", "state_dict", "model", "model_state_dict"])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_of_tensors_becomes_safetensors(
    tmp_path: Path, state: dict[str, Tensor], wrapped: str, zipped: bool
) -> None:
    content: Any = {wrapped: state, "epoch": 3} if wrapped else state
    torch.save(content, tmp_path / "net.pth", _use_new_zipfile_serialization=zipped)
    out = tmp_path / "net.safetensors"
    matched = convert(tmp_path / "net.pth", NAME, out)
    assert (matched.classes, matched.naming.name) == (CLASSES, "facewright")
    loaded = open_weights(NAME, out)
    assert list(loaded.state) == list(state)
    assert all(torch.equal(loaded.state[name], tensor) for name, tensor in state.items())
    with safetensors.safe_open(out, "pt") as opened:
        note = json.loads(opened.metadata()[conversion.METADATA])
    assert note["architecture"] == NAME and len(note["source_sha256"]) == 64


# what the file holds -> why it is refused
BAD: dict[str, tuple[Any, str]] = {
    "a list": ([torch.ones(2)], "expected a table of parameters"),
    "nothing": ({}, "expected a table of parameters"),
    "words among tensors": ({"fc.weight": torch.ones(2), "name": "net"}, "'name' is no tensor"),
    "another network": ({"fc.weight": torch.ones(2)}, f"not weights of {NAME}"),
    "NaN": ({"fc.weight": torch.tensor([float("nan")])}, "NaN or infinity"),
}


@pytest.mark.parametrize("name", BAD)
def test_other_contents_are_refused(tmp_path: Path, name: str) -> None:
    content, reason = BAD[name]
    torch.save(content, tmp_path / "net.pth")
    with pytest.raises(WeightsError, match=reason):
        convert(tmp_path / "net.pth", NAME, tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def test_half_a_pickle_is_refused(tmp_path: Path, state: dict[str, Tensor]) -> None:
    for zipped in (True, False):
        torch.save(state, tmp_path / "net.pth", _use_new_zipfile_serialization=zipped)
        whole = (tmp_path / "net.pth").read_bytes()
        (tmp_path / "net.pth").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(WeightsError, match="cut short or damaged"):
            convert(tmp_path / "net.pth", NAME, tmp_path / "out.safetensors")


def test_the_places_are_checked(tmp_path: Path, state: dict[str, Tensor]) -> None:
    torch.save(state, tmp_path / "net.pth")
    with pytest.raises(WeightsError, match=r"ends in \.safetensors"):
        convert(tmp_path / "net.pth", NAME, tmp_path / "out.pth")
    with pytest.raises(WeightsError, match="no such file"):
        convert(tmp_path / "none.pth", NAME, tmp_path / "out.safetensors")
