"""Public weights, from the folder beside the repository: they load strictly and answer as their source does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from facewright.errors import WeightsError
from facewright.models import catalog
from facewright.models.weights import load_into, open_weights

WEIGHTS = Path(__file__).parents[2] / "../shared/weights"
pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(not WEIGHTS.is_dir(), reason="wants the public weights in ../shared/weights"),
]


# file, architecture, classes of the file's classifier
FILES = [
    ("squeezenet1_1", "squeezenet1_1", 1000),
    ("mobilenet_v2", "mobilenet_v2", 1000),
    ("mobilefacenet_arcface", "mobilefacenet", 0),
]


@pytest.mark.parametrize(("file", "architecture", "classes"), FILES)
def test_files_load_strictly_and_only_into_their_own(file: str, architecture: str, classes: int) -> None:
    path = WEIGHTS / f"{file}.safetensors"
    loaded = open_weights(architecture, path)
    model = catalog.create_model(architecture, 12)
    (said,) = load_into(model, loaded)
    assert loaded.classes == classes
    assert ("have no classifier" if classes == 0 else "1,000 classes") in said
    own = model.state_dict()
    raw: dict[str, Tensor] = load_file(path)
    kept = {name.removeprefix("arcface."): tensor for name, tensor in raw.items()}
    prefix = f"{model.classifier_name}."
    assert all(torch.equal(own[name], tensor) for name, tensor in kept.items() if not name.startswith(prefix))
    with pytest.raises(WeightsError, match="not weights of resnet18"):
        open_weights("resnet18", path)


def loaded(name: str) -> catalog.Model:
    model = catalog.create_model(name, 1000)
    assert load_into(model, open_weights(name, WEIGHTS / f"{name}.safetensors")) == ()
    return model.eval()


def test_squeezenet_reproduces_the_scores_of_its_source() -> None:
    model = loaded("squeezenet1_1")
    reference: dict[str, Tensor] = load_file(WEIGHTS / "squeezenet1_1_reference_io.safetensors")
    for number in range(3):
        with torch.inference_mode():
            scores = model(reference[f"input{number}"])
        torch.testing.assert_close(scores, reference[f"output{number}"], rtol=0, atol=1e-3)


def test_mobilenet_v2_loads_and_tells_pictures_apart() -> None:
    model = loaded("mobilenet_v2")
    picture: Tensor = load_file(WEIGHTS / "squeezenet1_1_reference_io.safetensors")["input0"]
    with torch.inference_mode():
        scores = model(torch.cat([picture, torch.zeros_like(picture)]))
    assert torch.isfinite(scores).all()
    assert scores[0].std() > 1 and not torch.equal(scores[0].argmax(), scores[1].argmax())
