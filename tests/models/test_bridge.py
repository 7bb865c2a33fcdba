"""Architectures of timm and torchvision, through stand-ins with the interface that the libraries document."""

from __future__ import annotations

import sys
from enum import Enum
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from facewright import bundle as bundles
from facewright.embedding import Embedder
from facewright.errors import UnknownName, UsageError, WeightsError
from facewright.inference import Classifier
from facewright.models import catalog
from facewright.models.weights import load_into, open_weights
from facewright.runs import Run
from facewright.training.optimizers import trained_names
from facewright.workflows.exportation import export
from facewright.workflows.training_runs import train


class Net(nn.Module):
    """What timm builds: pooled features, and a classifier where classes are asked for."""

    def __init__(self, classes: int, img_size: int | None = None) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU())
        self.layer1 = nn.Sequential(nn.Conv2d(4, 6, 3, 2, 1), nn.ReLU())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(6, classes) if classes else nn.Identity()
        self.pretrained_cfg = {"input_size": (3, 48, 48), "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.2, 0.2), "url": "u"}

    def forward(self, x: Tensor) -> Tensor:
        pooled: Tensor = self.head(self.pool(self.layer1(self.stem(x))).flatten(1))
        return pooled


class Fixed(Net):
    """A network whose input has one size, as a transformer's."""

    def __init__(self, classes: int, img_size: int | None = None) -> None:
        super().__init__(classes)
        self.patch_embed, self.side = nn.Identity(), img_size or 48

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[-1] == self.side, f"Input height ({x.shape[-1]}) doesn't match model ({self.side})"
        return super().forward(x)


def seeded(made: nn.Module) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        for parameter in made.parameters():
            nn.init.normal_(parameter)
    return made


class Weight(Enum):
    IMAGENET1K_V1 = "https://example.org/net.pth"
    DEFAULT = "https://example.org/net.pth"
    url = property(lambda self: self.value)

    def get_state_dict(self, progress: bool, check_hash: bool, weights_only: bool) -> dict[str, Tensor]:
        assert check_hash and weights_only  # no pickled code
        return dict(seeded(Net(1000)).state_dict())

    def transforms(self) -> Any:
        return SimpleNamespace(crop_size=[48], mean=[0.5, 0.4, 0.3], std=[0.2, 0.2, 0.2])


@pytest.fixture(autouse=True)
def libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def create_model(name: str, pretrained: bool = False, num_classes: int = 1000, **options: Any) -> nn.Module:
        asked.append(name)
        if name == "offline" and pretrained:
            raise OSError("no route to host")
        made: nn.Module = (Fixed if name == "fixed" else Net)(num_classes, **options)
        return seeded(made) if pretrained else made

    names = ["net", "fixed", "offline"]
    timm = {"create_model": create_model, "is_model": names.__contains__, "list_models": lambda: names}
    models = {
        "list_models": lambda module: ["net", "aux"],
        "get_model": lambda name, weights: SimpleNamespace(aux_logits=True) if name == "aux" else Net(1000),
        "get_model_weights": lambda name: Weight,
    }
    for name, functions in (("timm", timm), ("torchvision.models", models), ("torchvision", {})):
        module = ModuleType(name)
        module.__spec__ = ModuleSpec(name, None)
        vars(module).update(functions)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(sys.modules["torchvision"], "models", sys.modules["torchvision.models"], raising=False)


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_a_backbone_of_another_library_gets_our_classifier(library: str) -> None:
    model = catalog.create_model(f"{library}:net", 5, input_size=64)
    images = torch.rand(2, 3, 64, 64)
    features = model.eval().forward_features(images)
    assert features.shape == (2, model.feature_width) == (2, 6)
    assert isinstance(model.network, Net) and isinstance(catalog.classifier_of(model), nn.Linear)
    torch.testing.assert_close(model(images), model.classifier(features))
    names = {name for name, _ in model.named_parameters()}
    assert trained_names(model, "head") == {"classifier.weight", "classifier.bias"}
    assert trained_names(model, "from layer1") == {name for name in names if "stem" not in name}


@pytest.mark.parametrize("text", ["timm:net@pretrained", "torchvision:net@pretrained", "torchvision:net@IMAGENET1K_V1"])
def test_its_weights_are_loaded_with_their_input(text: str) -> None:
    name, _, which = text.partition("@")
    loaded = open_weights(name, which)
    assert (loaded.spec.height, loaded.spec.mean, loaded.classes) == (48, (0.5, 0.4, 0.3), 0)
    model = catalog.create_model(name, 3, input_size=64)
    assert "3-class" in load_into(model, loaded)[0]
    kind = 0 if name.startswith("timm") else 1000
    torch.testing.assert_close(model.network.stem[0].weight, seeded(Net(kind)).stem[0].weight)  # type: ignore[union-attr,index]
    assert loaded.sha256 == open_weights(name, which).sha256


def test_a_network_of_one_size_is_built_for_the_images() -> None:
    assert catalog.create_model("timm:fixed", 2, input_size=64).network.side == 64
    with pytest.raises(WeightsError, match="no route"):
        open_weights("timm:offline", "pretrained")


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("timm:nett", UnknownName), ("torchvision:nett", UnknownName), ("torchvision:aux", UsageError),
        ("timm:hf-hub:me/x", UnknownName), ("timm:local-dir:/tmp", UnknownName), ("timm:../x", UnknownName),
        ("other:net", UnknownName), ("timm:", UnknownName),
    ],
)  # fmt: skip
def test_what_is_no_architecture_is_refused(name: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        catalog.create_model(name, 2, input_size=64)


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "timm")
    monkeypatch.setattr("facewright.errors.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"facewright\[timm\]"):
        catalog.describe("timm:net")


@pytest.fixture
def run(tmp_path: Path, libraries: None) -> Run:
    data = "synthetic:faces?identities=2&images=10&size=40&seed=0"
    tiny = {"input.normalise": "weights", "training.epochs": "1", "input.size": "40", "training.batch": "4"}
    tiny |= {"training.precision": "float32"}
    return train(
        data, model="timm:net@pretrained", recipe="scratch", overrides=tiny, report=False, out=tmp_path / "run"
    )


IMAGES = np.random.default_rng(0).integers(0, 256, (3, 40, 40, 3), dtype=np.uint8)


def test_it_trains_and_is_stored_as_any_other(run: Run) -> None:
    bundle = bundles.load(run.folder / "model.safetensors")
    assert bundle.architecture == "timm:net" and bundle.spec.mean == (0.5, 0.4, 0.3)
    assert Embedder(bundle).embed(IMAGES).shape == (3, 6) and run.facts.start == "timm:net@pretrained"


@pytest.mark.slow
def test_it_is_exported_as_any_other(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="needs the extra onnx")
    export(run.folder, tmp_path / "model.onnx")
    found = Embedder.load(tmp_path / "model.onnx")
    np.testing.assert_allclose(found.embed(IMAGES), Embedder.load(run.folder).embed(IMAGES), atol=1e-5)
    assert Classifier.load(tmp_path / "model.onnx").bundle.classes == found.bundle.classes
